"""Runs a recorded window again and compares what comes out with what is on record; see ``replay_part``.

With the recorded model, recipe and runtime everything must come out the same, bit for bit. With another one it is told what that
changes.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from pipeline.calibrated_line import calibrated_recipe, view_calibrations
from pipeline.config import Line, load_model
from pipeline.config_sections import RuntimeConfig
from pipeline.line_inspector import frame_formats, open_inspector
from pipeline.replay_part import PartOutcome, PartReplayer
from pipeline.window.format import DESCRIPTION_NAME, FrameEntry
from pipeline.window.reader import NotAWindow, WindowReader
from vision.faults import Fault, FaultsError
from vision.inspector import Inspector, RecipeError, check_recipe
from vision.package import ModelPackage, load_package
from vision.preprocess import FrameFormat
from vision.recipe import Recipe
from vision.runtime import Session

_PARTS_AT_ONCE = 32
_PR_SET_PDEATHSIG = 1
_OF_THE_MODEL, _OF_THE_RECIPE = "model_sha256", "batch_rows"
"""What of a fingerprint is not the runtime's own."""

Span = tuple[int, ...]
"""Part ids, ascending."""
Answer = TypeVar("Answer")
Changes = dict[str, tuple[Any, Any]]
"""By key: recorded, replayed."""


class ReplayBroken(RuntimeError):
    """A process of the replay has died."""


@dataclass(frozen=True, slots=True)
class ReplayPlan:
    """What to run: None for the window's own model and recipe."""

    window: Path
    model: Path | None = None
    recipe: Path | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """In what the replay is other than the recording; identical results are owed where it is in nothing."""

    model: Changes
    recipe: Changes
    runtime: Changes

    @property
    def is_same(self) -> bool:
        return not (self.model or self.recipe or self.runtime)


class Replay:
    """A window, opened with a model and a recipe."""

    def __init__(self, plan: ReplayPlan) -> None:
        """Raises NotAWindow, FaultsError, RuntimeProviderError or InferenceError where it cannot be run."""
        self.plan = plan
        self.reader = WindowReader(plan.window)
        self.line = self.reader.line()
        self.formats = frame_formats(self.line.config)
        _expect_formats(self.reader, self.formats)
        self.package = self.reader.model() if plan.model is None else load_package(plan.model)
        self.recipe = self.line.recipe
        recipe_file = f"{plan.window / DESCRIPTION_NAME}: facts.line.recipe"
        if plan.recipe is not None:
            recipe_file = str(plan.recipe)
            self.recipe = calibrated_recipe(load_model(plan.recipe, Recipe), self.line)
        _expect_fit(self.recipe, self.package, self.formats, recipe_file)
        self.inspector, self.session = self.opened()
        self.setting = self._setting(self.session)
        cameras = [camera.camera_id for camera in self.line.config.cameras]
        self._parts = PartReplayer(self.reader, self.inspector, cameras)

    def opened(self) -> tuple[Inspector, Session]:
        """The model as the line opened it, as far as this machine can."""
        runtime = _runtime_here(self.line)
        try:
            calibrations = view_calibrations(self.line)
        except FaultsError as error:
            raise NotAWindow(f"window {self.plan.window}: its calibrations cannot be used: {error}") from error
        return open_inspector(self.recipe, self.package, runtime, self.formats, calibrations=calibrations)

    def part(self, part_id: int) -> PartOutcome:
        return self._parts.replay(part_id)

    def outcomes(self, processes: int) -> Iterator[PartOutcome]:
        """Every part, ascending. Raises NotAWindow for a result that cannot be read, ReplayBroken."""
        if processes == 1:
            yield from map(self.part, self.reader.part_ids)
            return
        spans = spans_of(self.reader.part_ids)
        with ReplayProcesses(self.plan, max(1, min(processes, len(spans)))) as others:
            for outcomes in others.map(replay_span, spans):
                yield from outcomes

    def _setting(self, session: Session) -> Setting:
        facts = self.reader.description.facts
        own = (_OF_THE_MODEL, _OF_THE_RECIPE)
        return Setting(
            model=_changes({"sha256": facts.model_sha256}, {"sha256": self.package.sha256}),
            recipe=_changes(_flat(self.line.recipe), _flat(self.recipe)),
            runtime={
                key: change
                for key, change in _changes(facts.fingerprint, session.fingerprint).items()
                if key not in own
            },
        )


