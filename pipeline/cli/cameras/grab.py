"""``lineside cameras grab``: does a camera send, how fast, and what gets lost?"""

from __future__ import annotations

import math
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from pipeline.camera_config import AnyCamera, FolderCamera, VideoCamera
from pipeline.cameras import make_camera
from pipeline.cameras.base import CameraUnavailable, Fires
from pipeline.cli.cameras.figures import Figures, figures_of
from pipeline.cli.cameras.grabbing import GIVE_UP_S, Books, Grabbing, Plan
from pipeline.cli.cameras.hints import hints, why_silent
from pipeline.cli.cameras.options import CameraIdOption, camera_config_of, service_away
from pipeline.cli.cameras.picture import check_picture_target, write_picture
from pipeline.cli.console import at_work, console_for, show
from pipeline.cli.line_camera import OPEN_WITHIN_S, open_within
from pipeline.cli.output import JsonOption, check_json_target, fail, spare_inputs, write_json
from pipeline.clock import NS_PER_S, now_ns
from pipeline.config import Line, load_line
from pipeline.machine import NoRoom, expect_room

_FRAMES = 100
_RATE_HZ = 10.0
_RATE_MAX_HZ = 10_000.0
_DURATION_MAX_S = 1e6


def grab(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The line's YAML file.")],
    camera_id: CameraIdOption = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png", help="The last whole frame; replaces a PNG, nothing else. Else CAMERA_ID.png here."
        ),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help=f"End after so many; else {_FRAMES}.")
    ] = None,
    duration: Annotated[
        float | None,
        typer.Option(min=0.001, max=_DURATION_MAX_S, help="End after so many seconds; no limit to the frames then."),
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=1.0, max=_RATE_MAX_HZ, help=f"With trigger: software: triggers a second; else {_RATE_HZ:g}."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Take frames as the service takes them, write the last one as PNG, and tell rate, losses, time stamps and jitter.

    Ctrl-C ends with what was had. Without --duration it gives up after a minute without a frame. Status 0 where the frames came,
    whatever was lost between them; 1 where none or fewer came.
    """
    for option, number in (("--duration", duration), ("--rate", rate)):
        if number is not None and not math.isfinite(number):
            raise fail(f"{option}: got {number}, expected a number", 2)
    line = load_line(config)
    camera = camera_config_of(line, camera_id)
    plan = _plan(camera, frames, duration, rate)
    picture = Path(f"{camera.camera_id}.png") if out is None else out
    _spare_own_files(line, picture, json_file)
    check_picture_target(picture)
    check_json_target(json_file)
    try:
        expect_room([camera], 1)
    except NoRoom as error:
        raise fail(str(error)) from None
    console = console_for(json_file, highlight=False)
    with service_away(line), _interruptible() as should_end:
        _grab(camera, plan, picture, json_file, should_end, lambda lines: show(console, lines))


def _grab(
    config: AnyCamera,
    plan: Plan,
    picture: Path,
    json_file: Path | None,
    should_end: Callable[[], bool],
    tell: Callable[[Iterator[str]], None],
) -> None:
    driver, begin_ns = make_camera(config), now_ns()
    if plan.fire_hz is not None and not isinstance(driver, Fires):
        raise fail(
            f"camera {config.camera_id}: trigger: software: the driver of kind {config.kind} gives no software triggers; "
            "write another trigger"
        )
    try:
        with at_work(f"opening camera {config.camera_id} ..."):
            open_within(driver, OPEN_WITHIN_S, should_end)
    except CameraUnavailable as error:
        raise fail(str(error)) from None
    opened_s = (now_ns() - begin_ns) / NS_PER_S
    try:
        grabbing = Grabbing(config, driver, plan)
    except OSError as error:
        driver.close()
        raise fail(f"camera {config.camera_id}: no memory for its ring: {error.strerror}") from None

    def tell_silent(seconds: float) -> None:
        text = f"camera {config.camera_id}: no frame came in {seconds:g} s: {why_silent(config)}"
        print(f"{text}; waiting on, Ctrl-C ends", file=sys.stderr, flush=True)

    tell(_told_open(config, plan, opened_s))
    try:
        grabbing.run(tell_silent, should_end)
    finally:
        grabbing.close()
    books = grabbing.books
    figures = figures_of(books.stamps)
    hinted = list(hints(config, books, figures))
    tell(_told(books, figures))
    tell(f"look at   {each}" for each in hinted)
    frame = grabbing.frame()
    if frame is not None:
        write_picture(picture, frame)
        tell(iter([f"picture   {picture}"]))
    write_json(json_file, _result(config, books, figures, opened_s, hinted, picture if frame is not None else None))
    if reason := _why_failed(plan, books, was_ended=should_end()):
        raise fail(reason if books.lost_text else f"camera {config.camera_id}: {reason}")


def _plan(config: AnyCamera, frames: int | None, duration_s: float | None, rate_hz: float | None) -> Plan:
    trigger = getattr(config, "trigger", None)
    if rate_hz is not None and trigger != "software":
        raise fail(f"--rate: got {rate_hz:g}, expected a camera with trigger: software", 2)
    frames_max = _FRAMES if frames is None and duration_s is None else frames
    return Plan(frames_max, duration_s, (rate_hz or _RATE_HZ) if trigger == "software" else None)


def _spare_own_files(line: Line, picture: Path, json_file: Path | None) -> None:
    """A picture in a folder that a camera plays would be a part at the next start."""
    folders = [each.folder for each in line.config.cameras if isinstance(each, FolderCamera)]
    videos = [each.file for each in line.config.cameras if isinstance(each, VideoCamera)]
    inputs = [line.file, line.recipe_file, line.recipe.model, *folders, *videos]
    spare_inputs({"--out": picture, "--json": json_file}, *inputs)
    if json_file is not None and json_file.resolve() == picture.resolve():
        raise fail(f"--json: got {json_file}, expected another file than --out", 2)


@contextmanager
def _interruptible() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed: what was had by then is still told."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: pressed.append(number))
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, before)


def _why_failed(plan: Plan, books: Books, *, was_ended: bool) -> str:
    """Empty where what was asked for came."""
    got = len(books.stamps)
    after = f"in {books.elapsed_ns / NS_PER_S:.3g} s"
    if books.lost_text:
        return books.lost_text
    if not got:
        return f"no {'whole ' if books.bad else ''}frame came {after}"
    if was_ended or books.ran_out or plan.frames_max is None or got >= plan.frames_max:
        return ""
    if plan.fire_hz is not None and books.fired_count >= plan.frames_max:
        return f"{got} frames of {books.fired_count} software triggers"
    why = f"none came for {GIVE_UP_S:g} s" if books.gave_up else after
    return "" if plan.duration_s is not None else f"{got} frames of {plan.frames_max}: {why}"


def _told_open(config: AnyCamera, plan: Plan, opened_s: float) -> Iterator[str]:
    shape = f"{config.width_px}x{config.height_px} {config.pixel_format.value}"
    trigger = getattr(config, "trigger", None)
    yield f"camera    {config.camera_id}: {config.kind}, {shape}{f', trigger {trigger}' if trigger else ''}"
    limits = [f"{plan.frames_max} frames"] if plan.frames_max is not None else []
    limits += [f"{plan.duration_s:g} s"] if plan.duration_s is not None else []
    yield f"opened    in {opened_s:.2f} s; ends after {' or '.join(limits)}, or with Ctrl-C"


def _told(books: Books, figures: Figures) -> Iterator[str]:
    yield f"frames    {len(books.stamps)} in {books.elapsed_ns / NS_PER_S:.2f} s"
    if figures.rate_hz is not None:
        yield f"rate      {figures.rate_hz:.2f} frames/s, by time stamps"
    bad_count = books.bad.total()
    yield f"losses    {books.refused_count} refused, {bad_count} bad, {books.missed_count} missed"
    for text, count in books.bad.most_common():
        yield f"          {count} bad: {text}"
    if books.packets:
        yield f"packets   {', '.join(f'{count} {name}' for name, count in books.packets.items())}"
    if books.fired_count:
        fired = f"{books.fired_count} given, {books.not_ready_count} found the camera not ready"
        yield f"triggers  {fired}, {books.unanswered_count} without a frame"
    counts = [each.encoder_count for each in books.stamps if each.encoder_count is not None]
    if counts:
        yield f"encoder   {counts[0]} at the first frame, {counts[-1]} at the last"
    if figures.interval_us:
        interval = figures.interval_us
        yield f"interval  median {_ms(interval['p50'])}, {_ms(interval['min'])} to {_ms(interval['max'])}, exposure to exposure"
        yield f"jitter    off that median: {_percentiles(figures.jitter_us)}"
    if figures.to_memory_us:
        yield f"to memory {_percentiles(figures.to_memory_us)}, from the time stamp to the whole frame"


def _percentiles(found_us: dict[str, float]) -> str:
    return ", ".join(f"{name} {_ms(value_us)}" for name, value_us in found_us.items())


def _ms(value_us: float) -> str:
    return f"{value_us / 1000:.3f} ms"


def _result(
    config: AnyCamera, books: Books, figures: Figures, opened_s: float, hinted: list[str], picture: Path | None
) -> dict[str, Any]:
    first, last = (books.stamps[0], books.stamps[-1]) if books.stamps else (None, None)
    return {
        "camera_id": config.camera_id,
        "kind": config.kind,
        "width_px": config.width_px,
        "height_px": config.height_px,
        "pixel_format": config.pixel_format.value,
        "opened_s": round(opened_s, 3),
        "elapsed_s": round(books.elapsed_ns / NS_PER_S, 3),
        "triggers": books.trigger_count,
        "frames": len(books.stamps),
        "frames_refused": books.refused_count,
        "frames_bad": books.bad.total(),
        "frames_missed": books.missed_count,
        "bad": dict(books.bad),
        "packets": dict(books.packets),
        "software_triggers": {
            "fired": books.fired_count,
            "not_ready": books.not_ready_count,
            "unanswered": books.unanswered_count,
        },
        "rate_hz": None if figures.rate_hz is None else round(figures.rate_hz, 4),
        "interval_us": figures.interval_us,
        "jitter_us": figures.jitter_us,
        "to_memory_us": figures.to_memory_us,
        "exposure_ns": None if first is None or last is None else [first.exposure_ns, last.exposure_ns],
        "encoder_count": None if first is None or last is None else [first.encoder_count, last.encoder_count],
        "lost": books.lost_text or None,
        "hints": hinted,
        "picture": None if picture is None else str(picture),
    }
