"""What an ONNX file holds, read without running any of it, and the refusal of what must not reach the runtime.

A file is somebody else's: it is parsed by protobuf within a bound of memory, its graphs are walked in Python, and no other file
is opened, whatever it names. What cannot be told from the file alone (memory and time of a run) is bounded where it runs.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vision.faults import Fault, FaultsError
from vision.memory_bound import memory_bound
from vision.onnx_graph import Numbers, constants, first_operators, last_limits, last_operator, shown, wiring
from vision.onnx_limits import FILE_MAX_BYTES, METADATA_MAX_COUNT, PARSE_MAX_BYTES, check_graphs

if TYPE_CHECKING:
    import onnx

_STANDARD = ("", "ai.onnx")

_DTYPES = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "BOOL": "bool",
    "STRING": "string",
}
"""Where ONNX's name of an element type in lower case is not NumPy's."""


class RefusedModel(FaultsError):
    """The file is no ONNX model, or one that must not be loaded; ``faults`` name the limit or the rule."""


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """An input or output as the file declares it. ``dtype`` is NumPy's name, empty for what is no tensor.

    ``shape``: a size, or the name of a size that is free (empty where it has none); None where the file states no shape.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...] | None


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """What the file says of itself. ``inputs`` are those to be fed: initializers are left out."""

    size_bytes: int
    sha256: str
    ir_version: int
    opsets: Mapping[str, int]
    """Domain -> version of those that its operators are of; the standard domain is ``ai.onnx``."""
    producer: str
    metadata: Mapping[str, str]
    inputs: tuple[TensorFacts, ...]
    outputs: tuple[TensorFacts, ...]
    operators: Mapping[str, int]
    """Operator -> count over all graphs, most frequent first; those of another domain as ``domain.Operator``."""
    made_by: Mapping[str, str]
    """Output -> the operator that computes it, past those that only carry it (Reshape, Cast, ...)."""
    cut_to: Mapping[str, tuple[float, float]]
    """Output -> the limits that its values are cut to, where the graph ends in that."""
    read_by: Mapping[str, tuple[tuple[str, Numbers | None], ...]]
    """Input -> the operators that it goes through one after the other, with their constant (at most 16 numbers) where they
    have one; ends where the input branches, and with the first that is more than arithmetic per channel (Conv, ...)."""

    @property
    def opset(self) -> int:
        return self.opsets.get("ai.onnx", 0)


def read_onnx(content: bytes, file: str) -> OnnxFile:
    """``content`` as facts; ``file`` names it in faults. Raises RefusedModel with up to ten faults."""
    if len(content) > FILE_MAX_BYTES:
        raise RefusedModel(
            [Fault(file, "", f"{len(content)} bytes", f"an ONNX file of at most {FILE_MAX_BYTES} bytes")]
        )
    model = _parse(content, file)
    graph = model.graph
    if faults := [*_check_text(model, file), *check_graphs(model, file), *_check_metadata(model, file)]:
        raise RefusedModel(faults[:10])
    fed = {initializer.name for initializer in graph.initializer}
    operators = Counter(_operators(model))
    used = {domain for domain, _ in operators}
    known, wired = constants(graph.node, graph.initializer), wiring(graph.node)
    inputs = [value for value in graph.input if value.name not in fed]
    return OnnxFile(
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        ir_version=model.ir_version,
        opsets={_domain(entry.domain): entry.version for entry in model.opset_import if _domain(entry.domain) in used},
        producer=" ".join(filter(None, (shown(model.producer_name), shown(model.producer_version)))),
        metadata={entry.key: entry.value for entry in model.metadata_props},
        inputs=tuple(_tensor(value) for value in inputs),
        outputs=tuple(_tensor(value) for value in graph.output),
        operators={
            shown(operator if domain == "ai.onnx" else f"{domain}.{operator}"): count
            for (domain, operator), count in operators.most_common()
        },
        made_by={value.name: last_operator(wired, value.name, known) for value in graph.output},
        cut_to={
            value.name: limits
            for value in graph.output
            if (limits := last_limits(wired, value.name, known)) is not None
        },
        read_by={value.name: first_operators(wired, value.name, known) for value in inputs},
    )


def _parse(content: bytes, file: str) -> onnx.ModelProto:
    # Only who reads a model pays the 0.2 s of this import.
    import onnx
    from google.protobuf.message import DecodeError

    try:
        with memory_bound(PARSE_MAX_BYTES + 2 * len(content)):
            model: onnx.ModelProto = onnx.ModelProto.FromString(content)
    except MemoryError:
        cause = "more memory than a model of its size needs"
    except DecodeError as error:
        cause = " ".join(str(error).split())
    else:
        if model.HasField("graph") and model.ir_version > 0 and model.graph.output:
            return model
        cause = "no graph with an output in it"
    memory = f"whose structure takes at most {PARSE_MAX_BYTES} bytes of memory to read"
    raise RefusedModel([Fault(file, "", f"a file that does not parse ({cause})", f"a whole ONNX file {memory}")])


def _check_text(model: onnx.ModelProto, file: str) -> list[Fault]:
    """Names that are used further; protobuf hands out as bytes what is not UTF-8."""
    texts: list[Any] = [model.producer_name, model.producer_version]
    texts += [entry.domain for entry in model.opset_import]
    texts += [text for entry in model.metadata_props for text in (entry.key, entry.value)]
    for value in (*model.graph.input, *model.graph.output):
        texts += [value.name, *(size.dim_param for size in value.type.tensor_type.shape.dim)]
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        texts += [text for node in nodes for text in (node.op_type, node.domain)]
    wrong = [text for text in texts if not isinstance(text, str)]
    return [Fault(file, "", f"the name {shown(wrong[0])!r}", "names in UTF-8")] if wrong else []


def _check_metadata(model: onnx.ModelProto, file: str) -> list[Fault]:
    size = sum(len(entry.key) + len(entry.value) for entry in model.metadata_props)
    if size > METADATA_MAX_COUNT:
        return [Fault(file, "metadata_props", f"{size} characters", f"at most {METADATA_MAX_COUNT}")]
    twice = [key for key, count in Counter(entry.key for entry in model.metadata_props).items() if count > 1]
    return [Fault(file, "metadata_props", f"{shown(twice[0])} more than once", "each key once")] if twice else []


def _operators(model: onnx.ModelProto) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    waiting: list[Any] = [model.graph, *model.functions]
    while waiting:
        for node in waiting.pop().node:
            found.append((_domain(node.domain), node.op_type))
            for attribute in node.attribute:
                waiting += [attribute.g, *attribute.graphs] if attribute.HasField("g") else attribute.graphs
    return found


def _tensor(value: onnx.ValueInfoProto) -> TensorFacts:
    from onnx import TensorProto

    if value.type.WhichOneof("value") != "tensor_type":
        return TensorFacts(value.name, "", None)
    declared = value.type.tensor_type
    name = TensorProto.DataType.Name(declared.elem_type) if declared.elem_type in TensorProto.DataType.values() else ""
    shape = None
    if declared.HasField("shape"):
        shape = tuple(
            size.dim_value if size.HasField("dim_value") and size.dim_value >= 0 else size.dim_param
            for size in declared.shape.dim
        )
    return TensorFacts(value.name, _DTYPES.get(name, name.lower()), shape)


def _domain(domain: str) -> str:
    return "ai.onnx" if domain in _STANDARD else domain
