"""``lineside bench calibrate-timing``: is the gate's window where calibration says, at any belt speed?"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from pipeline.bench.calibrate_timing import calibrate_timing_suite
from pipeline.cli.bench.measuring import (
    expect_kept,
    failing_in_words,
    package_folder,
    solar_cells,
    tell,
    tell_progress,
)
from pipeline.cli.bench.options import ModelOption
from pipeline.cli.output import JsonOption, check_json_target


def calibrate_timing(
    parts_each: Annotated[int, typer.Option(min=2, max=100_000, help="Played at each speed.")] = 150,
    calibration_parts: Annotated[int, typer.Option(min=1, max=100_000, help="Measured, at one speed.")] = 480,
    share: Annotated[float, typer.Option(min=0.0001, max=0.5, help="Stated, of parts that may be too late.")] = 0.01,
    operators: Annotated[
        int, typer.Option(min=1, max=100_000, help="So many others measure the same line with other tapes.")
    ] = 1_000,
    seed: Annotated[int, typer.Option(help="Of the line and of what is measured.")] = 1,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Calibrate the timing of a simulated line at one belt speed, by the command itself, and play it at 0.2 to 2 times that speed.

    Exit status 1 where a part is outside of the stated window, is taken for another, or more are too late than stated.
    """
    check_json_target(json_file)
    with failing_in_words():
        result = calibrate_timing_suite(
            package_folder(model),
            solar_cells(),
            parts_each=parts_each,
            calibration_parts=calibration_parts,
            share=share,
            operators=operators,
            seed=seed,
            progress=tell_progress,
        )
    tell(json_file, result, [*_words(result), _table(result)], width=140, highlight=False)
    expect_kept(result["broken_promises"])


def _words(result: dict[str, Any]) -> list[str]:
    truth, measured, found, scale = (result[key] for key in ("truth", "measured", "calibrated", "scale_error"))
    others, careless, less_true = (
        result[key] for key in ("other_operators", "careless_operators", "latency_found_less_true_us")
    )
    return [
        f"truth       gate at {truth['gate_mm']:.2f} mm, {truth['pulses_per_mm']} pulses per mm: {truth['gate_pulses']} pulses; "
        f"triggers up to {truth['trigger_jitter_us']:g} us late",
        f"measured    gate at {measured['gate_mm']:.2f} +- {measured['gate_tolerance_mm']:g} mm; "
        f"{', '.join(map(str, measured['pulses']))} pulses over {measured['tape_mm']:g} +- {measured['tape_tolerance_mm']:g} mm",
        f"calibrated  {found['reject_offset_pulses']} +- {found['window_pulses']} pulses, half a pitch "
        f"{found['window_max_pulses']}; {found['pulses_per_mm']:.4f} +- {scale['stated_error']:.4f} pulses per mm "
        f"(off by {scale['true_error']:.4f})",
        f"            verdicts within {found['latency_us']:.0f} us but for {found['share']:g}, guard {found['guard_us']} us, "
        f"deadline {found['deadline_max_us']} us, gate safe from {found['gate_min_mm']:.1f} mm on; {found['parts']} parts",
        f"            its latencies less the tap's: {less_true['p50']:+.0f} us median, {less_true['p99']:+.0f} p99",
        f"others      {others['with_parts_outside']} of {others['operators']} operators with a part outside of their window; the "
        f"largest error takes {others['largest_error_over_window']:.0%} of it",
        f"careless    {careless['with_parts_outside']} of {careless['operators']}, who are off by ten tolerances, are seen",
    ]


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=f"Calibrated at {result['truth']['speed_mm_s']:g} mm/s, played at other speeds")
    for column in (
        "speed",
        "parts",
        "error, pulses",
        "in window",
        "in time",
        "spare time, ms",
        "within stated time",
        "p99, us",
    ):
        table.add_column(column, justify="right")
    for speed, each in result["speeds"].items():
        error, window, in_time = each["error_pulses"], each["in_window"], each["verdict_in_time"]
        table.add_row(
            f"{speed} x",
            str(each["parts"]),
            f"{error['min']:+d} .. {error['max']:+d} of +-{each['window_pulses']}",
            f"{window['count']} of {window['total']}",
            f"{in_time['count']} of {in_time['total']}",
            "-" if each["earliness_min_us"] is None else f"{each['earliness_min_us'] / 1_000:.0f}",
            f"{each['within_stated_latency']['count']} of {each['within_stated_latency']['total']}",
            f"{each['latency_us']['p99']:.0f}",
        )
    return table
