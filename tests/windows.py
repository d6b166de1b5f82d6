"""Recorded windows for tests: frames of two cameras, judged by the real inspector and decided by the real state machine."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import yaml

from pipeline.clock import NS_PER_MS
from pipeline.config import Line, load_line
from pipeline.deadline import DeadlineMachine, Decision, Late, Output
from pipeline.line_inspector import frame_formats, open_inspector
from pipeline.messages import FrameStatus, PartRecord, Trigger, ViewInspected
from pipeline.part_result import part_result
from pipeline.payloads import ResultPayload, TraceabilityKeys, encode
from pipeline.rules import Matching, Timing
from pipeline.told_defects import told_defects, told_score
from pipeline.window.format import CameraFormat, FrameFacts, FrameKey, WindowFacts, WindowLimits
from pipeline.window.writer import CHUNK_BYTES, WindowWriter
from tests.models import write_stub_package
from vision.inspector import Inspector
from vision.package import load_package
from vision.part_mark import MARK_CELLS_HIGH, stamp
from vision.runtime import Session
from vision.types import Frame, PixelFormat
from vision.view_calibration import ViewCalibration

SESSION = "tw8x0001"
THRESHOLD = 0.5
WIDTH_PX, HEIGHT_PX = 160, 100
PADDING_BYTES = 32
"""Rows of the camera ``side`` lie so far apart in their slots."""
CAMERAS = ("top", "side")
LIMITS = WindowLimits(max_s=3_600, max_bytes=1 << 30, free_min_bytes=0)

Course: TypeAlias = Literal["together", "apart", "late", "late together", "missed", "unjudged", "not running"]
"""How a part goes: both views in one batch or in one each; the side's inspection comes after the choice (its batch its own, or
shared); the side's frame never comes; or comes and is not judged; the line is halted and nothing is judged."""


FORMATS = {"top": PixelFormat.MONO8, "side": PixelFormat.BGR8}


def write_window_line(
    folder: Path,
    *,
    threshold: float = THRESHOLD,
    formats: Mapping[str, PixelFormat] = FORMATS,
    **changes: Any,
) -> Path:
    """The line's file: two cameras, one grey and one in colour, two regions and one."""
    folder.mkdir(parents=True, exist_ok=True)
    write_stub_package(folder / "model")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe_of(threshold)))
    cameras = [
        {
            "camera_id": camera_id,
            "kind": "simulated",
            "address": f"{camera_id}.socket",
            "width_px": WIDTH_PX,
            "height_px": HEIGHT_PX,
            "pixel_format": pixel_format.value,
        }
        for camera_id, pixel_format in formats.items()
    ]
    line = {
        "topic_root": "test/line",
        "recipe": "recipe.yaml",
        "cameras": cameras,
        "timing": {"deadline_us": 40_000},
        "encoder": {"reject_offset_pulses": 100, "match_pulses": 2},
        "records": {"path": "records.db"},
        "runtime": {"on_unverified": "warn"},
        "is_simulated": True,
    }
    file = folder / "line.yaml"
    file.write_text(yaml.safe_dump(line | changes))
    return file


def recipe_of(threshold: float) -> dict[str, Any]:
    """As written."""
    below = HEIGHT_PX - 4 * MARK_CELLS_HIGH
    return {
        "recipe_id": "stub",
        "recipe_version": "1",
        "model": "model",
        "views": [
            {
                "camera_id": "top",
                "regions": [
                    {"name": "left", "x_px": 0, "y_px": 0, "width_px": 70, "height_px": below},
                    {"name": "right", "x_px": 70, "y_px": 0, "width_px": 90, "height_px": below},
                ],
                "part_mark": {"x_px": 0, "y_px": below},
            },
            {
                "camera_id": "side",
                "regions": [{"name": "edge", "x_px": 10, "y_px": 20, "width_px": 60, "height_px": 60}],
            },
        ],
        "rules": [{"class": "defective", "reject_at_score": threshold}],
    }


