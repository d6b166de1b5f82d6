"""Cheap numbers of a frame that say whether light, window and focus are as they were: for the watch on drift."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, nan, sqrt

import numpy as np
import numpy.typing as npt

from vision.frame_decoder import FrameDecoder
from vision.kernels import flat_rows
from vision.kernels.frame_signals import tiles_and_slope
from vision.preprocess import FrameFormat, WrongFrame
from vision.recipe import Region
from vision.reference_region import TILES, TILES_HIGH

_PIXELS_MAX = 1 << 16
"""Of larger regions only every so many rows are looked at: a mean of so many pixels is steady enough."""
_SIDE_MIN_PX = 16
_ROWS_MIN = 4 * TILES_HIGH
_DARK = 2.0
"""Grey levels below which there is nothing to be sharp."""


@dataclass(frozen=True, slots=True)
class FrameSignals:
    """``brightness``: the region's mean grey level, 0..255 (of colour, the green one); ``sharpness``: the root mean square of the
    differences between neighbouring pixels over the brightness, so that more light alone does not change it; NaN in the dark;
    ``tile_shares``: the mean grey level of each of 3 x 3 tiles over the region's, row by row, float64 (9,), zeros in the dark.
    """

    brightness: float
    sharpness: float
    tile_shares: npt.NDArray[np.float64]


class SignalReader:
    """Reads the signals of one camera's frames. Not for several threads at once."""

    def __init__(self, camera_id: str, region: Region, frame_format: FrameFormat) -> None:
        """Raises ValueError where the region is not inside the frame, or less than 16 px wide or high."""
        for axis, start, size, limit in (
            ("x", region.x_px, region.width_px, frame_format.width_px),
            ("y", region.y_px, region.height_px, frame_format.height_px),
        ):
            if start + size > limit or size < _SIDE_MIN_PX:
                raise ValueError(
                    f"camera {camera_id}, region {region.name}: got {axis} from {start} to {start + size} px, "
                    f"expected at least {_SIDE_MIN_PX} px inside 0 to {limit}"
                )
        self._camera_id = camera_id
        self._region = region
        self._format = frame_format
        self._step = frame_format.pixel_format.channel_count
        self._channel = 0 if self._step == 1 else 1
        self._decoder: FrameDecoder | None = None
        if frame_format.pixel_format.is_raw:
            self._decoder = FrameDecoder(
                camera_id,
                frame_format,
                x_px=region.x_px,
                y_px=region.y_px,
                width_px=region.width_px,
                height_px=region.height_px,
            )
        rows = region.height_px - 1
        self._row_step = min(ceil(region.width_px * region.height_px / _PIXELS_MAX), rows // _ROWS_MIN)
        self._tiles = np.zeros(TILES, np.float32)

    def read(self, pixels: npt.NDArray[np.uint8]) -> FrameSignals:
        """Raises WrongFrame for a frame of another shape or type."""
        if pixels.shape != self._format.shape or pixels.dtype != np.uint8:
            raise WrongFrame(
                f"camera {self._camera_id}: got {pixels.dtype} {pixels.shape}, expected uint8 {self._format.shape}"
            )
        region = self._region
        x_px, y_px = region.x_px, region.y_px
        if self._decoder is not None:
            pixels, x_px, y_px = self._decoder.decode(pixels), 0, 0
        flat, pitch = flat_rows(pixels)
        start = y_px * pitch + x_px * self._step + self._channel
        slope = tiles_and_slope(
            flat, pitch, self._step, start, region.width_px, region.height_px, self._row_step, self._tiles
        )
        tiles = self._tiles.astype(np.float64)
        brightness = float(tiles.mean())
        if brightness < _DARK:
            return FrameSignals(brightness, nan, np.zeros(TILES))
        return FrameSignals(brightness, sqrt(slope) / brightness, tiles / brightness)


def evenness(tile_shares: npt.NDArray[np.float64], calibrated: Sequence[float]) -> float:
    """The darkest tile's share over its share as calibrated: about 1 while all is well, less where dirt or shadow is on one part.

    Tiles that were black when calibrated say nothing and are left out; NaN where all were, or all are now.
    """
    before = np.asarray(calibrated, np.float64)
    lit = before > 0.0
    if not lit.any() or not tile_shares.any():
        return nan
    return float((tile_shares[lit] / before[lit]).min())
