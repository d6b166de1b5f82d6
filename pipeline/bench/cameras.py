"""Suite ``cameras``: latency, capacity and CPU with a camera on the real protocol, and with four simulated ones.

Rounds of three windows each take turns: the same model in a bare loop; the service with the fake GigE Vision camera of
Debian's aravis-tools, on a cable between two network namespaces; the service with four cameras of the line simulator. Camera,
cable, broker and service share the box, as no real camera would.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.bench.bare_loop import BareLoop
from pipeline.bench.processes import ProcessSample, sample_service
from pipeline.rehearsal import Rehearsal, RehearsalRun
from pipeline.simulator.broker import start_broker
from pipeline.simulator.camera_cable import CAMERA_ADDRESS, CameraCable, FakeCamera
from pipeline.simulator.images import ImageSource
from pipeline.simulator.process import stop_with_parent
from vision.package import load_package

NO_DECISION_SHARE_MAX = 0.001
_SIDE_PX = 512
_CAMERAS = tuple(f"cam{number}" for number in range(4))
_DEADLINE_US = 40_000
_BISECTIONS = 2
_STEP_S = 10.0
_FAKE_MOST_HZ = 1_000.0
_LINE_MOST_PER_MIN = 48_000.0

Measured = dict[str, Any]


def cameras(
    model: Path, images: ImageSource, *, rounds: int = 3, window_s: float = 15.0, rate_hz: float = 100.0
) -> Measured:
    """``rate_hz``: of the camera on the real protocol; the four simulated ones see a fifth as many parts, each of four views.

    Raises NamespaceUnavailable and SimulatorError where there can be no cable or no camera.
    """
    bare = BareLoop(load_package(model))
    found: dict[str, list[Measured]] = {"one_real_protocol": [], "four_simulated": []}
    paced_us: list[float] = []
    for _ in range(rounds):
        paced_us += bare.paced_us(1 / rate_hz, window_s)
        found["one_real_protocol"].append(_real(model, rate_hz, window_s))
        found["four_simulated"].append(_simulated(model, images, rate_hz * 60 / 5, window_s))
    p50_us, p99_us = np.percentile(paced_us, [50, 99])
    return {
        "suite": "cameras",
        "rate_hz": rate_hz,
        "rounds": rounds,
        "bare_paced_us": {"p50": round(float(p50_us), 1), "p99": round(float(p99_us), 1)},
        **{name: _together(runs, float(p50_us)) for name, runs in found.items()},
        "capacity": {
            "limit_share": NO_DECISION_SHARE_MAX,
            "one_real_protocol_hz": _highest(lambda rate: _real(model, rate, _STEP_S), rate_hz, _FAKE_MOST_HZ),
            "four_simulated_parts_per_min": _highest(
                lambda rate: _simulated(model, images, rate, _STEP_S), 1_500.0, _LINE_MOST_PER_MIN
            ),
        },
    }


def _together(runs: list[Measured], bare_us: float) -> Measured:
    """Medians over the rounds, and each round's own."""
    p50s = [run["latency_us"]["p50"] for run in runs]
    return {
        "p50_us": float(np.median(p50s)),
        "p99_us": float(np.median([run["latency_us"]["p99"] for run in runs])),
        "p50_to_bare_p50": round(float(np.median(p50s)) / bare_us, 2),
        "cpu_share_of_a_core": {
            name: round(float(np.median([run["cpu"].get(name, 0.0) for run in runs])), 4)
            for name in sorted({name for run in runs for name in run["cpu"]})
        },
        "rounds": runs,
    }


def _highest(measure: Callable[[float], Measured], first: float, most: float) -> Measured:
    """The highest rate that holds, by doubling and then by halves of the gap; with every step on the way."""
    steps: list[Measured] = []

    def holds(rate: float) -> bool:
        steps.append({"rate": rate, **measure(rate)})
        return bool(steps[-1]["no_decision"] <= NO_DECISION_SHARE_MAX * steps[-1]["parts_triggered"])

    good, bad = 0.0, first
    while bad <= most and holds(bad):
        good, bad = bad, bad * 2
    for _ in range(_BISECTIONS):
        middle = (good + bad) / 2
        if middle > most:
            break
        good, bad = (middle, bad) if holds(middle) else (good, middle)
    return {"highest": good, "seen_at_highest_per_s": _seen(steps, good), "steps": steps}


