"""A teaching in words for the terminal, and as plain data for ``--json``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from calibration.auroc import Auroc
from pipeline.teaching.report import Changed, SizeTried, Suspect, TeachReport, ViewTaught
from vision.faults import one_line

_NAMED_MAX = 10


def words(report: TeachReport) -> list[str]:
    """A line each, its subject first."""
    return [one_line(line) for line in _words(report)]


def to_json(report: TeachReport) -> dict[str, Any]:
    """Everything but the pictures."""
    threshold, changed = report.threshold, report.changed
    return {
        "product": report.product,
        "made_utc": report.made_utc,
        "version": report.version,
        "sources": dict(report.sources),
        "model": dict(report.model),
        "views": [asdict(view) for view in report.views],
        "copies": [asdict(copy) for copy in report.copies],
        "left_out": list(report.left_out),
        "sizes": {
            "tried": [asdict(size) for size in report.tried],
            "budget_us": report.budget_us,
            "why_chosen": report.why_chosen,
        },
        "fit": dict(report.fit),
        "suspects": [
            {
                "name": each.name,
                "source": each.source,
                "path": each.path,
                "score": each.score,
                "p_value": each.p_value,
                "reason": each.reason,
            }
            for each in report.suspects
        ],
        "suspects_told": report.suspects_words,
        "reject_at_score": report.reject_at_score,
        "threshold": {
            "is_promised": bool(threshold.thresholds),
            "false_reject_max": threshold.false_reject_max,
            "confidence": threshold.confidence,
            "good": threshold.good_count,
            "good_rejected": threshold.rejected_count,
            "expected_false_reject": threshold.expected_false_reject if threshold.thresholds else None,
            "expected_false_reject_95": [threshold.false_reject_low, threshold.false_reject_high]
            if threshold.thresholds
            else None,
            "supported_false_reject": threshold.supported_false_reject,
            "supported_confidence": threshold.supported_confidence,
            "parts_missing": threshold.parts_missing,
            "false_accept": None if report.false_accept is None else asdict(report.false_accept),
            "told": threshold.words(),
        },
        "assumptions": list(report.assumptions),
        "auroc": None if report.auroc is None else asdict(report.auroc),
        "good": [asdict(part) for part in report.good],
        "defective": [asdict(part) for part in report.defective],
        "changed": None if changed is None else asdict(changed),
    }


def view_words(view: ViewTaught) -> str:
    """A view's size and kind."""
    sizes = "" if view.sizes_count <= 1 else f" (most of them: {view.sizes_count} sizes)"
    return f"{view.width_px} x {view.height_px} px{sizes}, {'grey' if view.is_grey else 'colour'}"


def size_words(size: SizeTried) -> str:
    """The input's size and how much of the backbone is used."""
    return f"{size.width_px} x {size.height_px} px, {size.depth}"


def auroc_words(auroc: Auroc) -> str:
    """The area with its interval."""
    return f"{auroc.value:.4f} ({100 * auroc.confidence:.3g} %: {auroc.low:.4f} to {auroc.high:.4f})"


def suspect_words(suspect: Suspect) -> str:
    """How strange it is, and why."""
    return f"score {suspect.score:.3f}, p {chance(suspect.p_value)}: {suspect.reason}"


def chance(p_value: float) -> str:
    """Small ones as a power of ten."""
    return f"{p_value:.2g}" if p_value >= 1e-4 else f"{p_value:.0e}"


def changed_lines(changed: Changed, report: TeachReport) -> list[tuple[str, str, str]]:
    """What, before, now."""
    before, now = changed.auroc_before, report.auroc
    auroc_before = "not measured" if before is None else auroc_words(before)
    auroc_now = "not measured again (no --defects)" if now is None else auroc_words(now)
    good_before, good_now = changed.good_count_before, len(report.good)
    return [
        ("good parts", f"{good_before:,}", f"{good_now:,}"),
        (
            "good parts rejected",
            f"{changed.rejected_count_before:,} of {good_before:,}",
            f"{len(report.rejected_good):,} of {good_now:,}",
        ),
        (
            "good parts missing for the promise",
            "-" if changed.parts_missing_before is None else f"{changed.parts_missing_before:,}",
            "-" if report.threshold.parts_missing is None else f"{report.threshold.parts_missing:,}",
        ),
        *([] if before is None and now is None else [("AUROC", auroc_before, auroc_now)]),
    ]


