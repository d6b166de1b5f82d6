"""What a line's configuration says of times and places, against what was calibrated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from calibration.timing_figures import TimingFigures
from pipeline.calibration_file import CameraCalibration, TimingSection
from pipeline.config import Line
from pipeline.config_sections import DEADLINE_MAX_US
from pipeline.line_config import LineConfig
from vision.faults import Fault


def timings_in(calibrations: Iterable[CameraCalibration]) -> list[TimingSection]:
    """What was calibrated of a line's times, newest first: one, unless its cameras' were not kept together."""
    found = {each.timing.model_dump_json(): each.timing for each in calibrations if each.timing is not None}
    return sorted(found.values(), key=lambda section: section.made.at_utc, reverse=True)


def settings(figures: TimingFigures, config: LineConfig) -> dict[str, int]:
    """What belongs into the line's file, by key. The gate is measured from the last camera, and counted from the line's zero."""
    last_pulses = max(camera.belt_offset_pulses for camera in config.cameras)
    return {
        "timing.deadline_us": min(figures.deadline_max_us, DEADLINE_MAX_US),
        "timing.guard_us": figures.guard_us,
        "encoder.reject_offset_pulses": figures.reject_offset_pulses + last_pulses,
    }


def differences(line: Line, figures: TimingFigures) -> Iterator[Fault]:
    """Where the configuration promises less than was calibrated; nothing where it is as safe, or safer."""
    file, timing, encoder = str(line.file), line.config.timing, line.config.encoder
    deadline_us, guard_us, offset = settings(figures, line.config).values()
    if timing.deadline_us > deadline_us:
        expected = f"at most {deadline_us}: at {figures.speed_max_mm_s:g} mm/s the part is at the gate then"
        yield Fault(file, "timing.deadline_us", str(timing.deadline_us), expected)
    if timing.guard_us < guard_us:
        expected = f"at least {guard_us}: so long a verdict may take to arrive"
        yield Fault(file, "timing.guard_us", str(timing.guard_us), expected)
    if timing.deadline_us - timing.guard_us < figures.deadline_min_us - guard_us:
        least_us = figures.deadline_min_us - guard_us + timing.guard_us
        expected = f"at least {least_us}, or more than {figures.late_share_max:g} of all parts are not judged in time"
        yield Fault(file, "timing.deadline_us", str(timing.deadline_us), expected)
    if encoder is None:
        yield Fault(file, "encoder", "none", f"reject_offset_pulses: {offset}, or no gate knows which part is meant")
    elif encoder.reject_offset_pulses != offset:
        expected = f"{offset}: the gate's window of +-{figures.window_pulses} is around that"
        yield Fault(file, "encoder.reject_offset_pulses", str(encoder.reject_offset_pulses), expected)
