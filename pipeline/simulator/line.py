"""The production line: belt with encoder, parts, trigger station, cameras and gate, as a process of its own.

``python -m pipeline.simulator.line OPTIONS_JSON``. Requests: ``start`` (parts begin to come), ``set_speed``, ``fault``,
``report``, ``finish`` (no new parts). When the last part is past the gate it reports ``finished`` and lives on until it
is stopped, so that no driver loses its camera.

**The book** is a JSON-lines file. ``line`` opens it with the geometry; then, as things happen, ``part`` (at the
trigger station), ``fault`` (one that strikes this part), ``trigger`` and ``frame`` (per camera), ``gate``, ``belt``,
``camera`` (unplugged or plugged in), ``driver``, ``undelivered``; then ``summary``, and ``end`` when the cameras are
switched off.
Counts are as the controller sees them (wrapped), moments are CLOCK_MONOTONIC in nanoseconds.
"""

from __future__ import annotations

import gc
import random
import select
import socket
import sys
import time
from array import array
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from pipeline.simulator.belt import Agenda, Belt
from pipeline.simulator.camera import CameraOptions
from pipeline.simulator.counting import wrap_count
from pipeline.simulator.images import ImageError, load_images, shuffled_forever
from pipeline.simulator.line_cameras import LineCameras
from pipeline.simulator.line_faults import FaultKind, FaultOptions, FaultPlan
from pipeline.simulator.line_options import LineOptions, SpeedChange
from pipeline.simulator.picture_code import PictureCode
from pipeline.simulator.process import (
    Book,
    Control,
    SimulatorError,
    SimulatorProcess,
    options_from_argv,
    set_timer_slack_ns,
)
from pipeline.simulator.protocol import LineEvent, LineEventKind, encode_line_event

_FLUSH_EVERY_NS = 200_000_000
_TIMER_SLACK_NS = 1_000


class LineProcess(SimulatorProcess):
    """Handle of the line. ``start`` spawns it; ``start_parts`` lets the parts come."""

    module = "pipeline.simulator.line"

    def __init__(self, options: LineOptions) -> None:
        super().__init__(options)

    def start_parts(self) -> None:
        """Lets the parts come."""
        self.request("start")

    def set_speed(self, speed_mm_s: float) -> None:
        """Changes the belt's speed now; 0 stops it."""
        self.request("set_speed", speed_mm_s=speed_mm_s)

    def add_fault(self, fault: FaultOptions) -> None:
        """Lets something go wrong from now on."""
        self.request("fault", fault=fault.model_dump())

    def finish(self) -> None:
        """No new parts; those under way go on to the gate. Then wait with ``wait_finished``."""
        self.request("finish")

    def wait_finished(self, timeout_s: float) -> dict[str, Any]:
        """The summary, once the last part is past the gate. Raises SimulatorError after ``timeout_s``."""
        return self.wait_event("finished", timeout_s)


