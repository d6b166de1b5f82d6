"""Signalling's role around a DeadlineMachine, with an onlooker's books that know what every decision had to be.

``World`` carries outputs out into a real ledger, may be killed before any single store or send, and then starts a
successor from the ledger, as the service does. Acquisition writes what it reads into the ledger's journals and may die before
any of it is told. Each step is checked; ``Violation`` says what broke.
"""

from __future__ import annotations

import os
import pickle
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from pipeline.closing import parts_left
from pipeline.deadline import DeadlineMachine, Decision, Joined, Late, Opened, Output, Unmatched
from pipeline.journal import Journal
from pipeline.ledger import Ledger, LedgerEntry, LedgerHead, TriggerKey
from pipeline.messages import FrameOutcome, FrameStatus, Trigger, ViewInspected
from pipeline.rules import Matching, Timing
from vision.types import Reason, Verdict

TIMING = Timing(deadline_ns=100, guard_ns=20)
CHOICE_NS = 80
NEVER_READ = 1_000
"""From here on trigger_counters that no acquisition ever gave."""
MATCHING = Matching(encoder_bits=16, pulses=4, window_ns=0)
OUTCOME_REASONS = {"REFUSED": Reason.OVERRUN, "BAD": Reason.BAD_FRAME, "MISSED": Reason.MISSED_FRAME}
VIEW_REASONS = {"PASS": "OK", "REJECT": "DEFECT", "NO_DECISION": "BAD_FRAME"}


class Violation(AssertionError):
    """A promise was broken."""


class Killed(BaseException):
    """kill -9: nothing of the process runs any more."""


@dataclass
class Fuse:
    """Counts the steps that are visible outside the process; before step ``left`` the process dies."""

    left: int | None = None
    burned: int = 0

    def burn(self) -> None:
        if self.left is not None and self.burned >= self.left:
            raise Killed
        self.burned += 1


class _Stores:
    """An array or record whose stores burn the fuse one by one."""

    def __init__(self, target: Any, fuse: Fuse) -> None:
        self._target, self._fuse = target, fuse

    def __getitem__(self, key: Any) -> Any:
        found = self._target[key]
        return _Stores(found, self._fuse) if isinstance(found, np.void | np.ndarray) else found

    def __setitem__(self, key: Any, value: Any) -> None:
        self._fuse.burn()
        self._target[key] = value


class FusedLedger(Ledger):
    def __init__(self, descriptor: int, fuse: Fuse) -> None:
        super().__init__(descriptor)
        self._fuse = fuse
        self._entries = _Stores(self._entries, fuse)  # type: ignore[assignment]

    def mark_told(self, camera: int, trigger_counter: int) -> None:
        self._fuse.burn()
        self.journals[camera].mark_told(trigger_counter)


@dataclass
class Books:
    """What the onlooker knows of one part."""

    trigger_ns: int
    was_running: bool
    was_challenge: bool
    physical: int
    keys: set[TriggerKey]
    in_time: dict[int, str] = field(default_factory=dict)
    failed: dict[int, Reason] = field(default_factory=dict)
    grabbed: set[int] = field(default_factory=set)
    decision: Decision | None = None
    was_sent: bool = False

    def is_due(self, now_ns: int) -> bool:
        return now_ns >= self.trigger_ns + CHOICE_NS


