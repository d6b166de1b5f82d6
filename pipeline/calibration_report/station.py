"""Everything that is calibrated of a line, as one page: what is in force, who found it, when and from what, and what was before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.calibration_file import CalibrationStore, CameraCalibration, Made
from pipeline.calibration_report.light import gains_picture
from pipeline.calibration_report.page import calibration_page
from pipeline.clock import wall_text
from pipeline.config import Line
from pipeline.messages import ChallengeOutcome
from pipeline.report.blocks import Block, Fact, Facts, Gallery, Notice, Page, Picture, Section, Table, plain
from pipeline.report.pictures import no_picture, picture_of
from vision.camera_geometry import mm_from_undistorted
from vision.faults import FaultsError
from vision.flat_field import read_flat_field
from vision.preprocess import FrameFormat
from vision.registration import read_template

_SECTIONS = ("geometry", "flat_field", "registration", "threshold", "repeatability", "drift", "timing")
_SEEN_CORNERS = 4
_CELL_PX = 72
_EARLIER_MAX = 200


@dataclass(frozen=True, slots=True)
class CameraShown:
    """One camera's: ``calibration`` is in force, None where there is none; ``earlier``: those before it, the youngest first."""

    camera_id: str
    frame_format: FrameFormat
    calibration: CameraCalibration | None
    earlier: Sequence[CameraCalibration]


def shown_of(line: Line, store: CalibrationStore, camera_id: str, frame_format: FrameFormat) -> CameraShown:
    """What the store has of a camera. Raises FaultsError, OSError."""
    recipe_id = line.recipe.recipe_id
    current = store.current(recipe_id, camera_id)
    earlier: list[CameraCalibration] = []
    before = None if current is None else current.replaces
    while before is not None and len(earlier) < _EARLIER_MAX:
        try:
            earlier.append(store.kept(recipe_id, camera_id, before))
        except FaultsError:
            break  # it was taken away: what is in force does not rest on it
        before = earlier[-1].replaces
    return CameraShown(camera_id, frame_format, current, earlier)


def station_page(
    line: Line, store: CalibrationStore, cameras: Sequence[CameraShown], challenge: ChallengeOutcome | None
) -> Page:
    """``challenge``: how the last one ended. Raises OSError where the store cannot be read."""
    facts = [
        Fact("product", plain(line.recipe.recipe_id), f"recipe version {plain(line.recipe.recipe_version)}"),
        Fact("calibration_id", line.calibration_id or "none", "of the line, as results name it"),
        _challenge_fact(line, challenge),
    ]
    sections = [section for camera in cameras for section in _sections_of(store, camera, has_several=len(cameras) > 1)]
    return calibration_page(f"Calibration of {line.config.topic_root}", str(line.file), [Facts(facts)], sections)


def _challenge_fact(line: Line, challenge: ChallengeOutcome | None) -> Fact:
    hours = line.config.challenge_valid_hours
    if hours is None:
        return Fact("challenge", "not asked for", "challenge_valid_hours is not set")
    if challenge is None:
        return Fact("challenge", "none yet", "nothing is judged without one")
    at = wall_text(challenge.ended_utc_ns)[:19]
    return Fact(
        "challenge",
        "passed" if challenge.passed else "failed",
        f"by {plain(challenge.who)}, {at}Z, good for {hours:g} h: {plain(challenge.text, 120)}",
    )


def _sections_of(store: CalibrationStore, camera: CameraShown, *, has_several: bool) -> Iterator[Section]:
    of = f"Camera {camera.camera_id}: " if has_several else ""
    calibration = camera.calibration
    if calibration is None:
        yield Section(_title(of, "what is in force"), [Notice("warning", "Nothing is calibrated of this camera yet.")])
        return
    blocks: list[Block] = [Facts([Fact("calibration_id", calibration.calibration_id, f"camera {camera.camera_id}")])]
    if calibration.outdated:
        again = ", ".join(calibration.outdated)
        blocks.append(Notice("warning", "To be found again.", [f"Found before what was put in force since: {again}."]))
    rows = [_row(calibration, name) for name in _SECTIONS]
    blocks.append(Table("What is in force", ("what", "by", "when", "pictures", "found"), rows, frozenset({3})))
    yield Section(_title(of, "what is in force"), blocks)
    if pictures := list(_pictures(store, camera, calibration)):
        yield Section(_title(of, "pictures"), [Gallery(pictures)])
    yield Section(_title(of, "what was before"), [_earlier(camera)])


