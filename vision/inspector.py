"""The one path from frames to judgements that the line, the evaluation and the replay share."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vision import part_mark
from vision.decoders import DECODERS, Decoder
from vision.decoders.bad_output import BadOutput
from vision.faults import Fault, FaultsError
from vision.judge import FAULT, judge
from vision.package import ModelCard, ModelPackage
from vision.part_mark import MARK_CELLS_HIGH, MARK_CELLS_WIDE
from vision.preprocess import FrameFormat, RegionPlan, WrongFrame
from vision.recipe import PartMark, Recipe
from vision.runtime import Session
from vision.types import Frame, Inspection


class RecipeError(FaultsError):
    """The recipe does not fit the model or the cameras."""


class StageError(RuntimeError):
    """The stages of a part were called out of order."""


class _ViewPlan:
    """What one camera's frames become: consecutive rows of the batch."""

    def __init__(
        self,
        frame_format: FrameFormat,
        part_mark: PartMark | None,
        first_row: int,
        regions: list[RegionPlan],
        decoders: list[Decoder],
    ) -> None:
        self.frame_format = frame_format
        self.part_mark = part_mark
        self.rows = range(first_row, first_row + len(regions))
        self.regions = regions
        self.decoders = decoders
        self.is_loaded = False
        self.is_inferred = False


class Inspector:
    """Inspects one part at a time: ``begin``, ``load`` each view's frame, ``infer`` once, ``judge`` each view.

    The batch holds one row per region of all views, in the recipe's order. Rows of views without a frame are zero, so
    a row left over from an earlier part can not be judged. Not for several threads at once.
    """

    def __init__(
        self, recipe: Recipe, package: ModelPackage, session: Session, formats: Mapping[str, FrameFormat]
    ) -> None:
        """Raises RecipeError for every mismatch found, ValueError for a session with another number of rows."""
        if faults := check_recipe(recipe, package.card, formats):
            raise RecipeError(faults)
        if session.batch_rows != recipe.batch_rows:
            raise ValueError(
                f"session: got {session.batch_rows} batch rows, expected {recipe.batch_rows}: one per region"
            )
        card = package.card
        self._recipe = recipe
        self._classes = tuple(card.classes)
        self._session = session
        self._views: dict[str, _ViewPlan] = {}
        row = 0
        for view in recipe.views:
            frame_format = formats[view.camera_id]
            self._views[view.camera_id] = _ViewPlan(
                frame_format=frame_format,
                part_mark=view.part_mark,
                first_row=row,
                regions=[RegionPlan(view.camera_id, region, frame_format, card.input) for region in view.regions],
                decoders=[
                    DECODERS[card.decoder](
                        len(card.classes),
                        (
                            float(region.x_px),
                            float(region.y_px),
                            float(region.x_px + region.width_px),
                            float(region.y_px + region.height_px),
                        ),
                    )
                    for region in view.regions
                ],
            )
            row += len(view.regions)

    def warm_up(self, runs: int = 20) -> None:
        """Runs every stage on blank frames, so that nothing is done for the first time on a part.

        Raises InferenceError where the model does not run or its output is not finite.
        """
        self._session.warm_up(runs)
        self.begin()
        for camera_id, view in self._views.items():
            blank = np.zeros(view.frame_format.shape, np.uint8)
            frame = Frame(camera_id, 0, view.frame_format.pixel_format, blank)
            self.load(frame)
            self.read_mark(frame)
        self.infer()
        for camera_id in self._views:
            self.judge(camera_id)
        self.begin()
        self._session.input[...] = 0.0

    def begin(self) -> None:
        """Starts a new part: no view is loaded."""
        for view in self._views.values():
            view.is_loaded = False
            view.is_inferred = False

    def load(self, frame: Frame) -> None:
        """Fills the rows of a view from its frame, read in place.

        Raises WrongFrame where the frame is not what the camera was planned to deliver (the view stays unloaded),
        StageError for a camera that no view looks through.
        """
        view = self._view(frame.camera_id)
        view.is_loaded = False
        view.is_inferred = False
        if frame.pixel_format is not view.frame_format.pixel_format:
            raise WrongFrame(
                f"camera {frame.camera_id}: got {frame.pixel_format.value}, "
                f"expected {view.frame_format.pixel_format.value}"
            )
        for row, region in zip(view.rows, view.regions, strict=True):
            region.fill(frame.pixels, self._session.input[row])
        view.is_loaded = True

    def infer(self) -> None:
        """Runs the model on the loaded views; the other rows are zero. Raises InferenceError."""
        for view in self._views.values():
            view.is_inferred = False
            if not view.is_loaded:
                self._session.input[view.rows.start : view.rows.stop] = 0.0
        self._session.run()
        for view in self._views.values():
            view.is_inferred = view.is_loaded

    def judge(self, camera_id: str) -> Inspection:
        """The judgement on one view; NO_DECISION/FAULT where the model's output cannot be read.

        Raises StageError for a view that was not loaded and inferred since the last ``begin``.
        """
        view = self._view(camera_id)
        if not view.is_inferred:
            raise StageError(f"camera {camera_id}: judged before its frame of this part was loaded and inferred")
        try:
            findings = [
                decoder.decode(self._session.output[row]) for row, decoder in zip(view.rows, view.decoders, strict=True)
            ]
        except BadOutput:
            return FAULT
        return judge(findings, self._recipe, self._classes)

    def read_mark(self, frame: Frame) -> int | None:
        """The part number in the frame's pixels; None where the recipe has no mark for this view or none is readable.

        Raises WrongFrame for a frame of another shape, StageError for a camera that no view looks through.
        """
        view = self._view(frame.camera_id)
        if view.part_mark is None:
            return None
        if frame.pixels.shape != view.frame_format.shape:
            raise WrongFrame(
                f"camera {frame.camera_id}: got a frame of shape {frame.pixels.shape}, "
                f"expected {view.frame_format.shape}"
            )
        mark = view.part_mark
        return part_mark.read(frame.pixels, x_px=mark.x_px, y_px=mark.y_px, cell_px=mark.cell_px)

    def _view(self, camera_id: str) -> _ViewPlan:
        try:
            return self._views[camera_id]
        except KeyError:
            raise StageError(f"camera: got {camera_id}, expected one of the views: {sorted(self._views)}") from None


