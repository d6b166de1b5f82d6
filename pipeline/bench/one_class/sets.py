"""The data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pipeline.bench.one_class.boards import boards_anywhere, boards_in_place
from pipeline.bench.one_class.data import Part, Product
from pipeline.bench.one_class.rendered import rendered_parts
from pipeline.bench.one_class.solar_cells import solar_cells

_Read = Callable[[Part], list[Product]]


def data_sets(deeppcb: Path | None) -> dict[str, _Read]:
    """Each reads its products. Raises ImageError or NoData; those of boards are there with the folder of DeepPCB alone."""
    sets: dict[str, _Read] = {
        "elpv-mono": lambda part: [solar_cells("mono", part)],
        "elpv-poly": lambda part: [solar_cells("poly", part)],
        "rendered-grey": lambda part: [rendered_parts(is_colour=False, part=part)],
        "rendered-colour": lambda part: [rendered_parts(is_colour=True, part=part)],
    }
    if deeppcb is not None:
        sets["boards-in-place"] = partial(boards_in_place, deeppcb)
        sets["boards-anywhere"] = partial(boards_anywhere, deeppcb)
    return sets
