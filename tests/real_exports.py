"""A folder of real exports with what their exporters say of one image: see ``scripts/make_exports.py``."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from tests.models import write_package
from vision.decoders import DECODERS, Decoder
from vision.geometry import RowGeometry, row_geometry
from vision.model_input import ModelInput
from vision.package import ModelPackage, load_package
from vision.recipe import Region
from vision.runtime import Session, open_session
from vision.types import Findings

VARIABLE = "LINESIDE_EXPORTS"
MISSING = f"{VARIABLE} names no folder of exports: scripts/make_exports.py makes one"

_SCORES_ALREADY = {"v8n-cls", "stripped-v8n-cls", "mobilenet-softmax", "resnet18-sigmoid"}


def export_names(*tasks: str) -> list[str]:
    """The exports of these tasks; none where the variable is not set."""
    folder = os.environ.get(VARIABLE)
    paths = sorted(Path(folder).glob("*.npz")) if folder else []
    return [path.stem for path in paths if not tasks or Export(path.stem).task in tasks]


@dataclass(frozen=True)
class Export:
    """One export: its file, its story and its arrays."""

    name: str

    @property
    def folder(self) -> Path:
        return Path(os.environ[VARIABLE])

    @cached_property
    def story(self) -> dict[str, Any]:
        story: dict[str, Any] = json.loads((self.folder / f"{self.name}.json").read_text(encoding="utf-8"))
        return story

    @property
    def task(self) -> str:
        return str(self.story["task"])

    @cached_property
    def told(self) -> dict[str, npt.NDArray[Any]]:
        """What the exporter said, less the raw outputs."""
        with np.load(self.folder / f"{self.name}.npz") as arrays:
            return {key: arrays[key] for key in arrays.files if not key.startswith("output.")}

    @cached_property
    def outputs(self) -> dict[str, npt.NDArray[Any]]:
        """The raw outputs by the tensors' names, in the file's order."""
        with np.load(self.folder / f"{self.name}.npz") as arrays:
            return {key.removeprefix("output."): arrays[key] for key in arrays.files if key.startswith("output.")}

    @property
    def input(self) -> npt.NDArray[np.float32]:
        """float32 (rows, channels, height, width)."""
        return self.told["input"]

    def model(self) -> onnx.ModelProto:
        """The model in one piece, with any weights that lie in a file of their own."""
        return onnx.load(str(self.folder / f"{self.name}.onnx"))

    def card(self) -> dict[str, Any]:
        """The card that its exporter's documentation would have somebody write, less the hash."""
        settings = self.story["settings"]
        names = list(self.outputs)
        first = next(iter(self.outputs.values()))
        classes = settings.get("names", ["anomaly", "hot_region"])
        limits = {key: settings[key] for key in ("score_min", "max_findings") if key in settings}
        suppressed = limits | {"iou_max": settings.get("iou_max")}
        task, decoder, outputs = "", {}, {}
        if self.task in ("detect", "segment"):
            mask_count = self.outputs[names[1]].shape[1] if self.task == "segment" else 0
            if first.shape[2] == 6 + mask_count:
                boxes, limits = "end_to_end", limits
            else:
                boxes = "yolov5" if first.shape[2] == 5 + len(classes) + mask_count else "yolov8"
                limits = suppressed
            task, outputs = "detection", {"predictions": names[0]}
            decoder = {"kind": boxes, **limits}
            if mask_count:
                task, outputs["prototypes"] = "segmentation", names[1]
                decoder = {"kind": "instance_segmentation", "boxes": boxes, **limits}
        elif self.task == "classify":
            task, outputs = "classification", {"scores": names[0]}
            decoder = {
                "kind": "classification",
                "activation": "none" if self.name in _SCORES_ALREADY else "softmax",
            }
        elif self.task == "semantic":
            role = "labels" if first.ndim == 3 else "scores"
            task, outputs = "segmentation", {role: names[0]}
            decoder = {"kind": "semantic_segmentation", "max_findings": 10_000}
            if role == "scores":
                decoder["activation"] = "softmax" if len(classes) > 1 else "sigmoid"
        elif self.task == "anomaly":
            task, outputs = "anomaly", _anomaly_roles(self.outputs)
            decoder = {"kind": "anomaly", "max_findings": 10_000} | _anomalib_1_normalisation(settings)
        _, channel_count, height_px, width_px = self.input.shape
        is_ultralytics = self.task in ("detect", "segment")
        return {
            "name": self.name,
            "version": "1.0.0",
            "task": task,
            "input": {
                "name": self.model_input_name,
                "width_px": width_px,
                "height_px": height_px,
                "colour_order": "RGB" if channel_count == 3 else "GRAY",
                "scale": 1.0 / 255.0,
                "mean": [0.0] * channel_count,
                "std": [1.0] * channel_count,
                "fit": "letterbox" if is_ultralytics or self.name.startswith("yolo26n-sem") else "stretch",
            },
            "outputs": outputs,
            "classes": classes,
            "decoder": decoder,
            "licence": "AGPL-3.0",
        }

    @property
    def model_input_name(self) -> str:
        graph = onnx.load(str(self.folder / f"{self.name}.onnx"), load_external_data=False).graph
        return str(graph.input[0].name)


