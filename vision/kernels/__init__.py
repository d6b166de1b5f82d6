"""Compiled loops: typed, short, writing to ``out``.

Every kernel has explicit signatures, so it is compiled (or read from numba's cache) when its module is imported and
can never compile later: an argument of another type is a TypeError.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from math import prod
from types import ModuleType
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from numba import types

_BLAS = "scipy.linalg.cython_blas"


def _load_array_functions_without_blas() -> None:
    """Numba asks once whether SciPy has a BLAS for its matrix product, and imports all of scipy.linalg to find out.

    No kernel multiplies matrices, and a fifth of a second at every start of every process is too much for the answer. Told
    that there is none here, numba refuses to compile such a kernel; whoever uses SciPy itself finds it as it is.
    """
    if _BLAS in sys.modules:
        return
    modules = cast("dict[str, ModuleType | None]", sys.modules)
    modules[_BLAS] = None  # an import of it fails
    try:
        importlib.import_module("numba.np.arraymath")
    finally:
        del modules[_BLAS]


_load_array_functions_without_blas()

Function = TypeVar("Function", bound=Callable[..., Any])

# The types of numba's signatures.
PIXELS = types.Array(types.uint8, 1, "C", readonly=True)
INDICES = types.uint32[::1]
FLOATS = types.float32[::1]
PLANES = types.float32[:, :, ::1]
BYTE_PLANES = types.uint8[:, :, ::1]

# The same for readers and mypy.
PixelArray = npt.NDArray[np.uint8]
IndexArray = npt.NDArray[np.uint32]
FloatArray = npt.NDArray[np.float32]


def compiled(*signatures: Any, contract: bool = True) -> Callable[[Function], Function]:
    """``numba.njit`` with the project's options, once for each signature.

    Of fastmath only contraction (fused multiply-add) is on: it rounds less often and keeps NaN, order and signs. Off where a
    result must be that of the formula rounded at each step, on every processor.
    """
    return cast(
        "Callable[[Function], Function]",
        numba.njit(
            list(signatures), cache=True, nogil=True, fastmath={"contract"} if contract else False, error_model="numpy"
        ),
    )


def flat_rows(pixels: PixelArray) -> tuple[PixelArray, int]:
    """A frame as kernels read it: (its memory as one read-only 1-D array, not copied; bytes from row to row).

    ``pixels``: uint8 (H, W) or (H, W, C), packed along a row, rows at least a row's bytes apart. Raises ValueError
    otherwise.
    """
    height, *row = pixels.shape
    row_bytes = prod(row)
    pitch, *inner = pixels.strides
    if pixels.dtype != np.uint8 or inner != ([1] if len(row) == 1 else [row[1], 1]) or pitch < row_bytes:
        raise ValueError(
            f"pixels: got {pixels.dtype} with strides {pixels.strides} for shape {pixels.shape}, "
            "expected uint8 without gaps inside a row, top row first"
        )
    if pitch == row_bytes:
        flat = pixels.reshape(-1)
        flat.flags.writeable = False
        return flat, pitch
    return np.lib.stride_tricks.as_strided(pixels, ((height - 1) * pitch + row_bytes,), (1,), writeable=False), pitch
