"""Suite ``line``: what the whole service adds to the bare model.

Windows of two kinds take turns in one run: the belt runs and parts go frame to socket through the service; the belt stands and the
same model runs in a bare ``session.run`` loop, with the same threads and at the same pace, since a model that runs once in
50 ms finds colder caches than one that runs back to back. That is measured too, for comparison.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline.bench.bare_loop import BareLoop
from pipeline.bench.statistics import percentiles_us
from pipeline.clock import now_ns
from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.simulator.images import ImageSource
from pipeline.simulator.truth import stream_book
from vision.package import load_package

_SETTLE_S = 0.2
"""After the belt stops: the last frames are on their way."""
_BACK_TO_BACK_RUNS = 200


def line(
    model: Path, images: ImageSource, *, parts_per_min: float = 1_200.0, windows: int = 10, window_s: float = 5.0
) -> dict[str, object]:
    """``windows`` of each kind of ``window_s`` seconds, after one of each that is thrown away."""
    package = load_package(model)
    bare = BareLoop(package)
    plan = Rehearsal(model=model, images=images, rules=package.card.thresholds, parts_per_min=parts_per_min)
    paced_us: list[float] = []
    hot_us: list[float] = []
    spans: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory(prefix="lineside-") as folder, RehearsalRun(plan, Path(folder)) as run:
        speed_mm_s = run.line_options.speed_mm_s
        run.line.start_parts()
        for window in range(windows + 1):
            start_ns = now_ns()
            time.sleep(window_s)
            run.line.set_speed(0.0)
            end_ns = now_ns()
            time.sleep(_SETTLE_S)
            paced = bare.paced_us(60.0 / parts_per_min, window_s)
            hot = bare.back_to_back_us(_BACK_TO_BACK_RUNS)
            if window > 0:
                spans.append((start_ns, end_ns))
                paced_us += paced
                hot_us += hot
            run.line.set_speed(speed_mm_s)
        run.line.set_speed(0.0)
        time.sleep(_SETTLE_S)
        summary = run.stop_service()
        run.observer.stop()
        latencies_us, stages = _latencies(Path(folder) / "wire.jsonl", spans)
    added = float(np.median(latencies_us) - np.median(paced_us))
    return {
        "suite": "line",
        "model": package.card.name,
        "parts_per_min": parts_per_min,
        "intra_op_threads": 1,
        "end_to_end_us": percentiles_us(latencies_us),
        "bare_paced_us": percentiles_us(paced_us),
        "bare_back_to_back_us": percentiles_us(hot_us),
        "p50_end_to_end_minus_bare_paced_us": round(added, 1),
        "p50_end_to_end_minus_bare_back_to_back_us": round(float(np.median(latencies_us) - np.median(hot_us)), 1),
        "interval_95_us": _interval(latencies_us, paced_us),
        "stages_p50_us": {stage: round(float(np.median(values)), 1) for stage, values in stages.items()},
        "no_decision": summary["no_decision"],
        "parts_triggered": summary["parts_triggered"],
    }


def _latencies(wire_log: Path, spans: list[tuple[int, int]]) -> tuple[list[float], dict[str, list[float]]]:
    """Frame to socket of every part triggered in a window, from the results on the wire."""
    latencies: list[float] = []
    stages: dict[str, list[float]] = {}
    for entry in stream_book(wire_log):
        if entry["event"] != "message" or entry["topic"] != "result":
            continue
        result = entry["payload"]
        measured: dict[str, int] = result["stages_us"]
        if "send" in measured and any(start <= result["trigger_ns"] < end for start, end in spans):
            latencies.append(sum(value for stage, value in measured.items() if stage != "grab"))
            for stage, value in measured.items():
                stages.setdefault(stage, []).append(value)
    return latencies, stages


def _interval(latencies_us: list[float], bare_us: list[float]) -> list[float]:
    """95 % bootstrap interval of the difference of medians."""
    a, b = np.asarray(latencies_us), np.asarray(bare_us)
    generator = np.random.default_rng(0)
    differences = [
        float(np.median(generator.choice(a, len(a))) - np.median(generator.choice(b, len(b)))) for _ in range(1_000)
    ]
    return [round(value, 1) for value in np.percentile(differences, [2.5, 97.5])]
