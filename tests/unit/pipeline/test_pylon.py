"""Basler cameras: what goes where in memory, what becomes of every frame, and what is said of a camera that cannot be used."""

from __future__ import annotations

import random
import select
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.camera_config import PylonCamera
from pipeline.cameras import pylon as pylon_driver
from pipeline.cameras.base import CameraEvent, CameraUnavailable, Grabbed, NotGrabbed, Triggered
from pipeline.cameras.pylon import Pylon
from pipeline.cameras.software_trigger import Fired
from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns
from pipeline.ring import Slot
from tests.pylon_emulator import PylonEmulator, expect_pypylon
from tests.waiting import PATIENCE_S, wait_until
from vision.types import PixelFormat

expect_pypylon()

from pypylon import genicam, pylon  # noqa: E402

from pipeline.cameras.device_features import FeatureError  # noqa: E402
from pipeline.cameras.pylon_stream import PylonStream  # noqa: E402
from tests.stand_in_pylon import StandInPylon  # noqa: E402

Pixels = npt.NDArray[np.uint8]
WIDTH_PX, HEIGHT_PX = 16, 12
SENTINEL = 0xEE
LONG_US = int(PATIENCE_S * 1e6)


def picture(number: int) -> Pixels:
    return np.random.default_rng(number).integers(0, 256, (HEIGHT_PX, WIDTH_PX), np.uint8)


class Slots:
    """Lends slots as a ring does, the one that was free longest first."""

    def __init__(self, count: int) -> None:
        self._memories = [np.full(WIDTH_PX * HEIGHT_PX, SENTINEL, np.uint8) for _ in range(count)]
        self._generations = [0] * count
        self.free = list(range(count))

    def loan(self) -> Slot | None:
        if not self.free:
            return None
        index = self.free.pop(0)
        self._generations[index] += 1
        return Slot(index, self._generations[index], self._memories[index])

    def holds(self, pixels: Pixels) -> bool:
        return any((memory == pixels.reshape(-1)).all() for memory in self._memories)

    def take_back(self, slot: Slot) -> None:
        assert slot.index not in self.free
        self.free.append(slot.index)


def configured(**changes: Any) -> PylonCamera:
    options: dict[str, Any] = {
        "camera_id": "cam0",
        "kind": "pylon",
        "serial": PylonEmulator.serial,
        "width_px": WIDTH_PX,
        "height_px": HEIGHT_PX,
        "pixel_format": PixelFormat.MONO8,
        "trigger": "software",
        "trigger_ready_timeout_us": LONG_US,
    }
    return PylonCamera(**{**options, **changes})


def be_open(camera: Pylon) -> None:
    give_up_ns = now_ns() + int(PATIENCE_S * NS_PER_S)
    while True:
        try:
            camera.open()
        except CameraUnavailable as error:
            if "connecting" not in str(error) or now_ns() > give_up_ns:
                raise
        else:
            return


def refusal(camera: Pylon) -> str:
    """Why it does not open."""
    while True:
        with pytest.raises(CameraUnavailable) as raised:
            camera.open()
        text = str(raised.value)
        if "connecting" not in text:
            return text


def is_readable(camera: Pylon, patience_s: float) -> bool:
    descriptor = camera.fileno()
    assert descriptor is not None
    return bool(select.select([descriptor], [], [], patience_s)[0])


def events_of(camera: Pylon, count: int) -> list[CameraEvent]:
    """So many outcomes, with their triggers."""
    events: list[CameraEvent] = []
    while sum(not isinstance(each, Triggered) for each in events) < count:
        assert is_readable(camera, PATIENCE_S)
        events += camera.poll()
    return events


def outcomes_of(camera: Pylon, count: int) -> list[Grabbed | NotGrabbed]:
    return [each for each in events_of(camera, count) if not isinstance(each, Triggered)]


def words(outcomes: Sequence[CameraEvent]) -> list[str]:
    return [
        "GRABBED" if isinstance(each, Grabbed) else each.outcome for each in outcomes if not isinstance(each, Triggered)
    ]


