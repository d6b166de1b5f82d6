"""The data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.bench.one_class.boards import boards_anywhere, boards_in_place
from pipeline.bench.one_class.data import NoData, Part, Product
from pipeline.bench.one_class.rendered import rendered_parts
from pipeline.bench.one_class.solar_cells import solar_cells

_Read = Callable[[Part], list[Product]]


def data_sets(deeppcb: Path | None) -> dict[str, _Read]:
    """Each reads its products. Raises ImageError or NoData; ``deeppcb``: the folder of that data set."""

    def boards() -> Path:
        if deeppcb is None:
            raise NoData("the boards need the folder of DeepPCB: --deeppcb DIR")
        return deeppcb

    return {
        "elpv-mono": lambda part: [solar_cells("mono", part)],
        "elpv-poly": lambda part: [solar_cells("poly", part)],
        "boards-anywhere": lambda part: boards_anywhere(boards(), part),
        "boards-in-place": lambda part: boards_in_place(boards(), part),
        "rendered-grey": lambda part: [rendered_parts(is_colour=False, part=part)],
        "rendered-colour": lambda part: [rendered_parts(is_colour=True, part=part)],
    }
