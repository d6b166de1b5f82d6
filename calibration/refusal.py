"""Why a calibration gives no result, in words that an operator can act on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """``reason``: what is wrong, in a word or two; ``advice``: what to do about it, a whole sentence."""

    reason: str
    got: str
    expected: str
    advice: str

    def __str__(self) -> str:
        return f"{self.reason}: got {self.got}, expected {self.expected}. {self.advice}"
