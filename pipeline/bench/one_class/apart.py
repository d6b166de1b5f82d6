"""Good pictures of one part, or of what was cut from one piece, on one side of a split: else a test is easier than new parts are.

Of the cells of solar modules some were photographed twice, and a third of the good polycrystalline ones look so alike.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibration.teaching.backbone import feature_shape
from calibration.teaching.near_copies import near_copies
from pipeline.bench.one_class.data import Product
from pipeline.teaching.budget import PREFERRED
from pipeline.teaching.features import FeatureReader


def near_copies_apart(product: Product) -> Product:
    """With the sources of near copies (``calibration.teaching.near_copies``) made one."""
    height_px, width_px = product.good[0].shape[:2]
    size_px, depth = PREFERRED[0]
    shape = feature_shape(width_px, height_px, is_grey=product.good[0].ndim == 2, size_px=size_px, depth=depth)
    reader = FeatureReader(shape)
    part = near_copies([np.stack([reader.features(picture) for picture in product.good])], shape.layers).part
    sources = product.sources.copy()
    for number in np.flatnonzero(np.bincount(part) > 1):
        alike = sources[part == number]
        sources[np.isin(sources, alike)] = alike.min()
    return replace(product, sources=sources)
