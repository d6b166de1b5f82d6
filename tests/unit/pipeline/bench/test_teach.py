from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.bench.one_class.data import Pixels, Product, split_of
from pipeline.bench.one_class.elsewhere import WrongScores, read_elsewhere
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


def of_elsewhere() -> dict[str, Any]:
    """A method that is right of all good ones and of all defective ones but the last, and points at the first one only."""
    assert PRODUCT.masks is not None
    places = [[int(at[0]) for at in np.nonzero(mask)][::-1] for mask in PRODUCT.masks]
    runs = [
        {
            "fit_ms": 1500.0,
            "good": [1.0] * len(split_of(PRODUCT, seed).test),
            "defective": [2.0] * 9 + [0.0],
            "highest_px": [places[0], *([0, 0] for _ in places[1:])],
        }
        for seed in range(2)
    ]
    elsewhere = {"splits": 2, "score_us": [10.0, 20.0, 30.0], "products": {"spotted": runs}}
    return {"part": "report", "sets": {"spots": {"elsewhere": elsewhere}}, "not_run": {"absent": "it is not there"}}


def written(folder: Path, told: object, name: str = "scores.json") -> Path:
    file = folder / name
    file.write_text(json.dumps(told))
    return file


def test_scores_of_elsewhere_stand_in_the_same_table(tmp_path: Path) -> None:
    empty = {"part": "report", "sets": {}, "not_run": {"other": "nor this"}}
    files = [written(tmp_path, of_elsewhere()), written(tmp_path, empty, "empty.json")]
    result = measured(Brightest(), elsewhere=read_elsewhere(files, "report"))
    row = result["sets"]["spots"]["methods"]["elsewhere"]
    assert row["auroc"]["mean"] == pytest.approx(0.9)
    assert row["score_us"]["p50"] == 20.0
    assert row["fit_ms"] == 1500.0
    assert row["pointing"]["count"] == 1
    assert result["not_run"] == {"absent": "it is not there", "other": "nor this"}
    assert result["pointing_tolerance_px"] == TOLERANCE_PX


def test_a_method_that_ran_on_fewer_splits_says_so_and_one_that_did_not_end_has_no_row(tmp_path: Path) -> None:
    told = of_elsewhere()
    told["sets"]["spots"]["elsewhere"]["products"]["spotted"].pop()
    begun = read_elsewhere([written(tmp_path, told)], "report")
    assert (
        len(measured(Brightest(), elsewhere=begun)["sets"]["spots"]["methods"]["elsewhere"]["auroc"]["of_splits"]) == 1
    )
    told["sets"]["spots"]["elsewhere"]["products"] = {}
    none = read_elsewhere([written(tmp_path, told)], "report")
    assert list(measured(Brightest(), elsewhere=none)["sets"]["spots"]["methods"]) == ["brightest"]


def test_scores_of_other_pictures_are_refused(tmp_path: Path) -> None:
    elsewhere = read_elsewhere([written(tmp_path, of_elsewhere())], "report")
    with pytest.raises(WrongScores, match="other pictures' scores"):
        measured(Brightest(), product=PRODUCT.at_most(6), elsewhere=elsewhere)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "No such file or directory; expected what scripts/anomalib_rivals.py wrote"),
        ("{", "expected what scripts/anomalib_rivals.py wrote"),
        ('{"part": "choose", "sets": {}, "not_run": {}}', "got scores of the part 'choose', expected 'report'"),
        ('{"part": "report", "sets": {"spots": 3}, "not_run": {}}', r"Expected `object`, got `int` - at `\$.sets"),
    ],
)
def test_a_file_that_holds_no_scores(tmp_path: Path, text: str | None, words: str) -> None:
    file = tmp_path / "scores.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(WrongScores, match=words):
        read_elsewhere([file], "report")
