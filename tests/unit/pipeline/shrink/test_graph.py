"""What the tools make of a graph, run as a line would run it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from pipeline.shrink.graph import CannotShrink, fold_input, load_graph, to_float16, to_int8
from vision.model_input import ModelInput

SIDE_PX = 8
Floats = npt.NDArray[np.float32]


def small_network(channels: int, *, rows: int | str = "N", opset: int = 17) -> Any:
    """A padded convolution, a second one and a classifier's head: enough to be quantised."""
    generator = np.random.default_rng(3)

    def constant(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(generator.normal(0, 0.4, shape).astype(np.float32), name)

    return helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Conv", ["image", "first"], ["a"], pads=[1, 1, 1, 1], name="first_conv"),
                helper.make_node("Relu", ["a"], ["b"], name="relu"),
                helper.make_node("Conv", ["b", "second"], ["c"], pads=[1, 1, 1, 1], name="second_conv"),
                helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
                helper.make_node("Flatten", ["d"], ["e"], name="flatten"),
                helper.make_node("Gemm", ["e", "weights"], ["f"], name="gemm"),
                helper.make_node("Softmax", ["f"], ["probabilities"], axis=1, name="softmax"),
            ],
            "small",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [rows, channels, SIDE_PX, SIDE_PX])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [rows, 2])],
            [constant("first", 4, channels, 3, 3), constant("second", 4, 4, 3, 3), constant("weights", 4, 2)],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )


def answer(model: Any, image: npt.NDArray[Any]) -> Floats:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    probabilities: Floats = session.run(None, {"image": image})[0]
    return probabilities


def images(channels: int, count: int = 16, seed: int = 0) -> Iterator[Floats]:
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield generator.normal(0, 1, (1, channels, SIDE_PX, SIDE_PX)).astype(np.float32)


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


@pytest.mark.parametrize("is_symmetric", [False, True])
@pytest.mark.parametrize("rows", ["N", 2])
def test_int8_has_a_scale_for_each_channel_and_answers_alike(
    is_symmetric: bool, rows: int | str, capfd: pytest.CaptureFixture[str]
) -> None:
    model = small_network(3, rows=rows)
    shrunk = to_int8(model, images(3), is_symmetric=is_symmetric)
    constants = {constant.name: numpy_helper.to_array(constant) for constant in shrunk.graph.initializer}
    assert constants["first_quantized"].dtype == np.int8
    assert constants["first_scale"].shape == (4,)
    activations = [constants[node.input[2]] for node in shrunk.graph.node if node.op_type == "QuantizeLinear"]
    assert {each.dtype for each in activations} == {np.dtype(np.int8 if is_symmetric else np.uint8)}
    if is_symmetric:
        assert not any(each.any() for each in activations)
    for image in images(3, 4, seed=1):
        batch = np.repeat(image, 1 if rows == "N" else 2, axis=0)
        np.testing.assert_allclose(answer(shrunk, batch), answer(model, batch), atol=0.08)
    told = capfd.readouterr()
    assert told.out == ""
    assert told.err == ""


def test_int8_of_a_graph_that_reads_numbers_from_its_weights() -> None:
    """As every YOLO's Split does: onnxruntime's tool loses them where it is given the model in memory."""
    model = small_network(1)
    graph = model.graph
    graph.node[4].input[0] = "joined"
    graph.node.insert(4, helper.make_node("Concat", ["d2", "d1"], ["joined"], axis=1, name="concat"))
    graph.node.insert(4, helper.make_node("Split", ["d", "sizes"], ["d1", "d2"], axis=1, name="split"))
    graph.initializer.append(numpy_helper.from_array(np.array([1, 3], np.int64), "sizes"))
    small = to_int8(model, images(1), method="minmax", is_symmetric=False)
    assert any(node.op_type == "QuantizeLinear" for node in small.graph.node)
    image = next(images(1, seed=5))
    np.testing.assert_allclose(answer(small, image), answer(model, image), atol=0.05)


def test_what_comes_after_the_last_product_stays_float() -> None:
    shrunk = to_int8(small_network(1), images(1))
    makers = {output: node for node in shrunk.graph.node for output in node.output}
    (softmax,) = (node for node in shrunk.graph.node if node.op_type == "Softmax")
    (last,) = (node for node in shrunk.graph.node if "probabilities" in node.output)
    assert last.op_type == "Softmax"
    assert makers[softmax.input[0]].op_type in ("Gemm", "DequantizeLinear")


def test_a_product_with_a_stack_of_matrices_stays_float_and_so_does_what_follows() -> None:
    """ONNX Runtime has no int8 for it: with a scale for each channel such a model does not run at all."""
    model = small_network(1)
    graph = model.graph
    stack = np.random.default_rng(4).normal(0, 1, (4, SIDE_PX, SIDE_PX)).astype(np.float32)
    graph.initializer.append(numpy_helper.from_array(stack, "stack"))
    graph.node.insert(3, helper.make_node("MatMul", ["c", "stack"], ["turned"], name="turn"))
    graph.node[4].input[0] = "turned"
    shrunk = to_int8(model, images(1))
    makers = {output: node for node in shrunk.graph.node for output in node.output}
    (turn,) = (node for node in shrunk.graph.node if node.op_type == "MatMul")
    assert turn.input[1] == "stack"
    (last,) = (node for node in shrunk.graph.node if node.op_type == "Gemm")
    assert "weights" in last.input
    assert makers[last.input[0]].op_type == "Flatten"
    assert any(node.op_type == "QuantizeLinear" for node in shrunk.graph.node)
    image = next(images(1, seed=5))
    np.testing.assert_allclose(answer(shrunk, image), answer(model, image), atol=0.08)


@pytest.mark.parametrize("name", ["", "node"])
def test_int8_of_a_graph_whose_nodes_have_no_names_or_all_the_same(name: str) -> None:
    model, unnamed = small_network(1), small_network(1)
    for node in unnamed.graph.node:
        node.name = name
    expected, found = (
        [node.op_type for node in to_int8(each, images(1)).graph.node].count("QuantizeLinear")
        for each in (model, unnamed)
    )
    assert found == expected > 0


def test_int8_of_a_graph_without_a_product_is_refused() -> None:
    model = small_network(1)
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("ReduceMean", ["image"], ["d"], axes=[2, 3], keepdims=0))
    model.graph.node.append(helper.make_node("Concat", ["d", "d"], ["probabilities"], axis=1))
    with pytest.raises(CannotShrink, match="nothing in it to quantise"):
        to_int8(model, images(1))


def test_int8_of_an_old_opset_or_of_int8_is_refused() -> None:
    with pytest.raises(CannotShrink, match="got 12, expected at least 13"):
        to_int8(small_network(1, opset=12), images(1))
    with pytest.raises(CannotShrink, match="quantised already"):
        to_int8(to_int8(small_network(1), images(1)), images(1))


def test_what_is_no_model_is_refused() -> None:
    with pytest.raises(CannotShrink, match="no model"):
        load_graph(b"not a model")


def test_nodes_that_were_out_of_order_are_in_order() -> None:
    onnx.checker.check_model(to_float16(small_network(3)))
