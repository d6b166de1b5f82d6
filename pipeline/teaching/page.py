"""A teaching as a page: what the package promises, what was odd among the good, what it finds strange and where."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from calibration.auroc import roc_points
from calibration.threshold import percent_of
from pipeline.report.blocks import Block, Fact, Facts, Gallery, Notice, Page, Picture, Section, Table, Words, plain
from pipeline.report.plots import Dot, Mark, RatioCurve, heat_bar, ratio_curves, score_histogram
from pipeline.report.shares import percent, told
from pipeline.teaching.overlay import HOT_MIN, bare_picture, heat_scale, map_picture
from pipeline.teaching.report import KINDS, ShownPicture, TeachReport
from pipeline.teaching.told import auroc_words, chance, changed_lines, rejected_before_words, shift_words, view_words

_SCORE_BINS = 50
_NAMED_MAX = 30
_SUSPECTS_SHOWN_MAX = 10


def teach_page(report: TeachReport) -> Page:
    """Everything is in the report: nothing is read from files."""
    sections = [Section("Scores", [*_scores(report)])]
    if report.suspects:
        sections.insert(0, Section("Suspects among the good", [*_suspects(report)]))
    if report.changed is not None:
        sections.insert(0, Section("What changed", [*_changed(report)]))
    sections += [
        Section("What it finds strange, and where", [*_maps(report)]),
        Section("Size and time", [*_sizes(report)]),
        Section("What it rests on", [*_rests_on(report)]),
    ]
    good, defective = len(report.good), len(report.defective)
    return Page(
        title=f"{plain(report.product)}, taught from good parts",
        subtitle=f"{good:,} good parts{f', tried on {defective:,} defective ones' if defective else ''}",
        blocks=[*_outcome(report)],
        sections=sections,
        made_by=f"Made by lineside {report.version} on {report.made_utc}.",
    )


def _outcome(report: TeachReport) -> Iterator[Block]:
    threshold = report.threshold
    if threshold.thresholds:
        promise = f"At most {percent_of(threshold.false_reject_max)} of good parts are rejected"
        yield Notice("good", f"{promise}, with {percent_of(threshold.confidence)} confidence.", threshold.words())
    else:
        yield Notice("warning", "Nothing is promised yet about good parts that are rejected.", threshold.words())
    if report.suspects:
        count = len(report.suspects)
        title = f"{count:,} picture{'s' if count > 1 else ''} among the good should be looked at."
        yield Notice("warning", title, [plain(report.suspects_words, 400)] if report.suspects_words else [])
    for name, value in report.fit:
        if name.startswith(KINDS):
            yield Notice("warning", "The good parts are of two kinds.", [plain(f"{name}: {value}", 400)])
    chosen = next((size for size in report.tried if size.is_chosen), None)
    accept = report.false_accept
    facts = [
        Fact("Good parts", f"{len(report.good):,}", f"{len(report.rejected_good):,} of them are rejected"),
        Fact(
            "Parts missing",
            "-" if threshold.parts_missing is None else f"{threshold.parts_missing:,}",
            f"to promise {percent_of(threshold.false_reject_max)}",
        ),
    ]
    if chosen is not None:
        budget = "" if report.budget_us is None else f", budget {report.budget_us / 1e3:,.2f} ms"
        facts.append(Fact("Time, p99", f"{chosen.p99_us / 1e3:,.2f} ms", f"p50 {chosen.p50_us / 1e3:,.2f} ms{budget}"))
    if report.auroc is not None:
        interval = f"{report.auroc.low:.3f} to {report.auroc.high:.3f} ({percent_of(report.auroc.confidence)})"
        facts.append(Fact("AUROC", f"{report.auroc.value:.3f}", interval))
        passed = f"of {len(report.defective):,} defective parts"
        if accept is not None:
            passed += f": {percent(accept.low)} to {percent(accept.high)} ({percent_of(threshold.confidence)})"
        facts.append(Fact("Passed", f"{len(report.missed):,}", passed))
    yield Facts(facts)


def _changed(report: TeachReport) -> Iterator[Block]:
    changed = report.changed
    assert changed is not None
    taken_out = f"{changed.taken_out_count:,} parts were taken out"
    yield Table(
        taken_out if changed.taken_out_count else f"{changed.added_count:,} good parts were added",
        ["what", "before", "now"],
        changed_lines(changed, report),
        frozenset({1, 2}),
        note=shift_words(changed),
    )
    if changed.would_be_rejected:
        yield Notice("warning", "Added parts that the product rejected as it was", [rejected_before_words(changed)])
        rejected = [(plain(part.name, 120), f"{part.score:.3f}") for part in changed.would_be_rejected]
        yield from _listed("They may be defective", ["part", "score before"], rejected)
    if changed.moved:
        rows = [
            (
                plain(each.name, 120),
                f"{each.score_before:.3f}",
                f"{each.score_after:.3f}",
                f"{each.score_after - each.score_before:+.3f}",
                _crossed(each.score_before, each.score_after, report.reject_at_score),
            )
            for each in changed.moved
        ]
        columns = ["picture", "score before", "now", "difference", "verdict"]
        yield Table("Parts that were taught before whose scores moved most", columns, rows, frozenset({1, 2, 3}))
    yield from _listed(
        "What became of the package's card and other files", ["what"], [(plain(each, 300),) for each in changed.card]
    )


def _crossed(before: float, now: float, reject_at: float) -> str:
    verdicts = ["rejected" if score >= reject_at else "passed" for score in (before, now)]
    return f"{verdicts[1]}, as before" if verdicts[0] == verdicts[1] else f"{verdicts[1].upper()}, before {verdicts[0]}"


def _suspects(report: TeachReport) -> Iterator[Block]:
    yield Words(
        "These pictures were given as good, and do not look like the others. Is each of them really good? One defective part among "
        "them teaches that its defect is nothing; one that was badly taken teaches nothing of the parts."
    )
    rows = [
        (
            plain(each.name, 120),
            plain(each.source, 200),
            f"{each.score:.3f}",
            chance(each.p_value),
            plain(each.reason, 200),
        )
        for each in report.suspects[:_NAMED_MAX]
    ]
    note = "chance: how often a good part would be so strange by itself."
    if (more := len(report.suspects) - _NAMED_MAX) > 0:
        note += f" {more:,} more are in the JSON."
    columns = ["picture", "of", "score", "chance", "why"]
    yield Table("Suspects, the strangest first", columns, rows, frozenset({2, 3}), note)
    shown = [each for each in report.suspects if each.picture is not None][:_SUSPECTS_SHOWN_MAX]
    if shown:
        yield _scale_of_heat()
    pictures = []
    for each in shown:
        assert each.picture is not None
        pictures += [
            bare_picture(each.picture),
            map_picture(each.picture, (f"chance {chance(each.p_value)}", plain(each.reason, 200))),
        ]
    if pictures:
        yield Gallery(pictures)


def _scores(report: TeachReport) -> Iterator[Block]:
    edges = np.linspace(0.0, 1.0, _SCORE_BINS + 1)
    good = np.array([part.score for part in report.good], np.float64)
    defective = np.array([part.score for part in report.defective], np.float64)
    counts = {"good": np.histogram(good, edges)[0]}
    if len(defective):
        counts["defective"] = np.histogram(defective, edges)[0]
    at = report.reject_at_score
    yield score_histogram(
        edges,
        counts,
        thresholds=[Mark(at, f"reject at {at:.4g}")],
        caption="Each part's score. Good parts were scored by fits that had not seen them, as new parts will be.",
    )
    if report.auroc is None:
        yield Words("No defective parts were given: how many of them pass is not known.")
        return
    x, y = roc_points(good, defective)
    yield ratio_curves(
        [RatioCurve(f"AUROC {report.auroc.value:.4f}", x, y)],
        dots=[Dot(float((good >= at).mean()), float((defective >= at).mean()), "the threshold")],
        x_label="rejected, of the good",
        y_label="rejected, of the defective",
        caption="What each threshold on the score would come to (ROC); the dot is the one in use.",
    )
    rows = [
        ("area under the curve (AUROC)", auroc_words(report.auroc)),
        ("defective parts that pass at the threshold", told(report.false_accept)),
    ]
    note = "Intervals: of the AUROC after Newcombe (2006), of shares after Clopper and Pearson."
    yield Table("Defective against good", ["what", "value"], rows, note=note)


def _maps(report: TeachReport) -> Iterator[Block]:
    groups = [
        (
            "The strangest good parts, the strangest first. Where it is hot, they are least like the others.",
            report.strangest_good,
        ),
        (
            "The least strange defective parts, those that pass first: what it is blind to.",
            report.least_strange_defective,
        ),
        ("The strangest defective parts: is it hot where the defect is?", report.strangest_defective),
    ]
    if any(pictures for _, pictures in groups):
        yield _scale_of_heat()
    for text, pictures in groups:
        if pictures:
            yield Words(text)
            yield Gallery([each for shown in pictures for each in _with_map(shown, report)])


def _with_map(shown: ShownPicture, report: TeachReport) -> list[Picture]:
    """A picture in colour stands beside its map as well, as that shows it in grey levels."""
    verdict = "rejected" if shown.score >= report.reject_at_score else "passed"
    bare = [bare_picture(shown)] if shown.pixels.ndim == 3 else []
    return [*bare, map_picture(shown, (verdict,))]


def _scale_of_heat() -> Block:
    return heat_bar(
        heat_scale(),
        [Mark(HOT_MIN, "hot")],
        x_label="heat of the anomaly map",
        caption="Colours over a picture in grey levels. A white line runs around what is hot, four "
        "ticks point at the hottest place.",
    )


def _sizes(report: TeachReport) -> Iterator[Block]:
    rows = [
        (
            f"{size.width_px} x {size.height_px} px",
            plain(size.depth),
            f"{size.p50_us:,.0f}",
            f"{size.p99_us:,.0f}",
            _fits(size.p50_us, report.budget_us),
            "yes" if size.is_chosen else "",
        )
        for size in report.tried
    ]
    columns = ["input", "depth", "p50, us", "p99, us", "p50 in the budget", "chosen"]
    note = plain(report.why_chosen, 400)
    yield Table("Sizes and depths, as measured on this box", columns, rows, frozenset({2, 3}), note)


def _fits(p50_us: float, budget_us: float | None) -> str:
    if budget_us is None:
        return "no budget given"
    return "yes" if p50_us <= budget_us else f"NO, {100 * (p50_us / budget_us - 1):.0f} % over"


def _rests_on(report: TeachReport) -> Iterator[Block]:
    yield Table("The promise holds as long as", ["assumption"], [(plain(each, 400),) for each in report.assumptions])
    rows = [
        (
            plain(view.name) if view.name else "the only one",
            view_words(view),
            f"{view.good_count:,}",
            f"{view.defective_count:,}",
        )
        for view in report.views
    ]
    columns = ["view", "pictures", "of good parts", "of defective parts"]
    yield Table("Views", columns, rows, frozenset({2, 3}))
    yield from _listed("Copies, which do not count", ["picture", "is the same as"], _copies(report))
    yield from _listed("Left out", ["what"], [(plain(each, 200),) for each in report.left_out])
    yield Table("Fit", ["what", "value"], [(plain(name), plain(value, 200)) for name, value in report.fit])
    rows_of = [(plain(name), plain(value, 300)) for name, value in (*report.sources, *report.model)]
    yield Table("Pictures and model", ["what", "which"], rows_of)


def _copies(report: TeachReport) -> list[tuple[str, str]]:
    return [(plain(copy.name, 120), plain(copy.of, 120)) for copy in report.copies]


def _listed(caption: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[Table]:
    if rows:
        more = len(rows) - _NAMED_MAX
        note = f"{more:,} more are in the JSON." if more > 0 else ""
        yield Table(caption, columns, rows[:_NAMED_MAX], note=note)
