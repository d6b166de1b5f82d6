"""The camera of the tests against libaravis, which knows nothing of it, and against the standard's bytes."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.gige_vision import libaravis
from tests.gige_vision.camera import GigEVisionCamera, pattern
from tests.gige_vision.control import CONTROL, EXCLUSIVE, GVCP_PORT, Command
from tests.gige_vision.genicam import CHUNKS, PIXEL_FORMATS, Sensor
from tests.gige_vision.libaravis import SUCCESS, AravisError, Device, Received, Stream
from tests.gige_vision.loopback import loopback_address
from tests.gige_vision.program import CameraProgram
from tests.gige_vision.registers import Status
from tests.gige_vision.stream import Fault
from tests.gige_vision_camera import Commands
from tests.waiting import wait_until

IMAGE_BYTES = 160 * 100
PACKET_BYTES = 1500
PAYLOAD_PACKETS = -(-IMAGE_BYTES // (PACKET_BYTES - 36))


@pytest.fixture(scope="module")
def aravis() -> Any:
    library = libaravis.load()
    if library is None:
        pytest.skip("libaravis is not installed (Debian: libaravis-0.8-0)")
    return library


def small_camera(*, resend: bool = True) -> GigEVisionCamera:
    """One whose frames find room in any socket's buffer, however long their reader must wait for the box."""
    return GigEVisionCamera(loopback_address(), width_px=160, height_px=100, resend=resend)


@pytest.fixture
def camera() -> Iterator[GigEVisionCamera]:
    with small_camera() as camera:
        yield camera


@pytest.fixture
def device(aravis: Any, camera: GigEVisionCamera) -> Iterator[Device]:
    with Device(aravis, camera.address, "127.0.0.1") as device:
        yield device


@contextmanager
def started(device: Device, camera: GigEVisionCamera) -> Iterator[Stream]:
    """A stream of frames triggered at Line1."""
    trigger_at_line(device)
    with device.streaming() as stream:
        device.execute("AcquisitionStart")
        yield stream
        device.execute("AcquisitionStop")


def trigger_at_line(device: Device) -> None:
    device.set("TriggerSelector", "FrameStart")
    device.set("TriggerMode", "On")
    device.set("TriggerSource", "Line1")


def snap(camera: GigEVisionCamera, encoder_count: int | None = None, picture: bytes | None = None) -> None:
    """A trigger, as soon as the camera waits for one."""
    wait_until(lambda: camera.waits_for_trigger)
    camera.trigger(encoder_count, picture)


def is_whole(frame: Received, number: int) -> bool:
    return frame.status == SUCCESS and frame.data == pattern(number, len(frame.data))


