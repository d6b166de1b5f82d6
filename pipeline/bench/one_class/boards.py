"""Circuit boards of DeepPCB, in two tasks: anywhere on a board, and one place of one design.

``boards_anywhere``: real pictures alone. Patches of tested boards, with no two alike: good ones have no defect, defective ones have
one, well inside. One product a group of boards. What a line sees that inspects a panel in tiles and has no drawing.

``boards_in_place``: one place of one design a product, as a registered camera sees it again and again. DeepPCB has each place twice
only, once tested and once cleaned, and both in black and white: the layouts and the defects are real; that the boards differ in
their etching, and that a camera takes them a little moved, turned, lit and blurred, with dust on them, is rendered. A defective
board is the tested one with all its defects but one put right from the clean one. Good boards are the clean one, and the tested one
put right wholly, so that where something was put right tells nothing.

The folder is the data set's ``PCBData``'s parent. To choose by: its training list; to report: its test list.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.bench.one_class.data import Mask, NoData, Part, Pixels, Product
from pipeline.bench.one_class.variation import clouds, turned

Floats = npt.NDArray[Any]

_LISTS = {"choose": ("trainval.txt",), "report": ("test.txt",), "all": ("trainval.txt", "test.txt")}

_PATCH_PX, _GRID_PX = 128, 32
_INSIDE_PX = 16
"""A defect's box lies so far inside its patch, and a good patch so far from any box."""
_COPPER_SHARE = (0.05, 0.95)
_GROUP_BOARDS_MIN, _GROUP_BOARDS_MAX = 70, 100
_GOOD_A_BOARD, _DEFECTIVE_A_BOARD = 3, 2

_PLACE_PX = 256
_PLACES = 12
_DEFECTS_MIN = 3
_PUT_RIGHT_PX = 4
"""Around a defect's box, as its edge is drawn close."""
_GOOD_PICTURES, _PICTURES_A_DEFECT = 100, 6


@dataclass(frozen=True, slots=True)
class _Board:
    """A tested board, the clean one it is compared with, and its defects: int64 (n, 4), x1 y1 x2 y2, half-open."""

    name: str
    group: str
    tested_file: Path
    clean_file: Path
    boxes_px: npt.NDArray[np.int64]


def boards_anywhere(folder: Path, part: Part) -> list[Product]:
    """A product for each group that has boards enough, patches of 128 x 128 px. Raises NoData."""
    boards = _listed(folder, part)
    products = []
    for group in sorted({board.group for board in boards}):
        members = [board for board in boards if board.group == group]
        if len(members) >= _GROUP_BOARDS_MIN:
            products.append(_patches(f"boards anywhere {group}", members[:_GROUP_BOARDS_MAX]))
    return products


def _patches(name: str, boards: Sequence[_Board]) -> Product:
    generator = np.random.default_rng(zlib.crc32(name.encode()))
    good: list[Pixels] = []
    sources: list[int] = []
    defective: list[Pixels] = []
    masks: list[Mask] = []
    for source, board in enumerate(boards):
        tested = _grey(board.tested_file)
        taken: list[tuple[int, int]] = []
        places = [
            (x_px, y_px)
            for y_px in range(0, tested.shape[0] - _PATCH_PX + 1, _GRID_PX)
            for x_px in range(0, tested.shape[1] - _PATCH_PX + 1, _GRID_PX)
        ]
        for at in generator.permutation(len(places)):
            x_px, y_px = places[at]
            patch = tested[y_px : y_px + _PATCH_PX, x_px : x_px + _PATCH_PX]
            is_apart = all(max(abs(x_px - x), abs(y_px - y)) >= _PATCH_PX for x, y in taken)
            if is_apart and not _touched(board, x_px, y_px, -_INSIDE_PX).any() and _is_drawn_on(patch):
                taken.append((x_px, y_px))
                good.append(patch.copy())
                sources.append(source)
            if len(taken) == _GOOD_A_BOARD:
                break
        found = 0
        for number in generator.permutation(len(board.boxes_px)):
            for x_px, y_px in _around(board.boxes_px[number], tested.shape, generator):
                touched = _touched(board, x_px, y_px, 0)
                if touched.sum() == 1 and found < _DEFECTIVE_A_BOARD:
                    defective.append(tested[y_px : y_px + _PATCH_PX, x_px : x_px + _PATCH_PX].copy())
                    masks.append(_mask(board.boxes_px[number], x_px, y_px, _PATCH_PX))
                    found += 1
                    break
    return Product(name, good, np.array(sources), defective, masks)


