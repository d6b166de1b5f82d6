"""What is made int8 of a graph, and what stays float."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from pipeline.shrink.graph import CannotShrink
from pipeline.shrink.int8 import NOISE_MAX, to_int8
from tests.small_networks import SIDE_PX, Floats, answer, images, small_network


@pytest.mark.parametrize("is_symmetric", [False, True])
@pytest.mark.parametrize("rows", ["N", 2])
def test_int8_has_a_scale_for_each_channel_and_answers_alike(
    is_symmetric: bool, rows: int | str, capfd: pytest.CaptureFixture[str]
) -> None:
    model = small_network(3, rows=rows)
    shrunk = to_int8(model, lambda: images(3), is_symmetric=is_symmetric).model
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
    small = to_int8(model, lambda: images(1), method="minmax", is_symmetric=False).model
    assert any(node.op_type == "QuantizeLinear" for node in small.graph.node)
    image = next(images(1, seed=5))
    np.testing.assert_allclose(answer(small, image), answer(model, image), atol=0.05)


def test_what_comes_after_the_last_product_stays_float() -> None:
    shrunk = to_int8(small_network(1), lambda: images(1)).model
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
    shrunk = to_int8(model, lambda: images(1)).model
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
        [node.op_type for node in to_int8(each, lambda: images(1)).model.graph.node].count("QuantizeLinear")
        for each in (model, unnamed)
    )
    assert found == expected > 0


def test_int8_of_a_graph_without_a_product_is_refused() -> None:
    model = small_network(1)
    del model.graph.node[:]
    model.graph.node.append(helper.make_node("ReduceMean", ["image"], ["d"], axes=[2, 3], keepdims=0))
    model.graph.node.append(helper.make_node("Concat", ["d", "d"], ["probabilities"], axis=1))
    with pytest.raises(CannotShrink, match="nothing in it to quantise"):
        to_int8(model, lambda: images(1))


def test_int8_of_an_old_opset_or_of_int8_is_refused() -> None:
    with pytest.raises(CannotShrink, match="got 12, expected at least 13"):
        to_int8(small_network(1, opset=12), lambda: images(1))
    small = to_int8(small_network(1), lambda: images(1)).model
    with pytest.raises(CannotShrink, match="quantised already"):
        to_int8(small, lambda: images(1))


# What stays float.


def deep_network(depth: int, *, stray: float) -> Any:
    """``depth`` convolutions of 1 x 1 in a row, each of which hands on two channels. The first one's second channel is ``stray``
    times larger than its first until after the second one, and only the first channel is looked at in the end.
    """
    nodes, constants, name = [], [], "image"
    for number in range(depth):
        gains = np.diag([1.0, stray if number == 0 else 1.0]).astype(np.float32)
        kernel = gains[:, :1] + gains[:, 1:] if number == 0 else gains
        constants.append(numpy_helper.from_array(kernel.reshape(2, -1, 1, 1), f"kernel{number}"))
        nodes.append(helper.make_node("Conv", [name, f"kernel{number}"], [f"map{number}"]))
        name = f"map{number}"
        if number == 1:
            # From here on both are of one size again.
            constants.append(numpy_helper.from_array(np.array([1, 1 / stray], np.float32).reshape(1, 2, 1, 1), "even"))
            nodes.append(helper.make_node("Mul", [name, "even"], ["evened"]))
            name = "evened"
    constants.append(numpy_helper.from_array(np.array([[1.0], [0.0]], np.float32), "first"))
    nodes += [
        helper.make_node("GlobalAveragePool", [name], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["line"]),
        helper.make_node("Gemm", ["line", "first"], ["level"]),
        helper.make_node("Sigmoid", ["level"], ["probabilities"]),
    ]
    size: list[str | int | None] = ["N", 1, SIDE_PX, SIDE_PX]
    graph = helper.make_graph(
        nodes,
        "deep",
        [helper.make_tensor_value_info("image", 1, size)],
        [helper.make_tensor_value_info("probabilities", 1, ["N", 1])],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def levels(count: int = 24) -> Iterator[Floats]:
    """Pictures of one grey level each."""
    for level in np.random.default_rng(2).normal(0, 1, count):
        yield np.full((1, 1, SIDE_PX, SIDE_PX), level, np.float32)


def quantised_products(model: Any) -> list[bool]:
    makers = {output: node.op_type for node in model.graph.node for output in node.output}
    return [
        makers.get(node.input[0]) == "DequantizeLinear" for node in model.graph.node if node.op_type in ("Conv", "Gemm")
    ]


def test_where_nothing_is_lost_all_products_are_int8() -> None:
    found = to_int8(deep_network(15, stray=1.0), levels)
    assert (found.float_count, found.product_count) == (0, 16)
    assert found.noise is not None
    assert found.noise < NOISE_MAX
    assert all(quantised_products(found.model))


def test_first_products_that_lose_too_much_stay_float() -> None:
    """One scale fits both channels of their outputs, and leaves the small one few levels."""
    found = to_int8(deep_network(15, stray=60.0), levels)
    assert found.noise is not None
    assert found.noise < NOISE_MAX
    assert 2 <= found.float_count <= 4
    assert quantised_products(found.model) == [False] * found.float_count + [True] * (16 - found.float_count)


def test_of_what_loses_too_much_anyway_the_least_noise_is_taken() -> None:
    """The last product's input has one scale, too, and what it lacks is in all of them."""
    model = deep_network(15, stray=1.0)
    (last,) = (weight for weight in model.graph.initializer if weight.name == "kernel13")
    last.CopyFrom(numpy_helper.from_array(np.array([[1, 0], [0, 1e5]], np.float32).reshape(2, 2, 1, 1), "kernel13"))
    found = to_int8(model, levels)
    assert found.noise is not None
    assert found.noise > NOISE_MAX
    assert any(quantised_products(found.model))


@pytest.mark.parametrize("count", [1, 5])
def test_images_that_are_all_answered_alike_tell_of_no_noise(count: int) -> None:
    alike = [np.zeros((1, 1, SIDE_PX, SIDE_PX), np.float32), np.ones((1, 1, SIDE_PX, SIDE_PX), np.float32)][:1] * count
    found = to_int8(small_network(1), lambda: alike)
    assert (found.noise, found.float_count) == (None, 0)
