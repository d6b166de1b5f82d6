from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pytest

from pipeline.bench.one_class.backbone import Backbone
from pipeline.bench.one_class.methods import Method
from pipeline.bench.one_class.pointing import highest_px, is_hit
from pipeline.bench.one_class.rivals import ChannelGaussian, MemoryBank, PixelGaussian, rivals
from pipeline.bench.one_class.taught import Taught
from tests.one_class import spotted

MAKE: dict[str, Callable[[], Method]] = {
    "channels": ChannelGaussian,
    "bank": lambda: MemoryBank("bank", ("block2", "block4"), 96, by_mean=False, drawn=3_000, kept=200),
    "pixels": PixelGaussian,
    "taught": partial(Taught, is_said_good=True),
}


@pytest.mark.parametrize("is_colour", [False, True])
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_bright_spot_is_stranger_than_a_good_picture_and_pointed_at(
    make: Callable[[], Method], is_colour: bool
) -> None:
    product = spotted(is_colour=is_colour)
    method = make()
    method.fit(product.good[:24])
    assert product.masks is not None
    good = [method.score(picture)[0] for picture in product.good[24:]]
    hits = 0
    for picture, mask in zip(product.defective, product.masks, strict=True):
        score, where = method.score(picture)
        assert score > max(good)
        if where is not None:
            hits += is_hit(*highest_px(where, *mask.shape), mask)
    assert hits >= 7 or isinstance(method, ChannelGaussian)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_fitting_begins_anew_and_comes_to_the_same(make: Callable[[], Method]) -> None:
    product, other = spotted(), spotted(seed=1)
    method = make()
    method.fit(product.good)
    first = [method.score(picture)[0] for picture in product.defective]
    method.fit(other.good)
    method.fit(product.good)
    assert [method.score(picture)[0] for picture in product.defective] == pytest.approx(first, rel=1e-5)


def test_grey_is_seen_as_colours_that_are_alike() -> None:
    features = Backbone(("block2", "block10"), 64)
    grey = spotted().defective[0]
    for one, other in zip(features.features(grey), features.features(np.repeat(grey[..., None], 3, 2)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert [stage.shape for stage in features.features(grey)] == [(24, 16, 16), (112, 4, 4)]


def test_red_is_the_backbones_first_channel() -> None:
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 2] = 255
    blue = np.ascontiguousarray(red[..., ::-1])
    features = Backbone(("block2",), 64)
    assert not np.allclose(features.features(red)[0], features.features(blue)[0])


def test_their_names_differ() -> None:
    names = [method.name for method in rivals()]
    assert len(set(names)) == len(names) == 4
