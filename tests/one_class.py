"""Products for the tests of one-class methods."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.bench.one_class.data import Product


def spotted(
    *, good: int = 30, defective: int = 10, side_px: int = 96, is_colour: bool = False, seed: int = 0
) -> Product:
    """Grey slopes with noise; a defective one has a bright spot of 12 px, anywhere."""
    generator = np.random.default_rng(seed)
    shape = (side_px, side_px, 3) if is_colour else (side_px, side_px)
    slope = np.linspace(60.0, 120.0, side_px).reshape(1, -1, *(1,) * is_colour)

    def picture() -> npt.NDArray[np.uint8]:
        return (slope + generator.normal(0.0, 4.0, shape)).clip(0, 255).astype(np.uint8)

    pictures, masks = [picture() for _ in range(defective)], []
    for each in pictures:
        y, x = generator.integers(8, side_px - 20, 2)
        mask = np.zeros((side_px, side_px), bool)
        mask[y : y + 12, x : x + 12] = True
        each[mask] = 235
        masks.append(mask)
    return Product("spotted", [picture() for _ in range(good)], np.arange(good), pictures, masks)
