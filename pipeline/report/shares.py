"""Shares of parts in words."""

from __future__ import annotations

from calibration.intervals import Share


def percent(ratio: float | None) -> str:
    """As people read it, not to be broken: with more digits the nearer to 0 or 100 it is."""
    if ratio is None:
        return "-"
    edge = min(ratio, 1 - ratio)
    return f"{100 * ratio:.{1 if edge >= 0.1 else 2 if edge >= 0.001 or edge <= 0 else 3}f}\u00a0%"


def told(share: Share | None) -> str:
    """The share with its interval, in words."""
    if share is None:
        return "-"
    return f"{percent(share.value)} (95\u00a0%: {percent(share.low)} to {percent(share.high)})"
