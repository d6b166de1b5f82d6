"""The record as a page for the quality engineer: what was judged, how much of it is proven, what was wrong, when, and how fast."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.image_names import pictures_of, read_name
from pipeline.latency import LatencyHistogram
from pipeline.payloads import ResultPayload
from pipeline.record.reader import Wanted
from pipeline.record.survey import SCORE_BINS, RecordSurvey
from pipeline.record.verify import CANNOT_PROVE, DROPPED_OR_REMOVED, NOT_CHAINED, Verified
from pipeline.report.blocks import (
    Block,
    Box,
    Fact,
    Facts,
    Gallery,
    Notice,
    Page,
    Picture,
    Plot,
    Section,
    Table,
    Words,
    plain,
)
from pipeline.report.pictures import NoPicture, no_picture, picture_of_file
from pipeline.report.plots import (
    Mark,
    Span,
    pareto,
    rates_over_time,
    score_histogram,
    stage_bars,
    time_histogram,
)
from pipeline.report.shares import percent, share_of
from pipeline.report.shares import told as told_share

_PICTURES_A_PART = 4
_ROWS_TOLD = 40
_THRESHOLDS_TOLD = 4
_FINDINGS_TOLD = 8
_PERCENTILES = ("p50", "p90", "p99", "p999", "max")
_PERCENTILE_WORDS = ("p50", "p90", "p99", "p99.9", "max")
_REASONS = {
    "OK": "within the recipe",
    "DEFECT": "a defect beyond the recipe",
    "DEADLINE": "no inspection before the choice had to be made",
    "MISSED_FRAME": "triggered, but the camera brought no frame",
    "BAD_FRAME": "incomplete or torn frame, or of a wrong size",
    "OVERRUN": "frames came faster than they could be taken",
    "FAULT": "something failed, or the service was killed",
    "NOT_RUNNING": "the service was not judging production just then",
    "CHALLENGE": "challenge run: every part is rejected",
}
_SELECTION = {
    "session_id": "session",
    "part_id": "part",
    "since_utc": "triggered from (UTC)",
    "until_utc": "triggered before (UTC)",
    "lot": "lot",
    "order": "order",
    "serial": "serial number",
    "shift": "shift",
}


@dataclass(frozen=True, slots=True)
class RecordShown:
    """What there is to show.

    Attributes:
        figures, latency: of ``RecordStats``.
        late_words: by (camera_id, verdict, reason), of the same parts.
        verified: None where nobody looked.
        anchor_count: so many anchors it was verified against.
        reject_at: {class: score} of the line's recipe as it is now, for parts whose own recipe is not on record; empty where
            the line is not known.
        images: the folder of kept pictures, None where it is not known.
    """

    record: Path
    wanted: Wanted
    figures: Mapping[str, Any]
    latency: LatencyHistogram
    survey: RecordSurvey
    late_words: Counter[tuple[str, str, str]]
    verified: Verified | None
    anchor_count: int
    reject_at: Mapping[str, float]
    images: Path | None
    made_utc: str
    version: str


def record_page(shown: RecordShown) -> Page:
    """Reads the pictures that it shows."""
    figures = shown.figures
    sections = [Section("What was looked at", [*_selection(shown)])]
    if figures["parts"]:
        sections += [
            Section("Verdicts and reasons", [_verdicts(figures), _reasons(figures)]),
            Section("Defects", [*_defects(figures)]),
            Section("Reviews", [_reviews(figures["reviews"])]),
            Section("Over time", [*_over_time(shown.survey)]),
            Section("Scores", [*_scores(shown)]),
            Section("Latency", [*_latency(shown)]),
            Section("Late inspections and gaps", [_late_words(shown.late_words), *_gaps(shown)]),
            Section("Worst rejected parts", [*_gallery(shown, shown.survey.worst, "the highest defect scores")]),
            Section("Last rejected parts", [*_gallery(shown, shown.survey.last, "the last ones first")]),
        ]
    first, last = figures["first_utc"], figures["last_utc"]
    return Page(
        title=f"Record {plain(shown.record.name)}",
        subtitle=f"{_moment(first)} to {_moment(last)} UTC" if figures["parts"] else "no parts",
        blocks=[_state_of_proof(shown), _facts(shown)],
        sections=sections,
        made_by=f"Made by lineside {shown.version} on {shown.made_utc} from {plain(str(shown.record), 200)}.",
    )


def _state_of_proof(shown: RecordShown) -> Notice:
    verified = shown.verified
    if verified is None:
        return Notice("warning", "Not verified: nobody looked whether the record is as the service wrote it.")
    rows = f"{verified.rows:,} rows read"
    if verified.dropped_rows:
        rows += f"; rows 1 to {verified.dropped_rows:,} are not there, only their roots are known; {DROPPED_OR_REMOVED}"
    if verified.finding_count:
        lines = [f"Row {each.row}: {each.kind}: {plain(each.text, 300)}" for each in verified.findings[:_FINDINGS_TOLD]]
        more = verified.finding_count - len(lines)
        lines += [f"and {more:,} more: lineside records verify"] if more > 0 else []
        title = f"NOT as it was written: {verified.finding_count:,} findings. Do not rely on these figures."
        return Notice("bad", title, [rows, *lines])
    if verified.covered_rows and verified.covered_rows >= verified.last_row:
        title = f"Verified up to its last row against {shown.anchor_count:,} anchors kept elsewhere."
        lines = [f"{rows}; every one follows from the one before it.", *_beside(verified), f"Head: {verified.head}"]
        return Notice("good", title, lines)
    if verified.covered_rows:
        title = f"Verified; proven by an anchor up to row {verified.covered_rows:,} of {verified.last_row:,}."
        unproven = f"Not proven behind it, that none of this was done: {'; '.join(CANNOT_PROVE)}."
    else:
        title = "Verified without an anchor: every row follows from the one before it."
        unproven = f"Not proven, that none of this was done: {'; '.join(CANNOT_PROVE)}."
    return Notice("warning", title, [f"{rows}.", unproven, *_beside(verified), f"Head: {verified.head}"])


def _beside(verified: Verified) -> list[str]:
    """What the rows' chain does not cover."""
    lines = []
    if verified.reviews:
        lines.append(
            f"People's reviews: {verified.reviews:,}, proven by an anchor up to number {verified.covered_reviews:,}."
        )
    return [*lines, f"Covered by no hash: {', '.join(NOT_CHAINED)}."]