class World:
    def __init__(
        self,
        camera_count: int,
        machine_class: type[DeadlineMachine] = DeadlineMachine,
        ledger_class: type[Ledger] = Ledger,
        part_count: int = 64,
    ) -> None:
        self.cameras = [f"cam{index}" for index in range(camera_count)]
        self._machine_class, self._ledger_class, self._part_count = machine_class, ledger_class, part_count
        self._memory = Ledger.create(
            LedgerHead("s", part_count, TIMING.deadline_ns, None, 0, "r", "1", False, camera_count, MATCHING)
        )
        self._fuse = Fuse()
        self._ledger = FusedLedger(self._memory, self._fuse)
        self.machine = machine_class(self.cameras, TIMING, MATCHING)
        self.now_ns = 0
        self.running = False
        self.challenging = False
        self.parts: dict[int, Books] = {}
        self.part_of: dict[TriggerKey, int] = {}
        self.physical_of: dict[TriggerKey, int] = {}
        self.read: dict[tuple[int, int], Trigger] = {}
        """What acquisition has read, by camera and physical part."""
        self.on_the_way: list[Trigger] = []
        """Written into a journal, and told by nobody yet."""
        self.seen: list[Late | Unmatched] = []
        self.happened: Counter[str] = Counter()
        self.restarts = 0
        self._closing: Literal["", "recover", "close"] = ""

    _STATE = (
        *("machine", "now_ns", "running", "challenging", "parts", "part_of", "physical_of", "read", "on_the_way"),
        "restarts",
    )

    def save(self) -> tuple[bytes, bytes]:
        ledger = os.pread(self._memory, os.fstat(self._memory).st_size, 0)
        return pickle.dumps([getattr(self, name) for name in self._STATE]), ledger

    def load(self, state: tuple[bytes, bytes]) -> None:
        for name, value in zip(self._STATE, pickle.loads(state[0]), strict=True):
            setattr(self, name, value)
        os.pwrite(self._memory, state[1], 0)

    def close(self) -> None:
        os.close(self._memory)

    # --- what can happen ---------------------------------------------------------------------------------------

    def run_line(self, running: bool, *, challenging: bool = False) -> None:
        self.running = self.machine.running = running
        self.challenging = self.machine.challenging = challenging

    def journal(self, camera: int) -> Journal:
        return self._ledger.journals[camera]

    def acquire(self, physical: int, camera: int, *, source: int = 1, at_ns: int) -> int:
        """Acquisition reads a trigger, once; the encoder count tells the physical part, a little off for each camera."""
        if (camera, physical) not in self.read:
            trigger = self._next_trigger(physical, camera, source, at_ns)
            if not self.journal(camera).write(trigger):
                raise Violation(f"no room for {trigger}")
            self.read[camera, physical] = trigger
            self.physical_of[TriggerKey(camera, source, trigger.trigger_counter)] = physical
            self.on_the_way.append(trigger)
        return 0

    def trigger(self, physical: int, camera: int, *, source: int = 1, at_ns: int, kill: int | None = None) -> int:
        """Told once or again, after what this camera's acquisition has read before."""
        self.acquire(physical, camera, source=source, at_ns=at_ns)
        told = self.read[camera, physical]
        earlier = [
            trigger
            for trigger in self.on_the_way
            if trigger.camera_id == told.camera_id and trigger.trigger_counter < told.trigger_counter
        ]

        def tell() -> None:
            for trigger in [*earlier, told]:
                self._take_trigger(trigger)
            self._carry_out(self.machine.tick(self.now_ns))

        return self._do(tell, kill)

    def torn(self, physical: int, camera: int, *, source: int = 1, at_ns: int, bytes_left: int) -> int:
        """Acquisition is killed while it writes a trigger down: none that anybody could know of."""
        if (camera, physical) in self.read:
            return 0
        memory = bytearray(os.pread(self._memory, os.fstat(self._memory).st_size, 0))
        self.journal(camera).write(self._next_trigger(physical, camera, source, at_ns))
        after = os.pread(self._memory, len(memory), 0)
        written = [at for at in range(len(memory)) if memory[at] != after[at]]
        for at in written[: min(bytes_left, len(written) - 1)]:
            memory[at] = after[at]
        os.pwrite(self._memory, memory, 0)
        self.happened["torn"] += 1
        return self.camera_lost(camera)

    def _next_trigger(self, physical: int, camera: int, source: int, at_ns: int) -> Trigger:
        counter = self.journal(camera).last() + 1
        return Trigger(self.cameras[camera], source, counter, physical * 100 + camera, at_ns)

    def frame_status(
        self, physical: int, camera: int, outcome: FrameOutcome, *, source: int = 1, kill: int | None = None
    ) -> int:
        counter = self._counter(physical, camera)
        key = TriggerKey(camera, source, counter)

        def told() -> None:
            part = self.parts[self.part_of[key]] if key in self.part_of else None
            if part and part.decision is None and not part.is_due(self.now_ns) and camera not in part.in_time:
                if outcome == "GRABBED":
                    part.grabbed.add(camera)
                else:
                    part.failed[camera] = OUTCOME_REASONS[outcome]
            status = FrameStatus(self.cameras[camera], source, counter, outcome)
            self._carry_out(self.machine.frame_status(status, self.now_ns))

        return self._do(told, kill)

    def _counter(self, physical: int, camera: int) -> int:
        trigger = self.read.get((camera, physical))
        return trigger.trigger_counter if trigger is not None else NEVER_READ + physical

    def inspection(self, physical: int, camera: int, verdict: str, *, source: int = 1, kill: int | None = None) -> int:
        counter = self._counter(physical, camera)
        key = TriggerKey(camera, source, counter)
        view = ViewInspected(
            self.cameras[camera],
            source,
            counter,
            0,
            None,
            verdict,
            VIEW_REASONS[verdict],
            0.5,
            (),
            0,
            0,
            0,
            0,
            0,
            False,
        )
        part_id = self.part_of.get(key)
        part = self.parts.get(part_id) if part_id is not None else None
        expected: type[Late] | type[Unmatched] | None = None
        if part is None:
            expected = Unmatched
        elif part.decision is not None or part.is_due(self.now_ns):
            expected = Late
        elif camera in part.in_time:
            expected = Unmatched
        else:
            part.in_time[camera] = verdict
        self.seen.clear()

        def told() -> None:
            self._carry_out(self.machine.inspection(view, self.now_ns))
            if [type(output) for output in self.seen] != ([expected] if expected else []):
                raise Violation(f"an inspection at {self.now_ns}: {self.seen}, expected {expected}")
            if any(isinstance(output, Late) and output.part_id != part_id for output in self.seen):
                raise Violation(f"a late inspection of part {part_id} went to another: {self.seen}")

        return self._do(told, kill)

    def tick(self, kill: int | None = None) -> int:
        return self._do(lambda: self._carry_out(self.machine.tick(self.now_ns)), kill)

    def inspection_lost(self, kill: int | None = None) -> int:
        self._fail(range(len(self.cameras)))
        return self._do(lambda: self._carry_out(self.machine.inspection_lost(self.now_ns)), kill)

    def camera_lost(self, camera: int, kill: int | None = None) -> int:
        """Its acquisition is dead, and what it had sent with it."""

        def told() -> None:
            self._take_untold(camera)
            self._fail([camera])
            self._carry_out(self.machine.camera_lost(self.cameras[camera], self.now_ns))

        return self._do(told, kill)

    def close_all(self, kill: int | None = None) -> int:
        def told() -> None:
            self._closing = "close"
            self._carry_out(self.machine.close_all(self.now_ns))
            self._closing = ""
            self._expect_nothing_open("close_all")

        return self._do(told, kill)

    def restart(self, kill: int | None = None) -> int:
        """A successor takes up the ledger and its journals; it may be killed as well, and so on once."""
        self.restarts += 1
        self.happened["restart"] += 1
        self.machine = self._machine_class(self.cameras, TIMING, MATCHING)
        ledger = self._ledger_class(self._memory)
        entries = ledger.entries()
        self._compare_with_ledger(entries)
        left = [(entry.part_id, entry.encoder_count, entry.trigger_ns) for entry in parts_left(ledger)]

        def told() -> None:
            self._closing = "recover"
            self._carry_out(self.machine.recover(entries, self.now_ns))
            self._closing = ""
            self._expect_nothing_open("recovery")
            running, self.running = self.running, False
            for camera in range(len(self.cameras)):
                self._take_untold(camera)
            self.run_line(running)
            found = [(entry.part_id, entry.encoder_count, entry.trigger_ns) for entry in ledger.entries()]
            if left[-len(found) :] != found:
                raise Violation(f"closing the books would make {left} of what has become {found}")

        return self._do(told, kill)

    # --- carrying out ------------------------------------------------------------------------------------------

    def _do(self, told: Callable[[], None], kill: int | None) -> int:
        """Returns how many steps it took: so many points there are to be killed at."""
        self._fuse.left, self._fuse.burned = kill, 0
        running = self.running
        try:
            told()
        except Killed:
            self.happened["killed"] += 1
            self._closing, self.running = "", running
            return self.restart()
        self._check_open()
        return self._fuse.burned

    def _take_trigger(self, trigger: Trigger) -> None:
        camera = self.cameras.index(trigger.camera_id)
        if trigger.trigger_counter > self.journal(camera).told:
            self._carry_out(self.machine.trigger(trigger, self.now_ns))
            self._ledger.mark_told(camera, trigger.trigger_counter)
        self._expect_part(camera, trigger)
        self.on_the_way = [other for other in self.on_the_way if other != trigger]

    def _take_untold(self, camera: int) -> None:
        journal = self.journal(camera)
        for trigger in journal.after(journal.told, self.cameras[camera]):
            self.happened["untold"] += 1
            self._take_trigger(trigger)
        for (at_camera, _), trigger in self.read.items():
            if at_camera == camera:
                self._expect_part(camera, trigger)

    def _expect_part(self, camera: int, trigger: Trigger) -> None:
        key = TriggerKey(camera, trigger.source, trigger.trigger_counter)
        if key not in self.part_of:
            raise Violation(f"trigger {key} belongs to no part")

    def _carry_out(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            self.happened[type(output).__name__] += 1
            if isinstance(output, Opened):
                self._ledger.open_part(output.part_id, output.encoder_count, output.trigger_ns, output.key)
                if output.part_id in self.parts:
                    raise Violation(f"part {output.part_id} was opened twice")
                physical = self.physical_of[output.key]
                self.parts[output.part_id] = Books(
                    output.trigger_ns, self.running, self.running and self.challenging, physical, set()
                )
                self._assign(output.part_id, output.key)
            elif isinstance(output, Joined):
                self._ledger.add_key(output.part_id, output.key, output.trigger_ns, output.part_key)
                self._assign(output.part_id, output.key)
            elif isinstance(output, Decision):
                self._ledger.decide(output.part_id, output.seq, output.verdict, output.reason, output.decided_ns)
                self._decided(output)
                self._fuse.burn()
                self._sent(output)
                self._ledger.sent(output.part_id, self.now_ns)
            else:
                self.seen.append(output)

    def _assign(self, part_id: int, key: TriggerKey) -> None:
        if key in self.part_of:
            raise Violation(f"trigger {key} belongs to parts {self.part_of[key]} and {part_id}")
        if self.physical_of[key] != self.parts[part_id].physical:
            raise Violation(f"trigger {key} was given to its neighbour's part {part_id}")
        self.part_of[key] = part_id
        self.parts[part_id].keys.add(key)

    def _decided(self, decision: Decision) -> None:
        part = self.parts[decision.part_id]
        if part.decision is not None:
            raise Violation(f"part {decision.part_id} was decided twice: {part.decision}, {decision}")
        if decision.seq != 1 + sum(books.decision is not None for books in self.parts.values()):
            raise Violation(f"seq is not gapless: {decision}")
        expected, judged = self._expected(part), None
        if part.was_challenge and self._closing != "recover":
            # Rejected whatever is found; what is found is told beside it.
            judged, expected = expected[0], (Verdict.REJECT, Reason.CHALLENGE)
        if (decision.verdict, decision.reason) != expected or decision.judged is not judged:
            raise Violation(f"at {self.now_ns} {decision}, expected {expected}, judged {judged}")
        part.decision = decision
        self.happened.update([decision.verdict.value, decision.reason.value])

    def _sent(self, decision: Decision) -> None:
        part = self.parts[decision.part_id]
        if part.was_sent:
            raise Violation(f"sent twice: {decision}")
        part.was_sent = True

    # --- what has to be ----------------------------------------------------------------------------------------

    def _expected(self, part: Books) -> tuple[Verdict, Reason]:
        due = part.is_due(self.now_ns)
        if self._closing == "recover" or (self._closing == "close" and not due):
            return Verdict.NO_DECISION, Reason.FAULT
        if not part.was_running:
            return Verdict.NO_DECISION, Reason.NOT_RUNNING
        if not due and not self._is_settled(part):
            raise Violation(f"decided at {self.now_ns} with views still to come: {part}")
        if "REJECT" in part.in_time.values():
            return Verdict.REJECT, Reason.DEFECT
        for camera in range(len(self.cameras)):
            verdict = part.in_time.get(camera)
            if verdict == "NO_DECISION":
                return Verdict.NO_DECISION, Reason.BAD_FRAME
            if verdict is None:
                reason = Reason.DEADLINE if camera in part.grabbed else Reason.MISSED_FRAME
                return Verdict.NO_DECISION, part.failed.get(camera, reason)
        return Verdict.PASS, Reason.OK

    def _is_settled(self, part: Books) -> bool:
        return len(part.in_time.keys() | part.failed.keys()) == len(self.cameras)

    def _fail(self, cameras: Iterable[int]) -> None:
        for part in self.parts.values():
            if part.decision is None and not part.is_due(self.now_ns):
                for camera in cameras:
                    if camera not in part.in_time:
                        part.failed.setdefault(camera, Reason.FAULT)

    def _check_open(self) -> None:
        undecided = [part for part in self.parts.values() if part.decision is None]
        for part in undecided:
            if part.is_due(self.now_ns) or not part.was_running or self._is_settled(part):
                raise Violation(f"at {self.now_ns} still undecided: {part}")
        choices = [part.trigger_ns + CHOICE_NS for part in undecided]
        if self.machine.next_choice_ns() != min(choices, default=None) or self.machine.open_count != len(undecided):
            raise Violation(f"{self.machine.open_count} open, next choice {self.machine.next_choice_ns()}: {choices}")

    def _expect_nothing_open(self, after: str) -> None:
        lost = [part_id for part_id, part in self.parts.items() if part.decision is None]
        if lost:
            raise Violation(f"parts {lost} have no decision after {after}")

    def _compare_with_ledger(self, entries: list[LedgerEntry]) -> None:
        newest = sorted(self.parts)[-self._part_count :]
        # Killed while it overwrites the oldest, it leaves neither that one nor the new one.
        torn = newest[1:] if len(newest) == self._part_count else newest
        if [entry.part_id for entry in entries] not in (newest, torn):
            raise Violation(f"the ledger holds {entries}, expected {newest}")
        for entry in entries:
            part = self.parts[entry.part_id]
            decided = part.decision and (part.decision.verdict, part.decision.reason, part.decision.seq)
            found = entry.verdict and (entry.verdict, entry.reason, entry.seq)
            if decided != found or set(entry.keys) != part.keys or entry.trigger_ns != part.trigger_ns:
                raise Violation(f"the ledger says {entry}, expected {part}")
