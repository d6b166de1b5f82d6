"""The records worker: commits every verdict, then tells the world what is on disk.

It may lag or die; verdicts do not wait for it. What it has not acknowledged, signalling tells again.
"""

from __future__ import annotations

import json
import select
from importlib import metadata

from msgspec import structs

from pipeline.batch import Batch, JudgedWith
from pipeline.channel import Link, PeerGone
from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns, seconds_until
from pipeline.closing import Closing
from pipeline.command_replies import CommandReplies
from pipeline.commands import Arrived, CommandInbox
from pipeline.delivery import Delivery
from pipeline.drift_watch import DriftWatch
from pipeline.dropping import Dropping
from pipeline.kept_challenge import KeptChallenge
from pipeline.kept_halt import KeptHalt
from pipeline.line_stats import LineStats
from pipeline.line_watch import FRESH_NS
from pipeline.messages import (
    Admitted,
    Alarm,
    ChallengeOutcome,
    Command,
    CommandReply,
    Connect,
    EndOfParts,
    Halt,
    LateInspection,
    ModelInUse,
    PartMade,
    PartRecord,
    Ready,
    Recorded,
    RecordHealth,
    Stop,
    Summary,
)
from pipeline.naming import Naming
from pipeline.payloads import encode
from pipeline.platform_watch import PlatformWatch
from pipeline.record.commands import carry_out
from pipeline.record.context import context_of
from pipeline.record.faults import RecordDamaged, RecordFault, RecordGone
from pipeline.record.store import RecordStore
from pipeline.record.told_anchor import ToldAnchor, anchor_payload
from pipeline.reopening import RecordOpening
from pipeline.retention import is_to_be_sealed
from pipeline.standing_alarms import StandingAlarms
from pipeline.tally import Tally
from pipeline.transports.mqtt import MqttConnection, Received, Subscription
from pipeline.worker import Supervised, attach, settle

_BATCH_MAX = 2_000
_LAST_ACKNOWLEDGEMENTS_NS = 500 * NS_PER_MS
"""At the end so long is waited for what the broker has still to acknowledge; what it has not is told again on ``history``."""
_LAST_NAMES_NS = 500 * NS_PER_MS
"""The same for names that images has still to take."""
_RETRY_NS = 500 * NS_PER_MS
_SLOW_NS = NS_PER_S
"""A commit that takes longer is said to be slow."""
_SLOW_SAID_S = 60.0
_UNNAMED_SAID_S = 10.0
_STATS_INTERVAL_NS = NS_PER_S
_SEALING_LOOKED_AT_NS = NS_PER_S
_SEALING_RETRY_NS = 10 * NS_PER_S
"""Where a reader was in the way: each attempt waits a quarter of a second for it."""