def _facts(shown: RecordShown) -> Facts:
    figures, survey = shown.figures, shown.survey
    passed, rejected, parts = figures["passed"], figures["rejected"], figures["parts"]
    in_words = {
        "Yield": share_of(passed, passed + rejected),
        "Rejected": share_of(rejected, passed + rejected),
        "Not judged": share_of(figures["no_decision"], parts),
    }
    facts = [Fact("Parts", f"{parts:,}", f"{len(survey.sessions):,} sessions")]
    for (label, share), of in zip(in_words.items(), ("of the judged", "of the judged", "of all"), strict=True):
        if share is None:
            facts.append(Fact(label, "-", "no part"))
        else:
            interval = f"95\u00a0%: {percent(share.low)} to {percent(share.high)}"
            facts.append(Fact(label, percent(share.value), f"{share.count:,} {of}; {interval}"))
    latency = figures["latency_us"]
    if shown.latency.count:
        facts.append(
            Fact("Latency, p99", f"{latency['p99'] / 1_000:,.2f} ms", f"median {latency['p50'] / 1_000:,.2f} ms")
        )
    facts.append(Fact("Late verdicts", f"{survey.late_verdicts:,}", "sent after their deadline"))
    facts.append(Fact("Not sent", f"{figures['verdicts_unsent']:,}", "never at the socket: the gate rejects"))
    facts.append(Fact("Late inspections", f"{shown.late_words.total():,}", "said after the decision"))
    return Facts(facts)


