"""The chaos suite's short run: every kind of fault once, and the books agree."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.bench.chaos.faults import CATALOGUE
from tests.chaos.test_teeth import run_chaos
from tests.scratch_source import ROOT

FAULTS = len(CATALOGUE)
# A deadline that a box busy with the tests keeps most of the time; the gate lies as far behind it as on the demo's line.
LINE = ("--deadline-us", "100000", "--gate-pulses", "1600")


@pytest.mark.alone  # one of its faults keeps every core busy, at the highest priority
@pytest.mark.slow
@pytest.mark.timeout(1_500)
def test_nothing_passes_unjudged(tmp_path: Path) -> None:
    status, result, words = run_chaos(
        ROOT, "--faults", str(FAULTS), "--seconds", "1200", "--seed", "1", *LINE, json_file=tmp_path / "chaos.json"
    )
    assert status == 0, words
    assert result["faults"] == FAULTS
    assert result["violations"] == []
    totals = result["totals"]
    assert totals["unjudged_passed"] == totals["wrong_part_passed"] == totals["records_missing"] == 0
    assert totals["verdicts"] >= totals["triggers_observed"] > FAULTS * 10
    # A gate that pushes everything out would keep the promise too.
    assert totals["passed"] > totals["verdicts"] / 5
    missing = {entry.kind for entry in CATALOGUE} - set(result["kinds"]) - set(result["not_run"])
    assert not missing, f"kinds neither run nor said why not: {missing}"
    for kind, figures in result["kinds"].items():
        if figures["faults"]:
            assert figures["recovery_s"]["worst"] is not None, kind
    if result["not_run"]:
        pytest.skip("; ".join(f"{kind} not run: {why}" for kind, why in result["not_run"].items()))