def loaned(ring: Slots, camera: Pylon) -> None:
    while (slot := ring.loan()) is not None:
        camera.queue(slot)


@pytest.fixture
def emulator() -> Iterator[PylonEmulator]:
    made = PylonEmulator()
    yield made
    made.close()


@pytest.fixture
def ring() -> Slots:
    return Slots(6)


@pytest.fixture
def played(tmp_path: Path, emulator: PylonEmulator) -> Iterator[Callable[..., Pylon]]:
    """Makes a camera that plays picture(0) to picture(11) over and over; closes it afterwards."""
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        assert cv2.imwrite(str(folder / f"{number:02d}.png"), picture(number))
    made: list[Pylon] = []

    def make(**changes: Any) -> Pylon:
        features = {**emulator.plays(folder), **changes.pop("features", {})}
        made.append(Pylon(configured(features=features, **changes)))
        return made[-1]

    yield make
    for camera in made:
        camera.close()


# --- memory --------------------------------------------------------------------------------------------------------


def test_the_library_itself_writes_into_the_slot(played: Callable[..., Pylon], ring: Slots) -> None:
    """Its pixels are there before a line of ours has run."""
    camera = played()
    be_open(camera)
    slots = [slot for _ in range(3) if (slot := ring.loan()) is not None]
    for slot in slots:
        camera.queue(slot)
    camera.poll()
    camera.fire(0)
    wait_until(lambda: bool((slots[0].pixels == picture(0).reshape(-1)).all()))
    assert (slots[1].pixels == SENTINEL).all()
    (outcome,) = outcomes_of(camera, 1)
    assert isinstance(outcome, Grabbed)
    assert outcome.slot is slots[0]


def test_no_slot_is_written_into_while_it_is_not_queued(played: Callable[..., Pylon], ring: Slots) -> None:
    """Readers keep slots for a random while: all of them at times. What they read stays as it was, and in every slot lies the
    frame that was told.
    """
    chance = random.Random(8)
    camera = played()
    be_open(camera)
    lent: deque[tuple[Slot, Pixels]] = deque()
    told: list[str] = []
    shown = 0
    for number in range(120):
        if chance.random() < 0.9:
            loaned(ring, camera)
        camera.fire(number)
        for outcome in outcomes_of(camera, 1):
            told += words([outcome])
            if isinstance(outcome, Grabbed):
                assert (outcome.slot.pixels == picture(number % 12).reshape(-1)).all()
                shown += 1
                lent.append((outcome.slot, outcome.slot.pixels.copy()))
        for _ in range(chance.choice((0, 0, 1, 1, 2, 6))):
            if lent:
                slot, before = lent.popleft()
                assert (slot.pixels == before).all()
                ring.take_back(slot)
    assert {"GRABBED", "REFUSED"} == set(told), "both were tried"
    assert shown > 60
    unfilled = camera.close()
    assert sorted([slot.index for slot in unfilled] + [slot.index for slot, _ in lent]) == sorted(
        set(range(6)) - set(ring.free)
    )
    assert all((slot.pixels == before).all() for slot, before in lent)


def test_frames_go_straight_into_slots_again_after_slots_ran_short(played: Callable[..., Pylon], ring: Slots) -> None:
    """Each of the spares is used once more, then the library writes into slots."""
    camera = played()
    be_open(camera)
    loaned(ring, camera)
    lent = []
    for number in range(9):
        camera.fire(number)
        (outcome,) = outcomes_of(camera, 1)
        lent += [outcome.slot] if isinstance(outcome, Grabbed) else []
    assert len(lent) == 6
    for slot in lent:
        ring.take_back(slot)
    for number in range(9, 30):
        loaned(ring, camera)
        camera.fire(number)
        if number >= 11:
            wait_until(lambda number=number: ring.holds(picture(number % 12)))  # type: ignore[misc]
        (outcome,) = outcomes_of(camera, 1)
        assert isinstance(outcome, Grabbed)
        assert (outcome.slot.pixels == picture(number % 12).reshape(-1)).all()
        outcome.slot.pixels[:] = SENTINEL
        ring.take_back(outcome.slot)


