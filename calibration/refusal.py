"""Why a calibration is not to be used, in words that an operator can act on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """``reason`` is a word for machines. ``str()`` is one line."""

    reason: str
    got: str
    expected: str
    advice: str

    def __str__(self) -> str:
        return f"{self.got}; expected {self.expected}. {self.advice}"
