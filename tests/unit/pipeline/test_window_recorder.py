"""A window in a thread of its own: what waits is bounded, and what does not come into it is counted."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.clock import NS_PER_S, now_ns
from pipeline.messages import FrameKey, PartMade
from pipeline.payloads import encode
from pipeline.window.format import FrameFacts, WindowLimits
from pipeline.window.reader import WindowReader
from pipeline.window.recorder import WindowRecorder
from pipeline.window.writer import WindowWriter
from tests.unit.pipeline.test_payloads import RESULT
from tests.unit.pipeline.test_window import FACTS
from tests.windows import LIMITS, SESSION, WindowLine, write_window_line

PIXELS: npt.NDArray[np.uint8] = np.zeros((10, 64), np.uint8)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> WindowLine:
    folder = tmp_path_factory.mktemp("line")
    line = WindowLine(write_window_line(folder / "line"), folder / "window")
    line.close()
    return line


MakeRecorder = Callable[..., WindowRecorder]


@pytest.fixture
def make_recorder(line: WindowLine, tmp_path: Path) -> Iterator[MakeRecorder]:
    begun: list[WindowRecorder] = []

    def make(limits: WindowLimits = LIMITS, **changes: Any) -> WindowRecorder:
        given = {"settle_ns": 0, "parts_after_ns": 0, "memory_bytes": 1 << 20} | changes
        recorder = WindowRecorder(tmp_path / "recorded", line.facts, limits, line.line.recipe.model, None, **given)
        begun.append(recorder)
        return recorder

    yield make
    for recorder in begun:
        recorder.finish()
        wait_until(lambda recorder=recorder: recorder.is_done)  # type: ignore[misc]


def wait_until(holds: Callable[[], bool]) -> None:
    while not holds():
        threading.Event().wait(0.005)


def facts_of(number: int, trigger_ns: int) -> FrameFacts:
    return msgspec.structs.replace(FACTS, trigger_counter=number, trigger_ns=trigger_ns)


def part_of(number: int, trigger_ns: int) -> PartMade:
    result = msgspec.structs.replace(RESULT, session_id=SESSION, part_id=number, trigger_ns=trigger_ns)
    return PartMade((FrameKey("cam0", 1, number),), encode(result))


class Clock:
    """The recorder's, which goes on by itself and can be set forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead_ns = 0
        for module in ("recorder", "writer"):
            monkeypatch.setattr(f"pipeline.window.{module}.now_ns", self.now_ns)

    def now_ns(self) -> int:
        return now_ns() + self._ahead_ns

    def sleep(self, seconds: float) -> None:
        self._ahead_ns += int(seconds * NS_PER_S)