# --- what becomes of a frame -----------------------------------------------------------------------------------------


def test_failed_buffers_are_bad_frames_and_cost_no_slot(played: Callable[..., Pylon], ring: Slots) -> None:
    camera = played()
    be_open(camera)
    loaned(ring, camera)
    device = PylonEmulator.device_of(camera)
    told = []
    for number in range(12):
        if number == 4:
            device.ForceFailedBufferCount.Value = 3
            device.ForceFailedBuffer.Execute()
        camera.fire(number)
        (outcome,) = outcomes_of(camera, 1)
        told += words([outcome])
        if isinstance(outcome, NotGrabbed):
            assert outcome.text == "The buffer was incompletely grabbed."
        else:
            assert (outcome.slot.pixels == picture(number).reshape(-1)).all()
            ring.take_back(outcome.slot)
            loaned(ring, camera)
    assert told == ["GRABBED"] * 4 + ["BAD"] * 3 + ["GRABBED"] * 5
    assert len(camera.close()) == 6


def test_a_stream_that_fails_is_told_after_what_came_before_it(played: Callable[..., Pylon], ring: Slots) -> None:
    camera = played()
    be_open(camera)
    loaned(ring, camera)
    camera.fire(0)
    assert words(outcomes_of(camera, 1)) == ["GRABBED"]
    PylonEmulator.device_of(camera).GetStreamGrabberNodeMap().GetNode("ImposedError").SetValue("packets lost their way")
    camera.fire(1)
    with pytest.raises(CameraUnavailable, match=r"camera cam0: serial 0815-0001: packets lost their way$"):
        events_of(camera, 1)
    assert len(camera.close()) == 5
    be_open(camera)
    camera.fire(2)
    assert words(outcomes_of(camera, 1)) == ["REFUSED"]


def test_a_camera_that_is_unplugged_is_told_and_comes_back(
    played: Callable[..., Pylon], emulator: PylonEmulator, ring: Slots
) -> None:
    """The emulator tells nobody: the test calls what pylon calls."""
    camera = played()
    be_open(camera)
    loaned(ring, camera)
    camera.fire(0)
    assert words(outcomes_of(camera, 1)) == ["GRABBED"]
    emulator.unplug()
    emulator.tell_removed(camera)
    assert is_readable(camera, 0.0)
    with pytest.raises(CameraUnavailable, match="camera cam0: serial 0815-0001 no longer answers"):
        events_of(camera, 1)
    assert len(camera.close()) == 5
    assert refusal(camera).startswith("camera cam0: no camera with serial 0815-0001 was found; found: 0815-0000 ")
    emulator.plug_in()
    be_open(camera)


# --- with a stand-in: what the emulator does not do --------------------------------------------------------------------


@pytest.fixture
def stand_in() -> Iterator[Callable[..., tuple[Pylon, StandInPylon]]]:
    made: list[tuple[Pylon, StandInPylon]] = []

    def make(changes: dict[str, Any] | None = None, **facts: Any) -> tuple[Pylon, StandInPylon]:
        device = StandInPylon((WIDTH_PX, HEIGHT_PX), **facts)
        config = configured(**{"trigger": "free_running", **(changes or {})})
        camera = Pylon(config, lambda config: PylonStream(config, device.open))
        made.append((camera, device))
        be_open(camera)
        return camera, device

    yield make
    for camera, device in made:
        device.may_stop.set()
        give_up_ns = now_ns() + int(PATIENCE_S * NS_PER_S)
        camera.close()
        while camera._closing is not None and now_ns() < give_up_ns:
            camera.close()


StandIn = Callable[..., tuple[Pylon, StandInPylon]]


def started(camera: Pylon, device: StandInPylon, ring: Slots) -> None:
    loaned(ring, camera)
    camera.poll()
    wait_until(lambda: bool(device.buffers))


