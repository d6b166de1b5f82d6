"""The package yolov5: the older layout with objectness."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import yolov5
from numpy.typing import NDArray
from yolov5.export import export_onnx
from yolov5.models.yolo import DetectionModel, SegmentationModel
from yolov5.utils.augmentations import letterbox
from yolov5.utils.general import non_max_suppression, scale_boxes
from yolov5.utils.segment.general import process_mask_upsample

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


def make(out: Path, only: set[str]) -> None:
    """Makes those whose names are in ``only``, or all."""
    # Its code is older than PyTorch's present defaults.
    plain_export = torch.onnx.export
    torch.onnx.export = lambda *arguments, **options: plain_export(*arguments, **{"dynamo": False, **options})

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
