"""Float32 in, int8 out, and how much of it has to stay float. ONNX Runtime's own tools do the arithmetic."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime

from pipeline.shrink.graph import TOOL_ERRORS, CannotShrink, checked, expect_float32, quietly

CalibrationMethod = Literal["minmax", "entropy", "percentile"]
Rows = Callable[[], Iterable[npt.NDArray[Any]]]

_OPSET_MIN = 13
"""The first in which QuantizeLinear has an axis: one scale for each channel."""
_HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})

FLOAT_SHARES = (0.0, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Of the products, from the input on, those that stay float: the first of these that keeps to ``NOISE_MAX`` is taken."""

NOISE_MAX = 0.1
"""Of the usual spread of an output."""

_NOISE_ROWS = 32
"""So many tell it."""


@dataclass(frozen=True, slots=True)
class Int8:
    """``noise``: by how much outputs differ from those of the original, as a share of how much they differ from image to image
    (root mean squares; of several outputs the largest); None where they cannot be compared. The first ``float_count`` of
    ``product_count`` products stayed float, and so did what comes before them.
    """

    model: Any
    noise: float | None
    float_count: int
    product_count: int


def to_int8(model: Any, rows: Rows, *, method: CalibrationMethod = "minmax", is_symmetric: bool = False) -> Int8:
    """Static int8 with Q/DQ nodes: weights with a scale for each channel, activations with ranges as ``rows`` have them.

    ``rows``: gives what the model's input looks like, (1, channels, height, width) each, as often as it is called. Activations are
    uint8, which CPUs are quick with; ``is_symmetric``: int8 with zero points of 0, as TensorRT wants it. What comes after the last
    convolution or matrix product stays float: it is cheap, and where boxes in pixels and scores up to 1 share a tensor no one scale
    fits both. So do products with a stack of matrices, for which ONNX Runtime has no int8, and what comes after them.

    Of the first products as many stay float as it takes: what one scale for a whole tensor loses of the first ones, all that
    follow magnify. Where none of ``FLOAT_SHARES`` keeps to ``NOISE_MAX``, it is the one with the least noise. Raises CannotShrink.
    """
    opset = max((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), default=0)
    if opset < _OPSET_MIN:
        raise CannotShrink(
            f"opset: got {opset}, expected at least {_OPSET_MIN}: export the model again with a newer one"
        )
    expect_float32(model)
    with tempfile.TemporaryDirectory(prefix="lineside-quantize-") as folder, quietly():
        try:
            return _least_float(model, Path(folder), rows, method, is_symmetric=is_symmetric)
        except TOOL_ERRORS as error:
            raise CannotShrink(f"int8: ONNX Runtime's tools refuse it: {' '.join(str(error).split())}") from error


def _least_float(model: Any, folder: Path, rows: Rows, method: CalibrationMethod, *, is_symmetric: bool) -> Int8:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source, prepared = folder / "source.onnx", folder / "prepared.onnx"
    # From a file: given a model in memory, the tool (onnxruntime 1.31) loses the weights of one that is not small.
    onnx.save(model, str(source))
    # Shapes of images are plain: the symbolic inference, which needs sympy, would find nothing more.
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    _name_nodes(prepared)
    whole = onnx.load(str(prepared))
    nodes = _Nodes(whole)
    reader = _Reader(*_input_of(model), rows)
    original = _Outputs(whole, reader)
    best: Int8 | None = None
    for count in sorted({round(share * nodes.product_count) for share in FLOAT_SHARES}):
        small = _quantised(prepared, folder / "quantised.onnx", reader, nodes.left_alone(count), method, is_symmetric)
        found = Int8(small, original.noise(small), count, nodes.product_count)
        if best is None or best.noise is None or (found.noise is not None and found.noise < best.noise):
            best = found
        if best.noise is None or best.noise <= NOISE_MAX:
            break
    assert best is not None
    return best


def _quantised(
    prepared: Path, file: Path, reader: _Reader, left_alone: list[str], method: CalibrationMethod, is_symmetric: bool
) -> Any:
    from onnxruntime.quantization import CalibrationMethod as Method
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    methods = {"minmax": Method.MinMax, "entropy": Method.Entropy, "percentile": Method.Percentile}
    reader.rewind()
    quantize_static(
        str(prepared),
        str(file),
        reader,
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QInt8 if is_symmetric else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=methods[method],
        nodes_to_exclude=left_alone,
        extra_options={"ActivationSymmetric": is_symmetric},
    )
    result = onnx.load(str(file))
    if not any(node.op_type == "QuantizeLinear" for node in result.graph.node):
        raise CannotShrink("int8: ONNX Runtime's tools found nothing in it to quantise")
    return checked(result, "int8")


