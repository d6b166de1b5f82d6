"""A replay as a page: what was run, whether it came out as recorded, and each verdict that flips, with its pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.replay import Changes, Replay
from pipeline.replay_figures import ReplayFigures
from pipeline.replay_part import PartOutcome, ViewOutcome, ViewWord
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
from pipeline.report.plots import Mark, score_differences, score_histogram
from pipeline.window.reader import FrameDamaged
from vision.raw import decoded_pixels
from vision.recipe import Recipe
from vision.types import PixelFormat

_PICTURES_MAX = 60
_ROWS_MAX = 500
_DAMAGED_MAX = 100
_SCORE_BINS = 50


@dataclass(frozen=True, slots=True)
class ReplayShown:
    """What there is to show. ``result`` is what ``--json`` writes."""

    replay: Replay
    figures: ReplayFigures
    result: Mapping[str, Any]
    made_utc: str
    version: str


def replay_page(shown: ReplayShown) -> Page:
    """Reads pictures from the window."""
    result = shown.result
    sections = [Section("What was run", [*_what_was_run(shown)])]
    if result["score_difference"]["views"]:
        sections.append(Section("Scores", [*_scores(shown)]))
    if shown.figures.flipped:
        sections.append(Section("Verdicts that flip", [*_flips(shown)]))
    if shown.replay.setting.is_same and shown.figures.differing:
        sections.append(Section("Differences from the record", [_differences(shown)]))
    sections.append(Section("Not compared", [*_not_compared(shown)]))
    return Page(
        title=f"Replay of {plain(shown.replay.plan.window.name)}",
        subtitle=f"session {plain(result['session_id'])}, recorded from {plain(result['began_utc'])}",
        blocks=[_outcome(shown), _facts(shown)],
        sections=sections,
        made_by=f"Made by lineside {shown.version} on {shown.made_utc} from {plain(str(shown.replay.plan.window), 200)}.",
    )


def _outcome(shown: ReplayShown) -> Notice:
    figures, setting = shown.figures, shown.replay.setting
    lines = []
    if shown.result["is_cut_off"]:
        lines.append("The window was cut off: whoever recorded it was killed. What was whole before that is here.")
    if figures.damaged:
        lines.append(f"{len(figures.damaged):,} frames are damaged; their parts are not compared.")
    incomplete = figures.parts_incomplete
    if incomplete:
        lines.append(f"{incomplete:,} of {figures.parts:,} parts lack frames and are not compared.")
    if unread_bytes := shown.result["unread_bytes"]:
        lines.append(f"{unread_bytes:,} bytes of the window's index cannot be read: parts in them are not here.")
    if not figures.compared:
        return Notice("bad", "Nothing was compared: no part was judged and has all its frames here.", lines)
    if not setting.is_same:
        what = [name for name in ("model", "recipe", "runtime") if getattr(setting, name)]
        title = f"Another {' and another '.join(what)}: {len(figures.flipped):,} of {figures.compared:,} verdicts flip."
        return Notice("bad" if figures.damaged else "neutral", title, lines)
    if figures.differing:
        title = f"NOT as recorded, with the same model, recipe and runtime: {len(figures.differing):,} parts differ."
        return Notice("bad", title, lines)
    title = f"As recorded: all {figures.compared:,} parts that were compared came out the same, bit for bit."
    is_small_part = incomplete > figures.compared
    return Notice("bad" if figures.damaged else "neutral" if is_small_part else "good", title, lines)


def _facts(shown: ReplayShown) -> Facts:
    result = shown.result
    flips, difference = result["flips"], result["score_difference"]
    return Facts(
        [
            Fact("Parts", f"{result['parts']:,}", f"{result['frames']:,} frames judged"),
            Fact("Compared", f"{result['compared']:,}", f"{result['identical']:,} identical"),
            Fact("PASS to REJECT", f"{flips['pass_to_reject']:,}", "would be taken out"),
            Fact("REJECT to PASS", f"{flips['reject_to_pass']:,}", "would be let through"),
            Fact("To NO_DECISION", f"{flips['pass_to_no_decision'] + flips['reject_to_no_decision']:,}", "not judged"),
            Fact("Largest difference", _number(difference["largest"]), "of one view's score"),
            Fact("Speed", f"{result['parts_per_s'] or 0:,.0f} /s", f"in {result['processes']} processes"),
        ]
    )


def _what_was_run(shown: ReplayShown) -> Iterator[Block]:
    result = shown.result
    end = shown.replay.reader.description.end
    rows = [
        ("window", plain(result["window"], 200)),
        ("recorded", f"{plain(result['began_utc'])} to {'its cut' if end is None else plain(end.utc)}"),
        ("ended", "cut off" if end is None else plain(end.text, 200)),
        ("model, SHA-256", plain(result["model_sha256"], 64)),
        ("recipe", f"{plain(result['recipe_id'], 64)} {plain(result['recipe_version'], 32)}"),
    ]
    yield Table("Replay", ["what", "which"], rows)
    setting = shown.replay.setting
    changes = [
        (f"{what}: {plain(key)}", plain(str(recorded), 300), plain(str(replayed), 300))
        for what, of in _settings(setting.model, setting.recipe, setting.runtime)
        for key, (recorded, replayed) in of.items()
    ]
    if changes:
        yield Table("Other than when it was recorded", ["what", "recorded", "now"], changes[:_ROWS_MAX])
    else:
        yield Words("Model, recipe and runtime are those that judged.")


def _settings(model: Changes, recipe: Changes, runtime: Changes) -> list[tuple[str, Changes]]:
    return [("model", model), ("recipe", recipe), ("runtime", runtime)]


def _scores(shown: ReplayShown) -> Iterator[Block]:
    before, after = shown.figures.scores()
    recorded, replayed = _threshold(shown.replay.line.recipe), _threshold(shown.replay.recipe)
    yield score_differences(
        before,
        after,
        thresholds=(recorded, replayed),
        caption="Each view's score on record and now; dashed: where the only rule rejects.",
    )
    edges = np.linspace(0.0, 1.0, _SCORE_BINS + 1)
    counts = {"recorded": np.histogram(before, edges)[0], "replayed": np.histogram(after, edges)[0]}
    told = [("recorded", recorded), ("now", replayed)] if recorded != replayed else [("rejects from", recorded)]
    marks = [Mark(value, label) for label, value in told if value is not None]
    yield score_histogram(edges, counts, thresholds=marks, caption="Views by their score.")
    difference = shown.result["score_difference"]
    rows = [
        (name, _number(difference[key])) for name, key in (("largest", "largest"), ("mean", "mean"), ("median", "p50"))
    ]
    rows += [(f"{each} % of the views at most", _number(difference[f"p{each}"])) for each in (90, 99)]
    rows.append(("views with another score", f"{difference['changed']:,} of {difference['views']:,}"))
    rows.append(("views without a score on one side", f"{difference['unscored']:,}"))
    yield Table("Score differences, without their sign", ["", "score"], rows, frozenset({1}))


def _threshold(recipe: Recipe) -> float | None:
    """With several rules one line across says nothing."""
    return recipe.rules[0].reject_at_score if len(recipe.rules) == 1 else None


def _flips(shown: ReplayShown) -> Iterator[Block]:
    flipped = shown.figures.flipped
    rows = [
        (
            str(outcome.part_id),
            outcome.recorded_verdict,
            f"{outcome.verdict} ({outcome.reason})",
            ", ".join(_score(view.recorded) for view in outcome.views),
            ", ".join(_score(view.replayed) for view in outcome.views),
        )
        for outcome in flipped[:_ROWS_MAX]
    ]
    rest = (
        f"{len(flipped) - _ROWS_MAX:,} more are counted; --json names the first 1,000."
        if len(flipped) > _ROWS_MAX
        else ""
    )
    columns = ["part", "on record", "now", "scores on record", "scores now"]
    yield Table(f"{len(flipped):,} parts", columns, rows, frozenset({0}), rest)
    pictures = []
    for outcome in _some_of_each(flipped):
        pictures += [_picture(shown.replay, outcome, view) for view in outcome.views]
        if len(pictures) >= _PICTURES_MAX:
            break
    yield Words(
        f"Boxes: solid, as recorded; dashed, now. {len(pictures[:_PICTURES_MAX])} pictures, of each kind of flip in turn."
    )
    yield Gallery(pictures[:_PICTURES_MAX])


def _some_of_each(flipped: list[PartOutcome]) -> Iterator[PartOutcome]:
    """Of each kind of flip in turn, so that a rare one is seen."""
    kinds: dict[tuple[str, str | None], list[PartOutcome]] = {}
    for outcome in flipped:
        kinds.setdefault((outcome.recorded_verdict, outcome.verdict), []).append(outcome)
    for turn in range(max(map(len, kinds.values()))):
        for outcomes in kinds.values():
            yield from outcomes[turn : turn + 1]


def _picture(replay: Replay, outcome: PartOutcome, view: ViewOutcome) -> Picture:
    caption = f"Part {outcome.part_id}: {outcome.recorded_verdict} to {outcome.verdict}"
    camera = plain(view.frame.camera_id, 32)
    lines = [f"{camera}, frame {view.frame_id}", f"score {_score(view.recorded)}, now {_score(view.replayed)}"]
    alt = f"Part {outcome.part_id} as {camera} saw it"
    try:
        frame = replay.reader.frame(replay.reader.frames[view.frame])
    except FrameDamaged as error:
        return no_picture(alt=alt, caption=caption, lines=[*lines, plain(str(error), 200)])
    boxes = [*_boxes(view.recorded, "first"), *_boxes(view.replayed, "second")]
    is_rgb = frame.pixel_format is PixelFormat.RGB8
    return picture_of(
        decoded_pixels(frame.pixels, frame.pixel_format),
        alt=alt,
        caption=caption,
        lines=lines,
        boxes=boxes,
        is_rgb=is_rgb,
    )


def _boxes(word: ViewWord | None, style: Any) -> list[Box]:
    defects = word.defects if word is not None else None
    return [Box(found.box_px, f"{found.class_name} {found.score:.3f}", style) for found in defects or ()]


def _differences(shown: ReplayShown) -> Table:
    differing = shown.figures.differing
    rows = [(str(outcome.part_id), plain("; ".join(outcome.differences), 500)) for outcome in differing[:_ROWS_MAX]]
    rest = f"{len(differing) - _ROWS_MAX:,} more are counted." if len(differing) > _ROWS_MAX else ""
    return Table(f"{len(differing):,} parts", ["part", "now, and on record"], rows, frozenset({0}), rest)


def _not_compared(shown: ReplayShown) -> Iterator[Block]:
    result = shown.result
    says = result["from_record_model_says"]
    if result["from_record"]:
        yield Table(
            "Parts whose verdict is the record's, since time or a rule made it, or its views are not on record",
            ["reason", "parts", "what the model says of such frames as there are"],
            [
                (
                    plain(reason),
                    f"{count:,}",
                    ", ".join(f"{plain(name)} {n:,}" for name, n in says.get(reason, {}).items()) or "-",
                )
                for reason, count in result["from_record"].items()
            ],
            frozenset({1}),
        )
    late = result["late_inspections"]
    rows = [
        ("late inspections compared", f"{late['compared']:,}"),
        ("of these identical", f"{late['identical']:,}"),
        ("frames that are not in the window", f"{result['missing_frames']:,}"),
        ("damaged frames", f"{result['damaged_frames']:,}"),
        ("parts not compared for these", f"{result['parts_incomplete']:,}"),
        *((f"frames lost while it was recorded: {plain(why)}", f"{n:,}") for why, n in result["frames_lost"].items()),
    ]
    rows += [(f"parts lost while it was recorded: {plain(why)}", f"{n:,}") for why, n in result["parts_lost"].items()]
    yield Table("Frames and late inspections", ["what", "count"], rows, frozenset({1}))
    if shown.figures.damaged:
        yield Table("Damaged", ["frame"], [(plain(text, 300),) for text in shown.figures.damaged[:_DAMAGED_MAX]])


def _score(word: ViewWord | None) -> str:
    return "-" if word is None or word.score is None else f"{word.score:.6f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"
