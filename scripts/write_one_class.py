"""Write the pictures of `lineside bench teach` for programs that run elsewhere, such as `scripts/anomalib_rivals.py`.

    python scripts/write_one_class.py --out DIR [--part report] [--set NAME ...] [--deeppcb DIR]

DIR/SET/PRODUCT/SPLIT/ holds train/good, test/good and test/defective as PNG, each in the split's order; DIR/one_class.json says
what there is.  Pictures that several splits have are one file with several names.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path

import cv2

from pipeline.bench.one_class.data import Product, split_of
from pipeline.bench.one_class.sets import data_sets
from pipeline.bench.teach import SPLITS


def main() -> None:
    """Writes the folders; those that are there already must be away."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=("choose", "report", "all"), default="report")
    parser.add_argument("--set", nargs="*", dest="names")
    parser.add_argument("--deeppcb", type=Path)
    arguments = parser.parse_args()
    sets = data_sets(arguments.deeppcb)
    written: dict[str, list[str]] = {}
    for name in arguments.names or sets:
        products = sets[name](arguments.part)
        for product in products:
            write_product(arguments.out / name / product.name, product)
        written[name] = [product.name for product in products]
    told = {"part": arguments.part, "splits": SPLITS, "sets": written}
    (arguments.out / "one_class.json").write_text(json.dumps(told, indent=2), encoding="utf-8")


def write_product(folder: Path, product: Product) -> None:
    """Its pictures once, and their names in each split."""
    folder.mkdir(parents=True)
    for kind, pictures in (("good", product.good), ("defective", product.defective)):
        for number, picture in enumerate(pictures):
            if not cv2.imwrite(str(folder / f"{kind}-{number:04}.png"), picture):
                raise SystemExit(f"{folder}: the pictures cannot be written")
    for seed in range(SPLITS):
        split = split_of(product, seed)
        _name(folder, f"{seed}/train/good", "good", split.train.tolist())
        _name(folder, f"{seed}/test/good", "good", split.test.tolist())
        _name(folder, f"{seed}/test/defective", "defective", range(len(product.defective)))


def _name(folder: Path, where: str, kind: str, numbers: Iterable[int]) -> None:
    (folder / where).mkdir(parents=True)
    for position, number in enumerate(numbers):
        os.link(folder / f"{kind}-{number:04}.png", folder / where / f"{position:04}.png")


if __name__ == "__main__":
    main()
