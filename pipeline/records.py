"""The records worker: commits every verdict, then tells the world what is on disk.

It may lag or die; verdicts do not wait for it. What it has not acknowledged, signalling tells again.
"""

from __future__ import annotations

import json
import select
import time
from collections import deque
from importlib import metadata

import msgspec
from msgspec import structs

from pipeline.channel import Link, PeerGone
from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns, seconds_until, utc_text
from pipeline.closing import Closing
from pipeline.commands import Arrived, CommandInbox, reply_payload
from pipeline.halt_file import HaltFile
from pipeline.image_names import image_ref
from pipeline.latency import LatencyHistogram
from pipeline.line_watch import FRESH_NS
from pipeline.messages import (
    Admitted,
    Alarm,
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
    ViewInspected,
)
from pipeline.naming import Naming
from pipeline.outbox import Fate, Outbox, Topic
from pipeline.payloads import (
    AlarmPayload,
    AnchorPayload,
    DefectResult,
    ResultPayload,
    StatsPayload,
    TraceabilityKeys,
    ViewResult,
    encode,
)
from pipeline.platform_watch import PlatformWatch
from pipeline.record.anchor import Anchor, anchor_fault, read_anchor
from pipeline.record.commands import carry_out
from pipeline.record.context import Context, context_of
from pipeline.record.faults import RecordDamaged, RecordFault, RecordGone
from pipeline.record.files import set_aside, set_aside_by
from pipeline.record.lock import RecordInUse, lock_record
from pipeline.record.store import RecordStore
from pipeline.retention import Retention, is_to_be_sealed
from pipeline.tally import Tally, latency_of, stages_us
from pipeline.traceability import KeyChange, KeySchedule, RecipeKeys
from pipeline.transports.mqtt import MqttConnection, Received, Subscription
from pipeline.worker import Supervised, attach, settle

_BATCH_MAX = 2_000
_SEEN_ALL_THE_SAME = ("DEADLINE", "FAULT")
"""Reasons of parts that have no inspection, or none in time, but most likely frames."""
_OTHERS_SEEN = ("MISSED_FRAME", "BAD_FRAME", "OVERRUN")
"""Reasons of parts of which one view has no frame that could be judged: another one may have."""
_DELIVERY_KEPT_NS = 100 * NS_PER_MS
_LAST_ACKNOWLEDGEMENTS_NS = 500 * NS_PER_MS
"""At the end so long is waited for what the broker has still to acknowledge; what it has not is told again on ``history``."""
_LAST_NAMES_NS = 500 * NS_PER_MS
"""The same for names that images has still to take."""
_REPLIES_KEPT = 64
"""Answers to commands that wait for the broker; beyond these a command goes unanswered, and is counted."""
_RETRY_NS = 500 * NS_PER_MS
_SLOW_NS = NS_PER_S
"""A commit that takes longer is said to be slow."""
_SLOW_SAID_S = 60.0
_UNNAMED_SAID_S = 10.0
_STATS_INTERVAL_NS = NS_PER_S
_SEALING_LOOKED_AT_NS = NS_PER_S
_DROPPING_LOOKED_AT_NS = 10 * NS_PER_S
_SEALING_RETRY_NS = 10 * NS_PER_S
"""Where a reader was in the way: each attempt waits a quarter of a second for it."""


