"""Line, controller, wire tap and broker together, around the least of services: the truth must see what went wrong."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import psutil
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from pipeline.simulator.broker import BrokerProcess, start_broker
from pipeline.simulator.controller import ControllerOptions, ControllerProcess
from pipeline.simulator.gate import Mutant
from pipeline.simulator.images import FrameGeometry, SyntheticImages, frame_geometry
from pipeline.simulator.line import CameraOptions, FaultOptions, LineOptions, LineProcess, SpeedChange
from pipeline.simulator.observer import ObserverOptions, ObserverProcess
from pipeline.simulator.picture_code import PictureCode, stamp_code
from pipeline.simulator.process import SimulatorError
from pipeline.simulator.protocol import (
    FRAME_END_BYTES,
    HEADER_BYTES,
    DeviceMessage,
    MessageKind,
    ProtocolError,
    check_frame_end,
    decode_header,
)
from pipeline.simulator.truth import Truth, find_truth, read_book, stream_book
from tests.waiting import wait_until
from vision.part_mark_reader import read

ROOT = "works/line1"
IMAGES = SyntheticImages()
FAR_GATE_PULSES = 4_000
"""400 ms behind the trigger station: these tests are about right and wrong, not about a busy box's speed."""
PATIENCE_S = 60.0


class CameraReader:
    """A driver of the simulated camera, as simple as can be."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.connect(str(path))
        except OSError:
            self.socket.close()
            raise

    def next(self) -> tuple[DeviceMessage, bytes] | None:
        """The next message with its pixels; waits. None at the end."""
        header = self.socket.recv(HEADER_BYTES, socket.MSG_WAITALL)
        if not header:
            return None
        message = decode_header(header)
        if message.kind is not MessageKind.FRAME:
            return message, b""
        pixels = self.socket.recv(message.payload_bytes, socket.MSG_WAITALL)
        check_frame_end(self.socket.recv(FRAME_END_BYTES, socket.MSG_WAITALL), message.trigger_counter)
        return message, pixels

    def close(self) -> None:
        self.socket.close()


@dataclass
class Habits:
    """What the service does wrong, by trigger counter."""

    mute: frozenset[int] = frozenset()
    slow: frozenset[int] = frozenset()
    slow_s: float = 0.6
    no_heartbeat: range = range(0)


def _set_no_delay(client: paho.Client, userdata: Any, connection: Any) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@dataclass
class FakeService:
    """Judges by brightness and publishes verdicts, results and heartbeats, from one thread."""

    camera_path: Path
    port: int
    geometry: FrameGeometry
    habits: Habits = field(default_factory=Habits)
    session_id: str = "session-1"
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._ended, self._end = socket.socketpair()
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_socket_open = _set_no_delay
        self._client.connect("127.0.0.1", self.port)
        self._client.loop_start()
        self._camera = CameraReader(self.camera_path)
        self._due: list[tuple[int, int, Callable[[], None]]] = []
        self._seq = 0
        self._counter = 0
        self._entered = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._end.close()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()
        self._camera.close()
        self._ended.close()

    def _run(self) -> None:
        self._beat()
        while True:
            wait_s = max(0.0, (self._due[0][0] - time.monotonic_ns()) * 1e-9)
            readable, _, _ = select.select([self._camera.socket, self._ended], [], [], wait_s)
            if self._ended in readable:
                return
            if self._camera.socket in readable:
                arrived = self._camera.next()
                if arrived is None:
                    return
                self._take(*arrived)
            while self._due[0][0] <= time.monotonic_ns():
                heapq.heappop(self._due)[2]()

    def _later(self, after_s: float, action: Callable[[], None]) -> None:
        self._entered += 1
        heapq.heappush(self._due, (time.monotonic_ns() + round(after_s * 1e9), self._entered, action))

    def _beat(self) -> None:
        if self._counter not in self.habits.no_heartbeat:
            self._publish("heartbeat", {"session_id": self.session_id, "state": "RUNNING"})
        self._later(0.05, self._beat)

    def _take(self, message: DeviceMessage, pixels: bytes) -> None:
        self.seen[message.kind.name] += 1
        self._counter = max(self._counter, message.trigger_counter)
        if message.kind is MessageKind.TRIGGER:
            return
        mark, verdict, reason = None, "NO_DECISION", "MISSED_FRAME"
        if message.kind is MessageKind.FRAME and message.height != self.geometry.frame_height_px:
            reason = "BAD_FRAME"
        elif message.kind is MessageKind.FRAME:
            frame = np.frombuffer(pixels, np.uint8).reshape(message.height, message.stride)
            geometry = self.geometry
            mark = read(frame, x_px=geometry.mark_x_px, y_px=geometry.mark_y_px, cell_px=geometry.mark_cell_px)
            is_bright = frame[: geometry.picture_height_px].mean() > 128
            verdict, reason = ("REJECT", "DEFECT") if is_bright else ("PASS", "OK")
        if message.trigger_counter in self.habits.mute:
            return
        self._seq += 1
        payload = {
            "session_id": self.session_id,
            "seq": self._seq,
            "part_id": self._seq,
            "verdict": verdict,
            "reason": reason,
            "encoder_count": message.encoder_count,
        }
        views = [{"camera_id": "c", "part_mark": mark}]
        result = {**payload, "trigger_ns": message.trigger_ns, "views": views}
        after_s = self.habits.slow_s if message.trigger_counter in self.habits.slow else 0.0

        def send() -> None:
            self._publish("verdict", payload)
            self._publish("result", result, qos=1)

        self._later(after_s, send)

    def _publish(self, topic: str, payload: dict[str, Any], qos: int = 0) -> None:
        self._client.publish(f"{ROOT}/{topic}", json.dumps(payload), qos=qos)


@pytest.fixture(scope="module")
def broker() -> Iterator[BrokerProcess]:
    try:
        started = start_broker()
    except SimulatorError as error:
        pytest.skip(str(error))
    with started:
        yield started


@dataclass
class World:
    """One run of the line with all that belongs to it."""

    folder: Path
    broker: BrokerProcess
    options: LineOptions
    mutant: Mutant | None = None
    habits: Habits = field(default_factory=Habits)

    @contextlib.contextmanager
    def running(self) -> Iterator[LineProcess]:
        with contextlib.ExitStack() as stack:
            tap_options = ObserverOptions(broker=self.broker.address(), root=ROOT, log_path=self.folder / "wire.jsonl")
            self.tap = stack.enter_context(ObserverProcess(tap_options))
            controller_options = ControllerOptions(
                broker=self.broker.address(),
                root=ROOT,
                line_path=self.folder / "controller",
                book_path=self.folder / "gate.jsonl",
                gate_offset_pulses=self.options.gate_offset_pulses,
                window_pulses=self.options.window_pulses,
                encoder_bits=self.options.encoder_bits,
                mutant=self.mutant,
            )
            self.controller = stack.enter_context(ControllerProcess(controller_options))
            line = stack.enter_context(LineProcess(self.options))
            camera_path = self.options.cameras[0].path
            self.service = FakeService(camera_path, self.broker.port, frame_geometry(IMAGES), self.habits)
            stack.callback(self.service.stop)
            wait_until(lambda: self.controller.report()["heartbeats"] > 0)
            yield line

    def run(self) -> Truth:
        with self.running() as line:
            line.start_parts()
            line.wait_finished(PATIENCE_S)
            # Results are sent behind their verdicts: the last one heard is the last one there is.
            sent = self.service.seen["FRAME"] + self.service.seen["MISSED"] - len(self.habits.mute)
            wait_until(lambda: self.tap.latest()["topics"].get("result", 0) >= sent)
        return self.truth()

    def truth(self) -> Truth:
        return find_truth(*(stream_book(self.folder / name) for name in ("line.jsonl", "gate.jsonl", "wire.jsonl")))


def line_options(folder: Path, **options: Any) -> LineOptions:
    given: dict[str, Any] = {
        "cameras": [CameraOptions(camera_id="c", path=folder / "camera")],
        "controller_path": folder / "controller",
        "book_path": folder / "line.jsonl",
        "images": IMAGES,
        "gate_offset_pulses": FAR_GATE_PULSES,
        **options,
    }
    return LineOptions.model_validate(given)


def test_an_honest_run_at_1200_a_minute(tmp_socket_dir: Path, broker: BrokerProcess) -> None:
    options = line_options(tmp_socket_dir, parts=240, encoder_bits=16, encoder_start_count=60_000)
    truth = World(tmp_socket_dir, broker, options).run()
    assert truth.violations == ()
    assert truth.line.parts_sent == truth.line.triggers_sent == truth.line.triggers_observable == 240
    assert truth.controller.parts_at_gate == truth.wire.verdicts == truth.wire.results == 240
    assert truth.controller.gate_rejects == truth.truth.defective == truth.wire.verdicts_by_kind["REJECT"]
    assert truth.truth.good + truth.truth.defective == 240
    assert truth.truth.good > 0
    assert truth.truth.defective > 0
    assert truth.truth.false_accepts == truth.truth.false_rejects == 0
    controller, wire = truth.controller, truth.wire
    assert controller.passed_without_pass == controller.wrong_part_passed == controller.late_at_gate == 0
    assert controller.passed_without_heartbeat == controller.passed_unproven == controller.decisions_missing == 0
    assert wire.triggers_without_verdict == wire.triggers_with_several_verdicts == wire.verdicts_without_trigger == 0
    assert wire.duplicate_seq == wire.seq_gaps == wire.results_missing == wire.results_duplicate == 0
    assert wire.malformed_messages == 0


MISSING = [10, 11, 30, 50]
LATE = frozenset(range(60, 70))
"""Trigger counters. Behind four missing triggers: parts 64 to 73."""
MUTE = frozenset(range(80, 110))
HEARTBEAT_GAP = range(130, 190)
"""At 3,000 a minute: 1.2 s."""


@pytest.mark.parametrize(
    ("mutant", "caught_as"),
    [
        (None, set()),
        ("fails_open", {"passed_without_pass", "passed_without_heartbeat"}),
        ("order_of_arrival", {"passed_without_pass", "wrong_part_passed"}),
        ("ignores_watchdog", {"passed_without_heartbeat"}),
        ("accepts_late", {"passed_without_pass", "wrong_part_passed"}),
    ],
)
def test_every_mutant_of_the_controller_is_caught(
    tmp_socket_dir: Path, broker: BrokerProcess, mutant: Mutant | None, caught_as: set[str]
) -> None:
    fault = FaultOptions(kind="missing_trigger", part_numbers=MISSING)
    options = line_options(tmp_socket_dir, parts=220, parts_per_min=3000.0, faults=[fault])
    habits = Habits(mute=MUTE, slow=LATE, no_heartbeat=HEARTBEAT_GAP)
    truth = World(tmp_socket_dir, broker, options, mutant, habits).run()
    kinds = ("passed_without_pass", "wrong_part_passed", "passed_without_heartbeat")
    found = {kind: getattr(truth.controller, kind) for kind in kinds}
    assert caught_as <= {kind for kind, count in found.items() if count > 0}
    if mutant is None:
        assert found == dict.fromkeys(kinds, 0)
        assert truth.truth.false_accepts == 0
        assert truth.controller.late_at_gate == len(LATE)
    assert truth.line.triggers_missing == len(MISSING)
    assert truth.wire.triggers_without_verdict == len(MUTE)
    assert truth.controller.parts_at_gate == 220


def test_missing_and_doubled_triggers_are_booked(tmp_socket_dir: Path, broker: BrokerProcess) -> None:
    faults = [
        FaultOptions(kind="missing_trigger", part_numbers=[3, 9]),
        FaultOptions(kind="missing_trigger", rate=0.1),
        FaultOptions(kind="doubled_trigger", part_numbers=[5, 6]),
        FaultOptions(kind="doubled_trigger", rate=0.1),
    ]
    options = line_options(tmp_socket_dir, parts=120, parts_per_min=2400.0, faults=faults, seed=5)
    truth = World(tmp_socket_dir, broker, options).run()
    line = read_book(tmp_socket_dir / "line.jsonl")
    triggers = Counter(record["part_number"] for record in line if record["event"] == "trigger")
    assert triggers[3] == triggers[9] == 0
    assert triggers[5] == triggers[6] == 2
    assert truth.line.triggers_missing == sum(triggers[part] == 0 for part in range(1, 121)) > 4
    assert truth.line.triggers_doubled == sum(triggers[part] == 2 for part in range(1, 121)) > 4
    assert truth.line.triggers_sent == triggers.total()
    counts = {part: [] for part in range(1, 121)}  # type: dict[int, list[int]]
    for record in line:
        if record["event"] == "trigger":
            counts[record["part_number"]].append(record["encoder_count"])
    assert all(0 < pair[1] - pair[0] < options.window_pulses for pair in counts.values() if len(pair) == 2)
    # The controller senses every part, and each trigger has had its verdict: nothing passed that should not.
    assert truth.controller.parts_at_gate == 120
    assert truth.wire.triggers_without_verdict == truth.wire.triggers_with_several_verdicts == 0
    assert truth.controller.passed_without_pass == truth.controller.wrong_part_passed == 0
    assert truth.controller.gate_passes == sum(
        triggers[record["part_number"]] > 0 and record["label"] == "good"
        for record in line
        if record["event"] == "part"
    )


def test_camera_faults(tmp_socket_dir: Path) -> None:
    faults = [
        FaultOptions(kind="missed_frame", part_numbers=[2]),
        FaultOptions(kind="lost_frame", part_numbers=[4]),
        FaultOptions(kind="wrong_size_frame", part_numbers=[6]),
        FaultOptions(kind="late_frame", part_numbers=[8], time_ms=150.0),
        FaultOptions(kind="silent_camera", part_numbers=[12], time_ms=250.0),
    ]
    options = line_options(
        tmp_socket_dir, parts=20, parts_per_min=600.0, controller_path=None, pitch_jitter=0.0, faults=faults
    )
    heard: dict[int, list[DeviceMessage]] = {}
    with LineProcess(options) as line, contextlib.closing(CameraReader(tmp_socket_dir / "camera")) as camera:
        line.start_parts()
        while 20 not in heard or heard[20][-1].kind is MessageKind.TRIGGER:
            arrived = camera.next()
            assert arrived is not None
            heard.setdefault(arrived[0].trigger_counter, []).append(arrived[0])
            assert len(arrived[1]) == arrived[0].payload_bytes
        summary = line.wait_finished(PATIENCE_S)
    kinds = {counter: [message.kind.name for message in messages] for counter, messages in heard.items()}
    assert kinds[1] == ["TRIGGER", "FRAME"]
    assert kinds[2] == ["TRIGGER", "MISSED"]
    assert kinds[4] == ["TRIGGER"]
    assert kinds[6] == ["TRIGGER", "FRAME"]
    assert heard[6][1].height == IMAGES.height_px // 2
    assert heard[6][1].payload_bytes == heard[6][1].height * heard[6][1].stride
    assert list(heard).index(8) < list(heard).index(9)
    assert kinds[8] == ["TRIGGER", "FRAME"]
    assert 12 not in heard
    assert 13 not in heard
    assert set(range(1, 21)) - set(heard) == {12, 13, 14}
    assert heard[9][1].frame_id < heard[8][1].frame_id
    assert summary["triggers_sent"] == 20
    assert summary["triggers_unobserved"] == 3


def test_frames_that_are_not_as_they_should_be(tmp_socket_dir: Path) -> None:
    faults = [
        FaultOptions(kind="incomplete_frame", part_numbers=[2]),
        FaultOptions(kind="doubled_frame", part_numbers=[4]),
        FaultOptions(kind="odd_picture", part_numbers=[6], code=PictureCode.SLOW),
        FaultOptions(kind="torn_frame", part_numbers=[8]),
    ]
    options = line_options(tmp_socket_dir, parts=12, parts_per_min=1200.0, controller_path=None, faults=faults)
    heard: dict[int, list[tuple[DeviceMessage, bytes]]] = {}
    with LineProcess(options) as line:
        with contextlib.closing(CameraReader(tmp_socket_dir / "camera")) as camera:
            line.start_parts()
            for _ in range(16):  # the trigger of part 8 is the last that can be read
                arrived = camera.next()
                assert arrived is not None
                heard.setdefault(arrived[0].trigger_counter, []).append(arrived)
            with pytest.raises(ProtocolError, match=r"trigger 8: .* the frame is torn"):
                camera.next()
        with contextlib.closing(CameraReader(tmp_socket_dir / "camera")) as camera:
            # Who connects again finds a stream that is in step.
            assert camera.next() is not None
            line.wait_finished(PATIENCE_S)
    kinds = {counter: [message.kind.name for message, _ in messages] for counter, messages in heard.items()}
    assert kinds == {
        **{counter: ["TRIGGER", "FRAME"] for counter in (1, 2, 3, 5, 6, 7)},
        4: ["TRIGGER", "FRAME", "FRAME"],
        8: ["TRIGGER"],
    }
    geometry = frame_geometry(IMAGES)
    incomplete, pixels = heard[2][1]
    assert incomplete.height == geometry.frame_height_px
    assert incomplete.payload_bytes == len(pixels) == geometry.picture_height_px // 2 * incomplete.stride
    assert heard[4][1] == heard[4][2]
    odd, plain = (
        np.frombuffer(heard[counter][1][1], np.uint8).reshape(geometry.frame_height_px, -1) for counter in (6, 7)
    )
    corner = (slice(geometry.picture_height_px // 4), slice(geometry.picture_width_px // 4))
    assert (stamp_code(odd[: geometry.picture_height_px], PictureCode.SLOW) == odd[: geometry.picture_height_px]).all()
    assert set(np.unique(odd[corner])) == {0, 255}
    assert set(np.unique(plain[corner])).isdisjoint({0, 255})
    assert read(odd, x_px=geometry.mark_x_px, y_px=geometry.mark_y_px, cell_px=geometry.mark_cell_px) == 6
    book = read_book(tmp_socket_dir / "line.jsonl")
    assert [
        (record["kind"], record["part_number"], record["code"]) for record in book if record["event"] == "fault"
    ] == [
        ("incomplete_frame", 2, None),
        ("doubled_frame", 4, None),
        ("odd_picture", 6, "SLOW"),
        ("torn_frame", 8, None),
    ]
    frames = [record for record in book if record["event"] == "frame"]
    assert [record["part_number"] for record in frames].count(4) == 2
    assert {tuple(record["faults"]) for record in frames if record["part_number"] == 8} == {("torn_frame",)}


def test_an_unplugged_camera_is_gone_and_begins_again(tmp_socket_dir: Path) -> None:
    # Long enough to be found gone, with parts enough for whoever comes back, on a box that has other things to do.
    parts, gone_ms = 100, 1_000.0
    faults = [FaultOptions(kind="unplugged_camera", part_numbers=[5], time_ms=gone_ms)]
    options = line_options(tmp_socket_dir, controller_path=None, parts=parts, parts_per_min=2400.0, faults=faults)
    path = tmp_socket_dir / "camera"
    with LineProcess(options) as line:
        with contextlib.closing(CameraReader(path)) as camera:
            line.start_parts()
            first = []
            while (arrived := camera.next()) is not None:
                first.append(arrived[0])
        with pytest.raises(OSError, match="No such file"):
            CameraReader(path)
        readers: list[CameraReader] = []

        def is_there_again() -> bool:
            with contextlib.suppress(OSError):
                readers.append(CameraReader(path))
            return bool(readers)

        wait_until(is_there_again)
        with contextlib.closing(readers[0]) as camera:
            arrived = camera.next()
            summary = line.wait_finished(PATIENCE_S)
    assert [message.trigger_counter for message in first] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert arrived is not None
    assert arrived[0].kind is MessageKind.TRIGGER
    book = read_book(tmp_socket_dir / "line.jsonl")
    out_ns, in_ns = (record["at_ns"] for record in book if record["event"] == "camera")
    assert in_ns - out_ns >= gone_ms * 1e6
    triggers = {record["part_number"]: record for record in book if record["event"] == "trigger"}
    assert list(triggers) == list(range(1, parts + 1))
    while_out = [record for record in triggers.values() if out_ns <= record["trigger_ns"] < in_ns]
    assert {record["trigger_counter"] for record in while_out} == {None}
    assert {record["sent"] for record in while_out} == {False}
    counters = [record["trigger_counter"] for record in triggers.values() if record["trigger_ns"] >= in_ns]
    assert counters == list(range(1, len(counters) + 1))
    assert arrived[0].trigger_counter in counters
    assert summary["triggers_sent"] == parts
    truth = find_truth(book, [], [])
    assert truth.line.triggers_sent == len(truth.triggers) == parts
    assert truth.line.triggers_unobserved >= len(while_out)


def test_a_driver_comes_and_goes(tmp_socket_dir: Path) -> None:
    options = line_options(tmp_socket_dir, controller_path=None, parts_per_min=3000.0)
    with LineProcess(options) as line:
        line.start_parts()
        wait_until(lambda: line.report()["triggers_sent"] >= 5)
        with contextlib.closing(CameraReader(tmp_socket_dir / "camera")) as camera:
            first = [camera.next() for _ in range(9)]
            with contextlib.closing(CameraReader(tmp_socket_dir / "camera")) as second:
                assert second.next() is None  # one driver at a time
        gone_at = line.report()["triggers_sent"]
        wait_until(lambda: line.report()["triggers_sent"] >= gone_at + 5)
        with contextlib.closing(CameraReader(tmp_socket_dir / "camera")) as camera:
            again = camera.next()
            line.finish()
            line.wait_finished(PATIENCE_S)
    assert first[0] is not None
    assert again is not None
    assert first[0][0].kind is again[0].kind is MessageKind.TRIGGER
    assert first[0][0].trigger_counter > 5
    assert again[0].trigger_counter >= gone_at + 5
    book = read_book(tmp_socket_dir / "line.jsonl")
    sent = {record["trigger_counter"] for record in book if record["event"] == "trigger" and record["sent"]}
    for message in (arrived[0] for arrived in first if arrived is not None):
        assert message.trigger_counter in sent
    assert not sent & set(range(1, 6))
    assert [record["connected"] for record in book if record["event"] == "driver"] == [True, False, True, False]
    truth = find_truth(book, [], [])
    line_truth = truth.line
    assert line_truth.triggers_unobserved >= 9
    assert (
        line_truth.triggers_observable + line_truth.triggers_in_doubt + line_truth.triggers_unobserved
        == line_truth.triggers_sent
    )


def test_a_driver_that_does_not_read_loses_frames_and_never_the_line(tmp_socket_dir: Path) -> None:
    images = SyntheticImages(width_px=800, height_px=800, image_count=2)
    options = line_options(tmp_socket_dir, controller_path=None, images=images, parts=60, parts_per_min=6000.0)
    with LineProcess(options) as line, contextlib.closing(CameraReader(tmp_socket_dir / "camera")) as camera:
        line.start_parts()
        summary = line.wait_finished(PATIENCE_S)
        seen = Counter[str]()
        while seen["TRIGGER"] < 60:  # every trigger was kept in the queue
            arrived = camera.next()
            assert arrived is not None
            seen[arrived[0].kind.name] += 1
    assert summary["frames_dropped_at_camera"] > 40
    assert summary["frames_sent"] + summary["frames_dropped_at_camera"] == 60
    assert seen["FRAME"] <= summary["frames_sent"]


def test_the_belt_changes_speed_and_stops(tmp_socket_dir: Path, broker: BrokerProcess) -> None:
    changes = [
        SpeedChange(at_part=10, speed_mm_s=2000.0),
        SpeedChange(at_part=20, speed_mm_s=0.0, for_ms=300.0),
        SpeedChange(at_part=40, speed_mm_s=500.0, for_ms=200.0),
    ]
    options = line_options(tmp_socket_dir, parts=90, speed_changes=changes, pitch_jitter=0.0)
    world = World(tmp_socket_dir, broker, options)
    with world.running() as line:
        line.start_parts()
        wait_until(lambda: line.report()["parts_sent"] >= 50)
        line.set_speed(0.0)
        standing = line.report()["parts_sent"]
        select.select([], [], [], 0.2)  # a belt that stands brings nothing, however long one waits
        assert line.report()["parts_sent"] == standing
        line.set_speed(1000.0)
        with pytest.raises(SimulatorError, match="expected at least 0"):
            line.set_speed(-1.0)
        line.wait_finished(PATIENCE_S)
    truth = world.truth()
    book = read_book(tmp_socket_dir / "line.jsonl")
    sensed_ns = {record["part_number"]: record["sensed_ns"] for record in book if record["event"] == "part"}
    counts = [record["encoder_count"] for record in book if record["event"] == "part"]
    assert {following - one for one, following in itertools.pairwise(counts)} == {500}
    assert sensed_ns[21] - sensed_ns[20] > 300_000_000
    assert [record["speed_mm_s"] for record in book if record["event"] == "belt"] == [
        2000.0,
        0.0,
        2000.0,
        500.0,
        2000.0,
        0.0,
        1000.0,
    ]
    gate_book = read_book(tmp_socket_dir / "gate.jsonl")
    belt = [record["kind"] for record in gate_book if record["event"] == "belt"]
    assert belt == ["BELT_STOPPED", "BELT_STARTED"] * 2
    assert truth.controller.passed_without_pass == truth.controller.wrong_part_passed == 0
    assert truth.controller.parts_at_gate == 90


def test_late_triggers_latch_the_count_late_and_the_faster_the_belt_the_more(tmp_socket_dir: Path) -> None:
    changes = [SpeedChange(at_part=30, speed_mm_s=200.0)]
    options = line_options(
        tmp_socket_dir,
        controller_path=None,
        parts=60,
        parts_per_min=6_000.0,
        gate_offset_pulses=500,
        trigger_jitter_us=2_000.0,
        speed_changes=changes,
    )
    with LineProcess(options) as line:
        line.start_parts()
        line.wait_finished(PATIENCE_S)
    book = read_book(tmp_socket_dir / "line.jsonl")
    latched = {record["part_number"]: record["encoder_count"] for record in book if record["event"] == "part"}
    late = {
        record["part_number"]: latched[record["part_number"]] + 500 - record["encoder_count"]
        for record in book
        if record["event"] == "gate"
    }
    fast, slow = ([late[number] for number in numbers] for numbers in (range(1, 31), range(31, 61)))
    assert all(0 <= pulses <= 20 for pulses in fast)
    assert all(0 <= pulses <= 4 for pulses in slow)
    assert max(fast) > 10
    assert max(slow) > 1


def test_several_cameras_see_each_part_and_faults_come_on_demand(tmp_socket_dir: Path) -> None:
    cameras = [CameraOptions(camera_id=name, path=tmp_socket_dir / name) for name in ("left", "right")]
    options = line_options(tmp_socket_dir, cameras=cameras, controller_path=None, parts=30, parts_per_min=3000.0)
    with contextlib.ExitStack() as stack:
        line = stack.enter_context(LineProcess(options))
        readers = [stack.enter_context(contextlib.closing(CameraReader(camera.path))) for camera in cameras]
        line.add_fault(FaultOptions(kind="missed_frame", next_parts=3, camera_id="right"))
        line.start_parts()
        line.wait_finished(PATIENCE_S)
        heard = []
        for reader in readers:
            arrived = [reader.next() for _ in range(60)]
            heard.append([each[0] for each in arrived if each is not None])
    left, right = heard
    triggers = [[each for each in camera if each.kind is MessageKind.TRIGGER] for camera in heard]
    assert [each.encoder_count for each in triggers[0]] == [each.encoder_count for each in triggers[1]]
    assert [each.trigger_counter for each in triggers[0]] == list(range(1, 31))
    assert Counter(each.kind.name for each in left) == {"TRIGGER": 30, "FRAME": 30}
    assert Counter(each.kind.name for each in right) == {"TRIGGER": 30, "FRAME": 27, "MISSED": 3}
    assert {each.trigger_counter for each in right if each.kind is MessageKind.MISSED} == {1, 2, 3}


def test_what_cannot_start_says_why(tmp_socket_dir: Path) -> None:
    with pytest.raises(SimulatorError, match="line simulator"):
        LineProcess(line_options(tmp_socket_dir)).start()  # no controller listens
    with pytest.raises(ValueError, match="two of one camera_id"):
        line_options(tmp_socket_dir, cameras=[{"camera_id": "c", "path": "/tmp/a"}] * 2)
    with pytest.raises(ValueError, match="expected at least 4"):
        line_options(tmp_socket_dir, parts_per_min=600_000.0)


def test_nothing_outlives_a_parent_that_is_killed(tmp_socket_dir: Path) -> None:
    options = line_options(tmp_socket_dir, controller_path=None)
    program = f"""
import json, sys
from pipeline.simulator.broker import start_broker
from pipeline.simulator.line import LineOptions, LineProcess
from pipeline.simulator.observer import ObserverOptions, ObserverProcess
from pathlib import Path
broker = start_broker()
tap = ObserverProcess(ObserverOptions(broker=broker.address(), root="r", log_path=Path({str(tmp_socket_dir)!r}) / "w"))
tap.start()
line = LineProcess(LineOptions.model_validate_json({options.model_dump_json()!r})).start()
line.start_parts()
print(json.dumps([broker.pid, broker.report()["pid"], tap.pid, line.pid]), flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    ) as parent:
        assert parent.stdout is not None
        processes = [psutil.Process(pid) for pid in json.loads(parent.stdout.readline())]
        parent.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, timeout=PATIENCE_S)
    assert alive == []
