"""Regions of a frame -> rows of the model's batch: checked and planned once, then one kernel call per frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from vision.correction import Correction
from vision.geometry import row_geometry
from vision.kernels import flat_rows
from vision.kernels.raw import raw_to_planes
from vision.kernels.resize import (
    BLUE_WEIGHT,
    GREEN_WEIGHT,
    RED_WEIGHT,
    channels_to_grey,
    channels_to_planes,
    fill_border,
)
from vision.mapped_region import MappedRegion, axis
from vision.model_input import ModelInput
from vision.raw import LAYOUTS, whole_groups
from vision.recipe import Region
from vision.types import PixelFormat

PREPROCESSING_VERSION = 1
"""Counts changes that can change a pixel of the model's input; part of the runtime fingerprint."""


class WrongFrame(Exception):
    """A frame is not of the shape that was planned for: the part becomes ``BAD_FRAME``."""


@dataclass(frozen=True, slots=True)
class FrameFormat:
    """What a camera delivers, every time."""

    width_px: int
    height_px: int
    pixel_format: PixelFormat

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of ``Frame.pixels``: (height, width), (height, width, 3), or of a raw format (height, row_bytes)."""
        return self.pixel_format.shape(self.width_px, self.height_px)

    @property
    def decoded(self) -> FrameFormat:
        """The same frames as pictures; itself where they are."""
        return replace(self, pixel_format=self.pixel_format.decoded)


class RegionPlan:
    """Fills one row of the batch from one region of a camera's frames. Not for several threads at once."""

    def __init__(
        self,
        camera_id: str,
        region: Region,
        frame_format: FrameFormat,
        model_input: ModelInput,
        correction: Correction | None = None,
        shift_max_px: tuple[int, int] = (0, 0),
    ) -> None:
        """With a ``correction`` the region is one of the undistorted, even frame, and ``fill`` may move it by up to
        ``shift_max_px`` along x and y.

        Raises ValueError where the region is not inside the frame, or the correction does not fit the camera's frames.
        """
        for name, start, size, limit in (
            ("x", region.x_px, region.width_px, frame_format.width_px),
            ("y", region.y_px, region.height_px, frame_format.height_px),
        ):
            if start + size > limit:
                raise ValueError(
                    f"camera {camera_id}, region {region.name}: got {name} from {start} to {start + size} px, "
                    f"expected inside the frame's {limit} px"
                )
        self._camera_id = camera_id
        self._region = region
        self._shape = frame_format.shape
        self._size = (frame_format.width_px, frame_format.height_px)
        self._row_shape = model_input.row_shape
        self._dtype = np.dtype(model_input.numpy_dtype)
        self._shift_max_px = shift_max_px

        source_channels = frame_format.pixel_format.channel_count
        shown = row_geometry(region, model_input)
        top_px, left_px, height_px, width_px = shown.top_px, shown.left_px, shown.shown_height_px, shown.shown_width_px
        row_places = _places(region.height_px, height_px, origin=shown.origin_y_px - region.y_px, step=shown.step_y_px)
        column_places = _places(region.width_px, width_px, origin=shown.origin_x_px - region.x_px, step=shown.step_x_px)
        tops, row_weights = _neighbours(row_places, region.height_px)
        lefts, column_weights = _neighbours(column_places, region.width_px)
        bottoms = np.minimum(tops + 1, region.height_px - 1)
        mean, std = np.asarray(model_input.mean), np.asarray(model_input.std)
        gains = (model_input.scale / std).astype(np.float32)
        offsets = (-mean / std).astype(np.float32)
        if model_input.dtype == "uint8":
            # The kernels cut off what is behind the point: with half a grey level more they round to the nearest.
            offsets += np.float32(0.5)

        self._tables = (
            tops.astype(np.uint32),
            bottoms.astype(np.uint32),
            row_weights,
            (lefts if frame_format.pixel_format.is_raw else lefts * source_channels).astype(np.uint32),
            column_weights,
        )
        self._line = np.zeros((region.width_px + 1) * source_channels, np.float32)
        self._raw: _RawRegion | None = None
        if frame_format.pixel_format.is_raw:
            # 12 bit go up to 255.9, which no byte holds.
            self._raw = _RawRegion(region, frame_format, brightest=255.0 if model_input.dtype == "uint8" else 256.0)
        self._affine = (gains, offsets)
        self._corner = (top_px, left_px)
        self._border = (top_px, left_px, height_px, width_px)
        self._border_values = (model_input.pad_value * gains + offsets).astype(np.float32)
        self._is_bordered = (height_px, width_px) != (model_input.height_px, model_input.width_px)

        self._source_channels = source_channels
        self._kernel: Callable[..., None]
        self._extra: tuple[Any, ...]
        channel_names = frame_format.pixel_format.decoded.value.removesuffix("8")
        mix: npt.NDArray[np.float32] = np.zeros((len(gains), source_channels), np.float32)
        if source_channels == 3 and model_input.channel_count == 1:
            weights = {"R": RED_WEIGHT, "G": GREEN_WEIGHT, "B": BLUE_WEIGHT}
            self._kernel = channels_to_grey
            self._extra = (np.array([weights[name] for name in channel_names], np.float32),)
            mix[0] = self._extra[0] * gains[0]
            sources = [0]
        else:
            order = model_input.colour_order
            sources = [channel_names.index(name) for name in order] if source_channels == 3 else [0] * len(gains)
            self._kernel = channels_to_planes
            self._extra = (np.array(sources, np.uint32), source_channels)
            mix[range(len(gains)), sources] = gains
        if self._raw is not None:
            grey_mix = self._extra[0] if self._kernel is channels_to_grey else np.zeros(0, np.float32)
            self._extra = (np.array(sources, np.uint32), grey_mix)

        self._mapped: MappedRegion | None = None
        if correction is not None:
            if self._raw is not None:
                raise ValueError(f"camera {camera_id}, region {region.name}: only decoded frames can be corrected")
            try:
                self._mapped = MappedRegion(
                    self._shape,
                    correction,
                    axis(
                        column_places + region.x_px,
                        first_px=shown.origin_x_px + shown.step_x_px / 2 - 0.5,
                        step_px=shown.step_x_px,
                        frame_px=frame_format.width_px,
                        shift_max_px=shift_max_px[0],
                    ),
                    axis(
                        row_places + region.y_px,
                        first_px=shown.origin_y_px + shown.step_y_px / 2 - 0.5,
                        step_px=shown.step_y_px,
                        frame_px=frame_format.height_px,
                        shift_max_px=shift_max_px[1],
                    ),
                    mix,
                    offsets,
                    (left_px, top_px),
                )
            except ValueError as error:
                raise ValueError(f"camera {camera_id}, region {region.name}: {error}") from error

    def fill(
        self, pixels: npt.NDArray[np.uint8], out_row: npt.NDArray[Any], shift_px: tuple[int, int] = (0, 0)
    ) -> None:
        """Reads a frame's ``pixels`` in place and writes all of ``out_row``.

        ``out_row``: (channels, height, width) of the input's ``dtype``, C-contiguous; uint8 is rounded to the nearest
        grey level. ``shift_px``: x and y by which the region is moved in this frame. Raises WrongFrame where the frame is
        not as planned, or the moved region is not inside it; ValueError for a corrected region that is moved further than
        was planned.
        """
        if pixels.shape != self._shape:
            raise WrongFrame(f"camera {self._camera_id}: got a frame of shape {pixels.shape}, expected {self._shape}")
        if out_row.shape != self._row_shape:
            raise ValueError(f"row of the batch: got shape {out_row.shape}, expected {self._row_shape}")
        if out_row.dtype != self._dtype:
            raise TypeError(f"row of the batch: got {out_row.dtype}, expected {self._dtype}")
        try:
            flat, pitch = flat_rows(pixels)
        except ValueError as error:
            raise WrongFrame(f"camera {self._camera_id}: {error}") from error
        x_px, y_px = self._moved(shift_px)
        if self._is_bordered:
            fill_border(self._border_values, out_row, *self._border)
        if self._mapped is not None:
            self._mapped.fill(flat, pitch, out_row, shift_px)
            return
        if self._raw is not None:
            self._raw.fill(flat, pitch, self._tables, (x_px, y_px), *self._affine, out_row, *self._corner, *self._extra)
            return
        first = y_px * pitch + x_px * self._source_channels
        self._kernel(
            *(flat, pitch, *self._tables, first, self._line),
            *(*self._affine, out_row, *self._corner, *self._extra),
        )

    def _moved(self, shift_px: tuple[int, int]) -> tuple[int, int]:
        """Where the region's corner lies in this frame. Raises WrongFrame, ValueError."""
        region = self._region
        x_px, y_px = region.x_px + shift_px[0], region.y_px + shift_px[1]
        for axis_name, start, size, limit in (
            ("x", x_px, region.width_px, self._size[0]),
            ("y", y_px, region.height_px, self._size[1]),
        ):
            if start < 0 or start + size > limit:
                raise WrongFrame(
                    f"camera {self._camera_id}, region {region.name}: moved with the part it has {axis_name} from {start} to "
                    f"{start + size} px, expected inside the frame's {limit} px"
                )
        if self._mapped is not None and any(
            abs(shift) > most for shift, most in zip(shift_px, self._shift_max_px, strict=True)
        ):
            raise ValueError(f"shift: got {shift_px} px, expected at most {self._shift_max_px} px")
        return x_px, y_px


