"""A simulated camera worked by hand: each part is triggered when the test says so, with the grey level it says."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

from pipeline.clock import now_ns
from pipeline.simulator.protocol import DeviceMessage, MessageKind, encode_frame_end, encode_header
from tests.tap import Tap
from vision.types import PixelFormat

SIZE_PX = 32


class HandCamera:
    """``config`` is what the line's ``cameras`` holds; ``wait_connected`` comes before the first part."""

    def __init__(self, folder: Path, camera_id: str = "cam0") -> None:
        address = folder / f"{camera_id}.sock"
        self.config: dict[str, Any] = {
            "camera_id": camera_id,
            "kind": "simulated",
            "address": str(address),
            "width_px": SIZE_PX,
            "height_px": SIZE_PX,
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

    def part(self, grey: int) -> int:
        """A part passes the camera now; returns its encoder count."""
        trigger = self.trigger()
        assert self._device is not None
        frame = replace(
            trigger,
            kind=MessageKind.FRAME,
            frame_id=self._count,
            width=SIZE_PX,
            height=SIZE_PX,
            stride=SIZE_PX,
            payload_bytes=SIZE_PX * SIZE_PX,
        )
        pixels = bytes([grey]) * (SIZE_PX * SIZE_PX)
        self._device.sendall(encode_header(frame) + pixels + encode_frame_end(self._count))
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