class Stall:
    """Holds the writer's thread at its next frame."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_held = threading.Event()
        self.go_on = threading.Event()
        add_frame = WindowWriter.add_frame

        def held(writer: WindowWriter, frame: FrameFacts, pixels: npt.NDArray[np.uint8]) -> bool:
            self.is_held.set()
            self.go_on.wait()
            return add_frame(writer, frame, pixels)

        monkeypatch.setattr(WindowWriter, "add_frame", held)


def test_what_waits_when_it_closes_is_in_it(make_recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, stall = Clock(monkeypatch), Stall(monkeypatch)
    recorder = make_recorder(msgspec.structs.replace(LIMITS, max_s=3_600.0))
    recorder.start()
    wait_until(lambda: recorder.until_ns is not None)
    moment_ns = now_ns()
    for number in range(1, 6):
        recorder.frame(facts_of(number, moment_ns), PIXELS)
        recorder.part(part_of(number, moment_ns))
    clock.sleep(3_600.0)
    stall.go_on.set()
    wait_until(lambda: recorder.is_done)
    reader = WindowReader(recorder.folder)
    assert (len(reader.frames), len(reader.part_ids)) == (5, 5)
    assert (recorder.frame_count, recorder.part_count, recorder.lost_count, recorder.fault) == (5, 5, 0, "")


def test_parts_and_frames_that_wait_are_bounded(make_recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.window.recorder._PARTS_BYTES", 20_000)
    stall = Stall(monkeypatch)
    recorder = make_recorder(memory_bytes=3 * PIXELS.nbytes)
    recorder.start()
    wait_until(lambda: recorder.until_ns is not None)
    moment_ns = now_ns()
    recorder.frame(facts_of(1, moment_ns), PIXELS)
    stall.is_held.wait()
    for number in range(2, 102):
        recorder.frame(facts_of(number, moment_ns), PIXELS)
        recorder.part(part_of(number, moment_ns))
    recorder.lose_without_slot(7)
    assert recorder.lost_count == 98
    assert 80 < recorder.parts_lost_count < 100
    stall.go_on.set()
    recorder.finish()
    wait_until(lambda: recorder.is_done)
    reader = WindowReader(recorder.folder)
    assert reader.frames_lost == {"memory": 98, "slot": 7}
    assert len(reader.part_ids) + reader.parts_lost["memory"] == 100
    assert recorder.lost_count == 98


def test_nothing_is_taken_long_after_its_end(make_recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even though its writer still hangs on its disk."""
    clock, stall = Clock(monkeypatch), Stall(monkeypatch)
    recorder = make_recorder(msgspec.structs.replace(LIMITS, max_s=3_600.0))
    recorder.start()
    wait_until(lambda: recorder.until_ns is not None)
    assert recorder.until_ns is not None
    recorder.frame(facts_of(1, recorder.until_ns - 1), PIXELS)
    clock.sleep(3_600.0)
    for number in range(2, 1_000):
        recorder.part(part_of(number, clock.now_ns()))
    stall.go_on.set()
    wait_until(lambda: recorder.is_done)
    assert (recorder.part_count, recorder.parts_lost_count) == (0, 0)
    assert recorder.frame_count == 1


def test_what_waits_at_a_stop_is_counted(make_recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    stall = Stall(monkeypatch)
    recorder = make_recorder()
    recorder.start()
    wait_until(lambda: recorder.until_ns is not None)
    for number in range(1, 4):
        recorder.frame(facts_of(number, now_ns()), PIXELS)
        recorder.part(part_of(number, now_ns()))
    stall.is_held.wait()
    recorder.abandon()
    assert (recorder.lost_count, recorder.parts_lost_count) == (3, 3)
    assert "3 frames and 3 parts were waiting" in recorder.fault
    stall.go_on.set()


@pytest.mark.parametrize(
    ("limits", "by"),
    [
        (WindowLimits(max_s=60, max_bytes=1, free_min_bytes=0), "1 bytes are full"),
        (WindowLimits(max_s=60, max_bytes=1 << 30, free_min_bytes=1 << 60), "stay free"),
    ],
)
def test_one_that_ends_early_says_so_and_wants_no_more(
    make_recorder: MakeRecorder, limits: WindowLimits, by: str
) -> None:
    recorder = make_recorder(limits, settle_ns=1)
    recorder.start()
    wait_until(lambda: recorder.until_ns is not None)
    recorder.frame(facts_of(1, now_ns()), PIXELS)
    wait_until(lambda: recorder.is_done)
    assert by in recorder.fault
    assert recorder.until_ns is not None
    assert recorder.until_ns < now_ns() + NS_PER_S
    assert recorder.lost_count == 1


def test_a_disk_that_fails_loses_parts_too(make_recorder: MakeRecorder, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = make_recorder()
    recorder.start()
    wait_until(lambda: recorder.until_ns is not None)
    with monkeypatch.context() as patched:

        def fails(*_: object) -> int:
            raise OSError(28, os.strerror(28))

        patched.setattr(os, "writev", fails)
        moment_ns = now_ns()
        recorder.part(part_of(1, moment_ns))
        recorder.part(part_of(2, moment_ns))
        wait_until(lambda: recorder.parts_lost_count == 2)
        wait_until(lambda: recorder.is_done)
    assert "No space left on device" in recorder.fault
