from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.bench.one_class.backbone import Backbone, BackboneError
from pipeline.bench.one_class.methods import Method
from pipeline.bench.one_class.pointing import highest_px, is_hit
from pipeline.bench.one_class.rivals import ChannelGaussian, MemoryBank, PixelGaussian, rivals
from tests.one_class import spotted, write_backbone

MAKE: dict[str, Callable[[Path], Method]] = {
    "channels": ChannelGaussian,
    "bank": lambda file: MemoryBank("bank", file, ("b2", "b4"), 96, by_mean=False, drawn=3_000, kept=200),
    "pixels": lambda file: PixelGaussian(),
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_backbone(tmp_path_factory.mktemp("backbone") / "backbone.onnx")


@pytest.mark.parametrize("is_colour", [False, True])
@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_a_bright_spot_is_stranger_than_a_good_picture_and_pointed_at(
    backbone: Path, make: Callable[[Path], Method], is_colour: bool
) -> None:
    product = spotted(is_colour=is_colour)
    method = make(backbone)
    method.fit(product.good[:24])
    assert product.masks is not None
    good = [method.score(picture)[0] for picture in product.good[24:]]
    hits = 0
    for picture, mask in zip(product.defective, product.masks, strict=True):
        score, where = method.score(picture)
        assert score > max(good)
        if where is not None:
            hits += is_hit(*highest_px(where, *mask.shape), mask)
    assert hits >= 9 or isinstance(method, ChannelGaussian)


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_fitting_begins_anew_and_comes_to_the_same(backbone: Path, make: Callable[[Path], Method]) -> None:
    product, other = spotted(), spotted(seed=1)
    method = make(backbone)
    method.fit(product.good)
    first = [method.score(picture)[0] for picture in product.defective]
    method.fit(other.good)
    method.fit(product.good)
    assert [method.score(picture)[0] for picture in product.defective] == pytest.approx(first, rel=1e-5)


def test_grey_is_seen_as_colours_that_are_alike(backbone: Path) -> None:
    features = Backbone(backbone, ("b2", "b10"), 64)
    grey = spotted().defective[0]
    for one, other in zip(features.features(grey), features.features(np.repeat(grey[..., None], 3, 2)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    assert [stage.shape for stage in features.features(grey)] == [(8, 16, 16), (16, 4, 4)]


def test_red_is_the_backbones_first_channel(backbone: Path) -> None:
    red = np.zeros((64, 64, 3), np.uint8)
    red[..., 2] = 255
    blue = np.ascontiguousarray(red[..., ::-1])
    features = Backbone(backbone, ("b2",), 64)
    assert not np.allclose(features.features(red)[0], features.features(blue)[0])


def test_their_names_differ(backbone: Path) -> None:
    names = [method.name for method in rivals(backbone)]
    assert len(set(names)) == len(names) == 4


def test_a_file_that_is_no_backbone(backbone: Path, tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match=r"nosuch\.onnx"):
        Backbone(tmp_path / "nosuch.onnx", ("b2",), 64)
    with pytest.raises(BackboneError, match="expected b3, too"):
        Backbone(backbone, ("b2", "b3"), 64)
