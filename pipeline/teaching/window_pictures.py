"""Pictures of the parts in a recorded window, cut out as the line's recipe cuts its frames; see docs/replay.md.

Each region of a view is a picture of its own, since each is a row that the model judges by itself: the camera's name is the view's
where it has one region, ``camera.region`` where it has several. What is calibrated of the camera (light, lens, position) is applied
as inspection applies it, at the frame's own size.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.calibrated_line import view_calibrations
from pipeline.config import Line
from pipeline.drift_baseline import UNCOUNTED_REASONS
from pipeline.line_inspector import frame_formats
from pipeline.teaching.picture_set import Copy, Picture, PictureSet, Pixels, View
from pipeline.teaching.pixel_facts import is_flat, is_grey, pixels_sha256
from pipeline.window.format import FrameEntry
from pipeline.window.reader import FrameDamaged, NotAWindow, WindowReader
from vision.batch_rows import view_name
from vision.faults import Fault, FaultsError
from vision.frame_decoder import SeenFrames
from vision.model_input import ModelInput
from vision.preprocess import FrameFormat, RegionPlan, WrongFrame
from vision.recipe import Region
from vision.registration import PartLocator
from vision.types import PixelFormat, Verdict
from vision.view_calibration import UNCALIBRATED, ShiftRule, ViewCalibration


@dataclass(frozen=True, slots=True)
class Taking:
    """Which parts beside those that the line passed: all that production made; or those that it rejected, as ``not_good``."""

    all_parts: bool = False
    rejects_are_defective: bool = False


_PASSED = Taking()


def read_window(folder: Path, taking: Taking = _PASSED, *, looked: Callable[[], None] = lambda: None) -> PictureSet:
    """Looks at every frame of the parts that are taken; ``looked`` is called after each part.

    Challenge parts, and those of a halted line, are left aside. Parts that were not judged, or have not all their frames, whole and
    with the part in its place, are told in ``left_out``; those that were rejected are counted. Raises FaultsError where it is no
    window, or none of its parts is left.
    """
    try:
        reader = WindowReader(folder)
        line = reader.line()
        return _read(reader, cuts_of(line), taking, looked)
    except NotAWindow as error:
        raise FaultsError([Fault(str(folder), "", str(error), "the folder of a recorded window")]) from error


class Cut:
    """One region of a camera's frames, at their own size."""

    def __init__(self, name: str, camera_id: str, region: Region, frame: FrameFormat, calibration: ViewCalibration):
        is_grey = frame.pixel_format.channel_count == 1
        channels = 1 if is_grey else 3
        as_it_is = ModelInput(
            name="picture",
            width_px=region.width_px,
            height_px=region.height_px,
            colour_order="GRAY" if is_grey else "BGR",
            dtype="uint8",
            scale=1.0,
            mean=[0.0] * channels,
            std=[1.0] * channels,
            fit="stretch",
        )
        self.name, self.camera_id = name, camera_id
        self.frame = FrameFormat(region.width_px, region.height_px, PixelFormat.MONO8 if is_grey else PixelFormat.BGR8)
        self._rule = ShiftRule(calibration)
        # As the kept picture of the same frame is read, so that both are known to be the same.
        self._seen = SeenFrames(camera_id, frame, calibration, as_picture=True)
        self._plan = RegionPlan(
            camera_id, region, self._seen.format, as_it_is, calibration.correction(), self._rule.shift_max_px
        )
        registration = calibration.registration
        self._locator = None if registration is None else PartLocator(camera_id, registration, self._seen.format)
        self._row = np.zeros(as_it_is.row_shape, np.uint8)

    def of(self, frame: Pixels) -> Pixels:
        """Raises WrongFrame where the part is not in its place."""
        frame = self._seen.of(frame)
        shift_px = (0, 0)
        if self._locator is not None:
            position = self._locator.locate(frame)
            shift_px = self._rule.whole_px(position)
            self._locator.check(position)
        self._plan.fill(frame, self._row, shift_px)
        return np.ascontiguousarray(self._row[0] if len(self._row) == 1 else self._row.transpose(1, 2, 0)).copy()


@dataclass(frozen=True, slots=True)
class _Part:
    name: str
    entries: dict[str, FrameEntry]


def cuts_of(line: Line) -> list[Cut]:
    """Of each region of each camera, with what is calibrated of it. Raises FaultsError where that cannot be used."""
    formats, calibrations = frame_formats(line.config), view_calibrations(line)
    is_only_one = line.recipe.region_count == 1
    return [
        Cut(
            "" if is_only_one else view_name(view, region),
            view.camera_id,
            region,
            formats[view.camera_id],
            calibrations.get(view.camera_id, UNCALIBRATED),
        )
        for view in line.recipe.views
        for region in view.regions
    ]


