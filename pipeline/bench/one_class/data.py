"""What a one-class method is measured on: products with good and defective pictures, and how they are split.

Each data set has two parts that share no picture: one to choose by, one to report.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

Pixels = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]
Part = Literal["choose", "report", "all"]

TRAIN_SHARE = 0.8
_SPLIT_SEED = 100


class NoData(RuntimeError):
    """A data set cannot be had. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Product:
    """Pictures of one product: uint8 (h, w) or (h, w, 3) BGR.

    ``sources``: int64 (good,), what a good picture was cut from; pictures of one source are never on both sides of a split.
    ``masks``: bool (h, w) for each defective picture, where its defects are; None where nobody knows.
    """

    name: str
    good: Sequence[Pixels]
    sources: Indices
    defective: Sequence[Pixels]
    masks: Sequence[Mask] | None

    def at_most(self, count: int) -> Product:
        """The first so many pictures of each kind."""
        masks = None if self.masks is None else self.masks[:count]
        return Product(self.name, self.good[:count], self.sources[:count], self.defective[:count], masks)


@dataclass(frozen=True, slots=True)
class Split:
    """Indices of good pictures, int64 each."""

    train: Indices
    test: Indices


def split_of(product: Product, seed: int) -> Split:
    """Four fifths of the sources, drawn by ``seed``, to learn from, the others to test on."""
    sources = np.unique(product.sources)
    drawn = np.random.default_rng(_SPLIT_SEED + seed).permutation(sources)
    count = int(TRAIN_SHARE * len(drawn))
    return Split(_of(product.sources, drawn[:count]), _of(product.sources, drawn[count:]))


def _of(sources: Indices, wanted: Indices) -> Indices:
    """The pictures of these sources, in the sources' order."""
    of_each = [np.flatnonzero(sources == source) for source in wanted]
    return np.concatenate([np.empty(0, np.int64), *of_each])


@dataclass(frozen=True, slots=True)
class Mixed:
    """What is learnt from where defective pictures hide among the good.

    ``pictures`` are all taken for good; ``is_hidden``, bool (pictures,): the defective ones of them. ``left``, int64: the indices
    of the product's defective pictures that are not among them, to test on.
    """

    pictures: list[Pixels]
    is_hidden: Mask
    left: Indices


def with_hidden(product: Product, train: Indices, share: float, seed: int) -> Mixed:
    """Hides defective pictures in places of their own among the good: so many that they are ``share`` of all, 0 to below 0.5.

    Raises NoData where the product has too few.
    """
    if not 0.0 <= share < 0.5:
        raise ValueError(f"got a share of {share}, expected 0 to below 0.5")
    count = round(share / (1.0 - share) * len(train))
    if share > 0.0 and count == 0:
        raise NoData(
            f"{product.name}: got {len(train)} pictures to learn from, expected so many that {share:.2g} of them is one"
        )
    if count >= len(product.defective):
        raise NoData(f"{product.name}: got {len(product.defective)} defective pictures, expected more than {count}")
    generator = np.random.default_rng([_SPLIT_SEED + seed, 1])
    drawn = generator.permutation(len(product.defective))
    pictures = [product.good[at] for at in train] + [product.defective[at] for at in drawn[:count]]
    order = generator.permutation(len(pictures)) if count else np.arange(len(pictures))
    return Mixed([pictures[at] for at in order], order >= len(train), np.sort(drawn[count:]).astype(np.int64))
