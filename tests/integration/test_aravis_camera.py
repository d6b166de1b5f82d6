"""The driver for GigE Vision cameras on the real protocol: what is lost, who else has the camera, what its clock says."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from pipeline.camera_config import AravisCamera
from pipeline.cameras.aravis import Aravis
from pipeline.cameras.aravis_library import AravisMissing, library
from pipeline.cameras.base import CameraEvent, CameraUnavailable, Grabbed, NotGrabbed, StillConnecting, Triggered
from pipeline.clock import seconds_until
from pipeline.ring import Ring, Slot
from tests.gige_vision.camera import GigEVisionCamera, pattern
from tests.gige_vision.loopback import loopback_address
from tests.gige_vision.stream import Fault
from tests.waiting import wait_until

WIDTH_PX, HEIGHT_PX = 320, 240
FRAME_BYTES = WIDTH_PX * HEIGHT_PX
PATIENCE_S = 60.0


@pytest.fixture(autouse=True)
def _needs_aravis() -> None:
    try:
        library()
    except AravisMissing as error:
        pytest.skip(str(error))


@pytest.fixture
def device() -> Iterator[GigEVisionCamera]:
    with GigEVisionCamera(loopback_address(), width_px=WIDTH_PX, height_px=HEIGHT_PX, drift_ppm=40.0) as made:
        yield made


def config(device: GigEVisionCamera, **changes: Any) -> AravisCamera:
    base = {
        "camera_id": "top",
        "kind": "aravis",
        "address": device.address,
        "width_px": WIDTH_PX,
        "height_px": HEIGHT_PX,
        "pixel_format": "Mono8",
        "packet_size_bytes": 1500,
        # What the test's own process is held up by is no loss.
        "packet_timeout_us": 50_000,
        "frame_retention_us": 200_000,
    }
    return AravisCamera.model_validate(base | changes)


class Station:
    """A camera, its ring, and all that it told."""

    def __init__(self, camera: Aravis, slot_bytes: int = FRAME_BYTES, slots: int = 8) -> None:
        self.camera = camera
        self.ring = Ring("top", slots, slot_bytes)
        self.events: list[CameraEvent] = []

    def open(self) -> None:
        def is_open() -> bool:
            try:
                self.camera.open()
            except StillConnecting:
                return False
            return True

        wait_until(is_open)
        self.fill()

    def fill(self) -> None:
        while (slot := self.ring.loan()) is not None:
            self.camera.queue(slot)

    def take(self, *, recycle: bool = True) -> list[CameraEvent]:
        """What comes next."""
        descriptor, due_ns = self.camera.fileno(), self.camera.due_ns()
        assert descriptor is not None
        timeout_s = PATIENCE_S if due_ns is None else seconds_until(due_ns)
        ready = select.select([descriptor], [], [], timeout_s)[0]
        assert ready or due_ns is not None, "nothing came from the camera"
        events = list(self.camera.poll())
        self.events += events
        for event in events:
            if recycle and isinstance(event, Grabbed):
                self.ring.take_back(event.slot)
        if recycle:
            self.fill()
        return events

    def take_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.take()

    @property
    def outcomes(self) -> list[str]:
        return [
            "GRABBED" if isinstance(event, Grabbed) else event.outcome
            for event in self.events
            if not isinstance(event, Triggered)
        ]


@contextmanager
def station(device: GigEVisionCamera, **changes: Any) -> Iterator[Station]:
    made = Station(Aravis(config(device, **changes)), FRAME_BYTES + 1024)
    try:
        made.open()
        yield made
    finally:
        for slot in made.camera.close():
            made.ring.take_back(slot)
        for thread in threading.enumerate():
            if thread.name.startswith("aravis-"):
                thread.join(PATIENCE_S)
        made.ring.close()


def snap(device: GigEVisionCamera, encoder_count: int | None = None) -> None:
    wait_until(lambda: device.waits_for_trigger)
    device.trigger(encoder_count=encoder_count)


def refusal(device: GigEVisionCamera, **changes: Any) -> str:
    """Why the camera does not open."""
    camera = Aravis(config(device, **changes))
    told: list[str] = []

    def is_told() -> bool:
        with pytest.raises(CameraUnavailable) as caught:
            camera.open()
        told.append(str(caught.value))
        return not isinstance(caught.value, StillConnecting)

    wait_until(is_told)
    assert told[-1].startswith("camera top: ")
    return told[-1]


def test_the_library_writes_into_the_ring_itself(device: GigEVisionCamera) -> None:
    with station(device) as line:
        # The first two were offered buffers before there was a slot.
        for _ in range(2):
            snap(device)
            line.take()
        line.events.clear()
        snap(device)
        line.take(recycle=False)
        _, grabbed = line.events
        assert isinstance(grabbed, Grabbed)
        assert grabbed.slot.pixels[:FRAME_BYTES].tobytes() == pattern(2, FRAME_BYTES)
        beyond = grabbed.slot.pixels[FRAME_BYTES:]
        beyond[:] = 0xEE
        line.ring.take_back(grabbed.slot)
        line.fill()
        addresses = {slot.pixels.ctypes.data for slot in pushed(line.camera)}
        assert grabbed.slot.pixels.ctypes.data in addresses, "the slot's own memory is what the library was given"
        for _ in range(8):
            snap(device)
            line.take()
        assert (beyond == 0xEE).all(), "written beyond the frame"


def pushed(camera: Aravis) -> list[Slot]:
    """What the library has now."""
    assert camera._stream is not None
    return [each for each in camera._stream._pushed.values() if isinstance(each, Slot)]


def test_lost_packets_are_sent_again_and_the_frame_is_whole(device: GigEVisionCamera) -> None:
    with station(device) as line:
        snap(device)
        line.take_until(lambda: len(line.outcomes) == 1)
        device.link.add(Fault("lose", packets=frozenset({3, 7}), frames=5))
        for number in range(2, 8):
            snap(device)
            line.take_until(lambda number=number: len(line.outcomes) == number)  # type: ignore[misc]
        assert line.outcomes == ["GRABBED"] * 7
        assert device.state()["packets_resent"] == 10


@pytest.mark.parametrize("packet_resend", [True, False])
def test_a_frame_that_lost_packets_for_good_is_bad(device: GigEVisionCamera, packet_resend: bool) -> None:
    with station(device, packet_resend=packet_resend) as line:
        snap(device)
        line.take_until(lambda: len(line.outcomes) == 1)
        device.link.add(Fault("lose", packets=frozenset({4}), frames=1, resent=True))
        snap(device)
        line.take_until(lambda: len(line.outcomes) == 2)
        snap(device)
        line.take_until(lambda: len(line.outcomes) == 3)
        assert line.outcomes == ["GRABBED", "BAD", "GRABBED"]
        (bad,) = (event for event in line.events if isinstance(event, NotGrabbed))
        assert "packets of it" in bad.text


def test_a_frame_that_is_lost_whole_is_missed(device: GigEVisionCamera) -> None:
    with station(device) as line:
        for _ in range(2):
            snap(device)
            line.take()
        device.link.add(Fault("lose", part="frame", frames=3))
        for _ in range(4):
            snap(device)
        line.take_until(lambda: len(line.outcomes) == 6)
        assert line.outcomes == ["GRABBED", "GRABBED", "MISSED", "MISSED", "MISSED", "GRABBED"]
        counters = [event.trigger_counter for event in line.events if isinstance(event, Triggered)]
        assert counters == list(range(1, 7))


def test_triggers_that_the_camera_was_too_busy_for_are_missed(device: GigEVisionCamera) -> None:
    """It counts them, and takes no frame: no number is missing."""
    with station(device, trigger_counter_chunk="ChunkCounterValue", exposure_time_us=100_000.0) as line:
        snap(device)
        line.take_until(lambda: len(line.outcomes) == 1)
        wait_until(lambda: device.waits_for_trigger)
        for _ in range(3):
            device.trigger()
        assert device.triggers_missed == 2
        line.take_until(lambda: len(line.outcomes) == 2)
        # The two came after the frame that is here, which only the next one tells.
        device.link.add(Fault("lose", part="frame", frames=1))
        snap(device)
        snap(device)
        line.take_until(lambda: len(line.outcomes) == 6)
        assert line.outcomes == ["GRABBED", "GRABBED", "MISSED", "MISSED", "MISSED", "GRABBED"]


@pytest.mark.parametrize("kept", [0.5, 0.0])
def test_a_frame_with_less_in_it_than_it_says_is_bad(device: GigEVisionCamera, kept: float) -> None:
    """No packet is missing: there are fewer of them. What they left of the slot is another part's."""
    with station(device) as line:
        snap(device)
        line.take_until(lambda: len(line.outcomes) == 1)
        device.cut_short = kept
        snap(device)
        line.take_until(lambda: len(line.outcomes) == 2)
        device.cut_short = 1.0
        snap(device)
        line.take_until(lambda: len(line.outcomes) == 3)
        assert line.outcomes == ["GRABBED", "BAD", "GRABBED"]
        (bad,) = (event for event in line.events if isinstance(event, NotGrabbed))
        assert bad.text.endswith(f"of {FRAME_BYTES} bytes came")


