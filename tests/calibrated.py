"""A station whose camera is calibrated throughout, and what it sees: the truth is in this file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from pipeline.calibration_file import (
    CalibrationStore,
    CameraCalibration,
    EvenedSection,
    GeometrySection,
    RegisteredSection,
    made_now,
)
from pipeline.calibration_store import NEW
from pipeline.simulator.part_scene import Look, PartScene
from tests.seeing_models import write_blob_package
from tests.service import write_line
from vision.camera_geometry import CameraGeometry, Lens, undistorted_from_raw
from vision.flat_field import FlatFieldSection, MeasuredPercent, dark_png, gain_png
from vision.registration import RegistrationSection, template_png

Pixels = npt.NDArray[np.uint8]
RECIPE_ID, CAMERA_ID = "stub", "cam0"
WIDTH_PX, HEIGHT_PX = 360, 300
LENS = Lens(width_px=WIDTH_PX, height_px=HEIGHT_PX, fx_px=400.0, fy_px=400.0, cx_px=183.0, cy_px=147.0, k1=-0.12)
GEOMETRY = CameraGeometry(
    lens=LENS, belt_rotation=[0.02, -0.03, 0.01], belt_translation_mm=[0.0, 0.0, 200.0], part_height_mm=10.0
)
TEMPLATE_PX = (120, 90, 128, 120)
REGION_PX = (200, 140)
SPOT_PX = (REGION_PX[0] + 24, REGION_PX[1] + 32)
"""A cell of the model's."""
DARK = 4.0


def _light() -> npt.NDArray[np.float32]:
    x, y = np.meshgrid(np.linspace(-1, 1, WIDTH_PX), np.linspace(-1, 1, HEIGHT_PX))
    return (1.0 - 0.2 * (x * x + y * y)).astype(np.float32)


def part_seen(*, spot: bool = False, shift_px: tuple[int, int] = (0, 0)) -> Pixels:
    """The raw frame of a part: moved, bent by the lens, unevenly lit, with ``DARK`` in the sensor."""
    scene = PartScene(WIDTH_PX, HEIGHT_PX).frame(Look(), seed=0).astype(np.float32)
    if spot:
        x, y = SPOT_PX
        scene[y : y + 8, x : x + 8] = 250.0
    scene = np.roll(scene, shift_px[::-1], (0, 1))
    middles = np.stack(np.meshgrid(np.arange(WIDTH_PX) + 0.5, np.arange(HEIGHT_PX) + 0.5), axis=-1)
    places = (undistorted_from_raw(LENS, middles) - 0.5).astype(np.float32)
    x_px, y_px = np.ascontiguousarray(places[..., 0]), np.ascontiguousarray(places[..., 1])
    shown = cv2.remap(scene, x_px, y_px, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    raw: Pixels = np.rint(shown * _light() * 0.9 + DARK).clip(0, 255).astype(np.uint8)
    return raw


def keep_calibration(folder: Path) -> CameraCalibration:
    """Geometry, flat field and registration of the one camera, put in force in the store ``folder``."""
    store, made = CalibrationStore(folder), made_now("Anna", [])
    gain = gain_png(1.0 / _light(), np.zeros((HEIGHT_PX, WIDTH_PX), np.bool_))
    dark = dark_png(np.full((HEIGHT_PX, WIDTH_PX), DARK, np.float32))
    x_px, y_px, width_px, height_px = TEMPLATE_PX
    template = template_png(part_seen()[y_px : y_px + height_px, x_px : x_px + width_px].copy())
    for content in (gain, dark, template):
        store.keep_file(content)
    measured = MeasuredPercent(value=1.0, low=0.9, high=1.1)
    flat_field = FlatFieldSection(
        gain_sha256=_sha256(gain),
        dark_sha256=_sha256(dark),
        dark_frame_count=16,
        bright_frame_count=16,
        held_out_count=4,
        dead_count=0,
        hot_count=0,
        uneven_before_percent=measured,
        uneven_after_percent=measured,
    )
    registration = RegistrationSection.model_validate(
        {
            "template": {"x_px": x_px, "y_px": y_px, "width_px": width_px, "height_px": height_px},
            "template_sha256": _sha256(template),
            "search_x_px": 32,
            "search_y_px": 32,
            "tolerance_x_px": 12.0,
            "tolerance_y_px": 12.0,
            "min_score": 0.5,
            "min_contrast": 4.0,
            "levels": 2,
        }
    )
    before = store.current(RECIPE_ID, CAMERA_ID)
    beginning = before or CameraCalibration(
        calibration_id=NEW, recipe_id=RECIPE_ID, camera_id=CAMERA_ID, width_px=WIDTH_PX, height_px=HEIGHT_PX
    )
    sections = {
        "geometry": GeometrySection(made=made, camera=GEOMETRY, worst_error_mm=0.1),
        "flat_field": EvenedSection(made=made, flat_field=flat_field),
        "registration": RegisteredSection(made=made, registration=registration),
    }
    return store.keep(beginning.model_copy(update=sections))


def write_calibrated_line(folder: Path, port: int, frames: list[Pixels], **changes: Any) -> Path:
    """A line that plays these frames through the model that finds spots; its store is ``calibrations``."""
    images = folder / "images"
    images.mkdir(parents=True)
    for number, frame in enumerate(frames):
        assert cv2.imwrite(str(images / f"{number:03d}.png"), frame)
    line = write_line(folder, port, calibrations="calibrations", **changes)
    written = yaml.safe_load(line.read_text())
    written["cameras"][0] |= {"width_px": WIDTH_PX, "height_px": HEIGHT_PX, "parts_per_min": 600}
    line.write_text(yaml.safe_dump(written))
    write_blob_package(folder / "spots")
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe["model"] = "spots"
    region = {"name": "right", "x_px": REGION_PX[0], "y_px": REGION_PX[1], "width_px": 64, "height_px": 64}
    recipe["views"][0]["regions"] = [region]
    recipe["rules"] = [{"class": "bright", "reject_at_score": 0.8}]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return line


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
