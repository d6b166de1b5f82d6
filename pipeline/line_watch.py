"""What signalling minds beside single parts: line rules, the trend of the times, halts and the operator's commands.

All of it is constant time a part, and after the part's verdict is out.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from pipeline.challenge_watch import ChallengeWatch
from pipeline.clock import NS_PER_MS, NS_PER_S, NS_PER_US
from pipeline.deadline import Decision
from pipeline.ledger import LedgerEntry
from pipeline.line_rules import LineRules, RuleAlarm
from pipeline.messages import (
    Admitted,
    Command,
    CommandReply,
    Halt,
    LineClear,
    Permission,
    ServiceState,
    StartWindow,
    ViewInspected,
)
from pipeline.trend import Trend
from pipeline.worker import Supervised
from vision.types import Reason, Verdict

FRESH_NS = 10 * NS_PER_S
"""How long ago the heartbeat that a command names may have been sent."""


class LineWatch:
    """``halted`` is why the line is halted, empty where it is not: until an operator's resume, over restarts of this process.

    ``keep_halt`` is told of each change first, and keeps it where it outlives a kill of all processes.
    """

    def __init__(self, supervised: Supervised, keep_halt: Callable[[str], None]) -> None:
        config, configure = supervised.line.config, supervised.configure
        self._supervised = supervised
        self._keep_halt = keep_halt
        self._session_id = configure.session_id
        self._camera_count = len(config.cameras)
        self._rules = LineRules(config.line_rules)
        self._trend = Trend(config.degraded, config.timing)
        self._rules_from_seq = configure.halt.rules_from_seq
        self._last_seq = configure.halt.rules_from_seq - 1
        self._resumed = configure.halt.resumed
        self._beat_interval_ns = config.heartbeat_ms * NS_PER_MS
        self._beats_ns: deque[int] = deque(maxlen=FRESH_NS // self._beat_interval_ns + 1)
        self._beat_count = 0
        self.halted = ""
        self._state: tuple[ServiceState, str] = ("PREOPERATIONAL", "")
        self.challenge = ChallengeWatch(supervised)
        if configure.halt.reason:
            self._set_halt(configure.halt.reason)

    def found_halted(self, reason: str) -> None:
        """What is kept beside the record, perhaps since before this session: only an operator takes it back."""
        if reason and not self.halted and not self._resumed:
            self._halt(reason)

    # --- parts -------------------------------------------------------------------------------------------------

    def recover(self, entries: Iterable[LedgerEntry]) -> None:
        """What a killed predecessor decided counts for the rules as if it had been decided here."""
        decided = [entry for entry in entries if entry.verdict is not None and entry.seq >= self._rules_from_seq]
        for entry in sorted(decided, key=lambda entry: entry.seq):
            assert entry.verdict is not None
            assert entry.reason is not None
            self._last_seq = entry.seq
            self._heed(self._rules.decided(entry.part_id, entry.verdict, entry.reason))

    def decided(self, decision: Decision, sent_ns: int | None) -> None:
        """One part's verdict is out. Afterwards ``halted`` may be set."""
        self._last_seq = decision.seq
        self.challenge.decided(decision)
        if alarms := self._rules.decided(decision.part_id, decision.verdict, decision.reason):
            self._heed(alarms)
        used_ns = decision.decided_ns - decision.trigger_ns
        if decision.reason is Reason.DEADLINE:
            # It would have taken this long at the least.
            latency_ns = used_ns
        elif decision.verdict is not Verdict.NO_DECISION and len(decision.views) == self._camera_count:
            done_ns = sent_ns if sent_ns is not None else decision.decided_ns
            latency_ns = done_ns - max(decision.views, key=_judged_ns).grabbed_ns
        else:
            return
        for alarm in self._trend.judged(latency_ns // NS_PER_US, used_ns // NS_PER_US):
            if alarm.text is None:
                self._supervised.clear_alarm(alarm.code)
            else:
                self._supervised.alarm(alarm.code, "warning", alarm.text)

    def _heed(self, alarms: Iterable[RuleAlarm]) -> None:
        for alarm in alarms:
            if alarm.text is None:
                self._supervised.clear_alarm(alarm.code)
                continue
            self._supervised.alarm(alarm.code, "error" if alarm.stop else "warning", alarm.text)
            if alarm.stop and not self.halted:
                self._halt(f"line rule {alarm.code}: {alarm.text}; send cmd/resume")

    def _halt(self, reason: str) -> None:
        self._set_halt(reason)
        self._supervised.post(Halt(reason, self._rules_from_seq, self._resumed))

    def _set_halt(self, reason: str) -> None:
        self._keep_halt(reason)
        self.halted = reason
        if self.challenge.is_under_way:
            self.challenge.abandon("the line was halted")
        self._supervised.alarm("halted", "error", f"halted: {reason}")

    # --- heartbeats and commands -------------------------------------------------------------------------------

    def heartbeat_count_before(self, now_ns: int) -> int:
        """The count before the first one here, above all that predecessors used: the n-th of them had sent no more than
        ``since the session's start / interval + n``, one beat being an interval after the other at the least.
        """
        configure = self._supervised.configure
        if configure.incarnation > 1:
            since_ns = now_ns - configure.session_started_ns
            self._beat_count = since_ns // self._beat_interval_ns + configure.incarnation - 1
        return self._beat_count

    def beat(self, count: int, now_ns: int) -> None:
        self._beat_count = count
        self._beats_ns.append(now_ns)

    def execute(
        self, command: Command, permission: Permission, now_ns: int, state: tuple[ServiceState, str]
    ) -> CommandReply | Admitted:
        """Carry out an operator's command, pass it on to records, or say why not. Afterwards ``halted`` may have changed.

        ``state`` is the service's, with its reason.
        """
        self._state = state
        ok, text = self._outdated(command, now_ns)
        if ok and command.name not in _EXECUTE:
            return Admitted(command, now_ns)
        if ok:
            ok, text = _EXECUTE[command.name](self, command, permission)
        return CommandReply(command.name, command.request_id, ok, text, command.reply_topic, command.correlation)

    def _outdated(self, command: Command, now_ns: int) -> tuple[bool, str]:
        again = "read `heartbeat` and send it again with a new request_id"
        if command.session_id != self._session_id:
            return False, f"meant for session {command.session_id!r}, this is {self._session_id!r}; {again}"
        if not 0 < command.heartbeat_count <= self._beat_count:
            text = f"heartbeat_count {command.heartbeat_count} has not been sent yet, the last is {self._beat_count}"
            return False, f"{text}; {again}"
        if now_ns - self._sent_ns(command.heartbeat_count) > FRESH_NS:
            text = f"heartbeat_count {command.heartbeat_count} is not of the last {FRESH_NS // NS_PER_S} s"
            return False, f"stale: {text}, the last is {self._beat_count}; {again}"
        return True, ""

    def _sent_ns(self, count: int) -> int:
        """When this heartbeat was sent; of one that is not remembered, or was a predecessor's, the earliest that can be."""
        place = len(self._beats_ns) - 1 - (self._beat_count - count)
        if place >= 0:
            return self._beats_ns[place]
        configure = self._supervised.configure
        return configure.session_started_ns + (count - configure.incarnation) * self._beat_interval_ns

    def _do_halt(self, command: Command, _permission: Permission) -> tuple[bool, str]:
        if self.halted:
            return True, f"halted already: {self.halted}"
        self._halt(f"cmd/halt by {command.who}; send cmd/resume")
        return True, "halted; parts are NO_DECISION until cmd/resume"

    def _do_resume(self, command: Command, permission: Permission) -> tuple[bool, str]:
        if not self.halted:
            return False, "not halted by a line rule or cmd/halt; `state` tells what else there is"
        reason, self.halted = self.halted, ""
        self._keep_halt("")
        self._supervised.clear_alarm("halted")
        self._heed(self._rules.reset())
        self._rules_from_seq = self._last_seq + 1
        self._resumed = True
        self._supervised.post(Halt("", self._rules_from_seq, self._resumed))
        still = f"; still to do: {permission.line_clearance}" if permission.line_clearance else ""
        return True, f"resumed by {command.who}, the line rules count from nothing (was {reason}){still}"

    def _do_confirm_line_clear(self, command: Command, permission: Permission) -> tuple[bool, str]:
        if not permission.line_clearance:
            return False, "no line clearance is asked for"
        self._supervised.post(LineClear())
        return True, f"line clearance confirmed by {command.who}"

    def _do_start_challenge(self, command: Command, _permission: Permission) -> tuple[bool, str]:
        state, reason = self._state
        waits_for_it_alone = state == "READY" and reason == self.challenge.asked()
        # A reason to be RUNNING with is that nothing gets on record: not that the challenge began, either.
        may_begin = waits_for_it_alone or (state == "RUNNING" and not reason)
        if not (may_begin or self.challenge.is_under_way):
            return False, f"first of all: the line is {state}, {reason}"
        return self.challenge.start(command.who, command.request_id)

    def _do_abandon_challenge(self, command: Command, _permission: Permission) -> tuple[bool, str]:
        return self.challenge.abandon(f"by {command.who}")

    def _do_record_window(self, command: Command, _permission: Permission) -> tuple[bool, str]:
        recording = self._supervised.line.config.recording
        if recording is None:
            return False, "no place for windows is configured (recording.path)"
        assert isinstance(command.parameters, StartWindow)
        duration_s = command.parameters.duration_s
        if duration_s > recording.max_s:
            return False, f"duration_s: got {duration_s}, expected up to recording.max_s {recording.max_s:g}"
        return True, f"recording {duration_s:g} s of all frames; the alarm `recording` says where"


_EXECUTE = {
    "halt": LineWatch._do_halt,
    "resume": LineWatch._do_resume,
    "confirm_line_clear": LineWatch._do_confirm_line_clear,
    "start_challenge": LineWatch._do_start_challenge,
    "abandon_challenge": LineWatch._do_abandon_challenge,
    "record_window": LineWatch._do_record_window,
}
"""The others concern the record alone."""


def _judged_ns(view: ViewInspected) -> int:
    return view.judged_ns
