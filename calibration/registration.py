"""From pictures of good parts to the section by which their place is found in every frame: is the template good for it, how well
is the place repeated, how far apart do parts lie.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt

import numpy as np
import numpy.typing as npt

from calibration.refusal import Refusal
from calibration.spread import Spread, spread_of, tolerance_factor
from calibration.template import TemplateQuality, noise_of, quality_of, second_place, template_refusal
from vision.kernels import flat_rows
from vision.kernels.matching import SOBEL_WEIGHT, to_grey
from vision.preprocess import FrameFormat
from vision.recipe import Region
from vision.registration import (
    GREY_SHARES,
    LEVELS_MAX,
    SEARCH_STEP_PX,
    PartLocator,
    PartPosition,
    Registration,
    RegistrationSection,
    TemplateRegion,
    registration_faults,
    template_png,
)
from vision.types import PixelFormat

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

PARTS_MIN, REPEATS_MIN = 20, 10
REPEATABILITY_MAX_PX = 0.5
"""Regions move by whole pixels: what is known worse than that moves them at random."""
APART_MIN = 0.2
"""Between the scores of good parts and those of other places."""

_NOISE_MARGIN = 4.0
_CONTRAST_MIN = 2.0
_SOBEL_NOISE = sqrt(12.0) / SOBEL_WEIGHT
"""A gradient's noise in one direction, for a noise of one grey level."""
_TRIAL_SCORE = 0.3
"""Until good parts' scores are known."""
_LEAST_SIDE_PX = 8
"""Of the template in the smallest picture of the search."""


@dataclass(frozen=True, slots=True)
class RegistrationReport:
    """``repeats_*``: of one part that was not moved; ``parts_*``: of good parts as they come; None where there was nothing to
    measure. ``positions``: of each part's picture. ``good_score_low``: what nearly all good parts score at least;
    ``other_score``: the highest score of any other place in their pictures or on the empty belt (``empty_count`` pictures).
    ``registration`` and ``template_file``, the content of the template's file: None where there are ``refusals``.
    """

    template: TemplateQuality | None
    repeats_x: Spread | None
    repeats_y: Spread | None
    parts_x: Spread | None
    parts_y: Spread | None
    positions: tuple[PartPosition, ...]
    good_score_low: float | None
    other_score: float | None
    empty_count: int
    registration: Registration | None
    template_file: bytes | None
    notes: tuple[str, ...]
    refusals: tuple[Refusal, ...]


def calibrate_registration(
    reference: Pixels,
    template: TemplateRegion,
    frame_format: FrameFormat,
    *,
    repeats: Sequence[Pixels],
    parts: Sequence[Pixels],
    empty: Sequence[Pixels] = (),
    regions: Sequence[Region] = (),
    search_x_px: int = 40,
    search_y_px: int = 40,
    tolerance_px: tuple[float, float] | None = None,
) -> RegistrationReport:
    """All pictures as the camera delivers them, ``frame_format``.

    ``reference``: a part in its nominal place, on which the recipe's ``regions`` and zones lie right, and ``template`` where the
    operator has marked it; ``repeats``: one part, not moved, at least 10 pictures; ``parts``: good parts as they come, at least
    20; ``empty``: the belt without a part. Search ranges are rounded up to multiples of 8 px. ``tolerance_px``: how far a part may
    lie off to either side and up and down, refused where good parts need more; without it just what they need.
    """
    report = _Study(reference, template, frame_format, _rounded_up(search_x_px), _rounded_up(search_y_px), tolerance_px)
    return report.run(repeats, parts, empty, regions)


