"""The outside of files as exporters write them: inputs, outputs, metadata and the last operators, and nothing that runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

Shape = Sequence[int | str]
Output = tuple[str, Shape, str, int]
"""Name, shape, the operator that makes it (Clip: to 0..1), element type."""

SOFTMAX_OF_IMAGES = "Softmax of images"
"""Over the first axis."""

FLOAT, UINT8, INT64, BOOL = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64, TensorProto.BOOL


def output(name: str, shape: Shape, maker: str = "Concat", dtype: int = FLOAT) -> Output:
    return name, shape, maker, dtype


def exported(
    *outputs: Output,
    image: Shape = (1, 3, 640, 640),
    name: str = "images",
    dtype: int = FLOAT,
    metadata: Mapping[str, str] | None = None,
    subtracts: Sequence[float] = (),
    producer: str = "pytorch",
) -> bytes:
    """``subtracts``: what the graph takes off its input first, one number a channel."""
    nodes, weights, start = [], [], name
    if subtracts:
        weights.append(numpy_helper.from_array(np.array(subtracts, np.float32).reshape(1, -1, 1, 1), "mean"))
        nodes.append(helper.make_node("Sub", [name, "mean"], ["centred"]))
        start = "centred"
    nodes.append(helper.make_node("Conv", [start, "weight"], ["features"]))
    weights += [numpy_helper.from_array(np.array(value, np.float32), f"limit {value}") for value in (0, 1)]
    for each, _, maker, _ in outputs:
        inputs = ["features", "limit 0", "limit 1"] if maker == "Clip" else ["features"]
        over_images: dict[str, Any] = {"axis": 0} if maker == SOFTMAX_OF_IMAGES else {}
        nodes.append(helper.make_node(maker.split()[0], inputs, [each], **over_images))
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info(name, dtype, list(image))],
        [helper.make_tensor_value_info(each, kind, list(shape)) for each, shape, _, kind in outputs],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8, producer_name=producer)
    helper.set_model_props(model, dict(metadata or {}))
    return bytes(model.SerializeToString())


def ultralytics(task: str = "detect", classes: int = 80, **entries: str) -> dict[str, str]:
    """Metadata as Ultralytics 8.4 writes them (``ultralytics/engine/exporter.py``): everything through ``str``."""
    metadata = {
        "description": "Ultralytics YOLO11n model trained on coco.yaml",
        "author": "Ultralytics",
        "date": "2026-01-01T00:00:00",
        "version": "8.4.0",
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
        "stride": "32",
        "task": task,
        "batch": "1",
        "imgsz": "[640, 640]",
        "names": str({index: f"class {index}" for index in range(classes)}),
        "args": "{'batch': 1, 'half': False, 'dynamic': False, 'simplify': True, 'opset': None, 'nms': False}",
        "channels": "3",
        "end2end": "False",
    }
    return metadata | entries


def yolov5(classes: int = 80) -> dict[str, str]:
    """Metadata as the YOLOv5 repository writes them (``export.py``, v6 and v7)."""
    return {"stride": "32", "names": str({index: f"class {index}" for index in range(classes)})}
