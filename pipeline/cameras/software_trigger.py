"""Software triggers: a thread waits until the camera is ready for one and then tells it to take its picture.

A camera that is told while it is still busy forgets it without a word. So it is asked first, and what it was not ready for in
time is not fired, and said. Nobody who fires waits.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Protocol

from pipeline.cameras.base import CameraUnavailable
from pipeline.clock import NS_PER_S, NS_PER_US, now_ns

_STEP_S = 0.000_5
_FIRED_REMEMBERED = 1_000
"""For whoever asks: where each frame tells by itself that it was fired nobody does, for months."""


@dataclass(frozen=True, slots=True)
class Fired:
    """What became of one ``fire``. ``fired_ns``: when the camera was told; None where it was not, and ``text`` says why."""

    number: int
    fired_ns: int | None
    text: str = ""


class Triggerable(Protocol):
    """The device's side. Both may take as long as the device takes to answer, and raise CameraUnavailable."""

    def is_ready_for_trigger(self) -> bool: ...
    def trigger(self) -> None: ...


class SoftwareTrigger:
    """Fires one after the other, until ``end``. ``tell`` is called from its thread when there is something in ``fired``."""

    def __init__(self, device: Triggerable, timeout_us: int, tell: Callable[[], None], name: str) -> None:
        self._device = device
        self._timeout_us = timeout_us
        self._tell = tell
        self._asked: SimpleQueue[tuple[int, int] | None] = SimpleQueue()
        self._fired: deque[Fired] = deque(maxlen=_FIRED_REMEMBERED)
        self._is_ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def fire(self, number: int) -> None:
        """Waits for nothing."""
        self._asked.put((number, now_ns()))

    def fired(self) -> list[Fired]:
        """What became of what was fired since the last call, in order; of the last thousand."""
        done = []
        while self._fired:
            done.append(self._fired.popleft())
        return done

    def end(self) -> None:
        """Fires nothing any more. Waits for what the device is being told."""
        self._is_ending.set()
        self._asked.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None and not self._is_ending.is_set():
            self._fired.append(self._fire(*asked))
            self._tell()

    def _fire(self, number: int, asked_ns: int) -> Fired:
        give_up_ns = asked_ns + self._timeout_us * NS_PER_US
        try:
            while not self._device.is_ready_for_trigger():
                if now_ns() >= give_up_ns or self._is_ending.is_set():
                    break
                time.sleep(min(_STEP_S, max(0, give_up_ns - now_ns()) / NS_PER_S))
            else:
                # It may have been ready too late, or waited for the ones before it.
                if (fired_ns := now_ns()) <= give_up_ns:
                    self._device.trigger()
                    return Fired(number, fired_ns)
        except CameraUnavailable as error:
            return Fired(number, None, str(error))
        return Fired(number, None, f"not ready for a trigger within {self._timeout_us} us")
