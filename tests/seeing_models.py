"""Hand-made ONNX models that see something: bright blobs as a detector's boxes, unevenness as an anomaly map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.models import OPSET, write_package

SIDE_PX = 64
CELL_PX = 8
CELLS = SIDE_PX // CELL_PX
BOX_PX = 12
BLOB_CLASSES = ("bright", "dark")


def write_blob_package(folder: Path, **changes: Any) -> Path:
    """A detector in the layout of YOLOv8: a candidate a cell of 8 x 8 pixels, its score for ``bright`` the cell's mean grey level,
    for ``dark`` what that is below 0.25, fourfold. Its box is 12 x 12 around the cell, so that neighbours overlap.
    """
    middles = (np.arange(CELLS, dtype=np.float32) + 0.5) * CELL_PX
    x, y = np.meshgrid(middles, middles)
    sizes = np.full(CELLS * CELLS, BOX_PX, np.float32)
    boxes = np.stack([x.ravel(), y.ravel(), sizes, sizes])[None]
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[CELL_PX] * 2, strides=[CELL_PX] * 2),
        helper.make_node("Reshape", ["pooled", "flat"], ["bright"]),
        helper.make_node("Mul", ["bright", "four"], ["brighter"]),
        helper.make_node("Sub", ["one", "brighter"], ["darker"]),
        helper.make_node("Relu", ["darker"], ["dark"]),
        helper.make_node("Mul", ["bright", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "boxes"], ["placed"]),
        helper.make_node("Concat", ["placed", "bright", "dark"], ["output0"], axis=1),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "flat": np.array([-1, 1, CELLS * CELLS], np.int64),
        "four": np.array([4.0], np.float32),
        "one": np.array([1.0], np.float32),
        "zero": np.array([0.0], np.float32),
        "boxes": boxes,
    }
    card = {
        **_card("blobs", "detection"),
        "outputs": {"predictions": "output0"},
        "classes": list(BLOB_CLASSES),
        "decoder": {"kind": "yolov8", "score_min": 0.3, "iou_max": 0.1},
        "thresholds": {"bright": 0.5},
    }
    output = helper.make_tensor_value_info("output0", TensorProto.FLOAT, ["N", 6, CELLS * CELLS])
    return write_package(folder, _model("blobs", nodes, [output], constants), card, changes)


def write_heat_package(folder: Path, **changes: Any) -> Path:
    """An anomaly model: how far 4 x 4 pixels are from a mean grey of one half, twofold, and the highest of that."""
    return _write_heat_package(folder, np.array([0.5], np.float32), None, changes)


def write_views_package(folder: Path, greys: Mapping[str, float], **changes: Any) -> Path:
    """The same for views by name, each with a usual grey of its own, 0 to 1: a row of a fixed batch each."""
    usual = np.array(list(greys.values()), np.float32).reshape(-1, 1, 1, 1)
    return _write_heat_package(folder, usual, list(greys), changes)


def _write_heat_package(
    folder: Path, usual: npt.NDArray[np.float32], views: list[str] | None, changes: dict[str, Any]
) -> Path:
    rows = "N" if views is None else len(views)
    nodes = [
        helper.make_node("AveragePool", ["image"], ["pooled"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Sub", ["pooled", "usual"], ["off"]),
        helper.make_node("Abs", ["off"], ["far"]),
        helper.make_node("Mul", ["far", "two"], ["anomaly_map"]),
        helper.make_node("ReduceMax", ["anomaly_map"], ["pred_score"], axes=[1, 2, 3], keepdims=0),
    ]
    constants = {"usual": usual, "two": np.array([2.0], np.float32)}
    card = {
        **_card("heat", "anomaly"),
        "outputs": {"anomaly_map": "anomaly_map", "pred_score": "pred_score"},
        "classes": ["anomaly", "hot_region"],
        "decoder": {"kind": "anomaly"},
        "thresholds": {"anomaly": 0.6},
    }
    if views is not None:
        card["input"]["views"] = views
    outputs = [
        helper.make_tensor_value_info("anomaly_map", TensorProto.FLOAT, [rows, 1, SIDE_PX // 4, SIDE_PX // 4]),
        helper.make_tensor_value_info("pred_score", TensorProto.FLOAT, [rows]),
    ]
    return write_package(folder, _model("heat", nodes, outputs, constants, rows), card, changes)


def _card(name: str, task: str) -> dict[str, Any]:
    return {
        "name": name,
        "version": "1.0.0",
        "task": task,
        "input": {
            "name": "image",
            "width_px": SIDE_PX,
            "height_px": SIDE_PX,
            "colour_order": "GRAY",
            "scale": 1.0 / 255.0,
            "mean": [0.0],
            "std": [1.0],
            "fit": "letterbox" if task == "detection" else "stretch",
        },
        "licence": "Apache-2.0",
    }


def _model(
    name: str, nodes: list[Any], outputs: list[Any], constants: dict[str, npt.NDArray[Any]], rows: int | str = "N"
) -> onnx.ModelProto:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [rows, 1, SIDE_PX, SIDE_PX])
    initializers = [numpy_helper.from_array(value, key) for key, value in constants.items()]
    graph = helper.make_graph(nodes, name, [image], outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
