"""The line's book: parts, triggers and who could hear them, belt."""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from pipeline.simulator.truth.books import Record
from pipeline.simulator.truth.report import DOUBT_NS, Observability, TriggerTruth, WireVerdict


@dataclass(slots=True)
class LinePart:
    """A part that came to the trigger station."""

    part_number: int
    encoder_count: int
    sensed_ns: int
    label: str | None
    trigger_missing: bool


@dataclass(slots=True)
class LineTrigger:
    """One trigger, however many cameras it reached; verdicts and results are booked with it later.

    Where cameras are at several places on the belt it is all triggers of a part: ``trigger_ns`` is the first one's, ``due_from_ns``
    the last camera's. ``encoder_counts``: by camera, its offset taken off. ``verdicts_max``: so many it may have.
    """

    part_number: int
    encoder_counts: list[int]
    trigger_ns: int
    observability: Observability
    due_from_ns: int
    verdicts_max: int = 1
    verdicts: list[WireVerdict] = field(default_factory=list)
    has_result: bool = False

    def told(self) -> TriggerTruth:
        """For the report."""
        return TriggerTruth(
            self.part_number,
            self.encoder_counts[0],
            self.trigger_ns,
            self.observability,
            tuple(self.verdicts),
            self.has_result,
        )


@dataclass(slots=True)
class LineAccount:
    """The book, sorted out. ``past_gate``: (gate_ns, part) in order. ``stops_ns``: when the controller was told of stops."""

    encoder_bits: int
    window_pulses: int
    parts: dict[int, LinePart] = field(default_factory=dict)
    triggers: list[LineTrigger] = field(default_factory=list)
    past_gate: list[tuple[int, LinePart]] = field(default_factory=list)
    stops_ns: list[int] = field(default_factory=list)
    frames_dropped: int = 0
    controller_events_lost: int = 0


@dataclass(slots=True)
class _View:
    """What became of a trigger at one camera."""

    camera_id: str
    trigger_ns: int
    sent: bool
    behind_garbage: bool


def read_line(book: Iterable[Record]) -> LineAccount:
    """Reads the book once. Raises ValueError where it does not begin with its ``line`` record."""
    records = iter(book)
    opening = next(records, None)
    if opening is None or opening["event"] != "line":
        raise ValueError("line book: expected it to begin with a record of event 'line'")
    account = LineAccount(opening["encoder_bits"], opening["window_pulses"])
    is_along_the_belt = len(opening.get("camera_places_pulses", ())) > 1
    views: dict[int, list[_View]] = {}
    trigger_of: dict[int, LineTrigger] = {}
    left_ns: dict[str, list[int]] = defaultdict(list)
    undelivered: set[tuple[str, int]] = set()
    # The line hangs up on its drivers at its own end: by then nothing is unread.
    end_ns: int | None = None
    for record in records:
        event = record["event"]
        if event == "part":
            number = record["part_number"]
            account.parts[number] = LinePart(
                number, record["encoder_count"], record["sensed_ns"], record["label"], record["trigger_missing"]
            )
        elif event == "trigger":
            view = _View(record["camera_id"], record["trigger_ns"], record["sent"], record["behind_garbage"])
            number = record["part_number" if is_along_the_belt else "trigger_number"]
            seen = views.setdefault(number, [])
            if not seen:
                trigger = LineTrigger(record["part_number"], [], view.trigger_ns, "unobserved", view.trigger_ns)
                account.triggers.append(trigger)
                trigger_of[number] = trigger
            trigger = trigger_of[number]
            trigger.encoder_counts.append(record.get("part_count", record["encoder_count"]))
            if is_along_the_belt:
                trigger.verdicts_max, trigger.due_from_ns = len(trigger.encoder_counts), view.trigger_ns
            seen.append(view)
        elif event == "gate":
            account.past_gate.append((record["gate_ns"], account.parts[record["part_number"]]))
        elif event == "frame":
            account.frames_dropped += record["dropped"]
        elif event == "belt" and record["speed_mm_s"] <= 0 and record["told_ns"] is not None:
            account.stops_ns.append(record["told_ns"])
        elif event == "driver" and not record["connected"]:
            left_ns[record["camera_id"]].append(record["at_ns"])
        elif event == "undelivered" and record["kind"] == "TRIGGER":
            undelivered.add((record["camera_id"], record["trigger_ns"]))
        elif event == "summary":
            account.controller_events_lost = record["controller_events_lost"]
        elif event == "end":
            end_ns = record["at_ns"]

    def observability(view: _View) -> Observability:
        if not view.sent or (view.camera_id, view.trigger_ns) in undelivered:
            return "unobserved"
        left = left_ns[view.camera_id]
        index = bisect.bisect_left(left, view.trigger_ns)
        until_ns = view.trigger_ns + DOUBT_NS if end_ns is None else min(view.trigger_ns + DOUBT_NS, end_ns)
        has_left = index < len(left) and left[index] < until_ns
        return "in_doubt" if has_left or view.behind_garbage else "observable"

    for trigger, seen in zip(account.triggers, views.values(), strict=True):
        found = {observability(view) for view in seen}
        best: tuple[Observability, ...] = ("observable", "in_doubt", "unobserved")
        trigger.observability = next(each for each in best if each in found)
    return account
