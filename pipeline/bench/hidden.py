"""Suite ``teach`` with defective pictures hidden among the good: how many are flagged, and what the others cost.

Each split is learnt from twice, without the hidden pictures and with them, and both are tried on the same pictures: good ones that
are in neither, and the defective ones that were not hidden.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from pipeline.bench.one_class.data import Mask, Part, Pixels, Product, split_of, with_hidden
from pipeline.bench.one_class.methods import Method
from pipeline.evaluation.metrics.verdicts import auroc


class Suspicious(Method, Protocol):
    """A method that looks for suspects among what it learns from, and rejects from a score on."""

    reject_at_score: float

    @property
    def is_suspect(self) -> Mask:
        """(pictures,), of those it was fitted on last."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one split, or the sum of several: ``clean`` is without hidden pictures. Passed are of ``tried`` defective pictures,
    rejected of ``good`` good ones, none of which was learnt from.
    """

    learnt: int
    hidden: int
    flagged: int
    good_flagged: int
    good_flagged_clean: int
    tried: int
    passed: int
    passed_clean: int
    good: int
    rejected: int
    rejected_clean: int


def teach_hidden(
    method: Suspicious,
    sets: Mapping[str, Callable[[Part], list[Product]]],
    *,
    part: Part,
    splits: int,
    hidden_share: float,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """``hidden_share``: of the pictures learnt from. Raises NoData or ImageError."""
    told: dict[str, Any] = {}
    for name, read in sets.items():
        runs = []
        for product in read(part):
            for seed in range(splits):
                runs.append(_run(method, product, seed, hidden_share))
                outcome, clean, mixed = runs[-1]
                progress(
                    f"{name}, {product.name}, split {seed + 1} of {splits}: {outcome.flagged} of {outcome.hidden} flagged, "
                    f"AUROC {clean:.4f} to {mixed:.4f}"
                )
        told[name] = {
            **{field.name: sum(getattr(outcome, field.name) for outcome, _, _ in runs) for field in fields(Outcome)},
            "auroc_clean": round(float(np.mean([clean for _, clean, _ in runs])), 4),
            "auroc": round(float(np.mean([mixed for _, _, mixed in runs])), 4),
        }
    return {"suite": "teach", "part": part, "splits": splits, "hidden_share": hidden_share, "sets": told}


def _run(method: Suspicious, product: Product, seed: int, hidden_share: float) -> tuple[Outcome, float, float]:
    """With the AUROC without and with hidden pictures."""
    split = split_of(product, seed)
    mixed = with_hidden(product, split.train, hidden_share, seed)
    good, left = [product.good[at] for at in split.test], [product.defective[at] for at in mixed.left]
    method.fit([product.good[at] for at in split.train])
    good_flagged_clean = int(method.is_suspect.sum())
    good_clean, left_clean = _scores(method, good), _scores(method, left)
    method.fit(mixed.pictures)
    good_mixed, left_mixed = _scores(method, good), _scores(method, left)
    at = method.reject_at_score
    outcome = Outcome(
        learnt=len(mixed.pictures),
        hidden=int(mixed.is_hidden.sum()),
        flagged=int((method.is_suspect & mixed.is_hidden).sum()),
        good_flagged=int((method.is_suspect & ~mixed.is_hidden).sum()),
        good_flagged_clean=good_flagged_clean,
        tried=len(left),
        passed=int((left_mixed < at).sum()),
        passed_clean=int((left_clean < at).sum()),
        good=len(good),
        rejected=int((good_mixed >= at).sum()),
        rejected_clean=int((good_clean >= at).sum()),
    )
    return outcome, _auroc(good_clean, left_clean), _auroc(good_mixed, left_mixed)


def _scores(method: Suspicious, pictures: Sequence[Pixels]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([method.score(picture)[0] for picture in pictures], np.float64)


def _auroc(good: np.ndarray[Any, np.dtype[np.float64]], defective: np.ndarray[Any, np.dtype[np.float64]]) -> float:
    area = auroc(np.repeat([False, True], [len(good), len(defective)]), np.concatenate([good, defective]))
    assert area is not None
    return area
