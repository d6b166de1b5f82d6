"""The one path from frames to judgements that the line, the evaluation and the replay share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from vision import part_mark_reader
from vision.batch_rows import batch_rows, row_faults, rows_by_camera
from vision.camera_geometry import CameraGeometry, raw_from_undistorted
from vision.decoders import DECODERS, Decoder
from vision.decoders.anomaly import ANOMALY, HOT_REGION, AnomalySettings
from vision.decoders.base import BadOutput, WrongOutput
from vision.decoders.classification import ClassificationSettings
from vision.faults import Fault, FaultsError
from vision.frame_decoder import FrameDecoder, SeenFrames
from vision.geometry import BoxPx, RowGeometry, moved_box, moved_findings, row_geometry
from vision.judge import FAULT, Judge
from vision.package import ModelCard, ModelPackage, PackageError
from vision.part_mark import MARK_CELLS_HIGH, MARK_CELLS_WIDE
from vision.preprocess import FrameFormat, RegionPlan, WrongFrame
from vision.recipe import Finding, PartMark, Recipe, Required, Rule, Zone
from vision.registration import PartLocator, PartPosition
from vision.runtime import Session
from vision.types import Findings, Frame, Inspection
from vision.view_calibration import UNCALIBRATED, ShiftRule, ViewCalibration, defects_in_mm


class RecipeError(FaultsError):
    """The recipe does not fit the model or the cameras."""


class StageError(RuntimeError):
    """The stages of a part were called out of order."""


class _ViewPlan:
    """What one camera's frames become: rows of the batch.

    ``position``: of the part in the frame that was given last, None without a registration; ``shift_px``: by how much its regions
    are moved for that.
    """

    def __init__(
        self,
        frame_format: FrameFormat,
        seen: SeenFrames,
        part_mark: PartMark | None,
        mark_decoder: FrameDecoder | None,
        rows: tuple[int, ...],
        regions: list[RegionPlan],
        geometries: list[RowGeometry],
        decoders: list[Decoder],
        judge: Judge,
        locator: PartLocator | None,
        shift_rule: ShiftRule,
        geometry: CameraGeometry | None,
    ) -> None:
        self.frame_format = frame_format
        self.seen = seen
        self.part_mark = part_mark
        self.mark_decoder = mark_decoder
        self.rows = rows
        self.regions = regions
        self.geometries = geometries
        self.decoders = decoders
        self.judge = judge
        self.locator = locator
        self.shift_rule = shift_rule
        self.geometry = geometry
        self.position: PartPosition | None = None
        self.shift_px = (0, 0)
        self.is_loaded = False
        self.is_inferred = False

    def forget(self) -> None:
        """The frame that was given last counts no more."""
        self.position = None
        self.shift_px = (0, 0)
        self.is_loaded = False
        self.is_inferred = False


class Inspector:
    """Inspects one part at a time: ``begin``, ``load`` each view's frame, ``infer`` once, ``judge`` each view.

    The batch holds one row per region of all views (see ``vision.batch_rows``). Rows of views without a frame are zero, so
    a row left over from an earlier part can not be judged. Not for several threads at once.

    Where a camera has a registration, its regions and the rules' zones are those of a part in its nominal place: in each frame
    the part is found first and both are moved with it, by whole pixels. What is found is told where it lies in the frame.

    Where a camera has a geometry, its regions, zones and boxes are in the undistorted frame, and what is found is told in mm too.
    The part mark belongs to the raw frame: it is neither moved nor put right.
    """

    def __init__(
        self,
        recipe: Recipe,
        package: ModelPackage,
        session: Session,
        formats: Mapping[str, FrameFormat],
        *,
        calibrations: Mapping[str, ViewCalibration] | None = None,
        recipe_file: str = "recipe",
    ) -> None:
        """``calibrations``: by camera, of those that have one; ``recipe_file`` names the recipe in faults.

        Raises RecipeError for every mismatch with the recipe, PackageError where the model's output is not what its card
        says, FaultsError where a registration's search leaves the frame, ValueError for a session with another number of rows or a
        calibration for other frames than the camera's.
        """
        calibrations = calibrations or {}
        if faults := check_recipe(recipe, package.card, formats, file=recipe_file):
            raise RecipeError(faults)
        if faults := unseen_regions(recipe, calibrations, recipe_file):
            raise RecipeError(faults)
        card = package.card
        expected = batch_rows(recipe, card.input)
        if session.batch_rows != expected:
            raise ValueError(f"session: got {session.batch_rows} batch rows, expected {expected}: one per region")
        self._session = session
        self._views: dict[str, _ViewPlan] = {}
        rows = rows_by_camera(recipe, card.input)
        for view in recipe.views:
            frame_format = formats[view.camera_id]
            geometries = [row_geometry(region, card.input) for region in view.regions]
            calibration = calibrations.get(view.camera_id, UNCALIBRATED)
            correction, shift_rule = calibration.correction(), ShiftRule(calibration)
            registration = calibration.registration
            seen = SeenFrames(view.camera_id, frame_format, calibration)
            self._views[view.camera_id] = _ViewPlan(
                frame_format=frame_format,
                seen=seen,
                part_mark=view.part_mark,
                mark_decoder=_mark_decoder(view.camera_id, view.part_mark, frame_format),
                rows=rows[view.camera_id],
                regions=[
                    RegionPlan(view.camera_id, region, seen.format, card.input, correction, shift_rule.shift_max_px)
                    for region in view.regions
                ],
                geometries=geometries,
                decoders=[decoder_of(package, session, geometry) for geometry in geometries],
                judge=Judge(recipe, view.camera_id, card.classes, _bounds([shown.region_px for shown in geometries])),
                locator=None if registration is None else PartLocator(view.camera_id, registration, seen.format),
                shift_rule=shift_rule,
                geometry=calibration.geometry,
            )

    def warm_up(self, runs: int = 20) -> None:
        """Runs every stage on blank frames, so that nothing is done for the first time on a part.

        Raises InferenceError where the model does not run or its output is not finite.
        """
        self._session.warm_up(runs)
        self.begin()
        for camera_id, view in self._views.items():
            blank = np.zeros(view.frame_format.shape, np.uint8)
            frame = Frame(camera_id, 0, view.frame_format.pixel_format, blank)
            pixels = view.seen.of(blank)
            if view.locator is not None:
                view.locator.locate(pixels)
            self._fill(view, pixels)
            self.read_mark(frame)
        self.infer()
        for camera_id in self._views:
            self.judge(camera_id)
        self.begin()
        self._session.input[...] = 0

    def begin(self) -> None:
        """Starts a new part: no view is loaded."""
        for view in self._views.values():
            view.forget()

    def load(self, frame: Frame) -> None:
        """Fills the rows of a view from its frame, read in place.

        Raises WrongFrame where the frame is not what the camera was planned to deliver, PartOutOfPlace, which is one, where the
        part is not found within tolerance (the view stays unloaded); StageError for a camera that no view looks through.
        """
        view = self._view(frame.camera_id)
        view.forget()
        if frame.pixel_format is not view.frame_format.pixel_format:
            raise WrongFrame(
                f"camera {frame.camera_id}: got {frame.pixel_format.value}, "
                f"expected {view.frame_format.pixel_format.value}"
            )
        pixels = view.seen.of(frame.pixels)
        if view.locator is not None:
            view.position = view.locator.locate(pixels)
            view.shift_px = view.shift_rule.whole_px(view.position)
            view.locator.check(view.position)
        self._fill(view, pixels)

    def _fill(self, view: _ViewPlan, pixels: npt.NDArray[np.uint8]) -> None:
        for row, region in zip(view.rows, view.regions, strict=True):
            region.fill(pixels, self._session.input[row], view.shift_px)
        view.is_loaded = True

    def infer(self) -> None:
        """Runs the model on the loaded views; the other rows are zero. Raises InferenceError."""
        for view in self._views.values():
            view.is_inferred = False
            if not view.is_loaded:
                self._session.input[list(view.rows)] = 0
        self._session.run()
        for view in self._views.values():
            view.is_inferred = view.is_loaded

    def judge(self, camera_id: str) -> Inspection:
        """The judgement on one view; NO_DECISION/FAULT where the model's output cannot be read.

        Raises StageError for a view that was not loaded and inferred since the last ``begin``.
        """
        view = self._view(camera_id)
        try:
            # Judged in the part's nominal place, for which zones are drawn.
            inspection = view.judge.judge(self.nominal_findings(camera_id))
        except BadOutput:
            return FAULT
        if not inspection.defects:
            return inspection
        defects = tuple(replace(one, box_px=moved_box(one.box_px, view.shift_px)) for one in inspection.defects)
        return replace(inspection, defects=defects if view.geometry is None else defects_in_mm(defects, view.geometry))

    def findings(self, camera_id: str) -> list[Findings]:
        """What was found in each region of a view, in the recipe's order, where it lies in the frame.

        Raises BadOutput where the model's output cannot be read, StageError as ``judge`` does.
        """
        shift_px = self._view(camera_id).shift_px
        return [moved_findings(findings, shift_px) for findings in self.nominal_findings(camera_id)]

    def nominal_findings(self, camera_id: str) -> list[Findings]:
        """The same as if the part lay in its nominal place, for which the recipe's zones are drawn. Raises as ``findings`` does."""
        view = self._view(camera_id)
        if not view.is_inferred:
            raise StageError(f"camera {camera_id}: judged before its frame of this part was loaded and inferred")
        return [decoder.decode(self._session.rows[row]) for row, decoder in zip(view.rows, view.decoders, strict=True)]

    def geometries(self, camera_id: str) -> list[RowGeometry]:
        """How each region of a view is shown to the model, in the recipe's order, as ``rows`` are.

        With the part in its nominal place: ``shift_px`` says by how much they are moved.
        """
        return self._view(camera_id).geometries

    def position(self, camera_id: str) -> PartPosition | None:
        """Where the part lies in the frame that ``load`` was given last for this part, also where it was refused for that.

        None before, and where the camera has no registration.
        """
        return self._view(camera_id).position

    def shift_px(self, camera_id: str) -> tuple[int, int]:
        """By how much, x and y, the view's regions are moved in the frame that was loaded last; 0, 0 without a registration."""
        return self._view(camera_id).shift_px

    def rows(self, camera_id: str) -> tuple[int, ...]:
        """The rows of the batch that are a view's regions, in the recipe's order."""
        return self._view(camera_id).rows

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
        if view.mark_decoder is not None:
            return part_mark_reader.read(view.mark_decoder.decode(frame.pixels), x_px=0, y_px=0, cell_px=mark.cell_px)
        return part_mark_reader.read(frame.pixels, x_px=mark.x_px, y_px=mark.y_px, cell_px=mark.cell_px)

    def _view(self, camera_id: str) -> _ViewPlan:
        try:
            return self._views[camera_id]
        except KeyError:
            raise StageError(f"camera: got {camera_id}, expected one of the views: {sorted(self._views)}") from None


