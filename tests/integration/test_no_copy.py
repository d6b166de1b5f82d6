"""Between driver and batch row the pixels are never copied: the same bytes at every station."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import numpy as np

from pipeline.camera_config import SimulatedCamera
from pipeline.cameras.base import Grabbed, Triggered
from pipeline.cameras.simulated import SimulatorCamera
from pipeline.ring import PAGE_BYTES, Ring, RingReader
from pipeline.simulator.protocol import DeviceMessage, MessageKind, encode_frame_end, encode_header
from vision.kernels import flat_rows
from vision.model_input import ModelInput
from vision.preprocess import FrameFormat, RegionPlan
from vision.recipe import Region
from vision.types import PixelFormat

SIDE_PX = 64
SENTINEL = 251


def device_sends(device: socket.socket, pixels: bytes) -> None:
    for kind, size in ((MessageKind.TRIGGER, 0), (MessageKind.FRAME, len(pixels))):
        side = SIDE_PX if size else 0
        message = DeviceMessage(
            kind, PixelFormat.MONO8, 1, 7, 1, frame_id=1, width=side, height=side, stride=side, payload_bytes=size
        )
        device.sendall(encode_header(message))
    device.sendall(pixels + encode_frame_end(1))


def test_the_same_bytes_from_driver_to_batch_row(tmp_socket_dir: Path) -> None:
    address = tmp_socket_dir / "camera.sock"
    config = SimulatedCamera(
        camera_id="cam0",
        kind="simulated",
        address=address,
        width_px=SIDE_PX,
        height_px=SIDE_PX,
        pixel_format=PixelFormat.MONO8,
    )
    ring = Ring("cam0", 2, SIDE_PX * SIDE_PX)
    reader = RingReader("cam0", os.dup(ring.descriptor), 2, SIDE_PX * SIDE_PX)
    camera = SimulatorCamera(config)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(address))
        listener.listen(1)
        slot = ring.loan()
        assert slot is not None
        camera.queue(slot)
        camera.open()
        device, _ = listener.accept()
        with device:
            device_sends(device, bytes(range(256)) * (SIDE_PX * SIDE_PX // 256))
            events = camera.poll()
        assert camera.close() == []
    trigger, grabbed = events
    assert isinstance(trigger, Triggered)
    assert isinstance(grabbed, Grabbed)
    # The driver wrote into the slot that it was given, on a page of its own.
    assert grabbed.slot is slot
    assert slot.pixels.ctypes.data % PAGE_BYTES == 0
    assert slot.pixels[255] == 255
    ring.publish(slot, grabbed.header, reader=1)

    # The reader, with a mapping of its own as in another process, sees the same memory ...
    frame = reader.borrow(slot.index, slot.generation)
    assert not frame.pixels.flags.owndata
    slot.pixels[5] = SENTINEL
    assert frame.pixels[0, 5] == SENTINEL

    # ... and the kernel is given that very address: what the owner writes now is in the row it fills.
    flat, pitch = flat_rows(frame.pixels)
    assert flat.ctypes.data == frame.pixels.ctypes.data
    assert pitch == SIDE_PX
    model_input = ModelInput.model_validate(
        {
            "name": "image",
            "width_px": SIDE_PX,
            "height_px": SIDE_PX,
            "colour_order": "GRAY",
            "layout": "NCHW",
            "scale": 1.0,
            "mean": [0.0],
            "std": [1.0],
            "fit": "stretch",
        }
    )
    region = Region(name="all", x_px=0, y_px=0, width_px=SIDE_PX, height_px=SIDE_PX)
    plan = RegionPlan("cam0", region, FrameFormat(SIDE_PX, SIDE_PX, PixelFormat.MONO8), model_input)
    row = np.zeros((1, SIDE_PX, SIDE_PX), np.float32)
    slot.pixels[9] = SENTINEL - 1
    plan.fill(frame.pixels, row)
    assert row[0, 0, 5] == SENTINEL
    assert row[0, 0, 9] == SENTINEL - 1
    ring.close()
