"""Make real exports, small and with random weights, and keep what the exporter itself says of an image beside each.

    python scripts/make_exports.py FAMILY --out DIR [--only NAME ...]
    python scripts/make_exports.py index --out DIR

`tests/conformance/test_real_exports.py` holds Lineside against DIR (`LINESIDE_EXPORTS=DIR pytest ...`).  Each export is
NAME.onnx, NAME.json (how it was made) and NAME.npz:

    frame_bgr            uint8 (height, width, 3): the image, not square
    input                float32 (1, channels, height, width): the exporter's own pre-processing of it
    output.TENSOR        what ONNX Runtime gives for `input`
    boxes_px, scores, class_ids, masks            the exporter's own post-processing, in pixels of `input`
    frame_boxes_px, frame_scores, frame_class_ids, frame_masks, frame_labels     and in pixels of `frame_bgr`
    probabilities, labels, anomaly_map, pred_score, pred_label, pred_mask        and of the other tasks

Weights are random (seed 0): batch statistics are taken over rendered parts and the last layer's outputs are scaled, so
that some hundred candidates pass a threshold.  Each family needs an environment of its own with `onnx`, `onnxruntime`,
`opencv-python` and

    ultralytics   ultralytics onnxslim (run with 8.4.190; older versions take the same command: see VERSIONED)
    yolov5        the package yolov5 7.0.14
    torchvision   torchvision timm onnxscript
    anomalib      anomalib >= 2 (run with 2.7.0)
    anomalib1     anomalib 1.2.0

Nothing is downloaded.  The programs used have licences of their own (Ultralytics and yolov5: AGPL-3.0); their weights and
exports stay outside this project.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from render_parts import CLASSES, RenderedPart, render_part, write_mvtec

SEED = 0
NAMES = (*CLASSES, "stain")
SIDE_PX = 160
SCORE_MIN, IOU_MAX, MAX_FINDINGS = 0.25, 0.7, 300

Arrays = dict[str, NDArray[Any]]


def frames(count: int, defect_count: int = 3) -> list[RenderedPart]:
    """The same rendered parts at every call."""
    rng = np.random.default_rng(SEED)
    return [render_part(rng, defect_count) for _ in range(count)]


def raw_outputs(model: Path, model_input: NDArray[np.float32]) -> Arrays:
    """What ONNX Runtime gives, by the tensor's name."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    tensor = session.get_inputs()[0]
    cast = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(uint8)": np.uint8}[tensor.type]
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {tensor.name: model_input.astype(cast)}), strict=True))


def keep(
    out: Path,
    name: str,
    model: Path,
    arrays: Arrays,
    *,
    exporter: str,
    command: str,
    task: str,
    settings: dict[str, Any],
) -> None:
    """Puts an export, its arrays and its story into ``out``."""
    target = out / f"{name}.onnx"
    if model.resolve() != target.resolve():
        shutil.copyfile(model, target)
    outputs = {f"output.{key}": value for key, value in raw_outputs(target, arrays["input"]).items()}
    np.savez_compressed(out / f"{name}.npz", **arrays, **outputs)
    story = {"exporter": exporter, "command": command, "task": task, "settings": settings}
    (out / f"{name}.json").write_text(json.dumps(story, indent=2) + "\n", encoding="utf-8")
    shapes = {key: list(value.shape) for key, value in outputs.items()}
    print(f"{name}: {shapes}, {len(arrays.get('scores', ()))} findings", flush=True)


def versions(*packages: str) -> str:
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty working directory: exporters write beside where they are started."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


# --- weights that say something -------------------------------------------------------------------------------------


def take_batch_statistics(model: Any, batch: Any) -> None:
    """Sets every batch normalisation to the statistics of ``batch``, so that random weights do not fade out."""
    import torch

    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    with torch.no_grad():
        model(batch)
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def spread(model: Any, layer: Any, batch: Any, mean: Any, std: float) -> None:
    """Scales a last convolution or linear layer so that its outputs over ``batch`` have this mean and deviation."""
    import torch

    seen: list[Any] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach()))
    with torch.no_grad():
        model(batch)
    handle.remove()
    values = seen[0].transpose(0, 1).flatten(1)
    gain = std / values.std(dim=1).clamp(min=1e-6)
    mean = torch.as_tensor(mean, dtype=values.dtype).expand(len(values))
    with torch.no_grad():
        layer.weight.mul_(gain.view(-1, *[1] * (layer.weight.dim() - 1)))
        layer.bias.copy_((layer.bias - values.mean(dim=1)) * gain + mean)


