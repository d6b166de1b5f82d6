"""A line's inspector with everything in force that is calibrated of its cameras: one way for the line, checks and replays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator

from pipeline.calibration_file import CalibrationStore, CameraCalibration
from pipeline.config import Line
from pipeline.line_inspector import frame_formats, open_inspector
from vision.correction import Correction, substitutes_of
from vision.faults import Fault, FaultsError
from vision.flat_field import read_flat_field
from vision.inspector import Inspector
from vision.package import ModelPackage
from vision.preprocess import FrameFormat
from vision.recipe import Recipe, with_thresholds
from vision.registration import Registration, read_template, registration_faults
from vision.runtime import Session
from vision.view_calibration import ViewCalibration


def open_calibrated(
    line: Line,
    package: ModelPackage,
    *,
    tell: Callable[[str], None] = lambda text: None,
    is_calibrating: bool = False,
) -> tuple[Inspector, Session]:
    """As ``open_inspector``; raises what that raises, and FaultsError for a calibration that cannot be used: also for thresholds
    that were found with another model, unless ``is_calibrating``: scores are asked for to find them anew.
    """
    if not is_calibrating:
        check_thresholds(line, package)
    return open_inspector(
        line.recipe,
        package,
        line.config.runtime,
        frame_formats(line.config),
        calibrations=view_calibrations(line),
        recipe_file=str(line.recipe_file),
        tell=tell,
    )


def check_thresholds(line: Line, package: ModelPackage) -> None:
    """Scores of one model say nothing about those of another. Raises FaultsError."""
    faults = [
        Fault(
            str(line.config.calibrations),
            f"threshold of camera {camera_id}",
            f"one found with the model {section.model_sha256}",
            f"one of {package.sha256}, which the line runs: lineside calibrate threshold",
        )
        for camera_id, calibration in camera_calibrations(line).items()
        if (section := calibration.threshold) is not None and section.model_sha256 not in (None, package.sha256)
    ]
    if faults:
        raise FaultsError(faults)


def camera_calibrations(line: Line) -> dict[str, CameraCalibration]:
    """By camera, those that were in force when the line was read. Raises FaultsError."""
    if line.config.calibrations is None:
        return {}
    store, found = CalibrationStore(line.config.calibrations), {}
    for camera_id, calibration_id in line.calibration_ids.items():
        try:
            found[camera_id] = store.kept(line.recipe.recipe_id, camera_id, calibration_id)
        except OSError as error:
            path = store.kept_path(line.recipe.recipe_id, camera_id, calibration_id)
            raise FaultsError([Fault(str(path), "", str(error.strerror), "a readable calibration")]) from error
    return found


def calibrated_recipe(recipe: Recipe, line: Line) -> Recipe:
    """Another recipe with the thresholds that are calibrated of the line's cameras. Raises FaultsError."""
    thresholds = {
        camera_id: calibration.threshold.reject_at_score
        for camera_id, calibration in camera_calibrations(line).items()
        if calibration.threshold is not None
    }
    return with_thresholds(recipe, thresholds)


def calibration_warnings(line: Line) -> list[str]:
    """What is not calibrated as the line's files ask for, or was found under what is not so any more. Raises FaultsError."""
    calibrations = camera_calibrations(line)
    told = []
    for camera_id in frame_formats(line.config):
        calibration = calibrations.get(camera_id)
        if calibration is None and line.config.calibrations is not None:
            folder = line.config.calibrations
            told.append(
                f"camera {camera_id}: not calibrated, as there is nothing of it for {line.recipe.recipe_id} in {folder}"
            )
        told += _threshold_warnings(line, camera_id, calibration)
        if calibration is not None and calibration.outdated:
            names = ", ".join(calibration.outdated)
            told.append(f"camera {camera_id}: {names} to be calibrated again, as others have changed since")
    return told


def _threshold_warnings(line: Line, camera_id: str, calibration: CameraCalibration | None) -> Iterator[str]:
    section = None if calibration is None else calibration.threshold
    found = {} if section is None else section.reject_at_score
    for rule in camera_recipe(line, camera_id).rules:
        if rule.is_calibrated and rule.class_name not in found:
            holds = f"reject_at_score {rule.reject_at_score:g} of the recipe holds"
            yield f"camera {camera_id}: the score that rejects {rule.class_name} is not calibrated: {holds}"
    if section is not None and section.judged_by not in (None, judged_by(line, camera_id)):
        yield f"camera {camera_id}: threshold to be calibrated again, as the recipe's regions or rules are others since"


