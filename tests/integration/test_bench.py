"""``lineside bench``: short runs of the suites that play the whole line, as somebody types them."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.models import write_stub_package
from tests.service import lineside

SUITES = (
    "line",
    "capacity",
    "handover",
    "preprocess",
    "registration",
    "decode",
    "soak",
    "outage",
    "belt",
    "assembly",
    "record",
    "record-kills",
    "record-latency",
    "record-power",
    "replay",
    "calibrate-threshold",
    "calibrate-timing",
    "drift",
    "teach",
)
_MOUNTS = "import sys, pathlib; from pipeline.bench.chaos.disk import *; BlockDisk(pathlib.Path(sys.argv[1]), 1 << 24).close()"
SERVICE = {"supervisor", "acquisition", "inspection", "signalling", "records"}


def measured(folder: Path, *arguments: str, timeout_s: float = 100.0) -> dict[str, Any]:
    """The result of ``lineside bench`` with the stub model."""
    model, file = write_stub_package(folder / "model"), folder / "result.json"
    done = lineside("bench", *arguments, "--model", model, "--json", file, timeout_s=timeout_s)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(file.read_text())
    assert not any(result["broken_promises"].values())
    return result


def test_every_suite_has_help_of_its_own() -> None:
    listed = lineside("bench", "--help").stdout
    for suite in SUITES:
        assert suite in listed
    told = lineside("bench", "soak", "--help").stdout
    assert "--minutes" in told
    assert "--windows" not in told


def test_assembly_tells_whose_views_went_astray(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    done = lineside("bench", "assembly", "--parts", "900", "--json", file, timeout_s=100.0)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["parts"] == 900
    assert not any(result["broken_promises"].values())
    assert result["parts_passed"] > 500


@pytest.mark.parametrize(
    "arguments",
    [("nosuch",), ("soak",), ("soak", "--minutes", "0"), ("outage", "--windows", "0"), ("line", "--seconds", "1")],
)
def test_bad_usage(arguments: tuple[str, ...]) -> None:
    assert lineside("bench", *arguments).returncode == 2


@pytest.mark.slow
def test_soak(tmp_path: Path) -> None:
    result = measured(tmp_path, "soak", "--minutes", "0.1", "--rate", "1200")
    assert set(result["processes"]) == SERVICE
    for told in result["processes"].values():
        assert told["incarnations"] == 1
        assert 0 < told["anonymous_bytes"]["last"] < told["rss_bytes"]["last"]
        assert told["descriptors"]["told"] == "not told"
        assert told["descriptors"]["explanation"] == "too few samples"
    for series in result["series"]["processes"].values():
        assert len({len(column) for column in series.values()}) == 1
        assert len(series["at_s"]) >= 2
    triggered = result["summary"]["parts_triggered"]
    assert triggered == result["truth"]["line"]["triggers_sent"] == sum(each["parts"] for each in result["per_minute"])
    assert result["disk"]["database_bytes"]["last"] > 0
    assert 0.0 <= result["per_minute"][0]["stolen_share"] <= 1.0


@pytest.mark.slow
def test_outage(tmp_path: Path) -> None:
    result = measured(tmp_path, "outage", "--seconds", "2", "--windows", "2")
    assert list(result["faults"]) == ["frozen", "dead"]
    for fault, told in result["faults"].items():
        assert [window["is_faulty"] for window in told["windows"]] == [False, True] * 2
        for window in told["windows"]:
            assert window["inspection_us"]["count"] + window["never_judged"] == window["parts"] > 20
        assert f"broker {fault}: inspection's p50 differs by" in told["statement"]
        assert told["gate"]["parts_after_watchdog"] > 0
        assert told["gate"]["passed_after_watchdog"] == 0
    # A dead broker is noticed at once: parts are decided as NOT_RUNNING, and inspected all the same.
    dead = result["faults"]["dead"]["windows"][1]
    assert dead["not_running"] > 20
    assert dead["judged_late"] > 20


@pytest.mark.slow
def test_record_latency(tmp_path: Path) -> None:
    """With images the service is started anew before and after each window, and there are two of them."""
    result = measured_on_a_disk(tmp_path, "record-latency", "--seconds", "2", "--windows", "2", timeout_s=360)
    assert set(result["conditions"]) == {"records stopped", "disk stalls", "images of rejects", "images of all"}
    for condition, told in result["conditions"].items():
        assert [window["is_faulty"] for window in told["windows"]] == [False, True] * 2
        for window in told["windows"]:
            assert window["parts"] > 30
            assert window["outside_us"]["count"] > 30
        assert f"{condition}: trigger to heard's p50 differs by" in told["outside"]["statement"]
    # While records stands still nothing is recorded; all of it is later.
    assert all(window["caught_up_after_s"] > 0 for window in result["conditions"]["records stopped"]["windows"][1::2])


@pytest.mark.slow
def test_power_cuts(tmp_path: Path) -> None:
    """What was synced is there, what is lost is young, and the next start says so."""
    result = measured_on_a_disk(tmp_path, "record-power", "--cuts", "3", "--rate", "1200")
    assert result["power_cuts"] == 3
    assert all(each["rows_on_disk"] > 0 for each in result["each"])
    assert len({each["session_id"] for each in result["each"]}) == 3
    # Where nothing is lost at all, no power was cut.
    assert result["rows_lost"] > 0


@pytest.mark.slow
def test_replay(tmp_path: Path) -> None:
    """With the shipped model, as the stub's scores are 0 or 1, and no threshold between them flips anything."""
    file = tmp_path / "result.json"
    short = ("--parts", "60", "--rate", "1200", "--round-parts", "30", "--rounds", "2")
    done = lineside("bench", "replay", *short, "--json", file, timeout_s=100.0)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["window"]["identical"] == result["window"]["compared"] > 30
    assert result["another_threshold"]["flipped_as_they_must"] == result["another_threshold"]["must_flip"]
    for told in (result["one_process"], result["several_processes"]):
        assert told["replay_parts_per_s"] > 0 < told["bare_parts_per_s"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="needs the extra demo (elpv-dataset)")