# --- Ultralytics ----------------------------------------------------------------------------------------------------

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
    import torch

    head = model.model[-1]
    bins = -0.35 * torch.arange(head.reg_max).repeat(4) if head.reg_max > 1 else 2.5
    targets = {"cv2": (bins, 1.0 if head.reg_max > 1 else 0.5), "cv3": (-1.4, 1.5), "cv4": (0.0, 1.0)}
    for name, branches in head.named_children():
        mean, std = targets.get(name.removeprefix("one2one_"), (None, 0.0))
        if mean is not None:
            for branch in branches:
                spread(model, branch[-1], batch, mean, std)


def make_ultralytics(out: Path, only: set[str]) -> None:
    import torch
    import ultralytics

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
            yolo = ultralytics.YOLO(config)
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
        with scratch():
            exported = Path(yolo.export(format="onnx", imgsz=[height, width], verbose=False, **options))
            arrays, settings = _ultralytics_results(
                exported, yolo.task, parts[0].image, (height, width), class_count, options
            )
            keep(
                out,
                name,
                exported,
                arrays,
                exporter=versions("ultralytics", "torch"),
                command=f"YOLO({config!r}), nc={class_count}; export(format='onnx', imgsz=[{height}, {width}]"
                + "".join(f", {key}={value!r}" for key, value in options.items())
                + ")",
                task=yolo.task,
                settings=settings,
            )


def _letterboxed(frame_bgr: NDArray[np.uint8], height: int, width: int) -> NDArray[np.float32]:
    from ultralytics.data.augment import LetterBox

    boxed = LetterBox((height, width), auto=False)(image=frame_bgr)
    return np.ascontiguousarray(boxed[None, :, :, ::-1].transpose(0, 3, 1, 2), np.float32) / 255


def _ultralytics_results(
    model: Path,
    task: str,
    frame_bgr: NDArray[np.uint8],
    size: tuple[int, int],
    class_count: int,
    options: dict[str, Any],
) -> tuple[Arrays, dict[str, Any]]:
    """Its own non-maximum suppression and masks on the raw outputs, and its predictor's results on the frame."""
    import torch
    from ultralytics import YOLO
    from ultralytics.utils import ops

    try:
        from ultralytics.utils.nms import non_max_suppression
    except ImportError:  # until 8.3.18x
        from ultralytics.utils.ops import non_max_suppression

    limit = options.get("max_det", MAX_FINDINGS if task != "segment" else 40)
    predictor = YOLO(str(model), task=task)
    asked = {
        "imgsz": list(size), "conf": SCORE_MIN, "iou": IOU_MAX, "max_det": limit, "device": "cpu", "verbose": False, "rect": False
    }  # fmt: skip
    copies = options.get("batch", 1)
    result = predictor.predict([frame_bgr] * copies, **asked)[0]
    model_input = predictor.predictor.preprocess([frame_bgr] * copies).float().numpy().copy()
    arrays: Arrays = {"frame_bgr": frame_bgr, "input": model_input}
    settings: dict[str, Any] = {"names": list(NAMES[:class_count])}
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
        predictions.clone(), SCORE_MIN, IOU_MAX, max_det=limit, nc=class_count, rotated=task == "obb", **end_to_end
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


# --- the yolov5 package ---------------------------------------------------------------------------------------------