def _mark_decoder(camera_id: str, mark: PartMark | None, frame_format: FrameFormat) -> FrameDecoder | None:
    """Of the mark alone; None where there is none, or no need."""
    if mark is None or not frame_format.pixel_format.is_raw:
        return None
    width_px, height_px = MARK_CELLS_WIDE * mark.cell_px, MARK_CELLS_HIGH * mark.cell_px
    return FrameDecoder(camera_id, frame_format, x_px=mark.x_px, y_px=mark.y_px, width_px=width_px, height_px=height_px)


def check_recipe(
    recipe: Recipe, card: ModelCard, formats: Mapping[str, FrameFormat], *, file: str = "recipe"
) -> list[Fault]:
    """Every mismatch between a recipe, the model's card and the line's cameras; ``file`` names the recipe's file."""
    faults = [*_rule_faults(recipe, card, formats, file), *row_faults(recipe, card.input, file)]
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


_SEEN_STEPS = 33
_SEEN_SLACK_PX = 1.0
"""So far beyond the frame's edge its last pixels stand in for what they show."""


def unseen_regions(recipe: Recipe, calibrations: Mapping[str, ViewCalibration], file: str) -> list[Fault]:
    """Regions of the undistorted frame that the camera does not see whole wherever within tolerance the part lies.

    A lens may bend them out of its picture. One that is moved out of the frame itself is told when that happens.
    """
    faults: list[Fault] = []
    for view_index, view in enumerate(recipe.views):
        calibration = calibrations.get(view.camera_id, UNCALIBRATED)
        if calibration.geometry is None:
            continue
        lens = calibration.geometry.lens
        size_px, shift_px = (lens.width_px, lens.height_px), ShiftRule(calibration).shift_max_px
        for index, region in enumerate(view.regions):
            spans = (region.x_px, region.width_px), (region.y_px, region.height_px)
            x, y = (
                np.linspace(max(start - shift, 0), min(start + length + shift, size), _SEEN_STEPS)
                for (start, length), shift, size in zip(spans, shift_px, size_px, strict=True)
            )
            raw = raw_from_undistorted(lens, np.stack(np.meshgrid(x, y), axis=-1))
            beyond_px = float(np.max([-raw, raw - size_px]))
            if beyond_px > _SEEN_SLACK_PX:
                got = f"one that is up to {beyond_px:.1f} px outside of what camera {view.camera_id} sees, its lens put right"
                got += "" if shift_px == (0, 0) else f" and its part up to {max(shift_px)} px out of place"
                expected = "one further from the picture's edge"
                faults.append(Fault(file, f"views.{view_index}.regions.{index}", got, expected))
    return faults


