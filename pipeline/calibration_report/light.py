"""A flat field as blocks: how even the picture was and is, and the gains with the pixels that are replaced."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
import numpy.typing as npt

from calibration.flat_field import HELD_OUT_EVERY, FlatFieldResult, Measured
from pipeline.calibration_report.page import outcome
from pipeline.report.blocks import Block, Box, Fact, Facts, Gallery, Picture, Words
from pipeline.report.pictures import picture_of
from vision.types import PixelFormat

_MARK_SHARE = 0.012
"""Of the picture's longer side: a mark around a single pixel."""


def flat_field_blocks(
    found: FlatFieldResult, bright_frames: npt.NDArray[np.uint8], pixel_format: PixelFormat
) -> list[Block]:
    """``bright_frames``: those that it was found from."""
    is_rgb = pixel_format is PixelFormat.RGB8
    # One that had no part in the gains.
    raw = bright_frames[min(HELD_OUT_EVERY, len(bright_frames)) - 1]
    field, quality = found.field, found.quality
    if field is None or quality is None:
        shown = picture_of(raw, alt="a bright picture", caption="A bright picture, as it came.", is_rgb=is_rgb)
        return [outcome(found.refusals, ""), Gallery([shown])]
    before, after = quality.uneven_before_percent, quality.uneven_after_percent
    facts = Facts(
        [
            Fact("uneven before", f"{before.value:.2f} %", _interval(before)),
            Fact("uneven after", f"{after.value:.2f} %", _interval(after)),
            Fact("dead pixels", str(quality.dead_count)),
            Fact("hot pixels", str(quality.hot_count)),
        ]
    )
    even = np.rint(field.corrected(raw)).astype(np.uint8)
    pictures = [
        picture_of(raw, alt="a bright picture before", caption="Before: a bright picture, as it came.", is_rgb=is_rgb),
        picture_of(even, alt="the same picture after", caption="After: the same picture, evened out.", is_rgb=is_rgb),
        gains_picture(field.gain, field.dead, field.hot),
    ]
    words = Words(
        f"Measured on {quality.held_out_count} of {quality.bright_frame_count} bright pictures that had no part in the gains: the "
        "brightest sixteenth of the picture's width and height less the darkest one, of the mean."
    )
    return [outcome((), "The picture is evened out."), facts, Gallery(pictures), words]


def _interval(measured: Measured) -> str:
    return f"95 %: {measured.low:.2f} to {measured.high:.2f} %"


def gains_picture(gains: npt.NDArray[np.float32], dead: npt.NDArray[np.bool_], hot: npt.NDArray[np.bool_]) -> Picture:
    """Dark where little is added, bright where much; of colour the mean of the channels."""
    gain = gains if gains.ndim == 2 else gains.mean(axis=2)
    low, high = float(gain.min()), float(gain.max())
    scaled = (255 * (gain - low) / max(high - low, 1e-6)).astype(np.uint8)
    return picture_of(
        np.asarray(cv2.applyColorMap(scaled, cv2.COLORMAP_VIRIDIS), np.uint8),
        alt=f"gains from {low:.2f} to {high:.2f}, dead and hot pixels marked",
        caption="The gains; what is marked is replaced by what lies around it.",
        lines=[f"gains from {low:.2f} (dark) to {high:.2f} (bright)"],
        boxes=[*_marks(dead, "dead"), *_marks(hot, "hot")],
    )


def _marks(which: npt.NDArray[np.bool_], label: str) -> Iterator[Box]:
    reach = max(2.0, _MARK_SHARE * max(which.shape))
    for y, x in zip(*(axis.tolist() for axis in np.nonzero(which)), strict=True):
        yield Box((x + 0.5 - reach, y + 0.5 - reach, x + 0.5 + reach, y + 0.5 + reach), label)
