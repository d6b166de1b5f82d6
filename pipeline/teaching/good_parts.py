"""The good parts that a product is taught from: those taught before that stay, then those whose pictures are here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.teaching.features import Features
from pipeline.teaching.picture_set import Picture, PictureSet, View, without_known
from pipeline.teaching.taught_file import KeptPart, KeptPicture, TakenOut, Taught
from vision.preprocess import FrameFormat


@dataclass(frozen=True, slots=True)
class GoodParts:
    """Those of ``before`` that stay, then those of ``pictures``, in their order.

    ``before``: None of a product taught anew; ``features_before`` of all its parts, by view; ``kept_rows``: which of them stay;
    ``names`` of all parts, each once; ``known_here``: pictures that are shown and were taught before;
    ``taken_back``: see ``of_both``, ``pixels_sha256``; ``rejected_now``: part names of new ones that the product rejects as it is;
    ``unlike_first``, part names, and ``rejected_again``, rows of ``before`` out of so many that were judged once more: see
    ``later_lots``.
    """

    pictures: PictureSet
    before: Taught | None
    features_before: Sequence[Features]
    kept_rows: tuple[int, ...]
    names: tuple[str, ...]
    known_here: tuple[Picture, ...] = ()
    taken_back: frozenset[str] = frozenset()
    rejected_now: frozenset[str] = frozenset()
    unlike_first: frozenset[str] = frozenset()
    rejected_again: frozenset[int] = frozenset()
    judged_again_count: int = 0

    @property
    def frames(self) -> dict[str, FrameFormat]:
        return self.pictures.frames

    @property
    def are_said_good(self) -> npt.NDArray[np.bool_]:
        """(parts,): of those taught before, as somebody said then."""
        return self._said([part.is_said_good for part in self.kept])

    @property
    def are_said_other(self) -> npt.NDArray[np.bool_]:
        """(parts,): as ``are_said_good``."""
        return self._said([part.is_said_other for part in self.kept])

    @property
    def were_rejected(self) -> npt.NDArray[np.bool_]:
        """(parts,): by the product as it was when they were added, or by what it was taught with first."""
        odd = self.rejected_now | self.unlike_first
        now = [picture.part_name in odd for picture in self.pictures.views[0].pictures]
        return np.array([*(part.was_rejected for part in self.kept), *now], np.bool_)

    @property
    def are_shown(self) -> npt.NDArray[np.bool_]:
        """(parts,): a picture of it is here, whether it was taught before or not."""
        here = {picture.pixels_sha256 for picture in self.known_here}
        return np.array(
            [
                *(any(picture.pixels_sha256 in here for picture in part.pictures) for part in self.kept),
                *[True] * (len(self.names) - self.kept_count),
            ],
            np.bool_,
        )

    def _said(self, of_kept: list[bool]) -> npt.NDArray[np.bool_]:
        return np.array([*of_kept, *[False] * (len(self.names) - len(of_kept))], np.bool_)

    @property
    def rejected(self) -> frozenset[str]:
        """Beside the good parts: of recorded windows, parts that the line rejected and that nobody said are defective."""
        before = frozenset() if self.before is None else frozenset(self.before.rejected)
        return (before | self.pictures.rejected) - self.pictures.settled - self.said_defective

    @property
    def said_defective(self) -> frozenset[str]:
        """Of parts that the line rejected: somebody said so, and none is among the good ones since."""
        before = frozenset() if self.before is None else frozenset(self.before.said_defective)
        all_here = self.pictures.settled - self.pictures.said_defective
        return (before | self.pictures.said_defective) - all_here

    @property
    def taken_out(self) -> tuple[TakenOut, ...]:
        """Parts of which somebody said that they are not good, now or before."""
        before = () if self.before is None else self.before.taken_out
        still = [part for part in before if self.taken_back.isdisjoint(each.pixels_sha256 for each in part.pictures)]
        known = {each.pixels_sha256 for part in still for each in part.pictures}
        source, new = kept_path(self.pictures), dict[str, list[KeptPicture]]()
        for picture in self.pictures.not_good:
            if picture.pixels_sha256 not in known:
                kept = KeptPicture(name=picture.name, pixels_sha256=picture.pixels_sha256, source=source)
                new.setdefault(picture.part_name, []).append(kept)
        return (*still, *(TakenOut(name=name, pictures=tuple(of_part)) for name, of_part in new.items()))

    @property
    def kept(self) -> tuple[KeptPart, ...]:
        if self.before is None:
            return ()
        parts = ((row, self.before.parts[row]) for row in self.kept_rows)
        return tuple(
            part.model_copy(update={"was_rejected": True, "is_said_good": False})
            if row in self.rejected_again
            else part
            for row, part in parts
        )

    @property
    def kept_count(self) -> int:
        return len(self.kept_rows)

    def of_view(self, index: int) -> tuple[Picture, ...]:
        return self.pictures.views[index].pictures

    @property
    def lots(self) -> list[int]:
        """Of each part."""
        kept = [part.lot for part in self.kept]
        now = 0 if self.before is None else max(part.lot for part in self.before.parts) + 1
        return [*kept, *[now] * (len(self.names) - len(kept))]

    @property
    def taken_out_count(self) -> int:
        return 0 if self.before is None else len(self.before.parts) - self.kept_count

    def looked_at(self, features: Sequence[Features]) -> Iterator[tuple[Picture, int, Features]]:
        """Pictures that are here, those of parts taken out among them, each with its view's number and features, (channels, rows,
        columns); ``features`` of all parts, by view.
        """
        for index, view in enumerate(self.pictures.views):
            for number, picture in enumerate(view.pictures):
                yield picture, index, features[index][self.kept_count + number]
        if self.before is None:
            return
        row_of = {
            (self.before.views[index].name, picture.pixels_sha256): (row, index)
            for row, part in enumerate(self.before.parts)
            for index, picture in enumerate(part.pictures)
        }
        for picture in self.pictures.not_good:
            if (found := row_of.get((picture.view, picture.pixels_sha256))) is not None:
                row, index = found
                yield picture, index, self.features_before[index][row]

    def picture(self, part: int, view: int) -> Picture | None:
        """None of a part that was taught before: no picture is kept."""
        return None if part < self.kept_count else self.of_view(view)[part - self.kept_count]


def of_pictures(pictures: PictureSet) -> GoodParts:
    """Taught anew."""
    return GoodParts(pictures, None, (), (), tuple(picture.part_name for picture in pictures.views[0].pictures))


def of_both(
    taught: Taught, features: Sequence[Features], shown: PictureSet, *, are_taken_back: bool = False
) -> GoodParts:
    """Taught before, less those of which a picture is ``not_good`` now, by its pixels; and of those that are shown the new ones,
    which get names of their own. Parts that were taken out before stay out, unless ``are_taken_back``.
    """
    known = taught.names_by_pixels
    out = {each.pixels_sha256: part.name for part in taught.taken_out for each in part.pictures}
    taken_back = frozenset[str]()
    if are_taken_back:
        taken_back = frozenset(picture.pixels_sha256 for picture in shown.all() if picture.pixels_sha256 in out)
    else:
        shown = _without_taken_out(shown, out)
    known_here = tuple(picture for picture in shown.all() if picture.pixels_sha256 in known)
    here = without_known(shown, known)
    order = [view.name for view in taught.views]
    empty = {view.name: View(view.name, view.frame, ()) for view in taught.views}
    views = {**empty, **{view.name: view for view in here.views}}
    here = replace(here, views=tuple(views[name] for name in order))
    not_good = {picture.pixels_sha256 for picture in here.not_good}
    kept_rows = tuple(
        row
        for row, part in enumerate(taught.parts)
        if not_good.isdisjoint(picture.pixels_sha256 for picture in part.pictures)
    )
    names = [taught.parts[row].name for row in kept_rows]
    taken = set(names)
    for picture in here.views[0].pictures:
        names.append(_free_name(picture.part_name, taken))
        taken.add(names[-1])
    return GoodParts(here, taught, features, kept_rows, tuple(names), known_here, taken_back)


def kept_path(pictures: PictureSet) -> str:
    """Of the folder or recorded window, as a package may hold it: names of files need be no UTF-8."""
    return str(pictures.path.absolute()).encode("utf-8", "replace").decode("utf-8")


def _without_taken_out(shown: PictureSet, out: Mapping[str, str]) -> PictureSet:
    """``out``: names of parts that were taken out before, by ``pixels_sha256``."""
    found = {picture.part_name: out[picture.pixels_sha256] for picture in shown.all() if picture.pixels_sha256 in out}
    told = tuple(
        f"part {name}: taken out before{f' as {then}' if then != name else ''}; --take-back if it is good after all"
        for name, then in found.items()
    )
    left = without_known(shown, out)
    # Of a part that the line rejected it stays said, too.
    said_defective = shown.said_defective | (shown.settled & found.keys())
    return replace(left, left_out=(*shown.left_out, *told), said_defective=said_defective)


def _free_name(name: str, taken: set[str]) -> str:
    number, free = 2, name
    while free in taken:
        number, free = number + 1, f"{name} ({number})"
    return free