class _RawRegion:
    """A region of raw frames: what their kernel needs beside the tables. Its scratch is there from the start."""

    def __init__(self, region: Region, frame_format: FrameFormat, *, brightest: float) -> None:
        self._brightest = brightest
        self._pixel_format = frame_format.pixel_format
        self._width_px = region.width_px
        self._frame = (frame_format.width_px, frame_format.height_px)
        # Wherever the region is moved; and a pixel more, to the right of a region that is one pixel wide.
        count = region.width_px + 2 * self._pixel_format.group_px + 1
        self._lines = np.zeros((3, self._pixel_format.channel_count, count), np.float32)

    def fill(
        self,
        flat: npt.NDArray[np.uint8],
        pitch: int,
        tables: tuple[Any, ...],
        corner_px: tuple[int, int],
        *rest: Any,
    ) -> None:
        """Writes the region's rectangle of the row, ``corner_px`` being its place in this frame."""
        x_px, y_px = corner_px
        first_px, skip, count = whole_groups(self._pixel_format, x_px, self._width_px)
        raw_to_planes(
            *(LAYOUTS[self._pixel_format], flat, pitch, *self._frame, *tables),
            *(first_px, y_px, skip, count, self._brightest, self._lines, *rest),
        )


def _places(source_px: int, target_px: int, *, origin: float, step: float) -> npt.NDArray[np.float64]:
    """Where each target pixel's centre lies in the source, 0 being the centre of its first pixel; edges clamped.

    The first target pixel's left edge lies at ``origin``, and ``step`` source pixels are shown by one.
    """
    places: npt.NDArray[np.float64] = origin + (np.arange(target_px, dtype=np.float64) + 0.5) * step - 0.5
    return places.clip(0.0, source_px - 1)


def _neighbours(
    places: npt.NDArray[np.float64], source_px: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """For each place its lower source neighbour and the weight of the next one.

    The neighbour is never the last pixel (unless it is the only one), so that the next one always exists.
    """
    lower = np.minimum(np.floor(places).astype(np.int64), max(source_px - 2, 0))
    return lower, (places - lower).astype(np.float32)