def shift_words(changed: Changed) -> str:
    """Whether the parts that came or went are like the others."""
    which = (
        "added parts are unlike those taught before"
        if changed.added_count
        else "parts taken out were unlike the others"
    )
    return (
        f"The mean of the features moved by {100 * changed.mean_shift:.0f} % of a usual good part's distance from it"
        f"{f': the {which}' if changed.mean_shift > 0.5 else ''}."
    )


def rejected_before_words(changed: Changed) -> str:
    """What the product said of them before it learnt from them."""
    count = f"{len(changed.would_be_rejected):,} OF {changed.added_count:,}"
    told = f"{count} ADDED PARTS WOULD HAVE BEEN REJECTED: look at each of them. "
    if changed.are_said_good:
        return told + "Somebody said that they are good: parts like them may pass from now on."
    return told + "They are suspects until somebody says that they are good."


def _words(report: TeachReport) -> Iterator[str]:
    yield f"product   {report.product}"
    yield from (f"from      {name}: {value}" for name, value in report.sources)
    for view in report.views:
        name = f"view {view.name}: " if view.name else ""
        defective = f", {view.defective_count:,} of defects" if view.defective_count else ""
        yield f"pictures  {name}{view.good_count:,} of good parts{defective}; {view_words(view)}"
    yield from _named("copy", [f"{copy.name} is {copy.of}: NOT COUNTED" for copy in report.copies])
    yield from _named("left out", list(report.left_out))
    for size in report.tried:
        mark = "chosen" if size.is_chosen else "tried"
        yield f"{mark:<9} {size_words(size)}: p50 {size.p50_us / 1e3:.2f} ms, p99 {size.p99_us / 1e3:.2f} ms"
    yield f"          {report.why_chosen}"
    yield from (f"fit       {name}: {value}" for name, value in report.fit)
    is_changed = report.changed is not None  # then names may be of several folders
    found = [
        (f"{each.name} of {each.source}" if is_changed and each.source else each.name, each) for each in report.suspects
    ]
    yield from _named("suspect", [f"{name}: {suspect_words(each)}" for name, each in found])
    if report.suspects_words:
        yield f"suspects  {report.suspects_words}"
    threshold = report.threshold
    label = "promised" if threshold.thresholds else "refused"
    for number, line in enumerate(threshold.words()):
        yield f"{label if number == 0 else '':<9} {line}"
    yield from (f"assumes   {each}" for each in report.assumptions)
    if threshold.parts_missing:
        condition = ", if nothing is said of the suspects and no more come" if report.suspects else ""
        yield f"missing   {threshold.parts_missing:,} good parts for what was asked for{condition}"
    if report.auroc is not None:
        missed = report.missed
        yield f"defects   AUROC {auroc_words(report.auroc)}; {len(missed):,} of {len(report.defective):,} would pass"
        yield from _named("missed", [f"{part.name}: score {part.score:.3f}" for part in missed])
    if (changed := report.changed) is not None:
        yield from (f"changed   {what}: {now}, before {before}" for what, before, now in changed_lines(changed, report))
        yield f"          {shift_words(changed)}"
        if changed.would_be_rejected:
            yield f"          {rejected_before_words(changed)}"
            names = [f"{part.name}: score {part.score:.3f} before" for part in changed.would_be_rejected]
            yield from _named("rejected", names)
    yield from (f"model     {name}: {value}" for name, value in report.model)
    if changed is not None:
        yield from _named("package", list(changed.card))


def _named(label: str, lines: list[str]) -> Iterator[str]:
    yield from (f"{label:<9} {line}" for line in lines[:_NAMED_MAX])
    if (more := len(lines) - _NAMED_MAX) > 0:
        yield f"{label:<9} and {more:,} more"
