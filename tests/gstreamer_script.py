"""Run by the system's Python, whose OpenCV has GStreamer: SITE_PACKAGES, then a pipeline, width, height, pixel format and how
many frames; prints as JSON what became of each, and how it ended.
"""

import json
import select
import sys
from pathlib import Path
from typing import Any


def main() -> None:
    """Play one pipeline through the driver."""
    site_packages, pipeline, width, height, pixel_format, count = sys.argv[1:]
    # After the system's own: its OpenCV is the one with GStreamer.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(site_packages)
    import numpy as np

    from pipeline.camera_config import GstreamerCamera
    from pipeline.cameras.base import CameraUnavailable, Grabbed, NotGrabbed, StillConnecting
    from pipeline.cameras.gstreamer import GstreamerStream
    from pipeline.ring import Slot
    from vision.types import PixelFormat

    config = GstreamerCamera(
        camera_id="cam0",
        kind="gstreamer",
        pipeline=pipeline,
        width_px=int(width),
        height_px=int(height),
        pixel_format=PixelFormat(pixel_format),
    )
    camera = GstreamerStream(config)
    told: list[Any] = []
    end = ""
    try:
        while True:
            try:
                camera.open()
                break
            except StillConnecting:
                continue
        size = config.pixel_format.frame_bytes(int(width), int(height))
        for index in range(int(count)):
            camera.queue(Slot(index, 1, np.full(size, 0xEE, np.uint8)))
        while len(told) < int(count):
            descriptor = camera.fileno()
            assert descriptor is not None
            select.select([descriptor], [], [], 5)
            for event in camera.poll():
                if isinstance(event, Grabbed):
                    pixels = event.slot.pixels
                    told.append([event.header.frame_id, pixels[:3].tolist(), bool((pixels[3:] == pixels[:-3]).all())])
                elif isinstance(event, NotGrabbed):
                    told.append([event.outcome, event.text])
    except CameraUnavailable as error:
        end = str(error)
    camera.close()
    print(json.dumps({"told": told, "end": end}))


main()
