from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np

from pipeline.bench.one_class.data import split_of
from tests.one_class import spotted


def test_pictures_lie_in_the_order_of_their_split(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location(
        "write_one_class", Path(__file__).parents[3] / "scripts/write_one_class.py"
    )
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    product = spotted(good=10, defective=4, is_colour=True)
    script.write_product(tmp_path / "product", product)
    for seed in range(5):
        folder, split = tmp_path / "product" / str(seed), split_of(product, seed)
        for where, wanted in (
            ("train/good", [product.good[at] for at in split.train]),
            ("test/good", [product.good[at] for at in split.test]),
            ("test/defective", product.defective),
        ):
            read = [cv2.imread(str(file)) for file in sorted((folder / where).iterdir())]
            np.testing.assert_array_equal(read, wanted)
