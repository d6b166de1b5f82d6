"""The calibration of one camera for one product: a YAML file that names itself by its content, and the store that keeps them all.

In the store's folder each recipe has a folder with a file for each camera, ``CAMERA.yaml``: the calibration in force. All that ever
were lie in ``CAMERA/`` beside it under their ids, and the pictures and tables that they name by hash in ``files/``. Nothing of
them is ever changed or removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import yaml
from pydantic import Field, ValidationError

from calibration.drift import DriftBaseline
from pipeline.whole_file import sync_folder, write_whole
from vision.camera_geometry import CameraGeometry
from vision.faults import Fault, FaultsError, faults_of
from vision.plain_file import NotAPlainFile, read_plain_file
from vision.recipe import Strict
from vision.registration import RegistrationSection
from vision.unique_keys import UniqueKeyLoader

_YAML_MAX_BYTES = 1 << 20
FILE_MAX_BYTES = 1 << 30
"""Of a picture or table that a calibration names."""
_ID_DIGITS = 16
NEW = "0" * _ID_DIGITS
"""The id of a calibration that was never kept."""

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=64)]


class Made(Strict):
    """Who found a section, when, and from what. ``pictures_sha256``: over the pictures' hashes in their order."""

    at_utc: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    by: Name
    pictures_count: int = Field(default=0, ge=0)
    pictures_sha256: Sha256 | None = None


class GeometrySection(Strict):
    """Where pixels lie on the parts, and how far off a position may be anywhere in the picture (95 % confidence)."""

    made: Made
    camera: CameraGeometry
    worst_error_mm: float = Field(gt=0.0)


class RegisteredSection(Strict):
    """How the part is found in a frame."""

    made: Made
    registration: RegistrationSection


class ThresholdSection(Strict):
    """Scores that reject, by class, and what was promised of them."""

    made: Made
    reject_at_score: dict[Name, Annotated[float, Field(gt=0.0, le=1.0)]] = Field(min_length=1)
    false_reject_max: float = Field(gt=0.0, lt=1.0)
    confidence: float = Field(gt=0.0, lt=1.0)
    good_count: int = Field(ge=1)


class DriftSection(Strict):
    """What was usual when all was well."""

    made: Made
    baseline: DriftBaseline


class CameraCalibration(Strict):
    """Everything that is calibrated of one camera for one product. ``calibration_id`` is made of all the rest."""

    schema_name: Literal["lineside.calibration/1"] = Field(default="lineside.calibration/1", alias="schema")
    calibration_id: str = Field(pattern="^[0-9a-f]{16}$")
    replaces: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] | None = Field(
        default=None, description="the calibration_id before this one"
    )
    recipe_id: Name
    camera_id: Name
    width_px: int = Field(gt=0)
    height_px: int = Field(gt=0)
    geometry: GeometrySection | None = None
    registration: RegisteredSection | None = None
    threshold: ThresholdSection | None = None
    drift: DriftSection | None = None


def calibration_id_of(body: dict[str, Any]) -> str:
    """Of a calibration as JSON has it; its own id is left out."""
    content = {key: value for key, value in body.items() if key != "calibration_id"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:_ID_DIGITS]


def line_calibration_id(calibrations: list[CameraCalibration]) -> str | None:
    """One id for all cameras of a line: the only one's own, or made of all, in the line's order. None without any."""
    ids = [each.calibration_id for each in calibrations]
    if len(ids) < 2:
        return ids[0] if ids else None
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:_ID_DIGITS]


def made_now(by: str, pictures: list[bytes]) -> Made:
    """``pictures``: SHA-256 digests of those that it was found from."""
    digest = hashlib.sha256(b"".join(pictures)).hexdigest() if pictures else None
    now = datetime.now(timezone.utc)
    return Made(at_utc=f"{now:%Y-%m-%dT%H:%M:%SZ}", by=by, pictures_count=len(pictures), pictures_sha256=digest)


