"""What a soak calls a broken promise."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.bench.recorded import RecordedPart
from pipeline.bench.soak import Host, broken_promises
from pipeline.simulator.truth import Violation


def part(trigger_ns: int, *, verdict: str = "PASS", is_sent: bool = True) -> RecordedPart:
    return RecordedPart("s", trigger_ns, trigger_ns, verdict, "OK", is_sent, None, None)


def test_only_a_pass_that_was_withheld_may_be_missing_on_the_wire() -> None:
    parts = [part(1), part(2), part(3, is_sent=False), part(4, verdict="REJECT", is_sent=False)]
    truth: Any = SimpleNamespace(
        violations=[
            Violation("no_verdict", 2, 2, "sent, by the record, and not on the wire"),
            Violation("no_verdict", 3, 3, "withheld"),
            Violation("no_verdict", 4, 4, "not sent, for no good reason"),
            Violation("passed_without_pass", 3, 3, "and passed all the same"),
        ],
        line=SimpleNamespace(triggers_observable=5),
    )
    assert broken_promises(truth, parts) == {"no_verdict": 2, "passed_without_pass": 1, "triggers_not_on_record": 1}


def test_what_the_host_took_is_told_by_the_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    host = Host()
    for at_s, stolen_s in ((0.0, 100.0), (25.0, 101.0), (50.0, 103.0), (60.0, 103.0), (119.0, 103.0), (125.0, 103.0)):
        host.at_s.append(at_s)
        host.stolen_s.append(stolen_s)
    assert [host.stolen_share(minute) for minute in range(4)] == [0.03, 0.0, None, None]
