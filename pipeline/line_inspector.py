"""A line's model, opened as inspection opens it: for inspection itself, for ``check`` and for the replay."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.config import LineConfig, RuntimeConfig
from vision.inspector import Inspector
from vision.package import ModelPackage
from vision.preprocess import FrameFormat
from vision.recipe import Recipe
from vision.runtime import Session, open_session


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
    recipe_file: str = "recipe",
) -> tuple[Inspector, Session]:
    """The model, opened and warm; ``recipe_file`` names the recipe in faults.

    Raises FaultsError, RuntimeProviderError or InferenceError.
    """
    session = open_session(
        package,
        provider=runtime.provider,
        batch_rows=recipe.batch_rows,
        intra_op_threads=runtime.intra_op_threads,
        engine_cache=runtime.engine_cache,
        allow_fallback=runtime.allow_fallback,
    )
    inspector = Inspector(recipe, package, session, formats, recipe_file=recipe_file)
    inspector.warm_up(runtime.warm_up_runs)
    return inspector, session
