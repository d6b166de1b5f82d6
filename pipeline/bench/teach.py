"""Suite ``teach``: methods that learn from good pictures alone, on the same splits of the same data.

Of each data set's products four fifths of the good pictures are learnt from; the others are tested on, with all defective ones. The
area under the ROC curve is a mean over the products, for each of five splits. Times of one picture are of calls that take turns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.bench.one_class.data import Part, Pixels, Product, split_of
from pipeline.bench.one_class.elsewhere import Elsewhere, MethodRuns, Run, WrongScores
from pipeline.bench.one_class.methods import Method
from pipeline.bench.one_class.pointing import TOLERANCE_PX, highest_px, is_hit
from pipeline.bench.statistics import percentiles_us, share_interval
from pipeline.clock import NS_PER_MS, NS_PER_US, now_ns
from pipeline.evaluation.metrics.verdicts import auroc

SPLITS, TIMED_PICTURES = 5, 200
_WARM_UP = 10
_NOTHING = Elsewhere()


@dataclass(slots=True)
class Scored:
    """What a method said in one split of one product: its scores, and how often its map pointed at the defect."""

    good: list[float] = field(default_factory=list)
    defective: list[float] = field(default_factory=list)
    hits: int = 0
    pointed: int = 0
    fit_ms: float = 0.0

    def auroc(self) -> float:
        """Of these scores; some of both kinds must be there."""
        is_defective = np.repeat([False, True], [len(self.good), len(self.defective)])
        area = auroc(is_defective, np.array([*self.good, *self.defective], np.float64))
        assert area is not None
        return area


def teach(
    methods: Sequence[Method],
    sets: Mapping[str, Callable[[Part], list[Product]]],
    *,
    part: Part,
    splits: int = SPLITS,
    timed_pictures: int = TIMED_PICTURES,
    elsewhere: Elsewhere = _NOTHING,
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Raises NoData, ImageError or WrongScores."""
    told: dict[str, Any] = {}
    for name, read in sets.items():
        products = read(part)
        scored: dict[str, list[list[Scored]]] = {method.name: [] for method in methods}
        for seed in range(splits):
            for method in methods:
                scored[method.name].append([_run(method, product, seed) for product in products])
                areas = [each.auroc() for each in scored[method.name][-1]]
                progress(f"{name}, split {seed + 1} of {splits}, {method.name}: AUROC {np.mean(areas):.4f}")
        # As they were fitted last, on the last product.
        times = _times(methods, products[-1].good, timed_pictures)
        rows = {method: _told(splits_) | {"score_us": times[method]} for method, splits_ in scored.items()}
        rows |= _elsewhere(elsewhere.sets.get(name, {}), products, splits)
        told[name] = {
            "products": len(products),
            "good": sum(len(product.good) for product in products),
            "defective": sum(len(product.defective) for product in products),
            "picture": "x".join(map(str, products[-1].good[0].shape)),
            "methods": rows,
        }
    return {
        "suite": "teach",
        "part": part,
        "splits": splits,
        "pointing_tolerance_px": TOLERANCE_PX,
        "sets": told,
        "not_run": elsewhere.not_run,
    }


def _run(method: Method, product: Product, seed: int) -> Scored:
    split = split_of(product, seed)
    scored = Scored()
    start_ns = now_ns()
    method.fit([product.good[at] for at in split.train])
    scored.fit_ms = (now_ns() - start_ns) / NS_PER_MS
    scored.good = [method.score(product.good[at])[0] for at in split.test]
    for at, picture in enumerate(product.defective):
        score, where = method.score(picture)
        scored.defective.append(score)
        if where is not None and product.masks is not None:
            scored.pointed += 1
            scored.hits += is_hit(*highest_px(where, *product.masks[at].shape), product.masks[at])
    return scored


def _times(methods: Sequence[Method], pictures: Sequence[Pixels], count: int) -> dict[str, dict[str, float]]:
    times_us: dict[str, list[float]] = {method.name: [] for method in methods}
    for turn in range(count + _WARM_UP):
        picture = pictures[turn % len(pictures)]
        for method in methods:
            start_ns = now_ns()
            method.score(picture)
            if turn >= _WARM_UP:
                times_us[method.name].append((now_ns() - start_ns) / NS_PER_US)
    return {name: percentiles_us(values) for name, values in times_us.items()}


def _told(splits: Sequence[Sequence[Scored]]) -> dict[str, Any]:
    areas = np.array([[each.auroc() for each in products] for products in splits])
    by_split = areas.mean(axis=1)
    everything = [each for products in splits for each in products]
    pointed = sum(each.pointed for each in everything)
    return {
        "auroc": {
            "mean": round(float(by_split.mean()), 4),
            "std": round(float(by_split.std(ddof=1)), 4) if len(by_split) > 1 else None,
            "low": round(float(by_split.min()), 4),
            "high": round(float(by_split.max()), 4),
            "of_splits": [round(float(area), 4) for area in by_split],
            "of_products": [round(float(area), 4) for area in areas.mean(axis=0)],
        },
        "pointing": _pointing(splits) if pointed else None,
        "fit_ms": round(float(np.median([each.fit_ms for each in everything])), 1),
    }


def _pointing(splits: Sequence[Sequence[Scored]]) -> dict[str, Any]:
    """The splits show the same defective pictures: the interval counts them once."""
    hits = sum(each.hits for products in splits for each in products)
    pictures = sum(each.pointed for products in splits for each in products) / len(splits)
    return share_interval(round(hits / len(splits)), round(pictures))


def _elsewhere(methods: Mapping[str, MethodRuns], products: Sequence[Product], splits: int) -> dict[str, Any]:
    """Rows of the methods that ran elsewhere, of as many splits as they did."""
    rows: dict[str, Any] = {}
    for method, told in methods.items():
        count = min(splits, *(len(told.products.get(product.name, ())) for product in products))
        runs = [[_read(told.products[each.name][seed], each, seed) for each in products] for seed in range(count)]
        if runs:
            rows[method] = _told(runs) | {"score_us": percentiles_us(told.score_us)}
    return rows


def _read(run: Run, product: Product, seed: int) -> Scored:
    if (len(run.good), len(run.defective)) != (len(split_of(product, seed).test), len(product.defective)):
        raise WrongScores(f"{product.name}: got other pictures' scores, expected those of split {seed + 1}")
    scored = Scored(run.good, run.defective, fit_ms=run.fit_ms)
    if product.masks is not None:
        scored.pointed = len(product.masks)
        scored.hits = sum(is_hit(x, y, mask) for (x, y), mask in zip(run.highest_px, product.masks, strict=True))
    return scored
