"""What Anomalib is fitted on and shown: rendered parts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from anomalib.data import Folder
from numpy.typing import NDArray
from render_parts import CLASSES, write_mvtec
from torchvision.transforms import v2

from exporting.common import SEED

FIT_PARTS = 48  # half of them good ones to fit on


def resized(frame_bgr: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.float32]:
    """RGB 0..1 as Anomalib reads an image, resized without antialiasing: its exports hold the normalisation themselves."""
    image = torch.from_numpy(np.ascontiguousarray(frame_bgr[..., ::-1].transpose(2, 0, 1)))
    return (v2.functional.resize(image.float() / 255, list(size), antialias=False))[None].numpy()


def rendered_folder(root: Path, *, defects: tuple[str, ...] = CLASSES, **options: Any) -> Folder:
    """Rendered parts in MVTec's layout, good ones to fit on."""
    write_mvtec(root, FIT_PARTS, SEED)
    return Folder(
        name="rendered", root=root, normal_dir="train/good", normal_test_dir="test/good",
        abnormal_dir=[f"test/{name}" for name in defects], mask_dir=[f"ground_truth/{name}" for name in defects],
        train_batch_size=8, eval_batch_size=8, num_workers=0, seed=SEED, **options,
    )  # fmt: skip
