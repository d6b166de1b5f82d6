"""The good parts that a product is taught from: those taught before, then those whose pictures are here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.teaching.features import Features
from pipeline.teaching.picture_set import Picture, PictureSet
from pipeline.teaching.taught_file import Taught
from vision.preprocess import FrameFormat


@dataclass(frozen=True, slots=True)
class GoodParts:
    """Those of ``kept`` first, then those of ``pictures``, in their order.

    ``kept_features`` by view; ``names`` of all parts, each once.
    """

    pictures: PictureSet
    kept: Taught | None
    kept_features: Sequence[Features]
    names: tuple[str, ...]

    @property
    def frames(self) -> dict[str, FrameFormat]:
        return self.pictures.frames

    @property
    def are_said_good(self) -> npt.NDArray[np.bool_]:
        """(parts,): of those taught before, as somebody said then."""
        said = [part.is_said_good for part in self.kept.parts] if self.kept is not None else []
        return np.array([*said, *[False] * (len(self.names) - len(said))], np.bool_)

    @property
    def rejected(self) -> frozenset[str]:
        """Beside the good parts: of recorded windows, parts that the line rejected and that nobody said are defective."""
        before = frozenset() if self.kept is None else frozenset(self.kept.rejected)
        return (before | self.pictures.rejected) - self.pictures.settled

    @property
    def kept_count(self) -> int:
        return 0 if self.kept is None else len(self.kept.parts)

    def of_view(self, index: int) -> tuple[Picture, ...]:
        return self.pictures.views[index].pictures

    def picture(self, part: int, view: int) -> Picture | None:
        """None of a part that was taught before: no picture is kept."""
        return None if part < self.kept_count else self.of_view(view)[part - self.kept_count]


def of_pictures(pictures: PictureSet) -> GoodParts:
    """Taught anew."""
    return GoodParts(pictures, None, (), tuple(picture.part_name for picture in pictures.views[0].pictures))


def of_both(taught: Taught, features: Sequence[Features], new: PictureSet) -> GoodParts:
    """Taught before, and new ones of the same views in whatever order, which get names of their own."""
    order = [view.name for view in taught.views]
    new = replace(new, views=tuple(sorted(new.views, key=lambda view: order.index(view.name))))
    names = [part.name for part in taught.parts]
    taken = set(names)
    for picture in new.views[0].pictures:
        names.append(_free_name(picture.part_name, taken))
        taken.add(names[-1])
    return GoodParts(new, taught, features, tuple(names))


def _free_name(name: str, taken: set[str]) -> str:
    number, free = 2, name
    while free in taken:
        number, free = number + 1, f"{name} ({number})"
    return free