def check_recipe(
    recipe: Recipe, card: ModelCard, formats: Mapping[str, FrameFormat], *, file: str = "recipe"
) -> list[Fault]:
    """Every mismatch between a recipe, the model's card and the line's cameras; ``file`` names the recipe's file."""
    faults = [
        Fault(file, f"rules.{index}.class", repr(rule.class_name), f"a class of the model: {', '.join(card.classes)}")
        for index, rule in enumerate(recipe.rules)
        if rule.class_name not in card.classes
    ]
    for view_index, view in enumerate(recipe.views):
        key = f"views.{view_index}"
        frame_format = formats.get(view.camera_id)
        if frame_format is None:
            expected = f"one of the line's cameras: {', '.join(sorted(formats))}"
            faults.append(Fault(file, f"{key}.camera_id", repr(view.camera_id), expected))
            continue
        rectangles = [
            (f"{key}.regions.{index}", region.x_px, region.y_px, region.width_px, region.height_px)
            for index, region in enumerate(view.regions)
        ]
        if (mark := view.part_mark) is not None:
            wide, high = MARK_CELLS_WIDE * mark.cell_px, MARK_CELLS_HIGH * mark.cell_px
            rectangles.append((f"{key}.part_mark", mark.x_px, mark.y_px, wide, high))
        for where, x_px, y_px, width_px, height_px in rectangles:
            for name, start, size, limit in (
                ("x_px", x_px, width_px, frame_format.width_px),
                ("y_px", y_px, height_px, frame_format.height_px),
            ):
                if start + size > limit:
                    got = f"{start} (with {size} px from there to {start + size})"
                    expected = f"to end inside the {limit} px of camera {view.camera_id}"
                    faults.append(Fault(file, f"{where}.{name}", got, expected))
    return faults
