"""The page of a timing: also of one that was refused, of which little is known."""

from __future__ import annotations

from math import inf
from pathlib import Path

import pytest

from calibration.timing import BeltRun, Station, time_station
from pipeline.cli.calibrate.timing_page import timing_page
from pipeline.config import load_line
from pipeline.line_timing import PartTimes
from pipeline.report.page import render
from tests.service import write_line

STATION = Station(
    gate_mm=300.0,
    gate_tolerance_mm=0.5,
    speed_max_mm_s=1_000.0,
    part_length_mm=15.0,
    pitch_mm=45.0,
    controller_us=12_000.0,
    trigger_jitter_us=200.0,
)


@pytest.mark.parametrize(
    ("latency_us", "arrival_us", "words"),
    [
        (6_000.0, 900.0, "Calibrated"),
        (inf, 900.0, "parts not inspected"),
        (inf, inf, "verdicts missing"),
        (500_000.0, 900.0, "gate too near"),
    ],
)
def test_what_was_found_stands_on_the_page(tmp_path: Path, latency_us: float, arrival_us: float, words: str) -> None:
    times = [PartTimes(seq, "OK", "inspected", latency_us, arrival_us) for seq in range(59)]
    runs = [BeltRun(1_000.0, 0.5, 9_870)]
    report = time_station([latency_us] * 59, [arrival_us] * 59, runs, STATION, share=0.05)
    html = render(timing_page(load_line(write_line(tmp_path, 1883)), report, times, "<Anna>"))
    assert words in html
    assert "&lt;Anna&gt;" in html
    assert "9.8700" in html