def _seen(steps: list[Measured], rate: float) -> float | None:
    """What really came: a fake camera that is asked for more than it can do sends less."""
    return next((step["parts_per_s"] for step in steps if step["rate"] == rate), None)


def _simulated(model: Path, images: ImageSource, parts_per_min: float, seconds: float) -> Measured:
    plan = Rehearsal(
        model=model,
        images=images,
        rules=load_package(model).card.thresholds,
        parts_per_min=parts_per_min,
        camera_ids=_CAMERAS,
        service={"encoder": {"match_pulses": 10}},
    )
    with tempfile.TemporaryDirectory(prefix="lineside-") as folder, RehearsalRun(plan, Path(folder)) as run:
        run.line.start_parts()
        cpu = _cpu_over(run.service_pid, seconds)
        run.line.set_speed(0.0)
        return _figures(run.stop_service(), cpu, seconds)


def _real(model: Path, rate_hz: float, seconds: float) -> Measured:
    with (
        CameraCable() as cable,
        FakeCamera(cable),
        cable.at_the_line(),
        tempfile.TemporaryDirectory(prefix="lineside-") as folder,
        start_broker("auto") as broker,
    ):
        line = _write_line(Path(folder), model, broker.port, rate_hz)
        summary = Path(folder) / "summary.json"
        with (Path(folder) / "service.log").open("wb") as log:
            service = subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli", "run", str(line), "--json", str(summary)],
                stdout=subprocess.PIPE,
                stderr=log,
                preexec_fn=stop_with_parent,  # safe beside threads: one system call, no lock
            )
        assert service.stdout is not None
        with service.stdout as words:
            while not (word := words.readline()).startswith(b"RUNNING"):
                if not word:
                    raise RuntimeError(f"the service ended: {(Path(folder) / 'service.log').read_text()}")
            cpu = _cpu_over(service.pid, seconds)
            service.send_signal(signal.SIGTERM)
            service.wait()
        return _figures(json.loads(summary.read_text()), cpu, seconds)


def _write_line(folder: Path, model: Path, port: int, rate_hz: float) -> Path:
    region = {"name": "part", "x_px": 0, "y_px": 0, "width_px": _SIDE_PX, "height_px": _SIDE_PX}
    recipe = {
        "recipe_id": model.name,
        "recipe_version": "1",
        "model": str(model.resolve()),
        "views": [{"camera_id": "cam0", "regions": [region]}],
        "rules": [{"class": name, "reject_at_score": at} for name, at in load_package(model).card.thresholds.items()],
    }
    camera = {
        "camera_id": "cam0",
        "kind": "aravis",
        "address": CAMERA_ADDRESS,
        "width_px": _SIDE_PX,
        "height_px": _SIDE_PX,
        "pixel_format": "Mono8",
        "trigger": "free_running",
        "frame_rate_hz": rate_hz,
    }
    line = {
        "topic_root": "lineside/bench/cameras",
        "recipe": "recipe.yaml",
        "cameras": [camera],
        "timing": {"deadline_us": _DEADLINE_US},
        "mqtt": {"port": port},
        "records": {"path": "records.db"},
        "runtime": {"on_unverified": "warn"},
    }
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")
    (folder / "line.yaml").write_text(yaml.safe_dump(line), encoding="utf-8")
    return folder / "line.yaml"


def _cpu_over(supervisor_pid: int, seconds: float) -> dict[str, float]:
    """Of each process of the service, how much of a core it took meanwhile."""
    before: dict[str, ProcessSample] = sample_service(supervisor_pid)
    begin_s = time.monotonic()
    time.sleep(seconds)
    after, took_s = sample_service(supervisor_pid), time.monotonic() - begin_s
    return {name: (after[name].cpu_s - before[name].cpu_s) / took_s for name in before.keys() & after.keys()}


def _figures(summary: Measured, cpu: dict[str, float], seconds: float) -> Measured:
    return {
        "parts_triggered": summary["parts_triggered"],
        "parts_per_s": round(summary["parts_triggered"] / seconds, 1),
        "no_decision": summary["no_decision"],
        "reasons": summary["reasons"],
        "latency_us": summary["latency_us"],
        "cpu": {name: round(share, 4) for name, share in cpu.items()},
    }
