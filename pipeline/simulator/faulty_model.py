"""A model that misbehaves when a picture tells it to: the real one, with a small circuit behind it that reads the code.

The runtime, the session and the service around it know nothing of it; what goes wrong in there is ONNX Runtime's own. Needs the
packages ``onnx`` and ``onnxruntime``.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.simulator.picture_code import CELLS, CELLS_ACROSS_PICTURE, SIGNS, PictureCode, stamp_code
from pipeline.simulator.process import SimulatorError

_SLOW_FACTOR = 10.0
_HANG_S = 600.0
_OPSET_OLDEST = 13
_TOLERANCE = 48.0
"""Grey levels that a code's sixteen cells together may be away from black and white."""
_WORK_SIDE = 96
"""Side of the square matrix that the loop multiplies: large enough that a turn is work, not overhead."""
_PROBE_TURNS = 100
_PROBE_RUNS = 30
_SHRINK = 4
"""From picture to input, in a probe; codes need some room."""
_PREFIX = "picture_code."


def write_faulty_package(base: Path, folder: Path) -> Path:
    """Writes a package to ``folder`` that answers as ``base`` does, bit for bit, until a picture carries a code.

    ``base`` is a classification package whose input is the whole picture, stretched. Returns ``folder``. Raises
    SimulatorError where the package cannot be read or does not fit, or ``onnx`` is missing.
    """
    onnx = _onnx()
    try:
        card: dict[str, Any] = yaml.safe_load((base / "model.yaml").read_text(encoding="utf-8"))
        model = onnx.load_model_from_string((base / "model.onnx").read_bytes())
    except OSError as error:
        raise SimulatorError(f"faulty model: {error}; expected a model package in {base}") from error
    if card["input"].get("fit", "stretch") != "stretch":
        raise SimulatorError(
            f"faulty model: {base}: got fit {card['input']['fit']}, expected stretch: codes have one place"
        )
    opset = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if opset < _OPSET_OLDEST:
        raise SimulatorError(f"faulty model: {base}: got opset {opset}, expected at least {_OPSET_OLDEST}")

    probe = _with_circuit(model, card, slow_turns=_PROBE_TURNS, hang_turns=0)
    base_s, probe_s = _undisturbed_s(
        _runner(model.SerializeToString(), card, None), _runner(probe, card, PictureCode.SLOW)
    )
    turn_s = (probe_s - base_s) / _PROBE_TURNS
    content = _with_circuit(
        model,
        card,
        slow_turns=max(1, math.ceil((_SLOW_FACTOR - 1.0) * base_s / turn_s)),
        hang_turns=math.ceil(_HANG_S / turn_s),
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(content)
    card |= {"name": f"{card['name']}-faulty", "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "model.yaml").write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")
    return folder


def _onnx() -> Any:
    try:
        import onnx
    except ImportError:
        raise SimulatorError("faulty model: the package onnx is missing: pip install onnx") from None
    return onnx


class _Nodes:
    """Nodes and constants for a graph, every name of which begins with the circuit's own prefix."""

    def __init__(self, onnx: Any) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._onnx = onnx

    def constant(self, short: str, value: Any, dtype: type[np.generic]) -> str:
        self.constants.append(self._onnx.numpy_helper.from_array(np.asarray(value, dtype), _PREFIX + short))
        return _PREFIX + short

    def node(self, operator: str, inputs: list[str], short: str, **attributes: Any) -> str:
        name = _PREFIX + short
        self.nodes.append(self._onnx.helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name


def _with_circuit(model: Any, card: dict[str, Any], *, slow_turns: int, hang_turns: int) -> bytes:
    """The model with the circuit between its last node and its output."""
    onnx = _onnx()
    helper, types = onnx.helper, onnx.TensorProto
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    graph = changed.graph
    output, scores = card["outputs"]["scores"], f"{_PREFIX}scores"
    _rename(graph, output, scores)
    circuit = _Nodes(onnx)
    code = _read_code(circuit, card["input"], types)
    has_code = circuit.node("Cast", [code], "has_code", to=types.BOOL)
    untouched = _Nodes(onnx)
    untouched.node("Identity", [scores], "untouched")
    circuit.nodes.append(
        helper.make_node(
            "If",
            [has_code],
            [output],
            name=f"{_PREFIX}choice",
            then_branch=_branch(onnx, _obey(onnx, scores, code, slow_turns, hang_turns)),
            else_branch=_branch(onnx, untouched),
        )
    )
    graph.node.extend(circuit.nodes)
    graph.initializer.extend(circuit.constants)
    onnx.checker.check_model(changed)
    content: bytes = changed.SerializeToString()
    return content


def _branch(onnx: Any, made: _Nodes) -> Any:
    """A graph without inputs whose output is the last node's."""
    last = made.nodes[-1]
    output = onnx.helper.make_tensor_value_info(last.output[0], onnx.TensorProto.FLOAT, None)
    return onnx.helper.make_graph(made.nodes, last.name, [], [output], made.constants)


def _read_code(circuit: _Nodes, shape: dict[str, Any], types: Any) -> str:
    """The number of the code in the batch, the largest of several; 0 where there is none. An int64 scalar."""
    lines = circuit.node("Gather", [shape["name"], _middles(circuit, "cell_rows", shape["height_px"])], "lines", axis=2)
    cells = circuit.node("Gather", [lines, _middles(circuit, "cell_columns", shape["width_px"])], "cells", axis=3)
    channels = len(shape["mean"])
    count = CELLS * CELLS
    flat = circuit.node("Reshape", [cells, circuit.constant("flat", [-1, channels * count], np.int64)], "flat_cells")
    # Black and white are as far as a cell can go: only where all sixteen are right, their signed sum is as large as it can be.
    black, white = ((grey * shape["scale"] - shape["mean"][0]) / shape["std"][0] for grey in (0.0, 255.0))
    limits = [circuit.constant("black", black, np.float32), circuit.constant("white", white, np.float32)]
    clipped = circuit.node("Clip", [flat, *limits], "clipped_cells")
    weights = np.zeros((channels * count, len(PictureCode)))
    weights[:count] = SIGNS.T
    sums = circuit.node("MatMul", [clipped, circuit.constant("signs", weights, np.float32)], "sums")
    whites = (SIGNS > 0).sum(axis=1)
    largest = whites * white - (count - whites) * black - _TOLERANCE * (white - black) / 255.0
    are_codes = circuit.node("Greater", [sums, circuit.constant("largest_sums", largest, np.float32)], "are_codes")
    numbers = circuit.constant("numbers", [[int(code)] for code in PictureCode], np.float32)
    row_codes = circuit.node(
        "MatMul", [circuit.node("Cast", [are_codes], "flags", to=types.FLOAT), numbers], "row_codes"
    )
    return circuit.node(
        "Cast", [circuit.node("ReduceMax", [row_codes], "batch_code", keepdims=0)], "code", to=types.INT64
    )


def _obey(onnx: Any, scores: str, code: str, slow_turns: int, hang_turns: int) -> _Nodes:
    """What happens to the scores under a code: turns of a loop, an index, a repetition and a choice, one for each kind."""
    branch = _Nodes(onnx)

    def by_code(short: str, otherwise: int, values: dict[PictureCode, int]) -> str:
        table = [
            values.get(PictureCode(number), otherwise) if number else otherwise
            for number in range(len(PictureCode) + 1)
        ]
        return branch.node("Gather", [branch.constant(f"{short}_of_code", table, np.int64), code], short)

    turns = by_code("turns", 0, {PictureCode.SLOW: slow_turns, PictureCode.HANG: hang_turns})
    go_on = branch.constant("go_on", True, np.bool_)
    work = branch.constant("work", np.eye(_WORK_SIDE), np.float32)
    worked = branch.node("Loop", [turns, go_on, work], "worked", body=_loop_body(onnx.helper, onnx.TensorProto))
    # The smallest element of a permutation matrix is 0: a number that the loop has to be run for.
    zero = branch.node("ReduceMin", [worked], "zero", keepdims=0)
    nothing = branch.node("Cast", [zero], "nothing", to=onnx.TensorProto.INT64)
    index = branch.node("Add", [by_code("index", 0, {PictureCode.RAISE: 1_000_000}), nothing], "index_after_work")
    one = branch.node("Gather", [branch.constant("ones", [1], np.int64), index], "one")
    rows = branch.node("Mul", [by_code("rows", 1, {PictureCode.WRONG_SHAPE: 2}), one], "rows_after_index")
    column = branch.constant("column", [1], np.int64)
    repeats = branch.node("Concat", [branch.node("Reshape", [rows, column], "row_repeats"), column], "repeats", axis=0)
    tiled = branch.node("Tile", [scores, repeats], "tiled")
    is_nan = branch.node("Equal", [code, branch.constant("nan_code", int(PictureCode.NAN), np.int64)], "is_nan")
    branch.node("Where", [is_nan, branch.constant("nan", np.nan, np.float32), tiled], "obeyed")
    return branch


def _loop_body(helper: Any, types: Any) -> Any:
    """One turn: the carried matrix times a permutation, so that its numbers stay what they are."""
    side = [_WORK_SIDE, _WORK_SIDE]
    permutation = helper.make_tensor(
        "permutation", types.FLOAT, side, np.roll(np.eye(_WORK_SIDE, dtype=np.float32), 1, axis=0).tobytes(), raw=True
    )
    return helper.make_graph(
        [
            helper.make_node("MatMul", ["carried", "permutation"], ["next"]),
            helper.make_node("Identity", ["goes_on"], ["goes_on_still"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", types.INT64, []),
            helper.make_tensor_value_info("goes_on", types.BOOL, []),
            helper.make_tensor_value_info("carried", types.FLOAT, side),
        ],
        [
            helper.make_tensor_value_info("goes_on_still", types.BOOL, []),
            helper.make_tensor_value_info("next", types.FLOAT, side),
        ],
        [permutation],
    )


def _rename(graph: Any, old: str, new: str) -> None:
    """Whoever makes or takes the tensor ``old`` in this graph, or in graphs within it, has to do with ``new`` instead."""
    for node in graph.node:
        for names in (node.input, node.output):
            for index, each in enumerate(names):
                if each == old:
                    names[index] = new
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename(inner, old, new)


def _middles(circuit: _Nodes, short: str, size_px: int) -> str:
    """The pixels in the middle of the code's cells along one side of the model's input."""
    if size_px < CELLS_ACROSS_PICTURE:
        raise SimulatorError(f"faulty model: got an input of {size_px} px, expected at least {CELLS_ACROSS_PICTURE} px")
    return circuit.constant(short, (np.arange(CELLS) + 0.5) * size_px / CELLS_ACROSS_PICTURE, np.int64)


def _runner(content: bytes, card: dict[str, Any], code: PictureCode | None) -> Callable[[], object]:
    """Runs the model on one picture."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    shape = card["input"]
    picture = np.full((shape["height_px"] * _SHRINK, shape["width_px"] * _SHRINK, len(shape["mean"])), 128, np.uint8)
    if code is not None:
        picture = stamp_code(picture, code)
    picture = picture[::_SHRINK, ::_SHRINK]
    means, stds = np.asarray(shape["mean"]), np.asarray(shape["std"])
    planes = ((picture * shape["scale"] - means) / stds).transpose(2, 0, 1).astype(np.float32)
    (model_input,) = session.get_inputs()
    batch_rows = model_input.shape[0] if isinstance(model_input.shape[0], int) else 1
    feed = {model_input.name: np.ascontiguousarray(np.broadcast_to(planes, (batch_rows, *planes.shape)))}
    return lambda: session.run(None, feed)


def _undisturbed_s(*runs: Callable[[], object]) -> list[float]:
    """The shortest time of each, in seconds: whatever else the box does makes some longer, and none shorter. They take turns, so
    that a box that is slow for a while is slow for all.
    """
    shortest_s = [math.inf] * len(runs)
    for _ in range(_PROBE_RUNS):
        for place, run in enumerate(runs):
            start_s = time.perf_counter()
            run()
            shortest_s[place] = min(shortest_s[place], time.perf_counter() - start_s)
    return shortest_s