class _Study:
    """One calibration: what was found so far, and why it may not be used."""

    def __init__(
        self,
        reference: Pixels,
        template: TemplateRegion,
        frame_format: FrameFormat,
        search_x_px: int,
        search_y_px: int,
        tolerance_px: tuple[float, float] | None,
    ) -> None:
        self._reference, self._where, self._format = reference, template, frame_format
        self._search = {"x": search_x_px, "y": search_y_px}
        self._wanted = None if tolerance_px is None else {"x": tolerance_px[0], "y": tolerance_px[1]}
        self._refusals: list[Refusal] = []
        self._notes: list[str] = []

    def run(
        self, repeats: Sequence[Pixels], parts: Sequence[Pixels], empty: Sequence[Pixels], regions: Sequence[Region]
    ) -> RegistrationReport:
        if not self._is_searchable([self._reference, *repeats, *parts, *empty]):
            return self._report(None)
        picture = self._cut()
        min_contrast = round(min(64.0, max(_CONTRAST_MIN, _NOISE_MARGIN * _SOBEL_NOISE * noise_of(picture))), 2)
        trial = Registration(self._section(min_contrast, 0, _TRIAL_SCORE), picture)
        thorough = PartLocator("calibration", trial, self._format)
        quality = quality_of(picture, min_contrast, thorough.every_score(self._reference))
        if (refusal := template_refusal(quality)) is not None:
            self._refusals.append(refusal)
            return self._report(quality)
        self._expect_enough(repeats, parts)
        still = self._found(thorough, repeats, "repeat")
        positions = self._found(thorough, parts, "part")
        repeats_x, repeats_y = _spreads(still)
        parts_x, parts_y = _spreads(positions)
        self._judge_repeats(repeats_x, repeats_y)
        scores = np.array([each.score for each in positions if each.is_found])
        good_low = _nearly_all_above(scores) if scores.size >= 2 else None
        other = self._other_score(thorough, quality, parts, positions, empty)
        if good_low is not None and good_low - other < APART_MIN:
            self._refuse(
                "unsure score",
                f"good parts that score {good_low:.2f} or more and other places that score up to {other:.2f}",
                f"{APART_MIN:g} between the two",
                "Mark a template with more and stronger edges, alike on every good part; keep light and focus as they are.",
            )
        tolerance_x_px = self._tolerance("x", parts_x, regions)
        tolerance_y_px = self._tolerance("y", parts_y, regions)
        report = (quality, repeats_x, repeats_y, parts_x, parts_y, tuple(positions), good_low, other, len(empty))
        if self._refusals or good_low is None:
            return self._report(*report)
        # Nearer to other places than to good parts: one that something lies on is to be found, and judged.
        min_score = round(other + (good_low - other) / 3, 3)
        levels = self._levels([*repeats, *parts, *empty], picture, min_contrast, min_score)
        content = template_png(picture)
        section = self._section(
            min_contrast,
            levels,
            min_score,
            tolerance_x_px=tolerance_x_px,
            tolerance_y_px=tolerance_y_px,
            template_sha256=hashlib.sha256(content).hexdigest(),
        )
        return self._report(*report, registration=Registration(section, picture), content=content)

    def _refuse(self, reason: str, got: str, expected: str, advice: str) -> None:
        self._refusals.append(Refusal(reason, got, expected, advice))

    def _report(
        self,
        quality: TemplateQuality | None,
        repeats_x: Spread | None = None,
        repeats_y: Spread | None = None,
        parts_x: Spread | None = None,
        parts_y: Spread | None = None,
        positions: tuple[PartPosition, ...] = (),
        good_low: float | None = None,
        other: float | None = None,
        empty_count: int = 0,
        registration: Registration | None = None,
        content: bytes | None = None,
    ) -> RegistrationReport:
        return RegistrationReport(
            *(quality, repeats_x, repeats_y, parts_x, parts_y, positions, good_low, other, empty_count),
            *(registration, content, tuple(self._notes), tuple(self._refusals)),
        )

    def _section(
        self,
        min_contrast: float,
        levels: int,
        min_score: float,
        *,
        tolerance_x_px: float = 1.0,
        tolerance_y_px: float = 1.0,
        template_sha256: str = "0" * 64,
    ) -> RegistrationSection:
        return RegistrationSection(
            template=self._where,
            template_sha256=template_sha256,
            search_x_px=self._search["x"],
            search_y_px=self._search["y"],
            tolerance_x_px=tolerance_x_px,
            tolerance_y_px=tolerance_y_px,
            min_score=min_score,
            min_contrast=min_contrast,
            levels=levels,
        )

    def _is_searchable(self, pictures: Sequence[Pixels]) -> bool:
        for at, pixels in enumerate(pictures):
            if pixels.shape != self._format.shape or pixels.dtype != np.uint8:
                name = "the reference" if at == 0 else f"picture {at}"
                self._refuse(
                    "another size",
                    f"{name} of {pixels.dtype} {pixels.shape}",
                    f"pictures of {self._format.width_px} x {self._format.height_px} px, {self._format.pixel_format.value}",
                    "Take all pictures with this camera as it is configured.",
                )
                return False
        for fault in registration_faults(self._section(1.0, 0, _TRIAL_SCORE), self._format, file="", key="template"):
            self._refuse(
                "template too near the edge",
                f"a search of {fault.got}",
                fault.expected,
                "Mark a template nearer to the middle of the picture, or search less far.",
            )
        return not self._refusals

    def _cut(self) -> Pixels:
        """The template, grey as the search sees it."""
        where = self._where
        cut = self._reference[where.y_px : where.y_px + where.height_px, where.x_px : where.x_px + where.width_px]
        return grey_of(cut.copy(), self._format.pixel_format)

    def _expect_enough(self, repeats: Sequence[Pixels], parts: Sequence[Pixels]) -> None:
        if len(repeats) < REPEATS_MIN:
            self._refuse(
                "too few repeats",
                f"{len(repeats)} pictures of one part that is not moved",
                f"at least {REPEATS_MIN}",
                f"Take {REPEATS_MIN - len(repeats)} more without touching the part.",
            )
        if len(parts) < PARTS_MIN:
            self._refuse(
                "too few parts",
                f"{len(parts)} pictures of good parts",
                f"at least {PARTS_MIN}",
                f"Let {PARTS_MIN - len(parts)} more good parts pass the camera as they come.",
            )

    def _found(self, thorough: PartLocator, pictures: Sequence[Pixels], what: str) -> list[PartPosition]:
        positions = [thorough.locate(pixels) for pixels in pictures]
        lost = [str(at) for at, position in enumerate(positions, 1) if not position.is_found]
        if lost:
            named = ", ".join(lost[:10]) + (", ..." if len(lost) > 10 else "")
            self._refuse(
                f"{what} not found",
                f"no part in {len(lost)} of {len(pictures)} pictures (number {named}) within {self._search['x']} px to either "
                f"side and {self._search['y']} px up and down",
                "a part in each",
                "Look at these pictures: take out those without a good part, guide the parts better, or search farther.",
            )
        return positions

    def _judge_repeats(self, repeats_x: Spread | None, repeats_y: Spread | None) -> None:
        for axis, spread in (("to either side", repeats_x), ("up and down", repeats_y)):
            if spread is not None and spread.spread_px > REPEATABILITY_MAX_PX:
                self._refuse(
                    "not repeatable",
                    f"a place that spreads by {spread.spread_px:.2f} px {axis} over {spread.count} pictures of one part",
                    f"at most {REPEATABILITY_MAX_PX:g} px",
                    "Make sure that nobody moves the part; fasten camera, lens and lamp; then take these pictures again.",
                )

    def _other_score(
        self,
        thorough: PartLocator,
        quality: TemplateQuality,
        parts: Sequence[Pixels],
        positions: Sequence[PartPosition],
        empty: Sequence[Pixels],
    ) -> float:
        scores = [quality.second_score]
        for pixels, position in zip(parts, positions, strict=True):
            if position.is_found:
                row, column = position.whole_px[1] + self._search["y"], position.whole_px[0] + self._search["x"]
                scores.append(second_place(thorough.every_score(pixels), row, column)[0])
        scores += [float(thorough.every_score(pixels).max()) for pixels in empty]
        if not empty:
            self._notes.append(
                "No picture of the empty belt was given: what it scores is not known, and is taken to be no more than other places "
                "in pictures of good parts score."
            )
        return max(scores)

    def _tolerance(self, axis: str, spread: Spread | None, regions: Sequence[Region]) -> float:
        if spread is None:
            return 1.0
        factor = tolerance_factor(spread.count)
        needed_px = ceil(max(abs(spread.mean_px) + factor * spread.spread_px, spread.farthest_px))
        needed_px = max(1, needed_px)
        where = "to either side" if axis == "x" else "up and down"
        got = (
            f"parts that lie up to {needed_px} px off {where} (mean {spread.mean_px:+.1f} px, spread {spread.spread_px:.1f} px, "
            f"{spread.count} parts)"
        )
        tolerance_px = float(needed_px)
        if self._wanted is not None:
            tolerance_px = self._wanted[axis]
            if needed_px > tolerance_px:
                self._refuse(
                    "tolerance too tight",
                    got,
                    f"at most {tolerance_px:.1f} px, the tolerance",
                    "Guide the parts better, or allow more: good parts would be taken out for where they lie.",
                )
                return tolerance_px
            got = f"a tolerance of {tolerance_px:.1f} px {where}"
        searched_px, room_px = self._search[axis] - 1, self._room(axis, regions)
        if tolerance_px > searched_px:
            self._refuse(
                "parts too far off",
                got,
                f"at most {searched_px} px, a pixel less than the search",
                "Search farther, guide the parts better, or take a reference picture of a part that lies where most do.",
            )
        elif tolerance_px > room_px:
            self._refuse(
                "no room for the regions",
                got,
                f"at most {room_px} px, the least that any region is away from the picture's edge",
                "Guide the parts better, make the regions smaller, or aim the camera so that they lie farther inside.",
            )
        return tolerance_px

    def _room(self, axis: str, regions: Sequence[Region]) -> int:
        limit = self._format.width_px if axis == "x" else self._format.height_px
        spans = [
            (each.x_px, each.x_px + each.width_px) if axis == "x" else (each.y_px, each.y_px + each.height_px)
            for each in regions
        ]
        return min((min(start, limit - end) for start, end in spans), default=limit)

    def _levels(self, pictures: Sequence[Pixels], picture: Pixels, min_contrast: float, min_score: float) -> int:
        """The quickest search that finds in every picture what the thorough one finds."""
        thorough = self._trial(picture, min_contrast, min_score, 0)
        expected = [thorough.locate(pixels) for pixels in pictures]
        side_px = min(self._where.width_px, self._where.height_px)
        for levels in range(LEVELS_MAX, 0, -1):
            if side_px >> levels >= _LEAST_SIDE_PX:
                quick = self._trial(picture, min_contrast, min_score, levels)
                if all(_agree(quick.locate(pixels), wanted) for pixels, wanted in zip(pictures, expected, strict=True)):
                    return levels
        self._notes.append(
            "Only the search of every place finds the part in all pictures: it takes tens of milliseconds a frame. A template with "
            "larger shapes would let it be quick."
        )
        return 0

    def _trial(self, picture: Pixels, min_contrast: float, min_score: float, levels: int) -> PartLocator:
        section = self._section(min_contrast, levels, min_score)
        return PartLocator("calibration", Registration(section, picture), self._format)