def _title(of: str, words: str) -> str:
    return f"{of}{words}" if of else words.capitalize()


def _row(calibration: CameraCalibration, name: str) -> tuple[str, str, str, str, str]:
    title = name.replace("_", "-")
    section = getattr(calibration, name)
    if section is None:
        return title, "-", "-", "-", "not calibrated"
    made: Made = section.made
    count = str(made.pictures_count) if made.pictures_count else "-"
    return title, plain(made.by), made.at_utc, count, "; ".join(_found(calibration, name))


def _found(calibration: CameraCalibration, name: str) -> Iterator[str]:
    """Figures with their intervals."""
    if name == "geometry" and (geometry := calibration.geometry) is not None:
        lens = geometry.camera.lens
        middle = np.array([[lens.width_px / 2 + step, lens.height_px / 2] for step in (-0.5, 0.5)])
        mm_per_px = float(np.linalg.norm(np.diff(mm_from_undistorted(geometry.camera, middle), axis=0)))
        yield f"a place may be off by {geometry.worst_error_mm:.3f} mm anywhere in the picture (95 % confidence)"
        yield f"{mm_per_px:.4f} mm a pixel in the middle, {geometry.camera.part_height_mm:g} mm above the belt"
    if name == "flat_field" and (evened := calibration.flat_field) is not None:
        field = evened.flat_field
        for title, percent in (("before", field.uneven_before_percent), ("after", field.uneven_after_percent)):
            yield f"uneven {title} by {percent.value:.2f} % (95 %: {percent.low:.2f} to {percent.high:.2f} %)"
        yield f"measured on {field.held_out_count} pictures that had no part in it"
        yield f"{field.dead_count} dead and {field.hot_count} hot pixels replaced"
    if name == "registration" and (registered := calibration.registration) is not None:
        place = registered.registration
        yield f"a part may lie {place.tolerance_x_px:.1f} px off to either side, {place.tolerance_y_px:.1f} px up and down"
        yield f"it is found where the score is {place.min_score:.2f} or more"
    if name == "threshold" and (threshold := calibration.threshold) is not None:
        for class_name, score in threshold.reject_at_score.items():
            yield f"{plain(class_name)} is rejected from {score:.6g} on"
        promise = f"{threshold.false_reject_max:.3%} of good parts, {threshold.confidence:.3%} sure"
        yield f"at most {promise}, from {threshold.good_count} good parts"
        if (passed := threshold.false_accept) is not None:
            yield f"{passed.count} of {passed.total} known-defective parts pass ({passed.low:.2%} to {passed.high:.2%})"
    if name == "repeatability" and (again := calibration.repeatability) is not None:
        figures = again.figures
        yield f"{figures.parts_count} parts shown {figures.shown_count} times together"
        spread = figures.score
        low, high = spread.repeatability_low, spread.repeatability_high
        yield f"scores of one part differ by {spread.repeatability:.3g} ({low:.3g} to {high:.3g}, standard deviation)"
        yield f"the same verdict every time: {figures.steady_parts_count} of {figures.parts_count}"
    if name == "drift" and (drift := calibration.drift) is not None:
        baseline = drift.baseline
        yield f"from {baseline.baseline_parts} good parts, watched in blocks of {baseline.block_parts}"
        yield f"a false alarm in {baseline.false_alarm_rate:.2%} of shifts of {baseline.shift_parts} parts"
    if name == "timing" and (timing := calibration.timing) is not None:
        times = timing.figures
        late = f"all but {times.late_share_max:.2%} of parts, {times.confidence:.0%} sure, from {times.parts_count}"
        yield f"verdicts within {times.latency_us} us ({late})"
        yield f"guard {times.guard_us} us, of no use after {times.deadline_max_us} us"
        yield f"gate {times.reject_offset_pulses} +- {times.window_pulses} pulses behind the trigger"
        yield f"{times.pulses_per_mm:.4f} +- {times.pulses_per_mm_error:.4f} pulses per mm"


