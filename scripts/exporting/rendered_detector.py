"""A detector that means something: trained by Ultralytics on rendered parts."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import torch
from render_parts import write_yolo
from ultralytics import YOLO

from exporting.common import SEED, scratch
from exporting.of_ultralytics import keep_export

SIDE_PX, PART_COUNT, HOURS = 192, 200, 0.16


def make(out: Path, only: set[str]) -> None:
    """``rendered-detector.onnx``, and the parts with their labels under ``rendered/``: its validation part was not trained on."""
    del only
    torch.set_num_threads(1)
    data = write_yolo(out / "rendered", PART_COUNT, SEED)
    with scratch() as folder:
        yolo = YOLO("yolo11n.yaml")
        yolo.train(
            data=str(data), imgsz=SIDE_PX, time=HOURS, batch=8, workers=0, device="cpu", plots=False, seed=SEED,
            project=str(folder), optimizer="AdamW", lr0=0.002, warmup_epochs=2, flipud=0.5, hsv_h=0.0, hsv_s=0.1,
        )  # fmt: skip
        best = YOLO(yolo.trainer.best)
        shown = cv2.imread(str(sorted((data.parent / "images/val").iterdir())[0]))
        story = f"YOLO('yolo11n.yaml') trained on {PART_COUNT} rendered parts for {HOURS} h"
        size, names = (SIDE_PX, SIDE_PX), list(best.names.values())
        keep_export(out, "rendered-detector", best, shown, size, names, {}, story)
        int8 = {"quantize": 8, "data": str(data)}
        keep_export(out, "rendered-detector-int8", best, shown, size, names, int8, story)
    write_predictions(out)


def write_predictions(out: Path) -> None:
    """``rendered/predictions.json``: what Ultralytics' predictor finds with the export in each validation image, in its pixels."""
    predictor = YOLO(str(out / "rendered-detector.onnx"), task="detect")
    found = {}
    for path in sorted((out / "rendered/images/val").iterdir()):
        boxes = predictor.predict(cv2.imread(str(path)), imgsz=SIDE_PX, device="cpu", verbose=False)[0].boxes
        found[path.name] = {
            "boxes_px": boxes.xyxy.tolist(),
            "scores": boxes.conf.tolist(),
            "class_ids": [int(class_id) for class_id in boxes.cls.tolist()],
        }
    (out / "rendered/predictions.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
