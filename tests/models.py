"""Tiny ONNX models and packages for tests."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from vision.geometry import BoxPx, RowGeometry

STUB_CLASSES = ("functional", "defective")
OPSET = 17


def write_stub_package(
    folder: Path,
    *,
    width_px: int = 16,
    height_px: int = 16,
    channel_count: int = 1,
    batch: int | str | None = "N",
    card: dict[str, Any] | None = None,
) -> Path:
    """Writes a package whose model says P(defective) = mean grey level / 255 of the region; returns the folder.

    ``card`` replaces keys of the card, its ``input`` key by key; None removes a key.
    """
    shape = [batch, channel_count, height_px, width_px]
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
                helper.make_node("Reshape", ["mean", "column"], ["defective"]),
                helper.make_node("Sub", ["one", "defective"], ["functional"]),
                helper.make_node("Concat", ["functional", "defective"], ["probabilities"], axis=1),
            ],
            "stub",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [batch, 2])],
            [
                numpy_helper.from_array(np.array([-1, 1], np.int64), "column"),
                numpy_helper.from_array(np.array([1.0], np.float32), "one"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    return write_package(folder, model, stub_card(width_px, height_px, channel_count), card)


def write_nan_package(folder: Path, *, only_when_bright: bool = False) -> Path:
    """A package like the stub's whose model answers NaN: always, or only for a region whose mean is above one half."""
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Reshape", ["mean", "column"], ["level"]),
        helper.make_node("Greater", ["level", "half"], ["is_bright"]),
        helper.make_node("Where", ["is_bright", "nan", "level" if only_when_bright else "nan"], ["defective"]),
        helper.make_node("Sub", ["one", "defective"], ["functional"]),
        helper.make_node("Concat", ["functional", "defective"], ["probabilities"], axis=1),
    ]
    constants: dict[str, npt.NDArray[Any]] = {
        "column": np.array([-1, 1], np.int64),
        "half": np.array([0.5], np.float32),
        "one": np.array([1.0], np.float32),
        "nan": np.array([np.nan], np.float32),
    }
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "nan",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 16, 16])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    return write_package(folder, model, stub_card(16, 16, 1))


def stub_card(width_px: int, height_px: int, channel_count: int) -> dict[str, Any]:
    """The stub's card, less its hash."""
    return {
        "name": "stub",
        "version": "1.0.0",
        "task": "classification",
        "input": {
            "name": "image",
            "width_px": width_px,
            "height_px": height_px,
            "colour_order": "GRAY" if channel_count == 1 else "RGB",
            "layout": "NCHW",
            "scale": 1.0 / 255.0,
            "mean": [0.0] * channel_count,
            "std": [1.0] * channel_count,
            "fit": "stretch",
        },
        "outputs": {"scores": "probabilities"},
        "classes": list(STUB_CLASSES),
        "decoder": {"kind": "classification", "activation": "none"},
        "thresholds": {"defective": 0.5},
        "licence": "Apache-2.0",
    }


def write_package(
    folder: Path, model: onnx.ModelProto, card: dict[str, Any], changes: dict[str, Any] | None = None
) -> Path:
    """Writes ``model.onnx`` and ``model.yaml`` with the model's hash and ``changes`` applied; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    card = {**card, "sha256": hashlib.sha256(content).hexdigest()}
    for key, value in (changes or {}).items():
        card[key] = {**card[key], **value} if key == "input" and isinstance(value, dict) else value
    card = {key: value for key, value in card.items() if value is not None}
    (folder / "model.yaml").write_text(yaml.safe_dump(card, sort_keys=False), encoding="utf-8")
    return folder


def geometry_of(region_px: BoxPx, input_width_px: int, input_height_px: int) -> RowGeometry:
    """A region of the frame, stretched to the model's input."""
    x1, y1, x2, y2 = region_px
    return RowGeometry(
        region_px=region_px,
        input_width_px=input_width_px,
        input_height_px=input_height_px,
        left_px=0,
        top_px=0,
        shown_width_px=input_width_px,
        shown_height_px=input_height_px,
        origin_x_px=x1,
        origin_y_px=y1,
        step_x_px=(x2 - x1) / input_width_px,
        step_y_px=(y2 - y1) / input_height_px,
    )
