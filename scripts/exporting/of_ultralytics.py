"""Ultralytics: YOLO of several generations and tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import ultralytics
from numpy.typing import NDArray
from ultralytics import YOLO
from ultralytics.data.augment import LetterBox
from ultralytics.utils import ops

from exporting.common import (
    IOU_MAX,
    MAX_FINDINGS,
    NAMES,
    SCORE_MIN,
    SEED,
    SIDE_PX,
    Arrays,
    frames,
    keep,
    raw_outputs,
    scratch,
    spread,
    take_batch_statistics,
    versions,
)

try:
    from ultralytics.utils.nms import non_max_suppression
except ImportError:  # until some 8.3
    from ultralytics.utils.ops import non_max_suppression

# name: configuration, input (height, width), options of export
ULTRALYTICS: dict[str, tuple[str, tuple[int, int], dict[str, Any]]] = {
    "v8n": ("yolov8n.yaml", (SIDE_PX, SIDE_PX), {}),
    "v8n-seg": ("yolov8n-seg.yaml", (SIDE_PX, SIDE_PX), {}),
    "yolo26n-e2e": ("yolo26n.yaml", (SIDE_PX, SIDE_PX), {"nms": False}),
    "v8n-nms": ("yolov8n.yaml", (SIDE_PX, SIDE_PX), {"nms": True}),
    "v8n-cls": ("yolov8n-cls.yaml", (SIDE_PX, SIDE_PX), {}),
    "v10n-e2e": ("yolov10n.yaml", (SIDE_PX, SIDE_PX), {"nms": False}),
    "v8n-seg-nms": ("yolov8n-seg.yaml", (SIDE_PX, SIDE_PX), {"nms": True}),
    "yolo26n-seg-e2e": ("yolo26n-seg.yaml", (SIDE_PX, SIDE_PX), {"nms": False}),
    "yolo26n-sem": ("yolo26n-sem.yaml", (SIDE_PX, SIDE_PX), {}),
    "v5nu": ("yolov5n.yaml", (SIDE_PX, SIDE_PX), {}),
    "v9t": ("yolov9t.yaml", (SIDE_PX, SIDE_PX), {}),
    "v11n": ("yolo11n.yaml", (SIDE_PX, SIDE_PX), {}),
    "v11n-seg": ("yolo11n-seg.yaml", (SIDE_PX, SIDE_PX), {}),
    "v11n-dynamic": ("yolo11n.yaml", (SIDE_PX, SIDE_PX), {"dynamic": True}),
    "v11n-seg-dynamic": ("yolo11n-seg.yaml", (SIDE_PX, SIDE_PX), {"dynamic": True}),
    "v11n-oblong": ("yolo11n.yaml", (128, 192), {}),
    "v8n-plain": ("yolov8n.yaml", (SIDE_PX, SIDE_PX), {"simplify": False}),
    "v8n-agnostic-nms": ("yolov8n.yaml", (SIDE_PX, SIDE_PX), {"nms": True, "agnostic_nms": True, "max_det": 40}),
    "v8n-batch4": ("yolov8n.yaml", (SIDE_PX, SIDE_PX), {"batch": 4}),
    "v8n-half": ("yolov8n.yaml", (SIDE_PX, SIDE_PX), {"half": True}),
    "v10n": ("yolov10n.yaml", (SIDE_PX, SIDE_PX), {}),
    "yolo26n": ("yolo26n.yaml", (SIDE_PX, SIDE_PX), {}),
    "yolo26n-seg": ("yolo26n-seg.yaml", (SIDE_PX, SIDE_PX), {}),
    "yolo12n": ("yolo12n.yaml", (SIDE_PX, SIDE_PX), {}),
    "v8n-one-class": ("yolov8n.yaml", (SIDE_PX, SIDE_PX), {"classes": 1}),
    "v8n-two-classes": ("yolov8n.yaml", (SIDE_PX, SIDE_PX), {"classes": 2}),
    "v8n-pose": ("yolov8n-pose.yaml", (SIDE_PX, SIDE_PX), {}),
    "v8n-obb": ("yolov8n-obb.yaml", (SIDE_PX, SIDE_PX), {}),
}
VERSIONED = {
    # Before `nms=False` chose the end-to-end head, these exported it by default.
    "v8n": ("yolov8n.yaml", (SIDE_PX, SIDE_PX), {}),
    "v10n": ("yolov10n.yaml", (SIDE_PX, SIDE_PX), {}),
    "v8n-seg": ("yolov8n-seg.yaml", (SIDE_PX, SIDE_PX), {}),
    "yolo26n": ("yolo26n.yaml", (SIDE_PX, SIDE_PX), {}),
    "yolo26n-seg": ("yolo26n-seg.yaml", (SIDE_PX, SIDE_PX), {}),
    "v8n-nms": ("yolov8n.yaml", (SIDE_PX, SIDE_PX), {"nms": True}),
}


def scale_detection_head(model: Any, batch: Any) -> None:
    """Class scores of which about half pass 0.25; boxes of a few strides; mask coefficients around zero."""
    head = model.model[-1]
    bins = -0.35 * torch.arange(head.reg_max).repeat(4) if head.reg_max > 1 else 2.5
    targets = {"cv2": (bins, 1.0 if head.reg_max > 1 else 0.5), "cv3": (-1.4, 1.5), "cv4": (0.0, 1.0)}
    for name, branches in head.named_children():
        mean, std = targets.get(name.removeprefix("one2one_"), (None, 0.0))
        if mean is not None:
            for branch in branches:
                spread(model, branch[-1], batch, mean, std)


def make(out: Path, only: set[str]) -> None:
    """Makes those of ``ULTRALYTICS``, or with an older version those of ``VERSIONED``, whose names are in ``only``, or all."""
    version = ultralytics.__version__
    is_current = tuple(map(int, version.split(".")[:3])) >= (8, 4, 100)
    table = ULTRALYTICS if is_current else {f"{name}-{version}": row for name, row in VERSIONED.items()}
    parts = frames(8)
    # Older versions leave the choice of the exporter to PyTorch, whose default has changed since.
    plain_export = torch.onnx.export
    torch.onnx.export = lambda *arguments, **options: plain_export(*arguments, **{"dynamo": False, **options})
    for name, (config, (height, width), chosen) in table.items():
        if only and name not in only:
            continue
        options = dict(chosen)
        class_count = options.pop("classes", len(NAMES))
        torch.manual_seed(SEED)
        try:
            yolo = YOLO(config)
        except FileNotFoundError as error:
            print(f"{name}: not in Ultralytics {version} ({error})", flush=True)
            continue
        net = type(yolo.model)(config, nc=class_count, verbose=False)
        net.args = yolo.model.args
        yolo.model = net
        net.names = dict(enumerate(NAMES[:class_count]))
        net.task = yolo.task
        batch = torch.from_numpy(np.concatenate([_letterboxed(part.image, height, width) for part in parts]))
        take_batch_statistics(net, batch)
        if yolo.task in {"detect", "segment", "pose", "obb"}:
            scale_detection_head(net, batch)
        elif yolo.task == "classify":
            spread(net, net.model[-1].linear, batch, 0.0, 1.5)
        else:
            spread(net, net.model[-1].classifier[-1], batch, 0.0, 1.0)
        names = list(NAMES[:class_count])
        keep_export(
            out, name, yolo, parts[0].image, (height, width), names, options, f"YOLO({config!r}), nc={class_count}"
        )


def keep_export(
    out: Path,
    name: str,
    yolo: YOLO,
    frame_bgr: NDArray[np.uint8],
    size: tuple[int, int],
    class_names: list[str],
    options: dict[str, Any],
    story: str,
) -> None:
    """Exports a model and keeps it with what Ultralytics finds with it in the frame; ``story`` says where it comes from."""
    asked = {"imgsz": list(size), **options}
    with scratch():
        exported = Path(yolo.export(format="onnx", verbose=False, **asked))
        arrays, settings = _results(exported, yolo.task, frame_bgr, size, class_names, options)
        arguments = ", ".join(f"{key}={value!r}" for key, value in asked.items())
        keep(
            out,
            name,
            exported,
            arrays,
            exporter=versions("ultralytics", "torch"),
            command=f"{story}; export(format='onnx', {arguments})",
            task=yolo.task,
            settings=settings,
        )


def _letterboxed(frame_bgr: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    boxed = LetterBox((height, width), auto=False)(image=frame_bgr)
    return np.ascontiguousarray(boxed[None, :, :, ::-1].transpose(0, 3, 1, 2), np.float32) / 255


def _results(
    model: Path,
    task: str,
    frame_bgr: NDArray[np.uint8],
    size: tuple[int, int],
    class_names: list[str],
    options: dict[str, Any],
) -> tuple[Arrays, dict[str, Any]]:
    """Its own non-maximum suppression and masks on the raw outputs, and its predictor's results on the frame."""
    limit = options.get("max_det", MAX_FINDINGS if task != "segment" else 40)
    predictor = YOLO(str(model), task=task)
    asked = {
        "imgsz": list(size), "conf": SCORE_MIN, "iou": IOU_MAX, "max_det": limit, "device": "cpu", "verbose": False, "rect": False
    }  # fmt: skip
    copies = options.get("batch", 1)
    result = predictor.predict([frame_bgr] * copies, **asked)[0]
    model_input = predictor.predictor.preprocess([frame_bgr] * copies).float().numpy().copy()
    arrays: Arrays = {"frame_bgr": frame_bgr, "input": model_input}
    settings: dict[str, Any] = {"names": class_names}
    if task == "classify":
        return {**arrays, "probabilities": result.probs.data.float().numpy()}, settings
    if task == "semantic":
        labels = result.semantic_mask.data.numpy() if hasattr(result.semantic_mask, "data") else result.semantic_mask
        return {**arrays, "frame_labels": np.asarray(labels)}, settings

    settings |= {"score_min": SCORE_MIN, "iou_max": IOU_MAX, "max_findings": limit}
    outputs = list(raw_outputs(model, model_input).values())
    predictions = torch.from_numpy(np.asarray(outputs[0], np.float32))
    metadata = {prop.key: prop.value for prop in onnx.load(str(model)).metadata_props}
    # 8.3.40 takes nms=True for ONNX without a word and embeds nothing.
    is_end_to_end = metadata.get("end2end") == "True" or (
        bool(options.get("nms")) and predictions.shape[1] > predictions.shape[2]
    )
    end_to_end: dict[str, Any] = {"end2end": True} if is_end_to_end and predictions.shape[-1] != 6 else {}
    found = non_max_suppression(
        predictions.clone(), SCORE_MIN, IOU_MAX, max_det=limit, nc=len(class_names), rotated=task == "obb", **end_to_end
    )[0]
    arrays |= {
        "boxes_px": found[:, :4].numpy(), "scores": found[:, 4].numpy(), "class_ids": found[:, 5].numpy().astype(np.int32)
    }  # fmt: skip
    if task == "obb":
        return {**arrays, "angles": found[:, 6].numpy()}, settings
    boxes = result.boxes
    arrays |= {
        "frame_boxes_px": boxes.xyxy.numpy(),
        "frame_scores": boxes.conf.numpy(),
        "frame_class_ids": boxes.cls.numpy().astype(np.int32),
    }
    if task == "segment":
        prototypes = torch.from_numpy(np.asarray(outputs[1], np.float32))[0]
        arrays["masks"] = (
            ops.process_mask(prototypes, found[:, 6:], found[:, :4], size, upsample=True).numpy().astype(np.uint8)
        )
        native = predictor.predict([frame_bgr] * copies, retina_masks=True, **asked)[0]
        arrays |= {
            "frame_masks": native.masks.data.numpy().astype(np.uint8),
            "native_boxes_px": native.boxes.xyxy.numpy(),
        }
    return arrays, settings
