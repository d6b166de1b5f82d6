"""The train/test split of the solar-cell images, recomputable anywhere.

It needs numpy only, so that whoever shows or re-measures the test images need not install the
training libraries.  The order inside a stratum comes from SHA-256 and not from a random-number
generator, because a generator's stream may change between library versions.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipeline.simulator.images import ImageError

SPLIT_SEED = 2018
TEST_SHARE = 0.25
DEFECTIVE_FROM = 0.5
"""Cells with at least this defect probability count as defective (1/3 is functional, 2/3 is not)."""

Indices = NDArray[np.int64]


def is_defective(probability: ArrayLike) -> NDArray[np.bool_]:
    """Turn the data set's four defect probabilities into the two classes."""
    return np.asarray(probability, dtype=np.float64) >= DEFECTIVE_FROM


def shuffled(indices: ArrayLike, seed: int) -> Indices:
    """Order `indices` by the SHA-256 of seed and index: a shuffle that no library can change."""
    return np.asarray(
        sorted(
            (int(index) for index in np.asarray(indices)),
            key=lambda index: hashlib.sha256(f"{seed}:{index}".encode()).digest(),
        ),
        dtype=np.int64,
    )


def split(probability: ArrayLike, cell_type: ArrayLike, seed: int = SPLIT_SEED) -> tuple[Indices, Indices]:
    """Split the data set, in its own order, into sorted train and test indices.

    Stratified on class x cell type; each stratum gives `TEST_SHARE` of its cells, rounded half up,
    to the test part (656 of the 2624 cells).  The data set does not say which module a cell was cut
    from, so cells of one module can stand on both sides.
    """
    defective, types = is_defective(probability), np.asarray(cell_type)
    test: list[int] = []
    for kind in np.unique(types):
        for label in (False, True):
            members = shuffled(np.flatnonzero((types == kind) & (defective == label)), seed)
            test.extend(members[: int(len(members) * TEST_SHARE + 0.5)].tolist())
    test_indices = np.asarray(sorted(test), dtype=np.int64)
    return np.setdiff1d(np.arange(len(types), dtype=np.int64), test_indices), test_indices


def fold_numbers(probability: ArrayLike, cell_type: ArrayLike, folds: int, seed: int = SPLIT_SEED) -> Indices:
    """Give every cell its cross-validation fold, stratified on defect probability x cell type."""
    values, types = np.asarray(probability), np.asarray(cell_type)
    fold = np.zeros(len(types), dtype=np.int64)
    for kind in np.unique(types):
        for value in np.unique(values):
            members = shuffled(np.flatnonzero((types == kind) & (values == value)), seed + 1)
            fold[members] = np.arange(len(members)) % folds
    return fold


def test_indices() -> list[int]:
    """The cells that the shipped model was neither trained nor chosen on.

    Raises ImageError where the data set's package is not installed.
    """
    try:
        from elpv_dataset.utils import load_dataset
    except ImportError:
        raise ImageError(
            "images solar-cells: the package elpv-dataset is not installed; install Lineside with its extra demo: "
            "pip install -e '.[cpu,demo]'"
        ) from None
    _, probability, cell_type = load_dataset()
    return [int(index) for index in split(probability, cell_type)[1]]
