"""The images worker by itself: frames and names come, files are made."""

from __future__ import annotations

import contextlib
import hashlib
import json
import select
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import msgspec
import numpy as np
import pytest

from pipeline.channel import Link, link_pair
from pipeline.config import load_line
from pipeline.config_sections import ImagesConfig
from pipeline.image_names import ImageName, read_name
from pipeline.image_room import Room
from pipeline.image_writer import ImageWriter
from pipeline.images import Images
from pipeline.messages import (
    Alarm,
    Alive,
    AnyMessage,
    Configure,
    Connect,
    FrameKey,
    Halt,
    ImageTicket,
    PartMade,
    RecordWindow,
    Release,
    RingOffer,
    Stop,
    WindowClosed,
    WindowSpan,
)
from pipeline.payloads import encode
from pipeline.ring import Ring, SlotHeader
from pipeline.window.reader import WindowReader
from pipeline.worker import Supervised
from tests.service import write_line
from tests.unit.pipeline.test_payloads import RESULT
from vision.package import load_package
from vision.types import PixelFormat

SIDE_PX = 32
SLOTS = 4


class World:
    """Supervisor, acquisition and records around one images worker, which runs in a thread."""

    def __init__(self, folder: Path, *, recording: dict[str, Any] | None = None, **images: Any) -> None:
        self.path = folder / "kept"
        also = {} if recording is None else {"recording": recording}
        line = load_line(write_line(folder, 1, images={"path": "kept", "free_min_gib": 0.0, **images}, **also))
        self.theirs, self.supervisor = (Link(end) for end in link_pair())
        self.ring = Ring("cam0", SLOTS, SIDE_PX * SIDE_PX)
        self.worker = Images(Supervised(self.theirs, Configure("images", 1, "s", "", None, 0, Halt(), True), line))
        self.acquisition = self._connect(Connect("acquisition", 1, "cam0"))
        self.records = self._connect(Connect("records", 1, None))
        self.acquisition.send(RingOffer("cam0", 1, SLOTS, SIDE_PX * SIDE_PX), (self.ring.descriptor,))
        self.thread = threading.Thread(target=self.worker.run)
        self.thread.start()
        self.heard: list[Alarm] = []
        self.counters: dict[str, int] = {}

    def _connect(self, message: Connect) -> Link:
        one, other = link_pair()
        with other:
            self.supervisor.send(message, (other.fileno(),))
        return Link(one)

    def frame(self, number: int, *, unless_passed: bool = False) -> None:
        """Lend a frame, as soon as there is a slot."""
        while (slot := self.ring.loan()) is None:
            self._take_releases()
        slot.pixels[:] = number % 251
        self.ring.publish(
            slot, SlotHeader(number, None, 0, 0, SIDE_PX, SIDE_PX, SIDE_PX, PixelFormat.MONO8), reader="images"
        )
        ticket = ImageTicket("cam0", 1, slot.index, slot.generation, number, unless_passed, False, None, 0, 0, None)
        self.acquisition.send(ticket)

    def _take_releases(self) -> None:
        assert select.select([self.acquisition], [], [], 30)[0], "no slot came back"
        for message in self.acquisition.drain():
            assert isinstance(message, Release)
            self.ring.release(message.slot, message.generation, reader="images")

    def all_slots_back(self) -> None:
        while self.ring.free_count < SLOTS:
            self._take_releases()

    def name(self, number: int, verdict: str = "REJECT") -> None:
        ref = f"2026-01-31/abc/{number:08d}"
        result = msgspec.structs.replace(RESULT, part_id=number, verdict=verdict, image_ref=ref)
        self.records.send(PartMade((FrameKey("cam0", 1, number),), encode(result)))

    def listen(self, until: Callable[[], bool]) -> None:
        """What the supervisor hears, until something holds."""
        while not until():
            assert select.select([self.supervisor], [], [], 30)[0], "nothing more was heard"
            for message in self.supervisor.drain():
                if isinstance(message, Alarm):
                    self.heard.append(message)
                elif isinstance(message, Alive):
                    self.counters = message.counters

    def stop(self) -> dict[str, int]:
        self.records.close()
        self.supervisor.send(Stop())
        self.thread.join()
        for message in self.supervisor.drain():
            if isinstance(message, Alive):
                self.counters = message.counters
        return self.counters

    def close(self) -> None:
        if self.thread.is_alive():
            self.stop()
        # It waits for its disk no longer than it may; a test's disk goes on at last.
        for thread in threading.enumerate():
            if thread.name in ("image-writer", "window-recorder"):
                thread.join(30)
        for camera in self.worker.cameras.values():
            camera.link.close()
        for link in (self.theirs, self.supervisor, self.acquisition, self.records):
            link.close()
        self.ring.close()


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    with contextlib.ExitStack() as worlds:

        def make(**images: Any) -> World:
            world = World(tmp_path, **images)
            worlds.callback(world.close)
            return world

        yield make


