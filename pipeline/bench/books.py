"""Reads the books of a long run: line by line, and without what the comparison of the books has no use for."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from pipeline.simulator.truth import Truth, find_truth

_NOT_COMPARED = (
    "schema",
    "age_us",
    "valid_us",
    "trigger_utc",
    "stages_us",
    "recipe_id",
    "recipe_version",
    "model_sha256",
    "calibration_id",
    "defects",
    "row_hash",
)
_OF_THE_WIRE_COMPARED = ("verdict", "heartbeat", "result", "history")

_decode = msgspec.json.Decoder().decode


def find_truth_of(folder: Path) -> Truth:
    """``find_truth`` over the books in a rehearsal's folder, in about a quarter of the memory that whole books take."""
    return find_truth(
        read_line_book(folder / "line.jsonl"), stream_book(folder / "gate.jsonl"), read_wire_log(folder / "wire.jsonl")
    )


def broken_promises(truth: Truth) -> dict[str, int]:
    """What must be 0 whatever happened outside the service, by the name the books give it."""
    return {
        "passed_without_pass": truth.controller.passed_without_pass,
        "wrong_part_passed": truth.controller.wrong_part_passed,
        "passed_without_heartbeat": truth.controller.passed_without_heartbeat,
        "triggers_with_several_verdicts": truth.wire.triggers_with_several_verdicts,
        "verdicts_without_trigger": truth.wire.verdicts_without_trigger,
        "duplicate_seq": truth.wire.duplicate_seq,
        "retained_verdicts": truth.wire.retained_verdicts,
        "results_contradicting": truth.wire.results_contradicting,
    }


def read_line_book(path: Path) -> Iterator[dict[str, Any]]:
    """The line's book without the frames of which nothing is to be said."""
    return (record for record in stream_book(path) if record["event"] != "frame" or record["dropped"])


def read_wire_log(path: Path) -> Iterator[dict[str, Any]]:
    """The messages that are compared with the books, less their bulk."""
    for record in stream_book(path):
        if record["event"] == "message" and record["topic"] in _OF_THE_WIRE_COMPARED:
            yield record


def stream_book(path: Path) -> Iterator[dict[str, Any]]:
    """The records one by one, without ``_NOT_COMPARED``; a last line that was cut short is left out."""
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield _slim(_decode(line))


def _slim(record: dict[str, Any]) -> dict[str, Any]:
    """A new dictionary with no room for what was left out, and one copy of words that recur."""
    slim: dict[str, Any] = {}
    for key, value in record.items():
        if key not in _NOT_COMPARED:
            slim[key] = _slim(value) if isinstance(value, dict) else _shared(value)
    return slim


def _shared(value: Any) -> Any:
    return sys.intern(value) if isinstance(value, str) else value
