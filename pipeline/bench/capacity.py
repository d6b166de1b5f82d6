"""Suite ``capacity``: the highest rate at which almost every part is still judged in time, line and controller on the same box."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.simulator.images import ImageSource
from vision.package import load_package

NO_DECISION_SHARE_MAX = 0.001
_BISECTIONS = 3


def capacity(
    model: Path,
    images: ImageSource,
    *,
    first_per_min: float = 6_000.0,
    most_per_min: float = 60_000.0,
    seconds: float = 15.0,
) -> dict[str, object]:
    """Doubles the rate until more than NO_DECISION_SHARE_MAX of the parts get NO_DECISION, then bisects.

    Every step is a rehearsal of ``seconds`` with books compared; the steps are in the result.
    """
    steps: list[dict[str, Any]] = []

    def holds(rate: float) -> bool:
        steps.append(_step(model, images, rate, seconds))
        return bool(steps[-1]["no_decision_share"] <= NO_DECISION_SHARE_MAX)

    good, bad = 0.0, first_per_min
    while bad <= most_per_min and holds(bad):
        good, bad = bad, bad * 2
    for _ in range(_BISECTIONS):
        middle = round((good + bad) / 2)
        if middle > most_per_min:
            break
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return {"suite": "capacity", "highest_parts_per_min": good, "limit_share": NO_DECISION_SHARE_MAX, "steps": steps}


def _step(model: Path, images: ImageSource, rate: float, seconds: float) -> dict[str, Any]:
    plan = Rehearsal(
        model=model,
        images=images,
        rules=load_package(model).card.thresholds,
        parts=max(1, round(rate * seconds / 60)),
        parts_per_min=rate,
    )
    with tempfile.TemporaryDirectory(prefix="lineside-") as folder, RehearsalRun(plan, Path(folder)) as run:
        run.play()
        summary = run.stop_service()
        truth = run.stop_world()
    return {
        "parts_per_min": rate,
        "rate_seen_per_min": summary["rate_per_min"],
        "parts_sent": truth.line.parts_sent,
        "parts_triggered": summary["parts_triggered"],
        "no_decision": summary["no_decision"],
        "no_decision_share": round(summary["no_decision"] / max(1, summary["parts_triggered"]), 5),
        "reasons": summary["reasons"],
        "latency_us": summary["latency_us"],
        "passed_without_pass": truth.controller.passed_without_pass,
        "wrong_part_passed": truth.controller.wrong_part_passed,
        "late_at_gate": truth.controller.late_at_gate,
    }
