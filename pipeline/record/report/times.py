"""When parts came, how long they took, and what is late or missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta

from calibration.intervals import share_of
from pipeline.latency import LatencyHistogram
from pipeline.record.report.shown import ROWS_TOLD, RecordShown, moment, rest
from pipeline.record.survey import RecordSurvey
from pipeline.report.blocks import Block, Plot, Table, Words, plain
from pipeline.report.plots import Mark, Span, rates_over_time, stage_bars, time_histogram
from pipeline.report.shares import told as told_share

_PERCENTILES = ("p50", "p90", "p99", "p999", "max")
_PERCENTILE_WORDS = ("p50", "p90", "p99", "p99.9", "max")


def over_time(survey: RecordSurvey) -> Iterator[Block]:
    """Rates in spans of time, and the worst spans."""
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


def _span_words(width_s: int) -> str:
    for name, length_s in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if width_s % length_s == 0 and width_s >= length_s:
            count = width_s // length_s
            return f"{count:,} {name}{'s' if count > 1 else ''}"
    return f"{width_s:,} s"


def latency(shown: RecordShown) -> Iterator[Block]:
    """To the socket, against budget and deadline, and by stages."""
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


def late_words(counts: Counter[tuple[str, str, str]]) -> Block:
    """By camera, verdict and reason."""
    if not counts:
        return Words("No inspection came after its part was decided.")
    rows = [
        (plain(camera), verdict, plain(reason), f"{n:,}") for (camera, verdict, reason), n in counts.most_common(20)
    ]
    note = "What was said too late changed nothing; it tells what the part would have got." + rest(
        len(counts), "kinds", "", 20
    )
    columns = ["camera", "it said", "reason", "inspections"]
    return Table("Inspections that came after the decision", columns, rows, frozenset({3}), note)


def gaps(shown: RecordShown) -> Iterator[Block]:
    """Missing verdicts, and pauses of the line."""
    missing = [(session_id, each) for session_id, each in shown.survey.sessions.items() if each.missing]
    if missing:
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
                for session_id, each in missing[:ROWS_TOLD]
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
            [(str(timedelta(seconds=each.length_s)), moment(each.from_utc), moment(each.until_utc)) for each in pauses],
            frozenset({0}),
        )
    else:
        yield Words("No pause of a minute or more between two triggers.")
