"""What was usual of a line's cameras when all was well, as calibrated, and what it was found with. Imports no kernels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from pydantic import ValidationError

from calibration.drift import DriftBaseline
from pipeline.calibration_store import Body, CalibrationFolder
from pipeline.config import Line
from vision.faults import Fault, FaultsError, faults_of
from vision.recipe import Recipe

_SHAPES_SIGNALS = ("geometry", "flat_field", "registration")
"""Sections without which scores and positions are others."""
UNCOUNTED_REASONS = ("CHALLENGE", "NOT_RUNNING")
"""Of parts that say nothing of what is usual: known to be bad, or on a line that somebody works at."""


@dataclass(frozen=True, slots=True)
class CameraBaseline:
    """One camera's. ``found_with``: see there, as it was then; ``calibration``: all of it that is in force now."""

    calibration_id: str
    baseline: DriftBaseline
    found_with: str
    calibration: Body


def baselines_of(line: Line) -> dict[str, CameraBaseline]:
    """By camera, of those that drift was calibrated for, as they were in force when the line was read.

    Raises FaultsError, OSError.
    """
    if line.config.calibrations is None:
        return {}
    store, recipe_id = CalibrationFolder(line.config.calibrations), line.recipe.recipe_id
    found = {}
    for camera_id, calibration_id in line.calibration_ids.items():
        path = store.kept_path(recipe_id, camera_id, calibration_id)
        body = store.read(path, recipe_id, camera_id)
        if body is None:
            raise FaultsError([Fault(str(path), "", "no such file", f"the calibration {calibration_id}")])
        section = body.get("drift")
        if section is None:
            continue
        try:
            baseline = DriftBaseline.model_validate(section["baseline"])
            found[camera_id] = CameraBaseline(calibration_id, baseline, str(section["found_with"]), body)
        except ValidationError as error:
            raise FaultsError(faults_of(str(path), error)) from error
        except (KeyError, TypeError) as error:
            raise FaultsError([Fault(str(path), "drift", f"no {error}", "a baseline")]) from error
    return found


def found_with(recipe: Recipe, camera_id: str, model_sha256: str, calibration: Body) -> str:
    """A hash of what scores and positions come of: what is looked at, with which model, and how frames are corrected and parts
    found. Where it is another one, the baseline says nothing any more. Thresholds are not in it: no signal depends on them.
    """
    sections = {name: calibration[name] for name in _SHAPES_SIGNALS if name in calibration}
    body = {
        "model_sha256": model_sha256,
        "views": [view.model_dump(mode="json") for view in recipe.views if view.camera_id == camera_id],
        "sections": {
            name: {key: value for key, value in each.items() if key != "made"} for name, each in sections.items()
        },
    }
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
