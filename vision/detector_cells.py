"""How many cells a detector looks at: what identifying a model and reading its tensors share."""

from __future__ import annotations

_STRIDES = (4, 8, 16, 32, 64, 128)
_FINEST_STRIDES = (4, 8, 16)
_COARSEST_STRIDES = (32, 64, 128)

ANCHORS_OF_YOLOV5 = 3
"""Candidates a cell."""


def cells(height_px: int | None, width_px: int | None) -> set[int]:
    """Numbers of cells that a detector with neighbouring strides can have for an input of this size; empty where it is free."""
    if height_px is None or width_px is None:
        return set()
    return {
        sum((height_px // stride) * (width_px // stride) for stride in _STRIDES if finest <= stride <= coarsest)
        for finest in _FINEST_STRIDES
        for coarsest in _COARSEST_STRIDES
    }