def _rule_faults(recipe: Recipe, card: ModelCard, formats: Mapping[str, FrameFormat], file: str) -> list[Fault]:
    faults: list[Fault] = []
    viewed = [view.camera_id for view in recipe.views]
    ruled: list[tuple[str, Finding, float, str]] = [
        *((f"rules.{at}", rule, rule.reject_at_score, "reject_at_score") for at, rule in enumerate(recipe.rules)),
        *((f"required.{at}", one, one.found_at_score, "found_at_score") for at, one in enumerate(recipe.required)),
    ]
    for key, one, score, score_key in ruled:
        if one.class_name not in card.classes:
            expected = f"a class of the model: {', '.join(card.classes)}"
            faults.append(Fault(file, f"{key}.class", repr(one.class_name), expected))
        else:
            seen = [
                [row_geometry(region, card.input) for region in view.regions]
                for view in recipe.views
                if one.camera_id in (None, view.camera_id)
            ]
            faults += [
                Fault(file, f"{key}.{name}", got, expected) for name, got, expected in _never_found(one, card, seen)
            ]
        if (floor := card.score_floor(one.class_name)) is not None and score <= floor[1]:
            expected = f"more than {floor[1]:g}: the model's card drops findings up to that ({floor[0]})"
            faults.append(Fault(file, f"{key}.{score_key}", f"{score:g}", expected))
        if one.camera_id is not None and one.camera_id not in viewed:
            expected = f"a camera of the recipe's views: {', '.join(viewed)}"
            faults.append(Fault(file, f"{key}.camera_id", repr(one.camera_id), expected))
        if (zone := one.zone) is not None:
            for camera_id in viewed:
                frame_format = formats.get(camera_id)
                if frame_format is None or one.camera_id not in (None, camera_id):
                    continue
                for name, start, limit in (
                    ("x_px", zone.x_px + zone.width_px, frame_format.width_px),
                    ("y_px", zone.y_px + zone.height_px, frame_format.height_px),
                ):
                    if start > limit:
                        expected = f"to end inside the {limit} px of camera {camera_id}"
                        faults.append(Fault(file, f"{key}.zone.{name}", f"an end at {start}", expected))
    unruled = [
        camera_id for camera_id in viewed if not any(one.camera_id in (None, camera_id) for _, one, _, _ in ruled)
    ]
    for camera_id in unruled:
        got = f"none that holds for camera {camera_id}"
        faults.append(Fault(file, "rules", got, "one for each view: this one would always pass"))
    return faults


