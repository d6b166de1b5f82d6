"""Scores of methods that ran in an environment of their own, as ``scripts/anomalib_rivals.py`` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pipeline.bench.one_class.data import Part


class WrongScores(ValueError):
    """A file of scores is none, or is of other pictures than are measured."""


class Run(msgspec.Struct, frozen=True):
    """A split of a product: scores in the split's order, and of each defective picture the x and y of its map's highest point."""

    fit_ms: float
    good: list[float]
    defective: list[float]
    highest_px: list[tuple[int, int]]


class MethodRuns(msgspec.Struct, frozen=True):
    """Of each product its splits, the first first; ``score_us``: times of single pictures."""

    products: dict[str, list[Run]]
    score_us: list[float]


class _File(msgspec.Struct, frozen=True):
    part: str
    sets: dict[str, dict[str, MethodRuns]]
    not_run: dict[str, str]


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """By data set and method; ``not_run``: why a method has none."""

    sets: dict[str, dict[str, MethodRuns]] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)


def read_elsewhere(files: Sequence[Path], part: Part) -> Elsewhere:
    """All of these files together. Raises WrongScores."""
    together = Elsewhere()
    for file in files:
        try:
            told = msgspec.json.decode(file.read_bytes(), type=_File)
        except (OSError, msgspec.MsgspecError) as error:
            reason: Any = error.strerror if isinstance(error, OSError) else error
            raise WrongScores(f"{file}: {reason}; expected what scripts/anomalib_rivals.py wrote") from None
        if told.part != part:
            raise WrongScores(f"{file}: got scores of the part {told.part!r}, expected {part!r}")
        for name, methods in told.sets.items():
            together.sets.setdefault(name, {}).update(methods)
        together.not_run.update(told.not_run)
    return together
