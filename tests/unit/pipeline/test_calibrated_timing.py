"""A line's file against what was calibrated of its times: whatever promises less is told, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calibration.timing_figures import TimingFigures
from pipeline.calibrated_line import camera_calibrations
from pipeline.calibrated_timing import differences, settings, timings_in
from pipeline.calibration_file import CalibrationStore, CameraCalibration, TimingSection, made_now
from pipeline.calibration_store import NEW
from pipeline.config import Line, load_line
from pipeline.config_sections import DEADLINE_MAX_US
from tests.service import write_line

FIGURES = TimingFigures(
    parts_count=2_995,
    late_share_max=0.001,
    confidence=0.95,
    latency_us=12_000,
    guard_us=2_500,
    deadline_min_us=13_000,
    deadline_max_us=60_000,
    pulses_per_mm=9.87,
    pulses_per_mm_error=0.006,
    gate_mm=80.0,
    gate_tolerance_mm=0.5,
    gate_min_mm=31.0,
    speed_max_mm_s=1_000.0,
    part_length_mm=15.0,
    pitch_mm=45.0,
    controller_us=12_000.0,
    trigger_jitter_us=200.0,
    reject_offset_pulses=790,
    window_pulses=12,
    window_max_pulses=222,
)


def line_of(folder: Path, timing: dict[str, int], encoder: dict[str, int] | None) -> Line:
    changes: dict[str, Any] = {"timing": timing, "calibrations": "calibrations"}
    return load_line(write_line(folder, 1883, **changes, **({} if encoder is None else {"encoder": encoder})))


def test_what_is_to_be_set_is_as_calibrated(tmp_path: Path) -> None:
    config = line_of(tmp_path, {"deadline_us": 40_000}, {"reject_offset_pulses": 790}).config
    wanted = settings(FIGURES, config)
    timing = {"deadline_us": wanted["timing.deadline_us"], "guard_us": wanted["timing.guard_us"]}
    offset = {"reject_offset_pulses": wanted["encoder.reject_offset_pulses"]}
    assert not list(differences(line_of(tmp_path, timing, offset), FIGURES))
    slow = FIGURES.model_copy(update={"deadline_max_us": 20_000_000})
    assert settings(slow, config)["timing.deadline_us"] == DEADLINE_MAX_US
    # Measured from the last camera, counted from the line's zero.
    cameras = [config.cameras[0].model_copy(update={"belt_offset_pulses": offset}) for offset in (0, 300)]
    along = config.model_copy(update={"cameras": cameras})
    assert settings(FIGURES, along)["encoder.reject_offset_pulses"] == 790 + 300


@pytest.mark.parametrize(
    ("timing", "encoder", "told"),
    [
        ({"deadline_us": 59_000, "guard_us": 3_000}, {"reject_offset_pulses": 790}, []),
        ({"deadline_us": 60_001, "guard_us": 2_500}, {"reject_offset_pulses": 790}, ["timing.deadline_us: got 60001"]),
        ({"deadline_us": 60_000, "guard_us": 2_499}, {"reject_offset_pulses": 790}, ["timing.guard_us: got 2499"]),
        (
            {"deadline_us": 13_000, "guard_us": 3_000},
            {"reject_offset_pulses": 790},
            ["timing.deadline_us: got 13000, expected at least 13500"],
        ),
        (
            {"deadline_us": 60_000, "guard_us": 2_500},
            {"reject_offset_pulses": 791},
            ["encoder.reject_offset_pulses: got"],
        ),
        ({"deadline_us": 60_000, "guard_us": 2_500}, None, ["encoder: got none, expected reject_offset_pulses: 790"]),
    ],
)
def test_what_promises_less_is_told(
    tmp_path: Path, timing: dict[str, int], encoder: dict[str, int] | None, told: list[str]
) -> None:
    found = [str(fault) for fault in differences(line_of(tmp_path, timing, encoder), FIGURES)]
    assert len(found) == len(told)
    for text, words in zip(found, told, strict=True):
        assert words in text


def test_what_is_in_force_is_kept_with_each_camera(tmp_path: Path) -> None:
    file = write_line(tmp_path, 1883, calibrations="calibrations")
    section = TimingSection(made=made_now("Anna", []), figures=FIGURES)
    beginning = CameraCalibration(
        calibration_id=NEW, recipe_id="stub", camera_id="cam0", width_px=32, height_px=32, timing=section
    )
    CalibrationStore(tmp_path / "calibrations").keep(beginning)
    calibrations = camera_calibrations(load_line(file))
    without = beginning.model_copy(update={"timing": None})
    assert timings_in([*calibrations.values(), *calibrations.values(), without]) == [section]
