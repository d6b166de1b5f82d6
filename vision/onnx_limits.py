"""What a model's graphs may hold. Each limit has a name and a unit; beyond it the file is refused before anything runs it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from vision.faults import Fault
from vision.onnx_graph import DIMENSIONS_MAX_COUNT, Numbers, constants, shown

if TYPE_CHECKING:
    import onnx

FILE_MAX_BYTES = 1 << 30
"""Of the file."""

PARSE_MAX_BYTES = 256 << 20
"""Memory that parsing may take beyond twice the file: an empty node is two bytes in the file and a hundred in memory."""

METADATA_MAX_COUNT = 1 << 20
"""Characters of all metadata."""

PORTS_MAX_COUNT = 64
"""Inputs, and outputs, of the model; inputs that an initializer feeds, as older files declare them, are none."""

NODES_MAX_COUNT = 50_000
"""Nodes of all graphs, calls of the file's own functions written out."""

SUBGRAPH_DEPTH_MAX_COUNT = 8
"""Graphs inside one another (If, Loop, Scan), and functions that call one another."""

TENSOR_MAX_COUNT = 1 << 28
"""Elements of one tensor: stored, declared, or asked for by a constant shape (1 GiB of float32)."""

DOMAINS = ("ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Whose operators a model may use: the standard's, and those that ONNX Runtime brings itself."""

_REFUSED_OPERATORS = {
    "EPContext": "a compiled engine, from a file of its own or of no known content",
    "PythonOp": "Python code of the process",
    "PythonOpGrad": "Python code of the process",
}
"""Operators of ONNX Runtime's own that run more than the file holds."""

_FAULTS_MAX_COUNT = 10

_BITS = {
    1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 14: 64, 15: 128, 16: 16,
    17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4, 24: 8, 25: 2, 26: 2,
}  # fmt: skip
"""Bits of an element by ONNX's number of its type (TensorProto.DataType); strings have none."""

_STRING = 8
_COMPLEX = (14, 15)
_EXTERNAL = 1

_SHAPE_INPUTS = {"ConstantOfShape": (0,), "Expand": (1,), "Tile": (1,), "Resize": (3, 2), "Upsample": (1,)}
"""Operators whose output is at least as large as one of their inputs says (in sizes, or in factors), and which that can be."""

_SCALES_OF_FIRST_RESIZE = (1,)
"""Of opset 10, which has two inputs."""

_BY_CHANCE = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)


def check_graphs(model: onnx.ModelProto, file: str) -> list[Fault]:
    """What must not be loaded, the first ten; empty for a model within the limits."""
    walk = _Walk(model, file)
    faults: list[Fault] = []
    for fault in walk.faults():
        faults.append(fault)
        if len(faults) == _FAULTS_MAX_COUNT:
            break
    return faults


class _TooMuch(Exception):
    """A limit on the whole file is passed: looking further would take as long as the limit forbids."""

    def __init__(self, key: str, got: str, expected: str) -> None:
        super().__init__(key, got, expected)
        self.key, self.got, self.expected = key, got, expected


