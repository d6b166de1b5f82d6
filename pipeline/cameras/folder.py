"""A camera that plays the images of a folder, each at a trigger of its own."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from pathlib import Path

from pipeline.camera_config import FolderCamera
from pipeline.cameras.base import CameraEvent, CameraUnavailable, Grabbed, NotGrabbed, Triggered
from pipeline.clock import NS_PER_S, now_ns
from pipeline.config_places import IMAGE_SUFFIXES
from pipeline.image_reading import read_picture
from pipeline.ring import Slot, SlotHeader
from vision.raw_picture import raw_pixels


class FolderPlayer:
    """See ``pipeline.cameras.base.Camera``. frame_id is the image's place in the playing order, from 0."""

    def __init__(self, config: FolderCamera) -> None:
        self._config = config
        self._slots: deque[Slot] = deque()
        self._files: list[Path] = []
        self._period_ns = int(60 * NS_PER_S / config.parts_per_min)
        self._trigger_counter = 0
        self._due_ns: int | None = None

    def open(self) -> None:
        folder = self._config.folder
        try:
            files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES)
        except OSError as error:
            raise CameraUnavailable(f"camera {self._config.camera_id}: {folder}: {error.strerror}") from error
        if not files:
            raise CameraUnavailable(f"camera {self._config.camera_id}: {folder} holds no image")
        if self._config.order == "shuffled":
            random.Random(self._config.seed).shuffle(files)
        self._files = files
        if self._config.loop or self._trigger_counter < len(files):
            self._due_ns = now_ns() + self._period_ns

    def close(self) -> list[Slot]:
        self._due_ns = None
        unfilled = list(self._slots)
        self._slots.clear()
        return unfilled

    def queue(self, slot: Slot) -> None:
        self._slots.append(slot)

    def fileno(self) -> int | None:
        return None

    def due_ns(self) -> int | None:
        return self._due_ns

    def poll(self) -> Sequence[CameraEvent]:
        now = now_ns()
        if self._due_ns is None or now < self._due_ns:
            return ()
        # A player that was held up goes on from now: it must not fire a burst of triggers.
        self._due_ns = max(self._due_ns + self._period_ns, now)
        counter = self._trigger_counter
        self._trigger_counter += 1
        if not self._config.loop and self._trigger_counter >= len(self._files):
            self._due_ns = None
        triggered = Triggered(counter, None, now)
        return (triggered, self._grab(counter, self._files[counter % len(self._files)], now))

    def _grab(self, counter: int, file: Path, trigger_ns: int) -> Grabbed | NotGrabbed:
        if not self._slots:
            return NotGrabbed(counter, "REFUSED", "no free slot")
        pixel_format = self._config.pixel_format
        picture = read_picture(file, pixel_format)
        if picture is None:
            depth = "8 or 16" if pixel_format.bit_depth > 8 else "8"
            return NotGrabbed(counter, "BAD", f"{file.name} is no whole image of {depth} bit a channel")
        height, width = picture.shape[:2]
        if (width, height) != (self._config.width_px, self._config.height_px):
            expected = f"{self._config.width_px}x{self._config.height_px}"
            return NotGrabbed(counter, "BAD", f"{file.name} is {width}x{height} pixels, expected {expected}")
        image = raw_pixels(picture, pixel_format)
        slot = self._slots.popleft()
        slot.pixels[: image.size] = image.reshape(-1)
        header = SlotHeader(
            frame_id=counter,
            encoder_count=None,
            exposure_ns=trigger_ns,
            grabbed_ns=now_ns(),
            width_px=width,
            height_px=height,
            stride_bytes=image.size // height,
            pixel_format=pixel_format,
        )
        return Grabbed(counter, trigger_ns, slot, header)