def _never_found(
    one: Finding, card: ModelCard, views: Sequence[Sequence[RowGeometry]]
) -> Iterator[tuple[str, str, str]]:
    """Why no findings of any of these views, the regions of each, can ever count: key, got and expected."""
    regions = [region for view in views for region in view]
    if not regions:
        return
    settings, roles, name = card.decoder, card.outputs, one.class_name
    has_map = "anomaly_map" in roles
    is_anomaly = isinstance(settings, AnomalySettings)
    if is_anomaly and name == HOT_REGION and not has_map and "pred_mask" not in roles:
        yield "class", repr(name), f"{ANOMALY}: the model's card has no anomaly_map and no pred_mask (outputs)"
    if name == getattr(settings, "background", None):
        yield "class", repr(name), "another class: the model's card makes no findings of this one (decoder.background)"
    # A classifier's finding is its whole region, and so is an anomaly; others lie in what the model is shown of it.
    is_whole = isinstance(settings, ClassificationSettings) or (is_anomaly and name == ANOMALY)
    boxes = [region.region_px if is_whole else region.shown_px for region in regions]
    widths_px, heights_px = [x2 - x1 for x1, _, x2, _ in boxes], [y2 - y1 for _, y1, _, y2 in boxes]
    area_px = max(width_px * height_px for width_px, height_px in zip(widths_px, heights_px, strict=True))
    sizes = (
        ("min_width_px", one.min_width_px, max(widths_px)),
        ("min_height_px", one.min_height_px, max(heights_px)),
        ("min_area_px", one.min_area_px, area_px),
    )
    for key, least, most in sizes:
        if least > most:
            yield key, f"{least:g}", f"at most {most:g}, the largest region that it holds for, as the model is shown it"
    yield from _too_many(one, card, is_whole=is_whole, regions_count=max(map(len, views)), area_px=area_px)
    area_min_px = 0.0 if is_whole else getattr(settings, "area_min_px", 0.0)
    if area_min_px > area_px:
        expected = (
            f"a region of at least {area_min_px:g} px: the model's card drops smaller findings (decoder.area_min_px)"
        )
        yield "class", f"{name!r} in regions of at most {area_px:g} px", expected
    if (zone := one.zone) is None:
        return
    if is_anomaly and name == ANOMALY and has_map:
        expected = f"none: only the map's highest peak would count, wherever it lies; use class {HOT_REGION} for a zone"
        yield "zone", "a zone", expected
    elif not any(_can_lie_in(zone, box, is_whole=is_whole) for box in boxes):
        expected = (
            "the middle of a region that it holds for"
            if is_whole
            else "a part of what the model is shown of a region that it holds for"
        )
        box = f"{zone.x_px}, {zone.y_px} to {zone.x_px + zone.width_px}, {zone.y_px + zone.height_px}"
        yield "zone", f"a zone from {box}", expected