def _pictures(store: CalibrationStore, camera: CameraShown, calibration: CameraCalibration) -> Iterator[Picture]:
    geometry = calibration.geometry
    if geometry is not None and geometry.covered is not None:
        yield _coverage(np.asarray(geometry.covered, np.int64))
    if calibration.flat_field is not None:
        field = calibration.flat_field.flat_field
        try:
            correction = read_flat_field(
                field,
                store.file(field.gain_sha256),
                store.file(field.dark_sha256),
                camera.frame_format.decoded,
                gain_file=str(store.file_path(field.gain_sha256)),
                dark_file=str(store.file_path(field.dark_sha256)),
            )
        except FaultsError as error:
            yield no_picture(alt="no gains", caption="The gains cannot be read.", lines=[plain(str(error), 200)])
        else:
            assert correction.gain is not None
            dead = np.zeros(correction.gain.shape[:2], np.bool_) if correction.dead is None else correction.dead
            # Which pixels shine in the dark is not kept apart from those that are dead.
            yield gains_picture(correction.gain, dead, np.zeros_like(dead))
    if calibration.registration is not None:
        section = calibration.registration.registration
        where = section.template
        try:
            content = store.file(section.template_sha256)
            found = read_template(content, section, file=str(store.file_path(section.template_sha256)))
        except FaultsError as error:
            yield no_picture(alt="no template", caption="The template cannot be read.", lines=[plain(str(error), 200)])
        else:
            yield picture_of(
                found.template,
                alt="what the part is found by",
                caption="What the part is found by.",
                lines=[f"{where.width_px} x {where.height_px} px at x {where.x_px}, y {where.y_px}"],
            )


def _coverage(counts: npt.NDArray[np.int64]) -> Picture:
    """Where the board was seen: dark blue where often enough, with how many corners."""
    rows, columns = counts.shape
    drawn = np.full((rows * _CELL_PX, columns * _CELL_PX, 3), 235, np.uint8)
    for (row, column), count in np.ndenumerate(counts):
        x, y = column * _CELL_PX, row * _CELL_PX
        colour = (178, 114, 0) if count >= _SEEN_CORNERS else (200, 200, 200)
        drawn[y + 2 : y + _CELL_PX - 2, x + 2 : x + _CELL_PX - 2] = colour
        cv2.putText(drawn, str(count), (x + 12, y + 44), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2, cv2.LINE_AA)
    seen = int((counts >= _SEEN_CORNERS).sum())
    return picture_of(
        drawn,
        alt=f"{seen} of {counts.size} parts of the picture have seen the board",
        caption="How many of the board's corners each part of the picture has seen.",
    )


def _earlier(camera: CameraShown) -> Table:
    chain = [*([] if camera.calibration is None else [camera.calibration]), *camera.earlier]
    rows = []
    for number, each in enumerate(chain):
        before = chain[number + 1] if number + 1 < len(chain) else None
        changed = [name for name in _SECTIONS if getattr(each, name) != getattr(before, name, None)]
        made = [getattr(each, name).made for name in changed if getattr(each, name) is not None]
        last = max(made, key=lambda one: one.at_utc, default=None)
        by, at = ("-", "-") if last is None else (plain(last.by), last.at_utc)
        rows.append((each.calibration_id, ", ".join(changed).replace("_", "-") or "-", by, at, each.replaces or "-"))
    note = f"The first is in force. Only the last {_EARLIER_MAX} are listed." if len(chain) > _EARLIER_MAX else ""
    columns = ("calibration_id", "what changed", "by", "when", "in the place of")
    return Table("Every calibration of this camera", columns, rows, note=note or "The first is in force.")
