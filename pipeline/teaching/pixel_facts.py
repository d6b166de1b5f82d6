"""What a picture's pixels alone tell."""

from __future__ import annotations

import hashlib

import numpy as np

from pipeline.teaching.picture_set import Pixels

_COARSE_PX = 16
"""Of a picture in colour, or of one that shows something, every sixteenth pixel already says so."""


def is_grey(pixels: Pixels) -> bool:
    """Whether all channels of every pixel are alike; uint8 (height, width) or (height, width, 3)."""
    if pixels.ndim == 2:
        return True
    coarse = pixels[::_COARSE_PX, ::_COARSE_PX]
    return all(bool((each[..., 1:] == each[..., :1]).all()) for each in (coarse, pixels))


def is_flat(pixels: Pixels) -> bool:
    """Whether all pixels are alike; uint8 (height, width) or (height, width, 3)."""
    return all(bool((each == pixels[0, 0]).all()) for each in (pixels[::_COARSE_PX, ::_COARSE_PX], pixels))


def pixels_sha256(pixels: Pixels) -> str:
    """Of size and pixels; a grey picture has the same one however it is stored."""
    shown = pixels[..., 0] if pixels.ndim == 3 and is_grey(pixels) else pixels
    digest = hashlib.sha256(repr(shown.shape).encode())
    digest.update(np.ascontiguousarray(shown).data)
    return digest.hexdigest()