def grey_of(pixels: Pixels, pixel_format: PixelFormat) -> Pixels:
    """As the search sees a picture, or a part of one: uint8 (height, width)."""
    if pixel_format is PixelFormat.MONO8:
        return pixels
    grey = np.zeros(pixels.shape[:2], np.uint8)
    to_grey(*flat_rows(pixels), 0, GREY_SHARES[pixel_format], grey)
    return grey


def _spreads(positions: Sequence[PartPosition]) -> tuple[Spread | None, Spread | None]:
    found = [each for each in positions if each.is_found]
    if len(found) < 2:
        return None, None
    return (
        spread_of(np.array([each.shift_x_px for each in found])),
        spread_of(np.array([each.shift_y_px for each in found])),
    )


def _nearly_all_above(scores: Floats) -> float:
    """At most the lowest of these; float64 (N,), N at least 2."""
    low = float(scores.mean() - tolerance_factor(scores.size) * scores.std(ddof=1))
    return min(low, float(scores.min()))


def _agree(quick: PartPosition, thorough: PartPosition) -> bool:
    if not thorough.is_found:
        return not quick.is_found
    return quick == thorough


def _rounded_up(search_px: int) -> int:
    return ceil(search_px / SEARCH_STEP_PX) * SEARCH_STEP_PX
