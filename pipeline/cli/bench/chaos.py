"""``lineside bench chaos``: the service attacked on a simulated line, and a table of what it cost."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from pipeline.bench.chaos.faults import CATALOGUE
from pipeline.bench.chaos.suite import Chaos, Progress, run_chaos
from pipeline.cli.bench.measuring import failing_in_words, package_folder, solar_cells
from pipeline.cli.bench.options import ModelOption
from pipeline.cli.console import console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, write_json
from pipeline.simulator.gate import Mutant

_KINDS = tuple(entry.kind for entry in CATALOGUE)
_FAULTS = 60
_VIOLATIONS_SHOWN = 20
_TABLE_WIDTH = 220
_COLUMNS = (
    ("faults", "faults"),
    ("felt", "felt"),
    ("triggers", "triggers_observed"),
    ("unobserved", "triggers_unobserved"),
    ("verdicts", "verdicts"),
    ("unsent", "unsent"),
    ("passed", "passed"),
    ("unjudged passed", "unjudged_passed"),
    ("wrong part passed", "wrong_part_passed"),
    ("late, discarded", "late_at_gate"),
    ("records missing", "records_missing"),
    ("other", "other_violations"),
    ("NO_DECISION inside", "no_decision_inside"),
    ("outside", "no_decision_outside"),
)


def chaos(
    seconds: Annotated[float, typer.Option(min=1.0, max=1e7, help="No new fault after so many seconds.")] = 900.0,
    faults: Annotated[
        int | None,
        typer.Option(
            min=1, help=f"So many faults, all kinds in turn. [default: {_FAULTS}, or what --seconds has time for]"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the order, the moments and the lengths.")] = 0,
    rate: Annotated[float, typer.Option(min=60.0, max=60_000.0, help="Parts a minute.")] = 1_200.0,
    deadline_us: Annotated[
        int, typer.Option(min=5_000, max=9_999_999, help="From trigger to the latest useful verdict.")
    ] = 40_000,
    gate_pulses: Annotated[int, typer.Option(min=100, help="From camera to gate; 10 pulses a ms of travel.")] = 800,
    calm: Annotated[
        float, typer.Option(min=1.0, max=1e6, help="Seconds without faults at the start, to compare with.")
    ] = 20.0,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind; may be given several times.")] = None,
    controller: Annotated[
        Mutant | None, typer.Option(help="A controller that misbehaves: the suite must catch it.")
    ] = None,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Kill, freeze, cut, fill, damage and starve a running service; compare the books that line and controller kept."""
    unknown = sorted(set(kind or ()) - set(_KINDS))
    if unknown:
        raise fail(f"--kind: got {', '.join(unknown)}, expected some of {', '.join(sorted(_KINDS))}", 2)
    check_json_target(json_file)
    console = console_for(json_file, width=_TABLE_WIDTH)
    with failing_in_words():
        plan = Chaos(
            model=package_folder(model),
            images=solar_cells(),
            faults=faults if faults is not None else _FAULTS,
            seconds=seconds,
            seed=seed,
            parts_per_min=rate,
            deadline_us=deadline_us,
            gate_offset_pulses=gate_pulses,
            kinds=kind,
            mutant=controller,
            calm_s=calm,
        )
        console.print(f"{plan.faults} faults at {rate:g} parts a minute, seed {seed} ...")
        result = run_chaos(plan, lambda progress: console.print(_line(progress), soft_wrap=True))
    show(console, [_table(result), *_words(result)])
    write_json(json_file, result)
    failures = []
    if result["violations"]:
        failures.append(f"the promise did not hold: {len(result['violations'])} violations")
    if result["faults"] < (faults if faults is not None else 1):
        failures.append(f"{result['faults']} of {plan.faults} faults dealt: {result['cut_short']}")
    # Of the whole deck some may be missing, and are said to be; what was asked for by name may not.
    missing = [name for name in kind or () if name in result["not_run"]]
    if missing:
        failures.append(f"asked for and not run: {', '.join(missing)}")
    if failures:
        raise fail("; ".join(failures))


def _line(progress: Progress) -> str:
    recovered = "NOT RECOVERED" if progress.recovery_s is None else f"judging again after {progress.recovery_s:.2f} s"
    return f"{progress.episode:4d} {progress.kind}: {progress.what}; {recovered}"


def _table(result: dict[str, Any]) -> Table:
    table = Table(title="What the books say, by kind of fault")
    table.add_column("fault", no_wrap=True)
    for title, _ in _COLUMNS:
        table.add_column(title, justify="right")
    table.add_column("recovery s, median / worst", justify="right")
    for kind, figures in result["kinds"].items():
        recovery = figures["recovery_s"]
        times = "" if recovery["worst"] is None else f"{recovery['median']:.2f} / {recovery['worst']:.2f}"
        table.add_row(kind, *(str(figures[name]) for _, name in _COLUMNS), times)
    totals = result["totals"]
    table.add_row("all", str(result["faults"]), "", *(str(totals[name]) for _, name in _COLUMNS[2:]), "", style="bold")
    return table


def _words(result: dict[str, Any]) -> list[str]:
    calm, outside = result["no_decision_without_faults"], result["no_decision_outside_faults"]
    said = [
        f"NO_DECISION without faults: {_share(calm)}; outside [fault, recovery]: {_share(outside)}",
        f"{result['faults']} of {result['faults_asked']} faults dealt"
        + (f": {result['cut_short']}" if result["cut_short"] is not None else ""),
        *(f"not run: {kind}: {why}" for kind, why in result["not_run"].items()),
        *(f"VIOLATION {text}" for text in result["violations"][:_VIOLATIONS_SHOWN]),
    ]
    left_out = len(result["violations"]) - _VIOLATIONS_SHOWN
    return [*said, f"... and {left_out} more"] if left_out > 0 else said


def _share(figures: dict[str, Any]) -> str:
    if figures["share"] is None:
        return "no parts"
    low, high = figures["low"], figures["high"]
    return f"{figures['count']} of {figures['total']} ({100 * low:.3f} % to {100 * high:.3f} %)"
