"""A detector that means something: trained by Ultralytics on rendered parts."""

from __future__ import annotations

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
        keep_export(out, "rendered-detector", best, shown, (SIDE_PX, SIDE_PX), list(best.names.values()), {}, story)
