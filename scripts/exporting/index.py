"""Copies of exports without their metadata, and an index of what is in each file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from exporting.common import keep

STRIPPED = ("v8n", "yolo26n-e2e", "v8n-seg", "v8n-cls", "resnet18", "lraspp", "anomalib2-padim", "yolov5n")


def make(out: Path, only: set[str]) -> None:
    """Copies with no metadata, no producer and names that say nothing."""
    for name in STRIPPED:
        source = out / f"{name}.onnx"
        if (only and name not in only) or not source.is_file():
            continue
        model = onnx.load(str(source))
        del model.metadata_props[:]
        model.producer_name = model.producer_version = model.doc_string = model.graph.doc_string = ""
        model.graph.name = "graph"
        renamed = {tensor.name: f"x{index}" for index, tensor in enumerate(model.graph.input)}
        renamed |= {tensor.name: f"y{index}" for index, tensor in enumerate(model.graph.output)}
        for tensor in (*model.graph.input, *model.graph.output):
            tensor.name = renamed[tensor.name]
        for node in model.graph.node:
            node.doc_string = node.name = ""
            del node.metadata_props[:]
            for names in (node.input, node.output):
                names[:] = [renamed.get(each, each) for each in names]
        target = f"stripped-{name}"
        onnx.save(model, str(out / f"{target}.onnx"))
        with np.load(out / f"{name}.npz") as kept:
            arrays = {key: kept[key] for key in kept.files if not key.startswith("output.")}
        story = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
        keep(
            out, target, out / f"{target}.onnx", arrays,
            exporter=story["exporter"], command=f"{name}.onnx, its names and metadata removed",
            task=story["task"], settings=story["settings"],
        )  # fmt: skip


def write_index(out: Path) -> None:
    """INDEX.md: every export with what is in the file."""
    rows = []
    for path in sorted(path for path in out.glob("*.json") if path.with_suffix(".npz").is_file()):
        story = json.loads(path.read_text(encoding="utf-8"))
        model = onnx.load(str(path.with_suffix(".onnx")), load_external_data=False)
        with np.load(path.with_suffix(".npz")) as arrays:
            kept = ", ".join(f"{key} {arrays[key].shape}" for key in arrays.files if not key.startswith("output."))
        opsets = ", ".join(f"{opset.domain or 'ai.onnx'} {opset.version}" for opset in model.opset_import)
        metadata = "".join(f"  - `{prop.key}` = `{prop.value}`\n" for prop in model.metadata_props)
        external = any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer)
        rows.append(
            f"## {path.stem}.onnx ({path.with_suffix('.onnx').stat().st_size / 1e6:.1f} MB"
            f"{', weights in a file beside it' if external else ''})\n\n"
            f"- task {story['task']}; settings {json.dumps(story['settings'])}\n"
            f"- exporter {story['exporter']}; producer `{model.producer_name} {model.producer_version}`; "
            f"IR {model.ir_version}; {opsets}\n"
            f"- command: `{story['command']}`\n"
            f"- inputs: {_tensors(model.graph.input)}; outputs: {_tensors(model.graph.output)}\n"
            f"- kept: {kept}\n"
            f"- metadata:{'' if metadata else ' none'}\n{metadata}"
        )
    notes = out / "NOTES.md"
    text = notes.read_text(encoding="utf-8") if notes.is_file() else ""
    (out / "INDEX.md").write_text(text + "\n# Files\n\n" + "\n".join(rows), encoding="utf-8")


def _tensors(tensors: Any) -> str:
    def shape(tensor: Any) -> str:
        return "x".join(dim.dim_param or str(dim.dim_value) for dim in tensor.type.tensor_type.shape.dim)

    def dtype(tensor: Any) -> str:
        return str(onnx.TensorProto.DataType.Name(tensor.type.tensor_type.elem_type)).lower()

    return ", ".join(f"`{tensor.name}` {dtype(tensor)} {shape(tensor)}" for tensor in tensors)
