"""What is told of a teaching: the parts of its report, of the card, and of what is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from calibration.teaching.backbone import BACKBONE_NAME, FeatureShape
from calibration.teaching.kinds import kinds_of
from calibration.teaching.near_copies import VARIETY_USUAL_MIN, variety
from pipeline.teaching.budget import words_of_depth
from pipeline.teaching.features import Features
from pipeline.teaching.fit import Fitted
from pipeline.teaching.good_parts import GoodParts, kept_path
from pipeline.teaching.judge import Judge
from pipeline.teaching.package_writer import THRESHOLD
from pipeline.teaching.picture_set import Picture, PictureSet
from pipeline.teaching.report import (
    KINDS,
    SHOWN_COUNT,
    Changed,
    ScoredPart,
    ShownPicture,
    Suspect,
    TeachReport,
    ViewTaught,
    most_moved,
    views_taught,
)
from pipeline.teaching.taught_file import KeptPart, KeptPicture, KeptView, Taught, WrittenCard

_NAMED_OF_KIND = 3


def sources(source: GoodParts, defects: PictureSet | None) -> tuple[tuple[str, str], ...]:
    """Where the pictures came from."""
    told = [("good parts", str(source.pictures.path))]
    if source.before is not None:
        told = [("taught before", f"{len(source.before.parts):,} parts")]
        if source.taken_out_count:
            told.append(("taken out", f"{source.taken_out_count:,} of them, {source.pictures.path}{_unsaid(source)}"))
        if source.judged_again_count:
            count, rejected = source.judged_again_count, len(source.rejected_again)
            told.append(("judged again", f"{count:,} parts that came later, {rejected:,} of which are suspects now"))
        told += _taught_already(source)
        if source.pictures.pictures_count:
            told.append(("added", str(source.pictures.path)))
        if source.unlike_first:
            unlike = f"{len(source.unlike_first):,} of {len(source.pictures.views[0].pictures):,} that are added"
            told.append(
                ("unlike the first", f"{unlike}, by the parts taught first and those that somebody said are good")
            )
    return (*told, *([("defects", str(defects.path))] if defects is not None else []))


def _taught_already(source: GoodParts) -> Iterator[tuple[str, str]]:
    assert source.before is not None
    gone = {picture.pixels_sha256 for picture in source.pictures.not_good}
    if known := [picture for picture in source.known_here if picture.pixels_sha256 not in gone]:
        first, names = known[0], source.before.names_by_pixels
        told = f"{len(known):,} of the pictures in {source.pictures.path}, as {first.name} ({names[first.pixels_sha256]} then)"
        yield "taught already", f"{told}: each counts once"


def _unsaid(source: GoodParts) -> str:
    assert source.before is not None
    kept = set(source.kept_rows)
    count = sum(part.is_said_good and row not in kept for row, part in enumerate(source.before.parts))
    return f"; SOMEBODY HAD SAID OF {count:,} that they are good" if count else ""


def views(source: GoodParts, defects: PictureSet | None) -> tuple[ViewTaught, ...]:
    """The counts of each view, with those of parts taught before."""
    return tuple(
        replace(view, good_count=view.good_count + source.kept_count) for view in views_taught(source.pictures, defects)
    )


def fit_facts(shape: FeatureShape, fitted: Fitted) -> tuple[tuple[str, str], ...]:
    """What was fitted, name and value."""
    places = ", ".join(
        f"{scale.windows.place_count} of {scale.windows.side}x{scale.windows.side} features of {scale.windows.layer.name}"
        for scale in fitted.views[0].scales
    )
    shrinkage = ", ".join(f"{scale.shrinkage:.3f}" for view in fitted.views for scale in view.scales)
    return (
        ("features", words_of_depth(shape.depth)),
        ("windows", f"{places}: a mean and a covariance for each"),
        ("shrinkage", shrinkage),
        ("pixels", f"the input is {shape.input_width_px}x{shape.input_height_px}, averaged by {shape.shrink}"),
        ("parts fitted", f"{int((~fitted.is_suspect).sum()):,} of {len(fitted.excess):,}"),
    )


def kinds(source: GoodParts, features: Sequence[Features], fitted: Fitted) -> Iterator[tuple[str, str]]:
    """Of each view whose pictures fall into two groups: it may be one product with two looks, or two in one folder."""
    for view, of_view in zip(source.pictures.views, features, strict=True):
        found = kinds_of(of_view)
        if found.are_two:
            many, few = (
                [source.names[index] for index in np.flatnonzero(found.is_smaller == which)] for which in (False, True)
            )
            learnt = int((found.is_smaller & ~fitted.is_suspect).sum())
            named = ", ".join(few[:_NAMED_OF_KIND]) + (", ..." if len(few) > _NAMED_OF_KIND else "")
            passing = f"{learnt:,} OF THESE ARE LEARNT AS GOOD, and others like them pass" if learnt else "all suspects"
            yield (
                f"{KINDS}{f' in {view.name}' if view.name else ''}",
                f"TWO: {len(many):,} pictures like {many[0]} and {len(few):,} others ({named}; {passing}): take out those that do "
                "not belong here; two products are better taught each by itself",
            )


def near_copies(source: GoodParts, fitted: Fitted) -> Iterator[tuple[str, str]]:
    """Which pictures show one and the same part, by how near they are to each other."""
    counts = np.bincount(fitted.part)
    if not (several := np.flatnonzero(counts > 1)).size:
        return
    shown = [source.names[index] for index in np.flatnonzero(fitted.part == several[0])[:2]]
    told = f"{int(counts[several].sum()):,} pictures of {several.size:,} parts, as {shown[0]} and {shown[1]}"
    yield ("near copies", f"{told}: each of these parts counts once; take one picture of each part")


def groups(count: int) -> Iterator[tuple[str, str]]:
    """Whether the pictures may show a few parts."""
    if count:
        told = f"the pictures fall into {count} groups that lie far apart: are they of {count} parts, or of so many kinds of parts?"
        yield "groups", told


def suspects(source: GoodParts, fitted: Fitted, scores: npt.NDArray[np.float64], judge: Judge) -> tuple[Suspect, ...]:
    """The strangest first, with the pictures of the first."""
    found = sorted(np.flatnonzero(fitted.is_suspect), key=lambda part: -fitted.excess[part])
    return tuple(_suspect(source, fitted, scores, judge, int(part), rank) for rank, part in enumerate(found))


def _suspect(
    source: GoodParts, fitted: Fitted, scores: npt.NDArray[np.float64], judge: Judge, part: int, rank: int
) -> Suspect:
    view = int(fitted.worst_view[part])
    picture, name = source.picture(part, view), source.names[part]
    given, path, score, p_value = kept_path(source.pictures), "", float(scores[part]), float(fitted.p_values[part])
    if picture is None:
        known = source.kept[part].pictures[view]
        name, given = known.name, known.source
    else:
        name, path = picture.name, str(picture.path)
    reason = "far beyond the others, or of another kind"
    if source.were_rejected[part]:
        reason = "the product, or what it was taught with first, rejected it when it was added, or would without what was taken out"
    elif p_value > 0:
        reason = f"{norm.isf(p_value):.1f} times the spread of good parts above their middle"
    shown = None
    if picture is not None and rank < SHOWN_COUNT:
        shown = judge.shown(source.pictures, picture, score)
    return Suspect(name, given, path, score, p_value, reason, shown)


def suspects_words(fitted: Fitted, *, is_new: bool) -> str:
    """What was done about them; empty where there are none. ``is_new``: taught anew."""
    count = int(fitted.is_suspect.sum())
    if count == 0:
        return ""
    taking_out, saying, how = "(--without NAME) and teach again", "--suspects-are-good", ""
    if not is_new:
        how = ", or were rejected when they were added"
        taking_out = "(--take-out, a folder with them; or --add as before, with --without NAME)"
        saying = "--suspects-are-good (with --add, a folder or window with them)"
    return (
        f"{count:,} of {len(fitted.excess):,} good parts look unlike the others{how}: look at them. "
        "Nothing was learnt from them, and the threshold takes them for rejected: take out those that are defective "
        f"{taking_out}, or say {saying}."
    )


def shown_good(
    source: GoodParts, fitted: Fitted, parts: Sequence[ScoredPart], judge: Judge
) -> tuple[ShownPicture, ...]:
    """Of those whose pictures are here."""
    new = range(source.kept_count, len(parts))
    order = sorted(new, key=lambda part: (-parts[part].score, parts[part].name))[:SHOWN_COUNT]
    shown = []
    for part in order:
        picture = source.picture(part, int(fitted.worst_view[part]))
        assert picture is not None
        shown.append(judge.shown(source.pictures, picture, parts[part].score))
    return tuple(shown)


def shown(
    parts: Sequence[ScoredPart], worst: dict[str, Picture], judge: Judge, defects: PictureSet | None
) -> tuple[ShownPicture, ...]:
    """With their maps."""
    if defects is None:
        return ()
    return tuple(judge.shown(defects, worst[part.name], part.score) for part in parts)


def changed(
    source: GoodParts,
    features: Sequence[Features],
    good: Sequence[ScoredPart],
    would_be_rejected: tuple[ScoredPart, ...],
    card: tuple[str, ...],
    *,
    are_said_good: bool,
) -> Changed | None:
    """What ``--add`` or ``--take-out`` changed; None for a product taught anew."""
    taught = source.before
    if taught is None:
        return None
    before = [ScoredPart(part.name, part.score) for part in taught.parts]
    return Changed(
        good_count_before=len(before),
        added_count=len(good) - source.kept_count,
        taken_out_count=source.taken_out_count,
        parts_missing_before=taught.parts_missing,
        rejected_count_before=sum(part.score >= THRESHOLD for part in before),
        auroc_before=taught.auroc,
        mean_shift=max(
            _mean_shift(old, new, source.kept_rows) for old, new in zip(source.features_before, features, strict=True)
        ),
        moved=most_moved(before, good),
        would_be_rejected=would_be_rejected,
        are_said_good=are_said_good,
        card=card,
    )


def _mean_shift(before: Features, now: Features, kept_rows: Sequence[int]) -> float:
    """By how much the mean of pictures' mean features moved, as a share of a usual picture's distance from it; ``kept_rows`` of
    ``before`` are the first of ``now``.
    """
    means_before = np.stack([_mean_features(each) for each in before])
    added = [_mean_features(now[row]) for row in range(len(kept_rows), len(now))]
    then, now_mean = means_before.mean(axis=0), np.stack([*means_before[list(kept_rows)], *added]).mean(axis=0)
    usual = float(np.median(np.linalg.norm(means_before - then, axis=1)))
    return float(np.linalg.norm(now_mean - then)) / max(usual, np.finfo(np.float64).tiny)


def _mean_features(of_picture: Features) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = np.asarray(of_picture).mean(axis=(1, 2), dtype=np.float64)
    return found


def said(
    source: GoodParts, is_said_good: npt.NDArray[np.bool_], is_said_other: npt.NDArray[np.bool_]
) -> tuple[str, ...]:
    """What somebody's word is taken for, a sentence each."""
    good, other, defective = int(is_said_good.sum()), int(is_said_other.sum()), len(source.said_defective)
    taken_out = sum(part.name not in source.said_defective for part in source.taken_out)
    told = (
        (good, "Somebody said of {0:,} parts that they are good: none of them is a suspect."),
        (
            other,
            "Somebody said of {0:,} parts that no other picture shows them; those found to show one part count once nevertheless.",
        ),
        (
            defective,
            "Somebody said of {0:,} parts that a recorded line rejected that they are defective: they do not count. Were some of "
            "them good, more good parts would be rejected than is said here.",
        ),
        (
            taken_out,
            "Somebody said of {0:,} parts that they are not good, and took them out: the sample is without them, and so is what is "
            "promised.",
        ),
    )
    return tuple(words.format(count) for count, words in told if count)