class Records:
    """The worker's loop."""

    def __init__(self, supervised: Supervised) -> None:
        config = supervised.line.config
        self._supervised = supervised
        self._config = config
        self._recipe = supervised.line.recipe
        self._session_id = supervised.configure.session_id
        self._store: RecordStore | None = None
        self._tally: Tally | None = None
        """The session's totals, while its file is gone and until another one is begun."""
        self._schedule: KeySchedule | None = None
        """The same of lot, order, serial and shift."""
        self._lock: int | None = None
        """Held to the end of this process where the supervisor could not get it."""
        self._fault: str | None = None
        self._told_set_aside = ""
        self._next_try_ns = 0
        self._signalling: Link | None = None
        self._naming = Naming()
        self._batch: list[PartRecord | LateInspection] = []
        self._batch_model: ModelInUse | None = None
        self._batch_context: Context | None = None
        """In use when the batch was taken; that may change before the disk takes it, and then nothing is added to it."""
        self._commit_due_ns = 0
        self._foreign_count = 0
        """How many at the head of the batch came from a signalling that is gone, and are not to be acknowledged."""
        self._model: ModelInUse | None = None
        self._context: Context | None = None
        self._version = metadata.version("lineside")
        self._lost_power = False
        """Whether a session before this one ended with the box."""
        self._told_anchor: bytes | None = None
        """What the broker had kept as the last anchor, until it is compared."""
        self._alarms: dict[str, AlarmPayload] = {}
        self._untold_alarms: set[str] = set()
        """Codes of which the broker has not heard how they stand, as it was away or took no more."""
        self._outbox: Outbox | None = None
        """Of the record that is open."""
        self._closing = Closing(config.records.path, self._session_id)
        self._halt_file = HaltFile(config.records.path)
        self._halt = supervised.configure.halt.reason
        self._resumed = supervised.configure.halt.resumed
        self._halt_kept = ""
        self._next_keeping_ns = 0
        self._next_sealing_ns = 0
        self._next_sync_ns = 0
        self._is_unsynced = False
        self._next_drop_ns = 0
        self._retention = Retention(config.records)
        self._next_delivery_kept_ns = 0
        self._ended = False
        self._stopping = False
        self._next_stats_ns = 0
        self._second_latency = LatencyHistogram()
        self._second_parts = 0
        self._second_since_ns = now_ns()
        self._counters = {
            "rows_written": 0,
            "rows_recovered": 0,
            "rows_untold": 0,
            "segments_dropped": 0,
            "commands_unanswered": 0,
            "images_unnamed": 0,
        }
        self._inbox = CommandInbox(config.topic_root)
        self._replies: deque[CommandReply] = deque()
        self._platform = PlatformWatch(supervised)
        root = config.topic_root
        self._result_topics: dict[Topic, str] = {"result": f"{root}/result", "history": f"{root}/history"}
        self._stats_topic = f"{root}/stats"
        self._anchor_topic = f"{root}/anchor"
        self._alarm_topic = f"{root}/alarm/"
        self._command_topic = f"{root}/cmd/"
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

    def open(self) -> None:
        """Open the record, or say why not; trying goes on in the loop. A damaged one is set aside and another begun."""
        try:
            self._tell_set_aside("")
            is_new = False
            try:
                store = self._opened()
            except RecordDamaged as error:
                self._set_aside(str(error))
                store, is_new = self._opened(), True
            try:
                self._begin_keys(store, is_new)
                self._outbox = self._outbox_of(store)
            except RecordFault:
                store.close()
                raise
        except RecordFault as error:
            self._set_fault(str(error))
            return
        self._store = store
        if self._tally is not None:
            self._store.tally = self._tally
        self._recall_halt()

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

    def _begin_keys(self, store: RecordStore, is_new: bool) -> None:
        """Lot, order, serial and shift go on as this process knows them, or as the record does; of one that was damaged nothing is
        known, and what an older segment says may be long past.
        """
        if self._schedule is not None:
            store.begin_keys(self._schedule.changes, forgets=True)
        elif is_new:
            store.begin_keys((), forgets=True)
        recipe = RecipeKeys(
            self._recipe.recipe_id, TraceabilityKeys(**self._recipe.traceability.model_dump(exclude_none=True))
        )
        keys = store.schedule.at_start(recipe)
        if keys is not None:
            schedule, started_ns = store.schedule, self._supervised.configure.session_started_ns
            last_ns = max(
                (change.from_ns for change in schedule.changes if change.boot_id == schedule.boot_id), default=0
            )
            who = f"recipe {recipe.recipe_id} {self._recipe.recipe_version}"
            from_ns = max(started_ns, last_ns)
            change = KeyChange(from_ns, schedule.boot_id, utc_text(from_ns), who, "", keys, recipe)
            store.begin_keys([change])

    def _outbox_of(self, store: RecordStore) -> Outbox:
        def send(topic: Topic, payload: bytes) -> Fate | None:
            return self._mqtt.publish_acknowledged(self._result_topics[topic], payload)

        rate = self._config.records.history_per_s
        return Outbox(store.delivered, store.head()[0], history_per_s=rate, send=send, read=store.read_payloads)

    def _opened(self) -> RecordStore:
        timing = self._config.timing
        path = self._config.records.path
        if self._lock is None and not self._supervised.configure.has_lock:
            try:
                self._lock = lock_record(path)
            except RecordInUse as error:
                raise RecordFault(str(error)) from None
            except OSError as error:
                raise RecordFault(
                    f"record {path}: its lock cannot be had: {error.filename}: {error.strerror}"
                ) from error
        return RecordStore(path, self._session_id, budget_us=timing.budget_us, deadline_us=timing.deadline_us)

    def _set_aside(self, why: str) -> None:
        set_aside(self._config.records.path, self._session_id)
        self._tell_set_aside(f"; {why}")

    def _tell_set_aside(self, why: str) -> None:
        """An alarm for the rest of the session: what was recorded before is in another file."""
        path = self._config.records.path
        aside = ", ".join(str(found) for found in sorted(set_aside_by(path, self._session_id)))
        if aside != self._told_set_aside:
            self._told_set_aside = aside
            text = f"record {path} was damaged and is kept as {aside}; the record goes on in a new file{why}"
            self._supervised.alarm("record-damaged", "error", text)

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
            self._keep_halt()
            if self._mqtt.turn():
                self._untold_alarms |= self._alarms.keys()
            self._publish_alarms()
            self._deliver()
            self._name_frames()
            self._publish_replies()
            self._platform.turn()
            self._publish_stats()
            self._supervised.alive(self._counters)
            # An orphan's last sender is signalling; without it there is nothing to wait for.
            if (self._stopping or self._supervised.orphaned) and self._signalling is None and not self._batch:
                self._ended = True
        self._finish()

    def _wait(self) -> None:
        reading = [*self._mqtt.read_descriptors(), *self._platform.read_descriptors()]
        if not self._supervised.orphaned:
            reading.append(self._supervised.fileno())
        wake_ns = min(self._next_stats_ns, self._mqtt.next_turn_ns())
        history_ns = self._outbox.next_turn_ns() if self._outbox is not None and self._store is not None else None
        if history_ns is not None:
            wake_ns = min(wake_ns, history_ns)
        if not self._supervised.orphaned:
            wake_ns = min(wake_ns, self._supervised.next_alive_ns)
        if self._fault is not None:
            wake_ns = min(wake_ns, self._next_try_ns)
        elif self._batch:
            wake_ns = min(wake_ns, self._commit_due_ns)
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
            elif isinstance(message, Connect):
                # What the last one still said first: its successor knows less of it.
                self._take_records()
                self._lose_signalling()
                self._signalling = Link.from_descriptor(descriptors[0])
                self._tell_health()
            elif isinstance(message, ModelInUse):
                if self._model is not None:
                    # What came before it was judged with the one before.
                    self._take_records()
                    if self._batch:
                        self._commit()
                is_first, self._model = self._model is None, message
                self._context = context_of(self._supervised.line, message, self._version)
                if is_first:
                    # Told again by a signalling that was quicker than the supervisor.
                    self._batch_model, self._batch_context = self._model, self._context
            elif isinstance(message, Admitted):
                self._supervised.post(self._carried_out(message))
            elif isinstance(message, Alarm):
                self._take_alarm(message)
            elif isinstance(message, Halt):
                # Kept before the command that it came of is answered: that comes after it.
                self._halt, self._resumed, self._next_keeping_ns = message.reason, message.resumed, 0
                self._keep_halt()
            elif isinstance(message, CommandReply):
                self._reply(message)
            elif isinstance(message, Stop):
                self._stopping = True
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
                    self._commit_due_ns = now_ns() + self._config.records.commit_interval_ms * NS_PER_MS
                    self._batch_model, self._batch_context = self._model, self._context
                self._batch.append(message)
        except PeerGone:
            self._commit()
            self._lose_signalling()

    def _lose_signalling(self) -> None:
        if self._signalling is not None:
            self._signalling.close()
            self._signalling = None
        self._foreign_count = len(self._batch)

    def _commit_if_due(self) -> None:
        now = now_ns()
        if self._fault is not None and now >= self._next_try_ns:
            if self._store is None:
                self.open()
            # Only what was written shows that writing goes again.
            self._commit()
        elif self._batch and (now >= self._commit_due_ns or len(self._batch) >= _BATCH_MAX):
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
        now = now_ns()
        limits = self._config.records
        is_asked = limits.keep_days is not None or limits.keep_max_gib is not None
        if not is_asked or self._store is None or self._outbox is None or now < self._next_drop_ns:
            return
        self._next_drop_ns = now + _DROPPING_LOOKED_AT_NS
        try:
            sealed, size_bytes = self._store.sealed_segments(), self._store.size_bytes
            wall_ns, boot_ns = time.time_ns(), time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            delivered_row = self._outbox.first_wanted_row - 1
            segment = self._retention.next(sealed, size_bytes, delivered_row, wall_ns=wall_ns, boot_ns=boot_ns)
            if segment is not None:
                segment.file.unlink(missing_ok=True)
                self._counters["segments_dropped"] += 1
        except RecordFault as error:
            self._set_record_fault(error)
        except OSError as error:
            text = f"record {limits.path}: an old segment cannot be deleted: {error.filename}: {error.strerror}"
            self._supervised.alarm("record-not-pruned", "warning", text)
        else:
            self._supervised.clear_alarm("record-not-pruned")
        if self._retention.trouble:
            self._supervised.alarm("wall-clock-set", "warning", self._retention.trouble)
        else:
            self._supervised.clear_alarm("wall-clock-set")

    def _seal_if_due(self) -> None:
        """A reader that has the record open keeps it from being sealed: it is tried again."""
        now = now_ns()
        if self._store is None or self._fault is not None or now < self._next_sealing_ns:
            return
        self._next_sealing_ns = now + _SEALING_LOOKED_AT_NS
        if not is_to_be_sealed(self._config.records, self._store.size_bytes, self._store.age_s):
            return
        try:
            self._keep_delivered()
            if not self._store.seal():
                self._next_sealing_ns = now + _SEALING_RETRY_NS
        except RecordFault as error:
            self._set_record_fault(error)

    def _commit(self) -> None:
        if self._store is None:
            return
        parts = [item for item in self._batch if isinstance(item, PartRecord)]
        results = [self._result(item) for item in parts]
        late = [item for item in self._batch if isinstance(item, LateInspection)]
        began_ns = now_ns()
        assert self._outbox is not None
        try:
            written = self._store.commit(results, late, self._outbox.delivered(), self._batch_context)
            self._outbox.committed(self._store.head()[0], now_ns())
        except RecordFault as error:
            self._set_record_fault(error)
            return
        finally:
            self._say_if_slow(now_ns() - began_ns)
        self._is_unsynced = True
        self._set_fault(None)
        for part, result in zip(parts, written, strict=True):
            # As it stands in the record, which may have had it before.
            if part.frames and self._naming.is_connected:
                self._naming.say(PartMade(part.frames, encode(structs.replace(result, row_hash=""))))
        if self._config.recording is not None:
            for item in late:
                self._naming.say(item)
        self._name_frames()
        self._counters["rows_written"] += len(written)
        count = len(self._batch) - self._foreign_count
        self._batch.clear()
        self._foreign_count = 0
        if self._signalling is not None and count:
            try:
                self._signalling.send(Recorded(count))
            except PeerGone:
                self._lose_signalling()
        for result in written:
            self._second_parts += 1
            latency_us = latency_of(result)
            if latency_us is not None:
                self._second_latency.add(latency_us)
        self._deliver()

    def _name_frames(self) -> None:
        """Tell images, as far as it takes it now, whose frames it has."""
        self._naming.turn()
        lost = self._naming.lost_count
        if lost > self._counters["images_unnamed"]:
            self._counters["images_unnamed"] = lost
            text = f"names of {lost} parts in all came faster than images takes them: their pictures are dropped"
            self._supervised.alarm("images-unnamed", "warning", text, lasts_s=_UNNAMED_SAID_S)

    def _recall_halt(self) -> None:
        """The record's place may have been away, or another one, when the halt was last looked for."""
        self._halt_kept = self._halt_file.read()
        if not self._resumed:
            self._halt = self._halt or self._halt_kept

    def _keep_halt(self) -> None:
        """The halt, or that there is none, for the next start; tried again where the disk fails."""
        if self._halt == self._halt_kept or now_ns() < self._next_keeping_ns:
            return
        try:
            self._halt_file.write(self._halt)
        except OSError as error:
            self._next_keeping_ns = now_ns() + _RETRY_NS
            then = "come up running" if self._halt else "be halted"
            text = f"halt file {self._halt_file.path}: {error.strerror}; were the service started now, it would {then}"
            self._supervised.alarm("halt-not-kept", "error", text)
        else:
            self._halt_kept = self._halt
            self._supervised.clear_alarm("halt-not-kept")

    def _say_if_slow(self, took_ns: int) -> None:
        if took_ns > _SLOW_NS:
            text = f"record {self._config.records.path}: a commit took {took_ns / NS_PER_S:.1f} s; the disk is slow"
            self._supervised.alarm("record-slow", "warning", text, lasts_s=_SLOW_SAID_S)

    def _close_killed_sessions(self) -> None:
        """Put on record what sessions before this one left in their ledgers; this session's own parts go first."""
        if self._store is None or self._fault is not None or self._supervised.orphaned:
            return
        at = self._store.schedule.at
        batch = [msgspec.structs.replace(left, traceability=at(left.trigger_ns)) for left in self._closing.batch()]
        if batch:
            try:
                written = self._store.commit(batch, [])
                if self._outbox is not None:
                    self._outbox.committed(self._store.head()[0], now_ns(), is_live=False)
            except RecordFault as error:
                self._closing.failed(str(error))
                if isinstance(error, RecordGone):
                    self._set_record_fault(error)
            else:
                self._is_unsynced = True
                self._counters["rows_recovered"] += len(written)
                self._closing.written(written)
        if self._closing.trouble:
            self._supervised.alarm("ledger", "error", self._closing.trouble)
        else:
            self._supervised.clear_alarm("ledger")
        while self._closing.done:
            self._supervised.alarm("recovered", "warning", self._closing.done.popleft(), lasts_s=10.0)

    def _deliver(self) -> None:
        if self._store is None or self._outbox is None:
            return
        try:
            self._outbox.turn(self._mqtt.connects if self._mqtt.connected else None, now_ns())
            self._tell_gone(self._outbox)
            if now_ns() >= self._next_delivery_kept_ns:
                self._next_delivery_kept_ns = now_ns() + _DELIVERY_KEPT_NS
                self._keep_delivered()
        except RecordFault as error:
            self._set_record_fault(error)

    def _tell_gone(self, outbox: Outbox) -> None:
        """What of the record the broker cannot be told now, or never."""
        if outbox.fault:
            text = f"rows that were held back cannot be read, and wait with all behind them: {outbox.fault}"
            self._supervised.alarm("history-waits", "warning", text)
        else:
            self._supervised.clear_alarm("history-waits")
        if not outbox.gone:
            return
        first, last = outbox.gone[0][0], outbox.gone[-1][1]
        while outbox.gone:
            begin, end = outbox.gone.popleft()
            self._counters["rows_untold"] += end - begin + 1
        text = (
            f"{self._counters['rows_untold']} rows were never told: they are not in the record {self._config.records.path} any "
            f"more, or damaged there; the last ones found so are among rows {first} to {last}"
        )
        self._supervised.alarm("history-gap", "error", text)

    def _keep_delivered(self) -> None:
        """Where no commit takes it along."""
        if self._store is not None and self._outbox is not None:
            delivered = self._outbox.delivered()
            if delivered != self._store.delivered:
                self._store.save_delivered(delivered)

    def _set_record_fault(self, error: RecordFault) -> None:
        self._set_fault(str(error))
        if isinstance(error, RecordGone) and self._store is not None:
            self._tally, self._schedule = self._store.tally, self._store.schedule
            self._store.close()
            self._store = self._outbox = None
        if isinstance(error, RecordDamaged):
            try:
                self._set_aside(str(error))
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

    def _tell_health(self) -> None:
        if self._signalling is not None:
            try:
                self._signalling.send(RecordHealth(self._fault is None, self._fault or "", self._halt))
            except PeerGone:
                self._lose_signalling()

    def _result(self, record: PartRecord) -> ResultPayload:
        trigger_utc = utc_text(record.trigger_ns)
        return ResultPayload(
            session_id=self._session_id,
            seq=record.seq,
            part_id=record.part_id,
            verdict=record.verdict,  # type: ignore[arg-type]
            reason=record.reason,  # type: ignore[arg-type]
            encoder_count=record.encoder_count,
            reject_at_encoder_count=record.reject_at_encoder_count,
            part_key=None,
            age_us=record.age_us,
            valid_us=record.valid_us,
            trigger_utc=trigger_utc,
            trigger_ns=record.trigger_ns,
            decided_ns=record.decided_ns,
            sent_ns=record.sent_ns,
            deadline_ns=record.deadline_ns,
            stages_us=self._stages_us(record),
            recipe_id=self._recipe.recipe_id,
            recipe_version=self._recipe.recipe_version,
            model_sha256=self._batch_model.model_sha256 if self._batch_model is not None else None,
            calibration_id=None,
            views=[
                ViewResult(camera_id=v.camera_id, frame_id=v.frame_id, score=v.score, part_mark=v.part_mark)
                for v in record.views
            ],
            defects=[
                DefectResult(
                    class_name=defect.class_name,
                    score=defect.score,
                    camera_id=view.camera_id,
                    box_px=defect.box_px,
                    box_mm=None,
                    area_mm2=None,
                )
                for view in record.views
                for defect in view.defects
            ],
            is_simulated=self._config.is_simulated,
            is_challenge=False,
            image_ref=self._image_ref(record, trigger_utc),
            traceability=self._store.schedule.at(record.trigger_ns) if self._store is not None else TraceabilityKeys(),
            context_sha256=self._batch_context.sha256 if self._batch_context is not None else None,
            row_hash="",
        )

    def _image_ref(self, record: PartRecord, trigger_utc: str) -> str | None:
        """Where its pictures are, as far as they are kept; null where none was meant to be."""
        if self._config.images is None or not record.frames:
            return None
        # Of a part that was decided before signalling's successor told it, nothing is left but that it is a reject.
        is_kept = record.verdict == "REJECT" or any(view.handed_on for view in record.views)
        is_seen = record.reason in _SEEN_ALL_THE_SAME or (record.reason in _OTHERS_SEEN and len(record.frames) > 1)
        if not (is_kept or is_seen):
            return None
        return image_ref(trigger_utc, self._session_id, record.part_id)

    def _stages_us(self, record: PartRecord) -> dict[str, int]:
        """Of the view that was judged last; empty where one was missing, since then nothing was waited for."""
        if len(record.views) < len(self._config.cameras):
            return {}
        view: ViewInspected = max(record.views, key=lambda view: view.judged_ns)
        moments = (view.grabbed_ns, view.received_ns, view.preprocessed_ns, view.inferred_ns, view.judged_ns)
        return stages_us(record.trigger_ns, moments, record.decided_ns, record.sent_ns)

    # --- alarms and stats --------------------------------------------------------------------------------------

    def _take_alarm(self, alarm: Alarm) -> None:
        known = self._alarms.get(alarm.code)
        if not alarm.raised:
            if known is not None:
                del self._alarms[alarm.code]
                self._untold_alarms.add(alarm.code)
            return
        self._alarms[alarm.code] = AlarmPayload(
            code=alarm.code,
            severity=alarm.severity,
            text=alarm.text,
            since=known.since if known is not None else utc_text(now_ns()),
            session_id=self._session_id,
        )
        self._untold_alarms.add(alarm.code)

    def _publish_alarms(self) -> None:
        for code in sorted(self._untold_alarms):
            alarm = self._alarms.get(code)
            payload = encode(alarm) if alarm is not None else b""
            if not self._mqtt.publish(self._alarm_topic + code, payload, qos=1, retain=True):
                return
            self._untold_alarms.remove(code)

    def _on_message(self, message: Received) -> None:
        if message.topic.startswith(self._command_topic):
            self._take_command(message)
            return
        if message.topic == self._anchor_topic:
            if message.retain and message.payload:
                self._told_anchor = message.payload
            return
        # Retained alarms of an earlier run that nobody took back.
        code = message.topic.removeprefix(self._alarm_topic)
        if message.retain and message.payload and code not in self._alarms:
            self._untold_alarms.add(code)

    def _take_command(self, message: Received) -> None:
        name = message.topic.removeprefix(self._command_topic)
        arrived = Arrived(name, message.payload, message.retain, message.response_topic, message.correlation)
        taken = self._inbox.take(arrived, now_ns())
        if isinstance(taken, Command):
            self._supervised.post(taken)
        else:
            self._reply(taken)

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

    def _reply(self, reply: CommandReply) -> None:
        if len(self._replies) == _REPLIES_KEPT:
            self._replies.popleft()
            self._counters["commands_unanswered"] += 1
        self._replies.append(reply)

    def _publish_replies(self) -> None:
        while self._replies:
            reply = self._replies[0]
            payload = reply_payload(reply, self._session_id)
            if not self._mqtt.publish(reply.reply_topic, payload, qos=1, correlation=reply.correlation):
                return
            self._replies.popleft()

    def _publish_stats(self) -> None:
        now = now_ns()
        if now < self._next_stats_ns:
            return
        self._next_stats_ns = now + _STATS_INTERVAL_NS
        if self._store is None:
            return
        tally = self._store.tally
        parts = sum(tally.verdicts.values())
        judged = tally.verdicts["PASS"] + tally.verdicts["REJECT"]
        span_ns = max(1, now - self._second_since_ns)
        stats = StatsPayload(
            session_id=self._session_id,
            parts_triggered=parts,
            passed=tally.verdicts["PASS"],
            rejected=tally.verdicts["REJECT"],
            no_decision=tally.verdicts["NO_DECISION"],
            late_verdicts=tally.late_verdicts,
            late_inspections=tally.late_inspections,
            over_budget=tally.over_budget,
            yield_ratio=round(tally.verdicts["PASS"] / judged, 4) if judged else None,
            rate_per_min=round(self._second_parts * 60 * NS_PER_S / span_ns, 1),
            budget_us=tally.budget_us,
            latency_us=self._second_latency.percentiles_us(),
            reasons=dict(sorted(tally.reasons.items())),
            temperatures_c=self._platform.temperatures_c,
            throttled=self._platform.throttled,
            traceability=self._store.schedule.now,
        )
        self._mqtt.publish(self._stats_topic, encode(stats), qos=1)
        self._second_latency = LatencyHistogram()
        self._second_parts = 0
        self._second_since_ns = now
        self._publish_anchor(self._store)

    def _publish_anchor(self, store: RecordStore) -> None:
        """What an auditor keeps elsewhere. Nothing where the record cannot be read: the last one stands."""
        try:
            row_count, head = store.head()
            review_count, review_head = store.review_head()
        except RecordFault:
            return
        anchor = AnchorPayload(
            session_id=self._session_id,
            row_count=row_count,
            head=head,
            review_count=review_count,
            review_head=review_head,
            utc=utc_text(now_ns()),
        )
        self._mqtt.publish(self._anchor_topic, encode(anchor), qos=1, retain=True)

    def _check_told_anchor(self) -> None:
        """Whether the record still has what the broker was told it had: it may have been cut off, or be an old copy."""
        if self._told_anchor is None or self._store is None or self._fault is not None:
            return
        told, self._told_anchor = self._told_anchor, None
        path = self._config.records.path
        try:
            text = _anchor_text(self._store, read_anchor(told))
        except RecordFault:
            self._told_anchor = told
            return
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            text = f"what the broker keeps at {self._anchor_topic} is no anchor of this record: {error}"
            self._supervised.alarm("record-anchor", "warning", text)
            return
        if text:
            why = "it was cut off or changed, or is an old copy or another file"
            if self._lost_power:
                why += ", or the box lost power before the newest rows were on its disk"
            said = f"record {path} is not as the broker was last told at {self._anchor_topic}: {text}: {why}"
            self._supervised.alarm("record-anchor", "error", said)

    def _finish(self) -> None:
        self._platform.close()
        # Where its file is gone: what was on record until then.
        tally = self._store.tally if self._store is not None else self._tally
        self._publish_last_stats()
        try:
            self._await_acknowledgements()
            self._end_record()
        except RecordFault as error:
            self._supervised.alarm("records", "error", str(error))
        if tally is not None:
            self._supervised.post(Summary(json.dumps(tally.summary())))
        if self._store is not None:
            self._store.close()
        self._mqtt.close()
        self._lose_signalling()
        self._finish_naming()

    def _finish_naming(self) -> None:
        """Images has still to write what is named last."""
        give_up_ns = now_ns() + _LAST_NAMES_NS
        while (writing := self._naming.write_descriptors()) and now_ns() < give_up_ns:
            select.select([], writing, [], seconds_until(give_up_ns))
            self._name_frames()
        self._counters["images_unnamed"] = self._naming.lost_count + self._naming.waiting_count
        self._naming.close()
        self._supervised.say_alive(self._counters)

    def _end_record(self) -> None:
        """What it keeps beside the rows, where it is still open: the last delivery may have found it gone. Raises RecordFault."""
        store = self._store
        if store is None:
            return
        self._keep_delivered()
        store.save_tally()
        store.end_run()
        store.sync()

    def _await_acknowledgements(self) -> None:
        give_up_ns = now_ns() + _LAST_ACKNOWLEDGEMENTS_NS
        while (outbox := self._outbox) is not None and self._mqtt.connected and now_ns() < give_up_ns:
            self._deliver()
            if self._store is None or not outbox.in_flight_count:
                return
            descriptors = self._mqtt.read_descriptors(), self._mqtt.write_descriptors()
            select.select(*descriptors, [], seconds_until(give_up_ns))
            self._mqtt.turn()

    def _publish_last_stats(self) -> None:
        self._next_stats_ns = 0
        self._publish_stats()


def _anchor_text(store: RecordStore, anchor: Anchor) -> str:
    """What of it does not hold, empty where all does, or cannot be told. Raises RecordFault."""
    last, _ = store.head()
    if not store.may_be_dropped(anchor.row_count) or store.hash_of(anchor.row_count) is not None:
        is_cut_off, text = anchor_fault(anchor.row_count, anchor.head, last, store.hash_of(anchor.row_count))
        if text:
            return f"row {last if is_cut_off else anchor.row_count}: {text}"
    if anchor.review_count is not None and anchor.review_head is not None:
        last_review, _ = store.review_head()
        found = store.hash_of(anchor.review_count, "review")
        if anchor.review_count > last_review:
            return f"it has {last_review} reviews, {anchor.review_count} were anchored"
        if found is not None and found != anchor.review_head:
            return f"review {anchor.review_count} was anchored as {anchor.review_head}, is {found}"
    return ""


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
