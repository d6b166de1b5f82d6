"""Anomalib 2: pre-processing and post-processing are in the graph."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anomalib
import numpy as np
import onnx
import torch
from anomalib.engine import Engine
from anomalib.models import Dfkde, Padim, Patchcore
from anomalib.post_processing import PostProcessor
from torchvision.transforms.v2 import Resize

from exporting.anomaly_data import rendered_folder, resized
from exporting.common import SEED, SIDE_PX, frames, keep, scratch, versions


def make(out: Path, only: set[str]) -> None:
    """Makes those whose names are in ``only``, or all; older versions than 2.7 three of them."""
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
            module = rendered_folder(folder / "data")
            if not model.pre_processor:
                module = rendered_folder(folder / "resized", augmentations=Resize(size, antialias=False))
            Engine(accelerator="cpu", devices=1, logger=False, default_root_dir=folder, max_epochs=1).fit(
                model, datamodule=module
            )
            model = model.eval().cpu()
            model_input = resized(image, input_size or image.shape[:2])
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
