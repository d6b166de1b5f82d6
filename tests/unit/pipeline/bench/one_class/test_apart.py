"""Near copies among good pictures are on one side of a split."""

from __future__ import annotations

import numpy as np

from pipeline.bench.one_class.apart import near_copies_apart
from pipeline.bench.one_class.data import Product, split_of
from pipeline.bench.one_class.rendered import rendered_parts


def test_near_copies_have_one_source() -> None:
    parts = rendered_parts(is_colour=False, part="choose", good_count=40, defective_count=1)
    noise = np.random.default_rng(0)
    again = [
        np.clip(picture + noise.normal(0, 2, picture.shape), 0, 255).astype(np.uint8) for picture in parts.good[:5]
    ]
    # Two of them have a source of their own already, with others.
    sources = np.arange(45)
    sources[[0, 10]] = 100
    apart = near_copies_apart(Product("p", [*parts.good, *again], sources, parts.defective, None))
    for first in range(5):
        assert apart.sources[first] == apart.sources[40 + first]
    assert apart.sources[10] == apart.sources[0]
    assert len(set(apart.sources)) == 39
    split = split_of(apart, 0)
    assert not set(apart.sources[split.train]) & set(apart.sources[split.test])