class Client:
    """A bare GVCP client: one socket, no heartbeat."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.settimeout(5.0)
        self.socket.connect((address, GVCP_PORT))
        self._request_id = 0

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def ask(self, command: int, body: bytes, request_id: int | None = None) -> tuple[int, bytes]:
        """Status and content of the answer."""
        self._request_id = self._request_id % 0xFFFF + 1 if request_id is None else request_id
        self.socket.send(struct.pack(">BBHHH", 0x42, 1, command, len(body), self._request_id) + body)
        answer = self.socket.recv(2048)
        status, answered, length, request = struct.unpack_from(">HHHH", answer)
        assert (answered, length, request) == (command + 1, len(answer) - 8, self._request_id)
        return status, answer[8:]

    def write(self, address: int, value: int, request_id: int | None = None) -> int:
        return self.ask(Command.WRITEREG, struct.pack(">II", address, value), request_id)[0]

    def read(self, address: int) -> int:
        status, content = self.ask(Command.READREG, struct.pack(">I", address))
        assert status == Status.SUCCESS
        return int.from_bytes(content, "big")


@pytest.fixture
def client(camera: GigEVisionCamera) -> Iterator[Client]:
    with Client(camera.address) as client:
        yield client


def test_features_are_read_and_written_by_name(device: Device) -> None:
    assert device.get_text("DeviceSerialNumber") == "LS0001"
    assert (device.get_integer("Width"), device.get_integer("Height")) == (160, 100)
    device.set("DeviceUserID", "left")
    device.set("Width", 64)
    device.set("Gain", 6.5)
    device.set("ExposureTime", 1001.0)
    assert device.get_text("DeviceUserID") == "left"
    assert device.get_integer("PayloadSize") == 64 * 100
    assert device.get_float("Gain") == 6.5
    assert device.get_float("ExposureTime") == 1000.0, "the nearest that the sensor can do"


def test_each_selected_register_is_another(device: Device) -> None:
    device.set("TriggerSelector", "FrameStart")
    device.set("TriggerMode", "On")
    device.set("TriggerSelector", "AcquisitionStart")
    assert device.get_text("TriggerMode") == "Off"
    with pytest.raises(AravisError, match="invalid-parameter"):
        device.set("TriggerMode", "On")


@pytest.mark.parametrize("name", PIXEL_FORMATS)
def test_every_pixel_format_streams(device: Device, camera: GigEVisionCamera, name: str) -> None:
    device.set("PixelFormat", name)
    bits = PIXEL_FORMATS[name] >> 16 & 0xFF
    with started(device, camera) as stream:
        snap(camera)
        frame = stream.next()
    assert len(frame.data) == IMAGE_BYTES * bits // 8
    assert is_whole(frame, 0)


def test_a_value_out_of_range_and_a_locked_one_are_refused(device: Device, camera: GigEVisionCamera) -> None:
    for name, value in (("Width", 66), ("Width", 40_000), ("ExposureTime", 1.0), ("GevSCPSPacketSize", 100)):
        with pytest.raises(AravisError):
            device.set(name, value)
    with started(device, camera), pytest.raises(AravisError, match="write-protect"):
        device.set("Width", 64)


def test_two_hundred_frames_arrive_as_they_were_sent(aravis: Any) -> None:
    with (
        GigEVisionCamera(loopback_address(), width_px=640, height_px=512) as camera,
        Device(aravis, camera.address, "127.0.0.1") as device,
    ):
        device.set("GevSCPSPacketSize", 8192)
        device.set("AcquisitionFrameRate", 100.0)
        with device.streaming(40, frame_retention_s=5.0) as stream:
            device.execute("AcquisitionStart")
            frames = [stream.next() for _ in range(200)]
            device.execute("AcquisitionStop")
    assert [frame.block_id for frame in frames] == list(range(1, 201))
    assert all(is_whole(frame, number) for number, frame in enumerate(frames))
    assert [frame.timestamp_ns for frame in frames] == [sent.timestamp_ticks for sent in list(camera.sent)[:200]]


def test_the_picture_of_a_trigger_is_the_one_that_lay_there(device: Device, camera: GigEVisionCamera) -> None:
    pictures = [bytes([number]) * IMAGE_BYTES for number in (7, 3, 9)]
    with started(device, camera) as stream:
        for picture in pictures:
            snap(camera, picture=picture)
            assert stream.next().data == picture


def test_software_triggers(device: Device, camera: GigEVisionCamera) -> None:
    with started(device, camera) as stream:
        device.set("TriggerSource", "Software")
        device.execute("TriggerSoftware")
        assert is_whole(stream.next(), 0)
        assert camera.trigger() == 1, "a line that is not the source is not counted"
        device.set("AcquisitionStatusSelector", "FrameTriggerWait")
        wait_until(lambda: device.get_boolean("AcquisitionStatus"))
    assert not device.get_boolean("AcquisitionStatus")


def test_a_trigger_while_the_sensor_is_busy_is_counted_and_gives_no_frame(
    device: Device, camera: GigEVisionCamera
) -> None:
    device.set("ExposureTime", 200_000.0)
    with started(device, camera) as stream:
        device.set("ChunkSelector", "CounterValue")
        assert [camera.trigger(), camera.trigger()] == [1, 2]
        assert is_whole(stream.next(), 0)
        snap(camera)
        assert is_whole(stream.next(), 1)
        assert device.get_integer("CounterValue") == 3
    assert camera.triggers_missed == 1


def test_what_was_exposed_before_a_stop_does_not_come_after_the_next_start(
    device: Device, camera: GigEVisionCamera
) -> None:
    device.set("ExposureTime", 100_000.0)
    with started(device, camera) as stream:
        snap(camera)
        device.execute("AcquisitionStop")
        device.execute("AcquisitionStart")
        snap(camera)
        frame = stream.next()
    assert (frame.block_id, is_whole(frame, 1)) == (1, True)


@pytest.mark.parametrize(("mode", "frames"), [("SingleFrame", 1), ("MultiFrame", 3)])
def test_an_acquisition_of_so_many_frames(device: Device, camera: GigEVisionCamera, mode: str, frames: int) -> None:
    device.set("AcquisitionMode", mode)
    device.set("AcquisitionFrameCount", 3)
    with device.streaming() as stream:
        device.execute("AcquisitionStart")
        assert all(is_whole(stream.next(), number) for number in range(frames))
        wait_until(lambda: not camera.is_acquiring)
    assert len(camera.sent) == frames


def test_lost_packets_are_sent_again(device: Device, camera: GigEVisionCamera) -> None:
    camera.link.add(Fault("lose", packets=frozenset({3, 9}), frames=5))
    with started(device, camera) as stream:
        for number in range(6):
            snap(camera)
            assert is_whole(stream.next(), number)
        assert stream.count("n_resent_packets") == 10
    assert (camera.link.lost, camera.link.resent) == (10, 10)


@pytest.mark.parametrize("part", ["leader", "trailer"])
def test_a_lost_end_of_a_frame_is_sent_again(device: Device, camera: GigEVisionCamera, part: Any) -> None:
    camera.link.add(Fault("lose", part, frames=1))
    with started(device, camera) as stream:
        snap(camera)
        assert is_whole(stream.next(), 0)
    assert camera.link.lost == 1


def test_packets_lost_for_good_make_an_incomplete_frame(device: Device, camera: GigEVisionCamera) -> None:
    camera.link.add(Fault("lose", packets=frozenset({3}), after=1, frames=1, resent=True))
    with started(device, camera) as stream:
        statuses = []
        for _ in range(3):
            snap(camera)
            statuses.append(stream.next().status)
    assert statuses[1] != SUCCESS
    assert statuses[::2] == [SUCCESS, SUCCESS]
    assert camera.link.resent == 0


def test_a_camera_without_resend_says_so_and_does_not(aravis: Any) -> None:
    with (
        small_camera(resend=False) as camera,
        Device(aravis, camera.address, "127.0.0.1") as device,
    ):
        camera.link.add(Fault("lose", packets=frozenset({3}), frames=1))
        with started(device, camera) as stream:
            snap(camera)
            assert stream.next().status != SUCCESS
            assert stream.count("n_resend_requests") == 0
        assert not device.read_register(0x934) & 1 << 2


def test_a_frame_lost_whole_leaves_a_gap_in_the_block_ids(device: Device, camera: GigEVisionCamera) -> None:
    camera.link.add(Fault("lose", "frame", after=1, frames=1))
    with started(device, camera) as stream:
        blocks = []
        for number in range(3):
            snap(camera)
            if number != 1:
                blocks.append(stream.next().block_id)
    assert blocks == [1, 3]


@pytest.mark.parametrize("fault", [Fault("double", "frame"), Fault("delay", packets=frozenset({2, 5}), by=4)])
def test_doubled_and_disordered_packets_make_whole_frames(
    device: Device, camera: GigEVisionCamera, fault: Fault
) -> None:
    camera.link.add(fault)
    with started(device, camera) as stream:
        for number in range(4):
            snap(camera)
            assert is_whole(stream.next(), number)


@pytest.mark.parametrize(
    ("fault", "numbers"),
    [
        (None, [0, 1, 2, 3, 4, 5]),
        (Fault("lose", packets=frozenset({2, 4})), [0, 1, 3, 5]),
        (Fault("lose", "leader"), [1, 2, 3, 4, 5]),
        (Fault("lose", "trailer"), [0, 1, 2, 3, 4]),
        (Fault("double", "payload", packets=frozenset({3})), [0, 1, 2, 3, 3, 4, 5]),
        (Fault("delay", packets=frozenset({2}), by=2), [0, 1, 3, 4, 2, 5]),
        (Fault("delay", "leader", by=9), [1, 2, 3, 4, 5, 0]),
    ],
)
def test_what_goes_over_the_wire(
    camera: GigEVisionCamera, client: Client, fault: Fault | None, numbers: list[int]
) -> None:
    if fault is not None:
        camera.link.add(fault)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        sink.settimeout(5.0)
        client.write(0xA00, CONTROL)
        client.write(0xA018, 64)  # Width: 6,400 bytes
        client.write(0xD04, 1636)  # 4 packets of 1,600 of them
        client.write(0xD18, int.from_bytes(socket.inet_aton("127.0.0.1"), "big"))
        client.write(0xD00, sink.getsockname()[1])
        client.write(0xA030, 1)  # SingleFrame
        client.write(0xA038, 1)  # AcquisitionStart
        packets = [sink.recv(2048) for _ in numbers]
    headers = [struct.unpack_from(">HHI", packet) for packet in packets]
    assert [(status, block_id) for status, block_id, _ in headers] == [(0, 1)] * len(numbers)
    assert [word & 0xFFFFFF for _, _, word in headers] == numbers
    contents = {0: 1, 5: 2}
    assert [word >> 24 for _, _, word in headers] == [contents.get(number, 3) for number in numbers]
    pieces = {number: packet[8:] for number, packet in zip(numbers, packets, strict=True)}
    image = pattern(0, 6400)
    for number in set(numbers) - {0, 5}:
        assert pieces[number] == image[1600 * (number - 1) :][:1600]
    if 0 in pieces:
        assert pieces[0][:4] == bytes([0, 0, 0, 1])
        assert struct.unpack_from(">III", pieces[0], 12) == (PIXEL_FORMATS["Mono8"], 64, 100)
    if 5 in pieces:
        assert pieces[5] == struct.pack(">HHI", 0, 1, 100)


def test_a_test_packet_is_fired_once_for_each_time_it_is_asked_for(client: Client) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sink:
        sink.bind(("127.0.0.1", 0))
        sink.settimeout(5.0)
        client.write(0xA00, CONTROL)
        client.write(0xD18, int.from_bytes(socket.inet_aton("127.0.0.1"), "big"))
        client.write(0xD00, sink.getsockname()[1])
        assert client.write(0xD04, 1 << 31 | 1000) == Status.SUCCESS
        assert len(sink.recv(2048)) == 1000 - 28
        assert client.read(0xD04) == 1000
        client.write(0xD04, 1 << 31 | 1 << 30 | 800)
        assert len(sink.recv(2048)) == 800 - 28


def test_packets_lost_by_chance_are_so_many_and_come_again(device: Device, camera: GigEVisionCamera) -> None:
    camera.link.add(Fault("lose", share=0.02))
    with started(device, camera) as stream:
        for number in range(30):
            snap(camera)
            assert is_whole(stream.next(), number)
    assert camera.link.lost == pytest.approx(30 * PAYLOAD_PACKETS * 0.02, rel=0.6)
    assert camera.link.resent == camera.link.lost


def test_block_ids_go_on_at_one_after_the_last(device: Device, camera: GigEVisionCamera) -> None:
    camera.first_block_id = 65534
    with started(device, camera) as stream:
        frames = []
        for _ in range(4):
            snap(camera)
            frames.append(stream.next())
    assert [frame.block_id for frame in frames] == [65534, 65535, 1, 2]
    assert all(is_whole(frame, number) for number, frame in enumerate(frames))


def test_chunks_say_what_the_camera_knew_of_the_frame(device: Device, camera: GigEVisionCamera) -> None:
    device.set("ChunkModeActive", True)
    for name in CHUNKS:
        device.set("ChunkSelector", name)
        device.set("ChunkEnable", True)
    device.set("ExposureTime", 2500.0)
    names = tuple(f"Chunk{name}" for name in CHUNKS)
    with started(device, camera) as stream:
        for number, encoder_count in enumerate((10, 4_000_000_000, -3)):
            snap(camera, encoder_count)
            frame = stream.next(chunks=names)
            assert frame.status == SUCCESS
            assert frame.data[:IMAGE_BYTES] == pattern(number, IMAGE_BYTES)
            assert frame.chunks == {
                "ChunkFrameID": frame.block_id,
                "ChunkTimestamp": frame.timestamp_ns,
                "ChunkCounterValue": number + 1,
                "ChunkEncoderValue": encoder_count % 2**32,
                "ChunkExposureTime": 2500.0,
            }
    assert device.get_integer("EncoderValue") == 2**32 - 3


def test_a_chunk_that_is_not_enabled_is_not_there(device: Device, camera: GigEVisionCamera) -> None:
    device.set("ChunkModeActive", True)
    device.set("ChunkSelector", "EncoderValue")
    device.set("ChunkEnable", True)
    with started(device, camera) as stream:
        snap(camera, 5)
        assert stream.next(chunks=("ChunkEncoderValue",)).chunks == {"ChunkEncoderValue": 5}
        snap(camera, 6)
        with pytest.raises(AravisError, match="not found"):
            stream.next(chunks=("ChunkCounterValue",))


def test_a_simpler_camera_has_neither_chunks_nor_other_pixel_formats(aravis: Any) -> None:
    sensor = Sensor(pixel_formats=("Mono8", "Mono10p"), has_chunks=False)
    with (
        GigEVisionCamera(loopback_address(), sensor=sensor) as camera,
        Device(aravis, camera.address, "127.0.0.1") as device,
    ):
        with pytest.raises(AravisError):
            device.set("ChunkModeActive", True)
        with pytest.raises(AravisError):
            device.set("PixelFormat", "BGR8")
        device.set("PixelFormat", "Mono10p")


def test_packet_size_is_agreed_by_what_comes_through(device: Device, camera: GigEVisionCamera) -> None:
    camera.link.mtu_bytes = 4000
    assert 3900 < device.negotiate_packet_size() <= 4000
    assert device.get_integer("GevSCPSPacketSize") <= 4000


def test_packets_longer_than_the_link_takes_do_not_arrive(device: Device, camera: GigEVisionCamera) -> None:
    with device.streaming() as stream:  # which agrees on a packet size first
        camera.link.mtu_bytes = 1000
        device.set("AcquisitionMode", "SingleFrame")
        device.execute("AcquisitionStart")
        assert stream.next().status != SUCCESS
    assert camera.link.unsendable >= PAYLOAD_PACKETS


def test_the_link_takes_its_time(device: Device, camera: GigEVisionCamera) -> None:
    camera.link.speed_bits_per_s = 1e6  # 16,000 bytes: at least 0.128 s
    with started(device, camera) as stream:
        for _ in range(2):
            snap(camera)
        frames = [stream.next() for _ in range(2)]
        assert [is_whole(frame, number) for number, frame in enumerate(frames)] == [True, True]
    passed_ns = time.monotonic_ns() - camera.sent[0].exposed_ns
    assert passed_ns > 2 * 8 * IMAGE_BYTES / camera.link.speed_bits_per_s * 1e9


def test_exposures_that_find_no_room_leave_their_gap_in_the_block_ids(device: Device, camera: GigEVisionCamera) -> None:
    camera.link.speed_bits_per_s = 1e6
    device.set("ChunkModeActive", True)
    device.set("ChunkSelector", "CounterValue")
    device.set("ChunkEnable", True)
    with started(device, camera) as stream:
        while not camera.frames_skipped:
            snap(camera)
        camera.link.speed_bits_per_s = None
        skipped = device.get_integer("CounterValue")
        seen: list[Received] = []
        while not seen or seen[-1].block_id != skipped + 1:
            seen.append(stream.next(chunks=("ChunkCounterValue",)))
            if len(seen) == skipped - 1:
                snap(camera)
    assert [frame.block_id for frame in seen] == [*range(1, skipped), skipped + 1]
    assert [frame.chunks["ChunkCounterValue"] for frame in seen] == [frame.block_id for frame in seen]


def test_timestamps_follow_a_clock_that_drifts(device: Device, camera: GigEVisionCamera) -> None:
    camera.set_drift(200_000.0)
    with started(device, camera) as stream:
        frames = []
        for _ in range(2):
            snap(camera)
            frames.append(stream.next())
    first, second = list(camera.sent)
    passed_ns = second.exposed_ns - first.exposed_ns
    assert frames[1].timestamp_ns - frames[0].timestamp_ns == pytest.approx(1.2 * passed_ns, abs=10)


def test_the_clock_is_latched_and_reset(device: Device) -> None:
    device.execute("TimestampLatch")
    assert device.get_integer("TimestampLatchValue") >= 1000 * 10**9
    device.execute("TimestampReset")
    device.execute("TimestampLatch")
    assert device.get_integer("TimestampLatchValue") < 100 * 10**9


def test_a_second_client_is_denied_control(aravis: Any, device: Device, camera: GigEVisionCamera) -> None:
    assert device.is_controller
    with Device(aravis, camera.address, "127.0.0.1") as second:
        assert not second.is_controller
        assert second.get_integer("Width") == 160
        with pytest.raises(AravisError, match="access-denied"):
            second.set("Width", 64)


def test_another_program_holds_the_camera(aravis: Any, camera: GigEVisionCamera) -> None:
    camera.hold_elsewhere()
    with Device(aravis, camera.address, "127.0.0.1") as device:
        assert not device.is_controller
    camera.hold_elsewhere(EXCLUSIVE)
    with pytest.raises(AravisError):
        Device(aravis, camera.address, "127.0.0.1").__enter__()
    camera.release()
    with Device(aravis, camera.address, "127.0.0.1") as device:
        assert device.is_controller


def test_without_power_it_is_silent_and_afterwards_as_new(aravis: Any, camera: GigEVisionCamera) -> None:
    device = Device(aravis, camera.address, "127.0.0.1")
    with device:
        device.set("Gain", 3.0)
        trigger_at_line(device)
        with device.streaming() as stream:
            device.execute("AcquisitionStart")
            for number in range(3):
                snap(camera)
                assert is_whole(stream.next(), number)
            camera.power_off()
            assert not camera.is_acquiring
            camera.trigger()
            with pytest.raises(AravisError, match="no buffer"):
                stream.next(0.1)
            on_ns = time.monotonic_ns()
            camera.power_on()
            with pytest.raises(AravisError, match="access-denied"):
                device.set("Gain", 4.0)
    with Device(aravis, camera.address, "127.0.0.1") as device:
        assert device.get_float("Gain") == 0.0
        with started(device, camera) as stream:
            snap(camera)
            frame = stream.next()
    assert frame.block_id == 1
    assert frame.timestamp_ns - 1000 * 10**9 <= camera.sent[-1].exposed_ns - on_ns
    assert is_whole(frame, 3), "what lies before the lens goes on"
    assert camera.trigger() == 2


def test_a_frozen_camera_says_nothing_until_it_goes_on(camera: GigEVisionCamera, client: Client) -> None:
    camera.freeze()
    client.socket.settimeout(0.2)
    with pytest.raises(TimeoutError):
        client.read(0x0)
    camera.thaw()
    client.socket.settimeout(5.0)
    assert client.read(0x0) == 0x00010002


def test_control_is_lost_when_the_client_falls_silent(camera: GigEVisionCamera, client: Client) -> None:
    assert client.write(0x938, 500) == Status.ACCESS_DENIED
    assert client.write(0xA00, CONTROL) == Status.SUCCESS
    assert client.write(0x938, 500) == Status.SUCCESS
    assert client.write(0xD00, 5000) == Status.SUCCESS
    assert client.write(0xA038, 1) == Status.SUCCESS
    assert camera.state()["is_acquiring"]
    wait_until(lambda: not camera.state()["is_controlled"])
    assert not camera.state()["is_acquiring"]
    assert client.read(0xD00) == 0
    assert client.write(0x938, 500) == Status.ACCESS_DENIED


@pytest.mark.parametrize(
    ("address", "value", "status"),
    [
        (0xA018, 66, Status.INVALID_PARAMETER),  # Width, not a multiple of 4
        (0xA010, 1, Status.WRITE_PROTECT),  # SensorWidth
        (0xA01A, 1, Status.BAD_ALIGNMENT),
        (0xAF00, 1, Status.INVALID_ADDRESS),
        (0x90000, 1, Status.INVALID_ADDRESS),
    ],
)
def test_what_can_not_be_written_is_refused_in_the_standards_words(
    client: Client, address: int, value: int, status: Status
) -> None:
    client.write(0xA00, CONTROL)
    assert client.write(address, value) == status


def test_registers_written_together_stop_at_the_one_refused(client: Client) -> None:
    client.write(0xA00, CONTROL)
    together = struct.pack(">6I", 0xA018, 64, 0xA010, 1, 0xA01C, 50)
    assert client.ask(Command.WRITEREG, together) == (Status.WRITE_PROTECT, struct.pack(">HH", 0, 1))
    assert client.ask(Command.READREG, struct.pack(">2I", 0xA018, 0xA01C))[1] == struct.pack(">2I", 64, 100)


def test_a_command_whose_answer_was_lost_is_not_carried_out_twice(camera: GigEVisionCamera, client: Client) -> None:
    client.write(0xA00, CONTROL)
    client.write(0xA060, 1)  # FrameStart's TriggerSource: Software
    for request_id in (40, 40, 41):
        assert client.write(0xA070, 1, request_id) == Status.SUCCESS
    assert client.read(0xA0A0) == 2


def test_discovery_answers_with_the_camera_s_names(camera: GigEVisionCamera, client: Client) -> None:
    status, content = client.ask(Command.DISCOVERY, b"")
    assert status == Status.SUCCESS
    assert content[0xD8:0xE8].rstrip(b"\0") == b"LS0001"
    assert socket.inet_ntoa(content[0x24:0x28]) == camera.address


def test_its_commands_as_lines_of_text(aravis: Any, tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / f"{number}.raw").write_bytes(bytes([50 + number]) * IMAGE_BYTES)
    (tmp_path / "shown").write_bytes(b"x" * IMAGE_BYTES)
    with small_camera() as camera, Device(aravis, camera.address, "127.0.0.1") as device:
        commands = Commands(camera)
        assert commands.carry_out(f"pictures {tmp_path}") == "ok"
        assert commands.carry_out("block 9") == "ok"
        assert commands.carry_out("fault lose part=payload packets=2,3 frames=1") == "ok"
        with started(device, camera) as stream:
            assert commands.carry_out("trigger encoder=12") == "ok 1"
            frame = stream.next()
            assert (frame.block_id, frame.data) == (9, bytes([50]) * IMAGE_BYTES)
            wait_until(lambda: camera.waits_for_trigger)
            assert commands.carry_out(f"trigger picture={tmp_path / 'shown'}") == "ok 2"
            assert stream.next().data == b"x" * IMAGE_BYTES
        assert json.loads(commands.carry_out("state").removeprefix("ok "))["packets_resent"] == 2
        assert [frame.encoder_count for frame in camera.sent] == [12, 12]
        commands.carry_out("off")
        assert json.loads(commands.carry_out("state").removeprefix("ok "))["is_on"] is False


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("jump", "error unknown command jump"),
        ("fault burn", "error fault: got burn, expected lose, double or delay"),
        ("fault lose colour=red", "error fault: unknown: colour"),
        ("rate fast", "error rate: "),
        ("rate", "error rate: "),
        ("pictures /nowhere", "error pictures: "),
    ],
)
def test_a_line_that_means_nothing_is_answered_by_an_error(camera: GigEVisionCamera, line: str, answer: str) -> None:
    assert Commands(camera).carry_out(line).startswith(answer)


def test_a_killed_program_starts_again_at_the_same_address(aravis: Any, tmp_path: Path) -> None:
    address, log = loopback_address(), tmp_path / "frames"
    for serial in ("A1", "A2"):
        with CameraProgram(address, ["--serial", serial, "--frame-log", str(log)]) as program:
            with Device(aravis, address, "127.0.0.1") as device:
                assert device.get_text("DeviceSerialNumber") == serial
                trigger_at_line(device)
                with device.streaming() as stream:
                    device.execute("AcquisitionStart")
                    program.say("trigger encoder=5")
                    frame = stream.next()
                    assert is_whole(frame, 0)
            with pytest.raises(RuntimeError, match="unknown command"):
                program.say("jump")
            wait_until(lambda: log.read_text().endswith("\n"))
            (line,) = log.read_text().splitlines()
            assert json.loads(line)["timestamp_ticks"] == frame.timestamp_ns
            program.kill()


_NAMESPACE = """
ip link set lo up
unshare -n sleep 60 & inner=$!
for _ in $(seq 100); do [ "$(readlink /proc/$inner/ns/net)" != "$(readlink /proc/self/ns/net)" ] && break; sleep 0.05; done
ip link add host0 type veth peer name cam0
ip link set cam0 netns $inner
ip addr add 10.77.0.1/24 dev host0; ip link set host0 mtu 9000 up
nsenter -t $inner -n sh -c 'ip link set lo up; ip addr add 10.77.0.2/24 dev cam0; ip link set cam0 mtu 9000 up'
mkfifo "$1/in" "$1/out"
nsenter -t $inner -n "$2" -m tests.gige_vision_camera --address 10.77.0.2 --serial NS7 < "$1/in" > "$1/out" & camera=$!
exec 3> "$1/in" 4< "$1/out"
read -r said <&4; echo "$said"
timeout 20 arv-tool-0.8
echo 'hold' >&3; read -r said <&4; echo "$said"
echo 'state' >&3; read -r said <&4; echo "$said"
exec 3>&-; wait $camera; echo "ended $?"
kill $inner
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
@pytest.mark.skipif(
    shutil.which("arv-tool-0.8") is None, reason="arv-tool-0.8 is not installed (Debian: aravis-tools-cli)"
)
def test_as_a_program_in_a_network_namespace_it_is_found_by_broadcast(tmp_path: Path) -> None:
    ran = subprocess.run(
        ["unshare", "-n", "bash", "-c", _NAMESPACE, "bash", str(tmp_path), sys.executable],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    said = ran.stdout.splitlines()
    assert said[0] == "ready 10.77.0.2", ran.stderr
    assert "Lineside" in said[1]
    assert "10.77.0.2" in said[1]
    assert said[2] == "ok"
    assert '"is_controlled": true' in said[3]
    assert said[4] == "ended 0"
