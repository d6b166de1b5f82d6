"""Encoder counts that wrap, as a controller's counter of fixed width does."""

from __future__ import annotations


def wrap_count(position_pulses: int, encoder_bits: int) -> int:
    """The position as a counter of ``encoder_bits`` bits shows it, 0 .. 2**encoder_bits - 1."""
    return position_pulses & ((1 << encoder_bits) - 1)


def count_distance(count: int, reference: int, encoder_bits: int) -> int:
    """Pulses from ``reference`` to ``count`` the shorter way round, -2**(bits-1) .. 2**(bits-1) - 1."""
    half = 1 << (encoder_bits - 1)
    return wrap_count(count - reference + half, encoder_bits) - half


def is_in_window(count: int, centre: int, half_width_pulses: int, encoder_bits: int) -> bool:
    """Whether ``count`` lies within ``half_width_pulses`` of ``centre``, both ends included."""
    return abs(count_distance(count, centre, encoder_bits)) <= half_width_pulses
