"""The signalling worker: triggers, deadlines, verdicts, heartbeat, state, and nothing else.

One loop decides and sends. Around ``DeadlineMachine`` it does three things in a fixed order for each decision: write the
ledger, hand the verdict to the socket, pass the record on. It never waits for disk, network or another process.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Sequence
from importlib import metadata

from pipeline.channel import Link, PeerGone
from pipeline.clock import NS_PER_MS, NS_PER_S, NS_PER_US, now_ns, seconds_until
from pipeline.deadline import DeadlineMachine, Decision, Joined, Late, Opened, Output, Unmatched
from pipeline.encoder import wrap
from pipeline.ledger import Ledger, LedgerEntry
from pipeline.line_config import LineConfig
from pipeline.line_watch import LineWatch
from pipeline.messages import (
    CameraState,
    Command,
    Connect,
    EndOfParts,
    FrameKey,
    FrameStatus,
    LateInspection,
    ModelInUse,
    PartRecord,
    Permission,
    Ready,
    Recorded,
    RecordHealth,
    ServiceState,
    StateChanged,
    Stop,
    Trigger,
    ViewInspected,
)
from pipeline.payloads import AGE_US_MAX, VALID_US_MIN, HeartbeatPayload, StatePayload, VerdictPayload, encode
from pipeline.rules import Matching, Timing
from pipeline.systemd import Watchdog
from pipeline.transports.mqtt import MqttConnection, Will
from pipeline.worker import Supervised, attach, map_ledger, settle
from vision.types import Reason, Verdict

_LATE_KEPT = 4_096
"""Late inspections wait for the records process only among fewer records than this; further ones are counted."""
_SUPERVISOR_AWAY_NS = 5 * NS_PER_S
_APART_LASTS_S = 10.0
_APART_TOLD_NS = NS_PER_S
_LOST_TOLD_NS = 10 * NS_PER_S
"""Between alarms, as the number may grow with each part."""


class Signalling:
    """The worker's loop and what it knows of its peers."""

    def __init__(self, supervised: Supervised, ledger: Ledger) -> None:
        line = supervised.line
        config = line.config
        timing = Timing.of(config)
        self._supervised = supervised
        self._config: LineConfig = config
        self._recipe_id = line.recipe.recipe_id
        self._calibration_id = line.calibration_id
        # Looked up once: it opens files, and the disk may hang when the state next changes.
        self._version = metadata.version("lineside")
        self._session_id = supervised.configure.session_id
        self._ledger = ledger
        self._timing = timing
        self._camera_ids = [camera.camera_id for camera in config.cameras]
        self._machine = DeadlineMachine(self._camera_ids, timing, Matching.of(config))
        self._journals = dict(zip(self._camera_ids, ledger.journals, strict=True))
        self._cameras: dict[str, Link] = {}
        self._camera_texts: dict[str, str | None] = {}
        """What is wrong with each camera, "" where nothing is, None while it has not said."""
        self._measuring: set[str] = set()
        """Of those with a text, the cameras with which nothing is wrong yet."""
        self._inspection: Link | None = None
        self._records: Link | None = None
        self._records_text: str | None = None
        """What is wrong with the record, "" where nothing is, None while records has not said."""
        self._unrecorded: deque[PartRecord | LateInspection] = deque()
        self._handed_over = 0
        self._record_limit_ns = config.records.commit_interval_ms * NS_PER_MS
        self._record_limit_ns += int(config.records.acknowledged_within_s * NS_PER_S)
        self._record_is_late = False
        self._model_sha256: str | None = None
        self._permission = Permission("PREOPERATIONAL", "starting")
        self._permitted_ns = now_ns()
        self._state: tuple[ServiceState, str] = ("PREOPERATIONAL", "starting")
        self._announced = False
        """Whether the broker was told of the state as it is."""
        self._watchdog = Watchdog()
        self._lost_told = 0
        self._tell_lost_ns = 0
        self._tell_apart_ns = 0
        self._stopping = False
        self._ended = False
        self._watch = LineWatch(supervised, ledger.keep_halt)
        self._next_heartbeat_ns = now_ns()
        self._heartbeat_count = self._watch.heartbeat_count_before(self._next_heartbeat_ns)
        self._counters = {
            "triggers_seen": 0,
            "parts_decided": 0,
            "verdicts_unsent": 0,
            "inspections_unmatched": 0,
            "late_inspections_dropped": 0,
            "belt_given_up": 0,
        }
        root = config.topic_root
        self._verdict_topic = f"{root}/verdict"
        self._heartbeat_topic = f"{root}/heartbeat"
        self._state_topic = f"{root}/state"
        self._mqtt = MqttConnection(
            config.mqtt,
            client_id=f"{config.mqtt.client_id}-v",
            will=Will(self._state_topic, self._state_payload("OFFLINE", "connection lost")),
        )

    def recover(self, entries: Sequence[LedgerEntry]) -> None:
        """Take up a killed predecessor's parts: close the open ones, hand on to records what it may not have."""
        now = now_ns()
        self._watch.recover(entries)
        for entry in entries:
            if entry.verdict is not None and entry.reason is not None and not entry.recorded:
                self._to_record(
                    self._record(
                        Decision(
                            part_id=entry.part_id,
                            seq=entry.seq,
                            verdict=entry.verdict,
                            reason=entry.reason,
                            encoder_count=entry.encoder_count,
                            trigger_ns=entry.trigger_ns,
                            decided_ns=entry.decided_ns,
                            views=(),
                            keys=entry.keys,
                            part_key=entry.part_key,
                        ),
                        entry.sent_ns,
                    )
                )
        self._carry_out(self._machine.recover(entries, now))
        for camera_id in self._camera_ids:
            self._take_untold(camera_id)

    @property
    def met_all_cameras(self) -> bool:
        """Whether every acquisition process that may be alive has a link to here, whose end tells of its own."""
        return self._camera_texts.keys() == set(self._camera_ids)

    def run(self) -> None:
        while not self._ended:
            self._wait()
            self._take_work()
            self._take_control()
            self._carry_out(self._machine.tick(now_ns()))
            if self._mqtt.turn():
                self._announced = False
            self._update_state()
            if not self._announced and self._mqtt.usable:
                self._announce()
            self._beat()
            self._hand_over()
            self._report()
            self._feed_watchdog()
            self._end_if_done()
        self._state = ("OFFLINE", "stopped")
        self._announce()
        self._mqtt.close()
        self._watchdog.close()

    # --- the loop's steps --------------------------------------------------------------------------------------

    def _wait(self) -> None:
        reading = [link.fileno() for link in self._links()]
        reading += self._mqtt.read_descriptors()
        if not self._supervised.orphaned:
            reading.append(self._supervised.fileno())
        writing = self._mqtt.write_descriptors()
        if self._records is not None and self._handed_over < len(self._unrecorded):
            writing.append(self._records.fileno())
        wake_ns = min(self._next_heartbeat_ns, self._mqtt.next_turn_ns())
        choice_ns = self._machine.next_choice_ns()
        if choice_ns is not None:
            wake_ns = min(wake_ns, choice_ns)
        select.select(reading, writing, [], seconds_until(wake_ns))

    def _links(self) -> list[Link]:
        links = list(self._cameras.values())
        if self._inspection is not None:
            links.append(self._inspection)
        if self._records is not None:
            links.append(self._records)
        return links

    def _take_control(self) -> None:
        for message, descriptors in self._supervised.received():
            if isinstance(message, Connect):
                self._connect(message, Link.from_descriptor(descriptors[0]))
            elif isinstance(message, Permission):
                self._permission, self._permitted_ns = message, now_ns()
            elif isinstance(message, ModelInUse):
                self._model_sha256 = message.model_sha256
                self._ledger.model_in_use(message.model_sha256)
                self._watch.challenge.model_in_use(message.model_sha256)
                self._announce()
            elif isinstance(message, Command):
                self._supervised.post(self._watch.execute(message, self._permission, now_ns(), self._state))
                self._obey_halt()
            elif isinstance(message, Stop):
                self._stopping = True
                # The cameras have stopped: all that was read is in the journals by now.
                for camera_id in self._camera_ids:
                    self._take_untold(camera_id)
                self._carry_out(self._machine.end_of_triggers(now_ns()))
        if self._supervised.orphaned:
            # A new service may be up already, under the same client id: they would throw each other off the broker in turns.
            self._mqtt.connect_no_more()
        if self._supervised.orphaned and not self._stopping:
            self._stopping = True
            self._permission = Permission("ERROR", "the supervisor died")
            self._carry_out(self._machine.close_all(now_ns()))

    def _connect(self, message: Connect, link: Link) -> None:
        if message.peer == "inspection":
            self._lose_inspection()
            self._inspection = link
        elif message.peer == "records":
            self._lose_records()
            self._records = link
            self._records_text = None
            # Whatever the last one did not acknowledge is told again; records knows what it has.
            self._handed_over = 0
        else:
            assert message.camera_id is not None
            self._lose_camera(message.camera_id)
            self._cameras[message.camera_id] = link
            self._camera_texts[message.camera_id] = None

    def _take_work(self) -> None:
        """Inspections are taken first and used last: a trigger's notice was sent before its inspection began, so all notices
        that these inspections need are there once the inspections are.
        """
        inspections: list[ViewInspected] = []
        inspection_died = False
        if self._inspection is not None:
            try:
                for message in self._inspection.drain():
                    assert isinstance(message, ViewInspected)
                    inspections.append(message)
            except PeerGone:
                inspection_died = True
        for camera_id in list(self._cameras):
            self._take_notices(camera_id)
        for view in inspections:
            now = now_ns()
            # On its own: a part that is overdue may halt the line, and this view's part is not passed then.
            self._carry_out(self._machine.tick(now))
            self._carry_out(self._machine.inspection(view, now))
        if inspection_died:
            self._lose_inspection()
        self._take_acknowledgements()

    def _take_notices(self, camera_id: str) -> None:
        try:
            for message in self._cameras[camera_id].drain():
                if isinstance(message, Trigger):
                    self._take_trigger(message)
                elif isinstance(message, FrameStatus):
                    self._carry_out(self._machine.frame_status(message, now_ns()))
                elif isinstance(message, CameraState):
                    # The first word on a link: what was read before it is in the journal.
                    self._take_untold(camera_id)
                    self._camera_texts[camera_id] = "" if message.connected else message.text
                    (self._measuring.add if message.is_measuring else self._measuring.discard)(camera_id)
                    if not message.connected:
                        self._carry_out(self._machine.camera_lost(camera_id, now_ns()))
                    self._update_state()
        except PeerGone:
            self._lose_camera(camera_id)

    def _take_untold(self, camera_id: str) -> None:
        """What a camera's acquisition has read and told nobody who lived to take it down."""
        journal = self._journals[camera_id]
        for trigger in journal.after(journal.told, camera_id):
            self._take_trigger(trigger)

    def _take_trigger(self, trigger: Trigger) -> None:
        """They come in the order of their counter; what comes again, by the link after the journal, is known by that."""
        journal = self._journals[trigger.camera_id]
        if trigger.trigger_counter > journal.told:
            self._carry_out(self._machine.trigger(trigger, now_ns()))
            journal.mark_told(trigger.trigger_counter)

    def _take_acknowledgements(self) -> None:
        if self._records is None:
            return
        try:
            for message in self._records.drain():
                if isinstance(message, Recorded):
                    for _ in range(message.count):
                        record = self._unrecorded.popleft()
                        if isinstance(record, PartRecord):
                            self._ledger.recorded(record.part_id)
                    self._handed_over -= message.count
                elif isinstance(message, RecordHealth):
                    self._records_text = "" if message.healthy else message.text
                    self._watch.found_halted(message.halted)
                    self._obey_halt()
                    if message.challenge_boot_ns is not None:
                        tried_ns, trouble = message.challenge_boot_ns, message.challenge_text
                        self._watch.challenge.written(tried_ns, trouble, now_ns())
        except PeerGone:
            self._lose_records()

    def _update_state(self) -> None:
        state = self._effective_state()
        if state == self._state:
            return
        if self._state[0] == "CHALLENGE" != state[0] and self._watch.challenge.is_under_way:
            # Known parts go by unseen meanwhile.
            self._watch.challenge.abandon(f"the line became {state[0]}: {state[1]}")
            state = self._effective_state()
        self._state = state
        self._machine.running = state[0] in ("RUNNING", "CHALLENGE")
        self._machine.challenging = state[0] == "CHALLENGE"
        self._announce()
        self._supervised.post(StateChanged(*state))

    def _effective_state(self) -> tuple[ServiceState, str]:
        """What the supervisor permits, unless something needed is missing right now."""
        permitted, reason = self._permission.state, self._permission.reason
        if permitted != "RUNNING":
            return permitted, reason
        if self._watch.halted:
            return "HALTED", self._watch.halted
        for camera_id in self._camera_ids:
            if camera_id not in self._cameras:
                return "ERROR", f"camera {camera_id}: its acquisition process died"
            text = self._camera_texts[camera_id]
            if text is None:
                return "READY", f"camera {camera_id}: connecting"
            if text:
                return ("READY" if camera_id in self._measuring else "ERROR"), text
        if self._inspection is None:
            return "ERROR", "the inspection process died"
        if self._records_text is None and self._config.records.on_record_fault == "halt":
            return "READY", "records: connecting"
        unrecorded = self._record_fault()
        if unrecorded and self._config.records.on_record_fault == "halt":
            return "HALTED", f"no record of verdicts: {unrecorded}"
        if not self._mqtt.usable:
            error = self._mqtt.last_error
            return ("ERROR", f"broker {self._mqtt.broker}: {error}") if error else ("READY", "broker: connecting")
        if self._permission.line_clearance:
            return "READY", self._permission.line_clearance
        if self._watch.challenge.is_under_way:
            return "CHALLENGE" if self._watch.challenge.has_begun else "READY", self._watch.challenge.progress()
        if asked := self._watch.challenge.asked():
            return "READY", asked
        return "RUNNING", f"verdicts are not recorded: {unrecorded}" if unrecorded else ""

    def _feed_watchdog(self) -> None:
        """Not while something is to be mended and the supervisor, who would, stands still: systemd starts the service again."""
        supervisor_is_away = now_ns() - self._permitted_ns > _SUPERVISOR_AWAY_NS
        if self._machine.running or self._stopping or not supervisor_is_away:
            self._watchdog.turned()

    def _record_fault(self) -> str:
        """Why verdicts do not get on record; empty where they do."""
        if self._records_text is None:
            return "the records process has not said that it can"
        if self._records_text:
            return self._records_text
        waits_ns = 0
        if self._unrecorded:
            oldest = self._unrecorded[0]
            waits_ns = now_ns() - (oldest.decided_ns if isinstance(oldest, PartRecord) else oldest.arrived_ns)
        # Over only when there is room again, so that a disk just too slow does not stop and start the line with every commit.
        self._record_is_late = waits_ns > (
            self._record_limit_ns // 2 if self._record_is_late else self._record_limit_ns
        )
        return f"not acknowledged within {self._record_limit_ns / NS_PER_S:g} s" if self._record_is_late else ""

    def _beat(self) -> None:
        now = now_ns()
        if now < self._next_heartbeat_ns:
            return
        interval_ns = self._config.heartbeat_ms * NS_PER_MS
        self._next_heartbeat_ns = max(self._next_heartbeat_ns + interval_ns, now + interval_ns // 2)
        self._heartbeat_count += 1
        self._watch.beat(self._heartbeat_count, now)
        heartbeat = HeartbeatPayload(
            session_id=self._session_id,
            count=self._heartbeat_count,
            state=self._state[0],
            triggers_seen=self._counters["triggers_seen"],
            last_part_id=self._machine.last_part_id,
            open_parts=self._machine.open_count,
        )
        self._mqtt.publish(self._heartbeat_topic, encode(heartbeat), live=True)

    def _hand_over(self) -> None:
        if self._records is None:
            return
        try:
            while self._handed_over < len(self._unrecorded) and self._records.send(self._unrecorded[self._handed_over]):
                self._handed_over += 1
        except PeerGone:
            self._lose_records()

    def _report(self) -> None:
        self._tell_lost()
        self._tell_apart()
        if self._mqtt.connected:
            self._supervised.clear_alarm("broker")
        elif self._mqtt.last_error:
            text = f"broker {self._mqtt.broker}: {self._mqtt.last_error}; trying again"
            self._supervised.alarm("broker", "error", text)
        self._supervised.alive(self._counters)

    def _tell_apart(self) -> None:
        (count, why), now = self._machine.came_apart, now_ns()
        if count > self._counters["belt_given_up"] and now >= self._tell_apart_ns:
            self._counters["belt_given_up"], self._tell_apart_ns = count, now + _APART_TOLD_NS
            text = f"all parts between the cameras were given up, {count} times so far: {why}"
            self._supervised.alarm("parts-apart", "warning", text, lasts_s=_APART_LASTS_S)

    def _tell_lost(self) -> None:
        """What the ledger says, also of a predecessor's parts."""
        lost_count, now = self._ledger.lost_count, now_ns()
        if lost_count == self._lost_told or (lost_count and now < self._tell_lost_ns):
            return
        self._lost_told, self._tell_lost_ns = lost_count, now + _LOST_TOLD_NS
        if lost_count:
            limit = f"more than ledger_parts {self._config.ledger_parts} came while nothing was recorded"
            self._supervised.alarm(
                "records-lost", "error", f"as many as {lost_count} parts are lost to the record: {limit}"
            )
        else:
            self._supervised.clear_alarm("records-lost")

    def _end_if_done(self) -> None:
        """After Stop: everything decided, sent and on record (or nobody there to record it)."""
        if not self._stopping or self._machine.open_count:
            return
        if self._supervised.orphaned and self._cameras:
            # They die with the supervisor; only then is all that they have read in the journals.
            return
        if self._records is None:
            # The supervisor starts records again; without a supervisor there is nobody left to write.
            self._ended = self._supervised.orphaned or not self._unrecorded
        elif not self._unrecorded:
            self._ended = True
            try:
                self._records.send(EndOfParts())
            except PeerGone:
                self._lose_records()

    # --- decisions ---------------------------------------------------------------------------------------------

    def _carry_out(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            if isinstance(output, Opened):
                self._counters["triggers_seen"] += 1
                if self._machine.challenging:
                    self._watch.challenge.opened(output.part_id, output.trigger_ns)
                self._ledger.open_part(
                    output.part_id, output.encoder_count, output.trigger_ns, output.key, output.part_key
                )
            elif isinstance(output, Decision):
                self._counters["parts_decided"] += 1
                self._ledger.decide(
                    output.part_id, output.seq, output.verdict, output.reason, output.decided_ns, output.trigger_ns
                )
                self._send_verdict(output)
            elif isinstance(output, Joined):
                self._ledger.add_key(output.part_id, output.key, output.trigger_ns, output.part_key)
            elif isinstance(output, Late):
                self._to_record(LateInspection(output.part_id, output.arrived_ns, output.view))
            elif isinstance(output, Unmatched):
                self._counters["inspections_unmatched"] += 1
        self._obey_halt()

    def _obey_halt(self) -> None:
        """From a halt on no part is judged, those under way included."""
        if self._watch.halted and (self._machine.running or self._machine.open_count):
            self._update_state()
            self._carry_out(self._machine.close_all(now_ns(), Reason.NOT_RUNNING))

    def _send_verdict(self, decision: Decision) -> None:
        sending_ns = now_ns()
        deadline_ns = decision.trigger_ns + self._timing.deadline_ns
        sent_ns: int | None = None
        # This process may have been stopped between deciding and here: a PASS that is late already is not sent at all.
        if decision.verdict is not Verdict.PASS or sending_ns < deadline_ns:
            payload = VerdictPayload(
                session_id=self._session_id,
                seq=decision.seq,
                part_id=decision.part_id,
                verdict=decision.verdict.value,
                reason=decision.reason.value,
                encoder_count=decision.encoder_count,
                reject_at_encoder_count=self._reject_at(decision.encoder_count),
                part_key=decision.part_key,
                age_us=min((sending_ns - decision.trigger_ns) // NS_PER_US, AGE_US_MAX),
                valid_us=max((deadline_ns - sending_ns) // NS_PER_US, VALID_US_MIN),
            )
            if self._mqtt.publish(self._verdict_topic, encode(payload), live=True):
                sent_ns = now_ns()
                self._ledger.sent(decision.part_id, sent_ns)
        if sent_ns is None:
            self._counters["verdicts_unsent"] += 1
        self._to_record(self._record(decision, sent_ns))
        self._watch.decided(decision, sent_ns)

    def _record(self, decision: Decision, sent_ns: int | None) -> PartRecord:
        deadline_ns = decision.trigger_ns + self._timing.deadline_ns
        return PartRecord(
            part_id=decision.part_id,
            seq=decision.seq,
            verdict=decision.verdict.value,
            reason=decision.reason.value,
            encoder_count=decision.encoder_count,
            reject_at_encoder_count=self._reject_at(decision.encoder_count),
            trigger_ns=decision.trigger_ns,
            decided_ns=decision.decided_ns,
            sent_ns=sent_ns,
            deadline_ns=deadline_ns,
            age_us=None if sent_ns is None else (sent_ns - decision.trigger_ns) // NS_PER_US,
            valid_us=None if sent_ns is None else (deadline_ns - sent_ns) // NS_PER_US,
            views=decision.views,
            frames=tuple(
                FrameKey(self._camera_ids[camera], source, counter) for camera, source, counter in decision.keys
            ),
            part_key=decision.part_key,
        )

    def _reject_at(self, encoder_count: int | None) -> int | None:
        encoder = self._config.encoder
        if encoder is None or encoder_count is None:
            return None
        return wrap(encoder_count + encoder.reject_offset_pulses, encoder.bits)

    def _to_record(self, record: PartRecord | LateInspection) -> None:
        waiting_count = len(self._unrecorded) - self._handed_over
        if isinstance(record, LateInspection) and waiting_count >= _LATE_KEPT:
            self._counters["late_inspections_dropped"] += 1
            return
        if waiting_count >= self._config.ledger_parts + _LATE_KEPT:
            # The oldest that records does not hold in its hands already; the ledger has lost it as well.
            del self._unrecorded[self._handed_over]
        self._unrecorded.append(record)

    # --- peers -------------------------------------------------------------------------------------------------

    def _lose_inspection(self) -> None:
        if self._inspection is not None:
            self._inspection.close()
            self._inspection = None
            self._carry_out(self._machine.inspection_lost(now_ns()))
            self._update_state()

    def _lose_camera(self, camera_id: str) -> None:
        link = self._cameras.pop(camera_id, None)
        if link is not None:
            link.close()
            self._take_untold(camera_id)
            self._carry_out(self._machine.camera_lost(camera_id, now_ns()))
            self._update_state()

    def _lose_records(self) -> None:
        if self._records is not None:
            self._records.close()
            self._records = None
            self._handed_over = 0
            self._records_text = "the records process died"
            self._update_state()

    # --- state -------------------------------------------------------------------------------------------------

    def _announce(self) -> None:
        payload = self._state_payload(*self._state)
        self._announced = self._mqtt.publish(self._state_topic, payload, qos=1, retain=True)

    def _state_payload(self, state: ServiceState, reason: str) -> bytes:
        return encode(
            StatePayload(
                state=state,
                session_id=self._session_id,
                reason=reason,
                recipe_id=self._recipe_id,
                model_sha256=self._model_sha256,
                calibration_id=self._calibration_id,
                version=self._version,
            )
        )


def main() -> None:
    """Run this worker; started by the supervisor."""
    supervised = attach("signalling", dies_with_supervisor=False)
    ledger_file, ledger = map_ledger(supervised)
    if damaged_count := ledger.damaged_count():
        supervised.alarm("ledger", "error", f"ledger {ledger_file.path}: {damaged_count} entries in it cannot be read")
    signalling = Signalling(supervised, ledger)
    signalling.recover(ledger.entries())
    settle(supervised)
    supervised.post(Ready())
    signalling.run()
    if supervised.orphaned and signalling.met_all_cameras and not ledger.unrecorded_count() and not ledger.lost_count:
        # Nobody else is left to tidy up.
        ledger_file.remove()


if __name__ == "__main__":
    main()