def _selection(shown: RecordShown) -> Iterator[Block]:
    asked = [(_SELECTION.get(each.name, each.name), getattr(shown.wanted, each.name)) for each in fields(shown.wanted)]
    rows = [("record", plain(str(shown.record), 200))]
    rows += [(name, plain(str(value))) for name, value in asked if value is not None]
    if len(rows) == 1:
        rows.append(("selection", "the whole record"))
    if shown.survey.simulated:
        rows.append(("simulated", f"{shown.survey.simulated:,} of the parts are of a simulated line"))
    if shown.survey.challenges:
        rows.append(("challenge", f"{shown.survey.challenges:,} of the parts are challenge parts"))
    yield Table("Selection", ["what", "which"], rows)
    products = shown.figures["products"]
    if products:
        yield Table(
            "Recipes and models",
            ["recipe", "version", "model, SHA-256", "parts"],
            [
                (
                    plain(each["recipe_id"], 64),
                    plain(each["recipe_version"], 32),
                    plain(each["model_sha256"] or "not known", 64),
                    f"{each['parts']:,}",
                )
                for each in products[:_ROWS_TOLD]
            ],
            frozenset({3}),
            _rest(len(products), "recipes and models"),
        )
        yield from _contexts(shown.survey)
        yield from _belongs(shown.figures)
        yield _sessions(shown)


def _contexts(survey: RecordSurvey) -> Iterator[Block]:
    if not survey.contexts:
        return
    rows = []
    for sha256, (context, parts) in survey.contexts.items():
        told = {"version": "its context is not there as it was"} if context is None else context
        hashes = [plain(str(told.get(key) or "-"), 20) for key in ("recipe_sha256", "fingerprint_sha256")]
        rows.append((plain(sha256, 20), *hashes, plain(str(told.get("version"))), f"{parts:,}"))
    yield Table(
        "Judged with",
        ["context, SHA-256", "recipe, SHA-256", "runtime, SHA-256", "lineside", "parts"],
        rows,
        frozenset({4}),
        "Whole in the record, where each row commits to its context; records show tells that of a part.",
    )


def _belongs(figures: Mapping[str, Any]) -> Iterator[Block]:
    told = [each for each in figures["traceability"] if each["lot"] or each["order"] or each["shift"]]
    if not told:
        return
    yield Table(
        "Lots, orders and shifts",
        ["lot", "order", "shift", "parts", "yield", "rejected", "not judged"],
        [
            (
                *(plain(each[key] or "-", 32) for key in ("lot", "order", "shift")),
                f"{each['parts']:,}",
                told_share(share_of(each["passed"], each["passed"] + each["rejected"])),
                f"{each['rejected']:,}",
                f"{each['no_decision']:,}",
            )
            for each in told[-_ROWS_TOLD:]
        ],
        frozenset({3, 4, 5, 6}),
        _rest(len(told), "of them", "older "),
    )


def _reviews(reviews: Mapping[str, int]) -> Block:
    if not reviews["reviewed"]:
        return Words("No part was reviewed by a person.")
    decided = reviews["confirmed"] + reviews["overruled"]
    rows = [
        ("confirmed", "the person says what the service said", reviews["confirmed"], decided),
        ("overruled", "the person says the opposite", reviews["overruled"], decided),
        ("false rejects", "of these: rejected, and good", reviews["false_rejects"], decided),
        ("false accepts", "of these: passed, and defective", reviews["false_accepts"], decided),
        ("undecided", "the person or the service did not decide", reviews["undecided"], reviews["reviewed"]),
    ]
    return Table(
        f"Reviews by people, of {reviews['reviewed']:,} parts",
        ["review", "which means", "parts", "share"],
        [(name, what, f"{count:,}", told_share(share_of(count, of))) for name, what, count, of in rows],
        frozenset({2, 3}),
        "Shares of the parts on which both decided, of the undecided that of all reviewed. Of several reviews of a part the last"
        " counts. Reviewed parts are seldom drawn by chance: these are no rates of the production.",
    )


def _sessions(shown: RecordShown) -> Table:
    seen = shown.survey.sessions
    rows = []
    for session_id, each in list(seen.items())[-_ROWS_TOLD:]:
        counts = shown.figures["sessions"][session_id]
        first, last = (f"{number:,}" for number in each.part_ids)
        rows.append(
            (
                plain(session_id, 32),
                _moment(each.first_utc),
                _moment(each.last_utc),
                f"{first} to {last}",
                f"{each.parts:,}",
                percent(counts["yield_ratio"]),
                f"{counts['no_decision']:,}",
            )
        )
    columns = ["session", "from, UTC", "to, UTC", "part numbers", "parts", "yield", "not judged"]
    return Table("Sessions", columns, rows, frozenset({4, 5, 6}), _rest(len(seen), "sessions", "older "))


