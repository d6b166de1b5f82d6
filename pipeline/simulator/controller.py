"""The line controller with its gate, as a process of its own: reads MQTT as a PLC would and keeps its own book.

``python -m pipeline.simulator.controller OPTIONS_JSON``. It listens for the line's sensors on an AF_UNIX SOCK_SEQPACKET
and subscribes, QoS 0 and with a clean start, to ``verdict`` and ``heartbeat`` alone. Inputs are read at multiples of
``scan_ms``, as a PLC's scan does (scans in which nothing came are skipped): sensors and gate first, MQTT after, so that
a verdict counts only if it came in an earlier scan than the part at the gate.

**The book** is a JSON-lines file: ``gate`` for each part at the gate (``gate_ns`` as the line stamped it,
``decided_ns``, ``latch``, ``passed``, ``why``, and ``session_id``, ``seq``, ``part_id``, ``encoder_count`` of the
verdict used), ``late`` and ``unmatched`` for verdicts that no part was waiting for, ``overdue`` for a ``PASS`` behind its
deadline, ``belt``, and a ``summary`` at the end.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.simulator.gate import Gate, GateDecision, GateOptions
from pipeline.simulator.mqtt_reader import BrokerAddress, Message, MqttReader
from pipeline.simulator.process import (
    Book,
    Control,
    SimulatorProcess,
    options_from_argv,
    set_timer_slack_ns,
)
from pipeline.simulator.protocol import LINE_EVENT_BYTES, LineEvent, LineEventKind, decode_line_event

_IDLE_S = 0.2
_TIMER_SLACK_NS = 1_000


class ControllerOptions(GateOptions):
    """The controller."""

    broker: BrokerAddress
    root: str = Field(min_length=1, description="topics of the service are below this")
    line_path: Path = Field(description="AF_UNIX SOCK_SEQPACKET that the line's sensors connect to")
    book_path: Path
    scan_ms: float = Field(default=2.0, gt=0.0)


class ControllerProcess(SimulatorProcess):
    """Handle of the controller; its counts come with ``report``."""

    module = "pipeline.simulator.controller"

    def __init__(self, options: ControllerOptions) -> None:
        super().__init__(options)


class _Controller:
    def __init__(self, options: ControllerOptions) -> None:
        self._gate = Gate(options)
        self._scan_ns = round(options.scan_ms * 1e6)
        self._verdict_topic = f"{options.root}/verdict"
        self._heartbeat_topic = f"{options.root}/heartbeat"
        topics = [self._verdict_topic, self._heartbeat_topic]
        self._reader = MqttReader(options.broker, "lineside-line-controller", topics, qos=0)
        self._book = Book(options.book_path)
        self._line_path = options.line_path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        options.line_path.unlink(missing_ok=True)
        self._listener.bind(str(options.line_path))
        self._listener.listen(1)
        self._listener.setblocking(False)
        self._line: socket.socket | None = None
        self._scans = 0

    def run(self, control: Control) -> None:
        is_ready = False
        while not control.is_closed:
            self._wait_for_scan(control)
            self._scans += 1
            self._read_line()
            for message in self._reader.read(time.monotonic_ns()):
                self._hear(message)
            self._book.flush()
            if not is_ready and self._reader.is_subscribed:
                is_ready = True
                control.say("ready")
            for command in control.commands():
                is_known = command.get("command") == "report"
                control.say("reply", **(self._figures() if is_known else {"error": f"unknown command {command}"}))
        self._book.write("summary", **self._figures())
        self._book.close()
        self._reader.close()
        if self._line is not None:
            self._line.close()
        self._listener.close()
        self._line_path.unlink(missing_ok=True)

    def _wait_for_scan(self, control: Control) -> None:
        """Waits until something has come, and then until the next multiple of the scan time."""
        line = self._listener if self._line is None else self._line
        readable: list[Any] = [control, line, *self._reader.readable]
        select.select(readable, self._reader.writable, [], _IDLE_S)
        now_ns = time.monotonic_ns()
        select.select([], [], [], (self._scan_ns - now_ns % self._scan_ns) * 1e-9)

    def _read_line(self) -> None:
        if self._line is None:
            try:
                self._line, _ = self._listener.accept()
            except BlockingIOError:
                return
            self._line.setblocking(False)
        while True:
            try:
                packet = self._line.recv(LINE_EVENT_BYTES)
            except BlockingIOError:
                return
            if not packet:
                self._line.close()
                self._line = None
                return
            self._obey_sensor(decode_line_event(packet))

    def _obey_sensor(self, event: LineEvent) -> None:
        if event.kind is LineEventKind.SENSOR:
            self._gate.sense(event.encoder_count, event.event_ns)
        elif event.kind is LineEventKind.LAST_VIEW:
            self._gate.pass_last_camera(event.encoder_count, event.event_ns)
        elif event.kind is LineEventKind.GATE:
            decided_ns = time.monotonic_ns()
            self._write_decision(event, decided_ns, self._gate.decide(event.encoder_count, decided_ns))
        else:
            if event.kind is LineEventKind.BELT_STOPPED:
                self._gate.stop_belt()
            self._book.write("belt", kind=event.kind.name, encoder_count=event.encoder_count, at_ns=event.event_ns)

    def _write_decision(self, event: LineEvent, decided_ns: int, decision: GateDecision) -> None:
        used = decision.used
        self._book.write(
            "gate",
            gate_ns=event.event_ns,
            decided_ns=decided_ns,
            encoder_count_at_gate=event.encoder_count,
            latch=decision.latch,
            passed=decision.has_passed,
            why=decision.why,
            session_id=used and used.session_id,
            seq=used and used.seq,
            part_id=used and used.part_id,
            encoder_count=used and used.encoder_count,
            verdict=used and used.verdict,
        )

    def _hear(self, message: Message) -> None:
        if message.is_retained:
            return  # neither topic is ever retained: whatever this is, it is old
        try:
            payload = json.loads(message.payload)
        except ValueError:
            payload = None  # counted as malformed below
        if message.topic == self._heartbeat_topic:
            self._gate.hear_heartbeat(payload, message.arrival_ns)
        elif message.topic == self._verdict_topic:
            outcome = self._gate.hear_verdict(payload, message.arrival_ns)
            if outcome in ("late", "overdue", "unmatched"):
                self._book.write(outcome, heard_ns=message.arrival_ns, payload=payload)

    def _figures(self) -> dict[str, Any]:
        names = [
            "parts_at_gate",
            "gate_passes",
            "gate_rejects",
            "late_at_gate",
            "overdue_at_gate",
            "verdicts",
            "duplicate_verdicts",
            "repeated_messages",
            "seq_gaps",
            "unmatched_verdicts",
            "malformed_messages",
            "heartbeats",
        ]
        figures = {name: self._gate.counts[name] for name in names}
        return {**figures, "connects": self._reader.connects, "scans": self._scans, "cpu_s": time.process_time()}


def main() -> None:
    """Runs the controller as a child process."""
    options = options_from_argv(ControllerOptions)
    control = Control()
    try:
        controller = _Controller(options)
    except OSError as error:
        sys.exit(f"controller simulator: {options.line_path}: {error}")
    set_timer_slack_ns(_TIMER_SLACK_NS)
    gc.collect()
    gc.freeze()
    controller.run(control)


if __name__ == "__main__":
    main()
