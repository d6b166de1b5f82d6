"""Frames of one camera, taken as acquisition takes them, and the books on them."""

from __future__ import annotations

import os
import select
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pipeline.camera_config import AnyCamera
from pipeline.cameras.base import (
    Camera,
    CameraEvent,
    CameraUnavailable,
    CountsPackets,
    Fires,
    Grabbed,
    NotGrabbed,
    Triggered,
)
from pipeline.cli.cameras.figures import Stamp
from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns, seconds_until
from pipeline.machine import slot_bytes
from pipeline.ring import Ring, RingReader, Slot
from vision.types import Frame

SILENT_S: float = 5
"""Without a frame for so long, somebody wants to know why."""
GIVE_UP_S: float = 60
_LOOK_NS = 200 * NS_PER_MS
"""How often it is looked whether to end, at least."""
_LAST_FRAMES_NS = 2 * NS_PER_S
"""How long frames of software triggers may take after the last one."""
_READER = "grab"


@dataclass(frozen=True, slots=True)
class Plan:
    """``frames_max`` and ``duration_s``: whichever is reached first. ``fire_hz``: software triggers, None for none."""

    frames_max: int | None
    duration_s: float | None
    fire_hz: float | None


@dataclass(slots=True)
class Books:
    """What came. ``bad`` by the driver's text; ``lost_text``: why the camera went away, empty where it did not."""

    stamps: list[Stamp] = field(default_factory=list)
    trigger_count: int = 0
    refused_count: int = 0
    missed_count: int = 0
    bad: Counter[str] = field(default_factory=Counter)
    fired_count: int = 0
    not_ready_count: int = 0
    packets: Mapping[str, int] = field(default_factory=dict)
    elapsed_ns: int = 0
    lost_text: str = ""
    gave_up: bool = False
    ran_out: bool = False
    """The camera has no more frames: a folder that is not played again."""

    @property
    def outcome_count(self) -> int:
        return len(self.stamps) + self.refused_count + self.missed_count + self.bad.total()

    @property
    def unanswered_count(self) -> int:
        """Software triggers that the camera took and of which nothing came."""
        return max(0, self.fired_count - self.not_ready_count - self.outcome_count) if self.fired_count else 0


class Grabbing:
    """One camera that is open, its ring, and the newest whole frame in it."""

    def __init__(self, config: AnyCamera, camera: Camera, plan: Plan) -> None:
        """Raises OSError where there is no memory for the ring."""
        self._camera = camera
        self._plan = plan
        # One more, as the newest frame keeps its slot.
        self._ring = Ring(config.camera_id, config.ring_slots + 1, slot_bytes(config))
        self._reader = RingReader(
            config.camera_id, os.dup(self._ring.descriptor), self._ring.slot_count, self._ring.slot_bytes
        )
        self._newest: Slot | None = None
        self._end_ns: int | None = None
        self._next_fire_ns: int | None = None
        """None where no more software triggers are given."""
        self._last_frames_ns: int | None = None
        self.books = Books()

    def run(self, tell_silent: Callable[[float], None], should_end: Callable[[], bool]) -> None:
        """Until the plan is done, ``should_end`` says so, or the camera went away. ``tell_silent`` gets the seconds without a
        frame, once for each such time.
        """
        plan, books, begin_ns = self._plan, self.books, now_ns()
        self._end_ns = None if plan.duration_s is None else begin_ns + int(plan.duration_s * NS_PER_S)
        self._next_fire_ns = None if plan.fire_hz is None else begin_ns
        heard_ns, heard_count, is_told = begin_ns, 0, False
        try:
            while not (should_end() or self._is_done() or books.ran_out or books.gave_up):
                self._turn()
                if books.outcome_count != heard_count:
                    heard_ns, heard_count, is_told = now_ns(), books.outcome_count, False
                silent_ns = now_ns() - heard_ns
                if silent_ns >= SILENT_S * NS_PER_S and not is_told:
                    tell_silent(SILENT_S)
                    is_told = True
                books.gave_up = silent_ns >= GIVE_UP_S * NS_PER_S and plan.duration_s is None
        except CameraUnavailable as error:
            books.lost_text = str(error)
        books.elapsed_ns = now_ns() - begin_ns
        if isinstance(self._camera, CountsPackets):
            books.packets = self._camera.packet_counts()

    def frame(self) -> Frame | None:
        """The newest whole one, in place, also after ``close``."""
        return None if self._newest is None else self._reader.borrow(self._newest.index, self._newest.generation)

    def close(self) -> None:
        """The camera and the ring: nothing is written into it any more."""
        for slot in self._camera.close():
            self._ring.take_back(slot)
        self._ring.close()

    def _turn(self) -> None:
        """What there is to do now, and then a wait for what comes. Raises CameraUnavailable."""
        while (slot := self._ring.loan()) is not None:
            self._camera.queue(slot)
        if self._next_fire_ns is not None and now_ns() >= self._next_fire_ns:
            self._fire(self._next_fire_ns)
        descriptor, due_ns = self._camera.fileno(), self._camera.due_ns()
        if descriptor is None and due_ns is None:
            self.books.ran_out = True
            return
        end_ns = self._end_ns if self._last_frames_ns is None else self._last_frames_ns
        moments_ns = [each for each in (due_ns, self._next_fire_ns, end_ns) if each is not None]
        wake_ns = min([now_ns() + _LOOK_NS, *moments_ns])
        select.select([] if descriptor is None else [descriptor], [], [], seconds_until(wake_ns))
        for event in self._camera.poll():
            self._note(event)

    def _is_done(self) -> bool:
        now, plan, books = now_ns(), self._plan, self.books
        count = len(books.stamps) if plan.fire_hz is None else books.fired_count
        is_over = plan.frames_max is not None and count >= plan.frames_max
        is_over = is_over or (self._end_ns is not None and now >= self._end_ns)
        if not is_over or plan.fire_hz is None:
            return is_over
        self._next_fire_ns = None
        if self._last_frames_ns is None:
            self._last_frames_ns = now + _LAST_FRAMES_NS
        return not books.unanswered_count or now >= self._last_frames_ns

    def _fire(self, due_ns: int) -> None:
        assert isinstance(self._camera, Fires)
        assert self._plan.fire_hz is not None
        self.books.fired_count += 1
        self.books.not_ready_count += not self._camera.fire()
        # A loop that was held up goes on from now: no burst.
        self._next_fire_ns = max(due_ns + int(NS_PER_S / self._plan.fire_hz), now_ns())

    def _note(self, event: CameraEvent) -> None:
        books = self.books
        if isinstance(event, Triggered):
            books.trigger_count += 1
        elif isinstance(event, Grabbed):
            header = event.header
            books.stamps.append(
                Stamp(event.trigger_counter, header.exposure_ns, header.grabbed_ns, header.encoder_count)
            )
            self._keep(event)
        elif isinstance(event, NotGrabbed):
            if event.outcome == "BAD":
                books.bad[event.text] += 1
            elif event.outcome == "REFUSED":
                books.refused_count += 1
            else:
                books.missed_count += 1

    def _keep(self, event: Grabbed) -> None:
        self._ring.publish(event.slot, event.header, reader=_READER)
        if self._newest is not None:
            self._ring.release(self._newest.index, self._newest.generation, reader=_READER)
        self._newest = event.slot