def _verdicts(figures: Mapping[str, Any]) -> Table:
    passed, rejected, undecided, parts = (figures[key] for key in ("passed", "rejected", "no_decision", "parts"))
    judged = passed + rejected
    rows = [
        ("PASS", f"{passed:,}", told_share(share_of(passed, judged)), percent(passed / parts)),
        ("REJECT", f"{rejected:,}", told_share(share_of(rejected, judged)), percent(rejected / parts)),
        ("NO_DECISION", f"{undecided:,}", "not judged", percent(undecided / parts)),
    ]
    note = (
        "Intervals after Clopper and Pearson, as if each part were a fresh draw. Defects that come in runs make"
        " the truth less certain than that."
    )
    return Table("Verdicts", ["verdict", "parts", "of the judged", "of all"], rows, frozenset({1, 2, 3}), note)


def _reasons(figures: Mapping[str, Any]) -> Table:
    parts = figures["parts"]
    rows = [
        (plain(reason), _REASONS.get(reason, ""), f"{count:,}", told_share(share_of(count, parts)))
        for reason, count in figures["reasons"].items()
    ]
    return Table("Reasons", ["reason", "which means", "parts", "of all"], rows, frozenset({2, 3}))


def _defects(figures: Mapping[str, Any]) -> Iterator[Block]:
    defects, rejected = figures["defects"], figures["rejected"]
    if not defects:
        yield Words("No part was rejected for a defect.")
        return
    counts = [(each["class"], each["parts"]) for each in defects]
    caption = f"Defect classes of {rejected:,} rejected parts. A part may have several and is counted once for each."
    yield pareto(counts, of=rejected, caption=caption)
    yield Table(
        "Defect classes",
        ["class", "parts", "of the rejected", "together"],
        [
            (
                plain(each["class"]),
                f"{each['parts']:,}",
                told_share(share_of(each["parts"], rejected)),
                f"{100 * each['cumulative_share']:.1f}\u00a0%",
            )
            for each in defects[:_ROWS_TOLD]
        ],
        frozenset({1, 2, 3}),
        _rest(len(defects), "classes"),
    )


def _over_time(survey: RecordSurvey) -> Iterator[Block]:
    spans = survey.over_time.spans()
    width = _span_words(survey.over_time.width_s)
    if spans:
        caption = f"Each point is {width}, its band the 95 % interval; spans without parts are left out."
        drawn = [Span(*span) for span in spans]
        yield rates_over_time(drawn, width_s=survey.over_time.width_s, caption=caption)
        worst = sorted(
            (span for span in spans if span[1] + span[2]), key=lambda span: span[2] / (span[1] + span[2]), reverse=True
        )
        yield Table(
            f"The spans with the highest reject rates, each {width}",
            ["from, UTC", "parts", "rejected", "of the judged", "not judged"],
            [
                (
                    f"{begins:%Y-%m-%d\u00a0%H:%M}",
                    f"{passed + rejected + undecided:,}",
                    f"{rejected:,}",
                    told_share(share_of(rejected, passed + rejected)),
                    f"{undecided:,}",
                )
                for begins, passed, rejected, undecided in worst[:8]
                if rejected
            ],
            frozenset({1, 2, 3, 4}),
        )
    if survey.without_time:
        yield Words(f"{survey.without_time:,} parts have no readable time of their trigger and are left out here.")


def _scores(shown: RecordShown) -> Iterator[Block]:
    scores = shown.survey.scores
    if not scores:
        yield Words("No part has a score.")
        return
    judged_by = {
        (name, score) for context, _ in shown.survey.contexts.values() for name, score in _thresholds(context or {})
    }
    thresholds = sorted(judged_by or shown.reject_at.items())[:_THRESHOLDS_TOLD]
    marks = [Mark(score, f"{plain(name, 20)}: reject at {score:g}") for name, score in thresholds]
    caption = "Parts by the highest score of their views."
    if judged_by:
        caption += " Lines: thresholds of the recipes that judged them."
    elif marks:
        caption += " Lines: the recipe as it is now, which may not be the one that judged."
    order = ("PASS", "REJECT", "NO_DECISION")
    ordered = {verdict: scores[verdict] for verdict in sorted(scores, key=order.index)}
    yield score_histogram(np.linspace(0, 1, SCORE_BINS + 1), ordered, thresholds=marks, caption=caption)