def judged_by(line: Line, camera_id: str) -> str:
    """A hash of what makes a part's scores and verdict on this camera, the model and the calibrated scores aside."""
    recipe = camera_recipe(line, camera_id)
    rules = [rule.model_dump(mode="json", exclude={"camera_id"}) for rule in recipe.rules]
    for rule in rules:
        if rule["is_calibrated"]:
            del rule["reject_at_score"]
    body = {
        "regions": [view.model_dump(mode="json") for view in recipe.views],
        "rules": rules,
        "required": [one.model_dump(mode="json", exclude={"camera_id"}) for one in recipe.required],
    }
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def camera_recipe(line: Line, camera_id: str) -> Recipe:
    """The line's recipe as far as one camera's frames are judged by it."""
    recipe = line.recipe
    mine = {
        "views": [view for view in recipe.views if view.camera_id == camera_id],
        "rules": [rule for rule in recipe.rules if rule.camera_id in (None, camera_id)],
        "required": [one for one in recipe.required if one.camera_id in (None, camera_id)],
    }
    return recipe.model_copy(update=mine)


def view_calibrations(line: Line) -> dict[str, ViewCalibration]:
    """By camera, what of its calibration is applied to frames. Raises FaultsError."""
    if line.config.calibrations is None:
        return {}
    store, formats = CalibrationStore(line.config.calibrations), frame_formats(line.config)
    return {
        camera_id: applied(calibration, store, formats[camera_id])
        for camera_id, calibration in camera_calibrations(line).items()
    }


def applied(calibration: CameraCalibration, store: CalibrationStore, frame_format: FrameFormat) -> ViewCalibration:
    """What of one camera's calibration is applied to its frames. Raises FaultsError."""
    size = calibration.width_px, calibration.height_px
    if size != (frame_format.width_px, frame_format.height_px):
        path = store.path(calibration.recipe_id, calibration.camera_id)
        expected = f"{frame_format.width_px}x{frame_format.height_px}, as the camera delivers: calibrate again"
        raise FaultsError([Fault(str(path), "width_px", f"{size[0]}x{size[1]} px", expected)])
    return ViewCalibration(
        geometry=None if calibration.geometry is None else calibration.geometry.camera,
        flat_field=_flat_field(calibration, store, frame_format.decoded),
        registration=_registration(calibration, store, frame_format),
    )


def _flat_field(
    calibration: CameraCalibration, store: CalibrationStore, frame_format: FrameFormat
) -> Correction | None:
    if calibration.flat_field is None:
        return None
    section = calibration.flat_field.flat_field
    correction = read_flat_field(
        section,
        _file(store, section.gain_sha256),
        _file(store, section.dark_sha256),
        frame_format,
        gain_file=str(store.file_path(section.gain_sha256)),
        dark_file=str(store.file_path(section.dark_sha256)),
    )
    assert correction.dead is not None
    try:
        substitutes_of(correction.dead)
    except ValueError as error:
        file = str(store.file_path(section.gain_sha256))
        raise FaultsError(
            [Fault(file, "", str(error), "a flat field that can be applied: calibrate it again")]
        ) from error
    return correction


def _registration(
    calibration: CameraCalibration, store: CalibrationStore, frame_format: FrameFormat
) -> Registration | None:
    if calibration.registration is None:
        return None
    section = calibration.registration.registration
    path = store.kept_path(calibration.recipe_id, calibration.camera_id, calibration.calibration_id)
    key = "registration.registration"
    if faults := registration_faults(section, frame_format, file=str(path), key=key):
        raise FaultsError(faults)
    return read_template(
        _file(store, section.template_sha256), section, file=str(store.file_path(section.template_sha256))
    )


def _file(store: CalibrationStore, sha256: str) -> bytes:
    try:
        return store.file(sha256)
    except OSError as error:
        path = store.file_path(sha256)
        raise FaultsError([Fault(str(path), "", str(error.strerror), "a readable file")]) from error
