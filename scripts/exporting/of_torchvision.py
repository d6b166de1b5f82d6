"""Classifiers and semantic segmentation of torchvision, timm and segmentation_models_pytorch, by PyTorch's own exporters."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
from torch import nn
from torchvision.transforms import v2

from exporting.common import (
    NAMES,
    SEED,
    SIDE_PX,
    Arrays,
    frames,
    keep,
    scratch,
    spread,
    take_batch_statistics,
    versions,
)


def make(out: Path, only: set[str]) -> None:
    """Makes those whose names are in ``only``, or all."""
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
        "smp-unet": (
            lambda: smp.Unet("mobilenet_v2", encoder_weights=None, decoder_channels=(64, 32, 16, 16, 8), classes=class_count),
            lambda net: net.segmentation_head[0], stretched, "semantic", {},
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
                exporter=versions("torch", "torchvision", "timm", "segmentation-models-pytorch"),
                command=f"torch.onnx.export({options})" + (" of model.half()" if is_half else ""),
                task=task,
                settings={"names": list(NAMES[: answer.shape[1] if not gives_labels else class_count])},
            )  # fmt: skip


def _OutputOnly(net: Any, gives_labels: bool) -> Any:  # noqa: N802 (makes a module)
    """Torchvision's segmentation models return a dictionary; an export wants its `out`."""

    class OutputOnly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, batch: Any) -> Any:
            answer = self.net(batch)
            scores = answer["out"] if isinstance(answer, dict) else answer
            return scores.argmax(1) if gives_labels else scores

    return OutputOnly().eval()