def make_yolov5(out: Path, only: set[str]) -> None:
    import torch

    # Its code is older than PyTorch's present defaults.
    plain_export = torch.onnx.export
    torch.onnx.export = lambda *arguments, **options: plain_export(*arguments, **{"dynamo": False, **options})
    import yolov5
    from yolov5.export import export_onnx
    from yolov5.models.yolo import DetectionModel, SegmentationModel
    from yolov5.utils.augmentations import letterbox
    from yolov5.utils.general import non_max_suppression, scale_boxes
    from yolov5.utils.segment.general import process_mask_upsample

    folder_of_models = Path(yolov5.__file__).parent / "models"
    parts = frames(8)
    size = (SIDE_PX, SIDE_PX)

    def shown(frame_bgr: NDArray[np.uint8]) -> NDArray[np.float32]:
        boxed = letterbox(frame_bgr, size, auto=False)[0]
        return np.ascontiguousarray(boxed[None, :, :, ::-1].transpose(0, 3, 1, 2), np.float32) / 255

    table = {
        "yolov5n": (DetectionModel, folder_of_models / "yolov5n.yaml", False),
        "yolov5n-dynamic": (DetectionModel, folder_of_models / "yolov5n.yaml", True),
        "yolov5n-seg": (SegmentationModel, folder_of_models / "segment/yolov5n-seg.yaml", False),
    }
    for name, (build, config, dynamic) in table.items():
        if only and name not in only:
            continue
        torch.manual_seed(SEED)
        net = build(str(config), ch=3, nc=len(NAMES))
        net.names = dict(enumerate(NAMES))
        batch = torch.from_numpy(np.concatenate([shown(part.image) for part in parts]))
        take_batch_statistics(net, batch)
        head = net.model[-1]
        # Per anchor: x y w h around the middle, objectness, classes, mask coefficients around zero.
        means = torch.zeros(head.no)
        means[4], means[5 : 5 + head.nc] = 0.0, -0.5
        for layer in head.m:
            spread(net, layer, batch, means.repeat(head.na), 1.0)
        net.fuse()
        head.export, head.dynamic = True, dynamic
        model_input = shown(parts[0].image)
        with scratch() as folder, torch.no_grad():
            net(torch.from_numpy(model_input))
            path = Path(export_onnx(net, torch.from_numpy(model_input), folder / f"{name}.pt", 12, dynamic, False)[0])
            outputs = [torch.from_numpy(array) for array in raw_outputs(path, model_input).values()]
            mask_count = 32 if len(outputs) > 1 else 0
            limit = 40 if mask_count else MAX_FINDINGS
            found = non_max_suppression(outputs[0].clone(), SCORE_MIN, IOU_MAX, max_det=limit, nm=mask_count)[0]
            arrays: Arrays = {
                "frame_bgr": parts[0].image, "input": model_input,
                "boxes_px": found[:, :4].numpy().copy(), "scores": found[:, 4].numpy(),
                "class_ids": found[:, 5].numpy().astype(np.int32),
            }  # fmt: skip
            if mask_count:
                masks = process_mask_upsample(outputs[1][0], found[:, 6:], found[:, :4], size)
                arrays["masks"] = masks.numpy().astype(np.uint8)
            arrays["frame_boxes_px"] = scale_boxes(size, found[:, :4].clone(), parts[0].image.shape).numpy()
            arrays |= {"frame_scores": arrays["scores"], "frame_class_ids": arrays["class_ids"]}
            keep(
                out, name, path, arrays,
                exporter=versions("yolov5", "torch"),
                command=f"export_onnx({build.__name__}({config.name!r}, nc={len(NAMES)}), opset 12, dynamic={dynamic})",
                task="segment" if mask_count else "detect",
                settings={
                    "names": list(NAMES), "score_min": SCORE_MIN, "iou_max": IOU_MAX, "max_findings": limit,
                },
            )  # fmt: skip


# --- torchvision and timm -------------------------------------------------------------------------------------------