class RecordedWindow:
    """A window and what was put into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results: list[ResultPayload] = []
        self.late = 0

    def scores(self, result: ResultPayload) -> list[float]:
        return [view.score for view in result.views if view.score is not None]


class WindowLine:
    """Judges parts and writes them to a window."""

    def __init__(
        self,
        line_file: Path,
        target: Path,
        *,
        chunk_bytes: int = CHUNK_BYTES,
        limits: WindowLimits = LIMITS,
        calibrations: Mapping[str, ViewCalibration] | None = None,
    ):
        self.line: Line = load_line(line_file)
        package = load_package(self.line.recipe.model)
        self._formats = frame_formats(self.line.config)
        self._inspector: Inspector
        session: Session
        self._inspector, session = open_inspector(
            self.line.recipe, package, self.line.config.runtime, self._formats, calibrations=calibrations
        )
        self.facts = WindowFacts(
            session_id=SESSION,
            lineside_version="0.1.0",
            line=json.loads(self.line.to_json()),
            model_sha256=package.sha256,
            fingerprint=session.fingerprint,
            fingerprint_sha256=session.fingerprint_sha256,
            cameras=tuple(
                CameraFormat(camera_id, each.width_px, each.height_px, each.pixel_format)
                for camera_id, each in self._formats.items()
            ),
        )
        self.writer = WindowWriter(
            target, self.facts, limits, package.folder, self.line.calibrations, chunk_bytes=chunk_bytes
        )
        self.window = RecordedWindow(target)
        self.late_told: list[Late] = []
        self._timing = Timing.of(self.line.config)
        self._cameras = tuple(self._formats)
        self._machine = DeadlineMachine(self._cameras, self._timing, Matching.of(self.line.config))
        self._machine.running = True
        self._count = 0
        self._batches = 0

    def run(self, frames: dict[str, npt.NDArray[np.uint8]], course: Course = "together") -> None:
        """One part: pixels by camera, as the camera sees them."""
        self._count += 1
        number = self._count
        # A microsecond apart: what is judged takes longer, so that all lie before the window's end.
        trigger_ns = self.writer.began_ns + number * 1_000
        keys = {camera_id: FrameKey(camera_id, 1, number) for camera_id in self._cameras}
        outputs: list[Output] = []
        self._machine.running = course != "not running"
        for camera_id in self._cameras:
            trigger = Trigger(camera_id, 1, number, 1_000 * number, trigger_ns)
            outputs += self._machine.trigger(trigger, trigger_ns)
        early, late = trigger_ns + NS_PER_MS, self._timing.choice_ns(trigger_ns) + NS_PER_MS
        seen = {
            camera_id: frames[camera_id]
            for camera_id in self._cameras
            if not (course == "missed" and camera_id == "side")
        }
        if course == "not running":
            seen = {}
        judged = {camera_id: pixels for camera_id, pixels in seen.items() if course != "unjudged" or camera_id == "top"}
        batches = [[camera_id] for camera_id in judged] if course in ("apart", "late") else [list(judged)]
        views = [view for batch in batches for view in self._judge(batch, keys, judged, number)]
        for camera_id, pixels in seen.items():
            inferred_ns = next((view.inferred_ns for view in views if view.camera_id == camera_id), None)
            self._keep(keys[camera_id], number, trigger_ns, pixels, inferred_ns)
            outputs += self._machine.frame_status(FrameStatus(camera_id, 1, number, "GRABBED"), early)
        for view in views:
            is_late = view.camera_id == "side" and course in ("late", "late together")
            outputs += self._machine.inspection(view, late if is_late else early)
        if course == "missed":
            outputs += self._machine.frame_status(FrameStatus("side", 1, number, "MISSED"), early)
        outputs += self._machine.tick(late)
        for output in outputs:
            self._record(output, tuple(keys.values()))

    def close(self) -> RecordedWindow:
        self.writer.close()
        return self.window

    def _judge(
        self,
        batch: Sequence[str],
        keys: dict[str, FrameKey],
        frames: dict[str, npt.NDArray[np.uint8]],
        number: int,
    ) -> list[ViewInspected]:
        if not batch:
            return []
        self._batches += 1
        self._inspector.begin()
        marks = {}
        for camera_id in batch:
            frame = Frame(camera_id, number, self._formats[camera_id].pixel_format, frames[camera_id])
            self._inspector.load(frame)
            marks[camera_id] = self._inspector.read_mark(frame)
        self._inspector.infer()
        views = []
        for camera_id in batch:
            inspection = self._inspector.judge(camera_id)
            views.append(
                ViewInspected(
                    camera_id=camera_id,
                    source=1,
                    trigger_counter=keys[camera_id].trigger_counter,
                    frame_id=number,
                    part_mark=marks[camera_id],
                    verdict=inspection.verdict.value,
                    reason=inspection.reason.value,
                    score=told_score(inspection.score),
                    defects=told_defects(inspection.defects),
                    grabbed_ns=0,
                    received_ns=0,
                    preprocessed_ns=0,
                    inferred_ns=self._batches,
                    judged_ns=0,
                    handed_on=False,
                )
            )
        return views

    def _keep(
        self, key: FrameKey, number: int, trigger_ns: int, pixels: npt.NDArray[np.uint8], inferred_ns: int | None
    ) -> None:
        height_px = len(pixels)
        rows = pixels.reshape(height_px, -1)
        stride = rows.shape[1] + (PADDING_BYTES if key.camera_id == "side" else 0)
        slot = np.zeros((height_px, stride), np.uint8)
        slot[:, : rows.shape[1]] = rows
        facts = FrameFacts(
            camera_id=key.camera_id,
            source=key.source,
            trigger_counter=key.trigger_counter,
            frame_id=number,
            encoder_count=1_000 * number,
            trigger_ns=trigger_ns,
            grabbed_ns=trigger_ns + 1,
            inferred_ns=inferred_ns,
            width_px=self._formats[key.camera_id].width_px,
            height_px=height_px,
            stride_bytes=stride,
            pixel_format=self._formats[key.camera_id].pixel_format,
        )
        self.writer.add_frame(facts, slot.reshape(-1))

    def _record(self, output: Output, keys: tuple[FrameKey, ...]) -> None:
        if isinstance(output, Late):
            self.writer.add_late(output.part_id, output.arrived_ns, output.view)
            self.window.late += 1
            self.late_told.append(output)
        if not isinstance(output, Decision):
            return
        result = part_result(
            told(output),
            self.line,
            SESSION,
            model_sha256=None,
            context_sha256=None,
            traceability=TraceabilityKeys(),
        )
        self.writer.add_part(keys, encode(result))
        self.window.results.append(result)


def told(decision: Decision) -> PartRecord:
    """As signalling tells it, less what a window has no use for."""
    return PartRecord(
        part_id=decision.part_id,
        seq=decision.seq,
        verdict=decision.verdict.value,
        reason=decision.reason.value,
        encoder_count=decision.encoder_count,
        reject_at_encoder_count=None,
        trigger_ns=decision.trigger_ns,
        decided_ns=decision.decided_ns,
        sent_ns=decision.decided_ns,
        deadline_ns=decision.decided_ns,
        age_us=1,
        valid_us=1,
        views=decision.views,
        frames=(),
    )


def pictures(number: int, rng: np.random.Generator) -> dict[str, npt.NDArray[np.uint8]]:
    """Noise around grey levels on both sides of the threshold, the part's number in the top one's pixels."""
    top = _noise(rng.uniform(0.3, 0.65), (HEIGHT_PX, WIDTH_PX), rng)
    stamp(top, number, x_px=0, y_px=HEIGHT_PX - 4 * MARK_CELLS_HIGH)
    return {"top": top, "side": _noise(rng.uniform(0.3, 0.65), (HEIGHT_PX, WIDTH_PX, 3), rng)}


def _noise(level: float, shape: tuple[int, ...], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    return np.clip(rng.normal(255 * level, 30, shape), 0, 255).astype(np.uint8)
