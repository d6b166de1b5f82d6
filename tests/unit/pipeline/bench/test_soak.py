"""What a soak calls a broken promise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from pipeline.bench.recorded import RecordedPart
from pipeline.bench.soak import broken_promises
from pipeline.simulator.truth import Violation


def part(trigger_ns: int, *, is_sent: bool) -> RecordedPart:
    return RecordedPart("s", trigger_ns, trigger_ns, "PASS", "OK", is_sent, None, None)


def test_only_what_the_record_says_was_not_sent_may_be_missing_on_the_wire() -> None:
    parts = [part(1, is_sent=True), part(2, is_sent=True), part(3, is_sent=False)]
    truth: Any = SimpleNamespace(
        violations=[
            Violation("no_verdict", 2, 2, "sent, by the record, and not on the wire"),
            Violation("no_verdict", 3, 3, "not sent"),
            Violation("passed_without_pass", 3, 3, "and passed all the same"),
        ],
        line=SimpleNamespace(triggers_observable=4),
    )
    assert broken_promises(truth, parts) == {"no_verdict": 1, "passed_without_pass": 1, "triggers_not_on_record": 1}