def make_torchvision(out: Path, only: set[str]) -> None:
    import timm
    import torch
    import torchvision
    from torch import nn
    from torchvision.transforms import v2

    normalise = [
        v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    ]  # fmt: skip
    stretched = v2.Compose([*normalise[:1], v2.Resize((SIDE_PX, SIDE_PX), antialias=False), *normalise[1:]])
    cropped = v2.Compose([*normalise[:1], v2.Resize(184), v2.CenterCrop(SIDE_PX), *normalise[1:]])
    class_count = len(NAMES)
    segmentation = torchvision.models.segmentation
    # name: model, its last layer, transform, "classify" or "semantic", options of torch.onnx.export
    table: dict[str, tuple[Callable[[], Any], Callable[[Any], Any], Any, str, dict[str, Any]]] = {
        "resnet18": (
            lambda: torchvision.models.resnet18(weights=None, num_classes=class_count),
            lambda net: net.fc, cropped, "classify", {},
        ),
        "timm-mobilenetv3": (
            lambda: timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=class_count),
            lambda net: net.classifier, cropped, "classify", {},
        ),
        "lraspp": (
            lambda: segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=class_count),
            lambda net: net.classifier.high_classifier, stretched, "semantic", {},
        ),
        "mobilenet-softmax": (
            lambda: nn.Sequential(
                torchvision.models.mobilenet_v3_small(weights=None, num_classes=class_count), nn.Softmax(dim=1)
            ),
            lambda net: net[0].classifier[-1], cropped, "classify", {},
        ),
        "resnet18-sigmoid": (
            lambda: nn.Sequential(torchvision.models.resnet18(weights=None, num_classes=1), nn.Sigmoid()),
            lambda net: net[0].fc, cropped, "classify", {},
        ),
        "resnet18-dynamic": (
            lambda: torchvision.models.resnet18(weights=None, num_classes=class_count),
            lambda net: net.fc, cropped, "classify", {"dynamic_axes": {"input": {0: "batch"}, "logits": {0: "batch"}}},
        ),
        # PyTorch's default since 2.9: weights in a file of their own beside the graph.
        "resnet18-dynamo": (
            lambda: torchvision.models.resnet18(weights=None, num_classes=class_count),
            lambda net: net.fc, cropped, "classify", {"dynamo": True},
        ),
        "resnet18-dynamo-inline": (
            lambda: torchvision.models.resnet18(weights=None, num_classes=class_count),
            lambda net: net.fc, cropped, "classify", {"dynamo": True, "external_data": False},
        ),
        "timm-half": (
            lambda: timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=class_count),
            lambda net: net.classifier, cropped, "classify", {"half": True},
        ),
        "deeplab": (
            lambda: segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=class_count),
            lambda net: net.classifier[-1], stretched, "semantic", {"output_names": ["out"]},
        ),
        "deeplab-labels": (
            lambda: segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=class_count),
            lambda net: net.classifier[-1], stretched, "semantic", {"output_names": ["labels"], "labels": True},
        ),
        "lraspp-one-class": (
            lambda: segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=1),
            lambda net: net.classifier.high_classifier, stretched, "semantic", {},
        ),
    }  # fmt: skip
    parts = frames(8)
    for name, (build, last_layer, transform, task, chosen) in table.items():
        if only and name not in only:
            continue
        options = {"input_names": ["input"], "output_names": ["logits"], "dynamo": False, **chosen}
        is_half, gives_labels = options.pop("half", False), options.pop("labels", False)
        torch.manual_seed(SEED)
        net = build()
        # RGB, as torchvision and timm train.
        batch = torch.stack([transform(np.ascontiguousarray(part.image[..., ::-1])) for part in parts])
        take_batch_statistics(net, batch)
        spread(net, last_layer(net), batch, 0.0, 1.5)
        if task == "semantic":
            net = _OutputOnly(net, gives_labels)
        with torch.no_grad():
            answer = net(batch[:1]).numpy()
        arrays: Arrays = {"frame_bgr": parts[0].image, "input": batch[:1].numpy()}
        if task == "semantic":
            scores = answer[0]
            arrays["labels"] = (
                scores if gives_labels else scores.argmax(0) if len(scores) > 1 else scores[0] > 0
            ).astype(np.int32)
        else:
            scores = torch.from_numpy(answer[0])
            is_probability = isinstance(net, nn.Sequential) and isinstance(net[-1], nn.Softmax | nn.Sigmoid)
            arrays["probabilities"] = (scores if is_probability else scores.softmax(0)).numpy()
        with scratch() as folder:
            path = folder / f"{name}.onnx"
            example = batch[:1]
            if is_half:
                net, example = net.half(), example.half()
            torch.onnx.export(net, (example,), str(path), **options)
            for beside in folder.glob("*.data"):
                shutil.copyfile(beside, out / beside.name)
            keep(
                out, name, path, arrays,
                exporter=versions("torch", "torchvision", "timm"),
                command=f"torch.onnx.export({options})" + (" of model.half()" if is_half else ""),
                task=task,
                settings={"names": list(NAMES[: answer.shape[1] if not gives_labels else class_count])},
            )  # fmt: skip


def _OutputOnly(net: Any, gives_labels: bool) -> Any:  # noqa: N802 (makes a module)
    """Torchvision's segmentation models return a dictionary; an export wants its `out`."""
    from torch import nn

    class OutputOnly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, batch: Any) -> Any:
            scores = self.net(batch)["out"]
            return scores.argmax(1) if gives_labels else scores

    return OutputOnly().eval()


