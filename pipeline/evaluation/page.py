"""An evaluation as a page: the figures with their intervals, the curves, and the worst mistakes as pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.evaluation.data import Sample
from pipeline.evaluation.figures import Detected, Figures, worst_mistakes
from pipeline.evaluation.metrics.verdicts import precision_over_recall, roc
from pipeline.evaluation.runner import STAGES, Runner, mask_of
from pipeline.image_reading import read_seen
from pipeline.report.blocks import (
    Block,
    Box,
    Fact,
    Facts,
    Gallery,
    Notice,
    Page,
    Picture,
    Section,
    Table,
    Words,
    plain,
)
from pipeline.report.pictures import no_picture, picture_of
from pipeline.report.plots import Dot, Mark, RatioCurve, ratio_curves, score_histogram, stage_bars
from pipeline.report.shares import percent, told
from vision.types import Findings, PixelFormat

_PICTURES_MAX = 12
"""Of each sort of mistake."""
_BOXES_MAX = 12
"""Findings drawn into a picture: a detector with a low ``score_min`` would cover it."""
_CLASSES_MAX = 30
_SCORE_BINS = 50
_HEAT_ALPHA = 0.45
_PERCENTILES = ("p50", "p90", "p99", "p999")


@dataclass(frozen=True, slots=True)
class EvaluationShown:
    """What there is to show. ``result`` is what ``--json`` writes; images are judged once more for their pictures."""

    figures: Figures
    result: Mapping[str, Any]
    runner: Runner


def evaluation_page(shown: EvaluationShown) -> Page:
    """Reads pictures from the data set."""
    figures, result = shown.figures, shown.result
    sections = [Section("Verdicts", [*_verdicts(figures)])]
    if np.isfinite(figures.scores).any():
        sections.append(Section("Scores", [*_scores(shown)]))
    if figures.classified is not None or figures.detected is not None:
        sections.append(Section("Classes", [*_classes(figures)]))
    sections += [
        Section("Time", [*_times(figures)]),
        Section("Worst mistakes", [*_mistakes(shown)]),
        Section("What was measured", [*_what(result)]),
    ]
    model, data = result["model"], result["data"]
    return Page(
        title=f"Evaluation of {plain(model['name'])} {plain(model['version'], 32)}",
        subtitle=f"{data['images']:,} labelled images from {plain(data['folder'], 200)}",
        blocks=[_outcome(figures), _facts(figures)],
        sections=sections,
        made_by=f"Made by lineside {result['version']} on {result['made_utc']}.",
    )


def _outcome(figures: Figures) -> Notice:
    verdicts = figures.verdicts
    lines = []
    if figures.no_decision:
        lines.append(
            f"{figures.no_decision:,} images got no verdict, as the model's output cannot be judged; they count as rejected."
        )
    if verdicts.false_accept is None:
        lines.append("No image is defective by its labels: nothing is known of false accepts.")
    if verdicts.false_reject is None:
        lines.append("No image is good by its labels: nothing is known of false rejects.")
    accepts = (
        "-" if verdicts.false_accept is None else f"{verdicts.false_accept.count:,} of {verdicts.false_accept.total:,}"
    )
    rejects = (
        "-" if verdicts.false_reject is None else f"{verdicts.false_reject.count:,} of {verdicts.false_reject.total:,}"
    )
    title = f"Let through: {accepts} defective images. Taken out: {rejects} good ones."
    return Notice("bad" if figures.no_decision else "neutral", title, lines)


def _facts(figures: Figures) -> Facts:
    verdicts, detected, pixels = figures.verdicts, figures.detected, figures.pixels
    facts = [
        Fact("Images", f"{len(figures.judged):,}", f"{int(figures.is_defective.sum()):,} defective"),
        Fact("False accepts", *_rate(verdicts.false_accept)),
        Fact("False rejects", *_rate(verdicts.false_reject)),
        Fact("F1 of defective", _number(verdicts.f1), "at the thresholds in use"),
        Fact("AUROC, image", _number(figures.auroc), "over all thresholds"),
    ]
    if pixels is not None:
        facts.append(Fact("AUROC, pixel", f"{pixels.value:.4f}", f"within {pixels.error_max:.1e}"))
    if detected is not None:
        facts.append(
            Fact(
                f"mAP at IoU {detected.iou_min:g}", _number(detected.mean_average_precision), "all-point interpolation"
            )
        )
    total = figures.stages_us.get("total")
    if total is not None:
        facts.append(Fact("Time, p99", f"{total['p99'] / 1e3:,.2f} ms", "frame in memory to judgement"))
    return Facts(facts)


def _verdicts(figures: Figures) -> Iterator[Block]:
    verdicts = figures.verdicts
    yield Table(
        "At the thresholds in use",
        ["share", "value, 95 % interval (Clopper-Pearson)"],
        [
            ("verdicts as the labels say", told(verdicts.correct)),
            ("false accepts, of the defective", told(verdicts.false_accept)),
            ("false rejects, of the good", told(verdicts.false_reject)),
            ("precision of defective", _number(verdicts.precision)),
            ("recall of defective", _number(verdicts.recall)),
            ("F1 of defective", _number(verdicts.f1)),
        ],
    )
    rows = []
    for kind in figures.kinds[:_CLASSES_MAX]:
        counts = (kind.total, kind.passed, kind.rejected, kind.no_decision)
        label = "defective" if kind.is_defective else "good"
        rows.append((plain(kind.name), label, *(f"{count:,}" for count in counts)))
    left_out = len(figures.kinds) - _CLASSES_MAX
    note = f"{left_out} more kinds are in the JSON." if left_out > 0 else ""
    columns = ["images", "by their labels", "count", "PASS", "REJECT", "NO_DECISION"]
    yield Table("Kinds of images and their verdicts", columns, rows, frozenset({2, 3, 4, 5}), note)


def _scores(shown: EvaluationShown) -> Iterator[Block]:
    figures = shown.figures
    known = np.isfinite(figures.scores)
    scores, is_defective = figures.scores[known], figures.is_defective[known]
    edges = np.linspace(0.0, 1.0, _SCORE_BINS + 1)
    counts = {
        "good": np.histogram(scores[~is_defective], edges)[0],
        "defective": np.histogram(scores[is_defective], edges)[0],
    }
    thresholds = sorted({rule["reject_at_score"] for rule in shown.result["rules"] if "reject_at_score" in rule})
    marks = [Mark(at, f"reject at {at:g}") for at in thresholds[:4]]
    yield score_histogram(edges, counts, thresholds=marks, caption="The line's score of each image, by its label.")
    if figures.auroc is None:
        yield Words("Curves need good and defective images.")
        return
    verdicts = figures.verdicts
    assert verdicts.false_accept is not None
    assert verdicts.false_reject is not None
    recall = 1 - verdicts.false_accept.value
    curve = roc(is_defective, scores)
    yield ratio_curves(
        [RatioCurve(f"AUROC {figures.auroc:.4f}", curve.x, curve.y)],
        dots=[Dot(verdicts.false_reject.value, recall, "the verdicts")],
        x_label="false rejects, of the good",
        y_label="rejected, of the defective",
        caption="What each threshold on the score would come to (ROC); the dot is what the rules in use come to.",
    )
    curve = precision_over_recall(is_defective, scores)
    dots = [] if verdicts.precision is None else [Dot(recall, verdicts.precision, "the verdicts")]
    yield ratio_curves(
        [RatioCurve("images", curve.x, curve.y)],
        dots=dots,
        x_label="recall: rejected, of the defective",
        y_label="precision: defective, of the rejected",
        caption="Precision over recall of whole images.",
    )


def _classes(figures: Figures) -> Iterator[Block]:
    classified, detected = figures.classified, figures.detected
    if classified is not None:
        rows = [
            (plain(each.name), f"{each.count:,}", *map(_number, (each.precision, each.recall, each.f1)))
            for each in classified.classes[:_CLASSES_MAX]
        ]
        yield Table("First choices", ["class", "images", "precision", "recall", "F1"], rows, frozenset({1, 2, 3, 4}))
        yield _confusion(
            "Classes by their labels (rows) and as chosen (columns)", classified.names, classified.confusion
        )
    if detected is not None:
        yield from _objects(detected)


def _objects(detected: Detected) -> Iterator[Block]:
    rows = [
        (
            plain(each.name),
            f"{each.count:,}",
            _number(each.average_precision),
            "-" if each.threshold is None else f"{each.threshold:g}",
            "-" if each.found_count is None else f"{each.found_count:,}",
            *map(_number, (each.precision, each.recall, each.f1)),
        )
        for each in detected.classes[:_CLASSES_MAX]
    ]
    columns = ["class", "objects", "AP", "threshold", "found", "precision", "recall", "F1"]
    note = f"An object counts as found from an IoU of {detected.iou_min:g} on; findings and ratios at the threshold in use."
    if detected.unread_count:
        note += f" Of {detected.unread_count:,} images the findings below score_min cannot be read and do not count."
    yield Table("Objects", columns, rows, frozenset(range(1, 8)), note)
    if detected.curves:
        curves = [
            RatioCurve(
                detected.names[class_id],
                np.concatenate([[0.0], curve.recalls]),
                np.concatenate([curve.precisions[:1], curve.precisions]),
            )
            for class_id, curve in detected.curves.items()
            if len(curve.scores)
        ]
        if curves:
            yield ratio_curves(
                curves,
                x_label="recall: found, of the objects",
                y_label="precision: objects, of the found",
                caption="Precision over recall of objects, by class, over all scores.",
            )
    names = [*detected.names, "no object"]
    yield _confusion(
        "Objects by their labels (rows) and as found (columns), at the thresholds", names, detected.confusion
    )


def _confusion(caption: str, names: Sequence[str], counts: npt.NDArray[np.int64]) -> Block:
    """Of many classes only those that are mistaken for others most often."""
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    chosen = sorted(np.argsort(-wrong, kind="stable")[:_CLASSES_MAX].tolist())
    columns = ["by the labels", *(plain(names[at], 20) for at in chosen)]
    rows = [(plain(names[at]), *(f"{counts[at, other]:,}" for other in chosen)) for at in chosen]
    left_out = len(names) - len(chosen)
    note = f"{left_out} classes that are mistaken less often are in the JSON." if left_out else ""
    return Table(caption, columns, rows, frozenset(range(1, len(chosen) + 1)), note)


def _times(figures: Figures) -> Iterator[Block]:
    stages = {stage: figures.stages_us[stage] for stage in STAGES if stage in figures.stages_us}
    if not stages:
        yield Words("Nothing was judged.")
        return
    whole = {stage: {name: round(value) for name, value in told_us.items()} for stage, told_us in stages.items()}
    yield stage_bars(
        whole, percentiles=_PERCENTILES, caption="Each image's way from memory to judgement, one image at a time."
    )
    rows = [
        (stage, *(f"{told_us[name]:,.0f}" for name in (*_PERCENTILES, "max")))
        for stage, told_us in figures.stages_us.items()
    ]
    note = (
        "judge: decoding and judging. Reading and decoding image files is not in it, as the line's frames come decoded."
    )
    yield Table("Times, us", ["stage", *_PERCENTILES, "max"], rows, frozenset(range(1, 6)), note)


def _mistakes(shown: EvaluationShown) -> Iterator[Block]:
    figures = shown.figures
    accepted, refused = worst_mistakes(figures, _PICTURES_MAX)
    total = int((figures.is_defective & figures.is_passed).sum())
    if accepted:
        yield Words(f"Defective and passed: {total:,}; those with the lowest scores. Dashed and blue: the labels.")
        yield Gallery([_picture(shown, place) for place in accepted])
    total = int((~figures.is_defective & ~figures.is_passed).sum())
    if refused:
        yield Words(f"Good and not passed: {total:,}; those with the highest scores. Dashed and blue: the labels.")
        yield Gallery([_picture(shown, place) for place in refused])
    if not accepted and not refused:
        yield Words("Every verdict is as the labels say.")
    if figures.detected is not None:
        wrong = figures.detected.wrong_counts
        others = [
            place
            for place in np.argsort(-wrong, kind="stable")[: 3 * _PICTURES_MAX].tolist()
            if wrong[place] and place not in {*accepted, *refused}
        ]
        if others:
            yield Words(
                "The right verdict, but objects missed, mistaken or found where none is; the most of them first."
            )
            yield Gallery([_picture(shown, place) for place in others[:_PICTURES_MAX]])


def _picture(shown: EvaluationShown, place: int) -> Picture:
    judged = shown.figures.judged[place]
    sample, inspection = judged.sample, judged.inspection
    best = sorted(inspection.defects, key=lambda defect: -defect.score)
    defects = ", ".join(f"{plain(each.class_name, 32)} {each.score:.3g}" for each in best[:4])
    lines = [f"{inspection.verdict.value}, score {inspection.score:.4g}", *([defects] if defects else [])]
    if sample.class_name is not None:
        lines.append(f"label: {plain(sample.class_name)}")
    caption, alt = plain(sample.name, 120), f"{plain(sample.name, 120)}, {inspection.verdict.value}"
    pixels = read_seen(sample.image, sample.facts.format.pixel_format)
    if pixels is None:
        return no_picture(alt=alt, caption=caption, lines=lines)
    boxes: list[Box] = []
    is_rgb = sample.facts.format.pixel_format is PixelFormat.RGB8
    if judged.fault:
        lines.append(plain(judged.fault, 200))
    else:
        shown.runner.judged(sample)
        boxes, found_count = _boxes_found(shown.runner.findings(sample), shown)
        if len(boxes) < found_count:
            lines.append(f"the {len(boxes)} best of {found_count:,} findings are drawn")
        if shown.runner.has_anomaly_map:
            pixels, told_heat = _heated(pixels, shown.runner.anomaly_map(sample), is_rgb=is_rgb)
            lines.append(told_heat)
            is_rgb = False
    return picture_of(
        pixels,
        alt=alt,
        caption=caption,
        lines=lines,
        boxes=[*boxes, *_boxes_true(sample)],
        is_rgb=is_rgb,
    )


def _boxes_found(found: Sequence[Findings], shown: EvaluationShown) -> tuple[list[Box], int]:
    """The best findings that have a place, and how many such there are."""
    card = shown.runner.package.card
    if card.task == "classification":
        return [], 0
    whole_ids = [card.classes.index("anomaly")] if card.task == "anomaly" and "anomaly" in card.classes else []
    placed = [
        (score, class_id, box_px)
        for findings in found
        for score, class_id, box_px in zip(
            findings.scores.tolist(), findings.class_ids.tolist(), findings.boxes_px.tolist(), strict=True
        )
        if class_id not in whole_ids
    ]
    placed.sort(key=lambda each: -each[0])
    boxes = [
        Box((x1, y1, x2, y2), f"{card.classes[class_id]} {score:.2f}")
        for score, class_id, (x1, y1, x2, y2) in placed[:_BOXES_MAX]
    ]
    return boxes, len(placed)


def _boxes_true(sample: Sample) -> list[Box]:
    boxes = [Box(box.box_px, box.class_name, "second") for box in sample.boxes or ()]
    if sample.mask is not None:
        count, _, stats, _ = cv2.connectedComponentsWithStats(mask_of(sample).astype(np.uint8))
        for x, y, width, height, _ in stats[1:count].tolist():
            boxes.append(Box((x, y, x + width, y + height), "label", "second"))
    return boxes


def _heated(
    pixels: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32], *, is_rgb: bool
) -> tuple[npt.NDArray[np.uint8], str]:
    """The picture in BGR under its anomaly map, and what the map's colours mean."""
    is_seen = np.isfinite(heat)
    low, high = float(heat[is_seen].min()), float(heat[is_seen].max())
    scaled = np.where(is_seen, (heat - low) / max(high - low, 1e-12), 0.0)
    colours = cv2.applyColorMap(np.asarray(255 * scaled, np.uint8), cv2.COLORMAP_INFERNO)
    if pixels.ndim == 2:
        pixels = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR), np.uint8)
    elif is_rgb:
        pixels = np.ascontiguousarray(pixels[..., ::-1])
    mixed = cv2.addWeighted(pixels, 1 - _HEAT_ALPHA, np.asarray(colours, np.uint8), _HEAT_ALPHA, 0)
    return np.asarray(mixed, np.uint8), f"heat from {low:.4g} (dark) to {high:.4g} (bright)"


