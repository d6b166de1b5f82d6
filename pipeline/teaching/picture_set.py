"""Pictures of parts as plain data, wherever their pixels are read from: one at a time, never all of them."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from vision.faults import Fault, FaultsError, quote
from vision.preprocess import FrameFormat
from vision.types import PixelFormat

Pixels = npt.NDArray[np.uint8]

FAULTS_MAX = 20
"""Told one by one; of the others how many they are."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One view of one part, by where it is read from.

    ``name``: as people are told of it, one line; ``path``: the file, or the recorded window; ``view``: as its ``View``;
    ``part_name``: the same for all pictures of one part; ``is_grey``: of all pixels, whatever the file may hold; ``is_flat``: all
    pixels are alike;
    ``sha256``: of what is read (the file's content, the frame's pixels); ``pixels_sha256``: of what is seen, alike in copies.
    """

    name: str
    path: Path
    view: str
    part_name: str
    width_px: int
    height_px: int
    is_grey: bool
    is_flat: bool
    sha256: str
    pixels_sha256: str


@dataclass(frozen=True, slots=True)
class View:
    """One camera's look at the parts, the pictures in the order of the parts' names.

    ``name`` is empty where there is only one; ``frame``: the most frequent size and, Mono8 or BGR8, how
    pixels are read, which is alike for all; sizes differ by at most what ``pictures.size_tolerance_px`` allows.
    """

    name: str
    frame: FrameFormat
    pictures: tuple[Picture, ...]

    @property
    def sizes_count(self) -> int:
        return len({(picture.width_px, picture.height_px) for picture in self.pictures})


@dataclass(frozen=True, slots=True)
class Copy:
    """A picture that is not counted, as it shows the very pixels of another one, ``of``."""

    name: str
    of: str


@dataclass(frozen=True, slots=True)
class PictureSet:
    """Pictures that were all looked at, and may be read.

    ``path``: the folder or recorded window; ``copies`` and ``left_out`` (names with the reason) are in no view;
    ``read(picture)``: uint8, C-contiguous, (height, width) of a grey view and (height, width, 3) in BGR order of one in colour.
    It raises FaultsError where the picture is not as it was when it was looked at. ``rejected``: names of parts left aside since
    the line rejected them, good or not; ``settled``: of rejected parts that are here, or ``said_defective``, as somebody said;
    ``not_good``: pictures that are here and in no view, as somebody said that their parts are not good.
    """

    path: Path
    views: tuple[View, ...]
    copies: tuple[Copy, ...]
    left_out: tuple[str, ...]
    read: Callable[[Picture], Pixels]
    rejected: frozenset[str] = frozenset()
    settled: frozenset[str] = frozenset()
    said_defective: frozenset[str] = frozenset()
    not_good: tuple[Picture, ...] = ()

    @property
    def parts_count(self) -> int:
        """How many different parts there are, each counted once whatever its number of views."""
        return len({picture.part_name for view in self.views for picture in view.pictures})

    @property
    def pictures_count(self) -> int:
        return sum(len(view.pictures) for view in self.views)

    @property
    def frames(self) -> dict[str, FrameFormat]:
        """By view."""
        return {view.name: view.frame for view in self.views}

    @property
    def names_by_pixels(self) -> dict[str, str]:
        """Each picture's name by its ``pixels_sha256``."""
        return {picture.pixels_sha256: picture.name for picture in self.all()}

    def all(self) -> Iterator[Picture]:
        """View by view."""
        for view in self.views:
            yield from view.pictures


def without_known(pictures: PictureSet, known: Container[str]) -> PictureSet:
    """Less the parts of which a picture is known: ``known`` is by ``pixels_sha256``. None may be left."""
    found = {picture.part_name for picture in pictures.all() if picture.pixels_sha256 in known}
    views = tuple(
        replace(view, pictures=tuple(each for each in view.pictures if each.part_name not in found))
        for view in pictures.views
    )
    return replace(pictures, views=views)