class _Walk:
    """One look through a model's graphs."""

    def __init__(self, model: onnx.ModelProto, file: str) -> None:
        self._model = model
        self._file = file
        self._nodes_count = 0
        self._functions = {
            (function.domain, function.name, function.overload): function for function in model.functions
        }

    def faults(self) -> Iterator[Fault]:
        model = self._model
        try:
            fed = {tensor.name for tensor in model.graph.initializer}
            inputs_count = sum(value.name not in fed for value in model.graph.input)
            for key, count in (("graph.input", inputs_count), ("graph.output", len(model.graph.output))):
                if count > PORTS_MAX_COUNT:
                    raise _TooMuch(key, f"{count} tensors", f"at most {PORTS_MAX_COUNT}")
            yield from self._graph(model.graph, "graph", {}, depth=1)
            for function in model.functions:
                self._count(len(function.node) + 1, "functions")
                where = f"function {shown(function.name)}"
                for default in function.attribute_proto:
                    yield from self._attribute(default, where, {}, depth=1)
                yield from self._nodes(function.node, where, constants(function.node), depth=1)
            self._written_out()
        except _TooMuch as error:
            yield self._fault(error.key, error.got, error.expected)

    def _fault(self, key: str, got: str, expected: str) -> Fault:
        return Fault(self._file, key, got, expected)

    def _graph(
        self, graph: onnx.GraphProto, where: str, outer: Mapping[str, Numbers], *, depth: int
    ) -> Iterator[Fault]:
        if depth > SUBGRAPH_DEPTH_MAX_COUNT:
            raise _TooMuch(where, f"graphs {depth} deep", f"at most {SUBGRAPH_DEPTH_MAX_COUNT} inside one another")
        self._count(len(graph.node), where)
        for tensor in graph.initializer:
            yield from self._tensor(tensor, f"{where}.initializer {shown(tensor.name)}")
        if graph.sparse_initializer:
            yield self._fault(
                f"{where}.sparse_initializer", "sparse weights", "dense ones: export the model without them"
            )
        for kind, values in (("input", graph.input), ("output", graph.output), ("value", graph.value_info)):
            for value in values:
                yield from self._declared(value, f"{where}.{kind} {shown(value.name)}")
        yield from self._nodes(graph.node, where, constants(graph.node, graph.initializer, outer), depth=depth)

    def _nodes(self, nodes: Any, where: str, known: Mapping[str, Numbers], *, depth: int) -> Iterator[Fault]:
        for node in nodes:
            key = f"{where}.{shown(node.op_type)} {shown(node.name or next(iter(node.output), ''))}".rstrip()
            yield from self._operator(node, key)
            yield from self._asked_shape(node, key, known)
            for attribute in node.attribute:
                yield from self._attribute(attribute, key, known, depth=depth)

    def _attribute(
        self, attribute: onnx.AttributeProto, key: str, known: Mapping[str, Numbers], *, depth: int
    ) -> Iterator[Fault]:
        key = f"{key}.{shown(attribute.name)}"
        for tensor in (attribute.t, *attribute.tensors) if attribute.HasField("t") else attribute.tensors:
            yield from self._tensor(tensor, key)
        if attribute.HasField("sparse_tensor") or attribute.sparse_tensors:
            yield self._fault(key, "a sparse constant", "a dense one")
        for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
            yield from self._graph(inner, key, known, depth=depth + 1)

    def _operator(self, node: onnx.NodeProto, key: str) -> Iterator[Fault]:
        domain = node.domain or "ai.onnx"
        if (node.domain, node.op_type, node.overload) in self._functions:
            return
        if domain not in DOMAINS:
            expected = f"an operator of {', '.join(DOMAINS)} (no library of custom operators is loaded)"
            yield self._fault(key, f"domain {shown(domain)}", expected)
        elif domain == "com.microsoft" and node.op_type in _REFUSED_OPERATORS:
            yield self._fault(key, _REFUSED_OPERATORS[node.op_type], "a model that holds all that it runs")
        elif node.op_type in _BY_CHANCE:
            yield self._fault(key, f"{node.op_type}, numbers by chance", "a model that says the same of the same image")

    def _asked_shape(self, node: onnx.NodeProto, key: str, known: Mapping[str, Numbers]) -> Iterator[Fault]:
        asked = None
        if node.op_type in _SHAPE_INPUTS:
            is_first_resize = node.op_type == "Resize" and len(node.input) == 2
            indices = _SCALES_OF_FIRST_RESIZE if is_first_resize else _SHAPE_INPUTS[node.op_type]
            asked = next(
                (known[name] for index in indices for name in node.input[index : index + 1] if known.get(name)), None
            )
        elif node.op_type == "Range" and all(name in known for name in node.input) and len(node.input) == 3:
            start, limit, step = (known[name][0] if known[name] else math.nan for name in node.input)
            asked = (abs(limit - start) / abs(step),) if step else None
        # A size of 0 is no way round the limit: what follows may widen it again, and that is asked for too.
        if asked is not None and not math.prod(abs(size) for size in asked) <= TENSOR_MAX_COUNT:
            sizes = " x ".join(f"{size:.0f}" if abs(size) < 1e19 else f"{size:g}" for size in asked)
            yield self._fault(key, f"a result of at least {sizes} elements", f"at most {TENSOR_MAX_COUNT}")

    def _declared(self, value: onnx.ValueInfoProto, key: str) -> Iterator[Fault]:
        if value.type.WhichOneof("value") != "tensor_type":
            return
        declared = value.type.tensor_type.shape.dim
        yield from self._shape([size.dim_value for size in declared if size.dim_value > 0], len(declared), key)

    def _shape(self, sizes: Sequence[int], dimensions_count: int, key: str) -> Iterator[Fault]:
        if dimensions_count > DIMENSIONS_MAX_COUNT:
            yield self._fault(key, f"{dimensions_count} dimensions", f"at most {DIMENSIONS_MAX_COUNT}")
        elif math.prod(sizes) > TENSOR_MAX_COUNT:
            yield self._fault(key, f"a tensor of {_sizes(sizes)} elements", f"at most {TENSOR_MAX_COUNT}")

    def _tensor(self, tensor: onnx.TensorProto, key: str) -> Iterator[Fault]:
        """Whether what is stored is what the shape says."""
        if tensor.data_location == _EXTERNAL or tensor.external_data:
            location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
            expected = (
                "weights inside the ONNX file, so that its hash covers them "
                "(onnx.save_model(onnx.load(FILE), OTHER) writes them there)"
            )
            yield self._fault(key, f"weights in another file ({shown(location) or 'unnamed'})", expected)
            return
        if any(size < 0 for size in tensor.dims):
            yield self._fault(key, f"shape {_sizes(tensor.dims)}", "sizes of at least 0")
            return
        wrong = list(self._shape(tensor.dims, len(tensor.dims), key))
        if wrong:
            yield from wrong
            return
        elements = math.prod(tensor.dims)
        if tensor.HasField("segment"):
            yield self._fault(key, "a segment of a tensor", "whole tensors")
        elif tensor.data_type == _STRING:
            if len(tensor.string_data) != elements:
                yield self._fault(key, f"{len(tensor.string_data)} strings", f"{elements}, as its shape says")
        elif tensor.data_type not in _BITS:
            yield self._fault(key, f"element type {tensor.data_type}", "an element type of the standard")
        elif not _is_whole(tensor, elements):
            expected = f"all {elements} elements that its shape {_sizes(tensor.dims)} says"
            yield self._fault(key, "data of another size", expected)

    def _count(self, nodes_count: int, where: str) -> None:
        self._nodes_count += nodes_count
        if self._nodes_count > NODES_MAX_COUNT:
            raise _TooMuch(where, f"{self._nodes_count} nodes or more", f"at most {NODES_MAX_COUNT} in all graphs")

    def _written_out(self) -> None:
        """Raises _TooMuch where functions call one another without end, too deep, or so often that the graph explodes."""
        if not self._functions:
            return
        sizes: dict[tuple[str, str, str], int] = {}

        def size_of(nodes: Any, depth: int) -> int:
            if depth > SUBGRAPH_DEPTH_MAX_COUNT * 2:
                raise _TooMuch("functions", f"calls {depth} deep or without end", f"at most {depth - 1} deep")
            total = 0
            for node in nodes:
                called = (node.domain, node.op_type, node.overload)
                if called in self._functions:
                    if called not in sizes:
                        sizes[called] = size_of(self._functions[called].node, depth + 1)
                    total += sizes[called]
                else:
                    total += 1
                for attribute in node.attribute:
                    for inner in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                        total += size_of(inner.node, depth)
            if total > NODES_MAX_COUNT:
                expected = f"at most {NODES_MAX_COUNT} with the calls of functions written out"
                raise _TooMuch("functions", f"{total} nodes or more", expected)
            return total

        size_of(self._model.graph.node, 0)
        for function in self._model.functions:
            size_of(function.node, 1)


def _is_whole(tensor: onnx.TensorProto, elements: int) -> bool:
    bits = _BITS[tensor.data_type]
    if tensor.HasField("raw_data"):
        return len(tensor.raw_data) == (elements * bits + 7) // 8
    stored = sum(
        len(values)
        for values in (
            tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data,
        )
    )  # fmt: skip
    # Two floats a complex number; elements below a byte are packed.
    factor = 2 if tensor.data_type in _COMPLEX else 1
    return stored in (elements * factor, (elements * bits + 7) // 8 if bits < 8 else -1)


def _sizes(sizes: Any) -> str:
    text = " x ".join(str(size) for size in list(sizes)[:9])
    return shown(text) or "of no dimension"
