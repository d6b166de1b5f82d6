"""``lineside bench soak``: a long run, and a table of what grew in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.bench.soak import soak as measure_soak
from pipeline.cli.bench.measuring import expect_kept, failing_in_words, package_folder, solar_cells, tell, tell_progress
from pipeline.cli.bench.options import ModelOption, RateOption
from pipeline.cli.output import JsonOption, check_json_target

_WORDS_EVERY_S = 60.0
_TABLE_WIDTH = 180
_MIB = 1 << 20
_MEASURES = (
    ("RSS, MiB", "rss_bytes", _MIB),
    ("PSS, MiB", "pss_bytes", _MIB),
    ("own memory, MiB", "anonymous_bytes", _MIB),
    ("descriptors", "descriptors", 1),
    ("threads", "threads", 1),
)


def soak(
    minutes: Annotated[float, typer.Option(min=0.05, max=100_000.0, help="How long parts come down the line.")],
    rate: RateOption = 6_000.0,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Whether anything grows or slows down in a long run: memory, descriptors, threads, disk, latency; per process."""
    check_json_target(json_file)
    progress_console = Console(stderr=True, markup=False)
    progress_console.print(f"{rate:g} parts a minute for {minutes:g} minutes ...")
    with failing_in_words():
        measure = partial(measure_soak, package_folder(model), solar_cells(), minutes=minutes, parts_per_min=rate)
        if progress_console.is_terminal:
            with Live(console=progress_console, refresh_per_second=2) as live:
                result = measure(progress=lambda figures: live.update(_display(minutes, figures)))
        else:
            result = measure(progress=_now_and_then(lambda figures: tell_progress(_line(figures))))
    tell(json_file, result, [_table(result), *_words(result)], width=_TABLE_WIDTH)
    expect_kept(result["broken_promises"])


def _now_and_then(call: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], None]:
    due_s = 0.0

    def progress(figures: dict[str, Any]) -> None:
        nonlocal due_s
        if figures["at_s"] >= due_s:
            due_s += _WORDS_EVERY_S
            call(figures)

    return progress


def _display(minutes: float, figures: dict[str, Any]) -> Table:
    stats, gate = figures["stats"], figures["gate"]
    latency = stats.get("latency_us", {})
    table = Table(title="Lineside soak", show_header=False, min_width=60)
    table.add_row("minutes", f"{figures['at_s'] / 60:.1f} of {minutes:g}")
    table.add_row("rate", f"{stats.get('rate_per_min', 0):.0f} a minute")
    table.add_row("latency, last second", f"p50 {latency.get('p50', 0)}  p99 {latency.get('p99', 0)} us")
    table.add_row("NO_DECISION", str(stats.get("no_decision", 0)))
    table.add_row("gate", f"{gate['gate_passes']} passed, {gate['gate_rejects']} rejected")
    for role, size in sorted(figures["pss_bytes"].items()):
        table.add_row(f"{role}, PSS", f"{size / _MIB:.1f} MiB")
    return table


def _line(figures: dict[str, Any]) -> str:
    stats = figures["stats"]
    latency = stats.get("latency_us", {})
    sizes = ", ".join(f"{role} {size / _MIB:.1f}" for role, size in sorted(figures["pss_bytes"].items()))
    return (
        f"{figures['at_s'] / 60:.1f} min, {stats.get('rate_per_min', 0):.0f}/min, no decision {stats.get('no_decision', 0)}, "
        f"latency p50 {latency.get('p50', 0)} p99 {latency.get('p99', 0)} us, PSS MiB: {sizes}"
    )


def _table(result: dict[str, Any]) -> Table:
    table = Table(title="At the end, and per hour with its 95 % interval")
    table.add_column("process")
    table.add_column("CPU", justify="right")
    for title, _, _ in _MEASURES:
        table.add_column(title, justify="right")
    for role, told in result["processes"].items():
        share = told["cpu_share"]
        table.add_row(
            role,
            "" if share is None else f"{100 * share:.1f} %",
            *(_cell(told[name], unit) for _, name, unit in _MEASURES),
        )
    return table


def _cell(told: dict[str, Any], unit: int) -> str:
    last = f"{told['last'] / unit:.1f}" if unit > 1 else str(told["last"])
    return f"{last}\n{_slope(told, unit)}"


def _slope(told: dict[str, Any], unit: float = 1) -> str:
    if told["per_hour"] is None:
        return str(told["told"])
    low, high = told["interval_95"]
    return f"{told['per_hour'] / unit:+.2f} ({low / unit:+.2f} .. {high / unit:+.2f}), {told['told']}"


def _words(result: dict[str, Any]) -> list[str]:
    disk, summary = result["disk"], result["summary"]
    explained = [
        f"{role} {name}: {told[name]['told']}: {told[name]['explanation']}"
        for role, told in result["processes"].items()
        for _, name, _ in _MEASURES
        if told[name]["explanation"] and told[name]["per_hour"] is not None
    ]
    return [
        *explained,
        *(f"UNEXPLAINED {name}" for name in result["unexplained"]),
        f"record: {disk['rows']} rows, {disk['database_bytes']['last'] / _MIB:.1f} MiB: {disk['database_bytes']['explanation']}",
        f"its write-ahead log, MiB an hour: {_slope(disk['wal_bytes'], _MIB)}",
        *(f"latency {name}, us an hour: {_slope(told)}" for name, told in result["latency_trend"].items()),
        _host_words(result),
        f"{summary['parts_triggered']} parts, {summary['rate_per_min']} a minute, {summary['reasons']}",
        f"verdicts on record as not sent: {result['verdicts_unsent']}",
        f"frame in memory -> socket, us: {summary['latency_us']}",
    ]


def _host_words(result: dict[str, Any]) -> str:
    shares = sorted(each["stolen_share"] for each in result["per_minute"] if each["stolen_share"] is not None)
    if not shares:
        return "the host's share of the cores: not known"
    median, most = 100 * shares[len(shares) // 2], 100 * shares[-1]
    return f"the host took {median:.2f} % of the cores in the median minute, {most:.2f} % in the worst"
