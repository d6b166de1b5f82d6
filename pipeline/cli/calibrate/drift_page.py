"""A baseline of what is usual as a page: where it is read, what it is, and from what change on it is told."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from importlib import metadata

from calibration.drift import DriftReport
from calibration.refusal import Refusal
from pipeline.cli.calibrate.good_parts import GoodParts
from pipeline.cli.calibrate.options import Station
from pipeline.report.blocks import Block, Box, Fact, Facts, Notice, Page, Section, Table, Words, plain
from pipeline.report.pictures import picture_of
from vision.raw import decoded_pixels
from vision.types import PixelFormat

_WATCHED = {
    "brightness": "grey level of the reference region",
    "evenness": "its darkest ninth, against the calibrated one",
    "sharpness": "differences of neighbouring pixels over the grey level",
    "position_x": "of the part to the right, px",
    "position_y": "of the part downward, px",
    "score": "of the part, 0 to 1",
}


def drift_page(
    station: Station,
    who: str,
    parts: GoodParts,
    found: DriftReport,
    refusals: tuple[Refusal, ...],
    calibration_id: str | None,
) -> Page:
    """``calibration_id``: of what is in force now; None where nothing was changed."""
    if calibration_id is None:
        outcome = Notice("bad", "Not calibrated: nothing was changed", [str(refusal) for refusal in refusals])
    else:
        outcome = Notice("good", "Calibrated", [f"calibration_id {calibration_id}"])
    return Page(
        title=f"What is usual of {plain(station.before.recipe_id, 64)}",
        subtitle=f"camera {station.camera_id}, {len(parts.seen):,} parts, by {plain(who, 64)}",
        blocks=[outcome, *_facts(parts, found)],
        sections=[Section("What is watched", [*_watched(found)]), Section("Where", [*_where(station, parts, found)])],
        made_by=f"Made by lineside {metadata.version('lineside')} on {datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC.",
    )


def _facts(parts: GoodParts, found: DriftReport) -> Iterator[Block]:
    baseline = found.baseline
    facts = [Fact("parts", f"{len(parts.seen):,}", f"{len(parts.rejected)} rejected, {len(parts.unjudged)} not judged")]
    if baseline is not None:
        rate = f"{baseline.false_alarm_rate:.2%}"
        facts += [
            Fact("false alarms", rate, f"of shifts of {baseline.shift_parts:,} parts in which nothing moves"),
            Fact("block", f"{baseline.block_parts}", "parts whose mean is one step of the test"),
        ]
    yield Facts(facts)


def _watched(found: DriftReport) -> Iterator[Block]:
    if found.baseline is None:
        yield Words("Nothing: there is no baseline.")
        return
    rows = [
        [
            each.signal.replace("_", " "),
            _WATCHED[each.signal],
            f"{each.mean:.4g}",
            f"{each.grid[0]:.4g} to {each.grid[-1]:.4g}",
            f"{found.alike_parts[each.signal]:.1f}",
            f"{each.tolerance:.3g}",
        ]
        for each in found.baseline.signals
    ]
    columns = [
        "signal",
        "what it is",
        "mean",
        "from the least to the most",
        "alike over, parts",
        "told from a change of",
    ]
    yield Table("Signals of good parts", columns, rows, frozenset({2, 4, 5}))


def _where(station: Station, parts: GoodParts, found: DriftReport) -> Iterator[Block]:
    if parts.first is None:
        return
    boxes = []
    if found.baseline is not None and (region := found.baseline.region) is not None:
        end_px = region.x_px + region.width_px, region.y_px + region.height_px
        boxes.append(Box((region.x_px, region.y_px, *end_px), "reference region"))
    yield picture_of(
        decoded_pixels(parts.first, station.frame_format.pixel_format),
        alt="The first part's picture with the rectangle that light and sharpness are read from.",
        caption="The first part, and where light and sharpness are read.",
        boxes=boxes,
        is_rgb=station.frame_format.pixel_format is PixelFormat.RGB8,
    )
