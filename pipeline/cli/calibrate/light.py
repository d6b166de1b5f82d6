"""``lineside calibrate light``: exposure, gain and focus, from pictures of a part that lies still."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from calibration.exposure import ExposureAdvice, advise_exposure, longest_exposure_us, motion_blur_px
from calibration.focus import BLUR_MAX_PX, TARGET_BLUR_PX, FocusAdvice, Sharpness, advise_focus, measure_sharpness
from calibration.refusal import Refusal
from calibration.scale import finest_mm_per_px
from pipeline.cli.calibrate.frames import Frames, frames_in
from pipeline.cli.calibrate.options import CameraOption, LineArgument, Station, station_of
from pipeline.cli.console import console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, spare_inputs, words, write_json
from pipeline.config_places import IMAGE_SUFFIXES
from vision.faults import Fault, FaultsError


@dataclass(frozen=True, slots=True)
class _Motion:
    """``blur_px``: how far a part moves while a picture is exposed as it is now."""

    mm_per_px: float
    exposure_max_us: float
    blur_px: float


def light(
    line_file: LineArgument,
    images: Annotated[
        Path,
        typer.Option(
            "--images",
            metavar="DIR",
            help="Pictures of one part that lies still; or a folder of them for each place of the focus ring, by name.",
        ),
    ],
    exposure_us: Annotated[float, typer.Option(min=0.1, help="What the camera exposes now; with a strobe, its flash.")],
    gain_db: Annotated[float, typer.Option(help="What the camera amplifies by now; 20 dB are ten times.")] = 0.0,
    gain_max_db: Annotated[float, typer.Option(min=0.0, help="The most that may be advised.")] = 12.0,
    belt_mm_per_s: Annotated[
        float, typer.Option(min=0.0, help="The highest belt speed; 0 where parts stand still for the picture.")
    ] = 0.0,
    blur_max_px: Annotated[float, typer.Option(min=0.01, help="So far may a part move in one picture.")] = 0.5,
    mm_per_px: Annotated[
        float | None, typer.Option(help="Only where no geometry is calibrated: it is taken from there.")
    ] = None,
    focus_target_px: Annotated[
        float, typer.Option("--focus-target", min=0.1, help="How soft edges may be, in pixels.")
    ] = TARGET_BLUR_PX,
    camera_id: CameraOption = None,
    json_file: JsonOption = None,
) -> None:
    """Say what to do about exposure, gain and focus; unattended, from pictures. Nothing is kept.

    Status 0 where nothing need be changed, 1 where something should be, or the pictures do not tell.
    """
    check_json_target(json_file)
    spare_inputs({"--json": json_file}, images)
    _expect_numbers(exposure_us=exposure_us, gain_db=gain_db, gain_max_db=gain_max_db, focus_target=focus_target_px)
    station = station_of(line_file, camera_id, None)
    motion = _motion(station, exposure_us, belt_mm_per_s, blur_max_px, mm_per_px)
    readings = [frames_in(folder, station) for folder in _folders(images)]
    out = words(json_file)
    sharpness = []
    for frames in readings:
        frames.expect_distinct()
        found = measure_sharpness(frames.pixels)
        print(f"pictures  {frames.folder.name}: {_softness(frames, found)}", file=out, flush=True)
        sharpness.append(found)
    exposure = advise_exposure(
        readings[-1].pixels,
        exposure_time_us=exposure_us,
        gain_db=gain_db,
        exposure_max_us=math.inf if motion is None else motion.exposure_max_us,
        gain_max_db=gain_max_db,
    )
    known = [each for each in sharpness if isinstance(each, Sharpness)]
    refusals = [each for each in sharpness if isinstance(each, Refusal)]
    focus = None if refusals else advise_focus([each.blur_px for each in known], focus_target_px)
    show(console_for(json_file), _told(exposure, motion, focus, known, refusals))
    write_json(json_file, _result(exposure, motion, focus, known, refusals))
    to_do = [
        *(["exposure"] if not exposure.is_good else []),
        *(["focus"] if focus is None or not (focus.is_sharp and focus.is_near_best) else []),
    ]
    if to_do:
        raise fail(f"not as it should be yet: {' and '.join(to_do)}")


def _expect_numbers(**given: float) -> None:
    for name, value in given.items():
        if not math.isfinite(value):
            raise fail(f"--{name.replace('_', '-')}: got {value}, expected a number", 2)


def _motion(
    station: Station, exposure_us: float, belt_mm_per_s: float, blur_max_px: float, mm_per_px: float | None
) -> _Motion | None:
    """None where the belt stands. Ends the command where nobody says how large a pixel is, or two do."""
    geometry = station.before.geometry
    if geometry is not None and mm_per_px is not None:
        finest = finest_mm_per_px(geometry.camera)
        raise fail(f"--mm-per-px: got {mm_per_px:g}, expected none: the geometry in force says {finest:.4f}", 2)
    _expect_numbers(belt_mm_per_s=belt_mm_per_s, blur_max_px=blur_max_px, mm_per_px=mm_per_px or 0.0)
    if belt_mm_per_s == 0.0:
        return None
    if geometry is not None:
        mm_per_px = finest_mm_per_px(geometry.camera)
    elif mm_per_px is None:
        expected = "how large a pixel is on the part, or a calibrated geometry (lineside calibrate geometry)"
        raise fail(f"--mm-per-px: got none, expected {expected}", 2)
    try:
        exposure_max_us = longest_exposure_us(
            belt_speed_mm_per_s=belt_mm_per_s, mm_per_px=mm_per_px, blur_max_px=blur_max_px
        )
    except ValueError as error:
        raise fail(str(error), 2) from None
    blur_px = motion_blur_px(exposure_time_us=exposure_us, belt_speed_mm_per_s=belt_mm_per_s, mm_per_px=mm_per_px)
    return _Motion(mm_per_px, exposure_max_us, blur_px)


def _folders(images: Path) -> list[Path]:
    """Itself, or those in it by name. Raises FaultsError."""
    try:
        folders = sorted(each for each in images.iterdir() if each.is_dir())
        if folders and (
            beside := sorted(each.name for each in images.iterdir() if each.suffix.lower() in IMAGE_SUFFIXES)
        ):
            expected = "pictures, or folders of them"
            raise FaultsError([Fault(str(images), "", f"{beside[0]} beside {folders[0].name}", expected)])
    except OSError as error:
        raise FaultsError([Fault(str(images), "", str(error.strerror), "a folder of pictures")]) from error
    return folders or [images]


def _softness(frames: Frames, found: Sharpness | Refusal) -> str:
    count = f"{len(frames.names)} of them"
    if isinstance(found, Refusal):
        return f"{count}, NOT USED: {found.reason}"
    if found.blur_px >= BLUR_MAX_PX:
        return f"{count}, edges {BLUR_MAX_PX:g} px soft or more, or these are not pictures of one view that lies still"
    return f"{count}, edges {found.blur_px:.2f} px soft (95 %: {found.low_px:.2f} to {found.high_px:.2f} px)"


def _told(
    exposure: ExposureAdvice,
    motion: _Motion | None,
    focus: FocusAdvice | None,
    known: list[Sharpness],
    refusals: list[Refusal],
) -> Iterator[str]:
    if motion is not None:
        now = f"now a part moves by {motion.blur_px:.2f} px"
        yield f"longest   {motion.exposure_max_us:.0f} us, at {motion.mm_per_px:.4f} mm a pixel; {now}"
    yield f"exposure  {exposure.in_words()}"
    if focus is not None:
        yield f"focus     {_focus_words(focus, len(known))}"
    for refusal in refusals:
        yield f"refused   {refusal}"


def _focus_words(focus: FocusAdvice, count: int) -> str:
    if count > 1:
        return focus.in_words()
    seen = f"Edges are {focus.blur_px:.2f} px soft, at most {focus.target_blur_px:g} px are wanted"
    if focus.is_sharp:
        return f"{seen}: sharp enough."
    return f"{seen}: turn the focus ring, and take pictures at several places of it, a folder for each."


def _result(
    exposure: ExposureAdvice,
    motion: _Motion | None,
    focus: FocusAdvice | None,
    known: list[Sharpness],
    refusals: list[Refusal],
) -> dict[str, Any]:
    return {
        "exposure": dataclasses.asdict(exposure),
        "motion": None if motion is None else dataclasses.asdict(motion),
        "focus": None if focus is None else dataclasses.asdict(focus),
        "sharpness": [dataclasses.asdict(each) for each in known],
        "refusals": [dataclasses.asdict(each) for each in refusals],
    }
