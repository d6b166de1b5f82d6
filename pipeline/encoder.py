"""Arithmetic in the encoder's count domain, which wraps at ``2 ** bits``."""

from __future__ import annotations


def wrap(count: int, bits: int) -> int:
    """``count`` folded into 0 .. 2**bits - 1."""
    return count & ((1 << bits) - 1)


def distance_pulses(a: int, b: int, bits: int) -> int:
    """The shorter way between two counts, in pulses, never negative."""
    forward = (a - b) & ((1 << bits) - 1)
    return min(forward, (1 << bits) - forward)


def advance_pulses(since: int, until: int, bits: int) -> int:
    """The shorter way from one count to another, negative where it goes back: -2**(bits-1) .. 2**(bits-1) - 1."""
    half = 1 << (bits - 1)
    return ((until - since + half) & ((1 << bits) - 1)) - half