def _touched(board: _Board, x_px: int, y_px: int, inset_px: int) -> Mask:
    """Bool (boxes,): those that reach into a patch, shrunk by ``inset_px``."""
    x1, y1, x2, y2 = board.boxes_px.T
    near, far = inset_px, _PATCH_PX - inset_px
    touched: Mask = (x2 > x_px + near) & (x1 < x_px + far) & (y2 > y_px + near) & (y1 < y_px + far)
    return touched


def _around(
    box_px: npt.NDArray[np.int64], shape: tuple[int, ...], generator: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """The places of the grid that have the box well inside, in random order."""
    ranges = []
    for low, high, size in ((box_px[0], box_px[2], shape[1]), (box_px[1], box_px[3], shape[0])):
        first, last = max(0, high + _INSIDE_PX - _PATCH_PX), min(low - _INSIDE_PX, size - _PATCH_PX)
        ranges.append([at for at in range(0, size, _GRID_PX) if first <= at <= last])
    places = [(x_px, y_px) for y_px in ranges[1] for x_px in ranges[0]]
    for at in generator.permutation(len(places)):
        yield places[at]


def _is_drawn_on(patch: Pixels) -> bool:
    """No bare copper, and no bare board: a defect would lie at a track's edge more often than not."""
    return bool(_COPPER_SHARE[0] <= (patch < 128).mean() <= _COPPER_SHARE[1])


def boards_in_place(folder: Path, part: Part, *, places: int = _PLACES) -> list[Product]:
    """So many products of 256 x 256 px, on as many boards of as many groups as there are. Raises NoData."""
    boards = _listed(folder, part)
    generator = np.random.default_rng(zlib.crc32(f"in place {part}".encode()))
    # One of each group in turn, so that no group has them all.
    turns: dict[str, int] = {}
    order: list[tuple[int, int, _Board]] = []
    for at in generator.permutation(len(boards)):
        turn = turns[boards[at].group] = turns.get(boards[at].group, -1) + 1
        order.append((turn, len(order), boards[at]))
    products: list[Product] = []
    for _, _, board in sorted(order, key=lambda each: each[:2]):
        product = _place(board, generator)
        if product is not None:
            products.append(product)
        if len(products) == places:
            return products
    raise NoData(f"{folder}: got {len(products)} places with defects enough, expected {places}")


def _place(board: _Board, generator: np.random.Generator) -> Product | None:
    """The first place of the board, of some tried, that has defects enough inside; None where there is none."""
    tested, clean = _grey(board.tested_file), _grey(board.clean_file)
    for _ in range(20):
        x_px, y_px = (int(generator.integers(0, size - _PLACE_PX + 1)) for size in (tested.shape[1], tested.shape[0]))
        x1, y1, x2, y2 = (board.boxes_px - [x_px, y_px, x_px, y_px]).T
        inside_px = _INSIDE_PX + _PUT_RIGHT_PX
        is_inside = (np.minimum(x1, y1) >= inside_px) & (np.maximum(x2, y2) <= _PLACE_PX - inside_px)
        if is_inside.sum() >= _DEFECTS_MIN:
            break
    else:
        return None
    clean_place = clean[y_px : y_px + _PLACE_PX, x_px : x_px + _PLACE_PX]
    tested_place = tested[y_px : y_px + _PLACE_PX, x_px : x_px + _PLACE_PX]
    own = [box - [x_px, y_px, x_px, y_px] for box in board.boxes_px]
    healed = _put_right(tested_place, clean_place, own)
    good = [_taken(each, generator)[0] for each in (clean_place, healed) for _ in range(_GOOD_PICTURES // 2)]
    defective: list[Pixels] = []
    masks: list[Mask] = []
    for number in np.flatnonzero(is_inside):
        # Where a neighbour's box reaches into this one, a part of this defect is put right with it.
        flawed = _put_right(tested_place, clean_place, [box for at, box in enumerate(own) if at != number])
        for _ in range(_PICTURES_A_DEFECT):
            picture, mask = _taken(flawed, generator, _mask(board.boxes_px[number], x_px, y_px, _PLACE_PX))
            defective.append(picture)
            masks.append(mask)
    return Product(f"boards in place {board.name}", good, np.arange(len(good)), defective, masks)


def _put_right(tested: Pixels, clean: Pixels, boxes_px: Sequence[npt.NDArray[np.int64]]) -> Pixels:
    """The tested board, with these boxes taken from the clean one."""
    healed = tested.copy()
    for box in boxes_px:
        x1, y1 = np.maximum(box[:2] - _PUT_RIGHT_PX, 0)
        x2, y2 = np.maximum(box[2:] + _PUT_RIGHT_PX, 0)
        healed[y1:y2, x1:x2] = clean[y1:y2, x1:x2]
    return healed


def _taken(board: Pixels, generator: np.random.Generator, mask: Mask | None = None) -> tuple[Pixels, Mask]:
    """A camera's picture of a board that was etched anew: grey, and where the mask lies in it."""
    size = (board.shape[1], board.shape[0])
    edge = cv2.GaussianBlur(board.astype(np.float32) / 255.0, (0, 0), 1.5)
    etching = generator.normal(0.0, 0.07) + 0.05 * clouds(generator, (size[1], size[0]), 20.0)
    bare: Floats = (edge > 0.5 + etching).astype(np.float32)
    shift_px = (float(generator.uniform(-4.0, 4.0)), float(generator.uniform(-4.0, 4.0)))
    move = turned(size, float(generator.normal(0.0, 0.4)), shift_px)
    bare = cv2.warpAffine(bare, move, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    bare = cv2.GaussianBlur(bare, (0, 0), float(generator.uniform(0.7, 1.2)))
    copper, laminate = generator.normal(170.0, 8.0), generator.normal(60.0, 5.0)
    levels = copper + (laminate - copper) * bare
    levels = levels * (1.0 + 0.04 * clouds(generator, (size[1], size[0]), 40.0))
    levels += _dust(generator, board.shape)
    levels += generator.normal(0.0, generator.uniform(2.0, 5.0), board.shape)
    picture = np.clip(np.rint(levels), 0.0, 255.0).astype(np.uint8)
    if mask is None:
        return picture, np.zeros(board.shape, bool)
    moved = cv2.warpAffine(mask.astype(np.uint8), move, size, flags=cv2.INTER_NEAREST)
    return picture, moved.astype(bool)


def _dust(generator: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Specks that lie on every board, and are no defects."""
    specks = np.zeros(shape, np.float32)
    for _ in range(int(generator.integers(0, 7))):
        at = (int(generator.integers(shape[1])), int(generator.integers(shape[0])))
        change = generator.uniform(15.0, 40.0) * (1.0 if generator.random() < 0.5 else -1.0)
        cv2.circle(specks, at, int(generator.integers(1, 3)), float(change), -1)
    return np.asarray(cv2.GaussianBlur(specks, (0, 0), 0.8))


def _mask(box_px: npt.NDArray[np.int64], x_px: int, y_px: int, side_px: int) -> Mask:
    mask = np.zeros((side_px, side_px), bool)
    x1, y1, x2, y2 = np.maximum(box_px - [x_px, y_px, x_px, y_px], 0)
    mask[y1:y2, x1:x2] = True
    return mask


def _listed(folder: Path, part: Part) -> list[_Board]:
    """The boards of a part's lists that are there whole, in their order."""
    root = folder / "PCBData"
    boards = []
    for name in _LISTS[part]:
        try:
            lines = (root / name).read_text(encoding="utf-8").split("\n")
        except OSError as error:
            raise NoData(f"{root / name}: {error.strerror}, expected the lists of DeepPCB") from None
        for line in filter(None, lines):
            picture, truth = line.split()
            stem = root / picture.removesuffix(".jpg")
            tested, clean = (stem.with_name(f"{stem.name}_{kind}.jpg") for kind in ("test", "temp"))
            if tested.is_file() and clean.is_file() and (root / truth).is_file():
                rows = (root / truth).read_text(encoding="utf-8").split("\n")
                boxes = [[int(number) for number in row.replace(",", " ").split()[:4]] for row in filter(None, rows)]
                group = picture.split("/")[0].removeprefix("group")
                boards.append(_Board(stem.name, group, tested, clean, np.array(boxes, np.int64).reshape(-1, 4)))
    return boards


def _grey(file: Path) -> Pixels:
    picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise NoData(f"{file}: cannot be read as an image")
    return np.asarray(picture, np.uint8)