def test_frames_that_are_missing_in_the_numbers_are_missed_triggers(stand_in: StandIn, ring: Slots) -> None:
    camera, device = stand_in(number_count=65_535)
    started(camera, device, ring)
    for number in (65_533, 65_534, 2, 3, 4):  # 65,535 and 1 were lost
        device.show(picture(number), number)
    events = events_of(camera, 7)
    assert words(events) == ["GRABBED", "GRABBED", "MISSED", "MISSED", "GRABBED", "GRABBED", "GRABBED"]
    assert [each.trigger_counter for each in events if isinstance(each, Triggered)] == list(range(7))
    assert [each.header.frame_id for each in events if isinstance(each, Grabbed)] == [0, 1, 4, 5, 6]
    camera.close()


@pytest.mark.parametrize("number", [3, 9_000])
def test_a_camera_that_counts_anew_is_opened_anew(stand_in: StandIn, ring: Slots, number: int) -> None:
    camera, device = stand_in(number_count=65_535)
    started(camera, device, ring)
    for each in (6_000, number):
        device.show(picture(each), each)
    events = events_of(camera, 2)
    assert words(events) == ["GRABBED", "BAD"]
    with pytest.raises(CameraUnavailable, match=f"frame numbers do not go on: got {number}; it is opened anew"):
        events_of(camera, 1)
    camera.close()


@pytest.mark.parametrize("came", [0, 11])
def test_a_frame_with_less_in_it_than_it_says_is_bad(stand_in: StandIn, ring: Slots, came: int) -> None:
    camera, device = stand_in()
    started(camera, device, ring)
    device.show(picture(1), 1, payload_bytes=came)
    (outcome,) = outcomes_of(camera, 1)
    assert isinstance(outcome, NotGrabbed)
    assert outcome.outcome == "BAD"
    assert outcome.text.startswith(f"{came} of ")
    camera.close()


def test_a_camera_that_runs_freely_and_stops_is_told(stand_in: StandIn, ring: Slots) -> None:
    camera, device = stand_in({"frame_timeout_s": 0.2})
    started(camera, device, ring)
    device.show(picture(1), 1)
    events_of(camera, 1)

    def is_silent() -> bool:
        due_ns = camera.due_ns()
        return due_ns is not None and now_ns() >= due_ns

    wait_until(is_silent)
    with pytest.raises(CameraUnavailable, match=r"runs freely and sent nothing for 0\.2 s"):
        camera.poll()


def test_frames_without_numbers_are_counted(stand_in: StandIn, ring: Slots) -> None:
    camera, device = stand_in()
    started(camera, device, ring)
    for _ in range(3):
        device.show(picture(0), (1 << 64) - 1)
    assert words(outcomes_of(camera, 3)) == ["GRABBED"] * 3


