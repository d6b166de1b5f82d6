"""An invented teaching, for what is told and shown of one: rendered plates, some of them scratched or stained."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from calibration.auroc import auroc_of
from calibration.threshold import find_threshold
from pipeline.teaching.overlay import shown_picture
from pipeline.teaching.picture_set import Copy
from pipeline.teaching.report import (
    Changed,
    ScoredPart,
    ShownPicture,
    SizeTried,
    Suspect,
    TeachReport,
    ViewTaught,
    least_strange,
    most_moved,
    strangest,
)

Pixels = npt.NDArray[np.uint8]


def plate(seed: int, *, strength: float = 0.0, is_grey: bool = True) -> tuple[Pixels, npt.NDArray[np.float32]]:
    """A picture, uint8 (480, 640) or with colours, and a map, float32 (20, 27), that is hot where a scratch of that strength is."""
    rng = np.random.default_rng(seed)
    pixels = np.full((480, 640), 150, np.uint8)
    for x, y in ((110, 100), (530, 100), (110, 380), (530, 380)):
        cv2.circle(pixels, (x, y), 30, 40, -1, cv2.LINE_AA)
    cv2.putText(pixels, f"No {seed:04d}", (215, 250), cv2.FONT_HERSHEY_SIMPLEX, 1.6, 70, 4, cv2.LINE_AA)
    x, y = (int(each) for each in rng.uniform((120, 150), (500, 330)))
    cv2.line(pixels, (x, y), (x + 80, y + 45), round(150 - 110 * strength), 5, cv2.LINE_AA)
    rows, columns = np.mgrid[0:20, 0:27]
    distance = np.hypot(columns - (x + 40) / 23.7, rows - (y + 22) / 24.0)
    heat = 0.1 + 0.15 * rng.random((20, 27)) + 0.8 * strength * np.exp(-(distance**2) / 6)
    noise = cv2.GaussianBlur(rng.normal(0, 60, (480, 640)), (0, 0), 2)
    grey = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    shown = grey if is_grey else np.stack([grey, grey // 2 + 60, 255 - grey // 3], axis=-1).astype(np.uint8)
    return shown, heat.astype(np.float32)


def pictures_of(parts: list[ScoredPart], *, is_grey: bool = True) -> tuple[ShownPicture, ...]:
    """As strange as they score."""
    return tuple(
        shown_picture(part.name, part.score, *plate(int(part.name[-8:-4]), strength=part.score, is_grey=is_grey))
        for part in parts
    )


def example(
    *,
    good_count: int = 400,
    defective_count: int = 60,
    suspects_count: int = 3,
    is_grey: bool = True,
    has_changed: bool = False,
    product: str = "cover plate",
) -> TeachReport:
    """Numbers of the kind that a teaching comes to; nothing was measured."""
    rng = np.random.default_rng(0)
    good = [
        ScoredPart(f"good/{number:04d}.png", float(score)) for number, score in enumerate(rng.beta(6, 16, good_count))
    ]
    defective = [
        ScoredPart(f"scratch/{900 + number:04d}.png", float(score))
        for number, score in enumerate(rng.beta(7, 4, defective_count))
    ]
    good_scores, defective_scores = [part.score for part in good], [part.score for part in defective]
    threshold = find_threshold(good_scores, defective_scores, false_reject_max=0.01)
    before = [ScoredPart(part.name, min(1.0, part.score * float(rng.uniform(0.9, 1.25)))) for part in good]
    odd = pictures_of(strangest(good, suspects_count), is_grey=is_grey)
    return TeachReport(
        product=product,
        made_utc="2026-01-01T12:00:00Z",
        version="0.1.0",
        sources=(("good parts", "plates/good"), ("defective parts", "plates/scratch")),
        views=(ViewTaught("", 640, 480, is_grey, good_count, defective_count, 2),),
        copies=(Copy("good/0007 (copy).png", "good/0007.png"),),
        left_out=(),
        tried=(
            SizeTried(160, 120, "to stage 4", 1_420.0, 1_980.0, False),
            SizeTried(224, 168, "to stage 4", 2_610.0, 3_350.0, True),
            SizeTried(320, 240, "to stage 4", 5_230.0, 6_420.0, False),
        ),
        budget_us=4_000.0,
        why_chosen="The largest size whose p99 stays within the budget.",
        fit=(
            ("features", "272"),
            ("shrinkage", "0.031"),
            ("good parts in the fit", f"{good_count - suspects_count:,}"),
        ),
        model=(("package", "models/cover-plate"), ("model, SHA-256", "3f" * 32)),
        suspects=tuple(
            Suspect(
                shown.name,
                "plates",
                f"plates/{shown.name}",
                shown.score,
                3.1e-7 * 10**number,
                "far from all others in what the middle of the picture shows",
                shown,
            )
            for number, shown in enumerate(odd)
        ),
        suspects_words="They were left out of the fit, and count among the good parts for the threshold."
        if odd
        else "",
        good=tuple(good),
        defective=tuple(defective),
        reject_at_score=threshold.threshold or 0.6,
        threshold=threshold,
        auroc=auroc_of(good_scores, defective_scores),
        strangest_good=pictures_of(strangest(good), is_grey=is_grey),
        strangest_defective=pictures_of(strangest(defective), is_grey=is_grey),
        least_strange_defective=pictures_of(least_strange(defective), is_grey=is_grey),
        changed=Changed(
            300,
            good_count - 300,
            0,
            0,
            5,
            auroc_of(good_scores[:300], defective_scores),
            0.12,
            most_moved(before, good),
        )
        if has_changed
        else None,
    )