def _what(result: Mapping[str, Any]) -> Iterator[Block]:
    model, data, recipe, runtime = (result[key] for key in ("model", "data", "recipe", "runtime"))
    rows = [
        ("model", f"{plain(model['name'])} {plain(model['version'], 32)}, {model['task']}, decoder {model['decoder']}"),
        ("model, SHA-256", model["sha256"]),
        (
            "recipe",
            "the card's thresholds on the whole image"
            if recipe is None
            else f"{plain(recipe['recipe_id'], 64)} {plain(recipe['recipe_version'], 32)}",
        ),
        ("data", f"{plain(data['folder'], 200)}, layout {data['layout']}, part {plain(data['split'] or 'all', 32)}"),
        ("data, SHA-256", data["sha256"]),
        ("images", f"{data['images']:,}"),
    ]
    yield Table("Model and data", ["what", "which"], rows)
    rules = [
        (", ".join(f"{key} {plain(str(value), 80)}" for key, value in rule.items()),)
        for rule in result["rules"][:_CLASSES_MAX]
    ]
    yield Table("Rules", ["rule"], rules)
    yield Table("Runtime", ["what", "which"], [(key, plain(str(value), 300)) for key, value in runtime.items()])


def _rate(share: Any) -> tuple[str, str]:
    if share is None:
        return "-", "no such image"
    return percent(share.value), f"{percent(share.low)} to {percent(share.high)}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