def test_a_triggers_time_is_the_cameras_in_the_boxs_clock(stand_in: StandIn, ring: Slots) -> None:
    """Its clock ticks at 125 MHz, was asked, and every frame takes at least 3 ms to come."""
    offset_ns = 5_000 * NS_PER_S
    camera, device = stand_in(ticks_per_s=125_000_000, clock_ns=lambda: now_ns() - offset_ns)
    started(camera, device, ring)
    exposed_ns = now_ns() - 3 * NS_PER_MS
    device.show(picture(0), 1, (exposed_ns - offset_ns) // 8)
    trigger, outcome = events_of(camera, 1)
    assert isinstance(trigger, Triggered)
    assert isinstance(outcome, Grabbed)
    assert abs(trigger.trigger_ns - exposed_ns) < NS_PER_MS
    assert outcome.header.exposure_ns == trigger.trigger_ns


def test_a_failed_frame_that_came_late_takes_no_other_frames_time_off(stand_in: StandIn, ring: Slots) -> None:
    """Pylon gives it up some time after the next one was exposed."""
    camera, device = stand_in(clock_ns=now_ns)
    started(camera, device, ring)
    exposed_ns = now_ns()
    device.show(None, 1, exposed_ns - 40 * NS_PER_MS, GrabSucceeded=False)
    device.show(picture(0), 2, exposed_ns - 20 * NS_PER_MS)
    *_, trigger = (each for each in events_of(camera, 2) if isinstance(each, Triggered))
    assert abs(trigger.trigger_ns - exposed_ns + 20 * NS_PER_MS) < NS_PER_MS


def test_a_frame_from_the_future_is_bad_and_its_count_is_told(stand_in: StandIn, ring: Slots) -> None:
    """The camera's clock was set; where on the belt its part is, is known all the same."""
    camera, device = stand_in({"encoder_chunk": "ChunkEncoderValue"}, clock_ns=now_ns)
    started(camera, device, ring)
    device.show(picture(0), 1, now_ns() + NS_PER_S, ChunkEncoderValue=4_711)
    trigger, outcome = events_of(camera, 1)
    assert isinstance(trigger, Triggered)
    assert isinstance(outcome, NotGrabbed)
    assert trigger.encoder_count == 4_711
    assert outcome.outcome == "BAD"
    assert outcome.text.endswith("ms ahead: its clock was set")
    with pytest.raises(CameraUnavailable, match="its clock was set; it is opened anew"):
        events_of(camera, 1)


def test_the_encoder_count_is_read_from_the_chunk(stand_in: StandIn, ring: Slots) -> None:
    camera, device = stand_in({"encoder_chunk": "ChunkEncoderValue"})
    started(camera, device, ring)
    device.show(picture(0), 1, ChunkEncoderValue=4_711)
    trigger, outcome = events_of(camera, 1)
    assert isinstance(trigger, Triggered)
    assert isinstance(outcome, Grabbed)
    assert trigger.encoder_count == outcome.header.encoder_count == 4_711


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"GetHeight": 11}, "got a frame of 16x11 Mono8, expected 16x12 Mono8"),
        ({"GetPixelType": 0x01100003}, "got a frame of 16x12 Mono10, expected 16x12 Mono8"),
        ({"GetPaddingX": 2}, "192 of 216 bytes came"),
        ({"GrabSucceeded": False, "GetErrorDescription": "packets are missing"}, "packets are missing"),
        ({"GrabSucceeded": False, "GetErrorCode": 0xE1000014}, "pylon's error 0xe1000014"),
    ],
)
def test_a_frame_of_another_kind_is_bad(given: dict[str, Any], text: str, stand_in: StandIn, ring: Slots) -> None:
    camera, device = stand_in()
    started(camera, device, ring)
    device.show(None, 1, **given)
    (outcome,) = outcomes_of(camera, 1)
    assert isinstance(outcome, NotGrabbed)
    assert (outcome.outcome, outcome.text) == ("BAD", text)


def test_a_frame_whose_chunk_cannot_be_read_is_bad(stand_in: StandIn, ring: Slots) -> None:
    """Without its count no gate finds the part."""
    camera, device = stand_in({"encoder_chunk": "ChunkEncoderValue"})
    started(camera, device, ring)
    device.show(picture(0), 1)
    (outcome,) = outcomes_of(camera, 1)
    assert isinstance(outcome, NotGrabbed)
    assert outcome.outcome == "BAD"
    assert outcome.text.startswith("its chunk ChunkEncoderValue can not be read")


def test_a_slot_that_comes_later_than_the_start_is_filled_all_the_same(stand_in: StandIn, ring: Slots) -> None:
    """A reader had it when the camera came back; pylon takes no more buffers then."""
    camera, device = stand_in()
    late = [ring.loan() for _ in range(3)]
    started(camera, device, ring)
    for number in range(8):
        device.show(picture(number), number)
        outcomes_of(camera, 1)
    for slot in late:
        assert slot is not None
        camera.queue(slot)
    for number in range(8, 11):
        device.show(picture(number), number)
        (outcome,) = outcomes_of(camera, 1)
        assert isinstance(outcome, Grabbed)
        assert outcome.slot in late
        assert (outcome.slot.pixels == picture(number).reshape(-1)).all()
    assert device.dropped == 0