def without_parts(pictures: PictureSet, names: Sequence[str]) -> PictureSet:
    """These parts are ``not_good``, by their name or a suspect's picture's. Raises FaultsError for a name of none."""
    parts = {picture.part_name for picture in pictures.all()}
    part_of = {picture.name: picture.part_name for picture in pictures.all()}
    if unknown := [name for name in names if name not in parts and name not in part_of]:
        expected = "the name of a picture or part that is there, as suspects are called"
        raise FaultsError([Fault("--without", "", ", ".join(map(quote, unknown)), expected)])
    dropped = {part_of.get(name, name) for name in names}
    if parts and dropped >= parts:
        raise FaultsError(
            [
                Fault(
                    "--without",
                    "",
                    f"all {len(parts):,} parts",
                    "some of them: no good part would be left (of a product, parts are taken out by --take-out)",
                )
            ]
        )
    views = tuple(
        replace(view, pictures=tuple(each for each in view.pictures if each.part_name not in dropped))
        for view in pictures.views
    )
    told = tuple(f"part {name}: by --without" for name in sorted(dropped))
    not_good = tuple(picture for picture in pictures.all() if picture.part_name in dropped)
    return replace(
        pictures, views=views, left_out=(*pictures.left_out, *told), not_good=(*pictures.not_good, *not_good)
    )


def none_good(pictures: PictureSet) -> PictureSet:
    """The same pictures, all of them ``not_good``; copies of each other may be among them."""
    views = tuple(replace(view, pictures=()) for view in pictures.views)
    return replace(pictures, views=views, copies=(), left_out=(), not_good=tuple(pictures.all()))


def expect_content(pictures: PictureSet) -> None:
    """Raises FaultsError for a view most of whose pictures show nothing; of one or another picture that is a matter of suspects."""
    for view in pictures.views:
        flat = [picture for picture in view.pictures if picture.is_flat]
        if 2 * len(flat) > len(view.pictures):
            named = f" of view {view.name}" if view.name else ""
            got = f"{len(flat):,} of {len(view.pictures):,} pictures{named} all of whose pixels are alike, as {flat[0].name}"
            expected = "pictures of parts: is the light on, the lens uncovered, the exposure right?"
            raise FaultsError([Fault(str(pictures.path), "", got, expected)])


def expect_apart(defects: PictureSet, good: Mapping[str, str]) -> None:
    """Raises FaultsError where a picture is among both: somebody put it into the wrong folder.

    ``good``: names by ``pixels_sha256``.
    """
    faults = FaultList(defects.path)
    for picture in defects.all():
        if (other := good.get(picture.pixels_sha256)) is not None:
            expected = "each picture in one of the two: take it out of the wrong one"
            faults.add(picture.name, f"the same picture as {other}, one of the good parts", expected)
    faults.settle()


class FaultList:
    """What is wrong with the pictures of a folder: all of it is counted, the first 20 are told."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._told: list[Fault] = []
        self._more_count = 0

    def add(self, file: Path | str, got: str, expected: str) -> None:
        self.take(Fault(str(file), "", got, expected))

    def take(self, fault: Fault) -> None:
        """One that is made already."""
        if len(self._told) < FAULTS_MAX:
            self._told.append(fault)
        else:
            self._more_count += 1

    def settle(self) -> None:
        """Raises FaultsError where there is any."""
        if self._more_count:
            count = f"{self._more_count:,} more that cannot be used, {FAULTS_MAX + self._more_count:,} in all"
            self._told.append(Fault(str(self._folder), "", count, "none: see to those above, and ask again"))
        if self._told:
            raise FaultsError(self._told)


def majority_frame(sizes_px: Mapping[tuple[int, int], int], *, is_grey: bool) -> FrameFormat:
    """The most frequent (width, height), of equally frequent ones the largest. ``sizes_px``: counts, not empty."""
    (width_px, height_px), _ = max(sizes_px.items(), key=lambda each: (each[1], each[0][0] * each[0][1], each[0]))
    return FrameFormat(width_px, height_px, PixelFormat.MONO8 if is_grey else PixelFormat.BGR8)
