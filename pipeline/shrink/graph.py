"""ONNX graph in, ONNX graph out. ONNX Runtime's own tools do the arithmetic of float16 and int8."""

from __future__ import annotations

import contextlib
import heapq
import io
import logging
import sys
import tempfile
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from vision.model_input import ModelInput
from vision.providers import ORT_ERRORS

_TOOL_ERRORS: tuple[type[Exception], ...] = (
    *ORT_ERRORS,
    AttributeError,
    KeyError,
    TypeError,
    onnx.checker.ValidationError,
)

CalibrationMethod = Literal["minmax", "entropy", "percentile"]

_OPSET_MIN = 13
"""The first in which QuantizeLinear has an axis: one scale for each channel."""
_QUANTISED = frozenset({"QuantizeLinear", "QLinearConv", "ConvInteger"})
_HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
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
    _expect_float32(model)
    with _quietly():
        # Comes with ONNX Runtime and is kept in step with it.
        from onnxruntime.transformers.float16 import convert_float_to_float16

        converted = convert_float_to_float16(_copy(model), keep_io_types=True)
    _sort(converted.graph)
    return _checked(converted, "float16")


def to_int8(
    model: Any, rows: Iterable[npt.NDArray[Any]], *, method: CalibrationMethod = "minmax", is_symmetric: bool = False
) -> Any:
    """Static int8 with Q/DQ nodes: weights with a scale for each channel, activations with ranges as ``rows`` have them.

    ``rows``: what the model's input looks like, (1, channels, height, width) each. Activations are uint8, which CPUs are quick
    with; ``is_symmetric``: int8 with zero points of 0, as TensorRT wants it. What comes after the last convolution or matrix
    product stays float: it is cheap, and where boxes in pixels and scores up to 1 share a tensor no one scale fits both. So do
    products with a stack of matrices, for which ONNX Runtime has no int8, and what comes after them.
    Raises CannotShrink.
    """
    opset = max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)
    if opset < _OPSET_MIN:
        raise CannotShrink(
            f"opset: got {opset}, expected at least {_OPSET_MIN}: export the model again with a newer one"
        )
    _expect_float32(model)
    input_name, fixed_rows = _input_of(model)
    with _quietly():
        from onnxruntime.quantization import CalibrationMethod as Method
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process

    methods = {"minmax": Method.MinMax, "entropy": Method.Entropy, "percentile": Method.Percentile}
    with tempfile.TemporaryDirectory(prefix="lineside-quantize-") as folder, _quietly():
        source, prepared, quantised = (Path(folder, f"{name}.onnx") for name in ("source", "prepared", "quantised"))
        try:
            # From a file: given a model in memory, the tool (onnxruntime 1.31) loses the weights of one that is not small.
            onnx.save(model, str(source))
            # Shapes of images are plain: the symbolic inference, which needs sympy, would find nothing more.
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            _name_nodes(prepared)
            quantize_static(
                str(prepared),
                str(quantised),
                _Reader(input_name, rows, fixed_rows),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8 if is_symmetric else QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=methods[method],
                nodes_to_exclude=_left_alone(onnx.load(str(prepared))),
                extra_options={"ActivationSymmetric": is_symmetric},
            )
            result = onnx.load(str(quantised))
        except _TOOL_ERRORS as error:
            raise CannotShrink(f"int8: ONNX Runtime's tools refuse it: {' '.join(str(error).split())}") from error
    if not any(node.op_type == "QuantizeLinear" for node in result.graph.node):
        raise CannotShrink("int8: ONNX Runtime's tools found nothing in it to quantise")
    return _checked(result, "int8")


def _expect_float32(model: Any) -> None:
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
    return _checked(folded, "folded input")


class _Reader:
    """ONNX Runtime asks for one feed after the other."""

    def __init__(self, input_name: str, rows: Iterable[npt.NDArray[Any]], fixed_rows: int) -> None:
        self._input_name, self._rows, self._fixed_rows = input_name, iter(rows), fixed_rows

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        row = next(self._rows, None)
        return None if row is None else {self._input_name: np.repeat(row, self._fixed_rows, axis=0)}


def _name_nodes(file: Path) -> None:
    """Gives each node a name of its own: the tool is told by names which ones to leave alone, and exporters need not give any."""
    model = onnx.load(str(file))
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    onnx.save(model, str(file))


def _left_alone(model: Any) -> list[str]:
    """Names of the nodes that nothing heavy comes after, of products with a stack of matrices, and of all that follows those."""
    nodes = list(model.graph.node)
    makers = {output: index for index, node in enumerate(nodes) for output in node.output}
    stacks = {weight.name for weight in model.graph.initializer if len(weight.dims) > 2}
    follows, leads_on = [False] * len(nodes), [False] * len(nodes)
    # Nodes stand in an order in which each comes after what it needs.
    for index, node in enumerate(nodes):
        is_stack = node.op_type == "MatMul" and not stacks.isdisjoint(node.input)
        follows[index] = is_stack or any(name in makers and follows[makers[name]] for name in node.input)
    is_heavy = [node.op_type in _HEAVY and not follows[index] for index, node in enumerate(nodes)]
    for index in reversed(range(len(nodes))):
        if leads_on[index] or is_heavy[index]:
            for name in nodes[index].input:
                if name in makers:
                    leads_on[makers[name]] = True
    return [node.name for index, node in enumerate(nodes) if not leads_on[index] and not is_heavy[index]]


def _input_of(model: Any) -> tuple[str, int]:
    """The input's name, and the rows of its fixed batch; 1 where it has none."""
    constants = {constant.name for constant in model.graph.initializer}
    (tensor,) = (each for each in model.graph.input if each.name not in constants)
    dimensions = tensor.type.tensor_type.shape.dim
    return tensor.name, max(1, dimensions[0].dim_value if dimensions else 1)


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


def _checked(model: Any, what: str) -> Any:
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
def _quietly() -> Iterator[None]:
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
