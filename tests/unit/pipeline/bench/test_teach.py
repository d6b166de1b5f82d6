from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pipeline.bench.one_class.data import NoData, Pixels, Product, split_of
from pipeline.bench.one_class.methods import Map
from pipeline.bench.one_class.pointing import TOLERANCE_PX
from pipeline.bench.teach import teach
from tests.one_class import spotted

PRODUCT = spotted(good=20, defective=10)


class Brightest:
    """Strange is what is bright, where it is."""

    name = "brightest"

    def __init__(self, sign: float = 1.0) -> None:
        self._sign = sign
        self.fitted: list[int] = []

    def fit(self, good: Sequence[Pixels]) -> None:
        self.fitted.append(sum(picture.max() > 200 for picture in good))

    def score(self, picture: Pixels) -> tuple[float, Map | None]:
        return self._sign * float(picture.max()), self._sign * picture.astype(np.float32)


class Nothing(Brightest):
    """All are alike, nowhere."""

    name = "nothing"

    def score(self, picture: Pixels) -> tuple[float, Map | None]:
        return 0.0, None


def measured(*methods: Brightest, product: Product = PRODUCT, **options: Any) -> dict[str, Any]:
    options = {"part": "report", "splits": 2, "timed_pictures": 3, "progress": lambda text: None, **options}
    return teach(methods, {"spots": lambda part: [product]}, **options)


def test_figures_of_methods_that_are_right_wrong_and_blind() -> None:
    wrong = Brightest(-1.0)
    wrong.name = "wrong"
    rows = measured(Brightest(), wrong, Nothing())["sets"]["spots"]["methods"]
    assert [rows[name]["auroc"]["mean"] for name in ("brightest", "wrong", "nothing")] == [1.0, 0.0, 0.5]
    assert rows["brightest"]["auroc"]["of_splits"] == [1.0, 1.0]
    assert rows["brightest"]["pointing"]["share"] == 1.0
    assert rows["brightest"]["pointing"]["total"] == 10  # the same pictures in each split
    assert rows["wrong"]["pointing"]["share"] == 0.0
    assert rows["nothing"]["pointing"] is None
    assert all(row["score_us"]["count"] == 3 for row in rows.values())


def test_without_masks_nobody_points() -> None:
    result = measured(Brightest(), product=replace(PRODUCT, masks=None))
    assert result["sets"]["spots"]["methods"]["brightest"]["pointing"] is None


def test_defective_pictures_hide_among_those_learnt_from() -> None:
    method = Brightest()
    measured(method, hidden_share=0.2)
    assert method.fitted == [4, 4]
    measured(method)
    assert method.fitted == [4, 4, 0, 0]


def of_elsewhere(part: str = "report") -> dict[str, Any]:
    """A method that is right of all good ones and of all defective ones but the last, and points at the first one only."""
    assert PRODUCT.masks is not None
    places = [[int(at[0]) for at in np.nonzero(mask)][::-1] for mask in PRODUCT.masks]
    highest = [places[0], *([0, 0] for _ in places[1:])]
    runs = [
        {
            "good": [1.0] * len(split_of(PRODUCT, seed).test),
            "defective": [2.0] * 9 + [0.0],
            "highest_px": highest,
            "fit_ms": 1500.0,
        }
        for seed in range(2)
    ]
    elsewhere = {"splits": 2, "score_us": [10.0, 20.0, 30.0], "products": {"spotted": runs}}
    return {"part": part, "sets": {"spots": {"elsewhere": elsewhere}}, "not_run": {"absent": "it is not there"}}


def test_scores_of_elsewhere_stand_in_the_same_table() -> None:
    result = measured(Brightest(), others=of_elsewhere())
    row = result["sets"]["spots"]["methods"]["elsewhere"]
    assert row["auroc"]["mean"] == pytest.approx(0.9)
    assert row["score_us"]["p50"] == 20.0
    assert row["fit_ms"] == 1500.0
    assert row["pointing"]["count"] == 1
    assert result["not_run"] == {"absent": "it is not there"}
    assert result["pointing_tolerance_px"] == TOLERANCE_PX


def test_scores_of_other_pictures_are_refused() -> None:
    with pytest.raises(NoData, match="'choose', expected 'report'"):
        measured(Brightest(), others=of_elsewhere("choose"))
    with pytest.raises(NoData, match="other pictures' scores"):
        measured(Brightest(), product=PRODUCT.at_most(6), others=of_elsewhere())
