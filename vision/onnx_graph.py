"""Looking into a parsed ONNX graph: small constants, what reads the input, what makes an output. Plain reading, no checks."""

from __future__ import annotations

import math
from collections import ChainMap, defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

Numbers = tuple[float, ...]

NUMBERS_MAX_COUNT = 16
"""Constants of more elements are weights, not settings."""

_STEPS_MAX_COUNT = 16
"""How far an input or output is followed."""

_CARRIERS = frozenset(
    {
        "Cast",
        "DequantizeLinear",
        "Flatten",
        "Identity",
        "QuantizeLinear",
        "Reshape",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
"""Operators that hand on the values of their first input."""

_PER_CHANNEL = _CARRIERS | {"Add", "Div", "Mul", "Sub", "Resize", "BatchNormalization"}
"""Operators of a normalisation: the input is followed through them."""

_NAME_MAX_COUNT = 60


def shown(name: str | bytes) -> str:
    """A name from the file, fit to be printed: no control characters, of bounded length.

    protobuf hands out as bytes what should be text and is not UTF-8.
    """
    if isinstance(name, bytes):
        name = name[: _NAME_MAX_COUNT * 4].decode(errors="replace")
    text = "".join(character if character.isprintable() else "?" for character in name[: _NAME_MAX_COUNT + 1])
    return text if len(text) <= _NAME_MAX_COUNT else text[: _NAME_MAX_COUNT - 3] + "..."


def constants(graph: onnx.GraphProto, outer: Mapping[str, Numbers] | None = None) -> Mapping[str, Numbers]:
    """The small constants of a graph by name, with those of the graphs around it."""
    known: ChainMap[str, Numbers] = ChainMap({}, outer or {})  # type: ignore[arg-type]
    for tensor in graph.initializer:
        if (numbers := _numbers(tensor)) is not None:
            known[tensor.name] = numbers
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                numbers = _attribute_numbers(attribute)
                if numbers is not None:
                    known[node.output[0]] = numbers
        elif node.op_type == "Identity" and node.output and node.input and node.input[0] in known:
            known[node.output[0]] = known[node.input[0]]
    return known


def attribute_numbers(node: onnx.NodeProto, name: str) -> Numbers | None:
    """The integers or floats of an attribute; None where the node has none of that name."""
    return next((_attribute_numbers(attribute) for attribute in node.attribute if attribute.name == name), None)


def last_operator(graph: onnx.GraphProto, output: str) -> str:
    """The operator that computes ``output``; empty where it is an input, an initializer or further away than can be followed."""
    makers = {name: node for node in graph.node for name in node.output}
    for _ in range(_STEPS_MAX_COUNT):
        node = makers.get(output)
        if node is None:
            return ""
        if node.op_type not in _CARRIERS or not node.input:
            return str(node.op_type)
        output = node.input[0]
    return ""


def first_operators(
    graph: onnx.GraphProto, name: str, known: Mapping[str, Numbers]
) -> tuple[tuple[str, Numbers | None], ...]:
    """The operators that a graph's input goes through, each with its constant."""
    readers: defaultdict[str, list[onnx.NodeProto]] = defaultdict(list)
    for node in graph.node:
        for read in node.input:
            readers[read].append(node)
    steps: list[tuple[str, Numbers | None]] = []
    for _ in range(_STEPS_MAX_COUNT):
        if len(readers[name]) != 1:
            break
        node = readers[name][0]
        if node.op_type not in _PER_CHANNEL or not node.output:
            steps.append((str(node.op_type), None))
            break
        # The last one: of Resize that is the size.
        beside = next((known[other] for other in reversed(node.input) if other != name and other in known), None)
        steps.append((str(node.op_type), beside))
        name = node.output[0]
    return tuple(steps)


def _attribute_numbers(attribute: onnx.AttributeProto) -> Numbers | None:
    if attribute.HasField("t"):
        return _numbers(attribute.t)
    if attribute.HasField("i"):
        return (float(attribute.i),)
    if attribute.HasField("f"):
        return (float(attribute.f),)
    values = attribute.ints or attribute.floats
    return tuple(map(float, values)) if 0 < len(values) <= NUMBERS_MAX_COUNT else None


def _numbers(tensor: onnx.TensorProto) -> Numbers | None:
    """None for a tensor that is large, of no numbers, or not whole."""
    from onnx import TensorProto, numpy_helper

    if tensor.data_location == TensorProto.EXTERNAL or tensor.data_type in (TensorProto.STRING, TensorProto.UNDEFINED):
        return None
    if any(size < 0 for size in tensor.dims) or math.prod(tensor.dims) > NUMBERS_MAX_COUNT:
        return None
    try:
        return tuple(float(value) for value in numpy_helper.to_array(tensor).reshape(-1))
    except (KeyError, TypeError, ValueError):
        return None
