"""In the place of cv2.VideoCapture and the device behind it, where there is none: frames come when the test says so.

It behaves as the real one was seen to: ``grab`` blocks, ``retrieve`` writes in place where shape and type fit and else
returns an array of its own.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Image = npt.NDArray[Any]


class StandInDevice:
    """Pass ``open`` to a driver as its ``capture``. ``allowed`` brings a setting to what the device can."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.is_present = True
        self.is_answering = True
        """A device that is not is waited for by whoever opens it."""
        self.settings: dict[int, float] = {cv2.CAP_PROP_FPS: 10.0}
        self.kept_count = 0
        """Frames that lie ready when it is opened, and one more right after them."""
        self.allowed: Callable[[int, float], float] = lambda _, value: value
        self.asked: list[tuple[str, int, dict[int, int]]] = []
        self.waiting_count = 0
        """Captures that wait in ``grab``."""
        self.retrieving: threading.Event | None = None
        """Where there is one, ``retrieve`` waits for it."""
        self.capture: StandInCapture | None = None

    def open(self, source: str, backend: int, settings: Mapping[int, int], ffmpeg_options: str = "") -> StandInCapture:
        self.asked.append((source, backend, dict(settings)))
        with self.changed:
            self.changed.wait_for(lambda: self.is_answering)
            self.capture = StandInCapture(self, is_opened=self.is_present)
            return self.capture

    def show(self, image: Image) -> None:
        """The next frame."""
        assert self.capture is not None
        with self.changed:
            self.capture.frames.append(image)
            self.changed.notify_all()

    def hang_up(self) -> None:
        """Whoever waits for a frame gets none any more."""
        with self.changed:
            if self.capture is not None:
                self.capture.is_over = True
            self.changed.notify_all()

    def lose(self) -> None:
        self.is_present = False
        self.hang_up()

    def restore(self) -> None:
        self.is_present = True

    def answer(self) -> None:
        with self.changed:
            self.is_answering = True
            self.changed.notify_all()


class StandInCapture:
    def __init__(self, device: StandInDevice, *, is_opened: bool) -> None:
        self._device = device
        self._is_opened = is_opened
        self._frame: Image | None = None
        self._kept_count = device.kept_count
        self._is_one_coming = device.kept_count > 0
        self.frames: deque[Image] = deque()
        self.is_over = False
        self.is_released = False

    def isOpened(self) -> bool:  # noqa: N802
        return self._is_opened

    def grab(self) -> bool:
        device = self._device
        if self._kept_count:
            self._kept_count -= 1
            return True
        if self._is_one_coming:
            self._is_one_coming = False
            time.sleep(0.06)  # more than half a period
            return True
        with device.changed:
            device.waiting_count += 1
            device.changed.notify_all()
            device.changed.wait_for(lambda: self.frames or self.is_over)
            device.waiting_count -= 1
            if not self.frames:
                return False
            self._frame = self.frames.popleft()
            return True

    def retrieve(self, image: Image) -> tuple[bool, Any]:
        assert self._frame is not None
        if self._device.retrieving is not None:
            self._device.retrieving.wait()
        if image.shape != self._frame.shape or image.dtype != self._frame.dtype:
            return True, self._frame.copy()
        image[:] = self._frame
        return True, image

    def get(self, setting: int) -> float:
        return self._device.settings.get(setting, 0.0)

    def set(self, setting: int, value: float) -> bool:
        self._device.settings[setting] = self._device.allowed(setting, value)
        return True

    def release(self) -> None:
        self.is_released = True


def delivered(image: npt.NDArray[np.uint8], *, is_rgb: bool) -> npt.NDArray[np.uint8]:
    """What OpenCV delivers of a picture, BGR (height, width, 3): uint8 (height, width), or (height, width, 3) of which
    ``is_rgb`` says the order.
    """
    if image.ndim == 2:
        return np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    return np.ascontiguousarray(image[:, :, ::-1]) if is_rgb else image