def _thresholds(context: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Of the recipe in a context, as far as it is one."""
    recipe = context.get("recipe")
    rules = recipe.get("rules") if isinstance(recipe, dict) else None
    for rule in rules if isinstance(rules, list) else []:
        score = rule.get("reject_at_score") if isinstance(rule, dict) else None
        if isinstance(score, int | float) and 0 <= score <= 1:
            yield str(rule.get("class")), float(score)


def _latency(shown: RecordShown) -> Iterator[Block]:
    survey, figures = shown.survey, shown.figures
    if not shown.latency.count:
        yield Words("No part was judged and sent: there are no times.")
        return
    budget = [Mark(survey.budget_us, f"budget {survey.budget_us:,}")] if survey.budget_us is not None else []
    caption = "From frame in memory to the socket, us. "
    if survey.budget_us is None:
        caption += "The record does not hold the budget: give the line's YAML file in the record's place to see it."
    else:
        judged = shown.latency.count
        caption += f"Over the budget: {survey.over_budget:,} of {judged:,}, {told_share(share_of(survey.over_budget, judged))}."
    yield _times(shown.latency, budget, "frame in memory to socket, us", caption)
    shortest, longest = survey.deadline_us or (0, 0)
    deadline = [Mark(shortest, f"deadline {shortest:,}")]
    if longest != shortest:
        deadline.append(Mark(longest, f"longest deadline {longest:,}"))
    caption = (
        f"From trigger to the socket, us. Sent after the deadline: {survey.late_verdicts:,} of {survey.age.count:,}."
    )
    yield _times(survey.age, deadline, "trigger to socket, us", caption)
    named = dict(zip(_PERCENTILES, _PERCENTILE_WORDS, strict=True))
    stages = {
        stage: {named[name]: us for name, us in times.items() if name in named}
        for stage, times in figures["stages_us"].items()
    }
    caption = "Where the time goes. Stages' own percentiles, so that the bars of p99 and more are longer than any one part took."
    yield stage_bars(stages, percentiles=("p50", "p90", "p99"), caption=caption)
    totals = {
        "frame in memory to socket": figures["latency_us"],
        "trigger to socket": survey.age.percentiles_us(),
        **{f"stage {stage}": times for stage, times in figures["stages_us"].items()},
    }
    yield Table(
        "Times, us",
        ["way", *_PERCENTILE_WORDS],
        [(name, *(f"{times[key]:,}" for key in _PERCENTILES)) for name, times in totals.items()],
        frozenset(range(1, 6)),
    )


def _times(histogram: LatencyHistogram, limits: Sequence[Mark], x_label: str, caption: str) -> Plot:
    percentiles = histogram.percentiles_us()
    marks = [Mark(percentiles[name], f"{name} {percentiles[name]:,}") for name in ("p50", "p99")]
    return time_histogram(*histogram.bins(), marks=[*limits, *marks], x_label=x_label, caption=caption)


def _late_words(late_words: Counter[tuple[str, str, str]]) -> Block:
    if not late_words:
        return Words("No inspection came after its part was decided.")
    rows = [
        (plain(camera), verdict, plain(reason), f"{n:,}") for (camera, verdict, reason), n in late_words.most_common(20)
    ]
    note = "What was said too late changed nothing; it tells what the part would have got." + _rest(
        len(late_words), "kinds", "", 20
    )
    columns = ["camera", "it said", "reason", "inspections"]
    return Table("Inspections that came after the decision", columns, rows, frozenset({3}), note)


def _gaps(shown: RecordShown) -> Iterator[Block]:
    gaps = [(session_id, each) for session_id, each in shown.survey.sessions.items() if each.missing]
    if gaps:
        yield Table(
            "Verdicts that are missing in the record",
            ["session", "first seq", "last seq", "parts", "missing"],
            [
                (
                    plain(session_id, 32),
                    f"{each.seqs[0]:,}",
                    f"{each.seqs[1]:,}",
                    f"{each.parts:,}",
                    f"{each.missing:,}",
                )
                for session_id, each in gaps[:_ROWS_TOLD]
            ],
            frozenset({1, 2, 3, 4}),
            "Numbers between the first and the last that are not there. Of parts selected by time or by key this is no loss.",
        )
    else:
        yield Words("No gaps: between the first and the last verdict of each session, every number is there.")
    pauses = shown.survey.pauses
    if pauses:
        yield Table(
            "The longest pauses between two triggers",
            ["length", "from, UTC", "until, UTC"],
            [
                (str(timedelta(seconds=each.length_s)), _moment(each.from_utc), _moment(each.until_utc))
                for each in pauses
            ],
            frozenset({0}),
        )
    else:
        yield Words("No pause of a minute or more between two triggers.")


def _gallery(shown: RecordShown, results: Sequence[ResultPayload], which: str) -> Iterator[Block]:
    if not results:
        yield Words("No part was rejected.")
        return
    if shown.images is None:
        yield Words(
            "No folder of kept pictures is known: give the line's YAML file in the record's place, or --images FOLDER."
        )
        yield _parts_table(results, which)
        return
    pictures = [picture for result in results for picture in _pictures(shown.images, result)]
    if any(picture.src is not None for picture in pictures):
        yield Gallery(pictures)
    else:
        reasons = dict.fromkeys(picture.alt.partition(": ")[2] for picture in pictures)
        yield Words(f"No pictures of these parts in {plain(str(shown.images), 200)}: {'; '.join(reasons)}.")
    yield _parts_table(results, which)


def _pictures(images: Path, result: ResultPayload) -> list[Picture]:
    caption = f"Part {result.part_id:,}"
    when = f"{_moment(result.trigger_utc)} UTC, session {plain(result.session_id, 32)}"
    why = "no picture was kept" if result.image_ref is None else "its picture was dropped, or pruned since"
    try:
        files = pictures_of(images, result.image_ref) if result.image_ref is not None else []
    except OSError as error:
        files, why = [], f"its picture cannot be read: {error.strerror}"
    found = {name.camera_id: file for file in files if (name := read_name(file.name)) is not None}
    if not found:
        return [no_picture(alt=f"{caption}: {why}", caption=caption, lines=[when, *_defect_words(result)])]
    pictures = []
    blamed = {defect.camera_id for defect in result.defects} & found.keys()
    chosen = [(camera_id, file) for camera_id, file in found.items() if camera_id in blamed or not blamed]
    for camera_id, file in chosen[:_PICTURES_A_PART]:
        defects = [defect for defect in result.defects if defect.camera_id == camera_id]
        words = ", ".join(f"{plain(defect.class_name, 24)} {defect.score:.2f}" for defect in defects[:5])
        named = f"{caption}, {plain(camera_id, 32)}"
        try:
            pictures.append(
                picture_of_file(
                    file,
                    alt=f"{named}: {words or 'no defect seen by this camera'}",
                    caption=named,
                    lines=[when, words],
                    boxes=[Box(each.box_px, f"{each.class_name} {each.score:.2f}") for each in defects],
                )
            )
        except NoPicture as error:
            pictures.append(no_picture(alt=f"{named}: {plain(str(error), 200)}", caption=named, lines=[when, words]))
    return pictures


def _parts_table(results: Sequence[ResultPayload], which: str) -> Table:
    return Table(
        f"The same parts, {which}",
        ["part", "session", "triggered, UTC", "reason", "defects"],
        [
            (
                f"{result.part_id}",
                plain(result.session_id, 32),
                _moment(result.trigger_utc),
                result.reason,
                "; ".join(_defect_words(result)),
            )
            for result in results
        ],
        frozenset({0}),
    )


def _defect_words(result: ResultPayload) -> list[str]:
    defects = sorted(result.defects, key=lambda defect: defect.score, reverse=True)
    words = [f"{plain(each.class_name, 32)} {each.score:.3f} ({plain(each.camera_id, 32)})" for each in defects[:3]]
    return words + ([f"{len(defects) - 3:,} more"] if len(defects) > 3 else [])


def _moment(utc: str) -> str:
    """To the second, without the letters, not to be broken."""
    return plain(utc[:19], 19).replace("T", "\u00a0")


def _span_words(width_s: int) -> str:
    for name, length_s in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if width_s % length_s == 0 and width_s >= length_s:
            count = width_s // length_s
            return f"{count:,} {name}{'s' if count > 1 else ''}"
    return f"{width_s:,} s"


def _rest(count: int, what: str, which: str = "", told_max: int = _ROWS_TOLD) -> str:
    return f" {count - told_max:,} {which}{what} more are not shown." if count > told_max else ""
