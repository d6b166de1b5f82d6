"""The rectangle of a frame that light and sharpness are read from, as calibration keeps it. Imports no kernels."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vision.recipe import Region

TILES_WIDE = 3
TILES_HIGH = 3
TILES = TILES_HIGH * TILES_WIDE


class ReferenceRegion(Region):
    """Where the signals are taken from; best beside the part, on the belt or a white patch, so that other parts change nothing.

    ``tile_shares``: the mean grey level of each of 3 x 3 tiles over the region's, row by row, as calibrated.
    """

    tile_shares: Annotated[list[Annotated[float, Field(ge=0.0)]], Field(min_length=TILES, max_length=TILES)]
