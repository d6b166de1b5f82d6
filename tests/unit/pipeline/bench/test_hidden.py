"""Defective pictures hidden among the good."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.bench.hidden import teach_hidden
from pipeline.bench.one_class.data import Mask, Pixels
from pipeline.bench.one_class.methods import Map
from tests.one_class import spotted

PRODUCT = spotted(good=20, defective=10)


class Blinded:
    """Strange is what is bright, and a suspect every second such picture; the others teach that bright is usual."""

    name = "blinded"
    reject_at_score = 200.0

    def fit(self, good: Sequence[Pixels]) -> None:
        bright = np.flatnonzero([picture.max() > 200 for picture in good])
        self.is_suspect: Mask = np.isin(np.arange(len(good)), bright[::2])
        self._sign = 1.0 if len(bright) < 2 else -1.0

    def score(self, picture: Pixels) -> tuple[float, Map | None]:
        return self._sign * float(picture.max()), None


def test_what_is_flagged_and_what_it_costs() -> None:
    sets = {"spots": lambda part: [PRODUCT]}
    result = teach_hidden(Blinded(), sets, part="report", splits=2, hidden_share=0.2, progress=lambda text: None)
    assert (result["part"], result["splits"], result["hidden_share"]) == ("report", 2, 0.2)
    # Of 16 good pictures learnt from, 4 hidden ones with them, 4 others and 6 defective ones to try: twice.
    assert result["sets"]["spots"] == {
        "learnt": 40,
        "hidden": 8,
        "flagged": 4,
        "good_flagged": 0,
        "good_flagged_clean": 0,
        "tried": 12,
        "passed": 12,
        "passed_clean": 0,
        "good": 8,
        "rejected": 0,
        "rejected_clean": 0,
        "auroc_clean": 1.0,
        "auroc": 0.0,
    }