def test_no_frame_is_dropped_unsaid_however_slots_come_and_go(stand_in: StandIn, ring: Slots) -> None:
    """Pylon always has a buffer, whatever readers keep, and what is told is what was shown."""
    chance = random.Random(3)
    late = [ring.loan() for _ in range(2)]
    camera, device = stand_in()
    started(camera, device, ring)
    lent: deque[tuple[Slot, int]] = deque()
    for slot in late:
        assert slot is not None
        ring.take_back(slot)
    told: list[str] = []
    for number in range(3_000):
        if chance.random() < 0.7:
            loaned(ring, camera)
        given: dict[str, Any] = {"GrabSucceeded": False, "GetErrorDescription": "torn"} if chance.random() < 0.1 else {}
        device.show(picture(number % 50), number, **given)
        events = events_of(camera, 1)
        told += words(events)
        for event in events:
            if isinstance(event, Grabbed):
                lent.append((event.slot, number))
        for _ in range(chance.choice((0, 1, 1, 1, 2, 6))):
            if lent:
                kept, shown = lent.popleft()
                assert (kept.pixels == picture(shown % 50).reshape(-1)).all()
                ring.take_back(kept)
    assert device.dropped == 0
    assert len(told) == 3_000
    assert {"GRABBED", "BAD", "REFUSED"} == set(told)
    held = {slot.index for slot, _ in lent} | {slot.index for slot in camera.close()} | set(ring.free)
    assert held == set(range(6)), "no slot was lost"


def test_slots_of_a_camera_that_takes_long_to_close_come_back_when_it_is_done(stand_in: StandIn, ring: Slots) -> None:
    camera, device = stand_in()
    started(camera, device, ring)
    device.may_stop.clear()
    assert camera.close() == []
    with pytest.raises(CameraUnavailable, match="camera cam0: still being closed"):
        camera.open()
    device.may_stop.set()
    assert [slot.index for slot in camera.close()] == [0, 1, 2, 3, 4, 5]
    assert camera.close() == []


def test_a_payload_that_does_not_fit_is_refused() -> None:
    device = StandInPylon((WIDTH_PX, HEIGHT_PX), payload_bytes=WIDTH_PX * HEIGHT_PX + 24)
    camera = Pylon(configured(), lambda config: PylonStream(config, device.open))
    assert refusal(camera) == (
        "camera cam0: sends 216 bytes a frame, expected at most 192; other chunks are switched on in the camera?"
    )


# --- software triggers -------------------------------------------------------------------------------------------------


def test_every_fired_trigger_is_a_frame_and_is_told(played: Callable[..., Pylon], ring: Slots) -> None:
    camera = played()
    be_open(camera)
    loaned(ring, camera)
    camera.poll()
    for number in range(30):
        camera.fire(number)
    fired: list[Fired] = []
    numbers: list[int] = []
    while len(fired) < 30 or len(numbers) < 30:
        assert is_readable(camera, PATIENCE_S)
        for event in camera.poll():
            if isinstance(event, Grabbed):
                numbers.append(event.trigger_counter)
                assert (event.slot.pixels == picture(len(numbers) - 1).reshape(-1)).all() or len(numbers) > 12
                ring.take_back(event.slot)
        loaned(ring, camera)
        fired += camera.fired()
    assert [each.number for each in fired] == numbers == list(range(30))
    assert all(each.fired_ns is not None for each in fired)


def test_a_camera_that_is_not_fired_says_so(played: Callable[..., Pylon]) -> None:
    camera = played(trigger="free_running")
    with pytest.raises(CameraUnavailable, match="camera cam0: not open"):
        camera.fire()
    be_open(camera)
    assert not camera.fire()
    assert camera.fired() == []