def varieties(source: GoodParts, features: Sequence[Features]) -> Iterator[tuple[str, str]]:
    """Of each view whose pictures differ so little that they may show one part."""
    for view, of_view in zip(source.pictures.views, features, strict=True):
        if (found := variety(of_view)) < VARIETY_USUAL_MIN:
            told = f"pictures differ by {100 * found:.2g} % of what they show, 30 and more are usual: are they of different parts?"
            yield f"variety{f' in {view.name}' if view.name else ''}", told


def training(report: TeachReport, source: GoodParts, said: Sequence[str]) -> dict[str, object]:
    """For the card."""
    return {
        "method": "taught from good parts alone by lineside teach",
        "backbone": f"{BACKBONE_NAME}, ImageNet weights (c) 2020 ML Illustrated, Apache-2.0",
        "made_utc": report.made_utc,
        "lineside": report.version,
        "good_parts": len(report.good),
        "suspects": len(report.suspects),
        "views": {view.name or "picture": [view.width_px, view.height_px] for view in report.views},
        **{key.replace(" ", "_"): value for key, value in report.fit},
        **({"said": list(said)} if said else {}),
        "pictures_digest": f"sha256:{_digest(source)}",
    }


def _digest(source: GoodParts) -> str:
    digest = hashlib.sha256()
    for sha256 in sorted(_hashes(source)):
        digest.update(sha256.encode())
    return digest.hexdigest()


