"""A camera that plays a video file, each frame at a trigger of its own."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import cv2

from pipeline.camera_config import VideoCamera
from pipeline.cameras.base import CameraEvent, CameraUnavailable, Grabbed, NotGrabbed, Triggered
from pipeline.cameras.opencv import Capture, FrameWriter, open_capture
from pipeline.clock import NS_PER_S, now_ns
from pipeline.ring import Slot

_RATE_MIN_HZ, _RATE_MAX_HZ = 0.01, 10_000.0
"""What a file says of its rate beyond these, it does not know."""


class VideoPlayer:
    """See ``pipeline.cameras.base.Camera``. frame_id counts the frames played, from 0. Opened again it goes on at the frame
    after the last one.
    """

    def __init__(self, config: VideoCamera) -> None:
        self._config = config
        self._writer = FrameWriter(config)
        self._slots: deque[Slot] = deque()
        self._capture: Capture | None = None
        self._trigger_counter = 0
        self._frame_in_file = 0
        self._is_over = False
        self._period_ns = 0
        self._due_ns: int | None = None

    def open(self) -> None:
        if self._is_over:
            return
        capture = self._opened()
        # What lies beyond the end of a file that was exchanged is found missing, and played from the start.
        if self._frame_in_file and not capture.set(cv2.CAP_PROP_POS_FRAMES, self._frame_in_file):
            self._frame_in_file = 0
        try:
            self._period_ns = self._period_of(capture)
        except CameraUnavailable:
            capture.release()
            raise
        self._capture = capture
        self._due_ns = now_ns() + self._period_ns

    def close(self) -> list[Slot]:
        self._due_ns = None
        if self._capture is not None:
            self._capture.release()
            self._capture = None
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
        if not self._step():
            self._due_ns = None
            return ()
        # A player that was held up goes on from now: it must not fire a burst of triggers.
        self._due_ns = max(self._due_ns + self._period_ns, now)
        counter = self._trigger_counter
        self._trigger_counter += 1
        return (Triggered(counter, None, now), self._grab(counter, now))

    def _opened(self) -> Capture:
        file = self._config.file
        if fault := _fault_of(file):
            raise self._unavailable(f"{file} {fault}")
        capture = open_capture(str(file), cv2.CAP_FFMPEG, {})
        if not capture.isOpened():
            raise self._unavailable(f"{file} is no video that OpenCV's FFmpeg can read")
        return capture

    def _period_of(self, capture: Capture) -> int:
        rate_hz = capture.get(cv2.CAP_PROP_FPS)
        if self._config.parts_per_min is not None:
            rate_hz = self._config.parts_per_min / 60
        elif not (math.isfinite(rate_hz) and _RATE_MIN_HZ <= rate_hz <= _RATE_MAX_HZ):
            raise self._unavailable(f"{self._config.file} does not say its frame rate: set parts_per_min")
        return int(NS_PER_S / rate_hz)

    def _step(self) -> bool:
        """On to the next frame, over the end where the video is a loop. Raises CameraUnavailable where it cannot be begun
        again.
        """
        assert self._capture is not None
        if self._capture.grab():
            self._frame_in_file += 1
            return True
        if not self._config.loop:
            self._is_over = True
            return False
        self._frame_in_file = 0
        self._capture.release()
        self._capture = self._opened()
        if not self._capture.grab():
            raise self._unavailable(f"{self._config.file} holds no frame that can be decoded")
        self._frame_in_file = 1
        return True

    def _grab(self, counter: int, trigger_ns: int) -> Grabbed | NotGrabbed:
        assert self._capture is not None
        if not self._slots:
            return NotGrabbed(counter, "REFUSED", "no free slot")
        fault = self._writer.write(self._capture, self._slots[0])
        if fault is not None:
            return NotGrabbed(counter, "BAD", f"{self._config.file.name}: {fault}")
        return Grabbed(counter, trigger_ns, self._slots.popleft(), self._writer.header(counter, trigger_ns, now_ns()))

    def _unavailable(self, text: str) -> CameraUnavailable:
        return CameraUnavailable(f"camera {self._config.camera_id}: {text}")


def _fault_of(file: Path) -> str:
    """What FFmpeg does not say, which would also wait for a pipe; empty where the file can be read."""
    try:
        if not file.is_file():
            return "is no file" if file.exists() else "is not there"
        with file.open("rb"):
            return ""
    except OSError as error:
        return f"cannot be read: {error.strerror}"
