"""Which pictures of a camera are worth keeping for a calibration, told to the operator as they come."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from calibration.board import Board
from calibration.flat_field import BRIGHT_BEST_LEVEL, BRIGHT_MIN_LEVEL, DARK_MAX_LEVEL, SATURATED_LEVEL
from calibration.focus import FRAME_COUNT_MIN, NEAR_BEST, advise_focus, measure_sharpness
from calibration.geometry.coverage import CORNERS_A_CELL, coverage
from calibration.geometry.detection import BLUR_MAX_PX, BoardView, find_board
from calibration.refusal import Refusal

Pixels = npt.NDArray[np.uint8]

_NEW_SHARE = 0.03
"""Of the picture's width: so far a board's corners have to have moved since every picture that was kept."""
_SATURATED_SHARE_MAX = 0.001
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class Looked:
    """What is said of a picture, and whether it is kept."""

    is_kept: bool
    told: str


class Gate(Protocol):
    """Looks at one picture after the other; those that it keeps count."""

    def look(self, pixels: Pixels) -> Looked:
        """A picture as it comes from the camera, or one that was kept an earlier time."""

    def missing(self) -> str:
        """What is still wanted, in a few words; empty where nothing is."""

    def panel(self) -> list[str]:
        """Further lines for the terminal."""


class BoardGate:
    """Sharp pictures of the board, each from a new place; with ``is_covering`` until the whole picture has seen it."""

    def __init__(self, board: Board, count: int, *, is_covering: bool) -> None:
        self._board, self._count, self._is_covering = board, count, is_covering
        self._views: list[BoardView] = []

    def look(self, pixels: Pixels) -> Looked:
        """See ``Gate``."""
        view = find_board("now", pixels, self._board)
        if not view.is_usable:
            return Looked(False, view.told)
        sharp = f"{len(view.corner_ids)} corners, blur {view.blur_px:.2f} px (at most {BLUR_MAX_PX:g})"
        if any(_moved_share(view, kept) < _NEW_SHARE for kept in self._views):
            return Looked(False, f"{sharp}: seen there already, move or tilt the board")
        self._views.append(view)
        return Looked(True, f"{sharp}: kept")

    def missing(self) -> str:
        """See ``Gate``."""
        told = []
        if (more := self._count - len(self._views)) > 0:
            told.append(f"{more} more")
        if self._is_covering and (places := coverage(self._views).missing):
            told.append(f"the board in {', '.join(places[:3])}")
        return ", and ".join(told)

    def panel(self) -> list[str]:
        """The picture's parts: filled where enough corners were seen."""
        if not self._is_covering:
            return []
        counts = coverage(self._views).counts
        return [" ".join("■" if count >= CORNERS_A_CELL else "·" for count in row) for row in counts.tolist()]


class LevelGate:
    """Pictures of one brightness: ``judge`` says of the typical level and the saturated share what is wrong, or nothing."""

    def __init__(self, count: int, judge: Callable[[float, float], str]) -> None:
        self._count, self._judge = count, judge
        self._levels: list[float] = []

    def look(self, pixels: Pixels) -> Looked:
        """See ``Gate``."""
        level, saturated = float(np.median(pixels)), float((pixels >= SATURATED_LEVEL).mean())
        seen = f"typical level {level:.0f} of 255, {100 * saturated:.1f} % saturated"
        if wrong := self._judge(level, saturated):
            return Looked(False, f"{seen}: {wrong}")
        self._levels.append(level)
        return Looked(True, f"{seen}: kept")

    def missing(self) -> str:
        """See ``Gate``."""
        more = self._count - len(self._levels)
        return f"{more} more" if more > 0 else ""

    def panel(self) -> list[str]:
        """See ``Gate``."""
        return []


class FocusGate:
    """Keeps no picture: says how sharp they are while somebody turns the focus ring, until that is enough."""

    def __init__(self) -> None:
        self._frames: deque[Pixels] = deque(maxlen=FRAME_COUNT_MIN)
        self._blurs_px: list[float] = []

    def look(self, pixels: Pixels) -> Looked:
        """See ``Gate``."""
        self._frames.append(pixels)
        if len(self._frames) < FRAME_COUNT_MIN:
            return Looked(False, "looking ...")
        found = measure_sharpness(np.stack(self._frames))
        if isinstance(found, Refusal):
            return Looked(False, found.advice)
        best_px = min(self._blurs_px, default=found.blur_px)
        # As sharp as the best, whoever has turned back is there, and has been past it.
        is_as_best = found.blur_px * NEAR_BEST > best_px
        self._blurs_px.append(max(found.blur_px, best_px) if is_as_best else found.blur_px)
        return Looked(False, advise_focus(self._blurs_px).in_words())

    def missing(self) -> str:
        """See ``Gate``."""
        return "the focus ring at its sharpest, and fastened"

    def panel(self) -> list[str]:
        """The last readings, longer where softer."""
        return [f"{blur_px:5.2f} px {'▪' * round(10 * min(blur_px, 5.0))}" for blur_px in self._blurs_px[-_SHOWN:]]


def dark_fault(level: float, saturated: float) -> str:
    """Why it is no dark frame; empty where it is one."""
    return "not dark, put the cap on the lens and the light out" if level > DARK_MAX_LEVEL else ""


def bright_fault(level: float, saturated: float) -> str:
    """Why it is no bright frame; empty where it is one."""
    if saturated > _SATURATED_SHARE_MAX:
        return "too bright, shorten the exposure or dim the light"
    if level < BRIGHT_MIN_LEVEL:
        return f"too dark, best is about {BRIGHT_BEST_LEVEL:.0f}: more light or a longer exposure"
    return ""


def any_fault(level: float, saturated: float) -> str:
    """Every picture that the camera delivers is one of a part."""
    return ""


def _moved_share(view: BoardView, kept: BoardView) -> float:
    """How far the corners seen in both lie apart on average, of the picture's width; 1 where none is seen in both."""
    _, here, there = np.intersect1d(view.corner_ids, kept.corner_ids, return_indices=True)
    if not len(here):
        return 1.0
    apart = np.linalg.norm(view.corners_px[here] - kept.corners_px[there], axis=1)
    return float(apart.mean()) / view.width_px
