"""Times under a fault against healthy ones, as the suites tell them whose windows take turns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipeline.bench.statistics import Window, percentile_difference, percentiles_us

_SHARES = {"p50": 50.0, "p90": 90.0, "p99": 99.0}


def compared(what: str, pairs: Sequence[tuple[Window, Window]]) -> dict[str, Any]:
    """Of pairs of windows, one with the fault and a healthy one: percentiles of both kinds, and their differences with intervals.

    Keys: ``healthy_us``, ``fault_us`` and ``difference_us``, where both have times, and ``statement``, about ``what``.
    """
    judged = [(faulty, healthy) for faulty, healthy in pairs if faulty.values and healthy.values]
    if not judged:
        return {"statement": f"{what}: not measured in one kind of window"}
    differences = {share: percentile_difference(judged, percent) for share, percent in _SHARES.items()}
    words = "; ".join(f"{share} {_in_words(differences[share])}" for share in ("p50", "p99"))
    return {
        "healthy_us": percentiles_us([value for _, healthy in judged for value in healthy.values]),
        "fault_us": percentiles_us([value for faulty, _ in judged for value in faulty.values]),
        "difference_us": differences,
        "statement": f"{what}'s {words}",
    }


def _in_words(told: dict[str, float | None]) -> str:
    low, high = told["low"], told["high"]
    if low is None or high is None:
        return f"differs by {told['difference']} us; no interval of one window"
    verdict = "0 is within, no difference shown" if low <= 0 <= high else "0 is not within, a difference"
    return f"differs by {told['difference']} us, 95 % {low} .. {high} us: {verdict}"