class Line:
    """The line inside its process: what happens to the parts, and the book of it."""

    def __init__(self, options: LineOptions) -> None:
        self._options = options
        self._images = load_images(options.images)
        self._order = shuffled_forever(len(self._images.pictures), options.seed)
        self._chance = random.Random(options.seed + 1)
        self._faults = FaultPlan(options.faults, self._chance)
        self._speed_changes = {change.at_part: change for change in options.speed_changes}
        self._runs_back = any(change.speed_mm_s < 0 for change in options.speed_changes)
        self._book = Book(options.book_path)
        self._controller = _connect(options.controller_path)
        self._belt = Belt(options.speed_mm_s, options.pulses_per_mm, time.monotonic_ns())
        self._agenda = Agenda(self._belt)
        self._counts: Counter[str] = Counter()
        self._cameras = LineCameras(
            options.cameras, self._images, self._agenda, self._book, self._counts, options.encoder_bits, self._latched
        )
        self._trigger_lateness_ns = array("q")
        self._gate_lateness_ns = array("q")
        self._origin_pulses = 0.0
        self._parts_wanted = options.parts
        self._under_way = 0
        """Things that have begun and must end before the line has finished: parts before the gate, second triggers."""
        self._has_started = False
        self._has_finished = False
        self._book_opening()

    def run(self, control: Control) -> None:
        """Runs the line until the parent closes the control."""
        self._flush_book(time.monotonic_ns())
        control.say("ready", cameras=[str(camera.path) for camera in self._options.cameras])
        while not control.is_closed:
            self._do_due()
            if self._wait(control):
                for command in control.commands():
                    control.say("reply", **self._obey(command))
            if self._has_started and not self._has_finished and self._is_empty():
                self._has_finished = True
                control.say("finished", **self._close_account())
        if not self._has_finished:
            self._close_account()
        now_ns = time.monotonic_ns()
        self._book.write("end", at_ns=now_ns)
        self._cameras.close(now_ns)
        if self._controller is not None:
            self._controller.close()
        self._book.close()

    def _do_due(self) -> None:
        while True:
            due = self._agenda.take_due(time.monotonic_ns())
            if due is None:
                return
            due_ns, action = due
            action(due_ns)

    def _wait(self, control: Control) -> bool:
        """Waits for the next thing to do and serves the cameras. Whether a command has come."""
        readable: list[Any] = [control, *self._cameras.readable]
        due_ns = self._agenda.next_due_ns()
        timeout_s = None if due_ns is None else max(0.0, (due_ns - time.monotonic_ns()) * 1e-9)
        can_read, can_write, _ = select.select(readable, self._cameras.writable, [], timeout_s)
        has_command = control in can_read
        if can_write or len(can_read) > has_command:
            self._cameras.serve()
        return has_command

    def _obey(self, command: dict[str, Any]) -> dict[str, Any]:
        name = command.get("command")
        now_ns = time.monotonic_ns()
        if name == "start":
            if self._has_started:
                return {"error": "the parts are coming already"}
            self._has_started = True
            self._origin_pulses = self._belt.position_pulses(now_ns)
            self._send_part(1)
        elif name == "set_speed":
            speed_mm_s = float(command["speed_mm_s"])
            if speed_mm_s < 0:
                return {"error": f"speed_mm_s: got {speed_mm_s}, expected at least 0; a speed_change runs it back"}
            self._do_due()  # what the belt has reached until now, it has reached at the old speed
            self._set_speed(speed_mm_s, time.monotonic_ns())
        elif name == "fault":
            try:
                fault = FaultOptions.model_validate(command["fault"])
            except ValidationError as error:
                return {"error": str(error)}
            self._faults.add(fault, next_part=self._counts["parts_sent"] + 1)
        elif name == "finish":
            self._parts_wanted = self._counts["parts_sent"]
            self._has_started = True
        elif name != "report":
            return {"error": f"unknown command {name!r}"}
        return self._figures()

    def _send_part(self, part_number: int) -> None:
        jitter = self._chance.uniform(-1.0, 1.0) * self._options.pitch_jitter
        place_pulses = round(self._origin_pulses + (part_number + jitter) * self._options.pitch_pulses)
        self._agenda.at_place(place_pulses, partial(self._part_at_sensor, part_number, place_pulses))

    def _all_parts_sent(self) -> bool:
        return self._parts_wanted is not None and self._counts["parts_sent"] >= self._parts_wanted

    def _is_empty(self) -> bool:
        return self._all_parts_sent() and not self._under_way and not self._cameras.frames_under_way

    def _part_at_sensor(self, part_number: int, place_pulses: int, due_ns: int) -> None:
        if not self._options.trigger_jitter_us:
            self._part_at_trigger(part_number, place_pulses, due_ns)
            return
        late_ns = round(self._chance.uniform(0.0, self._options.trigger_jitter_us) * 1e3)
        self._agenda.at_moment(due_ns + late_ns, partial(self._part_at_trigger, part_number, place_pulses))

    def _part_at_trigger(self, part_number: int, place_pulses: int, due_ns: int) -> None:
        if self._all_parts_sent():
            return
        is_late = self._options.trigger_jitter_us > 0
        latch_pulses = int(self._belt.position_pulses(due_ns)) if is_late else place_pulses
        count = self._count_at(max(place_pulses, latch_pulses))
        image_index = next(self._order)
        faults = self._faults.striking(part_number)
        is_missing = any(fault.kind == "missing_trigger" and fault.camera_id is None for fault in faults)
        now_ns = time.monotonic_ns()
        self._trigger_lateness_ns.append(now_ns - due_ns)
        # Cameras first: what the books cost must not delay the trigger.
        if not is_missing:
            self._send_past_cameras(part_number, place_pulses, count, image_index, faults, due_ns)
        # The moment is latched, as a controller's input would: a box that stands still just here must not give the part more time.
        self._tell_controller(LineEventKind.SENSOR, count, now_ns)
        self._counts["parts_sent"] += 1
        label = self._images.labels[image_index]
        self._counts[f"parts_{label or 'unlabelled'}"] += 1
        self._book.write(
            "part",
            part_number=part_number,
            encoder_count=count,
            sensed_ns=now_ns,
            label=label,
            image_index=image_index,
            trigger_missing=is_missing,
        )
        for fault in faults:
            self._book_fault(fault, part_number, now_ns)
        self._under_way += 1
        gate_pulses = place_pulses + self._options.gate_offset_pulses
        self._agenda.at_place(gate_pulses, partial(self._part_at_gate, part_number, gate_pulses))
        if not self._all_parts_sent():
            self._send_part(part_number + 1)
        change = self._speed_changes.get(part_number)
        if change is not None:
            before_mm_s = self._belt.speed_mm_s
            self._set_speed(change.speed_mm_s, due_ns)
            if change.for_ms is not None:
                back_ns = due_ns + round(change.for_ms * 1e6)
                self._agenda.at_moment(back_ns, partial(self._set_speed, before_mm_s))

    def _book_fault(self, fault: FaultOptions, part_number: int, at_ns: int) -> None:
        self._book.write(
            "fault",
            kind=fault.kind,
            part_number=part_number,
            camera_id=fault.camera_id,
            code=fault.code and fault.code.name,
            at_ns=at_ns,
        )

    def _send_past_cameras(
        self,
        part_number: int,
        place_pulses: int,
        count: int,
        image_index: int,
        faults: list[FaultOptions],
        due_ns: int,
    ) -> None:
        """Those at the trigger station see the part now, the others when it comes there; all see it again if the belt runs back."""
        places, slipped_pulses = self._options.camera_places_pulses, 0.0
        for place in places:
            at_camera = partial(self._part_at_cameras, part_number, place, image_index, faults)
            if place == 0:
                self._trigger(part_number, place, count, image_index, faults, due_ns)
                if self._runs_back:
                    self._agenda.at_place(place_pulses, lambda due_ns: None, at_camera)
                continue
            if self._options.slip_pulses:
                slipped_pulses += self._chance.uniform(-1.0, 1.0) * self._options.slip_pulses
            self._agenda.at_place(
                place_pulses + place + slipped_pulses, at_camera, at_camera if self._runs_back else None
            )
        if places[-1] > 0:
            last_view = partial(self._tell_last_view, count)
            self._agenda.at_place(place_pulses + places[-1], last_view)

    def _part_at_cameras(
        self, part_number: int, place: int, image_index: int, faults: list[FaultOptions], due_ns: int
    ) -> None:
        if self._options.trigger_jitter_us:
            late_ns = round(self._chance.uniform(0.0, self._options.trigger_jitter_us) * 1e3)
            self._agenda.at_moment(
                due_ns + late_ns, partial(self._trigger_now, part_number, place, image_index, faults)
            )
        else:
            self._trigger_now(part_number, place, image_index, faults, due_ns)

    def _trigger_now(
        self, part_number: int, place: int, image_index: int, faults: list[FaultOptions], due_ns: int
    ) -> None:
        self._trigger(part_number, place, self._count_now(due_ns), image_index, faults, due_ns)

    def _trigger(
        self, part_number: int, place: int, count: int, image_index: int, faults: list[FaultOptions], due_ns: int
    ) -> None:
        self._cameras.trigger(part_number, count, image_index, faults, place)
        for fault in faults:
            if fault.kind == "doubled_trigger":
                self._under_way += 1
                again = partial(self._trigger_again, part_number, place, image_index, faults, fault.camera_id)
                self._agenda.at_moment(due_ns + fault.time_ns, again)

    def _trigger_again(
        self,
        part_number: int,
        place: int,
        image_index: int,
        faults: list[FaultOptions],
        camera_id: str | None,
        due_ns: int,
    ) -> None:
        self._under_way -= 1
        self._counts["doubled_triggers"] += 1
        self._cameras.trigger(part_number, self._count_now(due_ns), image_index, faults, place, camera_id)

    def _tell_last_view(self, count: int, due_ns: int) -> None:
        self._tell_controller(LineEventKind.LAST_VIEW, count)

    def _part_at_gate(self, part_number: int, place_pulses: int, due_ns: int) -> None:
        self._under_way -= 1
        count = self._count_at(place_pulses)
        gate_ns = self._tell_controller(LineEventKind.GATE, count)
        self._gate_lateness_ns.append(gate_ns - due_ns)
        self._counts["parts_at_gate"] += 1
        self._book.write("gate", part_number=part_number, encoder_count=count, gate_ns=gate_ns)

    def _set_speed(self, speed_mm_s: float, at_ns: int) -> None:
        before_mm_s = self._belt.speed_mm_s
        self._belt.set_speed(speed_mm_s, at_ns)
        told_ns: int | None = None
        if (before_mm_s > 0) != (speed_mm_s > 0):
            kind = LineEventKind.BELT_STARTED if speed_mm_s > 0 else LineEventKind.BELT_STOPPED
            told_ns = self._tell_controller(kind, self._count_at(int(self._belt.position_pulses(at_ns))))
        self._book.write("belt", speed_mm_s=speed_mm_s, at_ns=at_ns, told_ns=told_ns)

    def _count_now(self, due_ns: int) -> int:
        return self._count_at(int(self._belt.position_pulses(due_ns)))

    def _latched(self, count: int) -> int:
        jitter = self._options.encoder_jitter_pulses
        if not jitter:
            return count
        return wrap_count(count + self._chance.randint(-jitter, jitter), self._options.encoder_bits)

    def _count_at(self, position_pulses: int) -> int:
        return wrap_count(self._options.encoder_start_count + position_pulses, self._options.encoder_bits)

    def _tell_controller(self, kind: LineEventKind, count: int, event_ns: int | None = None) -> int:
        """Tells the controller; returns the event's moment, now unless given."""
        if event_ns is None:
            event_ns = time.monotonic_ns()
        if self._controller is not None:
            try:
                self._controller.send(encode_line_event(LineEvent(kind, count, event_ns)))
            except (BlockingIOError, BrokenPipeError, ConnectionResetError):
                self._counts["controller_events_lost"] += 1
        return event_ns

    def _flush_book(self, due_ns: int) -> None:
        self._book.flush()
        self._agenda.at_moment(due_ns + _FLUSH_EVERY_NS, self._flush_book)

    def _figures(self) -> dict[str, Any]:
        names = [
            "parts_sent",
            "parts_good",
            "parts_defective",
            "parts_unlabelled",
            "parts_at_gate",
            "triggers_sent",
            "doubled_triggers",
            "triggers_unobserved",
            "frames_sent",
            "controller_events_lost",
        ]
        figures = {name: self._counts[name] for name in names}
        return {**figures, "frames_dropped_at_camera": self._cameras.frames_dropped}

    def _close_account(self) -> dict[str, Any]:
        lateness_us = {"trigger": _spread_us(self._trigger_lateness_ns), "gate": _spread_us(self._gate_lateness_ns)}
        summary = {**self._figures(), "lateness_us": lateness_us, "cpu_s": time.process_time()}
        self._book.write("summary", **summary)
        self._book.flush()
        return summary

    def _book_opening(self) -> None:
        options = self._options
        geometry = self._images.geometry
        self._book.write(
            "line",
            encoder_bits=options.encoder_bits,
            pitch_pulses=options.pitch_pulses,
            window_pulses=options.window_pulses,
            gate_offset_pulses=options.gate_offset_pulses,
            parts_per_min=options.parts_per_min,
            camera_ids=[camera.camera_id for camera in options.cameras],
            camera_places_pulses=options.camera_places_pulses,
            frame_width_px=geometry.frame_width_px,
            frame_height_px=geometry.frame_height_px,
            at_ns=time.monotonic_ns(),
        )


def _connect(path: Path | None) -> socket.socket | None:
    if path is None:
        return None
    controller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    controller.connect(str(path))
    controller.setblocking(False)
    return controller


def _spread_us(lateness_ns: array[int]) -> dict[str, float]:
    if not lateness_ns:
        return {}
    p50, p99, largest = np.percentile(np.asarray(lateness_ns) / 1e3, [50, 99, 100])
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1), "max": round(float(largest), 1)}


def main() -> None:
    """Runs the line as a child process."""
    options = options_from_argv(LineOptions)
    control = Control()
    try:
        line = Line(options)
    except (ImageError, OSError) as error:
        sys.exit(f"line simulator: {error}")
    set_timer_slack_ns(_TIMER_SLACK_NS)
    gc.collect()
    gc.disable()  # nothing here makes cycles, and a collection over thousands of pictures' worth of objects is late
    line.run(control)


if __name__ == "__main__":
    main()


__all__ = [
    "CameraOptions",
    "FaultKind",
    "FaultOptions",
    "LineOptions",
    "LineProcess",
    "PictureCode",
    "SimulatorError",
    "SpeedChange",
]
