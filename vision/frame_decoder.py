"""Raw frames decoded into memory that is there from the start, for what reads pictures: see ``vision.kernels.raw``."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from vision.kernels import flat_rows
from vision.kernels.raw import decode
from vision.preprocess import FrameFormat, WrongFrame
from vision.raw import LAYOUTS, whole_groups
from vision.view_calibration import ViewCalibration


class SeenFrames:
    """One camera's frames as its regions and its locator read them. Not for several threads at once.

    Raw frames are read as they are where nothing is calibrated; else they are decoded first, to 8 bit, once a frame. ``format``:
    what comes out of ``of``.
    """

    def __init__(
        self, camera_id: str, frame_format: FrameFormat, calibration: ViewCalibration, *, as_picture: bool = False
    ) -> None:
        """``as_picture``: decoded in any case."""
        is_calibrated = calibration.correction() is not None or calibration.registration is not None
        self._decoder: FrameDecoder | None = None
        self.format = frame_format
        if (is_calibrated or as_picture) and frame_format.pixel_format.is_raw:
            self._decoder = FrameDecoder(camera_id, frame_format)
            self.format = frame_format.decoded

    def of(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """A frame's ``pixels``, or what they are decoded: as good as they are until the next frame. Raises WrongFrame."""
        return pixels if self._decoder is None else self._decoder.decode(pixels)


class FrameDecoder:
    """Decodes a rectangle of one camera's frames. Not for several threads at once."""

    def __init__(
        self,
        camera_id: str,
        frame_format: FrameFormat,
        *,
        x_px: int = 0,
        y_px: int = 0,
        width_px: int | None = None,
        height_px: int | None = None,
    ) -> None:
        """``frame_format``: a raw one; the rectangle, the whole frame unless said otherwise, must lie inside it."""
        size = (
            frame_format.height_px if height_px is None else height_px,
            frame_format.width_px if width_px is None else width_px,
        )
        channels = frame_format.pixel_format.channel_count
        self._camera_id = camera_id
        self._shape = frame_format.shape
        self._layout = LAYOUTS[frame_format.pixel_format]
        first_px, skip, count = whole_groups(frame_format.pixel_format, x_px, size[1])
        self._where = (frame_format.width_px, frame_format.height_px, first_px, y_px, skip, count)
        self._line = np.zeros((channels, count), np.float32)
        self._out = np.zeros((*size, channels), np.uint8)
        self._picture = self._out[:, :, 0] if channels == 1 else self._out

    def decode(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """The rectangle of a frame's ``pixels`` as a picture: uint8 (height, width) or (height, width, 3), blue first.

        It is the same memory each time: of the frame that was given last. Raises WrongFrame where the frame is not as planned.
        """
        if pixels.shape != self._shape:
            raise WrongFrame(f"camera {self._camera_id}: got a frame of shape {pixels.shape}, expected {self._shape}")
        try:
            flat, pitch = flat_rows(pixels)
        except ValueError as error:
            raise WrongFrame(f"camera {self._camera_id}: {error}") from error
        decode(self._layout, flat, pitch, *self._where, self._line, 1, self._out)
        return self._picture