@pytest.mark.parametrize("block_id", [3, 30_000])
def test_a_camera_that_counts_anew_is_opened_anew(device: GigEVisionCamera, block_id: int) -> None:
    device.first_block_id = 1_000
    with station(device) as line:
        snap(device)
        line.take_until(lambda: len(line.outcomes) == 1)
        device.go_on_at(block_id)
        snap(device)
        with pytest.raises(
            CameraUnavailable, match=f"its frame numbers do not go on: got {block_id}; it is opened anew"
        ):
            line.take_until(lambda: False)
        # The frame was one, and is told.
        assert line.outcomes == ["GRABBED", "BAD"]


def test_numbers_that_wrap_lose_and_invent_nothing(device: GigEVisionCamera) -> None:
    device.first_block_id = 65_530
    with station(device) as line:
        for number in range(12):
            snap(device)
            line.take_until(lambda number=number: len(line.outcomes) == number + 1)  # type: ignore[misc]
        assert line.outcomes == ["GRABBED"] * 12


def test_the_encoders_count_comes_with_the_frame(device: GigEVisionCamera) -> None:
    counts = [10, 1_000, 4_294_967_295, 5]
    with station(device, encoder_chunk="ChunkEncoderValue") as line:
        # All at once: what comes before anybody looks is not lost.
        for count in counts:
            snap(device, encoder_count=count)
        line.take_until(lambda: len(line.outcomes) == 4)
        assert [event.encoder_count for event in line.events if isinstance(event, Triggered)] == counts
        assert [event.header.encoder_count for event in line.events if isinstance(event, Grabbed)] == counts


