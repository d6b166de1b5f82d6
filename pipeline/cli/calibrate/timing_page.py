"""A calibration of times and places as a page: how long verdicts took, and what follows from that at the gate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timezone
from importlib import metadata
from math import isfinite

from calibration.timing import TimeBound, TimingReport
from pipeline.config import Line
from pipeline.latency import LatencyHistogram
from pipeline.line_timing import PartTimes
from pipeline.report.blocks import Block, Fact, Facts, Notice, Page, Section, Table, Words, plain
from pipeline.report.plots import Mark, time_histogram
from pipeline.report.shares import percent


def timing_page(line: Line, report: TimingReport, times: list[PartTimes], who: str) -> Page:
    """``times``: of each part that was measured."""
    return Page(
        title=f"Timing of {plain(line.config.topic_root, 200)}",
        subtitle=f"{len(times):,} parts of {plain(line.recipe.recipe_id, 64)}, measured by {plain(who, 64)}",
        blocks=[_outcome(report), _facts(report)],
        sections=[
            Section("Times", [*_times(report, times)]),
            Section("At the gate", [*_gate(report)]),
            Section("What became of the parts", [_fates(times)]),
        ],
        made_by=f"Made by lineside {metadata.version('lineside')} on {datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC.",
    )


def _outcome(report: TimingReport) -> Notice:
    if report.refusals:
        return Notice("bad", "Not calibrated: nothing was changed", [str(refusal) for refusal in report.refusals])
    return Notice("good", "Calibrated", ["The values below are in force once they stand in the line's file."])


def _facts(report: TimingReport) -> Facts:
    return Facts(
        [
            Fact("latest useful verdict", f"{report.deadline_us:,} us", "timing.deadline_us"),
            Fact("guard", "-" if report.guard_us is None else f"{report.guard_us:,} us", "timing.guard_us"),
            Fact("offset of the gate", f"{report.reject_offset_pulses:,}", "encoder.reject_offset_pulses"),
            Fact("window", f"±{report.window_pulses:,} pulses", f"half a pitch is {report.window_max_pulses:,}"),
        ]
    )


def _times(report: TimingReport, times: list[PartTimes]) -> Iterator[Block]:
    share, confidence = percent(report.latency.share), f"{report.latency.confidence:.0%}"
    yield Words(f"No more than {share} of all parts take longer than the bounds, with {confidence} confidence.")
    for title, values, bound in (
        ("From trigger to the verdict's arrival", [part.latency_us for part in times], report.latency),
        ("From when it could be decided to the verdict's arrival", [part.arrival_us for part in times], report.arrival),
    ):
        came = LatencyHistogram()
        for value in values:
            if isfinite(value):
                came.add(round(value))
        if not came.count:
            continue
        never = len(values) - came.count
        caption = f"{title}: {came.count:,} parts{f'; {never:,} never' if never else ''}."
        yield time_histogram(*came.bins(), marks=_marks(bound), x_label="us", caption=caption)


def _marks(bound: TimeBound) -> list[Mark]:
    return [] if bound.bound_us is None or not isfinite(bound.bound_us) else [Mark(bound.bound_us, "bound")]


def _gate(report: TimingReport) -> Iterator[Block]:
    scale = report.speed_pulses
    nearest = "-" if report.gate_min_mm is None else f"{report.gate_min_mm:.1f} mm"
    yield Table(
        "What follows from the times, the belt and the gate's place",
        ("what", "value"),
        (
            ("encoder", f"{scale.value:.4f} ± {scale.error:.4f} pulses per mm ({scale.run_count} belt runs)"),
            ("earliest place of a safe gate, at the highest speed", nearest),
            ("the part's middle passes the gate", f"{report.reject_offset_pulses:,} ± {report.window_pulses:,} pulses"),
            ("a neighbour could be meant from", f"± {report.window_max_pulses:,} pulses on"),
        ),
        frozenset({1}),
    )


def _fates(times: list[PartTimes]) -> Table:
    counted = Counter((part.fate, part.reason) for part in times)
    rows = [(fate, plain(reason) or "-", f"{count:,}") for (fate, reason), count in counted.most_common()]
    return Table(
        "Parts by what became of them",
        ("fate", "reason", "parts"),
        rows,
        frozenset({2}),
        "Whoever was cut off, not inspected or lost counts as later than any other.",
    )
