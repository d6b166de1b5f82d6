"""Suite ``replay``: how much slower than its bare model a recorded window runs again, and how far more processes help.

Rounds of both take turns. Bare is ``session.run`` alone, of the same session, on the batch of the last part: nothing is read,
checked, pre-processed, judged or compared. In several processes each does its share of either.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.bench.statistics import median_ratio, percentiles_us
from pipeline.clock import NS_PER_S, NS_PER_US, now_ns
from pipeline.replay import Replay, ReplayPlan, ReplayProcesses, Span, replay_span, spans_of
from pipeline.replay_figures import ReplayFigures


def replay(
    window: Path, *, parts: int, rounds: int, processes: int, progress: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """``rounds`` of up to ``parts`` parts of the window, with one process and with ``processes``, after one of each thrown away.

    Raises what opening the window does, and ValueError where it holds no part that can be compared.
    """
    opened = Replay(ReplayPlan(window))
    span = opened.reader.part_ids[:parts]
    figures = ReplayFigures()
    for part_id in span:
        figures.add(opened.part(part_id))
    if not figures.compared:
        raise ValueError(f"window {window}: got no part that was judged and has its frames, expected some")
    one = _one_process(opened, span, rounds, progress)
    several = _several(opened.plan, span, rounds, processes, progress)
    return {
        "suite": "replay",
        "window": str(window),
        "rounds": rounds,
        "parts": len(span),
        "compared": figures.compared,
        "identical": figures.identical,
        "one_process": one,
        "several_processes": several,
        "gain_of_processes": round(several["replay_parts_per_s"] / one["replay_parts_per_s"], 3),
    }


def _one_process(opened: Replay, span: Span, rounds: int, progress: Callable[[], None]) -> dict[str, Any]:
    """Part by part: times of each."""
    replayed_us: list[float] = []
    bare_us: list[float] = []
    for turn in range(rounds + 1):
        first = len(replayed_us)
        replayed_us += [_timed_us(lambda part_id=part_id: opened.part(part_id)) for part_id in span]  # type: ignore[misc]
        bare_us += [_timed_us(opened.session.run) for _ in span]
        if turn == 0:
            del replayed_us[first:], bare_us[first:]
        progress()
    return {
        "replay_us": percentiles_us(replayed_us),
        "bare_us": percentiles_us(bare_us),
        "ratio_replay_to_bare": median_ratio(replayed_us, bare_us),
        "replay_parts_per_s": _per_s(len(replayed_us), sum(replayed_us)),
        "bare_parts_per_s": _per_s(len(bare_us), sum(bare_us)),
    }


def _several(plan: ReplayPlan, span: Span, rounds: int, processes: int, progress: Callable[[], None]) -> dict[str, Any]:
    """Round by round: times of a round divided by its parts."""
    spans = spans_of(span)
    replayed_us: list[float] = []
    bare_us: list[float] = []
    with ReplayProcesses(plan, processes) as others:
        for turn in range(rounds + 1):
            replayed = _timed_us(lambda: list(others.map(replay_span, spans))) / len(span)
            bare = _timed_us(lambda: list(others.map(_bare_span, spans))) / len(span)
            if turn > 0:
                replayed_us.append(replayed)
                bare_us.append(bare)
            progress()
    return {
        "processes": processes,
        "replay_us_a_part": percentiles_us(replayed_us),
        "bare_us_a_part": percentiles_us(bare_us),
        "ratio_replay_to_bare": median_ratio(replayed_us, bare_us),
        "replay_parts_per_s": _per_s(len(replayed_us), sum(replayed_us)),
        "bare_parts_per_s": _per_s(len(bare_us), sum(bare_us)),
    }


def _bare_span(opened: Replay, span: Span) -> None:
    for _ in span:
        opened.session.run()


def _timed_us(work: Callable[[], object]) -> float:
    start_ns = now_ns()
    work()
    return (now_ns() - start_ns) / NS_PER_US


def _per_s(count: int, took_us: float) -> float:
    return round(count * NS_PER_S / NS_PER_US / took_us, 1)
