"""A registration as blocks: the template in its place, the parts as they were found, and how well that is repeated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from calibration.registration import RegistrationReport
from calibration.spread import Spread
from pipeline.calibration_report.page import outcome
from pipeline.report.blocks import Block, Box, Gallery, Picture, Table, Words, plain
from pipeline.report.pictures import picture_of
from vision.recipe import Region
from vision.registration import PartPosition, TemplateRegion
from vision.types import PixelFormat

_PARTS_MAX = 5


def registration_blocks(
    found: RegistrationReport,
    where: TemplateRegion,
    reference: npt.NDArray[np.uint8],
    names: Sequence[str],
    parts: Sequence[npt.NDArray[np.uint8]],
    regions: Sequence[Region],
    pixel_format: PixelFormat,
    mm_per_px: tuple[float, float] | None,
) -> list[Block]:
    """``names`` and ``parts``: of the pictures that ``found.positions`` are of; ``regions``: those that follow the part."""
    is_rgb = pixel_format is PixelFormat.RGB8
    shown = [
        picture_of(
            reference,
            alt="a part in its place, with the template",
            caption="A part in its place. Blue, dashed: the regions that follow it.",
            lines=[]
            if mm_per_px is None
            else ["The lens's distortion is still in this picture; regions are drawn without it."],
            boxes=[_box(where), *(_region_box(region) for region in regions)],
            is_rgb=is_rgb,
        )
    ]
    # Those that were not found first, then the farthest off.
    by_interest = sorted(
        zip(names, parts, found.positions, strict=False),
        key=lambda each: (each[2].is_found, -max(abs(each[2].shift_x_px), abs(each[2].shift_y_px))),
    )
    shown += [
        _part(where, name, pixels, position, is_rgb=is_rgb) for name, pixels, position in by_interest[:_PARTS_MAX]
    ]
    blocks: list[Block] = [outcome(found.refusals, "The part is found, and regions follow it."), Gallery(shown)]
    rows = [
        (what, axis, str(spread.count), *_row(spread, None if mm_per_px is None else mm_per_px[at]))
        for what, spreads in (
            ("one part, not moved", (found.repeats_x, found.repeats_y)),
            ("good parts", (found.parts_x, found.parts_y)),
        )
        for at, (axis, spread) in enumerate(zip(("to either side", "up and down"), spreads, strict=True))
        if spread is not None
    ]
    if rows:
        columns = [
            "place of",
            "axis",
            "pictures",
            "mean, px",
            "spread, px",
            "95 %, px",
            "spread, mm",
            "farthest off, px",
        ]
        note = "Spread: standard deviation; what one part not moved spreads by is how well its place is repeated."
        blocks.append(Table("Places", columns, rows, frozenset(range(2, 8)), note))
    if found.good_score_low is not None and found.other_score is not None:
        blocks.append(
            Words(
                f"Good parts score {found.good_score_low:.2f} or more, other places {found.other_score:.2f} at most "
                f"({found.empty_count} pictures of the empty belt)."
            )
        )
    return [*blocks, *(Words(note) for note in found.notes)]


def _part(
    where: TemplateRegion, name: str, pixels: npt.NDArray[np.uint8], position: PartPosition, *, is_rgb: bool
) -> Picture:
    place = (
        f"{position.shift_x_px:+.1f} px to the right, {position.shift_y_px:+.1f} px down, score {position.score:.2f}"
    )
    told = place if position.is_found else f"NOT FOUND; the best place: {place}"
    boxes = [_box(where, position.shift_x_px, position.shift_y_px)]
    return picture_of(
        pixels, alt=f"{plain(name)}: {told}", caption=plain(name), lines=[told], boxes=boxes, is_rgb=is_rgb
    )


def _box(where: TemplateRegion, right_px: float = 0.0, down_px: float = 0.0) -> Box:
    x1, y1 = where.x_px + right_px, where.y_px + down_px
    return Box((x1, y1, x1 + where.width_px, y1 + where.height_px), "template")


def _region_box(region: Region) -> Box:
    corners = (region.x_px, region.y_px, region.x_px + region.width_px, region.y_px + region.height_px)
    return Box(corners, region.name, "second")


def _row(spread: Spread, mm_per_px: float | None) -> tuple[str, str, str, str, str]:
    return (
        f"{spread.mean_px:+.2f}",
        f"{spread.spread_px:.3f}",
        f"{spread.spread_low_px:.3f} to {spread.spread_high_px:.3f}",
        "-" if mm_per_px is None else f"{mm_per_px * spread.spread_px:.4f}",
        f"{spread.farthest_px:.2f}",
    )