# --- Anomalib -------------------------------------------------------------------------------------------------------

FIT_PARTS = 48  # half of them good ones to fit on


def _resized(frame_bgr: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """RGB 0..1 as Anomalib reads an image, resized without antialiasing: its exports hold the normalisation themselves."""
    import torch
    from torchvision.transforms import v2

    image = torch.from_numpy(np.ascontiguousarray(frame_bgr[..., ::-1].transpose(2, 0, 1)))
    return (v2.functional.resize(image.float() / 255, list(size), antialias=False))[None].numpy()


def _rendered_folder(root: Path, *, defects: tuple[str, ...] = CLASSES, **options: Any) -> Any:
    from anomalib.data import Folder

    write_mvtec(root, FIT_PARTS, SEED)
    return Folder(
        name="rendered", root=root, normal_dir="train/good", normal_test_dir="test/good",
        abnormal_dir=[f"test/{name}" for name in defects], mask_dir=[f"ground_truth/{name}" for name in defects],
        train_batch_size=8, eval_batch_size=8, num_workers=0, seed=SEED, **options,
    )  # fmt: skip


def make_anomalib(out: Path, only: set[str]) -> None:
    import anomalib
    import torch
    from anomalib.engine import Engine
    from anomalib.models import Dfkde, Padim, Patchcore
    from anomalib.post_processing import PostProcessor

    version = anomalib.__version__
    is_current = tuple(map(int, version.split(".")[:2])) >= (2, 7)
    size = (SIDE_PX, SIDE_PX)

    def padim(**options: Any) -> Any:
        processor = options.pop("pre_processor", Padim.configure_pre_processor(options.pop("image_size", size)))
        return Padim(pre_trained=False, n_features=20, visualizer=False, pre_processor=processor, **options)

    # name: model, input size of the export (none: any), options of the export
    table: dict[str, tuple[Callable[[], Any], tuple[int, int] | None, dict[str, Any]]] = {
        "padim": (padim, size, {}),
        "padim-any-size": (padim, None, {}),
        "padim-inline": (padim, size, {"external_data": False}),
        "padim-small-map": (lambda: padim(image_size=(96, 96)), size, {}),
        "padim-raw": (
            lambda: padim(post_processor=PostProcessor(enable_normalization=False, enable_thresholding=False)), size, {}
        ),
        "padim-no-label": (lambda: padim(post_processor=PostProcessor(enable_thresholding=False)), size, {}),
        "padim-no-post": (lambda: padim(post_processor=False), size, {}),
        "padim-no-pre": (lambda: padim(pre_processor=False), size, {}),
        "patchcore": (
            lambda: Patchcore(
                backbone="resnet18", layers=("layer1", "layer2"), pre_trained=False, coreset_sampling_ratio=0.02,
                visualizer=False, pre_processor=Patchcore.configure_pre_processor(size),
            ), size, {},
        ),
        "dfkde": (
            lambda: Dfkde(pre_trained=False, visualizer=False, pre_processor=Dfkde.configure_pre_processor(size)), size, {}
        ),
    }  # fmt: skip
    if not is_current:
        table = {f"{name}-{version}": table[name] for name in ("padim", "patchcore", "dfkde")}
    image = frames(1)[0].image
    for bare_name, (build, input_size, options) in table.items():
        name = f"anomalib2-{bare_name}"
        if only and name not in only:
            continue
        torch.manual_seed(SEED)
        with scratch() as folder:
            model = build()
            module = _rendered_folder(folder / "data")
            if not model.pre_processor:
                from torchvision.transforms.v2 import Resize

                module = _rendered_folder(folder / "resized", augmentations=Resize(size, antialias=False))
            Engine(accelerator="cpu", devices=1, logger=False, default_root_dir=folder, max_epochs=1).fit(
                model, datamodule=module
            )
            model = model.eval().cpu()
            model_input = _resized(image, input_size or image.shape[:2])
            with torch.no_grad():
                answer = model(torch.from_numpy(model_input))._asdict()
            # The name decides that of the file beside it.
            path = Path(model.to_onnx(folder / "export", model_file_name=name, input_size=input_size, **options))
            for beside in path.parent.glob("*.data"):
                shutil.copyfile(beside, out / beside.name)
            arrays = {key: value.numpy() for key, value in answer.items() if value is not None}
            # Some models come out of it for a batch of two, whatever was asked.
            rows = onnx.load(str(path), load_external_data=False).graph.input[0].type.tensor_type.shape.dim[0].dim_value
            model_input = np.repeat(model_input, max(rows, 1), axis=0)
            post = model.post_processor
            numbers = ("image_threshold", "pixel_threshold", "image_min", "image_max", "pixel_min", "pixel_max")
            keep(
                out, name, path, {"frame_bgr": image, "input": model_input, **arrays},
                exporter=versions("anomalib", "torch"),
                command=f"{bare_name}: {type(model).__name__}.to_onnx(input_size={input_size}, {options})",
                task="anomaly",
                settings={number: float(getattr(post, number)) for number in numbers} if post else {},
            )  # fmt: skip


def make_anomalib1(out: Path, only: set[str]) -> None:
    import functools

    import torch
    from anomalib import TaskType
    from anomalib.deploy import TorchInferencer
    from anomalib.engine import Engine
    from anomalib.models import Padim, Patchcore

    torch.load = functools.partial(torch.load, weights_only=False)  # it loads what it has just written
    table: dict[str, Callable[[], Any]] = {
        "padim": lambda: Padim(pre_trained=False, n_features=20),
        "patchcore": lambda: Patchcore(
            backbone="resnet18", layers=("layer1", "layer2"), pre_trained=False, coreset_sampling_ratio=0.02
        ),
    }
    image = frames(1)[0].image
    size = (SIDE_PX, SIDE_PX)
    for bare_name, build in table.items():
        name = f"anomalib1-{bare_name}"
        if only and name not in only:
            continue
        torch.manual_seed(SEED)
        with scratch() as folder:
            model = build()
            module = _rendered_folder(folder / "data", defects=CLASSES[:1], image_size=size)
            engine = Engine(
                accelerator="cpu", devices=1, logger=False, default_root_dir=folder, task=TaskType.SEGMENTATION
            )
            engine.fit(model, datamodule=module)
            transform = Padim.configure_transforms(size)  # Patchcore's own crops
            export = {"transform": transform, "task": TaskType.SEGMENTATION}
            path = Path(model.to_onnx(folder / "onnx", input_size=size, **export))
            told = TorchInferencer(path=model.to_torch(folder / "torch", **export), device="cpu")
            model_input = _resized(image, size)
            with torch.no_grad():
                result = told.predict(torch.from_numpy(model_input[0]))
            metadata = json.loads((path.parent / "metadata.json").read_text(encoding="utf-8"))
            shutil.copyfile(path.parent / "metadata.json", out / f"{name}.metadata.json")
            keep(
                out, name, path,
                {
                    "frame_bgr": image, "input": model_input, "anomaly_map": np.asarray(result.anomaly_map),
                    "pred_score": np.asarray(result.pred_score), "pred_label": np.asarray(bool(result.pred_label.value)),
                    "pred_mask": np.asarray(result.pred_mask),
                },
                exporter=versions("anomalib", "torch"),
                command=f"{type(model).__name__}.to_onnx(input_size={size}, transform of {size}); metadata.json beside it",
                task="anomaly", settings=metadata,
            )  # fmt: skip


# --- copies without a story, and the index --------------------------------------------------------------------------

STRIPPED = ("v8n", "yolo26n-e2e", "v8n-seg", "v8n-cls", "resnet18", "lraspp", "anomalib2-padim", "yolov5n")


def make_stripped(out: Path, only: set[str]) -> None:
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
            f"- exporter {story['exporter']}; producer `{model.producer_name} {model.producer_version}`; IR {model.ir_version}; {opsets}\n"
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


FAMILIES: dict[str, Callable[[Path, set[str]], None]] = {
    "ultralytics": make_ultralytics,
    "yolov5": make_yolov5,
    "torchvision": make_torchvision,
    "anomalib": make_anomalib,
    "anomalib1": make_anomalib1,
    "stripped": make_stripped,
}


def main() -> None:
    """Makes the exports of one family, or the index of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=(*FAMILIES, "index"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME")
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    if arguments.family != "index":
        FAMILIES[arguments.family](out, set(arguments.only))
    write_index(out)


if __name__ == "__main__":
    main()