class ReplayProcesses:
    """Processes that have opened the same window with the same model and recipe. A context manager."""

    def __init__(self, plan: ReplayPlan, processes: int) -> None:
        self._pool = ProcessPoolExecutor(
            max_workers=processes,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=_begin_process,
            initargs=(plan, os.getpid()),
        )

    def __enter__(self) -> ReplayProcesses:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def map(self, work: Callable[[Replay, Span], Answer], spans: Sequence[Span]) -> Iterator[Answer]:
        """``work``, a module's function, on each span, with the process's own replay; the answers in order. Raises ReplayBroken."""
        try:
            yield from self._pool.map(_work_here, [work] * len(spans), spans)
        except BrokenProcessPool as error:
            raise ReplayBroken(
                "a process of the replay has died; see above why, or try fewer --processes if memory ran out"
            ) from error


_here: Replay | None = None
"""This process's own, in a process that replays for another one."""


def _begin_process(plan: ReplayPlan, parent_pid: int) -> None:
    global _here
    # Ctrl-C is for the parent, which ends this process; and should the parent be killed, this one ends too.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent_pid:
        os.kill(os.getpid(), signal.SIGKILL)
    _here = Replay(plan)


def _work_here(work: Callable[[Replay, Span], Answer], span: Span) -> Answer:
    assert _here is not None
    return work(_here, span)


def replay_span(replay: Replay, span: Span) -> list[PartOutcome]:
    """These parts."""
    return [replay.part(part_id) for part_id in span]


def spans_of(part_ids: Span) -> list[Span]:
    """Cut into what a process is given at once."""
    return [part_ids[first : first + _PARTS_AT_ONCE] for first in range(0, len(part_ids), _PARTS_AT_ONCE)]


def usable_processes(line: Line) -> int:
    """As many as this process may use cores, each with the threads that the line gave its model."""
    return max(1, len(os.sched_getaffinity(0)) // line.config.runtime.intra_op_threads)


def _runtime_here(line: Line) -> RuntimeConfig:
    """Elsewhere another provider may do: what differs is said."""
    runtime = line.config.runtime
    cache = runtime.engine_cache
    here = cache if cache is not None and cache.is_dir() else None
    return runtime.model_copy(update={"allow_fallback": True, "engine_cache": here})


def _expect_fit(recipe: Recipe, package: ModelPackage, formats: Mapping[str, FrameFormat], file: str) -> None:
    """Raises RecipeError."""
    faults = check_recipe(recipe, package.card, formats, file=file)
    viewed = {view.camera_id for view in recipe.views}
    for camera_id in formats:
        if camera_id not in viewed:
            expected = f"a view of each of the window's cameras: {', '.join(sorted(formats))}"
            faults.append(Fault(file, "views", f"none of camera {camera_id}", expected))
    if faults:
        raise RecipeError(faults)


def _expect_formats(reader: WindowReader, formats: Mapping[str, FrameFormat]) -> None:
    """A frame that the line judged was of its camera's format. Raises NotAWindow."""
    odd = {entry.frame.key: entry for entry in reader.frames.values() if not _fits(entry, formats)}
    if not odd:
        return
    judged: list[FrameEntry] = []
    for part_id in reader.part_ids:
        part, result = reader.part(part_id)
        cameras = {view.camera_id for view in result.views if view.score is not None}
        judged += [odd[key] for key in part.frames if key in odd and key.camera_id in cameras]
        judged += [
            odd[late.view.frame]
            for late in reader.late(part_id)
            if late.view.frame in odd and late.view.score is not None
        ]
    if judged:
        frame = judged[0].frame
        planned = formats.get(frame.camera_id)
        expected = (
            f"{planned.pixel_format.value} {planned.width_px}x{planned.height_px}, as the line's cameras deliver"
            if planned is not None
            else f"one of the line's cameras: {', '.join(sorted(formats))}"
        )
        raise NotAWindow(
            f"window {reader.folder}: {len(judged)} frames of another format than their cameras': frame {frame.frame_id} "
            f"({frame.key}): got {frame.pixel_format.value} {frame.width_px}x{frame.height_px}, expected {expected}: "
            f"{DESCRIPTION_NAME} does not belong to these frames; copy the window again"
        )


def _fits(entry: FrameEntry, formats: Mapping[str, FrameFormat]) -> bool:
    frame = entry.frame
    return formats.get(frame.camera_id) == FrameFormat(frame.width_px, frame.height_px, frame.pixel_format)


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Keys as in faults; without the model's path, since a model is what its hash says."""
    flat: dict[str, Any] = {}

    def add(key: str, value: Any) -> None:
        if isinstance(value, dict):
            for name, inner in value.items():
                add(f"{key}.{name}" if key else name, inner)
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                add(f"{key}.{index}", inner)
        else:
            flat[key] = value

    add("", recipe.model_dump(mode="json", by_alias=True, exclude={"model"}))
    return flat


def _changes(recorded: Mapping[str, Any], replayed: Mapping[str, Any]) -> Changes:
    return {
        key: (recorded.get(key), replayed.get(key))
        for key in sorted(recorded.keys() | replayed.keys())
        if recorded.get(key) != replayed.get(key)
    }
