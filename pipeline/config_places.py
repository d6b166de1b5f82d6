"""What a line's configuration asks of the box it is read on: files and folders, memory, cores, secrets."""

from __future__ import annotations

import errno
import os
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path

from pipeline.camera_config import FolderCamera, RtspCamera, SimulatedCamera, VideoCamera
from pipeline.line_config import LineConfig
from pipeline.machine import in_mib, memory_bytes, online_cores, rings_bytes, slot_bytes
from vision.faults import Fault, quote

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
_RECORD_NAME_BYTES_MAX = 200
"""A file's name has 255, and a damaged record's has the session's id added."""


def unset_secrets(file: Path, config: LineConfig) -> list[Fault]:
    """``file``: the line's, named in the faults."""
    names = {"mqtt.password_env": config.mqtt.password_env}
    for index, camera in enumerate(config.cameras):
        if isinstance(camera, RtspCamera):
            names[f"cameras.{index}.password_env"] = camera.password_env
    return [
        Fault(str(file), key, f"{name}, which is not set", "the name of a set environment variable")
        for key, name in names.items()
        if name is not None and name not in os.environ
    ]


def faults_on_this_box(file: Path, config: LineConfig, model: Path | None) -> list[Fault]:
    """``file``: the line's; ``config``: with absolute paths; ``model``: its package's folder, None where the recipe is faulty."""
    faults = [*_file_faults(file, config), *_place_faults(file, config, model)]
    faults += [*_memory_faults(file, config), *_core_faults(file, config)]
    for index, camera in enumerate(config.cameras):
        if isinstance(camera, FolderCamera):
            faults += _folder_faults(file, f"cameras.{index}.folder", camera.folder)
        elif isinstance(camera, VideoCamera) and (reason := _no_readable_file(camera.file)):
            faults.append(Fault(str(file), f"cameras.{index}.file", f"{camera.file}: {reason}", "a video file"))
    return faults


def _file_faults(file: Path, config: LineConfig) -> list[Fault]:
    faults = []
    authority, record = config.mqtt.tls_ca_file, config.records.path
    if authority is not None and (reason := _authority_fault(authority)):
        faults.append(Fault(str(file), "mqtt.tls_ca_file", f"{authority}: {reason}", "a file of certificates (PEM)"))
    faults += [Fault(str(file), "records.path", got, expected) for got, expected in _record_faults(record)]
    if config.images is not None and (got := _no_folder(config.images.path)):
        faults.append(Fault(str(file), "images.path", got, "a folder"))
    if config.calibrations is not None and (got := _no_folder(config.calibrations)):
        faults.append(Fault(str(file), "calibrations", got, "a folder"))
    if config.recording is not None and (got := _no_folder(config.recording.path)):
        faults.append(Fault(str(file), "recording.path", got, "a folder"))
    return faults


def _no_folder(path: Path) -> str:
    """Why it never will be one; empty where it is, or may come."""
    try:
        return "" if stat.S_ISDIR(path.stat().st_mode) else str(path)
    except OSError as error:
        return f"{path}: {error.strerror}" if error.errno in (errno.ELOOP, errno.ENAMETOOLONG) else ""


def _record_faults(record: Path) -> Iterator[tuple[str, str]]:
    """What got, what expected."""
    if (size := len(os.fsencode(record.name))) > _RECORD_NAME_BYTES_MAX:
        yield f"a name of {size} bytes, {quote(record.name)}", f"at most {_RECORD_NAME_BYTES_MAX}"
        return
    try:
        is_file = stat.S_ISREG(record.stat().st_mode)
    except OSError as error:
        # What is not there is made, and what cannot be reached now is waited for.
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            yield f"{record}: {error.strerror}", "a file that can be opened"
        return
    if not is_file:
        yield str(record), "a file, not a folder, a pipe or a device"