class CalibrationStore:
    """All calibrations of a station. ``folder`` is made when the first one is kept."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, recipe_id: str, camera_id: str) -> Path:
        """Of the calibration in force."""
        return self.folder / _as_name(recipe_id) / f"{_as_name(camera_id)}.yaml"

    def current(self, recipe_id: str, camera_id: str) -> CameraCalibration | None:
        """The calibration in force; None where there is none. Raises FaultsError, OSError."""
        path = self.path(recipe_id, camera_id)
        calibration = self._read(path)
        if calibration is not None and (calibration.recipe_id, calibration.camera_id) != (recipe_id, camera_id):
            got = f"a calibration of camera {calibration.camera_id} for {calibration.recipe_id}"
            raise FaultsError([Fault(str(path), "camera_id", got, f"one of camera {camera_id} for {recipe_id}")])
        return calibration

    def earlier(self, recipe_id: str, camera_id: str) -> list[CameraCalibration]:
        """All that were in force before, the newest first. Raises FaultsError, OSError."""
        found: list[CameraCalibration] = []
        current = self.current(recipe_id, camera_id)
        replaced = None if current is None else current.replaces
        while replaced is not None:
            path = self._kept(recipe_id, camera_id, replaced)
            before = self._read(path)
            if before is None:
                expected = f"the calibration that camera {camera_id} had before"
                raise FaultsError([Fault(str(path), "", "no such file", expected)])
            found.append(before)
            replaced = before.replaces
        return found

    def keep(self, changed: CameraCalibration) -> CameraCalibration:
        """Puts ``changed`` in force and returns it with its id. It was made of the one in force by ``model_copy``, or with ``NEW``
        for its id where there was none.

        On disk first under its id, and only then in force: whole, or not at all. Where nothing has changed nothing is written.
        Raises FaultsError where the one in force cannot be read, or is another one meanwhile; OSError.
        """
        path = self.path(changed.recipe_id, changed.camera_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent):
            before = self.current(changed.recipe_id, changed.camera_id)
            if before is not None and _content(before) == _content(changed):
                return before
            in_force = NEW if before is None else before.calibration_id
            if changed.calibration_id != in_force:
                got = f"{in_force}, put in force by somebody else meanwhile"
                raise FaultsError([Fault(str(path), "calibration_id", got, f"{changed.calibration_id}: begin again")])
            body = _content(changed)
            if before is not None:
                body["replaces"] = before.calibration_id
            body["calibration_id"] = calibration_id_of(body)
            kept = CameraCalibration.model_validate_json(json.dumps(body))
            text = yaml.safe_dump(body, sort_keys=False, allow_unicode=True, width=120).encode()
            own = self._kept(kept.recipe_id, kept.camera_id, kept.calibration_id)
            own.parent.mkdir(exist_ok=True)
            write_whole(own, text)
            sync_folder(path.parent)
            write_whole(path, text)
            return kept

    def keep_file(self, content: bytes) -> str:
        """A picture or table that a calibration names; its SHA-256. Raises OSError."""
        sha256 = hashlib.sha256(content).hexdigest()
        path = self._file(sha256)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, content)
        return sha256

    def file(self, sha256: str) -> bytes:
        """What was kept under this hash. Raises FaultsError where it is not there, or not that any more; OSError."""
        path = self._file(sha256)
        try:
            content = read_plain_file(path, max_bytes=FILE_MAX_BYTES)
        except FileNotFoundError:
            raise FaultsError([Fault(str(path), "", "no such file", "what the calibration was made with")]) from None
        except NotAPlainFile as error:
            raise FaultsError([Fault(str(path), "", error.got, error.expected)]) from error
        if (found := hashlib.sha256(content).hexdigest()) != sha256:
            raise FaultsError([Fault(str(path), "sha256", found, f"{sha256}: calibrate again")])
        return content

    def _file(self, sha256: str) -> Path:
        return self.folder / "files" / sha256

    def _kept(self, recipe_id: str, camera_id: str, calibration_id: str) -> Path:
        return self.folder / _as_name(recipe_id) / _as_name(camera_id) / f"{calibration_id}.yaml"

    def _read(self, path: Path) -> CameraCalibration | None:
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
        try:
            calibration = CameraCalibration.model_validate(written)
        except ValidationError as error:
            raise FaultsError(faults_of(str(path), error)) from error
        if (expected := calibration_id_of(_content(calibration))) != calibration.calibration_id:
            advice = (
                f"{expected}: it was changed by hand, or on disk; calibrate again, or put an earlier one in its place"
            )
            raise FaultsError([Fault(str(path), "calibration_id", calibration.calibration_id, advice)])
        return calibration


def _content(calibration: CameraCalibration) -> dict[str, Any]:
    """As JSON has it; sections that are not there are left out, so that new kinds of them change no older id."""
    body: dict[str, Any] = json.loads(calibration.model_dump_json(by_alias=True, exclude_none=True))
    return body


def _as_name(name: str) -> str:
    """A file's name for any id: ``/`` and all else that has a meaning in paths is written as %2F."""
    return quote(name, safe=" ").replace(".", "%2E") if name.startswith(".") else quote(name, safe=" ")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
