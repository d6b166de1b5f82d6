"""Which pictures are worth keeping."""

from __future__ import annotations

from itertools import islice

import cv2
import numpy as np
import pytest

from pipeline.bench.board_setups import random_setup
from pipeline.cli.calibrate.gates import BoardGate, FocusGate, LevelGate, any_fault, bright_fault, dark_fault

SEED = 1


@pytest.fixture(scope="module")
def views() -> list[np.typing.NDArray[np.uint8]]:
    return [picture for _, _, picture in islice(random_setup(SEED).pictures(), 12)]


def test_a_board_is_kept_where_it_is_new(views: list[np.typing.NDArray[np.uint8]]) -> None:
    gate = BoardGate(random_setup(SEED).board, 12, is_covering=True)
    assert gate.missing().startswith("12 more, and the board in the upper left corner")
    assert gate.look(views[0]).is_kept
    again = gate.look(views[0])
    assert not again.is_kept
    assert "seen there already, move or tilt the board" in again.told
    nothing = gate.look(np.full_like(views[0], 128))
    assert not nothing.is_kept
    assert all(gate.look(view).is_kept for view in views[1:])
    assert "more" not in gate.missing()
    assert sum(row.count("■") for row in gate.panel()) > 15
    assert len(gate.panel()) == 5


def test_enough_is_enough() -> None:
    gate = LevelGate(2, any_fault)
    picture = np.full((8, 8), 100, np.uint8)
    assert gate.missing() == "2 more"
    assert gate.look(picture).is_kept
    assert gate.look(picture).is_kept
    assert gate.missing() == ""


@pytest.mark.parametrize(
    ("level", "is_dark", "is_bright"), [(5, True, False), (60, False, False), (170, False, True), (255, False, False)]
)
def test_levels_are_told_from_each_other(level: int, is_dark: bool, is_bright: bool) -> None:
    picture = np.full((8, 8), level, np.uint8)
    assert LevelGate(1, dark_fault).look(picture).is_kept == is_dark
    looked = LevelGate(1, bright_fault).look(picture)
    assert looked.is_kept == is_bright
    assert f"typical level {level} of 255" in looked.told


def test_whoever_turns_the_focus_ring_is_told_where_it_was_sharpest() -> None:
    rng = np.random.default_rng(5)
    edge = np.where(np.arange(96) % 32 < 16, 60.0, 190.0)
    gate = FocusGate()
    said = []
    for blur_px in (3.0, 2.0, 0.8, 2.0, 3.0, 0.8):
        for _ in range(4):
            frame = cv2.GaussianBlur(np.tile(edge, (96, 1)), (0, 0), blur_px) + rng.normal(0.0, 1.5, (96, 96))
            looked = gate.look(np.clip(np.rint(frame), 0, 255).astype(np.uint8))
            assert not looked.is_kept
        said.append(looked.told)
    assert said[0].endswith("turn the ring on past the sharpest place, then back.")
    assert said[3].endswith("turn the focus ring back towards it.")
    assert said[5].endswith("sharp, fasten the ring.")
    assert gate.missing()
    assert gate.panel()