def _place_faults(file: Path, config: LineConfig, model: Path | None) -> list[Fault]:
    """A record in the place of something else would be taken for a damaged one, or read as a model or an image."""
    record = config.records.path
    others = [(file, "this file"), (config.recipe, "the recipe"), (config.mqtt.tls_ca_file, "mqtt.tls_ca_file")]
    folders = [] if model is None else [(model, "the model package's")]
    for index, camera in enumerate(config.cameras):
        if isinstance(camera, FolderCamera):
            folders.append((camera.folder, f"cameras.{index}.folder"))
        elif isinstance(camera, SimulatedCamera):
            others.append((camera.address, f"cameras.{index}.address"))
        elif isinstance(camera, VideoCamera):
            others.append((camera.file, f"cameras.{index}.file"))
    wrong = [f"a file of its own, not {words}" for other, words in others if record == other]
    wrong += [f"a file in another folder than {words}" for folder, words in folders if record.parent == folder]
    faults = [Fault(str(file), "records.path", str(record), expected) for expected in wrong]
    ours = [
        (each.path, key) for each, key in ((config.images, "images.path"), (config.recording, "recording.path")) if each
    ]
    for kept, key in ours:
        files = [*others, (record, "the record")]
        wrong = [f"a folder of its own, not {words}" for other, words in files if kept == other]
        # Kept pictures would be played as parts, or taken for a part of the package.
        wrong += [
            f"a folder outside of {words}" for folder, words in folders if kept == folder or folder in kept.parents
        ]
        faults += [Fault(str(file), key, str(kept), expected) for expected in wrong]
    if len(ours) == 2 and ours[0][0] == ours[1][0]:
        faults.append(Fault(str(file), "recording.path", str(ours[1][0]), "another folder than images.path"))
    return faults


def _authority_fault(file: Path) -> str:
    try:
        ssl.create_default_context(cafile=str(file))
    except OSError as error:  # ssl.SSLError is one too
        return _reason(error)
    return ""


def _memory_faults(file: Path, config: LineConfig) -> list[Fault]:
    """The largest ring is named where all of them together are larger than memory, else what is asked for beside them."""
    present, more = memory_bytes(), config.image_slots
    taken = rings_bytes(config.cameras, more)
    largest = max(range(len(config.cameras)), key=lambda index: rings_bytes([config.cameras[index]]))
    camera = config.cameras[largest]
    if taken > present:
        ring = rings_bytes([camera], more)
        got = f"{camera.ring_slots + more} slots, {in_mib(ring)} at this frame size, all cameras {in_mib(taken)}"
        expected = f"slots of all cameras within this machine's {in_mib(present)} of memory"
        return [Fault(str(file), f"cameras.{largest}.ring_slots", got, expected)]
    frame_of = max(config.cameras, key=slot_bytes)
    faults: list[Fault] = []
    for key, asked in (("images", config.images), ("recording", config.recording)):
        if asked is None:
            continue
        waiting, got = asked.memory_mib << 20, str(asked.memory_mib)
        if waiting < slot_bytes(frame_of):
            expected = f"room for a frame of camera {frame_of.camera_id}, {in_mib(slot_bytes(frame_of))}"
            faults.append(Fault(str(file), f"{key}.memory_mib", got, expected))
        elif taken + waiting > present:
            beside = "the rings'" if key == "images" else "the rings' and images'"
            expected = f"no more than this machine's {in_mib(present)} leave beside {beside} {in_mib(taken)}"
            faults.append(Fault(str(file), f"{key}.memory_mib", got, expected))
        taken += waiting
    return faults


def _core_faults(file: Path, config: LineConfig) -> list[Fault]:
    present = online_cores()
    expected = f"cores of this machine: {', '.join(map(str, sorted(present)))}"
    return [
        Fault(str(file), f"realtime.cores.{role}", ", ".join(map(str, cores)), expected)
        for role, cores in config.realtime.cores.items()
        if not present.issuperset(cores)
    ]


def _folder_faults(file: Path, key: str, folder: Path) -> list[Fault]:
    try:
        suffixes = {path.suffix.lower() for path in folder.iterdir()}
    except OSError as error:
        return [Fault(str(file), key, f"{folder}: {_reason(error)}", "a folder that can be read")]
    if suffixes.isdisjoint(IMAGE_SUFFIXES):
        return [Fault(str(file), key, f"{folder}, which holds no image", f"images ({', '.join(IMAGE_SUFFIXES)})")]
    return []


def _no_readable_file(file: Path) -> str:
    """Why; empty where it is one. What is in it shows when it is played."""
    try:
        if not stat.S_ISREG(file.stat().st_mode):
            return "no file"
        with file.open("rb"):
            return ""
    except OSError as error:
        return _reason(error)


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