def pictures(path: Path) -> dict[str, int]:
    """By name, the grey level of each picture that is no thumbnail."""
    found = {}
    for file in path.rglob("*.png"):
        picture = np.asarray(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
        assert picture.shape == (SIDE_PX, SIDE_PX)
        assert (picture == picture[0, 0]).all()
        found[file.name] = int(picture[0, 0])
    return found


def test_frames_become_files_named_by_their_part(make_world: Callable[..., World]) -> None:
    world = make_world()
    for number in range(1, 41):
        if number % 2:
            world.frame(number)
            world.name(number)
        else:
            world.name(number)
            world.frame(number)
    world.all_slots_back()
    world.listen(lambda: world.counters.get("images_kept") == 40)
    counters = world.stop()
    assert pictures(world.path) == {f"{number:08d}-REJECT-cam0.png": number for number in range(1, 41)}
    assert len(list(world.path.rglob("*~thumb.jpg"))) == 40
    assert counters == {"images_kept": 40, "images_dropped": 0, "images_pruned": 0}


def test_what_passed_and_was_only_kept_in_case_is_no_file(make_world: Callable[..., World]) -> None:
    world = make_world(thumbnail_px=None)
    world.frame(1, unless_passed=True)
    world.frame(2, unless_passed=True)
    world.frame(3)
    for number, verdict in ((1, "PASS"), (2, "NO_DECISION"), (3, "PASS")):
        world.name(number, verdict)
    world.all_slots_back()
    world.listen(lambda: world.counters.get("images_kept") == 2)
    counters = world.stop()
    assert pictures(world.path) == {"00000002-NO_DECISION-cam0.png": 2, "00000003-PASS-cam0.png": 3}
    assert not list(world.path.rglob("*~thumb.jpg"))
    assert counters["images_dropped"] == 0


def test_a_folder_that_cannot_be_had_is_an_alarm_and_waited_for(
    make_world: Callable[..., World], tmp_path: Path
) -> None:
    (tmp_path / "disk").touch()
    world = make_world(path="disk/kept")
    for number in range(1, 4):
        world.frame(number)
        world.name(number)
    world.all_slots_back()
    world.listen(lambda: any(alarm.code == "images" and alarm.raised for alarm in world.heard))
    (tmp_path / "disk").unlink()
    world.listen(lambda: world.heard[-1].code == "images" and not world.heard[-1].raised)
    world.listen(lambda: world.counters.get("images_kept") == 3)
    assert len(pictures(tmp_path / "disk")) == 3
    assert "images.path" in world.heard[0].text


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_writer_that_dies_ends_the_process(make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("pipeline.image_store.ImageStore.write", die)
    world = make_world()
    world.frame(1)
    world.name(1)
    world.thread.join(30)
    assert not world.thread.is_alive(), "it goes on without its writer"
    assert world.worker.lost_thread == "image-writer"
    assert world.stop() == {"images_kept": 0, "images_dropped": 1, "images_pruned": 0}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_recorder_that_dies_ends_the_process(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object, **__: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr("pipeline.window.recorder.WindowWriter", die)
    world = make_world(recording={"path": "windows"})
    world.supervisor.send(RecordWindow(1.0, "", "{}", ""))
    world.thread.join(30)
    assert not world.thread.is_alive(), "it goes on without its recorder"
    assert world.worker.lost_thread == "window-recorder"


def test_a_large_folder_of_former_days_is_no_disk_that_stands_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes to count it: what is waited for is the disk's next answer."""
    folder = tmp_path / "2026-01-30" / "abc"
    folder.mkdir(parents=True)
    for number in range(1, 101):
        (folder / f"{number:08d}-PASS-cam0.png").touch()
    writer = ImageWriter(ImagesConfig(path=tmp_path), None, Room(1), threading.Condition())
    since: list[int | None] = []
    counted = threading.Event()

    def read(name: str) -> ImageName | None:
        since.append(writer.busy_since_ns)
        if len(since) == 100:
            counted.set()
        return read_name(name)

    monkeypatch.setattr("pipeline.image_store.read_name", read)
    writer.start()
    assert counted.wait(30)
    writer.end(30)
    assert None not in since
    assert len(set(since)) == 100, "one answer a file"


def test_a_disk_that_stands_still_costs_the_oldest_pictures_and_no_slot(
    make_world: Callable[..., World], monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def stall(*_: object) -> None:
        goes_on.wait()

    monkeypatch.setattr("pipeline.image_store.ImageStore.open", stall)
    monkeypatch.setattr("pipeline.images._SLOW_NS", 1)
    world = make_world(memory_mib=1)
    room_for = (1 << 20) // (SIDE_PX * SIDE_PX)
    try:
        for number in range(1, room_for + 11):
            world.frame(number)
            world.name(number)
        world.all_slots_back()
        world.listen(lambda: world.counters.get("images_dropped", 0) >= 10)
        world.listen(lambda: any(alarm.code == "images" for alarm in world.heard))
        assert "has not answered" in next(alarm.text for alarm in world.heard if alarm.code == "images")
    finally:
        goes_on.set()


# --- windows -------------------------------------------------------------------------------------------------------


class WindowWorld(World):
    """One that records."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, recording={"path": "windows", "free_min_gib": 0.0})
        self.said: list[AnyMessage] = []

    def record(self, duration_s: float, model_sha256: str) -> None:
        fingerprint = {"onnxruntime": "1"}
        text = json.dumps(fingerprint, sort_keys=True)
        self.supervisor.send(RecordWindow(duration_s, model_sha256, text, hashlib.sha256(text.encode()).hexdigest()))

    def hear(self, until: Callable[[], bool]) -> None:
        while not until():
            assert select.select([self.supervisor], [], [], 30)[0], "nothing more was heard"
            self.said += self.supervisor.drain()

    def heard_of(self, kind: type[AnyMessage]) -> list[AnyMessage]:
        return [message for message in self.said if isinstance(message, kind)]


@pytest.fixture
def make_recording(tmp_path: Path) -> Iterator[Callable[[], WindowWorld]]:
    with contextlib.ExitStack() as worlds:

        def make() -> WindowWorld:
            world = WindowWorld(tmp_path)
            worlds.callback(world.close)
            return world

        yield make


def failed(world: WindowWorld) -> list[str]:
    return [each.text for each in world.said if isinstance(each, Alarm) and each.code == "recording-failed"]


def test_a_window_says_when_it_ends_and_that_it_is_closed(
    make_recording: Callable[[], WindowWorld], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = make_recording()
    monkeypatch.setattr("pipeline.images.NS_PER_S", 1_000_000)  # records is not waited for so long
    recording.record(0.3, load_package(tmp_path / "model").sha256)
    recording.hear(lambda: bool(recording.heard_of(WindowClosed)))
    assert [type(each) for each in recording.said if isinstance(each, WindowSpan | WindowClosed)] == [
        WindowSpan,
        WindowClosed,
    ]
    (window,) = (tmp_path / "windows").iterdir()
    description = WindowReader(window).description
    span = recording.heard_of(WindowSpan)[0]
    assert isinstance(span, WindowSpan)
    assert span.until_ns >= description.began_ns + 300_000_000
    assert not failed(recording)


def test_a_window_that_cannot_begin_lets_the_next_one_begin(
    make_recording: Callable[[], WindowWorld], tmp_path: Path
) -> None:
    recording = make_recording()
    recording.record(60.0, "0" * 64)
    recording.hear(lambda: bool(recording.heard_of(WindowClosed)))
    recording.hear(lambda: bool(failed(recording)))
    assert "is what judges" in failed(recording)[0]
    assert not recording.heard_of(WindowSpan)
    recording.said.clear()
    recording.record(60.0, load_package(tmp_path / "model").sha256)
    recording.hear(lambda: bool(recording.heard_of(WindowSpan)))
    assert "window_frames" not in recording.stop()


def test_a_window_that_the_disk_does_not_take_before_the_stop(
    make_recording: Callable[[], WindowWorld], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = make_recording()
    goes_on, held = threading.Event(), threading.Event()

    def stall(*_: object) -> bool:
        held.set()
        goes_on.wait()
        return True

    monkeypatch.setattr("pipeline.window.writer.WindowWriter.add_frame", stall)
    recording.record(60.0, load_package(tmp_path / "model").sha256)
    recording.hear(lambda: bool(recording.heard_of(WindowSpan)))
    for number in range(1, 4):
        recording.frame(number)
    recording.all_slots_back()
    held.wait()
    try:
        recording.records.close()
        recording.supervisor.send(Stop())
        recording.thread.join()
    finally:
        goes_on.set()
    recording.said += recording.supervisor.drain()
    assert "3 frames and 0 parts were waiting" in failed(recording)[0]
    last = recording.heard_of(Alive)[-1]
    assert isinstance(last, Alive)
    assert last.counters["window_frames_lost"] == 3


def test_parts_that_records_could_not_tell_are_lost_in_the_window(
    make_recording: Callable[[], WindowWorld], tmp_path: Path
) -> None:
    recording = make_recording()
    # Before the window begins: none of its parts.
    recording.frame(1)
    recording.records.send(PartMade((FrameKey("cam0", 1, 1),), encode(RESULT), unnamed_count=2))
    recording.listen(lambda: recording.counters.get("images_dropped") == 1)
    recording.record(60.0, load_package(tmp_path / "model").sha256)
    recording.hear(lambda: bool(recording.heard_of(WindowSpan)))
    for number, unnamed_count in ((2, 2), (3, 5), (4, 5)):
        recording.records.send(PartMade((FrameKey("cam0", 1, number),), encode(RESULT), unnamed_count=unnamed_count))
    assert recording.stop()["window_parts_lost"] == 3
    (window,) = (tmp_path / "windows").iterdir()
    end = WindowReader(window).description.end
    assert end is not None
    assert end.counts.parts_lost == {"unnamed": 3}
