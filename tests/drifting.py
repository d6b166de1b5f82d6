"""A plate on a belt beside a printed patch, under light and optics that may drift; and a line that looks at it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from pipeline.calibration_file import CalibrationStore, CameraCalibration, RegisteredSection, made_now
from pipeline.calibration_store import NEW
from pipeline.simulator.part_scene import Look, PartScene
from tests.service import write_line
from vision.registration import RegistrationSection, template_png

SIZE_PX = (320, 240)
PATCH_PX = (8, 4, 80, 40)
REGION = "16,8,64,32"
"""Well inside the patch: a blur mixes its edge with the belt."""
_TEMPLATE_PX = (96, 60, 128, 120)
_SEARCH_PX, _TOLERANCE_PX = 40, 30.0
_FLICKER, _JITTER_PX, _NOISE, _OPTICS_PX = 0.01, 0.7, 2.0, 0.7
SCENE = PartScene(*SIZE_PX)


@dataclass(frozen=True)
class Station:
    """What has drifted."""

    light: float = 1.0
    blur_px: float = 0.0
    shift_px: float = 0.0

    def frame(self, number: int) -> npt.NDArray[np.uint8]:
        """Of part ``number``: each lies a little elsewhere, under light that flickers."""
        rng = np.random.default_rng(number)
        x_px, y_px = rng.normal(0.0, _JITTER_PX, 2)
        picture: Any = SCENE.frame(Look(x_px + self.shift_px, y_px, noise_levels=0.0), seed=number).astype(np.float32)
        left, top, wide, high = PATCH_PX
        rows, columns = np.indices((high, wide)) // 8
        patch: Any = np.where((rows + columns) % 2 == 0, 60.0, 170.0).astype(np.float32)
        picture[top : top + high, left : left + wide] = cv2.GaussianBlur(patch, (0, 0), _OPTICS_PX)
        if self.blur_px:
            picture = cv2.GaussianBlur(picture, (0, 0), self.blur_px)
        picture = picture * self.light * (1.0 + rng.normal(0.0, _FLICKER)) + rng.normal(0.0, _NOISE, picture.shape)
        return np.asarray(np.clip(np.rint(picture), 0, 255), np.uint8)


def write_frames(folder: Path, station: Station, numbers: Sequence[int]) -> Path:
    folder.mkdir()
    for number in numbers:
        assert cv2.imwrite(str(folder / f"{number:06d}.png"), station.frame(number))
    return folder


def write_plate_line(folder: Path, port: int, **changes: Any) -> Path:
    """A line whose region is the plate, with the stub model; its registration is in force."""
    left, top, wide, high = SCENE.plate_px
    camera = {
        "camera_id": "cam0",
        "kind": "folder",
        "folder": "images",
        "width_px": SIZE_PX[0],
        "height_px": SIZE_PX[1],
        "pixel_format": "Mono8",
        "parts_per_min": 1200,
    }
    line = write_line(folder, port, **({"cameras": [camera], "calibrations": "calibrations"} | changes))
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    region = {"name": "plate", "x_px": left, "y_px": top, "width_px": wide, "height_px": high}
    recipe["views"][0]["regions"] = [region]
    recipe["rules"] = [{"class": "defective", "reject_at_score": 0.9}]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    keep_registration(folder / "calibrations")
    return line


def keep_registration(folder: Path, min_score: float = 0.4) -> CameraCalibration:
    """In force beside what is."""
    x_px, y_px, width_px, height_px = _TEMPLATE_PX
    template = SCENE.frame(Look(), seed=0)[y_px : y_px + height_px, x_px : x_px + width_px].copy()
    content = template_png(template)
    section: Mapping[str, Any] = {
        "template": {"x_px": x_px, "y_px": y_px, "width_px": width_px, "height_px": height_px},
        "template_sha256": hashlib.sha256(content).hexdigest(),
        "search_x_px": _SEARCH_PX,
        "search_y_px": _SEARCH_PX,
        "tolerance_x_px": _TOLERANCE_PX,
        "tolerance_y_px": _TOLERANCE_PX,
        "min_score": min_score,
        "min_contrast": 4.0,
        "levels": 1,
    }
    store = CalibrationStore(folder)
    store.keep_file(content)
    before = store.current("stub", "cam0") or CameraCalibration(
        calibration_id=NEW, recipe_id="stub", camera_id="cam0", width_px=SIZE_PX[0], height_px=SIZE_PX[1]
    )
    registered = RegisteredSection(made=made_now("Anna", []), registration=RegistrationSection.model_validate(section))
    return store.keep(before.model_copy(update={"registration": registered}))
