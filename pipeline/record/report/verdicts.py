"""What was judged, why, and what people said of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from calibration.intervals import share_of
from pipeline.record.report.shown import ROWS_TOLD, rest
from pipeline.report.blocks import Block, Table, Words, plain
from pipeline.report.plots import pareto
from pipeline.report.shares import percent
from pipeline.report.shares import told as told_share

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


def verdicts(figures: Mapping[str, Any]) -> Table:
    """With intervals."""
    passed, rejected, undecided, parts = (figures[key] for key in ("passed", "rejected", "no_decision", "parts"))
    judged = passed + rejected
    rows = [
        ("PASS", f"{passed:,}", told_share(share_of(passed, judged)), percent(passed / parts)),
        ("REJECT", f"{rejected:,}", told_share(share_of(rejected, judged)), percent(rejected / parts)),
        ("NO_DECISION", f"{undecided:,}", "not judged", percent(undecided / parts)),
    ]
    if known := figures["challenge"]:
        rows.append(("REJECT, of a challenge", f"{known:,}", "known parts", percent(known / parts)))
    note = (
        "Intervals after Clopper and Pearson, as if each part were a fresh draw. Defects that come in runs make"
        " the truth less certain than that."
    )
    return Table("Verdicts", ["verdict", "parts", "of the judged", "of all"], rows, frozenset({1, 2, 3}), note)


def reasons(figures: Mapping[str, Any]) -> Table:
    """With what they mean."""
    parts = figures["parts"]
    rows = [
        (plain(reason), _REASONS.get(reason, ""), f"{count:,}", told_share(share_of(count, parts)))
        for reason, count in figures["reasons"].items()
    ]
    return Table("Reasons", ["reason", "which means", "parts", "of all"], rows, frozenset({2, 3}))


def defects(figures: Mapping[str, Any]) -> Iterator[Block]:
    """Classes by how often parts were rejected for them."""
    classes, rejected = figures["defects"], figures["rejected"]
    if not classes:
        yield Words("No part was rejected for a defect.")
        return
    counts = [(each["class"], each["parts"]) for each in classes]
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
            for each in classes[:ROWS_TOLD]
        ],
        frozenset({1, 2, 3}),
        rest(len(classes), "classes"),
    )


def reviews(said: Mapping[str, int]) -> Block:
    """Of parts that a person looked at."""
    if not said["reviewed"]:
        return Words("No part was reviewed by a person.")
    decided = said["confirmed"] + said["overruled"]
    rows = [
        ("confirmed", "the person says what the service said", said["confirmed"], decided),
        ("overruled", "the person says the opposite", said["overruled"], decided),
        ("false rejects", "of these: rejected, and good", said["false_rejects"], decided),
        ("false accepts", "of these: passed, and defective", said["false_accepts"], decided),
        ("undecided", "the person or the service did not decide", said["undecided"], said["reviewed"]),
    ]
    return Table(
        f"Reviews by people, of {said['reviewed']:,} parts",
        ["review", "which means", "parts", "share"],
        [(name, what, f"{count:,}", told_share(share_of(count, of))) for name, what, count, of in rows],
        frozenset({2, 3}),
        "Shares of the parts on which both decided, of the undecided that of all reviewed. Of several reviews of a part the last"
        " counts. Reviewed parts are seldom drawn by chance: these are no rates of the production.",
    )
