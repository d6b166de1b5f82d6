"""``lineside demo``: line simulator, broker, service and controller simulator in one, on real images."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.configs import configs_folder
from pipeline.rehearsal import Rehearsal, RehearsalError, RehearsalRun
from pipeline.simulator.images import ImageError, SolarCellImages
from pipeline.simulator.process import SimulatorError
from pipeline.simulator.solar_cells import test_indices
from vision.package import load_package

_DEFAULT_PARTS = 1_200


def demo(
    parts: Annotated[int | None, typer.Option(min=1, help="How many parts come down the line.")] = None,
    duration: Annotated[
        float | None, typer.Option(min=1.0, max=1e6, help="Or: for how many seconds they come.")
    ] = None,
    rate: Annotated[float, typer.Option(min=1.0, max=60_000.0, help="Parts a minute.")] = 1_200.0,
    model: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Another model package for the same images.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Inspect real solar cells on a simulated line, and compare the books of line, wire and gate afterwards."""
    check_json_target(json_file)
    if parts is not None and duration is not None:
        raise fail("--parts and --duration: give one of them", 2)
    if parts is None:
        parts = _DEFAULT_PARTS if duration is None else max(1, round(duration * rate / 60.0))
    folder = model if model is not None else configs_folder() / "models" / "solar-cell"
    package = load_package(folder)
    try:
        plan = Rehearsal(
            model=folder,
            images=SolarCellImages(indices=test_indices()),
            rules=package.card.thresholds,
            parts=parts,
            parts_per_min=rate,
            camera_ids=tuple(package.card.input.views) or ("cam0",),
        )
        result = _play(plan, words(json_file))
    except (RehearsalError, SimulatorError, ImageError) as error:
        raise fail(str(error)) from None
    write_json(json_file, result)
    if not _holds(result):
        raise fail("the promise did not hold; see the summary")


def _play(plan: Rehearsal, out: Any) -> dict[str, Any]:
    console = Console(file=out)
    console.print(f"Starting the line: {plan.parts} solar cells at {plan.parts_per_min:g} a minute ...")
    with tempfile.TemporaryDirectory(prefix="lineside-") as folder, RehearsalRun(plan, Path(folder)) as run:
        console.print(f"Service RUNNING, verdicts over {run.broker.kind} on 127.0.0.1:{run.broker.port}")
        if console.is_terminal:
            with Live(console=console, refresh_per_second=4) as live:
                run.play(progress=lambda: live.update(_table(plan, _figures(run))))
        else:
            run.play(progress=_every_fifth(lambda: console.print(_line(plan, _figures(run)), soft_wrap=True)))
        summary = run.stop_service()
        truth = run.stop_world()
    result: dict[str, Any] = {**summary, **truth.figures()}
    console.print(_summary(result))
    return result


def _every_fifth(call: Callable[[], None]) -> Callable[[], None]:
    turns = 0

    def now_and_then() -> None:
        nonlocal turns
        turns += 1
        if turns % 5 == 1:
            call()

    return now_and_then


def _figures(run: RehearsalRun) -> dict[str, Any]:
    stats = run.observer.latest()["stats"] or {}
    return {"line": run.line.report(), "gate": run.controller.report(), "stats": stats}


def _line(plan: Rehearsal, figures: dict[str, Any]) -> str:
    stats, gate = figures["stats"], figures["gate"]
    latency = stats.get("latency_us", {})
    return (
        f"{figures['line']['parts_sent']}/{plan.parts} parts, {stats.get('rate_per_min', 0):.0f}/min, "
        f"pass {stats.get('passed', 0)} reject {stats.get('rejected', 0)} no decision {stats.get('no_decision', 0)}, "
        f"latency p50 {latency.get('p50', 0)} p99 {latency.get('p99', 0)} us of {stats.get('budget_us', 0)}, "
        f"gate: {gate['gate_passes']} passed {gate['gate_rejects']} out"
    )


def _table(plan: Rehearsal, figures: dict[str, Any]) -> Table:
    stats, gate = figures["stats"], figures["gate"]
    latency = stats.get("latency_us", {})
    table = Table(title="Lineside", show_header=False, min_width=60)
    table.add_row("parts", f"{figures['line']['parts_sent']} of {plan.parts}")
    table.add_row("rate", f"{stats.get('rate_per_min', 0):.0f} a minute")
    table.add_row(
        "verdicts",
        f"PASS {stats.get('passed', 0)}  REJECT {stats.get('rejected', 0)}  NO_DECISION {stats.get('no_decision', 0)}",
    )
    table.add_row(
        "latency, last second",
        f"p50 {latency.get('p50', 0)}  p99 {latency.get('p99', 0)}  max {latency.get('max', 0)} us"
        f"  (budget {stats.get('budget_us', 0)})",
    )
    table.add_row("gate", f"{gate['gate_passes']} passed, {gate['gate_rejects']} rejected, {gate['late_at_gate']} late")
    return table


def _summary(result: dict[str, Any]) -> Table:
    table = Table(title="What the books say", show_header=False, min_width=60)
    latency, truth = result["latency_us"], result["truth"]
    table.add_row("parts sent / triggers", f"{result['line']['parts_sent']} / {result['line']['triggers_sent']}")
    table.add_row("verdicts", str(result["parts_triggered"]))
    table.add_row("PASS / REJECT / NO_DECISION", f"{result['passed']} / {result['rejected']} / {result['no_decision']}")
    table.add_row("reasons", "  ".join(f"{reason} {count}" for reason, count in result["reasons"].items()))
    table.add_row(
        "frame in memory -> verdict at the socket",
        f"p50 {latency['p50']}  p99 {latency['p99']}  max {latency['max']} us, budget {result['budget_us']}",
    )
    table.add_row(
        "late verdicts / late at the gate", f"{result['late_verdicts']} / {result['controller']['late_at_gate']}"
    )
    table.add_row("passed without a PASS", str(result["controller"]["passed_without_pass"]))
    table.add_row("wrong part passed", str(result["controller"]["wrong_part_passed"]))
    table.add_row("good cells rejected", f"{truth['false_rejects']} of {truth['good']}")
    table.add_row(
        "defective cells passed", f"{truth['false_accepts']} of {truth['defective']}  (the model's, see its card)"
    )
    return table


def _holds(result: dict[str, Any]) -> bool:
    """The promise, as far as the books outside the service can tell."""
    verdicts = result["passed"] + result["rejected"] + result["no_decision"]
    return bool(
        verdicts == result["parts_triggered"]
        and result["controller"]["passed_without_pass"] == 0
        and result["controller"]["wrong_part_passed"] == 0
    )
