"""Suite ``replay``: a run of the service is recorded; does it run again to the bit, does another threshold flip the very parts
whose scores say so, and how much slower than its bare model is it?

For the speed, rounds of both take turns. Bare is ``session.run`` alone, of the same session, on the batch of the last part:
nothing is read, checked, pre-processed, judged or compared. In several processes each does its share of either.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from pipeline.bench.statistics import median_ratio, percentiles_us
from pipeline.clock import NS_PER_S, NS_PER_US, now_ns
from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.replay import Replay, ReplayPlan, ReplayProcesses, Span, replay_span, spans_of
from pipeline.replay_figures import ReplayFigures
from pipeline.simulator.images import ImageSource
from pipeline.window.reader import NotAWindow
from vision.package import load_package

_OTHER_THRESHOLD = 0.8
"""Of the recorded one."""
_RECORDED_MORE_S = 30.0
_TOLD = (
    "compared",
    "identical",
    "differing",
    "from_record",
    "late_inspections",
    "missing_frames",
    "parts_incomplete",
)


def record_run(folder: Path, model: Path, images: ImageSource, *, parts: int, parts_per_min: float) -> Path:
    """The window of a whole run of the service on a simulated line. Raises RehearsalError, ImageError."""
    longest_s = parts * 60.0 / parts_per_min + _RECORDED_MORE_S
    plan = Rehearsal(
        model=model,
        images=images,
        rules=load_package(model).card.thresholds,
        parts=parts,
        parts_per_min=parts_per_min,
        service={
            "images": {"path": str(folder / "images"), "free_min_gib": 0.0},
            "recording": {"path": str(folder / "windows"), "max_s": longest_s, "free_min_gib": 0.0},
        },
        service_arguments=("--record-s", str(longest_s)),
    )
    with tempfile.TemporaryDirectory(prefix="lineside-") as scratch, RehearsalRun(plan, Path(scratch)) as run:
        run.play()
        run.stop_service()
    (window,) = (folder / "windows").iterdir()
    return window


def replay(
    window: Path, *, parts: int, rounds: int, processes: int, progress: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """All of the window once, with its own threshold and another one; then ``rounds`` of up to ``parts`` parts of it, with one
    process and with ``processes``, after one of each thrown away.

    Raises what opening the window does, and NotAWindow where it holds no part that can be compared.
    """
    opened = Replay(ReplayPlan(window))
    figures = _all_of(opened)
    if not figures.compared:
        raise NotAWindow(f"window {window}: got no part that was judged and has its frames, expected some")
    span = opened.reader.part_ids[:parts]
    one = _one_process(opened, span, rounds, progress)
    several = _several(opened.plan, span, rounds, processes, progress)
    told = figures.figures()
    return {
        "suite": "replay",
        "window": {
            "parts": told["parts"],
            "must_be_identical": opened.setting.is_same,
            **{key: told[key] for key in _TOLD},
            "damaged_frames": told["damaged_frames"],
            "size_bytes": sum(file.stat().st_size for file in window.rglob("*") if file.is_file()),
        },
        "another_threshold": _another_threshold(opened, figures),
        "rounds": rounds,
        "parts_a_round": len(span),
        "one_process": one,
        "several_processes": several,
        "gain_of_processes": round(several["replay_parts_per_s"] / one["replay_parts_per_s"], 3),
    }


def faults_of(result: dict[str, Any]) -> list[str]:
    """What of a result of ``replay`` is not as it must be, for people."""
    told, other = result["window"], result["another_threshold"]
    faults = []
    if told["damaged_frames"]:
        faults.append(f"{told['damaged_frames']} frames are damaged")
    if told["must_be_identical"] and told["differing"]:
        faults.append(f"{told['differing']} parts differ, and none may")
    if not other["checked"]:
        # With several rules there is nothing to check it by.
        if told["differing"]:
            faults.append(f"another threshold was not tried: {other['why_not']}")
    elif not other["must_flip"]:
        faults.append("no recorded score lies between the two thresholds: nothing was shown; record more parts")
    elif not other["must_flip"] == other["flipped"] == other["flipped_as_they_must"]:
        faults.append(
            f"{other['flipped']} parts flip, of these {other['flipped_as_they_must']} of the {other['must_flip']} that must"
        )
    return faults


def _all_of(opened: Replay) -> ReplayFigures:
    figures = ReplayFigures()
    for outcome in opened.outcomes(1):
        figures.add(outcome)
    return figures


def _another_threshold(opened: Replay, figures: ReplayFigures) -> dict[str, Any]:
    """The parts that flip, and those that must by their recorded scores. With one rule: else scores do not say of which class."""
    rules = opened.recipe.rules
    if len(rules) > 1:
        return {"checked": False, "why_not": "more than one rule"}
    if figures.differing:
        return {"checked": False, "why_not": "parts differ with the recorded threshold already"}
    score = rules[0].reject_at_score * _OTHER_THRESHOLD
    recipe = opened.recipe.model_dump(mode="json", by_alias=True)
    recipe["rules"][0]["reject_at_score"] = score
    with tempfile.TemporaryDirectory(prefix="lineside-") as scratch:
        file = Path(scratch) / "recipe.yaml"
        file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
        other = Replay(ReplayPlan(opened.plan.window, recipe=file))
    outcomes = list(other.outcomes(1))
    flipped = {outcome.part_id for outcome in outcomes if outcome.is_flipped}
    must: set[int] = set()
    for part_id in (outcome.part_id for outcome in outcomes if outcome.is_compared):
        _, result = opened.reader.part(part_id)
        scores = [view.score for view in result.views if view.score is not None]
        if result.verdict == "PASS" and max(scores) >= score:
            must.add(part_id)
    return {
        "checked": True,
        "recorded": rules[0].reject_at_score,
        "now": score,
        "must_flip": len(must),
        "flipped": len(flipped),
        "flipped_as_they_must": len(must & flipped),
    }


def _one_process(opened: Replay, span: Span, rounds: int, progress: Callable[[], None]) -> dict[str, Any]:
    """Part by part: times of each."""
    replayed_us: list[float] = []
    bare_us: list[float] = []
    for turn in range(rounds + 1):
        first = len(replayed_us)
        for part_id in span:
            start_ns = now_ns()
            opened.part(part_id)
            replayed_us.append((now_ns() - start_ns) / NS_PER_US)
        for _ in span:
            start_ns = now_ns()
            opened.session.run()
            bare_us.append((now_ns() - start_ns) / NS_PER_US)
        if turn == 0:
            del replayed_us[first:], bare_us[first:]
        progress()
    return {
        "replay_us": percentiles_us(replayed_us),
        "bare_us": percentiles_us(bare_us),
        "ratio_replay_to_bare": median_ratio(replayed_us, bare_us),
        "replay_parts_per_s": _per_s(replayed_us),
        "bare_parts_per_s": _per_s(bare_us),
    }


def _several(plan: ReplayPlan, span: Span, rounds: int, processes: int, progress: Callable[[], None]) -> dict[str, Any]:
    """Round by round: times of a round divided by its parts."""
    spans = spans_of(span)
    replayed_us: list[float] = []
    bare_us: list[float] = []
    with ReplayProcesses(plan, processes) as others:

        def a_part_us(work: Callable[[Replay, Span], object]) -> float:
            start_ns = now_ns()
            for _ in others.map(work, spans):
                pass
            return (now_ns() - start_ns) / NS_PER_US / len(span)

        for turn in range(rounds + 1):
            replayed, bare = a_part_us(replay_span), a_part_us(_bare_span)
            if turn > 0:
                replayed_us.append(replayed)
                bare_us.append(bare)
            progress()
    return {
        "processes": processes,
        "replay_us_a_part": percentiles_us(replayed_us),
        "bare_us_a_part": percentiles_us(bare_us),
        "ratio_replay_to_bare": median_ratio(replayed_us, bare_us),
        "replay_parts_per_s": _per_s(replayed_us),
        "bare_parts_per_s": _per_s(bare_us),
    }


def _bare_span(opened: Replay, span: Span) -> None:
    for _ in span:
        opened.session.run()


def _per_s(times_us: list[float]) -> float:
    return round(len(times_us) * NS_PER_S / NS_PER_US / sum(times_us), 1)
