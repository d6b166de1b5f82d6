"""A threshold calibration for people: what is promised and on what it rests, the scores, and the good parts that come nearest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from calibration.threshold import percent_of
from pipeline.image_reading import read_seen
from pipeline.part_scores import Outcome
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
from pipeline.report.plots import Mark, score_histogram
from pipeline.report.shares import percent
from pipeline.threshold_shown import ScoredPart, ThresholdShown
from vision.types import PixelFormat

NEAREST_MAX = 10
_SCORE_BINS = 50
_NAMED_MAX = 30


def threshold_page(shown: ThresholdShown, *, made_utc: str, version: str) -> Page:
    """A page of its own. Reads pictures from their files."""
    named = dict(shown.of)
    return Page(
        title=f"Threshold of {plain(named.get('product', ''))}, camera {plain(named.get('camera', ''))}",
        subtitle=f"{shown.report.good_count:,} good and {shown.report.defective_count:,} known-defective parts",
        blocks=[*threshold_outcome(shown)],
        sections=threshold_sections(shown),
        made_by=f"Made by lineside {version} on {made_utc}.",
    )


def threshold_outcome(shown: ThresholdShown) -> Iterator[Block]:
    """What came of it, in a few words and figures."""
    report = shown.report
    if not report.thresholds:
        yield Notice("bad", "No threshold: nothing is promised, and nothing was changed.", [*map(str, report.refusals)])
    else:
        told = f"At most {percent_of(report.false_reject_max)} of good parts are rejected"
        yield Notice("good", f"{told}, with {percent_of(report.confidence)} confidence.", report.words())
    accept = report.false_accept
    yield Facts(
        [
            Fact("Good parts", f"{report.good_count:,}", f"{report.rejected_count:,} of them are rejected"),
            Fact(
                "False rejects to be expected",
                percent(report.expected_false_reject) if report.thresholds else "-",
                f"{percent(report.false_reject_low)} to {percent(report.false_reject_high)} (95 %)"
                if report.thresholds
                else "nothing is promised",
            ),
            Fact(
                "False accepts",
                "-" if accept is None else percent(accept.value),
                "no known-defective part"
                if accept is None
                else f"{percent(accept.low)} to {percent(accept.high)} ({percent_of(report.confidence)})",
            ),
            Fact(
                "Parts missing",
                "-" if report.parts_missing is None else f"{report.parts_missing:,}",
                "for what was asked for",
            ),
        ]
    )


def threshold_sections(shown: ThresholdShown) -> list[Section]:
    """Everything below the outcome, for a page of its own or a part of a larger one. Reads pictures from their files."""
    sections = [Section("What is promised", [*_promises(shown)]), Section("Scores", [*_scores(shown)])]
    if nearest := nearest_good(shown):
        words = Words(
            "The good parts with the highest scores, the highest first. Is each of them really good? One defective part among "
            "them may raise the threshold."
        )
        sections.append(
            Section("Good parts that come nearest", [words, Gallery([_picture(part, shown) for part in nearest])])
        )
    sections.append(Section("What it rests on", [*_rests_on(shown)]))
    return sections


def nearest_good(shown: ThresholdShown) -> list[ScoredPart]:
    """The good parts that were scored highest, and before them those that are rejected at every threshold."""
    return sorted(shown.good, key=lambda part: -part.scores.highest)[:NEAREST_MAX]


def _promises(shown: ThresholdShown) -> Iterator[Block]:
    report = shown.report
    if report.thresholds:
        rows = [(plain(name), f"{at:.9g}") for name, at in report.thresholds.items()]
        yield Table("A part is rejected from this score on", ["class", "score"], rows, frozenset({1}))
    wanted = f"at most {percent_of(report.false_reject_max)}, {percent_of(report.confidence)} confidence"
    rows = [
        ("good parts rejected, by all classes together: asked for", wanted),
        (
            "promised",
            wanted if report.thresholds else "nothing",
        ),
        (
            "the least that so many parts could promise",
            f"at most {percent(report.supported_false_reject)}, {percent_of(report.confidence)} confidence",
        ),
        ("the confidence that so many parts have in what was asked for", percent(report.supported_confidence)),
        ("good parts that are missing", "-" if report.parts_missing is None else f"{report.parts_missing:,}"),
    ]
    if report.thresholds:
        law = f"Beta({report.rank}, {report.good_count - report.rank + 1})"
        rows += [
            ("to be expected, on average", f"{percent(report.expected_false_reject)} of good parts"),
            ("within, 95 %", f"{percent(report.false_reject_low)} to {percent(report.false_reject_high)}"),
            ("law of the share that is rejected", f"{law}; less where scores tie"),
        ]
    yield Table("Promises", ["what", "value"], rows)


def _scores(shown: ThresholdShown) -> Iterator[Block]:
    edges = np.linspace(0.0, 1.0, _SCORE_BINS + 1)
    several = len(shown.classes) > 1
    for name in shown.classes:
        counts = {}
        for group, parts in (("good", shown.good), ("defective", shown.defective)):
            scores = np.array([part.scores.score(name) for part in parts], np.float64)
            counts[group] = np.histogram(scores[np.isfinite(scores)], edges)[0]
        at = shown.report.thresholds.get(name)
        marks = [] if at is None else [Mark(at, f"reject at {at:.4g}")]
        of = f" for {plain(name)}" if several else ""
        yield score_histogram(
            edges, counts, thresholds=marks, caption=f"Each part's score{of}, by what the part is known to be."
        )
    lost = [part for part in (*shown.good, *shown.defective) if part.scores.outcome is not Outcome.SCORED]
    if lost:
        rows = [(plain(part.name, 120), part.scores.outcome.value, plain(part.scores.told, 200)) for part in lost]
        left_out = len(rows) - _NAMED_MAX
        note = f"{left_out:,} more are in the JSON." if left_out > 0 else ""
        yield Table("Taken out at every threshold", ["part", "how", "why"], rows[:_NAMED_MAX], note=note)


def _picture(part: ScoredPart, shown: ThresholdShown) -> Picture:
    scores = part.scores
    told = ", ".join(f"{plain(name, 32)} {score:.4g}" for name, score in scores.scores.items())
    lines = [f"score {told}" if told else plain(scores.told, 200)]
    caption, alt = plain(part.name, 120), f"{plain(part.name, 120)}, good, {lines[0]}"
    pixels = read_seen(part.file, shown.pixel_format)
    if pixels is None:
        return no_picture(alt=alt, caption=caption, lines=lines)
    boxes = [Box(each.box_px, f"{each.class_name} {each.score:.3g}") for each in scores.defects if shown.has_places]
    is_rgb = shown.pixel_format is PixelFormat.RGB8
    return picture_of(pixels, alt=alt, caption=caption, lines=lines, boxes=boxes, is_rgb=is_rgb)


def _rests_on(shown: ThresholdShown) -> Iterator[Block]:
    yield Table("The promise holds as long as", ["assumption"], [(each,) for each in shown.assumptions])
    if shown.copies:
        rows = [(plain(name, 120), plain(first, 120)) for name, first in shown.copies[:_NAMED_MAX]]
        left_out = len(shown.copies) - _NAMED_MAX
        note = f"{left_out:,} more are in the JSON." if left_out > 0 else ""
        yield Table("Copies, which do not count", ["picture", "is the same as"], rows, note=note)
    rows = [(name, plain(value, 200)) for name, value in shown.of]
    yield Table(
        "What was calibrated",
        ["what", "which"],
        [*rows, ("calibration_id", shown.calibration_id or "none: nothing was kept")],
    )
