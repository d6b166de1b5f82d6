"""Telling the broker the rows of the record that is open, and saying which ones it cannot be told."""

from __future__ import annotations

from pipeline.clock import NS_PER_MS, now_ns
from pipeline.outbox import Delivered, Fate, Outbox, Topic
from pipeline.record.store import RecordStore
from pipeline.transports.mqtt import MqttConnection
from pipeline.worker import Supervised

_KEPT_NS = 100 * NS_PER_MS


class Delivery:
    """An outbox for each record that is opened. Between ``begin`` and ``end`` all of it may be called, outside only ``turn`` and
    ``next_turn_ns``, which then do nothing.

    Raises the alarms ``history-waits`` and ``history-gap``.

    Attributes:
        untold_count: rows that were never told, and cannot be any more, of this process.
    """

    def __init__(self, supervised: Supervised, mqtt: MqttConnection) -> None:
        config = supervised.line.config
        self._supervised = supervised
        self._mqtt = mqtt
        self._path = config.records.path
        self._history_per_s = config.records.history_per_s
        self._topics: dict[Topic, str] = {
            "result": f"{config.topic_root}/result",
            "history": f"{config.topic_root}/history",
        }
        self._open: tuple[RecordStore, Outbox] | None = None
        self._next_keeping_ns = 0
        self.untold_count = 0

    def begin(self, store: RecordStore) -> None:
        """This record is open. Raises RecordFault."""
        last_row, _ = store.head()
        outbox = Outbox(
            store.delivered, last_row, history_per_s=self._history_per_s, send=self._send, read=store.read_payloads
        )
        self._open = store, outbox

    def end(self) -> None:
        """It is open no more."""
        self._open = None

    def delivered(self) -> Delivered:
        """What of it the broker has."""
        return self._opened[1].delivered()

    @property
    def first_wanted_row(self) -> int:
        """As the outbox says."""
        return self._opened[1].first_wanted_row

    @property
    def in_flight_count(self) -> int:
        """As the outbox says."""
        return self._opened[1].in_flight_count

    def committed(self, *, is_live: bool = True) -> None:
        """Rows came on record; not ``is_live``: of another session. Raises RecordFault."""
        store, outbox = self._opened
        outbox.committed(store.head()[0], now_ns(), is_live=is_live)

    def next_turn_ns(self) -> int | None:
        """When something is due that no descriptor tells of; None where nothing is."""
        return self._open[1].next_turn_ns() if self._open is not None else None

    def turn(self) -> None:
        """Send what the broker takes now. Raises RecordFault."""
        if self._open is None:
            return
        _, outbox = self._open
        outbox.turn(self._mqtt.connects if self._mqtt.connected else None, now_ns())
        self._say_untold(outbox)
        if now_ns() >= self._next_keeping_ns:
            self._next_keeping_ns = now_ns() + _KEPT_NS
            self.keep()

    def keep(self) -> None:
        """What the broker has, in the record. Raises RecordFault."""
        store, outbox = self._opened
        delivered = outbox.delivered()
        if delivered != store.delivered:
            store.save_delivered(delivered)

    @property
    def _opened(self) -> tuple[RecordStore, Outbox]:
        assert self._open is not None
        return self._open

    def _send(self, topic: Topic, payload: bytes) -> Fate | None:
        return self._mqtt.publish_acknowledged(self._topics[topic], payload)

    def _say_untold(self, outbox: Outbox) -> None:
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
            self.untold_count += end - begin + 1
        text = (
            f"{self.untold_count} rows were never told: they are not in the record {self._path} any "
            f"more, or damaged there; the last ones found so are among rows {first} to {last}"
        )
        self._supervised.alarm("history-gap", "error", text)
