"""``lineside bench``: the project's own measurements, each a command with options of its own."""

from __future__ import annotations

import typer

from pipeline.cli.bench.belt import assembly, belt
from pipeline.cli.bench.calibrate_geometry import calibrate_geometry
from pipeline.cli.bench.calibrate_threshold import calibrate_threshold
from pipeline.cli.bench.calibrate_timing import calibrate_timing
from pipeline.cli.bench.chaos import chaos
from pipeline.cli.bench.drift import drift
from pipeline.cli.bench.outage import outage
from pipeline.cli.bench.plain import cameras, capacity, decode, handover, line, preprocess, registration
from pipeline.cli.bench.record import record
from pipeline.cli.bench.record_kills import record_kills
from pipeline.cli.bench.record_latency import record_latency
from pipeline.cli.bench.record_power import record_power
from pipeline.cli.bench.replay import replay
from pipeline.cli.bench.soak import soak
from pipeline.cli.bench.tampering import tampering
from pipeline.cli.bench.teach import teach

bench = typer.Typer(
    name="bench",
    help="Measure: each against a named alternative, or against time, in one run on this box.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    chaos,
    soak,
    outage,
    belt,
    assembly,
    tampering,
    replay,
    record,
    record_kills,
    record_latency,
    record_power,
    line,
    capacity,
    cameras,
    handover,
    preprocess,
    registration,
    decode,
    calibrate_geometry,
    calibrate_threshold,
    calibrate_timing,
    drift,
    teach,
):
    bench.command()(command)
