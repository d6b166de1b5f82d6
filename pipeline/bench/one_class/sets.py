"""The data sets by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from pipeline.bench.one_class.apart import near_copies_apart
from pipeline.bench.one_class.boards import boards_anywhere, boards_in_place
from pipeline.bench.one_class.data import Part, Product
from pipeline.bench.one_class.rendered import DEFECTIVE_COUNT, GOOD_COUNT, alike_parts, rendered_parts
from pipeline.bench.one_class.solar_cells import solar_cells

_Read = Callable[[Part], list[Product]]


def data_sets(
    deeppcb: Path | None, *, most: int | None = None, has_alike: bool = False, is_apart: bool = False
) -> dict[str, _Read]:
    """Each reads its products. Raises ImageError or NoData; those of boards are there with the folder of DeepPCB alone.

    ``most``: pictures of each kind and product, for a short run. ``has_alike``: with products that have one defect alone, to hide.
    ``is_apart``: near copies among the good pictures have one source.
    """

    def cut(products: Iterable[Product]) -> list[Product]:
        return [product if most is None else product.at_most(most) for product in products]

    good, defective = (min(count, most or count) for count in (GOOD_COUNT, DEFECTIVE_COUNT))

    def rendered(part: Part, *, is_colour: bool) -> list[Product]:
        return [rendered_parts(is_colour=is_colour, part=part, good_count=good, defective_count=defective)]

    sets: dict[str, _Read] = {
        "elpv-mono": lambda part: cut([solar_cells("mono", part)]),
        "elpv-poly": lambda part: cut([solar_cells("poly", part)]),
        "rendered-grey": partial(rendered, is_colour=False),
        "rendered-colour": partial(rendered, is_colour=True),
    }
    if has_alike:
        sets["rendered-alike"] = lambda part: alike_parts(part=part, good_count=good, defective_count=defective)
    if deeppcb is not None:
        sets["boards-in-place"] = lambda part: cut(boards_in_place(deeppcb, part))
        sets["boards-anywhere"] = lambda part: cut(boards_anywhere(deeppcb, part))
    if not is_apart:
        return sets
    return {name: partial(_apart, read) for name, read in sets.items()}


def _apart(read: _Read, part: Part) -> list[Product]:
    return [near_copies_apart(product) for product in read(part)]