def test_times_are_those_of_the_exposure(device: GigEVisionCamera) -> None:
    """The camera of the tests tells when it exposed by the box's own clock."""
    with station(device, exposure_time_us=5_000.0) as line:
        for number in range(40):
            snap(device)
            line.take_until(lambda number=number: len(line.outcomes) == number + 1)  # type: ignore[misc]
        found = [event.trigger_ns for event in line.events if isinstance(event, Triggered)]
        wait_until(lambda: len(device.sent) == 40)
        true = [each.exposed_ns for each in device.sent]
        errors_us = np.abs(np.array(found) - np.array(true)) / 1_000
        # The frame came 5 ms later; the clock was asked over a socket.
        assert np.median(errors_us) < 1_000, errors_us


def test_chunks_of_another_configuration_are_switched_off(device: GigEVisionCamera) -> None:
    """The camera keeps them, and a frame with them is larger than a slot."""
    with station(device, encoder_chunk="ChunkEncoderValue"):
        pass
    with station(device) as line:
        snap(device)
        line.take_until(lambda: len(line.outcomes) == 1)
        assert line.outcomes == ["GRABBED"]


def test_a_clock_that_is_set_while_it_streams_has_the_camera_opened_anew(device: GigEVisionCamera) -> None:
    with station(device) as line:
        snap(device)
        line.take_until(lambda: len(line.outcomes) == 1)
        device.reset_clock()
        snap(device)
        with pytest.raises(
            CameraUnavailable, match=r"its clock is \d+\.\d ms behind where it was to be after .*; it is opened anew"
        ):
            line.take_until(lambda: False)


def test_software_triggers_are_fired(device: GigEVisionCamera) -> None:
    with station(device, trigger="software", trigger_ready_timeout_us=60_000_000) as line:
        for number in range(20):
            wait_until(lambda: device.waits_for_trigger)
            wait_until(line.camera.fire)
            line.take_until(lambda number=number: len(line.outcomes) == number + 1)  # type: ignore[misc]
        assert line.outcomes == ["GRABBED"] * 20