class _Reader:
    """ONNX Runtime asks for one feed after the other."""

    def __init__(self, input_name: str, fixed_rows: int, rows: Rows) -> None:
        self._input_name, self._fixed_rows, self._rows = input_name, fixed_rows, rows
        self._next = self.feeds()

    def rewind(self) -> None:
        self._next = self.feeds()

    def feeds(self) -> Iterator[dict[str, npt.NDArray[Any]]]:
        """All of them, from the first on."""
        for row in self._rows():
            yield {self._input_name: np.repeat(row, self._fixed_rows, axis=0)}

    def get_next(self) -> dict[str, npt.NDArray[Any]] | None:
        return next(self._next, None)


class _Outputs:
    """What the original answers to the first rows, and by how much another model differs from it."""

    def __init__(self, model: Any, reader: _Reader) -> None:
        self._original, self._reader = _opened(model), reader

    def noise(self, model: Any) -> float | None:
        """As in ``Int8``; of outputs of numbers, of one shape for all images and not the same for all."""
        other = _opened(model)
        names = [tensor.name for tensor in self._original.get_outputs() if tensor.type == "tensor(float)"]
        spreads: dict[str, _Spread] = {name: _Spread() for name in names}
        for feed in islice(self._reader.feeds(), _NOISE_ROWS):
            answers = zip(names, self._original.run(names, feed), other.run(names, feed), strict=True)
            for name, one, two in answers:
                if name in spreads and not spreads[name].add(one, two):
                    del spreads[name]
        return max((each.noise for each in spreads.values() if each.noise is not None), default=None)


class _Spread:
    """Of one output, element by element."""

    def __init__(self) -> None:
        self._count = 0
        self._sum = self._squares = self._differences = np.zeros(())

    def add(self, one: npt.NDArray[Any], other: npt.NDArray[Any]) -> bool:
        """Whether they can be compared."""
        if one.shape != other.shape or (self._count and one.shape != self._sum.shape):
            return False
        value = one.astype(np.float64)
        self._count += 1
        self._sum = self._sum + value
        self._squares = self._squares + value**2
        self._differences = self._differences + (other - value) ** 2
        return bool(np.isfinite(self._squares).all() and np.isfinite(self._differences).all())

    @property
    def noise(self) -> float | None:
        """None where all images are answered alike."""
        if self._count == 0:
            return None
        variance = float((self._squares / self._count - (self._sum / self._count) ** 2).mean())
        scale = float((self._squares / self._count).mean())
        if variance <= np.finfo(np.float32).eps * scale:
            return None
        return float((float((self._differences / self._count).mean()) / variance) ** 0.5)


def _opened(model: Any) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _name_nodes(file: Path) -> None:
    """Gives each node a name of its own: the tool is told by names which ones to leave alone, and exporters need not give any."""
    model = onnx.load(str(file))
    for index, node in enumerate(model.graph.node):
        node.name = f"{node.op_type}_{index}"
    onnx.save(model, str(file))


class _Nodes:
    """The nodes of a graph, in an order in which each comes after what it needs."""

    def __init__(self, model: Any) -> None:
        nodes = list(model.graph.node)
        makers = {output: index for index, node in enumerate(nodes) for output in node.output}
        stacks = {weight.name for weight in model.graph.initializer if len(weight.dims) > 2}
        follows, leads_on = [False] * len(nodes), [False] * len(nodes)
        for index, node in enumerate(nodes):
            is_stack = node.op_type == "MatMul" and not stacks.isdisjoint(node.input)
            follows[index] = is_stack or any(name in makers and follows[makers[name]] for name in node.input)
        is_heavy = [node.op_type in _HEAVY and not follows[index] for index, node in enumerate(nodes)]
        for index in reversed(range(len(nodes))):
            if leads_on[index] or is_heavy[index]:
                for name in nodes[index].input:
                    if name in makers:
                        leads_on[makers[name]] = True
        self._names = [node.name for node in nodes]
        self._products = [index for index in range(len(nodes)) if is_heavy[index]]
        self._light = [index for index in range(len(nodes)) if not leads_on[index] and not is_heavy[index]]

    @property
    def product_count(self) -> int:
        """Those that can be quantised."""
        return len(self._products)

    def left_alone(self, float_count: int) -> list[str]:
        """Names of the nodes that nothing heavy comes after, of products with a stack of matrices, of all that follows those, and
        of the first ``float_count`` products with what comes before them.
        """
        first = self._products[float_count - 1] + 1 if float_count else 0
        return [self._names[index] for index in sorted({*range(first), *self._light})]


def _input_of(model: Any) -> tuple[str, int]:
    """The input's name, and the rows of its fixed batch; 1 where it has none."""
    constants = {constant.name for constant in model.graph.initializer}
    (tensor,) = (each for each in model.graph.input if each.name not in constants)
    dimensions = tensor.type.tensor_type.shape.dim
    return tensor.name, max(1, dimensions[0].dim_value if dimensions else 1)