class Records:
    """The worker's loop."""

    def __init__(self, supervised: Supervised) -> None:
        config = supervised.line.config
        self._supervised = supervised
        self._config = config
        self._session_id = supervised.configure.session_id
        self._opening = RecordOpening(supervised)
        self._store: RecordStore | None = None
        self._fault: str | None = None
        self._next_try_ns = 0
        self._signalling: Link | None = None
        self._naming = Naming()
        self._unnamed_count = 0
        self._batch = Batch()
        self._judged_with: JudgedWith | None = None
        self._version = metadata.version("lineside")
        self._lost_power = False
        """Whether a session before this one ended with the box."""
        self._closing = Closing(config.records.path, self._session_id)
        self._halt = KeptHalt(supervised)
        self._challenge = KeptChallenge(supervised)
        self._drift = DriftWatch(supervised)
        self._next_sealing_ns = 0
        self._next_sync_ns = 0
        self._is_unsynced = False
        self._dropping = Dropping(supervised)
        self._ended = False
        self._stopping = False
        self._written_count = 0
        self._recovered_count = 0
        self._stats = LineStats(self._session_id, now_ns())
        self._next_stats_ns = 0
        self._alarms = StandingAlarms(self._session_id)
        self._inbox = CommandInbox(config.topic_root)
        self._replies = CommandReplies(self._session_id)
        self._platform = PlatformWatch(supervised)
        root = config.topic_root
        self._stats_topic = f"{root}/stats"
        self._anchor_topic = f"{root}/anchor"
        self._alarm_topic = f"{root}/alarm/"
        self._challenge_topic = f"{root}/challenge"
        self._command_topic = f"{root}/cmd/"
        self._told_anchor = ToldAnchor(config.records.path, self._anchor_topic)
        self._mqtt = MqttConnection(
            config.mqtt,
            client_id=f"{config.mqtt.client_id}-r",
            on_message=self._on_message,
            # Before anything is published here: the anchor that comes is the one that stood before.
            subscriptions=(
                Subscription(f"{root}/alarm/+"),
                Subscription(f"{root}/cmd/+", keeps_retain=True),
                Subscription(self._anchor_topic),
            ),
        )
        self._delivery = Delivery(supervised, self._mqtt)

    def open(self) -> None:
        """Open the record, or say why not; trying goes on in the loop. A damaged one is set aside and another begun."""
        try:
            store = self._opening.open()
            try:
                self._delivery.begin(store)
            except RecordFault:
                store.close()
                raise
        except RecordFault as error:
            self._set_fault(str(error))
            return
        self._store = store
        self._halt.recall()
        self._drift.recall()

    def _tell_cut_off(self) -> None:
        while self._store is not None and self._store.cut_off:
            self._lost_power = True
            text = (
                f"session {self._store.cut_off.popleft()} ended with the box: the parts of its last "
                f"{self._config.records.sync_interval_ms} ms, and what waited for the disk, may not be on record"
            )
            self._supervised.alarm("power-lost", "warning", text)

    def _tell_passed_over(self) -> None:
        """For the rest of the session: files beside the record are not what their names say."""
        if self._store is not None and self._store.troubles:
            self._supervised.alarm("record-segments", "error", "; ".join(self._store.troubles))
            self._store.troubles.clear()

    def run(self) -> None:
        while not self._ended:
            self._wait()
            self._take_control()
            self._take_records()
            self._commit_if_due()
            self._tell_cut_off()
            self._tell_passed_over()
            self._sync_if_due()
            self._seal_if_due()
            self._drop_old()
            self._close_killed_sessions()
            self._check_told_anchor()
            self._halt.keep()
            self._keep_challenge()
            self._drift.turn()
            if self._mqtt.turn():
                self._alarms.tell_again()
                self._challenge.tell_again()
            self._alarms.tell(self._send_alarm)
            self._challenge.tell(self._send_challenge)
            self._deliver()
            self._name_frames()
            self._replies.tell(self._send_reply)
            self._platform.turn()
            self._publish_stats()
            self._supervised.alive(self._counters())
            # An orphan's last sender is signalling; without it there is nothing to wait for.
            if (self._stopping or self._supervised.orphaned) and self._signalling is None and not self._batch:
                self._ended = True
        self._finish()

    def _wait(self) -> None:
        reading = [*self._mqtt.read_descriptors(), *self._platform.read_descriptors(), *self._drift.read_descriptors()]
        if not self._supervised.orphaned:
            reading.append(self._supervised.fileno())
        wake_ns = min(self._next_stats_ns, self._mqtt.next_turn_ns())
        if (history_ns := self._delivery.next_turn_ns()) is not None:
            wake_ns = min(wake_ns, history_ns)
        if not self._supervised.orphaned:
            wake_ns = min(wake_ns, self._supervised.next_alive_ns)
        if self._fault is not None:
            wake_ns = min(wake_ns, self._next_try_ns)
        elif self._batch:
            wake_ns = min(wake_ns, self._batch.due_ns)
        if self._is_unsynced and self._fault is None:
            wake_ns = min(wake_ns, self._next_sync_ns)
        if self._signalling is not None and self._wants_more():
            reading.append(self._signalling.fileno())
        writing = [*self._mqtt.write_descriptors(), *self._naming.write_descriptors()]
        select.select(reading, writing, [], seconds_until(wake_ns))

    def _wants_more(self) -> bool:
        """While the disk fails, what cannot be written stays with signalling."""
        return len(self._batch) < _BATCH_MAX and self._fault is None

    def _take_control(self) -> None:
        for message, descriptors in self._supervised.received():
            if isinstance(message, Connect) and message.peer == "images":
                self._naming.connect(Link.from_descriptor(descriptors[0]))
            elif isinstance(message, Connect) and message.peer == "inspection":
                self._drift.connect(Link.from_descriptor(descriptors[0]))
            elif isinstance(message, Connect):
                # What the last one still said first: its successor knows less of it.
                self._take_records()
                self._lose_signalling()
                self._signalling = Link.from_descriptor(descriptors[0])
                self._tell_health()
            elif isinstance(message, ModelInUse):
                is_first = self._judged_with is None
                if not is_first:
                    # What came before it was judged with the one before.
                    self._take_records()
                    if self._batch:
                        self._commit()
                context = context_of(self._supervised.line, message, self._version)
                self._judged_with = JudgedWith(message.model_sha256, context)
                self._drift.model_in_use(message.model_sha256)
                if is_first:
                    # Told again by a signalling that was quicker than the supervisor.
                    self._batch.judged_with = self._judged_with
            elif isinstance(message, Admitted):
                self._supervised.post(self._carried_out(message))
            elif isinstance(message, Alarm):
                self._alarms.take(message, now_ns())
            elif isinstance(message, Halt):
                # Kept before the command that it came of is answered: that comes after it.
                self._halt.take(message)
            elif isinstance(message, ChallengeOutcome):
                self._challenge.take(message)
                self._keep_challenge()
            elif isinstance(message, CommandReply):
                self._replies.add(message)
            elif isinstance(message, Stop):
                self._stopping = True
                if self._fault is not None:
                    # Should the disk not come back, this process is ended from outside.
                    self._post_summary(self._tally, is_final=False)
        if self._supervised.orphaned:
            # The next service's records has the same client id.
            self._mqtt.connect_no_more()

    def _take_records(self) -> None:
        if self._signalling is None:
            return
        try:
            while self._wants_more() and (received := self._signalling.receive()) is not None:
                message, _ = received
                if isinstance(message, EndOfParts):
                    self._commit()
                    self._ended = self._fault is None
                    return
                assert isinstance(message, PartRecord | LateInspection)
                if not self._batch:
                    due_ns = now_ns() + self._config.records.commit_interval_ms * NS_PER_MS
                    self._batch.begin(due_ns, self._judged_with)
                self._batch.add(message)
                if isinstance(message, PartRecord):
                    self._drift.decided(message)
        except PeerGone:
            self._commit()
            self._lose_signalling()

    def _lose_signalling(self) -> None:
        if self._signalling is not None:
            self._signalling.close()
            self._signalling = None
        self._batch.sender_gone()

    def _commit_if_due(self) -> None:
        now = now_ns()
        if self._fault is not None and now >= self._next_try_ns:
            if self._store is None:
                self.open()
            # Only what was written shows that writing goes again.
            self._commit()
        elif self._batch and (now >= self._batch.due_ns or len(self._batch) >= _BATCH_MAX):
            self._commit()

    def _sync_if_due(self) -> None:
        """What is committed is safe from a kill at once, and from a power cut from here on."""
        now = now_ns()
        if self._store is None or self._fault is not None or now < self._next_sync_ns or not self._is_unsynced:
            return
        self._next_sync_ns = now + self._config.records.sync_interval_ms * NS_PER_MS
        try:
            self._store.sync()
            self._is_unsynced = False
        except RecordFault as error:
            self._set_record_fault(error)
        self._say_if_slow(now_ns() - now)

    def _drop_old(self) -> None:
        """What retention lets go."""
        if self._store is None or not self._dropping.is_due(now_ns()):
            return
        try:
            self._dropping.drop(self._store, self._delivery.first_wanted_row)
        except RecordFault as error:
            self._set_record_fault(error)

    def _seal_if_due(self) -> None:
        """A reader that has the record open keeps it from being sealed: it is tried again."""
        now = now_ns()
        if self._store is None or self._fault is not None or now < self._next_sealing_ns:
            return
        self._next_sealing_ns = now + _SEALING_LOOKED_AT_NS
        if not is_to_be_sealed(self._config.records, self._store.size_bytes, self._store.age_s):
            return
        try:
            self._delivery.keep()
            if not self._store.seal():
                self._next_sealing_ns = now + _SEALING_RETRY_NS
        except RecordFault as error:
            self._set_record_fault(error)

    def _commit(self) -> None:
        if self._store is None:
            return
        batch = self._batch
        results = batch.results(self._supervised.line, self._session_id, self._store.schedule)
        context = batch.judged_with.context if batch.judged_with is not None else None
        began_ns = now_ns()
        try:
            written = self._store.commit(results, batch.late, self._delivery.delivered(), context)
            self._delivery.committed()
        except RecordFault as error:
            self._set_record_fault(error)
            return
        finally:
            self._say_if_slow(now_ns() - began_ns)
        self._is_unsynced = True
        self._set_fault(None)
        for part, result in zip(batch.parts, written, strict=True):
            # As it stands in the record, which may have had it before.
            if part.frames and self._naming.is_connected:
                self._naming.say(PartMade(part.frames, encode(structs.replace(result, row_hash=""))))
        if self._config.recording is not None:
            for item in batch.late:
                self._naming.say(item)
        self._name_frames()
        self._written_count += len(written)
        count = batch.written()
        if self._signalling is not None and count:
            try:
                self._signalling.send(Recorded(count))
            except PeerGone:
                self._lose_signalling()
        self._stats.add(written)
        self._deliver()

    def _name_frames(self) -> None:
        """Tell images, as far as it takes it now, whose frames it has."""
        self._naming.turn()
        lost = self._naming.lost_count
        if lost > self._unnamed_count:
            self._unnamed_count = lost
            text = f"names of {lost} parts in all came faster than images takes them: their pictures are dropped"
            self._supervised.alarm("images-unnamed", "warning", text, lasts_s=_UNNAMED_SAID_S)

    def _say_if_slow(self, took_ns: int) -> None:
        if took_ns > _SLOW_NS:
            text = f"record {self._config.records.path}: a commit took {took_ns / NS_PER_S:.1f} s; the disk is slow"
            self._supervised.alarm("record-slow", "warning", text, lasts_s=_SLOW_SAID_S)

    def _close_killed_sessions(self) -> None:
        """Put on record what sessions before this one left in their ledgers; this session's own parts go first."""
        if self._store is None or self._fault is not None or self._supervised.orphaned:
            return
        at = self._store.schedule.at
        batch = [structs.replace(left, traceability=at(left.trigger_ns)) for left in self._closing.batch()]
        if batch:
            try:
                written = self._store.commit(batch, [])
                self._delivery.committed(is_live=False)
            except RecordFault as error:
                self._closing.failed(str(error))
                if isinstance(error, RecordGone):
                    self._set_record_fault(error)
            else:
                self._is_unsynced = True
                self._recovered_count += len(written)
                self._closing.written(written)
        if self._closing.trouble:
            self._supervised.alarm("ledger", "error", self._closing.trouble)
        else:
            self._supervised.clear_alarm("ledger")
        while self._closing.done:
            self._supervised.alarm("recovered", "warning", self._closing.done.popleft(), lasts_s=10.0)

    def _deliver(self) -> None:
        try:
            self._delivery.turn()
        except RecordFault as error:
            self._set_record_fault(error)

    def _set_record_fault(self, error: RecordFault) -> None:
        self._set_fault(str(error))
        if isinstance(error, RecordGone) and self._store is not None:
            self._opening.lose(self._store)
            self._delivery.end()
            self._store = None
        if isinstance(error, RecordDamaged):
            try:
                self._opening.set_aside(str(error))
            except RecordFault as fault:
                self._set_fault(str(fault))
            else:
                self._next_try_ns = 0

    def _set_fault(self, text: str | None) -> None:
        self._next_try_ns = now_ns() + _RETRY_NS
        if text == self._fault:
            return
        self._fault = text
        if text is None:
            self._supervised.clear_alarm("records")
        else:
            self._supervised.alarm("records", "error", text)
        self._tell_health()

    def _keep_challenge(self) -> None:
        if self._challenge.keep():
            self._tell_health()

    def _tell_health(self) -> None:
        if self._signalling is not None:
            try:
                self._signalling.send(
                    RecordHealth(
                        self._fault is None,
                        self._fault or "",
                        self._halt.reason,
                        self._challenge.tried_boot_ns,
                        self._challenge.trouble,
                    )
                )
            except PeerGone:
                self._lose_signalling()

    # --- what goes to the broker, and comes from it ------------------------------------------------------------

    def _send_alarm(self, code: str, payload: bytes) -> bool:
        return self._mqtt.publish(self._alarm_topic + code, payload, qos=1, retain=True)

    def _send_challenge(self, payload: bytes) -> bool:
        return self._mqtt.publish(self._challenge_topic, payload, qos=1, retain=True)

    def _send_reply(self, reply: CommandReply, payload: bytes) -> bool:
        return self._mqtt.publish(reply.reply_topic, payload, qos=1, correlation=reply.correlation)

    def _on_message(self, message: Received) -> None:
        if message.topic.startswith(self._command_topic):
            self._take_command(message)
            return
        if message.topic == self._anchor_topic:
            if message.retain and message.payload:
                self._told_anchor.take(message.payload)
            return
        if message.retain and message.payload:
            self._alarms.found_retained(message.topic.removeprefix(self._alarm_topic))

    def _take_command(self, message: Received) -> None:
        name = message.topic.removeprefix(self._command_topic)
        arrived = Arrived(name, message.payload, message.retain, message.response_topic, message.correlation)
        taken = self._inbox.take(arrived, now_ns())
        if isinstance(taken, Command):
            self._supervised.post(taken)
        else:
            self._replies.add(taken)

    def _carried_out(self, admitted: Admitted) -> CommandReply:
        command = admitted.command
        if now_ns() - admitted.admitted_ns > FRESH_NS:
            ok, text = False, f"stale: it waited for the record for more than {FRESH_NS // NS_PER_S} s; send it again"
        else:
            # A review may be of a part that came just now.
            self._take_records()
            if self._batch:
                self._commit()
            if self._store is None or self._fault is not None:
                ok, text = False, f"{self._fault}; nothing was changed"
            else:
                ok, text = carry_out(self._store, command)
        return CommandReply(command.name, command.request_id, ok, text, command.reply_topic, command.correlation)

    def _publish_stats(self) -> None:
        now = now_ns()
        if now < self._next_stats_ns:
            return
        self._next_stats_ns = now + _STATS_INTERVAL_NS
        if self._store is None:
            return
        keys, platform = self._store.schedule.now, self._platform
        stats = self._stats.end_second(self._store.tally, keys, platform.temperatures_c, platform.throttled, now)
        self._mqtt.publish(self._stats_topic, encode(stats), qos=1)
        self._publish_anchor(self._store)

    def _publish_anchor(self, store: RecordStore) -> None:
        """Nothing where the record cannot be read: the last one stands."""
        try:
            anchor = anchor_payload(store, self._session_id)
        except RecordFault:
            return
        self._mqtt.publish(self._anchor_topic, encode(anchor), qos=1, retain=True)

    def _check_told_anchor(self) -> None:
        if self._store is None or self._fault is not None:
            return
        try:
            found = self._told_anchor.check(self._store, lost_power=self._lost_power)
        except RecordFault:
            return
        if found is not None:
            self._supervised.alarm("record-anchor", found.severity, found.text)

    def _counters(self) -> dict[str, int]:
        return {
            "rows_written": self._written_count,
            "rows_recovered": self._recovered_count,
            "rows_untold": self._delivery.untold_count,
            "segments_dropped": self._dropping.dropped_count,
            "commands_unanswered": self._replies.unanswered_count,
            "images_unnamed": self._unnamed_count,
        }

    # --- the end -----------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._platform.close()
        self._drift.close()
        tally = self._tally
        self._publish_last_stats()
        try:
            self._await_acknowledgements()
            self._end_record()
        except RecordFault as error:
            self._supervised.alarm("records", "error", str(error))
        self._post_summary(tally, is_final=True)
        if self._store is not None:
            self._store.close()
        self._mqtt.close()
        self._lose_signalling()
        self._finish_naming()

    @property
    def _tally(self) -> Tally | None:
        """Where the record's file is gone: what was on record until then."""
        return self._store.tally if self._store is not None else self._opening.tally

    def _post_summary(self, tally: Tally | None, *, is_final: bool) -> None:
        if tally is not None:
            self._supervised.post(Summary(json.dumps(tally.summary()), is_final))

    def _finish_naming(self) -> None:
        """Images has still to write what is named last."""
        give_up_ns = now_ns() + _LAST_NAMES_NS
        while (writing := self._naming.write_descriptors()) and now_ns() < give_up_ns:
            select.select([], writing, [], seconds_until(give_up_ns))
            self._name_frames()
        self._unnamed_count = self._naming.lost_count + self._naming.waiting_count
        self._naming.close()
        self._supervised.say_alive(self._counters())

    def _end_record(self) -> None:
        """What it keeps beside the rows, where it is still open: the last delivery may have found it gone. Raises RecordFault."""
        store = self._store
        if store is None:
            return
        self._delivery.keep()
        store.save_tally()
        store.end_run()
        store.sync()

    def _await_acknowledgements(self) -> None:
        give_up_ns = now_ns() + _LAST_ACKNOWLEDGEMENTS_NS
        while self._mqtt.connected and now_ns() < give_up_ns:
            self._deliver()
            if self._store is None or not self._delivery.in_flight_count:
                return
            descriptors = self._mqtt.read_descriptors(), self._mqtt.write_descriptors()
            select.select(*descriptors, [], seconds_until(give_up_ns))
            self._mqtt.turn()

    def _publish_last_stats(self) -> None:
        self._next_stats_ns = 0
        self._publish_stats()


def main() -> None:
    """Run this worker; started by the supervisor."""
    supervised = attach("records", dies_with_supervisor=False)
    records = Records(supervised)
    records.open()
    settle(supervised)
    supervised.post(Ready())
    records.run()


if __name__ == "__main__":
    main()
