"""Shapes of heads: which layouts a tensor can have."""

from __future__ import annotations

from collections.abc import Sequence

from vision.detector_cells import ANCHORS_OF_YOLOV5

Size = int | str

_END_TO_END_COLUMNS = 6

YOLO_KINDS = ("yolov5", "yolov8", "end_to_end")


def number(size: Size | None) -> int | None:
    """A size that is fixed; None for one that is free."""
    return size if isinstance(size, int) and size > 0 else None


def row_shape(shape: Sequence[Size]) -> tuple[Size, ...]:
    """The shape of one row: the batch axis taken off."""
    return tuple(shape[1:])


def shape_text(shape: Sequence[Size]) -> str:
    """A shape for people."""
    return " x ".join(str(size) or "?" for size in shape) or "one number"


def detector_layouts(
    shape: Sequence[Size], classes_count: int, *, extra_count: int, cells_counts: set[int]
) -> list[str]:
    """The kinds whose layout ``shape`` (a row's, two sizes) has, for so many classes and ``extra_count`` numbers more a box."""
    rows, columns = (number(size) for size in shape)
    fits = []
    if columns == 5 + classes_count + extra_count and _is_count(rows, cells_counts, ANCHORS_OF_YOLOV5):
        fits.append("yolov5")
    if rows == 4 + classes_count + extra_count and _is_count(columns, cells_counts, 1):
        fits.append("yolov8")
    if columns == _END_TO_END_COLUMNS + extra_count:
        fits.append("end_to_end")
    return fits


def classes_by_shape(kind: str, shape: Sequence[Size], *, extra_count: int) -> int | None:
    """How many classes a detector of this kind has; None where its layout does not say."""
    rows, columns = (number(size) for size in shape)
    if kind == "yolov5" and columns is not None:
        return columns - 5 - extra_count
    if kind == "yolov8" and rows is not None:
        return rows - 4 - extra_count
    return None


def _is_count(size: int | None, cells_counts: set[int], factor: int) -> bool:
    """Whether ``size`` can be; a free size, or a free input, can be anything."""
    return size is None or not cells_counts or size in {factor * count for count in cells_counts}
