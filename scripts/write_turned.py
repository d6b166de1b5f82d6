"""Writes pictures of a folder in eight ways each, turned and mirrored, to see what teaching from many of them takes."""

from __future__ import annotations

import sys
from pathlib import Path

import cv2
import numpy as np


def main() -> None:
    """Of the first COUNT pictures by name."""
    if len(sys.argv) != 4:
        sys.exit("usage: scripts/write_turned.py IN OUT COUNT")
    pictures, out, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(pictures.iterdir())[:count]:
        pixels = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        if pixels is None:
            sys.exit(f"{file} is no picture")
        for number in range(8):
            turned = np.rot90(pixels, number % 4)
            way = np.ascontiguousarray(turned[:, ::-1] if number >= 4 else turned)
            if not cv2.imwrite(str(out / f"{file.stem}-{number}.png"), way):
                sys.exit(f"{out}: the pictures cannot be written")


if __name__ == "__main__":
    main()
