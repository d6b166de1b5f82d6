"""Anomalib 1: raw scores, and what normalises them in ``metadata.json`` beside the file."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib import TaskType
from anomalib.deploy import TorchInferencer
from anomalib.engine import Engine
from anomalib.models import Padim, Patchcore
from render_parts import CLASSES

from exporting.anomaly_data import rendered_folder, resized
from exporting.common import SEED, SIDE_PX, frames, keep, scratch, versions


def make(out: Path, only: set[str]) -> None:
    """Makes those whose names are in ``only``, or all."""
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
            module = rendered_folder(folder / "data", defects=CLASSES[:1], image_size=size)
            engine = Engine(
                accelerator="cpu", devices=1, logger=False, default_root_dir=folder, task=TaskType.SEGMENTATION
            )
            engine.fit(model, datamodule=module)
            transform = Padim.configure_transforms(size)  # Patchcore's own crops
            export = {"transform": transform, "task": TaskType.SEGMENTATION}
            path = Path(model.to_onnx(folder / "onnx", input_size=size, **export))
            told = TorchInferencer(path=model.to_torch(folder / "torch", **export), device="cpu")
            model_input = resized(image, size)
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