def _anomaly_roles(outputs: dict[str, npt.NDArray[Any]]) -> dict[str, str]:
    """By shape and type: Anomalib 1.x and stripped files do not name them."""
    roles = {}
    for name, tensor in outputs.items():
        is_map = tensor.ndim == 4
        if tensor.dtype == np.bool_:
            roles["pred_mask" if is_map else "pred_label"] = name
        else:
            roles["anomaly_map" if is_map else "pred_score"] = name
    return roles


def _anomalib_1_normalisation(settings: dict[str, Any]) -> dict[str, Any]:
    if "pred_scores.min" not in settings:
        return {}
    keys = {
        "image_threshold": "image_threshold",
        "image_min": "pred_scores.min",
        "image_max": "pred_scores.max",
        "pixel_threshold": "pixel_threshold",
        "pixel_min": "anomaly_maps.min",
        "pixel_max": "anomaly_maps.max",
    }
    return {"normalisation": {ours: settings[theirs] for ours, theirs in keys.items()}}


def package_of(export: Export, folder: Path, **changes: Any) -> ModelPackage:
    """The export as a package with its card; ``changes`` replace keys of the card."""
    return load_package(write_package(folder, export.model(), export.card(), changes or None))


def opened(package: ModelPackage, rows: int) -> Session:
    """A session on the CPU."""
    return open_session(
        package, provider="cpu", batch_rows=rows, intra_op_threads=1, engine_cache=None, allow_fallback=False
    )


def decoder_of(package: ModelPackage, session: Session, geometry: RowGeometry) -> Decoder:
    """As the inspector makes it."""
    card = package.card
    return DECODERS[card.decoder.kind](card.decoder, card.classes, geometry, session.formats)


def findings_in_input(export: Export, folder: Path, package: ModelPackage | None = None) -> Findings:
    """What Lineside finds where the exporter's own input is run: in pixels of that input."""
    package = package or package_of(export, folder)
    plain = package.card.input.model_copy(update={"fit": "stretch"})
    return _findings(export, package, whole(plain.width_px, plain.height_px, plain))


def findings_in_frame(export: Export, folder: Path) -> Findings:
    """The same in pixels of the frame that the input was made of."""
    package = package_of(export, folder)
    height_px, width_px = export.told["frame_bgr"].shape[:2]
    return _findings(export, package, whole(width_px, height_px, package.card.input))


def _findings(export: Export, package: ModelPackage, geometry: RowGeometry) -> Findings:
    session = opened(package, len(export.input))
    session.input[...] = export.input
    session.run()
    return decoder_of(package, session, geometry).decode(session.rows[0])


def whole(width_px: int, height_px: int, model_input: ModelInput) -> RowGeometry:
    """A region that is all of a frame of this size."""
    region = Region(name="whole", x_px=0, y_px=0, width_px=width_px, height_px=height_px)
    return row_geometry(region, model_input)
