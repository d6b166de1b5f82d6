"""A line's model, opened as inspection opens it: for inspection itself, for ``check`` and for the replay."""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Callable, Iterator, Mapping

import cv2

from pipeline.clock import NS_PER_S, now_ns
from pipeline.config import Line
from pipeline.config_sections import RuntimeConfig
from pipeline.line_config import LineConfig
from pipeline.verification.file import why_unverified
from vision.batch_rows import batch_rows
from vision.faults import FaultsError
from vision.inspector import Inspector
from vision.package import ModelPackage
from vision.preprocess import FrameFormat
from vision.providers import engine_folders, engine_to_build
from vision.recipe import Recipe
from vision.runtime import Session, open_session
from vision.view_calibration import ViewCalibration


def frame_formats(config: LineConfig) -> dict[str, FrameFormat]:
    """What each camera of the line delivers."""
    return {
        camera.camera_id: FrameFormat(camera.width_px, camera.height_px, camera.pixel_format)
        for camera in config.cameras
    }


def open_inspector(
    recipe: Recipe,
    package: ModelPackage,
    runtime: RuntimeConfig,
    formats: Mapping[str, FrameFormat],
    *,
    calibrations: Mapping[str, ViewCalibration] | None = None,
    recipe_file: str = "recipe",
    tell: Callable[[str], None] = lambda text: None,
) -> tuple[Inspector, Session]:
    """The model, opened and warm; ``recipe_file`` names the recipe in faults, ``tell`` gets words while an engine is built.

    ``calibrations``: by camera, of those that have one.

    Raises FaultsError, RuntimeProviderError or InferenceError.
    """
    # Decoders of masks and maps use OpenCV; its threads would take the other processes' cores for work of microseconds.
    cv2.setNumThreads(1)
    session = open_line_session(package, runtime, batch_rows(recipe, package.card.input), tell=tell)
    inspector = Inspector(recipe, package, session, formats, calibrations=calibrations, recipe_file=recipe_file)
    inspector.warm_up(runtime.warm_up_runs)
    return inspector, session


def open_line_session(
    package: ModelPackage, runtime: RuntimeConfig, rows: int, *, tell: Callable[[str], None] = lambda text: None
) -> Session:
    """The session alone. Raises as ``open_session`` does."""
    folders = engine_folders(runtime.engine_cache, model_sha256=package.sha256, batch_rows=rows)
    with _told_meanwhile(engine_to_build(runtime.provider, folders), tell):
        return open_session(
            package,
            provider=runtime.provider,
            batch_rows=rows,
            intra_op_threads=runtime.intra_op_threads,
            engine_cache=runtime.engine_cache,
            allow_fallback=runtime.allow_fallback,
        )


def unverified(line: Line, package: ModelPackage, session: Session) -> str | None:
    """Why the line should not run on this runtime, and the command that settles it; None where it was verified and passed.

    Raises FaultsError where what is on file cannot be read, unless the line is to run all the same.
    """
    try:
        reason = why_unverified(package, session.fingerprint_sha256)
    except FaultsError as error:
        if line.config.runtime.on_unverified == "refuse":
            raise
        reason = "; ".join(str(fault) for fault in error.faults)
    if reason is None:
        return None
    command = f"lineside model verify {shlex.quote(str(line.recipe.model))} --images DIR --config {shlex.quote(str(line.file))}"
    text = f"{reason}; run: {command} (DIR: a folder of sample images)"
    return f"{text}, or set runtime.on_unverified: warn" if line.config.runtime.on_unverified == "refuse" else text


_PROGRESS_EVERY_S = 10


@contextlib.contextmanager
def _told_meanwhile(text: str | None, tell: Callable[[str], None]) -> Iterator[None]:
    """Says what goes on, and every ten seconds that it still does: building an engine shows no progress of its own."""
    if text is None:
        yield
        return
    ended = threading.Event()

    def go_on_telling() -> None:
        began_ns = now_ns()
        while not ended.wait(_PROGRESS_EVERY_S):
            tell(f"{text}: {(now_ns() - began_ns) // NS_PER_S} s so far")

    tell(text)
    teller = threading.Thread(target=go_on_telling, daemon=True)
    teller.start()
    try:
        yield
    finally:
        ended.set()
        teller.join()
