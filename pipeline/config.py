"""Reads a line's configuration and recipe from YAML; every fault is reported at once with file and key path."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from pipeline.calibration_store import Body, CalibrationFolder, CalibrationsInForce, judging_id, line_calibration_id
from pipeline.camera_config import KINDS, resolved
from pipeline.config_places import faults_on_this_box, unset_secrets
from pipeline.line_config import LineConfig
from vision.faults import Fault, FaultsError, faults_of, quote
from vision.recipe import Recipe, with_thresholds
from vision.unique_keys import UniqueKeyLoader

_LINE_BYTES_MAX = 60_000
"""A worker gets its line in one message (see ``channel``)."""
_Model = TypeVar("_Model", bound=BaseModel)
_TAG_IN_KEY = re.compile(rf"^(cameras\.\d+)\.(?:{'|'.join(KINDS)})(?=\.|$)")


@dataclass(frozen=True, slots=True)
class Line:
    """A whole, consistent line: configuration and recipe with every path absolute.

    ``calibration_ids``: by camera, of the calibrations that were in force when it was read; a camera that has none is missing.
    ``recipe``: with their thresholds; ``judging_id``: of what is in them that verdicts can depend on.
    """

    file: Path
    config: LineConfig
    recipe_file: Path
    recipe: Recipe
    calibration_ids: dict[str, str]
    judging_id: str | None

    @property
    def calibration_id(self) -> str | None:
        """Of all its calibrations together; None without any."""
        cameras = (camera.camera_id for camera in self.config.cameras)
        return line_calibration_id([self.calibration_ids[each] for each in cameras if each in self.calibration_ids])

    @property
    def calibrations(self) -> CalibrationsInForce | None:
        """None without any."""
        folder = self.config.calibrations
        if folder is None or not self.calibration_ids:
            return None
        return CalibrationsInForce(CalibrationFolder(folder), self.recipe.recipe_id, self.calibration_ids)

    def to_json(self) -> str:
        """The whole line as text, for ``from_json``."""
        parts = {
            "file": str(self.file),
            "config": self.config.model_dump(mode="json"),
            "recipe_file": str(self.recipe_file),
            "recipe": self.recipe.model_dump(mode="json", by_alias=True),
            "calibration_ids": self.calibration_ids,
            "judging_id": self.judging_id,
        }
        return json.dumps(parts)

    @classmethod
    def from_json(cls, text: str) -> Line:
        """The line that ``to_json`` wrote; it was checked when it was read from its files."""
        parts = json.loads(text)
        return cls(
            file=Path(parts["file"]),
            config=LineConfig.model_validate_json(json.dumps(parts["config"])),
            recipe_file=Path(parts["recipe_file"]),
            recipe=Recipe.model_validate_json(json.dumps(parts["recipe"])),
            # A window of a line from before there were calibrations has none.
            calibration_ids=parts.get("calibration_ids", {}),
            judging_id=parts.get("judging_id"),
        )


def load_line(file: Path) -> Line:
    """Read a line and its recipe. Raises FaultsError with all faults of both files."""
    try:
        file = file.resolve()
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before Python 3.13
        raise FaultsError([Fault(str(file), "", str(error), "a readable YAML file")]) from error
    faults: list[Fault] = []
    content = _read_mapping(file)
    try:
        config = _validated(file, content, LineConfig)
    except FaultsError as error:
        # The recipe's faults are told with the line's, as far as the recipe can be found.
        if isinstance(content.get("recipe"), str):
            _load_recipe(resolved(file.parent / content["recipe"]), faults)
        raise FaultsError([*error.faults, *faults]) from error
    faults += unset_secrets(file, config)
    config = _with_absolute_paths(config, file.parent)
    recipe = _load_recipe(config.recipe, faults)
    if recipe is not None:
        line_cameras = {camera.camera_id for camera in config.cameras}
        for index, view in enumerate(recipe.views):
            if view.camera_id not in line_cameras:
                expected = f"one of the line's cameras: {', '.join(sorted(line_cameras))}"
                faults.append(Fault(str(config.recipe), f"views.{index}.camera_id", view.camera_id, expected))
        for index, camera in enumerate(config.cameras):
            if camera.camera_id not in {view.camera_id for view in recipe.views}:
                expected = f"a camera with a view in {config.recipe.name}"
                faults.append(Fault(str(file), f"cameras.{index}.camera_id", camera.camera_id, expected))
    model = None if recipe is None else resolved(config.recipe.parent / recipe.model)
    faults += faults_on_this_box(file, config, model)
    if faults or recipe is None:
        raise FaultsError(faults)
    calibrations = _calibrations(file, config, recipe)
    recipe = recipe.model_copy(update={"model": model})
    recipe = with_thresholds(recipe, {camera_id: _thresholds(body) for camera_id, body in calibrations.items()})
    ids = {camera_id: str(body["calibration_id"]) for camera_id, body in calibrations.items()}
    line = Line(file, config, config.recipe, recipe, ids, judging_id(calibrations))
    if (size := len(line.to_json().encode())) > _LINE_BYTES_MAX:
        got, expected = f"{size} bytes, recipe and all paths included", f"at most {_LINE_BYTES_MAX}"
        raise FaultsError([Fault(str(file), "", got, expected)])
    return line


def _calibrations(file: Path, config: LineConfig, recipe: Recipe) -> dict[str, Body]:
    """By camera, those in force. What else is in them is for whoever applies it. Raises FaultsError."""
    if config.calibrations is None:
        return {}
    store, found = CalibrationFolder(config.calibrations), {}
    faults: list[Fault] = []
    for index, camera in enumerate(config.cameras):
        try:
            body = store.in_force(recipe.recipe_id, camera.camera_id)
        except FaultsError as error:
            faults += error.faults
            continue
        except OSError as error:
            faults.append(Fault(str(file), "calibrations", f"{error.filename}: {error.strerror}", "a readable folder"))
            continue
        if body is None:
            continue
        found[camera.camera_id] = body
        size = body.get("width_px"), body.get("height_px")
        if size != (camera.width_px, camera.height_px):
            got = f"{camera.width_px}x{camera.height_px} px"
            expected = (
                f"{size[0]}x{size[1]}, as in {store.path(recipe.recipe_id, camera.camera_id)}; or calibrate again"
            )
            faults.append(Fault(str(file), f"cameras.{index}.width_px", got, expected))
    if faults:
        raise FaultsError(faults)
    return found


def _thresholds(calibration: Body) -> dict[str, float]:
    """By class; empty where none were calibrated. Another shape is told by whoever reads the whole calibration."""
    section = calibration.get("threshold")
    scores = section.get("reject_at_score") if isinstance(section, dict) else None
    scores = scores if isinstance(scores, dict) else {}
    return {name: score for name, score in scores.items() if isinstance(score, float)}


def load_model(file: Path, model: type[_Model]) -> _Model:
    """One YAML file as one pydantic model. Raises FaultsError with every fault in it."""
    return _validated(file, _read_mapping(file), model)


def _load_recipe(file: Path, faults: list[Fault]) -> Recipe | None:
    try:
        return load_model(file, Recipe)
    except FaultsError as error:
        faults += error.faults
        return None


def _read_mapping(file: Path) -> dict[Any, Any]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FaultsError([Fault(str(file), "", _reason(error), "a readable YAML file")]) from error
    try:
        content = yaml.load(text, Loader=UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise FaultsError([Fault(str(file), where, problem, "well-formed YAML")]) from error
    except RecursionError as error:
        raise FaultsError([Fault(str(file), "", "lists or mappings nested too deep", "well-formed YAML")]) from error
    if not isinstance(content, dict):
        raise FaultsError([Fault(str(file), "", quote(content), "a mapping of keys to values")])
    return content


def _validated(file: Path, content: dict[Any, Any], model: type[_Model]) -> _Model:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise FaultsError([_without_tag(fault) for fault in faults_of(str(file), error)]) from error


def _without_tag(fault: Fault) -> Fault:
    """Pydantic puts the tag of a union's member into the path; nobody wrote it into the file."""
    return replace(fault, key=_TAG_IN_KEY.sub(r"\1", fault.key))


def _reason(error: Exception) -> str:
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


def _with_absolute_paths(config: LineConfig, folder: Path) -> LineConfig:
    def absolute(path: Path | None) -> Path | None:
        return None if path is None else resolved(folder / path)

    # Two clients of one name throw each other out.
    client_id = config.mqtt.client_id or f"lineside-{hashlib.sha256(config.topic_root.encode()).hexdigest()[:8]}"
    cameras = [camera.with_absolute_paths(folder) for camera in config.cameras]
    images = config.images
    if images is not None:
        images = images.model_copy(update={"path": absolute(images.path)})
    recording = config.recording
    if recording is not None:
        recording = recording.model_copy(update={"path": absolute(recording.path)})
    return config.model_copy(
        update={
            "recipe": absolute(config.recipe),
            "cameras": cameras,
            "mqtt": config.mqtt.model_copy(
                update={"tls_ca_file": absolute(config.mqtt.tls_ca_file), "client_id": client_id}
            ),
            "images": images,
            "recording": recording,
            "calibrations": absolute(config.calibrations),
            "records": config.records.model_copy(update={"path": absolute(config.records.path)}),
            "runtime": config.runtime.model_copy(update={"engine_cache": absolute(config.runtime.engine_cache)}),
        }
    )
