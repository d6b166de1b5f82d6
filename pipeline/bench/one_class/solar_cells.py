"""Solar cells: good is a defect probability of 0, defective one of 1; mono- and polycrystalline cells are two products."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.bench.one_class.data import Mask, Part, Product
from pipeline.simulator.images import SolarCellImages, load_images, solar_cell_rows

TYPES = ("mono", "poly")
_CHOOSE_SHARE = 0.4
_CHOOSE_SEED = 7


def solar_cells(kind: str, part: Part) -> Product:
    """One of TYPES: 300 x 300 px, grey. Raises ImageError."""
    rows = solar_cell_rows()[1]
    probability = np.array([float(row[1]) for row in rows])
    is_mono = np.array([row[2] == "mono" for row in rows])
    is_chosen_by = choose_part(probability, is_mono)
    wanted = is_mono == (kind == "mono")
    if part != "all":
        wanted &= is_chosen_by == (part == "choose")
    good, defective = (np.flatnonzero(wanted & (probability == value)) for value in (0.0, 1.0))
    pictures = load_images(SolarCellImages(indices=[*good.tolist(), *defective.tolist()])).pictures
    return Product(f"elpv {kind}", pictures[: len(good)], good.astype(np.int64), pictures[len(good) :], None)


def choose_part(probability: npt.NDArray[np.float64], is_mono: Mask) -> Mask:
    """Bool (cells,): the cells to choose by, two fifths of each type and probability; the others are reported."""
    chosen = np.zeros(len(probability), bool)
    generator = np.random.default_rng(_CHOOSE_SEED)
    for mono in (True, False):
        for value in np.unique(probability):
            members = np.flatnonzero((is_mono == mono) & (probability == value))
            generator.shuffle(members)
            chosen[members[: round(_CHOOSE_SHARE * len(members))]] = True
    return chosen