# --- what is said of a camera that cannot be used ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"serial": "999"}, "no camera with serial 999 was found; found: 0815-0000 "),
        (
            {"features": {"ExposureTme": 5}},
            "features.ExposureTme: the camera has no feature ExposureTme; it has ExposureTime",
        ),
        ({"features": {"PixelFormat": "Mono10p"}}, "features.PixelFormat: got Mono10p, expected one of Mono8, "),
        ({"features": {"BlackLevel": "dark"}}, "features.BlackLevel: got dark, expected a number (BlackLevel)"),
        ({"gain_db": 100.0}, "gain_db: got 100, expected 0 to 48"),
        ({"width_px": 5_000}, "width_px: got 5000, expected 1 to 4096 (Width)"),
        (
            {"trigger": "hardware", "trigger_source": "Line9"},
            "trigger_source: got Line9, expected one of Software, Line1, ",
        ),
        ({"encoder_chunk": "ChunkEncoderValue"}, "encoder_chunk: the camera has no feature ChunkSelector"),
        (
            {"features": {"DeviceModelName": "x"}},
            "features.DeviceModelName: the camera refused x for DeviceModelName: ",
        ),
    ],
)
def test_what_is_wrong_is_said(changes: dict[str, Any], text: str, played: Callable[..., Pylon]) -> None:
    told = refusal(played(**changes))
    assert told.startswith("camera cam0: ")
    assert text in told
    assert "Exception" not in told, "no name of a class of pylon's"


def test_an_address_where_no_camera_answers(emulator: PylonEmulator) -> None:
    told = refusal(Pylon(configured(address="127.0.0.2", serial=None)))
    assert told.startswith("camera cam0: no Basler camera answers at 127.0.0.2 (")


@pytest.mark.parametrize("access", [pylon.Accessibility_Opened, pylon.Accessibility_OpenedExclusively])
def test_a_camera_that_another_program_has(
    access: int, played: Callable[..., Pylon], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator lets everybody in: pylon's answers are made up."""

    def refuse(_camera: object) -> None:
        raise genicam.RuntimeException("The device is controlled by another application.")

    monkeypatch.setattr(pylon.InstantCamera, "Open", refuse)
    monkeypatch.setattr(pylon.TlFactory, "IsDeviceAccessibleInfo", lambda *_: (False, access))
    assert refusal(played()) == "camera cam0: serial 0815-0001 is in use by another program, which has to end first"


def test_colours_are_asked_for_by_their_standard_names(played: Callable[..., Pylon]) -> None:
    """The emulator is older than they are: RGB8Packed."""
    camera = played(pixel_format=PixelFormat.RGB8)
    be_open(camera)
    assert PylonEmulator.device_of(camera).PixelFormat.Value == "RGB8Packed"


def test_without_pypylon_the_install_line_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pylon_driver, "find_spec", lambda _: None)
    with pytest.raises(
        CameraUnavailable, match=r"camera cam0: pypylon is not installed: pip install 'lineside\[pylon\]'"
    ):
        Pylon(configured()).open()


def test_a_feature_without_a_value_is_none_that_can_be_read(played: Callable[..., Pylon]) -> None:
    camera = played()
    be_open(camera)
    assert camera._stream is not None
    features = camera._stream._device.features
    with pytest.raises(FeatureError):
        features.get("TriggerSoftware")
    with pytest.raises(FeatureError):
        features.get("NoSuchFeature")
    assert "ExposureTime" in features.names()


def test_a_process_that_ends_with_a_camera_open_ends_in_order(emulator: PylonEmulator) -> None:
    """Left to itself, pylon ends it with a segmentation fault."""
    program = (
        "from pipeline.camera_config import PylonCamera\n"
        "from pipeline.cameras.base import StillConnecting\n"
        "from pipeline.cameras.pylon import Pylon\n"
        f"camera = Pylon(PylonCamera.model_validate_json({configured().model_dump_json()!r}))\n"
        "while True:\n"
        "    try:\n"
        "        camera.open()\n"
        "        break\n"
        "    except StillConnecting:\n"
        "        pass\n"
        "camera.poll()\n"
        "camera.fire()\n"
        "print('open')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "open\n", "")
