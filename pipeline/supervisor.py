"""The supervisor: allocates, spawns, connects, watches, kills and reaps, restarts within bounds, stops. Touches no pixels.

It holds the ledger's memory and one link to each worker. When a worker dies, it is reaped first; only then are its peers told,
so that no memory is used again that the dead could still have written to.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
from collections.abc import Callable

import msgspec

from pipeline.challenge_file import BadChallengeFile, ChallengeFile
from pipeline.channel import PeerGone, link_pair
from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns, seconds_until
from pipeline.command_relay import CommandRelay
from pipeline.config import Line
from pipeline.halt_file import HaltFile
from pipeline.keeping import LAST_WORDS_NS
from pipeline.ledger import BadLedger, Ledger
from pipeline.ledger_file import LedgerFile, halt_left
from pipeline.line_clearance import Made, clearance_asked, made_last
from pipeline.messages import (
    Admitted,
    Alarm,
    Alive,
    AnyMessage,
    ChallengeOutcome,
    Command,
    CommandReply,
    Configure,
    Connect,
    Fatal,
    Halt,
    HandOnAll,
    LedgerOffer,
    LineClear,
    ModelInUse,
    Permission,
    Ready,
    Reaped,
    RecordWindow,
    ServiceState,
    StartWindow,
    StateChanged,
    Stop,
    Stopped,
    Summary,
    WindowClosed,
    WindowSpan,
)
from pipeline.places import DiesTooOften, Place
from pipeline.realtime import hold_cpu_latency
from pipeline.record.lock import lock_record
from pipeline.session import new_session_id
from pipeline.window.booking import WindowBooking

_STOP_PATIENCE_NS = 5 * NS_PER_S
_CLOSE_PATIENCE_NS = 3 * NS_PER_S
_DEATH_PATIENCE_NS = 2 * NS_PER_S
_TURN_NS = 100 * NS_PER_MS
_AWAY_NS = NS_PER_S
"""A turn that takes longer: it was the supervisor that stood still, or the whole box."""


class ServiceFailed(RuntimeError):
    """The service cannot go on; the text says why."""


class Malformed(ServiceFailed):
    """What the engineer wrote is wrong: one line a fault."""


class Supervisor:
    """Runs one line until told to stop. ``say`` gets each state change as (state, reason), ``tell`` notes and alarms; neither
    may block.
    """

    def __init__(self, line: Line, say: Callable[[ServiceState, str], None], tell: Callable[[str], None]) -> None:
        self._line = line
        self._line_json = line.to_json()
        self._model_sha256: str | None = None
        self._say = say
        self._tell = tell
        self.session_id = new_session_id(line.config.records.path)
        self._acquisitions = [Place("acquisition", camera.camera_id, tell) for camera in line.config.cameras]
        self._inspection = Place("inspection", None, tell)
        self._signalling = Place("signalling", None, tell)
        self._records = Place("records", None, tell)
        self._images = [Place("images", None, tell)] if line.config.images is not None else []
        self._workers = [self._records, self._signalling, self._inspection, *self._acquisitions, *self._images]
        self._alarms: dict[str, tuple[Alarm, Place | None]] = {}
        """By code, with the worker that raised it, whose death takes it back."""
        self._permitted: Permission | None = None
        self._permitted_ns = 0
        self._was_warm = False
        self._stopping = False
        self._summary: Summary | None = None
        self.unrecorded = ""
        """After ``run``: why not all parts are on record; empty where they are."""
        self._wake_receiver, self._wake_sender = socket.socketpair()
        self._wake_receiver.setblocking(False)
        self._wake_sender.setblocking(False)
        self._stop_requested = False
        self._ledger: LedgerFile
        self._started_ns = now_ns()
        self._turned_ns = self._started_ns
        self._commands = CommandRelay()
        self._has_lock = False
        self._window = WindowBooking()
        self._halt = Halt()
        """As signalling has it, for its successor; and records keeps it for the next session."""
        self._challenge: ChallengeOutcome | None = None
        """The last one, for signalling's successor; and records keeps it for the next session."""
        self._made_before: frozenset[Made | None] = frozenset()
        self._line_clearance = ""
        """What is asked of the operator before anything is judged."""

    def request_stop(self) -> None:
        """Stop soon: parts in flight are finished. May be called from a signal handler."""
        self._stop_requested = True
        with contextlib.suppress(BlockingIOError):
            self._wake_sender.send(b"x")

    def run(self, *, parts: int | None, duration_s: float | None, record_s: float | None = None) -> str | None:
        """Run until ``parts`` are decided, ``duration_s`` of running has passed or stop is requested. The first ``record_s``
        seconds are recorded as a window.

        Returns the summary of what is on record as JSON text, None where records had none to give; then ``unrecorded`` says why
        not all parts are. Raises ServiceFailed where a worker refuses its configuration or dies too often, RecordInUse where
        another service holds the record.
        """
        lock = self._lock_record()
        self._has_lock = lock is not None
        record = self._line.config.records.path
        self._halt = Halt(HaltFile(record).read() or halt_left(record))
        self._challenge = self._challenge_before()
        if self._line.config.line_clearance == "changeover":
            self._made_before = made_last(record)
        self._ledger, without_file = LedgerFile.begin(self._line, self.session_id)
        if self._halt.reason:
            # Before signalling does, should this session be killed while it starts.
            Ledger(self._ledger.descriptor).keep_halt(self._halt.reason)
        if without_file:
            self._raise_alarm(Alarm("ledger-file", "warning", without_file, raised=True))
        latency_descriptor = self._hold_cpu_latency()
        ends_ns: int | None = None
        try:
            while True:
                self._start_due()
                self._wait()
                self._take_messages()
                self._reap()
                self._kill_silent()
                self._permit()
                if duration_s is not None and ends_ns is None and self._was_warm:
                    ends_ns = now_ns() + int(duration_s * NS_PER_S)
                if record_s is not None and self._was_warm and not self._cannot_record():
                    self._record_window(record_s)
                    record_s = None
                done = parts is not None and self._signalling.total("parts_decided") >= parts
                if self._stop_requested or done or (ends_ns is not None and now_ns() >= ends_ns):
                    break
            self._stop()
        finally:
            self._end_all()
            self.unrecorded = self._close_ledger() or self._summary_fault()
            self._wake_receiver.close()
            self._wake_sender.close()
            for descriptor in (lock, latency_descriptor):
                if descriptor is not None:
                    os.close(descriptor)
        return self._summary.json_text if self._summary is not None else None

    def counter(self, name: str) -> int:
        """A counter summed over all workers and their incarnations."""
        return sum(worker.total(name) for worker in self._workers)

    def _lock_record(self) -> int | None:
        """None where its place cannot be written now: records gets the lock as soon as it can, and has no record until then."""
        try:
            return lock_record(self._line.config.records.path)
        except OSError:
            return None

    def _challenge_before(self) -> ChallengeOutcome | None:
        try:
            return ChallengeFile(self._line.config.records.path).read()
        except BadChallengeFile as error:
            self._tell(f"lineside: warning: {error}; it counts as none")
            return None

    def _hold_cpu_latency(self) -> int | None:
        latency_us = self._line.config.supervision.cpu_wakeup_latency_us
        if latency_us is None:
            return None
        try:
            return hold_cpu_latency(latency_us)
        except OSError as error:
            text = (
                f"supervision.cpu_wakeup_latency_us {latency_us} not granted ({error}); cores may sleep between parts"
            )
            self._tell(f"lineside: note: {text}")
            return None

    # --- starting and connecting -------------------------------------------------------------------------------

    def _start_due(self) -> None:
        now = now_ns()
        for worker in self._workers:
            # Cameras come last: a trigger seen while the model still warms up could only be rejected.
            waits = worker.role == "acquisition" and worker.incarnation == 0 and not self._others_warm()
            if worker.process is None and now >= worker.start_at_ns and not waits:
                self._start(worker)

    def _others_warm(self) -> bool:
        awaited = [worker for worker in self._workers if worker.role != "acquisition" and worker.is_needed]
        return all(worker.ready is not None for worker in awaited)

    def _start(self, worker: Place) -> None:
        try:
            worker.spawn()
        except OSError as error:
            text = f"{worker.name} could not be started: {error.strerror}; trying again"
            self._raise_alarm(Alarm(worker.death_code, "error", text, raised=True))
            worker.start_at_ns = now_ns() + int(self._line.config.supervision.back_off_max_s * NS_PER_S)
            return
        worker.send(
            Configure(
                worker.role,
                worker.incarnation,
                self.session_id,
                self._line_json,
                worker.camera_id,
                self._started_ns,
                self._halt,
                self._has_lock,
                self._challenge,
            ),
        )
        if worker.role in ("signalling", "acquisition"):
            path = self._ledger.path
            worker.send(LedgerOffer(None if path is None else str(path)), (self._ledger.descriptor,))
        if worker in (self._records, self._signalling) and self._inspection.ready is not None:
            # Before it can hear of a part.
            self._tell_model(worker, self._inspection.ready)
        self._introduce(worker)
        if worker is self._records:
            for alarm, _ in self._alarms.values():
                worker.send(alarm)
            # Its predecessor may have died of them, or after it had carried them out: records knows which it has.
            for admitted in self._commands.waiting_for_records():
                worker.send(admitted)

    def _introduce(self, worker: Place) -> None:
        """Give the new incarnation a fresh link to every living peer."""
        if worker is self._records:
            peers = [self._signalling, self._inspection, *self._images]
        elif worker is self._signalling:
            peers = [self._records, self._inspection, *self._acquisitions]
        elif worker is self._inspection:
            peers = [self._signalling, self._records, *self._acquisitions]
        elif worker.role == "images":
            peers = [self._records, *self._acquisitions]
        else:
            peers = [self._signalling, self._inspection, *self._images]
        for peer in peers:
            if peer.process is not None and worker.process is not None:
                one, other = link_pair()
                with one, other:
                    worker.send(Connect(peer.role, peer.incarnation, peer.camera_id), (one.fileno(),))
                    peer.send(Connect(worker.role, worker.incarnation, worker.camera_id), (other.fileno(),))

    # --- watching ----------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        reading = [self._wake_receiver.fileno()]
        writing: list[int] = []
        wake_ns = now_ns() + _TURN_NS
        for worker in self._workers:
            if worker.control is not None:
                # A link that was closed is readable for ever.
                reading += [worker.pidfd] if worker.hung_up else [worker.control.fileno(), worker.pidfd]
                if worker.unsent:
                    writing.append(worker.control.fileno())
            elif worker.incarnation > 0 and not self._stopping:
                wake_ns = min(wake_ns, worker.start_at_ns)
        select.select(reading, writing, [], seconds_until(wake_ns))
        with contextlib.suppress(BlockingIOError):
            self._wake_receiver.recv(64)

    def _take_messages(self) -> None:
        for worker in self._workers:
            worker.flush()
            if worker.control is None or worker.hung_up:
                continue
            try:
                for message in worker.control.drain():
                    worker.heard_ns = now_ns()
                    self._handle(worker, message)
            except PeerGone:
                # Its death is seen at its pidfd, its silence by the clock.
                worker.hung_up = True

    def _handle(self, worker: Place, message: AnyMessage) -> None:
        if isinstance(message, Alive):
            worker.counters = message.counters
        elif isinstance(message, Ready):
            worker.ready = message
            if not worker.is_needed and worker.death_code in self._alarms:
                self._raise_alarm(Alarm(worker.death_code, "error", "", raised=False))
            if worker is self._inspection:
                self._check_model(message)
                self._tell_model(self._signalling, message)
                self._tell_model(self._records, message)
                worker.send(HandOnAll(self._window.until_ns))
        elif isinstance(message, Fatal):
            self._refused(worker, message)
        elif isinstance(message, StateChanged):
            self._say(message.state, message.reason)
        elif isinstance(message, Alarm):
            self._raise_alarm(message, worker)
        elif isinstance(message, Stopped):
            worker.stopped = True
        elif isinstance(message, Summary):
            self._summary = message
        elif isinstance(message, Command):
            self._relay(message)
        elif isinstance(message, Admitted):
            self._commands.admitted(message)
            self._records.send(message)
        elif isinstance(message, CommandReply):
            self._answer(message)
        elif isinstance(message, Halt):
            self._halt = message
            self._records.send(message)
        elif isinstance(message, ChallengeOutcome):
            self._challenge = message
            self._records.send(message)
        elif isinstance(message, LineClear):
            self._line_clearance = ""
        elif isinstance(message, WindowSpan):
            self._window.span(message.until_ns)
            self._inspection.send(HandOnAll(self._window.until_ns))
        elif isinstance(message, WindowClosed):
            self._end_window()

    def _refused(self, worker: Place, fatal: Fatal) -> None:
        """Nothing runs without it; but what inspection could load once, a disk's fault may keep from it for a while. It ends
        by itself then, and is started again as often as any other.
        """
        if not worker.is_needed or (worker is self._inspection and self._model_sha256 is not None):
            self._tell(f"lineside: error: {worker.name}: {fatal.text}")
            worker.last_words = fatal.text
        else:
            raise Malformed(fatal.text) if fatal.malformed else ServiceFailed(fatal.text)

    def _relay(self, command: Command) -> None:
        """From records to signalling, or an answer at once."""
        onward = self._commands.take(command, signalling_lives=self._signalling.control is not None)
        if isinstance(onward, Command) and isinstance(onward.parameters, StartWindow):
            if refusal := self._cannot_record():
                self._answer(
                    CommandReply(onward.name, onward.request_id, False, refusal, onward.reply_topic, onward.correlation)
                )
                return
            # Until its answer no other one is let through.
            self._window.ask(onward.request_id, onward.parameters.duration_s)
        if isinstance(onward, Command):
            self._signalling.send(onward)
        elif onward is not None:
            self._records.send(onward)

    def _answer(self, reply: CommandReply) -> None:
        duration_s = self._window.answered(reply.request_id)
        if duration_s is not None and reply.ok:
            if refusal := self._cannot_record():
                reply = msgspec.structs.replace(reply, ok=False, text=refusal)
            else:
                self._record_window(duration_s)
        command = self._commands.answered(reply)
        if command is not None:
            said = f"cmd/{command.name} by {command.who}, request {command.request_id}"
            self._tell(f"lineside: note: {said}: {'done' if reply.ok else 'refused'}: {reply.text}")
        self._records.send(reply)

    # --- windows -----------------------------------------------------------------------------------------------

    def _cannot_record(self) -> str:
        """Why no window can be begun now; empty where one can."""
        if self._line.config.recording is None:
            return "no place for windows is configured (recording.path)"
        if self._window.is_taken:
            return "a window is being recorded; try again when the alarm `recording` is gone"
        if self._inspection.ready is None or any(worker.ready is None for worker in self._images):
            return "inspection or images is not ready; try again in a moment"
        return ""

    def _record_window(self, duration_s: float) -> None:
        """Where none is being recorded, and all are ready."""
        if "recording-failed" in self._alarms:
            self._raise_alarm(Alarm("recording-failed", "warning", "", raised=False))
        ready = self._inspection.ready
        assert ready is not None
        assert ready.model_sha256 is not None
        assert ready.fingerprint_sha256 is not None
        assert ready.fingerprint_json is not None
        for worker in self._images:
            worker.send(RecordWindow(duration_s, ready.model_sha256, ready.fingerprint_json, ready.fingerprint_sha256))
        self._window.open(duration_s, now_ns())
        self._inspection.send(HandOnAll(self._window.until_ns))

    def _end_window(self) -> None:
        self._window.close()
        self._inspection.send(HandOnAll(0))

    def _check_model(self, ready: Ready) -> None:
        """One session, one model: a restarted inspection must not judge with what somebody put there meanwhile."""
        if self._model_sha256 is None:
            self._model_sha256 = ready.model_sha256
            recipe = self._line.recipe
            now = Made(recipe.recipe_id, recipe.recipe_version, ready.model_sha256)
            self._line_clearance = clearance_asked(self._line.config.line_clearance, self._made_before, now)
        elif self._model_sha256 != ready.model_sha256:
            raise ServiceFailed(
                f"model {self._line.recipe.model}: got sha256 {ready.model_sha256} at a restart of inspection, "
                f"expected {self._model_sha256}; the package was replaced while the service ran: start it again"
            )

    def _tell_model(self, worker: Place, ready: Ready) -> None:
        assert ready.model_sha256 is not None
        assert ready.fingerprint_sha256 is not None
        assert ready.fingerprint_json is not None
        worker.send(ModelInUse(ready.model_sha256, ready.fingerprint_sha256, ready.fingerprint_json))

    def _raise_alarm(self, alarm: Alarm, worker: Place | None = None) -> None:
        if alarm.raised:
            self._alarms[alarm.code] = (alarm, worker)
        else:
            self._alarms.pop(alarm.code, None)
        self._records.send(alarm)
        if alarm.raised:
            self._tell(f"lineside: {alarm.severity}: {alarm.text}")

    def _raise_once(self, alarm: Alarm) -> None:
        if self._alarms.get(alarm.code) != (alarm, None):
            self._raise_alarm(alarm)

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.process is not None and worker.process.poll() is not None:
                self._bury(worker)

    def _bury(self, worker: Place) -> None:
        """The worker is dead and waited for: tell its peers, and plan its successor."""
        assert worker.control is not None
        # Its last words are still in the link.
        with contextlib.suppress(PeerGone):
            for message in worker.control.drain():
                self._handle(worker, message)
        worker.clear()
        of_it = [code for code, (_, by) in self._alarms.items() if by is worker or code == worker.silence_code]
        for code in of_it:
            self._raise_alarm(Alarm(code, "warning", "", raised=False))
        if worker in self._images:
            if self._window.is_open:
                text = "images ended while it recorded a window, which is not whole; lineside replay runs what there is"
                self._raise_alarm(Alarm("recording-failed", "warning", text, raised=True))
            self._end_window()
        if worker is self._signalling:
            for reply in self._commands.signalling_died():
                self._window.answered(reply.request_id)
                self._records.send(reply)
        for peer in self._workers:
            if peer is not worker:
                peer.send(Reaped(worker.role, worker.incarnation, worker.camera_id))
        if not self._stopping:
            try:
                cause = worker.plan_restart(self._line.config.supervision)
            except DiesTooOften as error:
                raise ServiceFailed(str(error)) from None
            self._raise_alarm(Alarm(worker.death_code, "error", cause, raised=True))

    def _kill_silent(self) -> None:
        supervision = self._line.config.supervision
        now = now_ns()
        if now - self._turned_ns > _AWAY_NS:
            # Who was silent meanwhile may have stood still as well: their silence begins anew.
            for worker in self._workers:
                worker.heard_ns = now
        self._turned_ns = now
        for worker in self._workers:
            if worker.process is None:
                continue
            if worker.killed_ns is not None:
                if now - worker.killed_ns > _DEATH_PATIENCE_NS:
                    text = f"{worker.name} was killed and does not die: stuck in the kernel, on a disk or a device"
                    self._raise_once(Alarm(worker.death_code, "error", text, raised=True))
                continue
            heed_s, patience_s = worker.patience_s(supervision)
            silent_ns = now - worker.heard_ns
            if silent_ns > patience_s * NS_PER_S:
                text = f"{worker.name} was silent for {patience_s:g} s and is killed"
                self._raise_alarm(Alarm(worker.death_code, "error", text, raised=True))
                worker.process.kill()
                worker.killed_ns = now
                worker.ready = None
            elif silent_ns > heed_s * NS_PER_S:
                why = "; its disk may be slow" if worker is self._records else ""
                text = f"{worker.name} has been silent for {heed_s:g} s{why}; it is killed after {patience_s:g} s"
                self._raise_once(Alarm(worker.silence_code, "warning", text, raised=True))
            elif worker.silence_code in self._alarms:
                self._raise_alarm(Alarm(worker.silence_code, "warning", "", raised=False))

    def _permit(self) -> None:
        """Tell signalling what may be: RUNNING only when everybody is warm who is needed."""
        cold = [worker for worker in self._workers if worker.ready is None and worker.is_needed]
        names = ", ".join(worker.name for worker in cold)
        if not cold:
            if not self._was_warm:
                self._was_warm = True
                self._say("READY", self._inspection.ready.text if self._inspection.ready is not None else "")
            permission = Permission("RUNNING", "", self._line_clearance)
            if "worker" in self._alarms:
                self._raise_alarm(Alarm("worker", "error", "", raised=False))
        elif not self._was_warm:
            permission = Permission("PREOPERATIONAL", f"warming up {names}")
        elif cold == [self._records] and self._line.config.records.on_record_fault == "continue":
            # Judging goes on without it; signalling says that nothing is recorded.
            permission = Permission("RUNNING", "", self._line_clearance)
        else:
            permission = Permission("ERROR", f"restarting {names}", self._line_clearance)
        self._set_permission(permission)

    def _set_permission(self, permission: Permission) -> None:
        if self._signalling.control is None:
            self._permitted = None
        elif permission != self._permitted or now_ns() - self._permitted_ns >= NS_PER_S:
            # Once a second in any case: it is the supervisor's sign of life.
            self._permitted, self._permitted_ns = permission, now_ns()
            self._signalling.send(permission)

    # --- stopping ----------------------------------------------------------------------------------------------

    def _stop(self) -> None:
        """Cameras first, then the parts in flight, then the books; each within its time. Who hangs is killed."""
        self._stopping = True
        for worker in self._acquisitions:
            worker.send(Stop())
        self._wait_until(lambda: all(w.stopped or w.process is None for w in self._acquisitions))
        self._signalling.send(Stop())
        self._wait_until(lambda: self._has_closed(self._signalling), revive=True)
        self._records.send(Stop())
        self._wait_until(lambda: self._has_closed(self._records), revive=True)
        for worker in self._images:
            # It knows all names now. What its disk does not take in this time is lost.
            worker.send(Stop())
        self._wait_until(lambda: all(worker.process is None for worker in self._images), LAST_WORDS_NS + NS_PER_S)
        for worker in (self._inspection, *self._acquisitions):
            worker.send(Stop())
        self._say("OFFLINE", "stopped")

    def _has_closed(self, worker: Place) -> bool:
        """Ended by itself, its books in order."""
        return worker.process is None and worker.status == 0

    def _wait_until(
        self, done: Callable[[], bool], patience_ns: int = _STOP_PATIENCE_NS, *, revive: bool = False
    ) -> None:
        """``revive``: signalling and records, should they die now, are started again to close what they left open."""
        give_up_ns = now_ns() + patience_ns + self._line.config.timing.deadline_us * 1_000
        while not done() and now_ns() < give_up_ns:
            if revive:
                for worker in (self._records, self._signalling):
                    if worker.process is None and worker.status != 0:
                        self._start(worker)
                        # Records ends after signalling: while that lives, it has to take what is told.
                        if worker is self._signalling or self._has_closed(self._signalling):
                            worker.send(Stop())
            self._wait()
            self._take_messages()
            self._reap()
            self._kill_silent()

    def _end_all(self) -> None:
        """Whatever is left: those with books to close see our end of their link closed, as if we had died, and close them;
        the others are killed.
        """
        self._stopping = True
        for worker in self._workers:
            if worker.process is not None and worker.control is not None:
                if worker.role in ("signalling", "records"):
                    worker.control.close()
                else:
                    worker.process.kill()
        give_up_ns = now_ns() + _CLOSE_PATIENCE_NS
        for worker in (self._signalling, self._records):
            if worker.process is not None:
                try:
                    worker.process.wait(seconds_until(give_up_ns))
                except subprocess.TimeoutExpired:
                    worker.process.kill()
        give_up_ns = now_ns() + _DEATH_PATIENCE_NS
        for worker in self._workers:
            if worker.process is not None:
                try:
                    worker.process.wait(seconds_until(give_up_ns))
                except subprocess.TimeoutExpired:
                    text = f"{worker.name} (process {worker.process.pid}) does not die and is left behind: stuck in the kernel"
                    self._tell(f"lineside: error: {text}")
                    continue
                with contextlib.suppress(ServiceFailed):
                    self._bury(worker)

    def _summary_fault(self) -> str:
        """Of one that was given while parts waited for the disk, and that no other followed."""
        if self._summary is None or self._summary.is_final:
            return ""
        return (
            f"records did not close {self._line.config.records.path} in time: it may hold more parts than the summary"
        )

    def _close_ledger(self) -> str:
        """Why not all parts are on record; empty where they are."""
        try:
            unrecorded_count, lost_count = self._ledger.end()
        except BadLedger as error:
            return f"ledger {self._ledger.path}: {error}; parts may not be on record"
        if unrecorded_count and self._ledger.path is not None:
            text = (
                f"{unrecorded_count} parts are kept in {self._ledger.path} until the next start, or the box's restart"
            )
            self._tell(f"lineside: note: {text}")
        texts = [f"{unrecorded_count} parts are not on record"] if unrecorded_count else []
        if lost_count:
            limit = f"more than ledger_parts {self._line.config.ledger_parts} came meanwhile"
            texts.append(f"as many as {lost_count} parts are lost to the record, as {limit}")
        return f"{'; '.join(texts)}: {self._line.config.records.path} could not be written in time" if texts else ""
