"""Anomaly maps against masks: the area under the ROC curve over all pixels, in bounded memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_BINS_BITS = 20
_DROPPED_BITS = 32 - _BINS_BITS
_SIGN = np.uint32(1 << 31)


@dataclass(frozen=True, slots=True)
class PixelAuroc:
    """``value`` is within ``error_max`` of the area over all single pixels."""

    value: float
    error_max: float
    defective_count: int
    good_count: int


class PixelScores:
    """Counts pixels by score and by label. 16 MiB, however many images there are and whatever range their scores have.

    A bin is one of the 2**20 ranges of float32 that share their upper 20 bits (sign, exponent, 11 bits of the fraction): neighbours
    differ by less than 0.05 %.
    """

    def __init__(self) -> None:
        self._counts = np.zeros((2, 1 << _BINS_BITS), np.int64)

    def add(self, scores: npt.NDArray[np.float32], is_defective: npt.NDArray[np.bool_]) -> None:
        """One image: scores float32 and labels of the same shape, no score NaN. Raises ValueError where shapes differ."""
        if scores.shape != is_defective.shape:
            raise ValueError(
                f"pixel scores: got shape {scores.shape}, expected {is_defective.shape} as the labels have"
            )
        bins = _bins(scores.ravel())
        for label, chosen in enumerate((~is_defective.ravel(), is_defective.ravel())):
            if chosen.any():
                used, counts = np.unique(bins[chosen], return_counts=True)
                self._counts[label, used] += counts

    def auroc(self) -> PixelAuroc | None:
        """None where one of the labels has no pixel."""
        good, defective = self._counts
        good_count, defective_count = int(good.sum()), int(defective.sum())
        if not good_count or not defective_count:
            return None
        from sklearn.metrics import roc_auc_score  # two seconds that nobody waits for who only counts

        used = np.flatnonzero(good + defective)
        value = roc_auc_score(
            np.repeat([0, 1], len(used)),
            np.tile(np.arange(len(used)), 2),
            sample_weight=np.concatenate([good[used], defective[used]]).astype(np.float64),
        )
        # Pairs in one bin count half; each of them may count 0 or 1 in truth.
        within = float((good[used] / good_count * (defective[used] / defective_count)).sum())
        return PixelAuroc(float(value), within / 2, defective_count, good_count)


def _bins(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """The order of float32 as unsigned numbers: the sign turned, and of negative numbers all other bits too."""
    bits = (np.ascontiguousarray(scores, np.float32) + np.float32(0.0)).view(np.uint32)  # + 0 makes -0 the same as 0
    ordered = np.where(bits & _SIGN, ~bits, bits | _SIGN)
    return np.asarray(ordered >> np.uint32(_DROPPED_BITS))
