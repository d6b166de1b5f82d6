"""Where a station's calibrations lie, each under an id made of its content; what is in them is for ``calibration_file``.

In the store's folder each recipe has a folder, in it each camera has one, and in that lies the calibration in force,
``in_force.yaml``, beside all that ever were under their ids. The pictures and tables that they name by hash are in ``files/``.
Nothing of them is ever changed or removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml

from pipeline.whole_file import sync_folder, write_whole
from vision.faults import Fault, FaultsError
from vision.plain_file import NotAPlainFile, read_plain_file
from vision.unique_keys import UniqueKeyLoader

_YAML_MAX_BYTES = 1 << 20
FILE_MAX_BYTES = 1 << 30
"""Of a picture or table that a calibration names."""
_ID_DIGITS = 16
NEW = "0" * _ID_DIGITS
"""The id of a calibration that was never kept."""


class ChangedMeanwhile(FaultsError):
    """Another calibration has come into force than the one that was gone on from."""


Body = dict[str, Any]
"""A calibration as YAML and JSON have it."""


def calibration_id_of(body: Body) -> str:
    """Its own id is left out."""
    content = {key: value for key, value in body.items() if key != "calibration_id"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]


_JUDGING = ("geometry", "flat_field", "registration", "threshold")


def judging_id(bodies: Mapping[str, Body]) -> str | None:
    """Of what is in calibrations, by camera, that a verdict can depend on; None where there is nothing of it."""
    judging = {camera_id: {name: body[name] for name in _JUDGING if name in body} for camera_id, body in bodies.items()}
    return calibration_id_of(judging) if any(judging.values()) else None


def line_calibration_id(ids: list[str]) -> str | None:
    """One id for all calibrated cameras of a line: the only one's own, or made of all, in the line's order. None without any."""
    if len(ids) < 2:
        return ids[0] if ids else None
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:_ID_DIGITS]


class CalibrationFolder:
    """All calibrations of a station. ``folder`` is made when the first one is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, recipe_id: str, camera_id: str) -> Path:
        """Of the calibration in force."""
        return self._camera(recipe_id, camera_id) / "in_force.yaml"

    def kept_path(self, recipe_id: str, camera_id: str, calibration_id: str) -> Path:
        """Of the one with this id, in force or not."""
        return self._camera(recipe_id, camera_id) / f"{calibration_id}.yaml"

    def read(self, path: Path, recipe_id: str, camera_id: str) -> Body | None:
        """The calibration in this file of the store; None where there is no such file.

        Raises FaultsError where it is not this camera's for this recipe, or not what its id says; OSError.
        """
        try:
            text = read_plain_file(path, max_bytes=_YAML_MAX_BYTES).decode()
            written = yaml.load(text, Loader=UniqueKeyLoader)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except NotAPlainFile as error:
            raise FaultsError([Fault(str(path), "", error.got, error.expected)]) from error
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            told = " ".join(str(error).split())
            raise FaultsError([Fault(str(path), "", f"text that is not YAML ({told})", "a calibration")]) from error
        if not isinstance(written, dict):
            raise FaultsError([Fault(str(path), "", type(written).__name__, "a mapping: a calibration")])
        return self._checked(path, written, recipe_id, camera_id)

    def in_force(self, recipe_id: str, camera_id: str) -> Body | None:
        """None where there never was one. Raises FaultsError, OSError."""
        path = self.path(recipe_id, camera_id)
        body = self.read(path, recipe_id, camera_id)
        if body is None and (count := len(list(path.parent.glob("*.yaml")))):
            expected = f"the one of the {count} beside it that is to be in force: copy it to this name"
            raise FaultsError([Fault(str(path), "", "no such file", expected)])
        return body

    def put_in_force(self, body: Body) -> Body:
        """Puts it in force in the place of the one whose ``calibration_id`` it has, or ``NEW`` where there was none, and returns it
        with its own id.

        On disk first under its id, and only then in force: whole, or not at all. Where nothing has changed nothing is written.
        Raises FaultsError where the one in force cannot be read, ChangedMeanwhile where it is another one now; OSError.
        """
        recipe_id, camera_id = body["recipe_id"], body["camera_id"]
        path = self.path(recipe_id, camera_id)
        with self._locked(path.parent):
            before = self.in_force(recipe_id, camera_id)
            if before is not None and before == body:
                return before
            in_force = NEW if before is None else before["calibration_id"]
            if body["calibration_id"] != in_force:
                got = f"{in_force}, put in force by somebody else meanwhile"
                expected = f"{body['calibration_id']}: begin again"
                raise ChangedMeanwhile([Fault(str(path), "calibration_id", got, expected)])
            kept = dict(body)
            if before is not None:
                kept["replaces"] = in_force
            kept["calibration_id"] = calibration_id_of(kept)
            text = yaml.safe_dump(kept, sort_keys=False, allow_unicode=True, width=120).encode()
            write_whole(self.kept_path(recipe_id, camera_id, kept["calibration_id"]), text)
            write_whole(path, text)
            return kept

    def keep_file(self, content: bytes) -> str:
        """A picture or table that a calibration names; its SHA-256. Raises OSError."""
        sha256 = hashlib.sha256(content).hexdigest()
        path = self.file_path(sha256)
        with self._locked(path.parent):
            if not path.exists():
                write_whole(path, content)
        return sha256

    def file(self, sha256: str) -> bytes:
        """What was kept under this hash. Raises FaultsError where it is not there, or not that any more; OSError."""
        path = self.file_path(sha256)
        try:
            content = read_plain_file(path, max_bytes=FILE_MAX_BYTES)
        except FileNotFoundError:
            raise FaultsError([Fault(str(path), "", "no such file", "what the calibration was made with")]) from None
        except NotAPlainFile as error:
            raise FaultsError([Fault(str(path), "", error.got, error.expected)]) from error
        if (found := hashlib.sha256(content).hexdigest()) != sha256:
            raise FaultsError([Fault(str(path), "sha256", found, f"{sha256}: calibrate again")])
        return content

    def copy_to(self, other: CalibrationFolder, recipe_id: str, camera_id: str, calibration_id: str) -> int:
        """Copies a calibration with the files that it names, and returns how many bytes those take.

        Raises FaultsError where one of them is missing or damaged, OSError.
        """
        path = self.kept_path(recipe_id, camera_id, calibration_id)
        body = self.read(path, recipe_id, camera_id)
        if body is None:
            raise FaultsError([Fault(str(path), "", "no such file", f"the calibration {calibration_id}")])
        copy = other.kept_path(recipe_id, camera_id, calibration_id)
        copied_bytes = 0
        with self._locked(copy.parent):
            write_whole(copy, path.read_bytes())
            copied_bytes += copy.stat().st_size
        for sha256 in sorted(each for each in _hashes(body) if self.file_path(each).is_file()):
            content = self.file(sha256)
            other.keep_file(content)
            copied_bytes += len(content)
        return copied_bytes

    def file_path(self, sha256: str) -> Path:
        """Of a picture or table."""
        return self.folder / "files" / sha256

    def _camera(self, recipe_id: str, camera_id: str) -> Path:
        return self.folder / as_name(recipe_id) / as_name(camera_id)

    def _checked(self, path: Path, written: Body, recipe_id: str, camera_id: str) -> Body:
        try:
            expected = calibration_id_of(written)
        except (TypeError, ValueError) as error:
            fault = Fault(str(path), "", f"what no calibration holds ({error})", "a calibration")
            raise FaultsError([fault]) from error
        if expected != written.get("calibration_id"):
            got = str(written.get("calibration_id"))
            advice = (
                f"{expected}: it was changed by hand, or on disk; copy another one of its folder, ID.yaml, to this name, "
                "or move it away, and calibrate again"
            )
            raise FaultsError([Fault(str(path), "calibration_id", got, advice)])
        of = written.get("recipe_id"), written.get("camera_id")
        if of != (recipe_id, camera_id):
            got = f"a calibration of camera {of[1]} for {of[0]}"
            raise FaultsError([Fault(str(path), "camera_id", got, f"one of camera {camera_id} for {recipe_id}")])
        return written

    @contextlib.contextmanager
    def _locked(self, folder: Path) -> Iterator[None]:
        """One writer at a time, in a folder that is there and stays there."""
        missing = [each for each in (folder, *folder.parents) if not each.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for each in missing:
            sync_folder(each.parent)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class CalibrationsInForce:
    """Of a line: where they are kept, for which product, and which one each camera has."""

    folder: CalibrationFolder
    recipe_id: str
    ids: Mapping[str, str]

    def copy_to(self, folder: Path) -> int:
        """Into a folder of their own. Raises as ``CalibrationFolder.copy_to`` does."""
        other = CalibrationFolder(folder)
        return sum(self.folder.copy_to(other, self.recipe_id, camera_id, each) for camera_id, each in self.ids.items())


_SHA256 = re.compile("[0-9a-f]{64}")


def _hashes(content: object) -> set[str]:
    """The hashes in a calibration: of files, and of pictures that it was found from."""
    if isinstance(content, dict):
        return set().union(*map(_hashes, content.values()))
    if isinstance(content, list):
        return set().union(*map(_hashes, content))
    return {content} if isinstance(content, str) and _SHA256.fullmatch(content) else set()


def as_name(name: str) -> str:
    """A file's name for any id: ``/`` and all else that has a meaning in paths is written as %2F."""
    return quote(name, safe=" ").replace(".", "%2E") if name.startswith(".") else quote(name, safe=" ")
