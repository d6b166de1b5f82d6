"""What the tools make of a graph, run as a line would run it."""

from __future__ import annotations

import sys
from typing import Any, Literal

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pipeline.shrink.graph import CannotShrink, fold_input, load_graph, to_float16
from tests.small_networks import SIDE_PX, answer, images, small_network
from vision.model_input import ModelInput


def model_input(colour_order: str, **changes: Any) -> ModelInput:
    count = 1 if colour_order == "GRAY" else 3
    return ModelInput.model_validate(
        {
            "name": "image",
            "width_px": SIDE_PX,
            "height_px": SIDE_PX,
            "colour_order": colour_order,
            "fit": "stretch",
            "scale": 1 / 255,
            "mean": [0.485, 0.456, 0.406][:count],
            "std": [0.229, 0.224, 0.225][:count],
        }
        | changes
    )


@settings(deadline=None, max_examples=25)
@given(
    orders=st.sampled_from([("GRAY", "GRAY"), ("RGB", "RGB"), ("RGB", "BGR"), ("BGR", "RGB")]),
    scale=st.sampled_from([1.0, 1 / 255]),
    is_centred=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_raw_pixels_into_the_folded_model_are_normalised_ones_into_the_other(
    orders: tuple[Literal["GRAY", "RGB", "BGR"], Literal["GRAY", "RGB", "BGR"]],
    scale: float,
    is_centred: bool,
    seed: int,
) -> None:
    model_order, camera_order = orders
    changes: dict[str, Any] = {"scale": scale}
    if not is_centred:
        changes["mean"] = [0.0] * (1 if model_order == "GRAY" else 3)
    card = model_input(model_order, **changes)
    model = small_network(card.channel_count)
    folded = fold_input(model, card, camera_order)
    assert folded.graph.input[0].type.tensor_type.elem_type == TensorProto.UINT8
    pixels = np.random.default_rng(seed).integers(0, 256, (2, card.channel_count, SIDE_PX, SIDE_PX), np.uint8)
    levels = pixels[:, [camera_order.index(name) for name in model_order]] if model_order != "GRAY" else pixels
    mean, std = (np.array(values, np.float32)[None, :, None, None] for values in (card.mean, card.std))
    normalised = ((levels.astype(np.float32) * np.float32(scale) - mean) / std).astype(np.float32)
    np.testing.assert_allclose(answer(folded, pixels), answer(model, normalised), atol=2e-5)


def test_what_changes_nothing_is_not_folded_in() -> None:
    card = model_input("RGB", scale=1.0, mean=[0.0] * 3, std=[1.0] * 3)
    folded = fold_input(small_network(3), card, "RGB")
    assert [node.op_type for node in folded.graph.node][:2] == ["Cast", "Conv"]


def test_a_branch_that_reads_the_image_reads_the_normalised_one() -> None:
    """Graphs inside a node see the names of the outer one."""
    value = helper.make_tensor_value_info
    branch = helper.make_graph(
        [helper.make_node("Identity", ["image"], ["same"])], "branch", [], [value("same", 1, None)]
    )
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("If", ["yes"], ["x"], then_branch=branch, else_branch=branch),
                helper.make_node("ReduceMean", ["x"], ["probabilities"], keepdims=0),
            ],
            "branches",
            [value("image", TensorProto.FLOAT, ["N", 1, SIDE_PX, SIDE_PX])],
            [value("probabilities", TensorProto.FLOAT, [])],
            [numpy_helper.from_array(np.array(True), "yes")],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    folded = fold_input(model, model_input("GRAY", mean=[0.0], std=[1.0]), "GRAY")
    pixels = np.full((1, 1, SIDE_PX, SIDE_PX), 51, np.uint8)
    assert answer(folded, pixels) == pytest.approx(0.2)


def test_folding_twice_and_other_channels_are_refused() -> None:
    card = model_input("RGB")
    raw = model_input("RGB", dtype="uint8", scale=1.0, mean=[0.0] * 3, std=[1.0] * 3)
    with pytest.raises(CannotShrink, match="raw pixels already"):
        fold_input(small_network(3), raw, "RGB")
    with pytest.raises(CannotShrink, match="as many channels"):
        fold_input(small_network(3), card, "GRAY")


def test_float16_halves_the_weights_and_keeps_the_outside() -> None:
    model = small_network(3)
    shrunk = to_float16(model)
    types = {constant.data_type for constant in shrunk.graph.initializer}
    assert TensorProto.FLOAT16 in types
    assert TensorProto.FLOAT not in types
    assert shrunk.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    for image in images(3, 4):
        np.testing.assert_allclose(answer(shrunk, image), answer(model, image), atol=5e-3)


def test_the_tool_for_float16_leaves_the_path_of_imports_as_it_was() -> None:
    before = list(sys.path)
    to_float16(small_network(1))
    assert sys.path == before


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(CannotShrink, match="no model"):
        load_graph(b"not a model")


def test_nodes_that_were_out_of_order_are_in_order() -> None:
    onnx.checker.check_model(to_float16(small_network(3)))
