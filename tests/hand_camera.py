"""A simulated camera worked by hand: each part is triggered when the test says so, with the grey level or picture it says."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.clock import now_ns
from pipeline.simulator.protocol import DeviceMessage, MessageKind, encode_frame_end, encode_header
from tests.tap import Tap
from vision.types import PixelFormat

SIZE_PX = 32


class HandCamera:
    """``config`` is what the line's ``cameras`` holds; ``wait_connected`` comes before the first part."""

    def __init__(self, folder: Path, camera_id: str = "cam0", size_px: tuple[int, int] = (SIZE_PX, SIZE_PX)) -> None:
        """``size_px``: of a frame, across and down."""
        address = folder / f"{camera_id}.sock"
        self.config: dict[str, Any] = {
            "camera_id": camera_id,
            "kind": "simulated",
            "address": str(address),
            "width_px": size_px[0],
            "height_px": size_px[1],
            "pixel_format": "Mono8",
        }
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(address))
        self._listener.listen(1)
        self._device: socket.socket | None = None
        self._count = 0

    def __enter__(self) -> HandCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device is not None:
            self._device.close()
        self._listener.close()

    def wait_connected(self) -> None:
        """Until acquisition has opened the camera."""
        if self._device is not None:
            self._device.close()
        self._listener.settimeout(60)
        self._device, _ = self._listener.accept()

    def trigger(self) -> DeviceMessage:
        """A part is at the camera now, and no frame comes of it."""
        assert self._device is not None
        self._count += 1
        trigger = DeviceMessage(MessageKind.TRIGGER, PixelFormat.MONO8, self._count, self._count, now_ns())
        self._device.sendall(encode_header(trigger))
        return trigger

    def part(self, grey: int, *, exposed_ago_ns: int = 0) -> int:
        """A part of this grey level passes the camera now; returns its encoder count."""
        pixels = np.full((self.config["height_px"], self.config["width_px"]), grey, np.uint8)
        return self.picture(pixels, exposed_ago_ns=exposed_ago_ns)

    def picture(self, pixels: npt.NDArray[np.uint8], *, exposed_ago_ns: int = 0) -> int:
        """A part that looks so, uint8 (height, width), passes the camera now; returns its encoder count."""
        trigger = self.trigger()
        assert self._device is not None
        height_px, width_px = pixels.shape
        frame = replace(
            trigger,
            kind=MessageKind.FRAME,
            frame_id=self._count,
            exposure_ns=trigger.trigger_ns - exposed_ago_ns,
            width=width_px,
            height=height_px,
            stride=width_px,
            payload_bytes=pixels.size,
        )
        self._device.sendall(encode_header(frame) + pixels.tobytes() + encode_frame_end(self._count))
        return self._count


def judge(camera: HandCamera, tap: Tap, *greys: int) -> list[tuple[str, str]]:
    """Send parts one after the other, each after the verdict on the one before; what was said of them."""
    said = []
    for grey in greys:
        before = len(tap.bodies("verdict"))
        camera.part(grey)
        tap.wait_until(lambda before=before: len(tap.bodies("verdict")) > before)  # type: ignore[misc]
        body = tap.bodies("verdict")[before]
        said.append((body["verdict"], body["reason"]))
    return said
