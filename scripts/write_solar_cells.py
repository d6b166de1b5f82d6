"""Writes the solar cells as folders of images: OUT/train and OUT/test, in each functional and defective.

The test part is the one that the shipped model was neither trained nor chosen on. For `lineside evaluate` and `lineside model`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
from elpv_dataset.utils import load_dataset

from pipeline.simulator.solar_cells import is_defective, split


def main() -> None:
    """Write every image that is not there yet."""
    if len(sys.argv) != 2:
        sys.exit("usage: scripts/write_solar_cells.py OUT")
    images, probability, cell_type = load_dataset()
    for part, indices in zip(("train", "test"), split(probability, cell_type), strict=True):
        for index in indices:
            folder = Path(sys.argv[1], part, "defective" if is_defective(probability[index]) else "functional")
            folder.mkdir(parents=True, exist_ok=True)
            if not cv2.imwrite(str(folder / f"{index:04d}.png"), images[index]):
                sys.exit(f"{folder}: the images cannot be written")


if __name__ == "__main__":
    main()