def test_a_camera_that_falls_silent_is_told_and_comes_back(device: GigEVisionCamera) -> None:
    with station(device) as line:
        snap(device)
        line.take_until(lambda: len(line.outcomes) == 1)
        device.power_off()
        with pytest.raises(CameraUnavailable, match="no longer answers"):
            line.take_until(lambda: False)

        def has_all_back() -> bool:
            # The library is held up for seconds by a camera that is silent; nobody else is.
            begin_s = time.monotonic()
            for slot in line.camera.close():
                line.ring.take_back(slot)
            assert time.monotonic() - begin_s < 1.5
            return line.ring.free_count == 8

        wait_until(has_all_back)
        assert "no camera answers" in refused_again(line)
        device.power_on()
        line.open()
        line.events.clear()
        snap(device)
        line.take_until(lambda: len(line.outcomes) == 1)
        assert line.outcomes == ["GRABBED"]


def refused_again(line: Station) -> str:
    told: list[str] = []

    def is_told() -> bool:
        with pytest.raises(CameraUnavailable) as caught:
            line.camera.open()
        told.append(str(caught.value))
        return not isinstance(caught.value, StillConnecting)

    wait_until(is_told)
    return told[-1]


def test_a_camera_that_runs_freely_and_stops_is_told(device: GigEVisionCamera) -> None:
    """It answers all the time: only its frames stay away."""
    with station(device, trigger="free_running", frame_rate_hz=50.0, frame_timeout_s=0.5) as line:
        line.take_until(lambda: len(line.outcomes) >= 5)
        device.set_rate(0.01)
        with pytest.raises(CameraUnavailable, match=r"runs freely and sent nothing for 0\.5 s"):
            line.take_until(lambda: False)


def test_opening_a_silent_camera_holds_nobody_up(device: GigEVisionCamera) -> None:
    """An acquisition that is silent for two seconds is taken for dead."""
    device.power_off()
    camera = Aravis(config(device))
    begin_s = time.monotonic()
    told: set[str] = set()
    while time.monotonic() < begin_s + 8 and not any("answers" in text for text in told):
        asked_s = time.monotonic()
        with pytest.raises(CameraUnavailable) as caught:
            camera.open()
        told.add(str(caught.value))
        assert camera.close() == []
        assert time.monotonic() - asked_s < 1.5
    assert any(f"no camera answers at {device.address}" in text for text in told), told


def test_a_wrong_serial_is_told(device: GigEVisionCamera) -> None:
    text = refusal(device, serial="LS9999")
    assert f"the camera at {device.address} has serial LS0001, expected LS9999" in text
    with station(device, serial="LS0001") as line:
        snap(device)
        line.take()


def test_a_camera_that_another_program_has_is_told(device: GigEVisionCamera) -> None:
    device.hold_elsewhere()
    assert f"{device.address} is in use by another program" in refusal(device)
    device.release()
    with station(device) as line:
        snap(device)
        line.take()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pixel_format": "Mono8", "width_px": 100_00}, "width_px: got 10000, expected"),
        ({"exposure_time_us": 59_000_000.0}, "exposure_time_us: got 59000000, expected"),
        ({"features": {"ExposureTiem": 3}}, "the camera has no feature ExposureTiem; it has ExposureTime"),
        ({"trigger_source": "Line9"}, "trigger_source: got Line9, expected one of"),
        ({"encoder_chunk": "ChunkNonsense"}, "ChunkNonsense: the camera has no feature ChunkNonsense"),
    ],
)
def test_what_the_camera_can_not_do_is_told(device: GigEVisionCamera, changes: dict[str, Any], told: str) -> None:
    assert told in refusal(device, **changes)


def test_packets_that_do_not_get_through_are_told(device: GigEVisionCamera) -> None:
    device.link.mtu_bytes = 4_000
    assert "packet_size_bytes: got 8000, expected at most" in refusal(device, packet_size_bytes=8_000)


def test_no_way_to_the_address_is_told(device: GigEVisionCamera) -> None:
    text = refusal(device, address="255.255.255.255")
    assert "255.255.255.255" in text
