"""The wire tap's log: verdicts, results and heartbeats as they were heard."""

from __future__ import annotations

import sys
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.simulator.truth.books import Record
from pipeline.simulator.truth.report import WireVerdict

PartKey = tuple[str, Any]
"""(session_id, part_id)."""

_RESULT_KEYS = {"session_id", "part_id", "verdict", "encoder_count"}
_KEYS_OF_TOPIC = {
    "verdict": {"session_id", "seq", "part_id", "verdict", "reason", "encoder_count"},
    "heartbeat": {"session_id", "state"},
    "result": _RESULT_KEYS,
    "history": _RESULT_KEYS,
}


@dataclass(slots=True)
class WireResult:
    """What the ``result`` and ``history`` messages of one key say; the first one's word where they differ."""

    verdicts: tuple[str, ...]
    encoder_count: int | None
    at_ns: int
    """The trigger's own moment as the service tells it, the first message's arrival where it does not."""
    marks: tuple[int, ...]
    """The part numbers that the service read in the pixels it judged."""
    message_count: int = 1


@dataclass(slots=True)
class WireAccount:
    """The log, sorted out. ``verdicts`` in order of arrival, copies too; ``by_number`` has the first of each."""

    verdicts: list[WireVerdict] = field(default_factory=list)
    by_number: dict[tuple[str, int], WireVerdict] = field(default_factory=dict)
    retained: list[WireVerdict] = field(default_factory=list)
    repeated: list[WireVerdict] = field(default_factory=list)
    results: dict[PartKey, WireResult] = field(default_factory=dict)
    heartbeats_ns: defaultdict[str | None, array[int]] = field(default_factory=lambda: defaultdict(lambda: array("q")))
    """When the tap read the ``RUNNING`` heartbeats, by session; those of every session under None."""
    heartbeats_not_before_ns: defaultdict[str | None, array[int]] = field(
        default_factory=lambda: defaultdict(lambda: array("q"))
    )
    """The same heartbeats: when they had not come yet."""
    deaf_ns: list[tuple[int, int]] = field(default_factory=list)
    """From when to when the tap had no connection."""
    largest_verdict_bytes: int = 0
    malformed_messages: int = 0
    reasons: Counter[str] = field(default_factory=Counter)

    def was_deaf(self, since_ns: int, until_ns: int) -> bool:
        """Whether the tap had no connection at some moment of this span."""
        return any(start_ns <= until_ns and end_ns >= since_ns for start_ns, end_ns in self.deaf_ns)


def read_wire(log: Iterable[Record]) -> WireAccount:
    """Reads the log once."""
    wire = WireAccount()
    deaf_since_ns: int | None = None
    for record in log:
        if record["event"] == "disconnected":
            deaf_since_ns = record["at_ns"]
        elif record["event"] == "connected" and deaf_since_ns is not None:
            wire.deaf_ns.append((deaf_since_ns, record["at_ns"]))
            deaf_since_ns = None
        if record["event"] != "message" or record["topic"] not in _KEYS_OF_TOPIC:
            continue
        payload, topic, arrival_ns = record["payload"], record["topic"], record["arrival_ns"]
        if not isinstance(payload, dict) or not _KEYS_OF_TOPIC[topic] <= payload.keys():
            wire.malformed_messages += 1
        elif topic == "verdict":
            _take_verdict(wire, record, payload)
        elif topic == "heartbeat":
            if payload["state"] == "RUNNING":
                for session_id in (payload["session_id"], None):
                    wire.heartbeats_ns[session_id].append(arrival_ns)
                    wire.heartbeats_not_before_ns[session_id].append(record["not_before_ns"])
        else:
            _take_result(wire, payload, arrival_ns)
    if deaf_since_ns is not None:
        wire.deaf_ns.append((deaf_since_ns, sys.maxsize))
    return wire


def _take_verdict(wire: WireAccount, record: Record, payload: dict[str, Any]) -> None:
    heard = WireVerdict(
        record["not_before_ns"],
        record["arrival_ns"],
        # One string a session, not one a part: there are many parts.
        sys.intern(payload["session_id"]),
        payload["seq"],
        payload["part_id"],
        sys.intern(payload["verdict"]),
        sys.intern(payload["reason"]),
        payload["encoder_count"],
        payload.get("age_us"),
        payload.get("valid_us"),
    )
    wire.verdicts.append(heard)
    if wire.by_number.setdefault((heard.session_id, heard.seq), heard) is not heard:
        wire.repeated.append(heard)
    if record["retained"]:
        wire.retained.append(heard)
    wire.reasons[heard.reason] += 1
    wire.largest_verdict_bytes = max(wire.largest_verdict_bytes, record["bytes"])


def _take_result(wire: WireAccount, payload: dict[str, Any], arrival_ns: int) -> None:
    key = (sys.intern(payload["session_id"]), payload["part_id"])
    verdict = sys.intern(payload["verdict"])
    marks = {view.get("part_mark") for view in payload.get("views", [])} - {None}
    known = wire.results.get(key)
    if known is None:
        at_ns = payload.get("trigger_ns", arrival_ns)
        wire.results[key] = WireResult((verdict,), payload["encoder_count"], at_ns, tuple(sorted(marks)))
        return
    known.message_count += 1
    known.marks = tuple(sorted({*known.marks, *marks}))
    if verdict not in known.verdicts:
        known.verdicts += (verdict,)