def _too_many(
    one: Finding, card: ModelCard, *, is_whole: bool, regions_count: int, area_px: float
) -> Iterator[tuple[str, str, str]]:
    """Counts and total areas that a view of so many regions, each at most so large, cannot come to."""
    max_findings = 1 if is_whole else card.decoder.max_findings  # type: ignore[union-attr]
    why = "one for each region" if is_whole else "the model's card keeps no more findings (decoder.max_findings)"
    most = max_findings * regions_count
    count_key, count = ("count", one.count) if isinstance(one, Required) else ("reject_at_count", 1)
    if isinstance(one, Rule) and one.reject_at_count is not None:
        count = one.reject_at_count
    if count > most:
        yield count_key, str(count), f"at most {most} in a view: {why}"
    # Pieces of a map do not overlap, boxes may.
    overlap = 1 if is_whole or card.decoder.kind in ("anomaly", "semantic_segmentation") else max_findings
    most_px = area_px * regions_count * overlap
    if isinstance(one, Rule) and (total_px := one.reject_at_total_area_px) is not None and total_px > most_px:
        yield "reject_at_total_area_px", f"{total_px:g}", f"at most {most_px:g}, all that findings of a view can cover"


def _can_lie_in(zone: Zone, box: BoxPx, *, is_whole: bool) -> bool:
    """Whether the middle of a finding in this box can be in the zone; ``is_whole``: the finding is the box."""
    x1, y1, x2, y2 = box
    return all(
        first <= (start + end) / 2 < first + size if is_whole else first < end and start < first + size
        for first, size, start, end in ((zone.x_px, zone.width_px, x1, x2), (zone.y_px, zone.height_px, y1, y2))
    )


def decoder_of(package: ModelPackage, session: Session, geometry: RowGeometry) -> Decoder:
    """The card's decoder for one row of the session. Raises PackageError where the model's tensors do not fit the card."""
    card = package.card
    try:
        return DECODERS[card.decoder.kind](card.decoder, card.classes, geometry, session.formats)
    except WrongOutput as error:
        raise PackageError([Fault(str(package.card_path), error.key, error.got, error.expected)]) from None


def _bounds(boxes_px: list[BoxPx]) -> BoxPx:
    x1, y1, x2, y2 = zip(*boxes_px, strict=True)
    return min(x1), min(y1), max(x2), max(y2)
