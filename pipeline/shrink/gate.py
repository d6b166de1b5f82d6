"""The gate that a shrunk model must pass: what the judged images rule out, not what they happened to show.

With ``count`` new mistakes among ``total`` images, that is the one-sided bound of ``calibration.intervals``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from calibration.intervals import parts_needed, upper_bound

Outcome = Literal["passed", "refused", "too few images"]
_COUNT_MAX = 10_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Rates and areas within 0 and 1; ``confidence`` that the true rates are below their limits where the gate passes."""

    new_escapes_max: float = 0.01
    new_false_rejects_max: float = 0.01
    auroc_drop_max: float = 0.005
    ap_drop_max: float = 0.005
    confidence: float = 0.95


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that the gate asks. ``bound`` and ``limit``: of a rate, or a fall of an area; ``needed``: so many images of the
    kind would decide it, None where none or no number would.
    """

    name: str
    count: int | None
    total: int | None
    bound: float | None
    limit: float
    outcome: Outcome
    needed: int | None
    words: str


@dataclass(frozen=True, slots=True)
class Gate:
    """All checks; the outcome is the worst of theirs."""

    limits: Limits
    checks: tuple[Check, ...]

    @property
    def outcome(self) -> Outcome:
        outcomes = {check.outcome for check in self.checks}
        return "refused" if "refused" in outcomes else "too few images" if "too few images" in outcomes else "passed"


def images_needed_at(count: int, total: int, limit: float, confidence: float) -> int | None:
    """So many images, with mistakes as often as ``count`` of ``total``, would show it; None where that rate is no less than the
    limit, or so near it that no set would do.
    """
    rate = count / total
    if rate >= limit:
        return None

    def shows(images: int) -> bool:
        return upper_bound(rate * images, images, confidence) <= limit

    enough = total
    while not shows(enough):
        enough *= 2
        if enough > _COUNT_MAX:
            return None
    few = total - 1
    while enough - few > 1:
        middle = (enough + few) // 2
        few, enough = (few, middle) if shows(middle) else (middle, enough)
    return enough


def check_rate(name: str, kind: str, count: int, total: int, limit: float, confidence: float) -> Check:
    """``count`` new mistakes among ``total`` images of a kind."""
    bound, least = upper_bound(count, total, confidence), parts_needed(limit, confidence)
    shown = f"{count} of {total} {kind} images: at most {bound:.2%} with {confidence:.0%} confidence, limit {limit:.2%}"
    if total < least:
        words = f"{shown}; {least} {kind} images are needed, even where none is seen"
        return Check(name, count, total, bound, limit, "too few images", least, words)
    if bound <= limit:
        return Check(name, count, total, bound, limit, "passed", None, shown)
    needed = images_needed_at(count, total, limit, confidence)
    more = (
        "no number of images would show less"
        if needed is None
        else f"at this rate {needed} {kind} images would show it"
    )
    return Check(name, count, total, bound, limit, "refused", needed, f"{shown}; {more}")


def check_fall(name: str, before: float | None, after: float | None, limit: float) -> Check:
    """An area under a curve before and after. None where it cannot be known, which is no pass."""
    if before is None or after is None:
        words = "not known of both models"
        return Check(name, None, None, None, limit, "too few images", None, words)
    fall = before - after
    outcome: Outcome = "passed" if fall <= limit else "refused"
    return Check(name, None, None, fall, limit, outcome, None, f"{before:.4f} -> {after:.4f}, limit {limit:g} less")
