"""What a challenge of known parts shows, for each kind of part.

One part shown ten times is not ten parts: its showings are alike, by how much nobody knows. The interval therefore assumes
nothing about showings of one part, only that the parts of a kind are drawn independently. Let p be the chance that a fresh part
of the kind is judged rightly when it is shown once. A part is judged rightly in all of its showings no more often than p, and in
at least one no less often; so the lower end is that of the parts right every time and the upper end that of the parts right at
least once, both after Clopper and Pearson (``calibration.intervals``). With one showing a part it is their usual interval. (Usual
corrections estimate how alike the showings are, J. N. K. Rao and A. J. Scott, A simple method for the analysis of clustered
binary data, Biometrics 48 (1992); a challenge has too few parts for that, and where all showings agree there is nothing to
estimate it from.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from calibration.intervals import CONFIDENCE, intervals, parts_needed, upper_bound
from vision.types import Verdict


@dataclass(frozen=True, slots=True)
class Showing:
    """One pass of a known part: ``judged`` is what its verdict would have been in production.

    ``part`` tells parts of a kind apart, a number on the part say; where that is not known give all the same: then one part
    vouches for its kind.
    """

    kind: str
    part: str
    is_defective: bool
    judged: Verdict

    @property
    def is_right(self) -> bool:
        """A defective part is right when rejected, a good one when passed; not judged (NO_DECISION) is never right."""
        return self.judged is (Verdict.REJECT if self.is_defective else Verdict.PASS)


@dataclass(frozen=True, slots=True)
class PartShown:
    """One part of a kind and how often it was judged rightly."""

    part: str
    shown_count: int
    right_count: int


@dataclass(frozen=True, slots=True)
class KindShown:
    """One kind of part. Of a defective kind, right is detected.

    ``right_share``: each part counts once, with its own share; ``low`` to ``high`` holds the chance that a fresh part of the kind
    is judged rightly, with ``confidence``; ``wrong_at_most``: the highest rate of wrong judgements that is possible still, to one
    side.
    """

    kind: str
    is_defective: bool
    parts: tuple[PartShown, ...]
    shown_count: int
    right_count: int
    unjudged_count: int
    right_share: float
    low: float
    high: float
    wrong_at_most: float
    confidence: float

    def words(self) -> str:
        """For the operator, with what it does not show."""
        right = "detected" if self.is_defective else "passed"
        told = f"{self.kind}: {right} {self.right_count} of {self.shown_count} times, {_parts(len(self.parts))}"
        bound = f"{self.wrong_at_most:.0%} of such parts may still be judged wrongly ({self.confidence:.0%} confidence)"
        if self.unjudged_count:
            told += f"; {self.unjudged_count} times not judged, which is not {right}"
        told += f"; up to {bound}"
        if len(self.parts) < self.shown_count:
            told += "; repeats of one part say how steadily that part is judged, nothing about other parts"
        return told


def challenge_figures(showings: Sequence[Showing], confidence: float = CONFIDENCE) -> tuple[KindShown, ...]:
    """In the order in which the kinds first came. Raises ValueError where a kind is called both good and defective."""
    kinds: dict[str, list[Showing]] = {}
    for showing in showings:
        kinds.setdefault(showing.kind, []).append(showing)
    return tuple(_kind(kind, its, confidence) for kind, its in kinds.items())


def parts_to_show(wrong_max: float, confidence: float = CONFIDENCE) -> int:
    """So many different parts of a kind, each judged rightly, show that at most ``wrong_max`` are judged wrongly: 59 for 5 %.

    Both above 0 and below 1.
    """
    return parts_needed(wrong_max, confidence)


def _kind(kind: str, showings: list[Showing], confidence: float) -> KindShown:
    is_defective = showings[0].is_defective
    if any(showing.is_defective is not is_defective for showing in showings):
        raise ValueError(f"kind {kind}: got good and defective parts, expected one or the other")
    by_part: dict[str, list[bool]] = {}
    for showing in showings:
        by_part.setdefault(showing.part, []).append(showing.is_right)
    parts = tuple(PartShown(part, len(right), sum(right)) for part, right in by_part.items())
    always = sum(part.right_count == part.shown_count for part in parts)
    once = sum(part.right_count > 0 for part in parts)
    low, high = intervals([always, once], [len(parts)] * 2, confidence)
    return KindShown(
        kind=kind,
        is_defective=is_defective,
        parts=parts,
        shown_count=len(showings),
        right_count=sum(part.right_count for part in parts),
        unjudged_count=sum(showing.judged is Verdict.NO_DECISION for showing in showings),
        right_share=sum(part.right_count / part.shown_count for part in parts) / len(parts),
        low=float(low[0]),
        high=float(high[1]),
        wrong_at_most=upper_bound(len(parts) - always, len(parts), confidence),
        confidence=confidence,
    )


def _parts(count: int) -> str:
    return "one part" if count == 1 else f"{count} different parts"
