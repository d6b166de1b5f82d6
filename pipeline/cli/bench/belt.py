"""``lineside bench belt`` and ``assembly``: parts that several cameras along the belt see, in the whole service and without it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from pipeline.bench.assembly import assembly as measure_assembly
from pipeline.bench.belt import belt as play_belt
from pipeline.cli.bench.measuring import expect_kept, failing_in_words, package_folder, solar_cells, tell, tell_progress
from pipeline.cli.bench.options import ModelOption, RateOption, SeedOption
from pipeline.cli.output import JsonOption, check_json_target
from pipeline.rehearsal import RehearsalRun

_PROGRESS_EVERY = 20


def belt(
    parts: Annotated[int, typer.Option(min=20, help="How many parts come down the line.")] = 20_000,
    rate: RateOption = 3_000.0,
    deadline_us: Annotated[
        int, typer.Option(min=5_000, max=9_999_999, help="From the last camera's trigger to the latest useful verdict.")
    ] = 150_000,
    seed: SeedOption = 0,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Two cameras apart on a belt at 0.2 to 2 times its speed, with stops and runs back, over the counter's wrap."""
    check_json_target(json_file)
    turns = 0

    def progress(run: RehearsalRun) -> None:
        nonlocal turns
        turns += 1
        if turns % _PROGRESS_EVERY == 1:
            line, gate = run.line.report(), run.controller.report()
            passed, late = gate["gate_passes"], gate["late_at_gate"]
            tell_progress(f"{line['parts_sent']}/{parts} parts, gate: {passed} passed, {late} verdicts late")

    with failing_in_words():
        result = play_belt(
            package_folder(model),
            solar_cells(),
            parts=parts,
            parts_per_min=rate,
            deadline_us=deadline_us,
            seed=seed,
            progress=progress,
        )
    tell(json_file, result, [_belt_table(result)])
    expect_kept(result["broken_promises"])


def assembly(
    parts: Annotated[int, typer.Option(min=1, help="Shared among all kinds of belts, one each at least.")] = 100_000,
    seed: SeedOption = 0,
    json_file: JsonOption = None,
) -> None:
    """Whose view is whose, on simulated belts where triggers, counts and parts go astray: the state machine alone."""
    check_json_target(json_file)
    result = measure_assembly(parts, seed)
    tell(json_file, result, [_assembly_table(result)])
    expect_kept(result["broken_promises"])


def _belt_table(result: dict[str, Any]) -> Table:
    summary, gate, truth = result["summary"], result["controller"], result["truth"]
    table = Table(title="A belt with two cameras along it", show_header=False, min_width=60)
    table.add_row("parts", str(result["line"]["parts_sent"]))
    stops, reversals = result["stops"], result["reversals"]
    table.add_row("changes of speed", f"{result['speed_changes']}, {stops} stops and {reversals} runs back among them")
    table.add_row("the counter wrapped", f"{result['wraps']} times")
    table.add_row(
        "PASS / REJECT / NO_DECISION", f"{summary['passed']} / {summary['rejected']} / {summary['no_decision']}"
    )
    table.add_row("reasons", "  ".join(f"{reason} {count}" for reason, count in summary["reasons"].items()))
    table.add_row("late verdicts / late at the gate", f"{summary['late_verdicts']} / {gate['late_at_gate']}")
    table.add_row("the gate's words", "  ".join(f"{why} {count}" for why, count in result["gate_words"].items()))
    table.add_row(
        "good rejected, defective passed", f"{truth['false_rejects']}, {truth['false_accepts']} (the model's)"
    )
    for name, count in result["broken_promises"].items():
        table.add_row(name.replace("_", " "), str(count))
    return table


def _assembly_table(result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['parts']} parts, {result['triggers']} triggers")
    table.add_column("cameras at")
    for title in ("parts", "good", "passed", "NO_DECISION", "wrong views", "wrong part passed", "other faults"):
        table.add_column(title, justify="right")
    for each in result["belts"]:
        undecided = sum(count for name, count in each["verdicts"].items() if name.startswith("NO_DECISION"))
        others = each["faults"] - each["wrong_views"] - each["wrong_part_passed"]
        figures = [each["parts"], each["good"], each["parts_passed"], undecided]
        figures += [each["wrong_views"], each["wrong_part_passed"], others]
        table.add_row(", ".join(map(str, each["plan"]["offsets_pulses"])), *map(str, figures))
    return table
