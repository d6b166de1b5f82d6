"""A look at a Basler camera through pypylon, as a line's configuration sets it up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.camera_config import PylonCamera
from pipeline.cameras.base import CameraUnavailable
from pipeline.cameras.looking import Look
from pipeline.cameras.pylon import missing
from pipeline.clock import NS_PER_S


@contextmanager
def configured(config: PylonCamera) -> Iterator[Look]:
    """Opened and set up as acquisition does it, and not started. Raises CameraUnavailable."""
    if (text := missing()) is not None:
        raise CameraUnavailable(f"camera {config.camera_id}: {text}")
    from pipeline.cameras.pylon_device import PylonDevice

    device = PylonDevice(config, lambda: None)
    try:
        clock = (
            "cannot be asked; time stamps are put in place by when frames come"
            if device.clock_asked is None
            else f"{device.clock_asked.device_ns / NS_PER_S:.6f} s by the camera's own"
        )
        yield Look(device.features, {"frame": f"{device.payload_bytes} bytes", "clock": clock})
    finally:
        device.stop()
        device.close()