def test_threshold_and_drift(tmp_path: Path) -> None:
    """With the shipped model, whose scores are those of real parts."""
    for arguments in (
        # Of seed 1 the first 200 of two classes are an unlikely draw (p 0.0004; of all 4,000 of them 0.59).
        ("calibrate-threshold", "--calibrations", "20", "--seed", "2"),
        ("drift", "--shifts", "10", "--shift-parts", "500"),
    ):
        file = tmp_path / f"{arguments[0]}.json"
        done = lineside("bench", *arguments, "--json", file, timeout_s=110.0)
        assert done.returncode == 0, done.stderr
        result = json.loads(file.read_text())
        assert result["suite"] == arguments[0]
        assert not any(result["broken_promises"].values())


def measured_on_a_disk(folder: Path, *arguments: str, timeout_s: float = 100.0) -> dict[str, Any]:
    """Skips where no disk can be mounted."""
    try:
        disk = subprocess.run(
            [sys.executable, "-c", _MOUNTS, str(folder / "probe")], capture_output=True, text=True, check=False
        )
    finally:
        (folder / "probe.img").unlink(missing_ok=True)
    if disk.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {disk.stderr.strip().splitlines()[-1]}")
    return measured(folder, *arguments, timeout_s=timeout_s)


def test_tampering(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    done = lineside("bench", "tampering", "--rows", "1000", "--tamperings", "24", "--json", file)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    assert result["found_with_anchor"] == result["tamperings"] == 24
    assert result["not_found_without_anchor"] == ["truncation", "recomputed_tail"]
    assert "not found without an anchor: truncation (4 of 4), recomputed_tail (4 of 4)" in done.stdout
    lineside("bench", "tampering", "--rows", "1000", "--tamperings", "24", "--json", tmp_path / "again.json")
    again = json.loads((tmp_path / "again.json").read_text())["each"]
    assert [(each["kind"], each["done"]) for each in again] == [(each["kind"], each["done"]) for each in result["each"]]


def test_teach(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    short = ("--set", "rendered-grey", "--most", "30", "--splits", "2", "--apart")
    done = lineside("bench", "teach", *short, "--json", file, timeout_s=100.0)
    assert done.returncode == 0, done.stderr
    result = json.loads(file.read_text())
    told = result["sets"]["rendered-grey"]
    assert (result["part"], told["good"], told["defective"]) == ("report", 30, 30)
    for method, row in told["methods"].items():
        assert method in done.stdout
        assert len(row["auroc"]["of_splits"]) == 2
        assert row["score_us"]["p50"] > 0 < row["fit_ms"]
    assert "rendered-grey (report): 30 good and 30 defective pictures, 240x320 px" in done.stdout


def test_teach_without_what_it_needs(tmp_path: Path) -> None:
    stranger = tmp_path / "stranger.json"
    stranger.write_text("no JSON")
    for arguments, status, words in (
        (("--set", "nosuch"), 2, "rendered-colour, and with --deeppcb DIR those of boards"),
        (("--others", stranger, "--apart"), 2, "of other splits"),
        (("--hidden-share", "0.01", "--set", "rendered-grey", "--most", "30"), 1, "so many that 0.01 of them is one"),
        (("--others", stranger), 2, "expected what scripts/anomalib_rivals.py wrote"),
    ):
        done = lineside("bench", "teach", *arguments)
        assert done.returncode == status, done.stderr
        assert words in done.stderr
        assert "Traceback" not in done.stderr
