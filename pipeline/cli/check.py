"""``lineside check``: does everything an engineer wrote fit together?"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from pipeline.calibrated_line import calibration_warnings, camera_calibrations, open_calibrated
from pipeline.calibrated_timing import differences, timings_in
from pipeline.calibration_file import CameraCalibration, TimingSection
from pipeline.camera_config import Camera, DeviceCamera, GenicamCamera, TriggerNotices
from pipeline.cameras import missing
from pipeline.cli.output import fail
from pipeline.config import Line, load_line
from pipeline.config_sections import ImagesConfig
from pipeline.line_config import LineConfig
from pipeline.line_inspector import unverified
from pipeline.model_probe import probe_model
from vision.faults import one_line
from vision.geometry import row_geometry
from vision.model_input import ModelInput
from vision.package import load_package
from vision.recipe import Finding, Recipe, Rule
from vision.runtime import InferenceError, RuntimeProviderError


def check(config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The line's YAML file.")]) -> None:
    """Validate configuration, recipe and model together, and print what will run."""
    line = load_line(config)
    try:
        package = load_package(line.recipe.model)
        # First elsewhere: a model that never ends would hold this command up for ever, deaf to Ctrl-C.
        probe_model(line.recipe.model, batch_rows=line.recipe.region_count)
        _, session = open_calibrated(line, package, tell=lambda text: print(text, file=sys.stderr))
    except (RuntimeProviderError, InferenceError) as error:
        raise fail(str(error)) from None
    recipe, timing = line.recipe, line.config.timing
    print(f"line      {line.config.topic_root}")
    print(f"recipe    {recipe.recipe_id} {recipe.recipe_version}")
    print(f"model     {recipe.model} sha256 {session.fingerprint['model_sha256']}")
    print(f"runtime   {session.provider_words}, batch of {session.batch_rows}")
    for reason in session.passed_over:
        print(f"          not {reason}")
    warning = unverified(line, package, session)
    print(f"verified  {'NO' if warning else 'yes'}, fingerprint {session.fingerprint_sha256[:12]}")
    calibrations = camera_calibrations(line)
    lacking = []
    for camera in line.config.cameras:
        print(
            f"camera    {camera.camera_id}: {camera.kind}, {camera.width_px}x{camera.height_px} "
            f"{camera.pixel_format.value}, {camera.ring_slots} slots{_place_on_belt(line.config, camera)}"
            f"{_calibrated(line, camera.camera_id, calibrations)}"
        )
        if isinstance(camera, DeviceCamera) and camera.trigger_notices is not None:
            print(f"triggers  {_triggers(line, camera, camera.trigger_notices)}")
        if (text := missing(camera)) is not None:
            lacking.append(f"camera {camera.camera_id}: {text}")
    for text in _matching(line.config):
        print(f"parts     {text}")
    if len(line.calibration_ids) > 1:
        print(f"calibration {line.calibration_id} of all cameras together, in `state` and results")
    for text in _unseen(recipe, package.card.input):
        print(f"unseen    {text}")
    for rule in recipe.rules:
        print(f"reject    {_rule(rule)}")
    for one in recipe.required:
        print(f"reject    fewer than {one.count} {one.class_name} at {one.found_at_score:g} or more{_where(one)}")
    print(f"timing    deadline {timing.deadline_us} us, guard {timing.guard_us} us, budget {timing.budget_us} us")
    for text in _timing_told(line, timings_in(calibrations.values())):
        print(f"timing    {text}")
    print(f"broker    {line.config.mqtt.host}:{line.config.mqtt.port}, MQTT {line.config.mqtt.protocol}")
    if line.config.images is not None:
        print(f"images    {_images(line.config.images)}")
    if line.config.recording is not None:
        recording = line.config.recording
        print(
            f"recording {_place(recording.path)}, at most {recording.max_s:g} s and {recording.max_gib:g} GiB a window, "
            f"{recording.free_min_gib:g} GiB stay free"
        )
    for text in calibration_warnings(line):
        print(f"NOT AS CALIBRATED: {text}")
    print(f"records   {line.config.records.path}, on_record_fault {line.config.records.on_record_fault}")
    if lacking:
        raise fail("\n".join(lacking))
    if warning and line.config.runtime.on_unverified == "refuse":
        raise fail(warning)
    for text in filter(None, (warning, *_doubts(line.config))):
        print(f"lineside: warning: {text}", file=sys.stderr)


def _place_on_belt(config: LineConfig, camera: Camera) -> str:
    has_place = config.is_along_the_belt or camera.belt_offset_pulses > 0
    return f", {camera.belt_offset_pulses} pulses down the belt" if has_place else ""


def _matching(config: LineConfig) -> Iterator[str]:
    """How the views of one part are found; nothing where there is one camera."""
    encoder = config.encoder
    if len(config.cameras) == 1:
        return
    counts = f"encoder counts within {encoder.match_pulses} pulses of each other" if encoder is not None else ""
    if not config.is_along_the_belt:
        window = f"triggers within {config.view_wait_us} us of each other"
        if config.has_told_triggers:
            by = counts or "part_key"
            if counts and config.keys_join:
                by += ", or by part_key where a notice tells no count"
            yield f"views of one part by {by}"
        elif encoder is not None and all(camera.tells_encoder_count for camera in config.cameras):
            yield f"views of one part by {counts}"
        elif encoder is not None and any(camera.tells_encoder_count for camera in config.cameras):
            yield f"views of one part by {counts}, or by {window} where a camera tells no count"
        else:
            yield f"views of one part by {window}"
        return
    assert encoder is not None
    apart = f"parts lie more than {config.apart_pulses:.0f} apart"
    yield f"views of one part by {counts}, each camera's place taken off; {apart}"
    yield (
        f"from the first camera's trigger {config.assembly_limit_us} us to the last one's, with which the deadline begins; "
        f"belt at most {encoder.speed_max_pulses_per_s:g} pulses/s"
    )


def _doubts(config: LineConfig) -> Iterator[str]:
    """What can be run and is hardly meant; an empty text where there is nothing to say."""
    yield _unmatched(config)
    yield _unread(config)
    yield _made_up(config)
    yield _fired(config)
    yield _over_budget(config)


def _made_up(config: LineConfig) -> str:
    names = ", ".join(camera.camera_id for camera in config.cameras if camera.kind in ("rtsp", "v4l2", "video"))
    text = "what is damaged or missing of a picture is made up from the one before, by decoder or driver, and nobody is told"
    return f"{names}: {text}: not for parts that count (docs/cameras.md)" if names else ""


def _fired(config: LineConfig) -> str:
    cameras = [camera for camera in config.cameras if isinstance(camera, DeviceCamera) and camera.trigger == "software"]
    names = ", ".join(camera.camera_id for camera in cameras)
    text = "a message that is held up takes its picture late, of what is there by then, and nothing tells where no part follows"
    return (
        f"{names}: trigger: software: {text}: use a trigger line for parts that count (docs/triggers.md)"
        if names
        else ""
    )


def _unmatched(config: LineConfig) -> str:
    """Cameras whose views can hardly be known to be of one part; empty where there are none."""
    blind = [camera for camera in config.cameras if not camera.tells_encoder_count]
    if len(config.cameras) == 1 or not blind:
        return ""
    names = ", ".join(f"{camera.camera_id} ({camera.kind})" for camera in blind)
    return f"several cameras, and no encoder count comes with the triggers of {names}: {_by_moments(config)}"


def _unread(config: LineConfig) -> str:
    """Cameras with counts that join no views; empty where there are none."""
    counting = [camera for camera in config.cameras if isinstance(camera, GenicamCamera) and camera.encoder_chunk]
    if len(config.cameras) == 1 or config.encoder is not None or not counting:
        return ""
    names = ", ".join(camera.camera_id for camera in counting)
    text = f"several cameras without encoder: nothing joins views by the counts that {names} tell (encoder_chunk)"
    return text if config.has_told_triggers else f"{text}; {_by_moments(config)}"


def _by_moments(config: LineConfig) -> str:
    return (
        f"their views are one part only where they are triggered within view_wait_us {config.view_wait_us} us of each other, as "
        f"by one signal; where each runs by its own clock, every part is NO_DECISION"
    )


def _over_budget(config: LineConfig) -> str:
    """Cameras whose frames may wait for messages longer than a part should take; empty where there are none."""
    timing = config.timing
    told = [camera for camera in config.cameras if isinstance(camera, DeviceCamera)]
    slow = [camera for camera in told if camera.settling_us >= timing.budget_us]
    if not slow:
        return ""
    names = ", ".join(f"{camera.camera_id} {camera.settling_us} us" for camera in slow)
    enough_us = timing.budget_us + max(camera.settling_us for camera in slow)
    # As the line's configuration has it for frames that messages fire.
    fired_us = max((camera.settling_us for camera in slow if camera.trigger == "software"), default=0)
    least_us = enough_us + timing.guard_us + fired_us
    more = f" with a deadline_us of more than {least_us}" if fired_us and timing.deadline_us <= least_us else ""
    return (
        f"frames that come no later than their triggers' messages wait for others that may be held up ({names}), longer than "
        f"timing.budget_us {timing.budget_us}: the alarm over-budget would stand; {enough_us} would do{more} (docs/triggers.md)"
    )


def _triggers(line: Line, camera: DeviceCamera, notices: TriggerNotices) -> str:
    how = "by its trigger counter" if notices.match == "counter" else "by time"
    return (
        f"{camera.camera_id}: told on {notices.topic_of(line.config.topic_root, camera.camera_id)}, frames matched {how}, "
        f"exposed within +-{notices.pitch_us // 4} us of the measured delay"
    )


def _calibrated(line: Line, camera_id: str, calibrations: Mapping[str, CameraCalibration]) -> str:
    if line.config.calibrations is None:
        return ""
    calibration = calibrations.get(camera_id)
    if calibration is None:
        return ", calibration NONE"
    outdated = f"; OUTDATED: {', '.join(calibration.outdated)}" if calibration.outdated else ""
    return f", calibration {calibration.calibration_id}: {', '.join(calibration.made).replace('_', ' ')}{outdated}"


def _timing_told(line: Line, sections: Iterable[TimingSection]) -> Iterator[str]:
    """What was calibrated, and where the line's file promises less."""
    for section in sections:
        figures, made = section.figures, section.made
        found = f"verdicts within {figures.latency_us} us but for {figures.late_share_max:g} of all parts"
        window = f"gate's window +-{figures.window_pulses} pulses"
        yield one_line(f"calibrated by {made.by}, {made.at_utc}: {found}, {window}")
        for fault in differences(line, figures):
            yield f"NOT AS CALIBRATED: {fault}"


