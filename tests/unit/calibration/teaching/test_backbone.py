"""The shipped backbone is what is said of it, and pictures of any size become maps that fit it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.teaching.backbone import (
    BACKBONE_FILE,
    BLOCK_STRIDES,
    CHANNELS_BY_DEPTH,
    FINE_DEPTH,
    SIZE_MAX_PX,
    SIZE_MIN_PX,
    SIZE_STEP_PX,
    FeatureShape,
    feature_model,
    feature_shape,
)
from tests.asked_shapes import ASKED, DEPTHS, Asked
from tests.good_parts import features_of, pictures, run_model

SHAPES = [
    FeatureShape(96, 96, 1, 2, False),
    FeatureShape(128, 96, 1, 4, True),
    FeatureShape(96, 160, 2, 7, False),
    FeatureShape(128, 96, 3, 10, True),
]


def test_the_shipped_file_holds_the_blocks_that_features_are_taken_from() -> None:
    assert BACKBONE_FILE.stat().st_size <= 4_000_000
    model = onnx.load(BACKBONE_FILE)
    onnx.checker.check_model(model, full_check=True)
    assert "Apache-2.0" in model.doc_string
    assert [each.name for each in model.graph.input] == ["image"]
    assert [each.name for each in model.graph.output] == [f"block{depth}" for depth in CHANNELS_BY_DEPTH]
    image = np.zeros((2, 3, 96, 128), np.float32)
    for found, (depth, channel_count) in zip(
        run_model(BACKBONE_FILE.read_bytes(), image), CHANNELS_BY_DEPTH.items(), strict=True
    ):
        stride = 2 * math.prod(BLOCK_STRIDES[: depth + 1])
        assert found.shape == (2, channel_count, 96 // stride, 128 // stride)
    assert max(CHANNELS_BY_DEPTH) == len(BLOCK_STRIDES) - 1


@pytest.mark.parametrize("shape", SHAPES)
def test_features_are_the_blocks_of_the_backbone(shape: FeatureShape) -> None:
    """Of the picture averaged down, in colour or with three equal channels; small windows' block first."""
    image = pictures(shape, 2)
    features = features_of(shape, image)
    assert features.dtype == np.float32
    assert features.shape == (2, shape.channel_count, *shape.grid)
    rows, columns = shape.height_px, shape.width_px
    shrunk = image.reshape(2, -1, rows, shape.shrink, columns, shape.shrink).mean(axis=(3, 5))
    colour = np.repeat(shrunk, 3, axis=1) if shape.is_grey else shrunk
    blocks = dict(zip(CHANNELS_BY_DEPTH, run_model(BACKBONE_FILE.read_bytes(), colour), strict=True))
    depths = [min(FINE_DEPTH, shape.depth), shape.depth] if shape.depth > FINE_DEPTH else [shape.depth]
    assert [layer.name for layer in shape.layers] == [f"block{depth}" for depth in depths]
    for depth, layer in zip(depths, shape.layers, strict=True):
        scale = np.abs(blocks[depth]).max()
        np.testing.assert_allclose(layer.map_of(features), blocks[depth], atol=2e-5 * scale)


@pytest.mark.parametrize("depth", DEPTHS)
def test_grey_is_colour_with_three_equal_channels(depth: int) -> None:
    grey, colour = (FeatureShape(96, 128, 1, depth, is_grey) for is_grey in (True, False))
    image = pictures(grey, 2)
    found = features_of(colour, np.repeat(image, 3, axis=1))
    np.testing.assert_allclose(features_of(grey, image), found, atol=2e-5 * float(np.abs(found).max()))


def test_a_model_is_the_same_to_the_byte_again_whatever_was_made_in_between() -> None:
    """The cut backbone is kept between calls, and nothing that is done to a model may change it."""
    first = [feature_model(shape) for shape in SHAPES]
    assert [feature_model(shape) for shape in reversed(SHAPES)] == first[::-1]


@given(ASKED)
def test_a_shape_is_of_whole_steps_within_limits_and_near_what_was_asked(asked: Asked) -> None:
    shape = asked.shape
    aspect = math.sqrt(asked.width_px / asked.height_px)
    for found, wanted in ((shape.width_px, asked.size_px * aspect), (shape.height_px, asked.size_px / aspect)):
        assert found % SIZE_STEP_PX == 0
        assert SIZE_MIN_PX <= found <= SIZE_MAX_PX
        within = min(max(wanted, SIZE_MIN_PX), SIZE_MAX_PX)
        assert abs(found - within) <= SIZE_STEP_PX / 2 + 1e-6
    assert (shape.input_width_px, shape.input_height_px) == (
        shape.shrink * shape.width_px,
        shape.shrink * shape.height_px,
    )
    # The input is no more than half as large again as the picture, unless even the smallest is.
    assert 1 <= shape.shrink <= 4
    if shape.shrink > 1:
        assert shape.input_width_px <= 1.5 * asked.width_px
        assert shape.input_height_px <= 1.5 * asked.height_px
    rows, columns = shape.grid
    assert (rows * shape.stride_px, columns * shape.stride_px) == (shape.height_px, shape.width_px)
    assert shape.input_channel_count == (1 if asked.is_grey else 3)
    turned = replace(asked, width_px=asked.height_px, height_px=asked.width_px).shape
    assert (turned.width_px, turned.height_px, turned.shrink) == (shape.height_px, shape.width_px, shape.shrink)


@given(st.integers(8, 6000), st.integers(8, 6000), st.integers(32, 700), st.sampled_from(DEPTHS))
def test_layers_lie_one_after_the_other_in_the_kept_features(
    width_px: int, height_px: int, size_px: int, depth: int
) -> None:
    shape = feature_shape(width_px, height_px, is_grey=True, size_px=size_px, depth=depth)
    first = 0
    for layer in shape.layers:
        assert layer.first == first
        assert layer.channel_count == CHANNELS_BY_DEPTH[int(layer.name.removeprefix("block"))]
        first += layer.kept_count
    assert first == shape.channel_count


@pytest.mark.parametrize(
    ("picture_px", "size_px", "expected"),
    [
        ((300, 300), 160, (160, 160, 2)),
        ((640, 480), 160, (192, 128, 3)),
        ((160, 160), 160, (160, 160, 1)),
        ((64, 64), 160, (160, 160, 1)),
        ((4000, 4000), 160, (160, 160, 4)),
        ((4000, 200), 160, (512, 96, 2)),
        ((2448, 2048), 352, (384, 320, 4)),
        ((300, 300), 32, (96, 96, 3)),
        ((300, 300), 600, (512, 512, 1)),
    ],
)
def test_some_shapes(picture_px: tuple[int, int], size_px: int, expected: tuple[int, int, int]) -> None:
    shape = feature_shape(*picture_px, is_grey=True, size_px=size_px, depth=10)
    assert (shape.width_px, shape.height_px, shape.shrink) == expected
