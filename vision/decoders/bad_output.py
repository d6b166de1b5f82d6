"""The error that every decoder shares."""

from __future__ import annotations


class BadOutput(Exception):
    """The model's output cannot be read: wrong shape, not finite, not a probability. The part must not pass."""
