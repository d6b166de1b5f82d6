"""Looking into a parsed ONNX graph: small constants, what reads the input, what makes an output. Plain reading, no checks."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

Numbers = tuple[float, ...]

DIMENSIONS_MAX_COUNT = 64
"""Of a tensor."""

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


def constants(
    nodes: Iterable[onnx.NodeProto],
    initializers: Iterable[onnx.TensorProto] = (),
    outer: Mapping[str, Numbers] | None = None,
) -> Mapping[str, Numbers]:
    """The small constants of a graph (or, without initializers, of a function) by name, with those of the graphs around it."""
    known: ChainMap[str, Numbers] = ChainMap({}, outer or {})  # type: ignore[arg-type]
    for tensor in initializers:
        if (numbers := _numbers(tensor)) is not None:
            known[tensor.name] = numbers
    for node in nodes:
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


@dataclass(frozen=True, slots=True)
class Wiring:
    """Tensor -> the node that makes it, and the nodes that read it (but Shape, which reads no values)."""

    makers: Mapping[str, onnx.NodeProto]
    readers: Mapping[str, Sequence[onnx.NodeProto]]


def wiring(nodes: Iterable[onnx.NodeProto]) -> Wiring:
    """Of one graph's nodes."""
    makers: dict[str, onnx.NodeProto] = {}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in nodes:
        for made in node.output:
            makers[made] = node
        if node.op_type != "Shape":
            for read in node.input:
                readers.setdefault(read, []).append(node)
    return Wiring(makers, readers)


def last_operator(graph: Wiring, output: str, known: Mapping[str, Numbers]) -> str:
    """The operator that computes ``output``; empty where it is an input, an initializer or further away than can be followed."""
    node = _maker(graph, output, known)
    if node is None:
        return ""
    is_over_images = node.op_type == "Softmax" and attribute_numbers(node, "axis") == (0.0,)
    return "Softmax over the images of a batch" if is_over_images else str(node.op_type)


def last_limits(graph: Wiring, output: str, known: Mapping[str, Numbers]) -> tuple[float, float] | None:
    """The constants that ``output`` is cut to by the operator that computes it; None where it is not cut on both sides."""
    low, high = -math.inf, math.inf
    for _ in range(2):  # Min of Max, or Max of Min
        node = _maker(graph, output, known)
        if node is None or node.op_type not in ("Clip", "Min", "Max"):
            break
        if node.op_type == "Clip":
            attributes = {attribute.name: attribute.f for attribute in node.attribute}  # before opset 11
            bounds = [known.get(name, ()) for name in node.input[1:3]]
            lows = bounds[0] if bounds else (attributes.get("min", -math.inf),)
            highs = bounds[1] if len(bounds) > 1 else (attributes.get("max", math.inf),)
        else:
            others = [name for name in node.input if name not in known]
            if len(node.input) != 2 or len(others) != 1:
                break
            limit = next(known[name] for name in node.input if name in known)
            lows, highs = ((-math.inf,), limit) if node.op_type == "Min" else (limit, (math.inf,))
            output = others[0]
        if len(lows) != 1 or len(highs) != 1:
            break
        low, high = max(low, lows[0]), min(high, highs[0])
        if node.op_type == "Clip":
            break
    return (low, high) if low > -math.inf and high < math.inf else None


def first_operators(graph: Wiring, name: str, known: Mapping[str, Numbers]) -> tuple[tuple[str, Numbers | None], ...]:
    """The operators that a graph's input goes through, each with its constant."""
    steps: list[tuple[str, Numbers | None]] = []
    for _ in range(_STEPS_MAX_COUNT):
        readers = graph.readers.get(name, ())
        if len(readers) != 1:
            break
        node = readers[0]
        if node.op_type not in _PER_CHANNEL or not node.output:
            steps.append((str(node.op_type), None))
            break
        steps.append((str(node.op_type), _constant_beside(node, name, known, graph.makers)))
        name = node.output[0]
    return tuple(steps)


def _constant_beside(
    node: onnx.NodeProto, name: str, known: Mapping[str, Numbers], makers: Mapping[str, onnx.NodeProto]
) -> Numbers | None:
    """The constant that ``node`` takes besides ``name``; of Resize the size, also where batch and channels are the input's."""
    for other in reversed(node.input):
        if other != name and other in known:
            return known[other]
        maker = makers.get(other)
        if node.op_type == "Resize" and maker is not None and maker.op_type == "Concat" and maker.input:
            return known.get(maker.input[-1])
    return None


def _maker(graph: Wiring, output: str, known: Mapping[str, Numbers]) -> onnx.NodeProto | None:
    """The node that computes ``output``, past those that only carry it and choices that are made already."""
    for _ in range(_STEPS_MAX_COUNT):
        node: onnx.NodeProto | None = graph.makers.get(output)
        if node is None:
            return None
        if node.op_type == "Where" and len(node.input) == 3 and len(known.get(node.input[0], ())) == 1:
            output = node.input[1 if known[node.input[0]][0] else 2]
        elif node.op_type in _CARRIERS and node.input:
            output = node.input[0]
        else:
            return node
    return None


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
    if len(tensor.dims) > DIMENSIONS_MAX_COUNT or any(size < 0 for size in tensor.dims):
        return None
    if math.prod(tensor.dims) > NUMBERS_MAX_COUNT:
        return None
    try:
        return tuple(float(value) for value in numpy_helper.to_array(tensor).reshape(-1))
    except (KeyError, TypeError, ValueError):
        return None
