"""``lineside run``: the headless service."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.camera_config import FolderCamera, VideoCamera, resolved
from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.config import Line, load_line
from pipeline.machine import NoRoom, expect_room
from pipeline.messages import IMAGE_COUNTERS, WINDOW_COUNTERS, ServiceState
from pipeline.record.files import sealed_files
from pipeline.record.lock import RecordInUse
from pipeline.supervisor import Malformed, ServiceFailed, Supervisor
from pipeline.systemd import ServiceNotifier
from pipeline.words import Words


def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The line's YAML file.")],
    parts: Annotated[int | None, typer.Option(min=1, help="Stop when so many parts have their verdict.")] = None,
    duration: Annotated[float | None, typer.Option(min=0.0, max=1e9, help="Stop so many seconds after READY.")] = None,
    record_s: Annotated[
        float | None,
        typer.Option(min=0.001, help="Record the first so many seconds, every frame, for lineside replay."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Run the inspection service until SIGTERM, SIGINT or SIGHUP; parts in flight are finished first.

    Prints READY when warm and RUNNING when it judges production.
    """
    for option, seconds in (("--duration", duration), ("--record-s", record_s)):
        if seconds is not None and not math.isfinite(seconds):
            raise fail(f"{option}: got {seconds}, expected seconds", 2)
    line = load_line(config)
    _spare_own_files(json_file, line)
    check_json_target(json_file)
    _expect_recording(record_s, line)
    try:
        expect_room(line.config.cameras, line.config.image_slots)
    except NoRoom as error:
        raise fail(str(error)) from None
    errors = Words(sys.stderr)
    out = errors if words(json_file) is sys.stderr else Words(sys.stdout)
    notifier = ServiceNotifier()

    def say(state: ServiceState, reason: str) -> None:
        out.tell(f"{state} {reason}".rstrip())
        notifier.state(state, reason)

    supervisor = Supervisor(line, say, errors.tell)

    def stop(*_: object) -> None:
        notifier.stopping()
        supervisor.request_stop()

    ending = [signal.SIGTERM, signal.SIGINT]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ending.append(signal.SIGHUP)  # not under nohup
    for number in ending:
        signal.signal(number, stop)
    try:
        summary_text = supervisor.run(parts=parts, duration_s=duration, record_s=record_s)
    except Malformed as error:
        raise fail(str(error), 2) from None
    except (ServiceFailed, RecordInUse) as error:
        raise fail(str(error)) from None
    for number in ending:
        # Everything is closed; what is left is to write the summary.
        signal.signal(number, signal.SIG_IGN)
    if summary_text is None:
        raise fail(supervisor.unrecorded or f"no summary: records did not close {line.config.records.path} in time")
    summary: dict[str, object] = json.loads(summary_text)
    summary["frames_refused"] = supervisor.counter("frames_refused")
    if line.config.images is not None:
        summary |= {name: supervisor.counter(name) for name in IMAGE_COUNTERS}
    if line.config.recording is not None:
        summary |= {name: supervisor.counter(name) for name in WINDOW_COUNTERS}
    summary["session_id"] = supervisor.session_id
    try:
        write_json(json_file, summary)
    finally:
        if supervisor.unrecorded:
            raise fail(supervisor.unrecorded)


def _expect_recording(record_s: float | None, line: Line) -> None:
    recording = line.config.recording
    if record_s is None:
        return
    if recording is None:
        raise fail(f"--record-s: got {record_s:g}, expected `recording` in {line.file}: the folder for windows", 2)
    if record_s > recording.max_s:
        raise fail(f"--record-s: got {record_s:g}, expected up to recording.max_s {recording.max_s:g}", 2)


def _spare_own_files(json_file: Path | None, line: Line) -> None:
    """The result takes the place of whatever file has its name: not of one that the line lives on."""
    if json_file is None or str(json_file) == "-":
        return
    record = line.config.records.path
    beside = [
        record.with_name(record.name + suffix) for suffix in ("-wal", "-shm", ".new", ".halt", ".challenge", ".lock")
    ]
    with contextlib.suppress(OSError):
        beside += sealed_files(record).values()
    files = [record, *beside, line.file, line.recipe_file, line.config.mqtt.tls_ca_file]
    files += [each.file for each in line.config.cameras if isinstance(each, VideoCamera)]
    folders = [line.recipe.model, *(each.folder for each in line.config.cameras if isinstance(each, FolderCamera))]
    if resolved(json_file) in files or resolved(json_file).parent in map(resolved, folders):
        raise fail(f"--json: got {json_file}, expected a file that is none of the line's own", 2)
