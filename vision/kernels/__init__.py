"""Compiled loops: typed, short, writing to ``out``.

Every kernel has one explicit signature, so it is compiled (or read from numba's cache) when its module is imported and
can never compile later: an argument of another type is a TypeError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba import types

Function = TypeVar("Function", bound=Callable[..., Any])

PIXELS = types.Array(types.uint8, 1, "C", readonly=True)
INDICES = types.uint32[::1]
FLOATS = types.float32[::1]
PLANES = types.float32[:, :, ::1]


def compiled(signature: Any) -> Callable[[Function], Function]:
    """``numba.njit`` with the project's options. Only contraction (fused multiply-add) departs from strict IEEE order."""
    return cast(
        "Callable[[Function], Function]",
        numba.njit([signature], cache=True, nogil=True, fastmath={"contract"}, error_model="numpy"),
    )


def flat_rows(pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.uint8], int]:
    """A frame as kernels read it: (its memory as one read-only 1-D array without a copy, bytes from row to row).

    ``pixels``: uint8 (H, W) or (H, W, C), packed along a row, rows a non-negative stride apart. Raises ValueError otherwise.
    """
    packed = pixels.strides[1:] == ((1,) if pixels.ndim == 2 else (pixels.shape[2], 1))
    row_bytes = int(np.prod(pixels.shape[1:]))
    pitch = pixels.strides[0]
    if pixels.dtype != np.uint8 or not packed or pitch < row_bytes:
        raise ValueError(
            f"pixels: got {pixels.dtype} with strides {pixels.strides} for shape {pixels.shape}, "
            "expected uint8 rows without gaps inside a row"
        )
    if pitch == row_bytes:
        flat = pixels.reshape(-1)
        flat.flags.writeable = False
        return flat, pitch
    size = (pixels.shape[0] - 1) * pitch + row_bytes
    return np.lib.stride_tricks.as_strided(pixels, (size,), (1,), writeable=False), pitch