def _unseen(recipe: Recipe, model_input: ModelInput) -> Iterator[str]:
    """What a crop leaves out of the regions, to which no verdict applies."""
    for view in recipe.views:
        for region in view.regions:
            x1, y1, x2, y2 = row_geometry(region, model_input).shown_px
            share = (x2 - x1) * (y2 - y1) / (region.width_px * region.height_px)
            if share < 1.0 - 1e-9:
                shown = (
                    f"the model is shown the middle {x2 - x1:g}x{y2 - y1:g} px of {region.width_px}x{region.height_px}"
                )
                yield f"{view.camera_id}, region {region.name}: {shown} (fit: crop); {1 - share:.0%} of it is not looked at"


def _rule(rule: Rule) -> str:
    quantities = [] if rule.reject_at_count is None else [f"{rule.reject_at_count} together"]
    if rule.reject_at_total_area_px is not None:
        quantities.append(f"{rule.reject_at_total_area_px:g} px of area together")
    enough = f", {' or '.join(quantities)}" if quantities else ""
    return f"{rule.class_name} at {rule.reject_at_score:g} or more{_where(rule)}{enough}"


def _where(one: Finding) -> str:
    words = "" if one.camera_id is None else f", seen by {one.camera_id}"
    if (zone := one.zone) is not None:
        words += f", within {zone.width_px}x{zone.height_px} px at {zone.x_px},{zone.y_px}"
    least = {"wide": one.min_width_px, "high": one.min_height_px, "of area": one.min_area_px}
    return words + "".join(f", at least {least_px:g} px {what}" for what, least_px in least.items() if least_px)


def _images(images: ImagesConfig) -> str:
    kept = f"{images.format}, at most {images.max_gib:g} GiB, {images.free_min_gib:g} GiB stay free"
    return f"{images.path}, {kept}{_not_writable(images.path)}"


def _place(path: Path) -> str:
    return f"{path}{_not_writable(path)}"


def _not_writable(path: Path) -> str:
    there = next(folder for folder in (path, *path.parents) if os.access(folder, os.F_OK))
    # Not a fault: as with a full disk, the service starts, says so and tries again.
    return "" if os.access(there, os.W_OK | os.X_OK) else f"; NOT WRITABLE NOW: {there}"