def _hashes(source: GoodParts) -> Iterator[str]:
    for part in source.kept:
        yield from (picture.pixels_sha256 for picture in part.pictures)
    yield from source.pictures.names_by_pixels


def accuracy(report: TeachReport) -> dict[str, object]:
    """For the card."""
    threshold = report.threshold
    told: dict[str, object] = {
        "by": "each good part by a fit that had not seen it",
        "good_parts_rejected": len(report.rejected_good),
        "is_promised": bool(threshold.thresholds),
        "false_reject_max": threshold.false_reject_max,
        "confidence": threshold.confidence,
        "good_parts_missing": threshold.parts_missing,
    }
    if report.auroc is not None:
        told["defective_parts"] = len(report.defective)
        told["defective_parts_passed"] = len(report.missed)
        told["auroc"] = round(report.auroc.value, 4)
        told["auroc_interval"] = [round(report.auroc.low, 4), round(report.auroc.high, 4)]
    return told


def kept(
    source: GoodParts,
    report: TeachReport,
    is_said_good: npt.NDArray[np.bool_],
    is_said_other: npt.NDArray[np.bool_],
    sha256: str,
    shape: FeatureShape,
    features_sha256: Sequence[str],
    card: WrittenCard,
) -> Taught:
    """What a later ``--add`` or ``--take-out`` starts from."""
    kept = [part.pictures for part in source.kept]
    given = kept_path(source.pictures)
    new = [
        tuple(KeptPicture(name=each.name, pixels_sha256=each.pixels_sha256, source=given) for each in pictures)
        for pictures in zip(*(view.pictures for view in source.pictures.views), strict=True)
    ]
    return Taught(
        layout="lineside.taught/1",
        product=report.product,
        sha256=sha256,
        shape=shape,
        false_reject_max=report.threshold.false_reject_max,
        confidence=report.threshold.confidence,
        views=tuple(
            KeptView(name=name, frame=frame, features_sha256=of_view)
            for (name, frame), of_view in zip(source.frames.items(), features_sha256, strict=True)
        ),
        parts=tuple(
            KeptPart(
                name=part.name,
                score=part.score,
                pictures=shown,
                is_said_good=bool(good),
                is_said_other=bool(other),
                was_rejected=bool(rejected),
                lot=lot,
            )
            for part, shown, good, other, rejected, lot in zip(
                report.good, (*kept, *new), is_said_good, is_said_other, source.were_rejected, source.lots, strict=True
            )
        ),
        rejected=tuple(sorted(source.rejected)),
        said_defective=tuple(sorted(source.said_defective)),
        taken_out=source.taken_out,
        parts_missing=report.threshold.parts_missing,
        auroc=report.auroc,
        card=card,
    )
