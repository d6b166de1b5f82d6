"""An anomaly model that means something: Anomalib's Patchcore fitted on rendered good parts."""

from __future__ import annotations

from pathlib import Path

import cv2
import torch
from anomalib.data import MVTecAD
from anomalib.engine import Engine
from anomalib.models import Patchcore
from render_parts import write_mvtec

from exporting.anomaly_data import resized
from exporting.common import SEED, keep, scratch, versions

SIDE_PX, PART_COUNT = 160, 160


def make(out: Path, only: set[str]) -> None:
    """``rendered-anomaly.onnx``, and the parts in MVTec AD's layout under ``rendered-mvtec/part``."""
    del only
    root = out / "rendered-mvtec"
    write_mvtec(root / "part", PART_COUNT, SEED)
    size = (SIDE_PX, SIDE_PX)
    torch.manual_seed(SEED)
    with scratch() as folder:
        # Random features tell a scratch from a plate well enough.
        model = Patchcore(
            backbone="resnet18", layers=("layer1", "layer2"), pre_trained=False, coreset_sampling_ratio=0.02, visualizer=False,
            pre_processor=Patchcore.configure_pre_processor(size),
        )  # fmt: skip
        module = MVTecAD(root=root, category="part", train_batch_size=8, eval_batch_size=8, num_workers=0, seed=SEED)
        engine = Engine(accelerator="cpu", devices=1, logger=False, default_root_dir=folder)
        engine.fit(model, datamodule=module)
        measured = engine.test(model, datamodule=module)[0]
        model = model.eval().cpu()
        # A batch of one, as PyTorch's new exporter fixes this model to the two rows that it is shown.
        path = Path(model.to_onnx(folder / "export", input_size=size, dynamic_axes={}, external_data=False))
        frame_bgr = cv2.imread(str(sorted((root / "part/test/scratch").iterdir())[0]))
        model_input = resized(frame_bgr, size)
        with torch.no_grad():
            answer = model(torch.from_numpy(model_input))._asdict()
        arrays = {key: value.numpy() for key, value in answer.items() if value is not None}
        keep(
            out, "rendered-anomaly", path, {"frame_bgr": frame_bgr, "input": model_input, **arrays},
            exporter=versions("anomalib", "torch"),
            command=f"Patchcore fitted on {PART_COUNT // 2} rendered good parts; to_onnx(input_size={size}, dynamic_axes={{}})",
            task="anomaly", settings={"measured": measured},
        )  # fmt: skip
