"""What a teaching came to, as plain data: for the terminal, for JSON and for a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calibration.auroc import Auroc
from calibration.intervals import Share, share_of
from calibration.threshold import ASSUMPTIONS, ThresholdReport
from pipeline.teaching.picture_set import Copy, PictureSet

SHOWN_COUNT = 10
"""Pictures of each sort that are shown."""

KINDS = "kinds"
"""Facts of a fit that begin so say that there are two kinds of parts in one folder."""

_SAMPLE, _, *_OTHERS = ASSUMPTIONS
CROSS_FIT_ASSUMPTIONS = (
    _SAMPLE,
    "Each good part was scored by a fit that had seen neither it nor a picture found to be of it, while the package's own fit has "
    "seen them all: the rule is exact for scores of one fit, and these come from several that are nearly alike.",
    *_OTHERS,
)
"""What the promise of a threshold rests on where the good parts were both fitted and scored, by turns."""


@dataclass(frozen=True, slots=True)
class ViewTaught:
    """A view and its pictures; ``name`` empty where there is only one. ``sizes_count``: how many sizes the good ones have."""

    name: str
    width_px: int
    height_px: int
    is_grey: bool
    good_count: int
    defective_count: int
    sizes_count: int


@dataclass(frozen=True, slots=True)
class SizeTried:
    """One size and depth of the model as measured on this box; ``depth`` in words."""

    width_px: int
    height_px: int
    depth: str
    p50_us: float
    p99_us: float
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class ScoredPart:
    """A part's score, 0..1, the higher the stranger; of a good one by a fit that has not seen it. ``name``: its picture's."""

    name: str
    score: float


@dataclass(frozen=True, slots=True, eq=False)
class ShownPicture:
    """A picture with its anomaly map, both made small (``overlay.shown_picture``).

    ``pixels``: uint8 (height, width) or (height, width, 3) in BGR order; ``heat``: float32 (h, w), 0..1 over the whole picture.
    """

    name: str
    score: float
    pixels: npt.NDArray[np.uint8]
    heat: npt.NDArray[np.float32]
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Suspect:
    """A picture among the good that does not look like the others. ``source``: the folder or recorded window that ``name`` is of,
    as it is kept; ``path``: its file, empty of one that was taught before; ``p_value``: how often a good one would be so strange by
    chance; ``reason`` in words; ``picture`` None where only the first are shown.
    """

    name: str
    source: str
    path: str
    score: float
    p_value: float
    reason: str
    picture: ShownPicture | None


@dataclass(frozen=True, slots=True)
class Moved:
    """A picture that was taught before, and its score then and now."""

    name: str
    score_before: float
    score_after: float


@dataclass(frozen=True, slots=True)
class Changed:
    """What ``--add`` or ``--take-out`` changed.

    ``rejected_count_before``: of the good parts there were before, each by a fit that had not seen it; ``mean_shift``: by how
    much the mean of the features moved, as a share of a usual good part's own distance from it; ``moved``: the scores that
    changed most, those first; ``would_be_rejected``: added parts that the product rejected as it was, with the scores that it
    gave them, and whether somebody said that they are good; ``card``: what became of what somebody had made of the package since,
    a line each.
    """

    good_count_before: int
    added_count: int
    taken_out_count: int
    parts_missing_before: int | None
    rejected_count_before: int
    auroc_before: Auroc | None
    mean_shift: float
    moved: tuple[Moved, ...]
    would_be_rejected: tuple[ScoredPart, ...] = ()
    are_said_good: bool = False
    card: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TeachReport:
    """One product, taught.

    ``sources``: where pictures came from, name and value; ``fit`` and ``model``: what was fitted and what was written, likewise;
    ``views``: each with its counts; ``copies`` and ``left_out``: what was not counted;
    ``tried``: sizes in the order of their time, ``budget_us`` None where there was none, ``why_chosen`` one sentence;
    ``suspects``: the strangest first, ``suspects_words``: what was done about them;
    ``good`` and ``defective``: scores of all parts; ``reject_at_score``: what the package rejects from, on the same scale;
    ``threshold``: what it promises, on its own scale; ``auroc`` None without defects;
    ``strangest_good``, ``strangest_defective``, ``least_strange_defective`` (the missed ones first): at most ten each;
    ``changed`` None for a product that was taught anew; ``assumptions``: what the promise rests on.
    """

    product: str
    made_utc: str
    version: str
    sources: tuple[tuple[str, str], ...]
    views: tuple[ViewTaught, ...]
    copies: tuple[Copy, ...]
    left_out: tuple[str, ...]
    tried: tuple[SizeTried, ...]
    budget_us: float | None
    why_chosen: str
    fit: tuple[tuple[str, str], ...]
    model: tuple[tuple[str, str], ...]
    suspects: tuple[Suspect, ...]
    suspects_words: str
    good: tuple[ScoredPart, ...]
    defective: tuple[ScoredPart, ...]
    reject_at_score: float
    threshold: ThresholdReport
    auroc: Auroc | None
    strangest_good: tuple[ShownPicture, ...]
    strangest_defective: tuple[ShownPicture, ...]
    least_strange_defective: tuple[ShownPicture, ...]
    changed: Changed | None = None
    assumptions: tuple[str, ...] = CROSS_FIT_ASSUMPTIONS

    @property
    def missed(self) -> list[ScoredPart]:
        """Defective parts that pass, the least strange first."""
        return least_strange(
            [part for part in self.defective if part.score < self.reject_at_score], len(self.defective)
        )

    @property
    def false_accept(self) -> Share | None:
        """Of the defective parts those that pass, at what the package rejects from, promised or not; None without any."""
        return share_of(len(self.missed), len(self.defective), self.threshold.confidence)

    @property
    def rejected_good(self) -> list[ScoredPart]:
        """Good parts that are rejected, the strangest first."""
        return strangest([part for part in self.good if part.score >= self.reject_at_score], len(self.good))


def views_taught(good: PictureSet, defective: PictureSet | None) -> tuple[ViewTaught, ...]:
    """The counts of the good pictures' views, with those of the defects beside them."""
    counts = {} if defective is None else {view.name: len(view.pictures) for view in defective.views}
    return tuple(
        ViewTaught(
            name=view.name,
            width_px=view.frame.width_px,
            height_px=view.frame.height_px,
            is_grey=view.frame.pixel_format.channel_count == 1,
            good_count=len(view.pictures),
            defective_count=counts.get(view.name, 0),
            sizes_count=view.sizes_count,
        )
        for view in good.views
    )


def strangest(parts: Sequence[ScoredPart], count: int = SHOWN_COUNT) -> list[ScoredPart]:
    """Those with the highest scores, the highest first, of equals by name."""
    return sorted(parts, key=lambda part: (-part.score, part.name))[:count]


def least_strange(parts: Sequence[ScoredPart], count: int = SHOWN_COUNT) -> list[ScoredPart]:
    """Those with the lowest scores, the lowest first, of equals by name."""
    return sorted(parts, key=lambda part: (part.score, part.name))[:count]


def most_moved(
    before: Sequence[ScoredPart], after: Sequence[ScoredPart], count: int = SHOWN_COUNT
) -> tuple[Moved, ...]:
    """Of the parts that are in both those whose scores differ most, these first."""
    score_before = {part.name: part.score for part in before}
    both = [Moved(part.name, score_before[part.name], part.score) for part in after if part.name in score_before]
    both.sort(key=lambda each: (-abs(each.score_after - each.score_before), each.name))
    return tuple(both[:count])
