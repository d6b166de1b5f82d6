"""Windows over maps of features, beside loops over their places."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from calibration.teaching.windows import Layer, look, windows_of
from tests import naive_teaching as naive
from tests.asked_shapes import ASKED, Asked
from tests.good_parts import run_model

GRIDS = st.tuples(st.integers(1, 6), st.integers(1, 6))


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    sides = draw(st.lists(st.integers(1, 6), min_size=1, max_size=3))
    return Layer(
        "layer",
        draw(st.integers(0, 3)),
        draw(st.integers(1, 3)),
        draw(st.integers(1, 3)),
        tuple(sides),
        draw(st.integers(1, 4)),
    )


@given(layers(), GRIDS, st.integers(1, 3), st.integers(0, 1000))
def test_a_look_is_the_mean_of_each_window(layer: Layer, grid: tuple[int, int], count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(3, 2, (count, layer.first + layer.kept_count + 1, *grid)).astype(np.float32)
    for windows in windows_of([layer], grid):
        found = look(features, windows)
        assert found.shape == (count, windows.place_count, layer.channel_count)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, naive.look(features, layer, windows.side, windows.step), atol=1e-12)


@given(layers(), GRIDS)
def test_windows_of_each_size_lie_on_every_feature_up_to_the_ends(layer: Layer, grid: tuple[int, int]) -> None:
    found = windows_of([layer], grid)
    assert len(found) == len(layer.sides)
    for windows, wanted in zip(found, layer.sides, strict=True):
        assert windows.grid == (layer.fineness * grid[0], layer.fineness * grid[1])
        assert windows.side == min(wanted, *windows.grid)
        assert 1 <= windows.step <= layer.step
        for length, place_count in zip(windows.grid, windows.places, strict=True):
            assert (place_count - 1) * windows.step + windows.side == length
        # Each feature lies in equally many windows, but near the edge: the map is made of whole steps.
        assert windows.side % windows.step == 0


@given(ASKED)
def test_a_products_windows_are_those_wanted_and_reach_the_ends(asked: Asked) -> None:
    shape = asked.shape
    is_large = shape.width_px * shape.height_px > 320 * 320
    for layer in shape.layers:
        for windows, side in zip(windows_of([layer], shape.grid), layer.sides, strict=True):
            assert windows.side == side
            assert windows.step == (2 if is_large else 1)
            for length, place_count in zip(windows.grid, windows.places, strict=True):
                assert (place_count - 1) * windows.step + windows.side == length


@given(st.integers(1, 4), st.integers(1, 4), GRIDS, st.integers(0, 5))
def test_a_layer_is_kept_as_space_to_depth_lays_it_out(
    channel_count: int, fineness: int, grid: tuple[int, int], first: int
) -> None:
    layer = Layer("layer", first, channel_count, fineness, (1,), 1)
    size = (2, channel_count, fineness * grid[0], fineness * grid[1])
    shown = np.arange(np.prod(size), dtype=np.float32).reshape(size)
    node = helper.make_node("SpaceToDepth", ["image"], ["kept"], blocksize=fineness)
    graph = helper.make_graph(
        [node],
        "keep",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, list(size))],
        [helper.make_tensor_value_info("kept", TensorProto.FLOAT, [2, layer.kept_count, *grid])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    (kept,) = run_model(model.SerializeToString(), shown)
    assert kept.shape == (2, layer.kept_count, *grid)
    others = [np.full((2, count, *grid), np.nan, np.float32) for count in (first, 2)]
    features = np.concatenate([others[0], kept, others[1]], axis=1)
    np.testing.assert_array_equal(layer.map_of(features), shown)
    np.testing.assert_array_equal(naive.map_of(features, layer), shown)


def test_a_picture_tells_as_much_as_it_has_room_for_windows_beside_each_other() -> None:
    one, three = windows_of([Layer("layer", 0, 2, 1, (1, 3), 1)], (6, 9))
    assert (one.place_count, three.place_count) == (54, 28)
    assert one.separate_count == pytest.approx(54)
    assert three.separate_count == pytest.approx(6)
