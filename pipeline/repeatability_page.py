"""A repeatability study for people: how far scores and sizes of the same part differ, and which parts change their verdict."""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from calibration.repeatability import GaugeStudy
from calibration.threshold import percent_of
from pipeline.image_reading import read_seen
from pipeline.repeatability_shown import RepeatabilityShown, Showing, verdict_on
from pipeline.report.blocks import Block, Fact, Facts, Gallery, Notice, Page, Picture, Section, Table, Words, plain
from pipeline.report.pictures import no_picture, picture_of
from pipeline.report.plots import Mark, values_by_part
from pipeline.report.shares import percent, told
from vision.types import PixelFormat

_PICTURES_MAX = 12
_NAMED_MAX = 60


def repeatability_page(shown: RepeatabilityShown, *, made_utc: str, version: str) -> Page:
    """A page of its own. Reads pictures from their files."""
    named = dict(shown.of)
    return Page(
        title=f"Repeatability of {plain(named.get('product', ''))}, camera {plain(named.get('camera', ''))}",
        subtitle=f"{shown.agreement.parts_count:,} parts, shown {shown.agreement.shown_count:,} times together",
        blocks=[*repeatability_outcome(shown)],
        sections=repeatability_sections(shown),
        made_by=f"Made by lineside {version} on {made_utc}.",
    )


def repeatability_outcome(shown: RepeatabilityShown) -> Iterator[Block]:
    """What came of it, in a few words and figures."""
    agreement, score = shown.agreement, shown.score
    if shown.refusals:
        yield Notice("bad", "Nothing was found, and nothing was changed.", [*map(str, shown.refusals)])
    elif agreement.mixed_parts:
        title = (
            f"{len(agreement.mixed_parts):,} of {agreement.parts_count:,} parts are judged now one way, now the other."
        )
        yield Notice("warning", title, [", ".join(plain(part, 40) for part in agreement.mixed_parts[:_NAMED_MAX])])
    else:
        yield Notice("good", f"All {agreement.parts_count:,} parts are judged the same way every time.")
    facts = [Fact("Parts", f"{agreement.parts_count:,}", f"shown {agreement.shown_count:,} times")]
    if score is not None:
        facts.append(Fact("Repeatability of the score", *_spread(score, "")))
        if score.share is not None:
            facts.append(Fact("Of the total spread", percent(score.share), verdict_on(score.share, score.share_high)))
    if shown.size is not None:
        facts.append(Fact("Repeatability of the size", *_spread(shown.size, f" {shown.size_unit}")))
    if (kappa := agreement.kappa) is not None:
        facts.append(Fact("Kappa with the labels", f"{kappa.value:.2f}", f"{kappa.low:.2f} to {kappa.high:.2f}"))
    yield Facts(facts)


def repeatability_sections(shown: RepeatabilityShown) -> list[Section]:
    """Everything below the outcome, for a page of its own or a part of a larger one. Reads pictures from their files."""
    sections = [Section("Scores and sizes", [*_spreads(shown)]), Section("Verdicts", [*_verdicts(shown)])]
    if shown.agreement.mixed_parts:
        sections.append(Section("Parts with different verdicts", [*_mixed(shown)]))
    rows = [(name, plain(value, 200)) for name, value in shown.of]
    kept = ("calibration_id", shown.calibration_id or "none: nothing was kept")
    sections.append(Section("What was studied", [Table("What was studied", ["what", "which"], [*rows, kept])]))
    return sections


def _spread(study: GaugeStudy, unit: str) -> tuple[str, str]:
    return f"{study.repeatability:.3g}{unit}", f"{study.repeatability_low:.3g} to {study.repeatability_high:.3g}"


def _spreads(shown: RepeatabilityShown) -> Iterator[Block]:
    scores = {part: [each.inspection.score for each in its] for part, its in shown.showings.items()}
    known = {part: [value for value in values if isfinite(value)] for part, values in scores.items()}
    if known := {part: values for part, values in known.items() if values}:
        marks = [Mark(at, f"reject at {at:.4g}") for at in shown.rejects_at[:4]]
        yield values_by_part(
            known, marks=marks, y_label="score", caption="Each part's scores, part by part, the lowest mean first."
        )
    for name, study, unit in (("score", shown.score, ""), ("size", shown.size, f" {shown.size_unit}")):
        if study is not None:
            yield _study_table(name, study, unit)
    if shown.size is None:
        yield Words("No part has a defect whose size was measured twice.")
    else:
        yield Words("Size: the longer side of the largest defect's box.")


def _study_table(name: str, study: GaugeStudy, unit: str) -> Table:
    interval = f"{percent_of(study.confidence)} interval"
    value, its_interval = _spread(study, unit)
    rows = [
        ("parts", f"{study.parts_count:,}", ""),
        ("values", f"{study.values_count:,}", f"{study.lost_count:,} without one" if study.lost_count else ""),
        ("repeatability: standard deviation of one part shown again", value, its_interval),
    ]
    if study.part_spread is not None and study.share is not None:
        rows += [
            ("standard deviation between parts", f"{study.part_spread:.3g}{unit}", ""),
            (
                "repeatability in the total spread (%GRR)",
                percent(study.share),
                f"{percent(study.share_low)} to {percent(study.share_high)}",
            ),
        ]
        categories = study.distinct_categories
        if categories is not None:
            rows.append(("groups of parts that can be told apart", f"{categories:.1f}", "5 or more is usual"))
    note = " ".join([*([verdict_on(study.share, study.share_high)] if study.share is not None else []), *study.notes])
    return Table(f"Spread of the {name}", ["what", "value", interval], rows, frozenset({1}), note)


def _verdicts(shown: RepeatabilityShown) -> Iterator[Block]:
    agreement = shown.agreement
    rows = [("the same verdict every time", told(agreement.steady))]
    if shown.is_defective is not None:
        kappa = agreement.kappa
        rows += [
            ("right every time, by the labels", told(agreement.right)),
            ("defective parts passed at least once", told(agreement.missed)),
            ("good parts taken out at least once", told(agreement.false_alarms)),
            (
                "Cohen's kappa: agreement beyond chance",
                "-" if kappa is None else f"{kappa.value:.2f} ({kappa.low:.2f} to {kappa.high:.2f})",
            ),
        ]
    if agreement.unjudged_count:
        rows.append(("showings that were not judged (NO_DECISION)", f"{agreement.unjudged_count:,}"))
    yield Table("Verdicts; each part counts once", ["what", "parts"], rows)
    if shown.is_defective is None:
        yield Words("No labels were given: whether the verdicts are right is not known.")


def _mixed(shown: RepeatabilityShown) -> Iterator[Block]:
    for part in shown.agreement.mixed_parts[:_PICTURES_MAX]:
        ranked = sorted(shown.showings[part], key=lambda each: each.inspection.score)
        yield Gallery([_picture(each, shown) for each in ([ranked[0], ranked[-1]] if len(ranked) > 1 else ranked)])


def _picture(showing: Showing, shown: RepeatabilityShown) -> Picture:
    inspection = showing.inspection
    lines = [
        f"{inspection.verdict.value}, score {inspection.score:.4g}",
        *([plain(showing.told, 200)] if showing.told else []),
    ]
    caption, alt = plain(showing.name, 120), f"{plain(showing.name, 120)}, {inspection.verdict.value}"
    pixels = read_seen(showing.file, shown.pixel_format)
    if pixels is None:
        return no_picture(alt=alt, caption=caption, lines=lines)
    return picture_of(pixels, alt=alt, caption=caption, lines=lines, is_rgb=shown.pixel_format is PixelFormat.RGB8)
