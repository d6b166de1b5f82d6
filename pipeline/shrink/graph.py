"""ONNX graph in, ONNX graph out. ONNX Runtime's own tools do the arithmetic of float16 and int8."""

from __future__ import annotations

import contextlib
import heapq
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from vision.model_input import ModelInput
from vision.providers import ORT_ERRORS

TOOL_ERRORS: tuple[type[Exception], ...] = (
    *ORT_ERRORS,
    AttributeError,
    KeyError,
    TypeError,
    onnx.checker.ValidationError,
)

_QUANTISED = frozenset({"QuantizeLinear", "QLinearConv", "ConvInteger"})
_PREFIX = "lineside_fold_"


class CannotShrink(Exception):
    """The model's graph does not lend itself to it, in words."""


def load_graph(model: bytes) -> Any:
    """The content of a model's file, which has been looked at and run before. Raises CannotShrink."""
    try:
        return onnx.load_model_from_string(model)
    except Exception as error:
        raise CannotShrink(f"no model: {error}") from error


def to_float16(model: Any) -> Any:
    """Weights and arithmetic in float16; inputs and outputs stay as they are, and so does what float16 has no operator for."""
    expect_float32(model)
    with quietly():
        # Comes with ONNX Runtime and is kept in step with it.
        from onnxruntime.transformers.float16 import convert_float_to_float16

        converted = convert_float_to_float16(_copy(model), keep_io_types=True)
    _sort(converted.graph)
    return checked(converted, "float16")


def expect_float32(model: Any) -> None:
    """Raises CannotShrink for a model that is quantised, or float16, already."""
    if any(node.op_type in _QUANTISED for node in model.graph.node):
        raise CannotShrink("the model is quantised already")
    if any(weight.data_type == TensorProto.FLOAT16 for weight in model.graph.initializer):
        raise CannotShrink("the model is float16 already")


def fold_input(model: Any, model_input: ModelInput, colour_order: Literal["GRAY", "RGB", "BGR"]) -> Any:
    """The same model for raw pixels, uint8 in ``colour_order``: what normalises them becomes part of the graph.

    ``(pixel * scale - mean) / std`` as one product and one sum in float32, as the pre-processing kernels do it. Raises
    CannotShrink.
    """
    if model_input.dtype == "uint8":
        raise CannotShrink("input.dtype: got uint8, expected float32: the model takes raw pixels already")
    if (colour_order == "GRAY") != (model_input.colour_order == "GRAY"):
        raise CannotShrink(
            f"colour order: got {colour_order}, expected one with as many channels as {model_input.colour_order}"
        )
    folded = _copy(model)
    graph = folded.graph
    source = model_input.name
    normalised = f"{_PREFIX}normalised"
    _rename_uses(graph, source, normalised)
    mean, std = np.asarray(model_input.mean), np.asarray(model_input.std)
    gains = (model_input.scale / std).astype(np.float32).reshape(1, -1, 1, 1)
    offsets = (-mean / std).astype(np.float32).reshape(1, -1, 1, 1)
    nodes: list[Any] = [
        helper.make_node("Cast", [source], [f"{_PREFIX}float"], to=TensorProto.FLOAT, name=f"{_PREFIX}cast")
    ]
    constants: list[Any] = []

    def then(operator: str, name: str, value: npt.NDArray[Any], **attributes: Any) -> None:
        constants.append(numpy_helper.from_array(value, f"{_PREFIX}{name}_value"))
        inputs = [nodes[-1].output[0], constants[-1].name]
        nodes.append(
            helper.make_node(operator, inputs, [f"{_PREFIX}{name}"], name=f"{_PREFIX}{name}_node", **attributes)
        )

    if colour_order != model_input.colour_order:
        places = np.array([colour_order.index(name) for name in model_input.colour_order], np.int64)
        then("Gather", "order", places, axis=1)
    if (gains != 1).any():
        then("Mul", "gain", gains)
    if (offsets != 0).any():
        then("Add", "offset", offsets)
    nodes[-1].output[0] = normalised
    for node in reversed(nodes):
        graph.node.insert(0, node)
    graph.initializer.extend(constants)
    for tensor in graph.input:
        if tensor.name == source:
            tensor.type.tensor_type.elem_type = TensorProto.UINT8
    return checked(folded, "folded input")


def _rename_uses(graph: Any, name: str, other: str) -> None:
    for node in graph.node:
        for index, used in enumerate(node.input):
            if used == name:
                node.input[index] = other
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
                _rename_uses(inner, name, other)


def _sort(graph: Any) -> None:
    """Each node after those that it needs, and otherwise in the order that it has: the tool for float16 appends its casts."""
    nodes = [_copy_node(node) for node in graph.node]
    makers = {output: index for index, node in enumerate(nodes) for output in node.output if output}
    needs = [{makers[name] for name in _needs(node) if name in makers} for node in nodes]
    users: list[list[int]] = [[] for _ in nodes]
    for index, needed in enumerate(needs):
        for maker in needed:
            users[maker].append(index)
    ready = [index for index, needed in enumerate(needs) if not needed]
    order: list[int] = []
    while ready:
        index = heapq.heappop(ready)
        order.append(index)
        for user in users[index]:
            needs[user].discard(index)
            if not needs[user]:
                heapq.heappush(ready, user)
    if len(order) < len(nodes):
        raise CannotShrink("the graph has a cycle")
    del graph.node[:]
    graph.node.extend(nodes[index] for index in order)


def _copy_node(node: Any) -> Any:
    copied = onnx.NodeProto()
    copied.CopyFrom(node)
    return copied


def _needs(node: Any) -> Iterator[str]:
    """What a node reads, the graphs inside it included."""
    yield from node.input
    for attribute in node.attribute:
        for inner in [attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else attribute.graphs:
            for each in inner.node:
                yield from _needs(each)


def checked(model: Any, what: str) -> Any:
    """The model. Raises CannotShrink where it is none; ``what``: what was done to it."""
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise CannotShrink(f"{what}: what came out is no valid model: {' '.join(str(error).split())}") from error
    return model


def _copy(model: Any) -> Any:
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    return copied


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """The tools print and warn of what is of no use to whoever shrinks a model, and import each other by a path of their own."""
    root = logging.getLogger()
    level, path = root.level, list(sys.path)
    root.setLevel(logging.ERROR)
    import onnxruntime.transformers

    sys.path[:] = [*path, str(Path(onnxruntime.transformers.__file__).parent)]
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(level)
        sys.path[:] = path
