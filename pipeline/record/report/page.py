"""The record as a page for the quality engineer: what was judged, how much of it is proven, what was wrong, when, and how fast."""

from __future__ import annotations

from calibration.intervals import share_of
from pipeline.record.report.gallery import gallery
from pipeline.record.report.proof import state_of_proof
from pipeline.record.report.scores import scores
from pipeline.record.report.selection import selection
from pipeline.record.report.shown import RecordShown, moment
from pipeline.record.report.times import gaps, late_words, latency, over_time
from pipeline.record.report.verdicts import defects, reasons, reviews, verdicts
from pipeline.report.blocks import Fact, Facts, Page, Section, plain
from pipeline.report.shares import percent


def record_page(shown: RecordShown) -> Page:
    """Reads the pictures that it shows."""
    figures = shown.figures
    sections = [Section("What was looked at", [*selection(shown)])]
    if figures["parts"]:
        sections += [
            Section("Verdicts and reasons", [verdicts(figures), reasons(figures)]),
            Section("Defects", [*defects(figures)]),
            Section("Reviews", [reviews(figures["reviews"])]),
            Section("Over time", [*over_time(shown.survey)]),
            Section("Scores", [*scores(shown)]),
            Section("Latency", [*latency(shown)]),
            Section("Late inspections and gaps", [late_words(shown.late_words), *gaps(shown)]),
            Section("Worst rejected parts", [*gallery(shown, shown.survey.worst, "the highest defect scores")]),
            Section("Last rejected parts", [*gallery(shown, shown.survey.last, "the last ones first")]),
        ]
    first, last = figures["first_utc"], figures["last_utc"]
    return Page(
        title=f"Record {plain(shown.record.name)}",
        subtitle=f"{moment(first)} to {moment(last)} UTC" if figures["parts"] else "no parts",
        blocks=[state_of_proof(shown), _facts(shown)],
        sections=sections,
        made_by=f"Made by lineside {shown.version} on {shown.made_utc} from {plain(str(shown.record), 200)}.",
    )


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
    times = figures["latency_us"]
    if shown.latency.count:
        facts.append(Fact("Latency, p99", f"{times['p99'] / 1_000:,.2f} ms", f"median {times['p50'] / 1_000:,.2f} ms"))
    facts.append(Fact("Late verdicts", f"{survey.late_verdicts:,}", "sent after their deadline"))
    facts.append(Fact("Not sent", f"{figures['verdicts_unsent']:,}", "never at the socket: the gate rejects"))
    facts.append(Fact("Late inspections", f"{shown.late_words.total():,}", "said after the decision"))
    return Facts(facts)
