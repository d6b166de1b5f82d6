"""From pictures of good parts to a package: the steps, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from calibration.auroc import auroc_of
from calibration.teaching.fitting import PARTS_MIN
from calibration.teaching.graph import product_model, score_of
from calibration.teaching.near_copies import near_copies, variety
from pipeline.new_folder import scratch_folder
from pipeline.teaching import telling
from pipeline.teaching.budget import Choice, choose, measure, tried
from pipeline.teaching.carried import Carried, carried
from pipeline.teaching.features import Features, write_features
from pipeline.teaching.fit import Fitted, fit, promised, threshold_of
from pipeline.teaching.good_parts import GoodParts, of_both, of_pictures
from pipeline.teaching.judge import Judge
from pipeline.teaching.later_lots import judged_again, judged_by_first
from pipeline.teaching.package_writer import THRESHOLD, fixed_card, publish, write_package
from pipeline.teaching.picture_set import PictureSet, expect_content, none_good
from pipeline.teaching.report import ScoredPart, TeachReport, least_strange, strangest
from pipeline.teaching.taught_file import FOLDER, Taught, WrittenCard, features_file, features_sha256, write_taught
from vision.faults import Fault, FaultsError
from vision.package import ModelPackage, load_package
from vision.preprocess import FrameFormat

Progress = Callable[[str, int | None], AbstractContextManager[Callable[[], object]]]
"""Shows how far a step of so many pictures is; gives what is to be called after each."""

_AGREEMENT = 1e-3
"""Between the scores of the model and those of the fit it was made of."""

_CHECKED_PICTURES = 8
_NAMED_MAX = 3

_VARIETY_MIN = 0.01
"""Below it single precision is not enough for the fit."""

_UNLIKE_SHARE_MAX = 0.1
"""Of the parts taught before. More that were added and rejected are another kind of parts (``calibration.teaching.kinds``)."""


class TeachingFailed(RuntimeError):
    """The model is not what was fitted. The text says what was seen."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """``size_px`` and ``budget_us``: see ``budget.choose``; the rate of good parts that may be rejected, with that confidence;
    ``are_suspects_good``: somebody has looked at them, and none of the parts that are shown is a suspect any more;
    ``do_parts_differ``: somebody knows of these that no part is shown twice; ``are_taken_back``: those of them that were taken out
    before are good after all.
    """

    product: str
    size_px: int | None
    budget_us: float
    false_reject_max: float
    confidence: float
    are_suspects_good: bool = False
    do_parts_differ: bool = False
    are_taken_back: bool = False


def teach(good: PictureSet, defects: PictureSet | None, out: Path, wanted: Wanted, progress: Progress) -> TeachReport:
    """A package in ``out``, which is not there yet. Raises FaultsError for pictures that cannot be taught, OSError where the disk
    fails; then nothing is written.
    """
    source = of_pictures(good)
    _expect_enough(len(source.names), good.path, len(source.names))
    expect_content(good)
    with scratch_folder(out) as draft:
        largest = max(good.views, key=lambda view: view.frame.width_px * view.frame.height_px)
        with progress("measuring", None):
            choice = choose(
                _shared_frame(good),
                good.read(largest.pictures[0]),
                tuple(good.frames),
                wanted.size_px,
                wanted.budget_us,
                draft,
            )
        report = _taught(source, defects, draft, out, wanted, choice, (), Carried(), progress)
        publish(draft, out)
        return report


def extend(
    package: ModelPackage,
    taught: Taught,
    features: Sequence[Features],
    more: PictureSet,
    defects: PictureSet | None,
    wanted: Wanted,
    progress: Progress,
) -> TeachReport:
    """The package with more good parts, in its place. Raises as ``teach`` does, and TeachingFailed where somebody else has changed
    the package meanwhile; then it is as it was. Many parts that the product rejects are refused, until somebody has looked at them.
    """
    source = of_both(taught, features, more, are_taken_back=wanted.are_taken_back)
    new = source.pictures
    # Nothing new to learn, but to hear that suspects are good, that parts differ or are not good, or rejected ones defective.
    is_said = wanted.are_suspects_good or wanted.do_parts_differ
    is_heard = is_said or source.taken_out != taught.taken_out or not more.settled.isdisjoint(taught.rejected)
    if not new.views[0].pictures and not is_heard:
        got = f"{more.parts_count:,} parts, of each of which a picture was taught already, or taken out"
        raise FaultsError([Fault(str(more.path), "", got, "pictures of other parts")])
    expect_content(new)
    with progress("judging what is added", new.pictures_count) as advance:
        scored, _ = Judge(package).parts(new, lambda: advance())
    would_be_rejected = tuple(strangest([part for part in scored if part.score >= THRESHOLD], len(scored)))
    source = replace(source, rejected_now=frozenset(part.name for part in would_be_rejected))
    if not wanted.are_suspects_good:
        _expect_alike(more.path, len(scored), would_be_rejected, len(taught.parts))
    return _taught_again(package, taught, source, more, defects, wanted, would_be_rejected, progress)


def shrink(
    package: ModelPackage,
    taught: Taught,
    features: Sequence[Features],
    gone: PictureSet,
    defects: PictureSet | None,
    wanted: Wanted,
    progress: Progress,
) -> TeachReport:
    """The package in its place as if it had not been taught the parts that ``gone`` shows. Raises as ``extend`` does."""
    source = of_both(taught, features, none_good(gone))
    if not source.taken_out_count:
        got = f"{gone.pictures_count:,} pictures, none of which the product was taught with"
        raise FaultsError(
            [Fault(str(gone.path), "", got, "pictures of parts to take out, as they were taught or added")]
        )
    known = taught.names_by_pixels
    strangers = [picture.name for picture in gone.all() if picture.pixels_sha256 not in known]
    told = tuple(f"{name}: not taught, so not taken out; nor will it be learnt when it is added" for name in strangers)
    source = replace(source, pictures=replace(source.pictures, left_out=told))
    return _taught_again(package, taught, source, gone, defects, wanted, (), progress)


def _taught_again(
    package: ModelPackage,
    taught: Taught,
    source: GoodParts,
    here: PictureSet,
    defects: PictureSet | None,
    wanted: Wanted,
    would_be_rejected: tuple[ScoredPart, ...],
    progress: Progress,
) -> TeachReport:
    kept = carried(package, taught)
    pixels = here.read(next(here.all()))  # of a part that is known, or is not good: its time is that of any
    with scratch_folder(package.folder) as draft:
        with progress("measuring", None):
            measured = measure(taught.shape, tuple(taught.frames), pixels, draft)
        shown = tried(taught.shape, measured, is_chosen=True)
        choice = Choice(taught.shape, (shown,), wanted.budget_us, "the size that was taught before.")
        with TemporaryDirectory(dir=draft) as folder, progress("judging later parts again", None):
            source = judged_again(source, Path(folder))
        with TemporaryDirectory(dir=draft) as folder, progress("judging by the first parts", None):
            source = judged_by_first(source, Path(folder))
        report = _taught(source, defects, draft, package.folder, wanted, choice, would_be_rejected, kept, progress)
        kept.copy_files(draft)
        if load_package(package.folder).sha256 != package.sha256:
            raise TeachingFailed(
                f"{package.folder} was changed by somebody else meanwhile; nothing was written: try again"
            )
        publish(draft, package.folder, is_replacing=True)
        return report


def _taught(
    source: GoodParts,
    defects: PictureSet | None,
    draft: Path,
    out: Path,
    wanted: Wanted,
    choice: Choice,
    would_be_rejected: tuple[ScoredPart, ...],
    kept: Carried,
    progress: Progress,
) -> TeachReport:
    """Everything but to put it in its place."""
    good, shape = source.pictures, choice.shape
    # Of parts that are not shown nobody says anything now.
    is_said_good = source.are_said_good | (source.are_shown & wanted.are_suspects_good)
    is_said_other = source.are_said_other | (source.are_shown & wanted.do_parts_differ)
    # What the product rejects is not learnt on its own say-so, however many are alike.
    is_held = source.were_rejected & ~is_said_good
    _expect_some_to_learn(good.path, is_held)
    (draft / FOLDER).mkdir()
    features = []
    with progress("looking", good.pictures_count) as advance:
        for index, view in enumerate(good.views):
            known = source.features_before[index] if source.before is not None else None
            file = features_file(draft, index)
            features.append(
                write_features(file, shape, known, source.kept_rows, view.pictures, good.read, lambda: advance())
            )
    _expect_variety(good, features)
    with progress("fitting", None):
        near = near_copies(features, shape.layers)
        _expect_enough(int(near.part.max()) + 1, good.path, len(near.part))
        fitted = fit(features, shape.layers, near.part, is_said_good, is_held)
    at = threshold_of(fitted, wanted.false_reject_max, wanted.confidence, len(source.rejected))
    model = product_model(shape, fitted.views, [at] * len(fitted.views))
    views = tuple(good.frames)
    write_package(draft, shape, views, model, wanted.product, {}, {})
    judge = Judge(load_package(draft))
    _expect_agreement(judge, source, fitted, features, at)
    scores = score_of(fitted.excess, at)
    good_parts = tuple(ScoredPart(name, float(score)) for name, score in zip(source.names, scores, strict=True))
    with progress("judging defects", 0 if defects is None else defects.pictures_count) as advance:
        defective_parts, worst = judge.parts(defects, lambda: advance())
    said = telling.said(source, is_said_good, is_said_other)
    promise = promised(
        good_parts,
        defective_parts,
        fitted,
        wanted.false_reject_max,
        wanted.confidence,
        len(source.rejected),
        near.may_repeat & ~is_said_other,
        said,
    )
    auroc = auroc_of([part.score for part in good_parts], [part.score for part in defective_parts])
    report = TeachReport(
        product=wanted.product,
        made_utc=f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC",
        version=metadata.version("lineside"),
        sources=telling.sources(source, defects),
        views=telling.views(source, defects),
        copies=(*good.copies, *(() if defects is None else defects.copies)),
        left_out=(*good.left_out, *(() if defects is None else defects.left_out)),
        tried=choice.tried,
        budget_us=choice.budget_us,
        why_chosen=choice.why,
        fit=(
            *telling.fit_facts(shape, fitted),
            *telling.near_copies(source, fitted),
            *telling.groups(near.groups_count),
            *telling.varieties(source, features),
            *telling.kinds(source, features, fitted),
        ),
        model=(("written to", str(out)), ("sha256", judge.package.sha256)),
        suspects=telling.suspects(source, fitted, scores, judge),
        suspects_words=telling.suspects_words(fitted, is_new=source.before is None),
        good=good_parts,
        defective=defective_parts,
        reject_at_score=THRESHOLD,
        threshold=promise,
        auroc=auroc,
        strangest_good=telling.shown_good(source, fitted, good_parts, judge),
        strangest_defective=telling.shown(strangest(defective_parts), worst, judge, defects),
        least_strange_defective=telling.shown(least_strange(defective_parts), worst, judge, defects),
        changed=telling.changed(
            source, features, good_parts, would_be_rejected, kept.told, are_said_good=wanted.are_suspects_good
        ),
    )
    training, accuracy = telling.training(report, source, said), telling.accuracy(report)
    write_package(
        draft, shape, views, model, wanted.product, {**kept.training, **training}, accuracy, kept.card, kept.version
    )
    hashes = [features_sha256(draft, index) for index in range(len(good.views))]
    keys = {"training": tuple(training), "accuracy": tuple(accuracy)}
    written = WrittenCard(values=fixed_card(shape, views), keys=keys)
    write_taught(
        draft, telling.kept(source, report, is_said_good, is_said_other, judge.package.sha256, shape, hashes, written)
    )
    load_package(draft)
    return report


# --- what pictures must be -------------------------------------------------------------------------------------------


def _expect_enough(count: int, path: Path, pictures_count: int) -> None:
    if count < PARTS_MIN:
        expected = f"{PARTS_MIN} good parts at the least, to learn what is usual; some hundred are better"
        shown = f": {pictures_count} pictures show some of them several times" if pictures_count > count else ""
        raise FaultsError([Fault(str(path), "", f"{count} different parts{shown}", expected)])


def _expect_some_to_learn(path: Path, is_held: npt.NDArray[np.bool_]) -> None:
    """Raises FaultsError. ``is_held``, (parts,): suspects whatever the others are like."""
    if (count := int((~is_held).sum())) < PARTS_MIN:
        why = "which the product rejected when they were added, or took for good for what goes now"
        held = f" and {int(is_held.sum()):,} of which nobody has said so, {why}" if is_held.any() else ""
        expected = (
            f"{PARTS_MIN} at the least: say so of others (--add DIR --suspects-are-good), or teach the product anew"
        )
        raise FaultsError([Fault(str(path), "", f"{count:,} good parts would be left{held}", expected)])


def _expect_variety(good: PictureSet, features: Sequence[Features]) -> None:
    for view, of_view in zip(good.views, features, strict=True):
        if (found := variety(of_view)) < _VARIETY_MIN:
            named = f" of view {view.name}" if view.name else ""
            got = f"pictures{named} most of which differ by {100 * found:.2g} % of what they show"
            expected = "pictures of different parts, 30 % is usual: does the camera see one part again and again?"
            raise FaultsError([Fault(str(good.path), "", got, expected)])


def _expect_alike(path: Path, count: int, rejected: Sequence[ScoredPart], taught_count: int) -> None:
    if 2 * len(rejected) > count and len(rejected) > _UNLIKE_SHARE_MAX * taught_count:
        named = ", ".join(part.name for part in rejected[:_NAMED_MAX]) + (", ..." if len(rejected) > _NAMED_MAX else "")
        got = f"{count:,} parts, of which the product as it is, taught with {taught_count:,}, rejects {len(rejected):,} ({named})"
        expected = (
            "good parts of this product; where somebody has looked at them, and they are, say --suspects-are-good"
        )
        raise FaultsError([Fault(str(path), "", got, expected)])


def _shared_frame(good: PictureSet) -> FrameFormat:
    """The largest view's, in colour where any is."""
    largest = max((view.frame for view in good.views), key=lambda frame: frame.width_px * frame.height_px)
    coloured = [view.frame for view in good.views if view.frame.pixel_format.channel_count == 3]
    return replace(largest, pixel_format=coloured[0].pixel_format) if coloured else largest


def _expect_agreement(judge: Judge, source: GoodParts, fitted: Fitted, features: Sequence[Features], at: float) -> None:
    """Raises TeachingFailed."""
    checked = [0] * len(features)
    for picture, index, of_picture in source.looked_at(features):
        if checked[index] == _CHECKED_PICTURES:
            continue
        checked[index] += 1
        score, _ = judge.judged(source.pictures, picture)
        expected = float(score_of(fitted.views[index].excess(np.asarray(of_picture)[None]), at)[0])
        if abs(score - expected) > _AGREEMENT:
            raise TeachingFailed(
                f"{picture.name}: the model scores {score:.6f}, what was fitted {expected:.6f}; nothing was written"
            )
