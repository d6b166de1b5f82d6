from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.bench.one_class.boards import boards_anywhere, boards_in_place
from pipeline.bench.one_class.data import NoData
from tests.deeppcb import MISSING, deeppcb_folder

FOLDER = deeppcb_folder()
needs_boards = pytest.mark.skipif(FOLDER is None, reason=MISSING)


@needs_boards
def test_patches_of_boards() -> None:
    assert FOLDER is not None
    products = boards_anywhere(FOLDER, "report")
    assert {product.name for product in products} == {
        f"boards anywhere {group}" for group in ("12100", "12300", "90100")
    }
    for product in products:
        assert len(product.good) == len(product.sources) > 200
        assert product.masks is not None
        assert len(product.defective) == len(product.masks) > 140
        assert {picture.shape for picture in (*product.good, *product.defective)} == {(128, 128)}
        for mask in product.masks:
            rows, columns = np.nonzero(mask)
            # One box, whole, and far enough inside.
            assert (np.ptp(rows) + 1) * (np.ptp(columns) + 1) == mask.sum() > 0
            assert min(rows.min(), columns.min()) >= 16
            assert max(rows.max(), columns.max()) < 128 - 16
    again = boards_anywhere(FOLDER, "report")
    np.testing.assert_array_equal(products[0].good, again[0].good)
    np.testing.assert_array_equal(products[0].defective, again[0].defective)


@needs_boards
def test_a_place_of_a_design() -> None:
    assert FOLDER is not None
    (product,) = boards_in_place(FOLDER, "report", places=1)
    (again,) = boards_in_place(FOLDER, "report", places=1)
    assert product.masks is not None
    np.testing.assert_array_equal(product.good, again.good)
    np.testing.assert_array_equal(product.defective, again.defective)
    assert len(product.good) == 100
    # All show the same place: their mean is sharp, and a defect is seen against it.
    usual = np.median(product.good, axis=0)
    for picture, mask in zip(product.defective, product.masks, strict=True):
        assert 0 < mask.sum() < mask.size / 10
        unusual = np.abs(picture - usual)
        assert unusual[mask].mean() > unusual[~mask].mean()


@needs_boards
def test_the_parts_are_of_different_boards() -> None:
    assert FOLDER is not None
    choose, report = ({each.name for each in boards_in_place(FOLDER, part, places=3)} for part in ("choose", "report"))
    assert not choose & report


def test_a_folder_without_boards(tmp_path: Path) -> None:
    with pytest.raises(NoData, match=r"PCBData/test\.txt: .*expected the lists of DeepPCB"):
        boards_anywhere(tmp_path, "report")
    (tmp_path / "PCBData").mkdir()
    (tmp_path / "PCBData/test.txt").write_text("")
    with pytest.raises(NoData, match="got 0 places"):
        boards_in_place(tmp_path, "report")
