"""The calibration of one camera for one product: its sections, read from the store and put into it."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from calibration.drift import DriftBaseline
from calibration.repeatability_figures import RepeatabilityFigures
from calibration.timing_figures import TimingFigures
from pipeline.calibration_store import CalibrationFolder
from vision.camera_geometry import CameraGeometry
from vision.faults import Fault, FaultsError, disagreement, faults_of
from vision.flat_field import FlatFieldSection
from vision.recipe import Strict, Word
from vision.registration import RegistrationSection

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1, max_length=64)]


class Made(Strict):
    """Who found a section, when, and from what. ``pictures_sha256``: over the pictures' hashes in their order."""

    at_utc: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    by: Word
    pictures_count: int = Field(default=0, ge=0)
    pictures_sha256: Sha256 | None = None


class GeometrySection(Strict):
    """Where pixels lie on the parts, and how far off a position may be anywhere in the picture (95 % confidence)."""

    made: Made
    camera: CameraGeometry
    worst_error_mm: float = Field(gt=0.0)
    covered: list[list[Annotated[int, Field(ge=0)]]] | None = Field(
        default=None, description="corners seen in each part of the picture, rows from the top"
    )


class EvenedSection(Strict):
    """What of the light, the lens and the sensor is evened out in each frame."""

    made: Made
    flat_field: FlatFieldSection


class RegisteredSection(Strict):
    """How the part is found in a frame."""

    made: Made
    registration: RegistrationSection


class KeptShare(Strict):
    """``count`` of ``total``, and the interval that holds the true share with the section's confidence."""

    count: int = Field(ge=0)
    total: int = Field(ge=1)
    low: float = Field(ge=0.0, le=1.0)
    high: float = Field(ge=0.0, le=1.0)


class ThresholdSection(Strict):
    """Scores that reject, by class, and what was promised of them: so many good parts at most are rejected by all together.

    ``rejected_count``: of the good ones, by these scores or whatever they are, those that could not be judged included; ``rank``:
    so many good parts the scores were found from, the highest first; ``false_accept``: of the known-defective parts those passed.
    """

    made: Made
    reject_at_score: dict[Name, Annotated[float, Field(gt=0.0, le=1.0)]] = Field(min_length=1)
    false_reject_max: float = Field(gt=0.0, lt=1.0)
    confidence: float = Field(gt=0.0, lt=1.0)
    good_count: int = Field(ge=1)
    unjudged_count: int = Field(default=0, ge=0, description="of the good ones, NO_DECISION")
    rejected_count: int = Field(default=0, ge=0)
    rank: int = Field(default=1, ge=1)
    defective_count: int = Field(default=0, ge=0)
    false_accept: KeptShare | None = None
    model_sha256: Sha256 | None = Field(default=None, description="whose scores they are")
    recipe_version: Name | None = None
    judged_by: Sha256 | None = Field(default=None, description="of regions and rules, see pipeline.calibrated_line")


class RepeatabilitySection(Strict):
    """How far scores, sizes and verdicts differ where the same part is shown again."""

    made: Made
    figures: RepeatabilityFigures
    model_sha256: Sha256 | None = None


class DriftSection(Strict):
    """What was usual when all was well."""

    made: Made
    baseline: DriftBaseline
    found_with: Sha256 = Field(description="of model, regions and sections, see pipeline.drift_baseline")


FOUND_UNDER = {
    "registration": ("geometry",),
    "threshold": ("geometry", "flat_field", "registration"),
    "drift": ("geometry", "flat_field", "registration"),
    "repeatability": ("geometry", "flat_field", "registration", "threshold"),
}
"""By section, those that it was found under: with another one of them in force, the same parts may look otherwise to it."""


class TimingSection(Strict):
    """When verdicts are there, and where the gate's window is. Of the whole line: each of its cameras has the same."""

    made: Made
    figures: TimingFigures


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
    flat_field: EvenedSection | None = None
    registration: RegisteredSection | None = None
    threshold: ThresholdSection | None = None
    drift: DriftSection | None = None
    repeatability: RepeatabilitySection | None = None
    timing: TimingSection | None = None
    outdated: list[Literal["registration", "threshold", "drift", "repeatability"]] | None = Field(
        default=None,
        description="sections that were found under another section than is in force now: to be found again",
    )

    @property
    def made(self) -> dict[str, Made]:
        """By section, those that are there."""
        sections = ((name, getattr(self, name)) for name in type(self).model_fields)
        return {name: section.made for name, section in sections if hasattr(section, "made")}

    @model_validator(mode="after")
    def _geometry_is_of_its_frames(self) -> CameraCalibration:
        if self.geometry is not None:
            lens = self.geometry.camera.lens
            if (lens.width_px, lens.height_px) != (self.width_px, self.height_px):
                got = f"one of frames of {lens.width_px}x{lens.height_px} px"
                raise disagreement("geometry.camera.lens", got, f"one of {self.width_px}x{self.height_px} px")
        return self


def with_sections(before: CameraCalibration, **sections: object) -> CameraCalibration:
    """``before`` with these in the place of its own, and what is outdated by that: a geometry is found again because the camera,
    its lens or the belt was moved, and a model sees other pixels after each of the first three.
    """
    changed = {name for name, section in sections.items() if section != getattr(before, name)}
    outdated = [
        name
        for name, under in FOUND_UNDER.items()
        if getattr(before, name) is not None
        and name not in sections
        and (name in (before.outdated or ()) or changed.intersection(under))
    ]
    return before.model_copy(update={**sections, "outdated": outdated or None})


def made_now(by: str, pictures: list[bytes]) -> Made:
    """``pictures``: SHA-256 digests of those that it was found from."""
    digest = hashlib.sha256(b"".join(pictures)).hexdigest() if pictures else None
    now = datetime.now(timezone.utc)
    return Made(at_utc=f"{now:%Y-%m-%dT%H:%M:%SZ}", by=by, pictures_count=len(pictures), pictures_sha256=digest)


class CalibrationStore(CalibrationFolder):
    """All calibrations of a station, section by section."""

    def current(self, recipe_id: str, camera_id: str) -> CameraCalibration | None:
        """The calibration in force; None where there is none. Raises FaultsError, OSError."""
        return self._validated(self.path(recipe_id, camera_id), recipe_id, camera_id)

    def kept(self, recipe_id: str, camera_id: str, calibration_id: str) -> CameraCalibration:
        """The one with this id, in force or not. Raises FaultsError, also where there is none; OSError."""
        path = self.kept_path(recipe_id, camera_id, calibration_id)
        found = self._validated(path, recipe_id, camera_id)
        if found is None:
            expected = f"the calibration {calibration_id} of camera {camera_id}"
            raise FaultsError([Fault(str(path), "", "no such file", expected)])
        return found

    def keep(self, changed: CameraCalibration) -> CameraCalibration:
        """Puts ``changed`` in force and returns it with its id; see ``put_in_force``. It was made of the one in force by
        ``model_copy``, or with ``NEW`` for its id where there was none. Raises FaultsError, OSError.
        """
        # Sections that are not there are left out, so that new kinds of them change no older id.
        body: dict[str, Any] = json.loads(changed.model_dump_json(by_alias=True, exclude_none=True))
        CameraCalibration.model_validate(body)  # what could not be read again must not come into force
        return CameraCalibration.model_validate(self.put_in_force(body))

    def _validated(self, path: Path, recipe_id: str, camera_id: str) -> CameraCalibration | None:
        body = self.read(path, recipe_id, camera_id)
        try:
            return None if body is None else CameraCalibration.model_validate(body)
        except ValidationError as error:
            raise FaultsError(faults_of(str(path), error)) from error
