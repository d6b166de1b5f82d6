from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibration.geometry.coverage import CELLS, CORNERS_A_CELL, coverage, fitted_and_held_out
from calibration.geometry.detection import BoardView, Problem


def view(*cells: tuple[int, int], problem: Problem | None = None) -> BoardView:
    """With just enough corners in each of these cells (column, row) of a picture of 500 x 250 px."""
    places = [((column + 0.5) * 100, (row + 0.5) * 50) for column, row in cells for _ in range(CORNERS_A_CELL)]
    ids = np.arange(len(places), dtype=np.int32)
    return BoardView("v", 500, 250, ids, np.array(places).reshape(-1, 2), 0.5, 100.0, problem)


EVERYWHERE = [(column, row) for column in range(CELLS) for row in range(CELLS)]


def test_a_picture_seen_all_over_misses_nothing() -> None:
    found = coverage([view(*EVERYWHERE)])
    assert found.missing == ()
    assert found.share == 1.0
    assert (found.counts == CORNERS_A_CELL).all()


def test_what_is_missing_is_told_in_words() -> None:
    assert coverage([view(*EVERYWHERE[1:])]).missing == ("the upper left corner",)
    found = coverage([view(*(cell for cell in EVERYWHERE if cell[0] < 3))])
    assert found.missing == ("the upper right corner", "the right middle", "the lower right corner")
    assert found.share == 0.6
    assert coverage([view(*(cell for cell in EVERYWHERE if cell != (2, 2)))]).missing == ("the middle",)
    assert coverage([view(*(cell for cell in EVERYWHERE if cell != (2, 4)))]).missing == ("the lower middle",)


def test_no_views_miss_everything() -> None:
    assert len(coverage([]).missing) == 9
    assert coverage([]).share == 0.0


def test_views_that_are_not_usable_cover_nothing() -> None:
    assert coverage([view(*EVERYWHERE, problem=Problem.BLURRED)]).share == 0.0
    # Nor do they count when one in four is held out.
    blurred, left, right = view(problem=Problem.BLURRED), view(*EVERYWHERE[:12]), view(*EVERYWHERE[12:])
    assert coverage([blurred, left, right, blurred, view(*EVERYWHERE)]).share == 1.0


def numbered(count: int, *cells: tuple[int, int]) -> list[BoardView]:
    return [replace(view(*cells), name=str(number)) for number in range(count)]


def names(views: list[BoardView]) -> list[str]:
    return [each.name for each in views]


def test_of_views_alike_every_fourth_is_held_out() -> None:
    fitted, held_out = fitted_and_held_out(numbered(9, *EVERYWHERE))
    assert (names(fitted), names(held_out)) == (["0", "1", "2", "4", "5", "6", "8"], ["3", "7"])
    fitted, held_out = fitted_and_held_out(numbered(2))
    assert (names(fitted), held_out) == (["0", "1"], [])


def test_what_only_one_view_has_seen_is_not_held_out() -> None:
    """Over the picture column by column, with every fourth view at the bottom."""
    columns = [(column, row) for column in range(CELLS) for row in (0, 1, 3, 4)]
    views = [replace(view(cell, (2, 2)), name=str(cell)) for cell in columns]
    assert all(cell[1] == 4 for cell in columns[3::4])
    fitted, held_out = fitted_and_held_out(
        [*views, view(*(cell for each in range(CELLS) for cell in ((each, 1), (each, 3))))]
    )
    assert len(held_out) == 5
    assert {str(cell) for cell in columns if cell[1] in (0, 4)} <= set(names(fitted))


def test_corners_outside_the_picture_count_at_its_edge() -> None:
    outside = replace(view((0, 0)), corners_px=np.array([[-0.5, -0.4], [499.9, 249.9], [0, 0], [1, 1]]))
    counts = coverage([outside]).counts
    assert counts[0, 0] == 3
    assert counts[4, 4] == 1