def _read(reader: WindowReader, cuts: list[Cut], taking: Taking, looked: Callable[[], None]) -> PictureSet:
    by_name = {cut.name: cut for cut in cuts}
    pictures: dict[str, list[Picture]] = {name: [] for name in by_name}
    first: dict[tuple[str, str], Picture] = {}
    entries: dict[tuple[str, str], FrameEntry] = {}
    copies: list[Copy] = []
    left_out: list[str] = []
    not_good: list[Picture] = []
    rejected = _rejected(reader)
    for part in _parts(reader, {cut.camera_id for cut in cuts}, left_out, taking):
        its_own = []
        try:
            for cut in cuts:
                its_own.append(_picture(reader, part, cut))
        except (FrameDamaged, WrongFrame) as error:
            left_out.append(f"{part.name}: {error}")
            looked()
            continue
        if taking.rejects_are_defective and part.name in rejected:
            not_good += its_own
            for each in its_own:
                entries[each.view, each.part_name] = part.entries[by_name[each.view].camera_id]
        elif known := [(each, first[seen]) for each in its_own if (seen := (each.view, each.pixels_sha256)) in first]:
            copies += [Copy(each.name, other.name) for each, other in known]
        else:
            for each in its_own:
                pictures[each.view].append(each)
                first[each.view, each.pixels_sha256] = each
                entries[each.view, each.part_name] = part.entries[by_name[each.view].camera_id]
        looked()
    if not first:
        kind = "production made" if taking.all_parts else "the line passed"
        got = f"no part that {kind} with all its frames" + (f" ({left_out[0]})" if left_out else "")
        raise FaultsError([Fault(str(reader.folder), "", got, "a window of a line that passes good parts")])

    def read(picture: Picture) -> Pixels:
        try:
            pixels = by_name[picture.view].of(reader.frame(entries[picture.view, picture.part_name]).pixels)
        except (FrameDamaged, WrongFrame, NotAWindow) as error:
            raise FaultsError([Fault(str(reader.folder), picture.name, str(error), "a whole window")]) from error
        if _sha256(pixels) != picture.sha256:
            expected = "what it held when it was looked at: leave it alone meanwhile"
            raise FaultsError([Fault(str(reader.folder), picture.name, "another content than before", expected)])
        return pixels

    views = tuple(View(cut.name, cut.frame, tuple(pictures[cut.name])) for cut in cuts)
    none = frozenset[str]()
    left_aside, settled = (none, rejected) if taking.all_parts or taking.rejects_are_defective else (rejected, none)
    defective = rejected if taking.rejects_are_defective else none
    return PictureSet(
        reader.folder,
        views,
        tuple(copies),
        tuple(left_out),
        read,
        rejected=left_aside,
        settled=settled,
        said_defective=defective,
        not_good=tuple(not_good),
    )


def _rejected(reader: WindowReader) -> frozenset[str]:
    results = ((part_id, reader.part(part_id)[1]) for part_id in reader.part_ids)
    return frozenset(
        _part_name(reader, part_id)
        for part_id, result in results
        if result.verdict == Verdict.REJECT.value and result.reason not in UNCOUNTED_REASONS
    )


def _part_name(reader: WindowReader, part_id: int) -> str:
    return f"{reader.description.facts.session_id}-{part_id:08d}"


def _parts(reader: WindowReader, cameras: set[str], left_out: list[str], taking: Taking) -> Iterator[_Part]:
    for part_id in reader.part_ids:
        entry, result = reader.part(part_id)
        if result.reason in UNCOUNTED_REASONS:
            continue
        if result.verdict != Verdict.PASS.value and not taking.all_parts:
            is_rejected = result.verdict == Verdict.REJECT.value
            if not is_rejected:
                left_out.append(f"part {part_id}: {result.verdict}, {result.reason}")
            if not (is_rejected and taking.rejects_are_defective):
                continue
        found = {key.camera_id: frame for key, frame in reader.entries_of(entry) if frame is not None}
        if missing := sorted(cameras - found.keys()):
            left_out.append(f"part {part_id}: no frame of camera {', '.join(missing)}")
            continue
        yield _Part(_part_name(reader, part_id), found)


def _picture(reader: WindowReader, part: _Part, cut: Cut) -> Picture:
    pixels = cut.of(reader.frame(part.entries[cut.camera_id]).pixels)
    return Picture(
        name=f"{cut.name}/{part.name}" if cut.name else part.name,
        path=reader.folder,
        view=cut.name,
        part_name=part.name,
        width_px=cut.frame.width_px,
        height_px=cut.frame.height_px,
        is_grey=is_grey(pixels),
        is_flat=is_flat(pixels),
        sha256=_sha256(pixels),
        pixels_sha256=pixels_sha256(pixels),
    )


def _sha256(pixels: Pixels) -> str:
    return hashlib.sha256(pixels.data).hexdigest()
