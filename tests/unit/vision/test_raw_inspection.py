"""The same picture, sent in each pixel format, is judged alike; also where light, lens and place are calibrated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pipeline.simulator.part_scene import Look, PartScene
from tests.models import write_stub_package
from tests.seeing_models import write_blob_package
from vision.camera_geometry import CameraGeometry, Lens
from vision.correction import Correction
from vision.inspector import Inspector
from vision.package import ModelPackage, load_package
from vision.preprocess import FrameFormat, WrongFrame
from vision.raw import decoded_pixels
from vision.raw_picture import raw_pixels
from vision.recipe import Recipe
from vision.registration import Registration, RegistrationSection
from vision.runtime import open_session
from vision.types import Frame, PixelFormat, Verdict
from vision.view_calibration import UNCALIBRATED, ViewCalibration

Pixels = npt.NDArray[np.uint8]
WIDTH_PX, HEIGHT_PX = 360, 300
SCENE = PartScene(WIDTH_PX, HEIGHT_PX)
REFERENCE = SCENE.frame(Look(), seed=0)
TEMPLATE_PX = (120, 90, 128, 120)
RAW = [each for each in PixelFormat if each.is_raw]


def recipe_of(**changes: Any) -> Recipe:
    regions = [
        {"name": "left", "x_px": 101, "y_px": 99, "width_px": 64, "height_px": 64},
        {"name": "right", "x_px": 190, "y_px": 140, "width_px": 64, "height_px": 64},
    ]
    written: dict[str, Any] = {
        "recipe_id": "plates",
        "recipe_version": "1",
        "model": "model",
        "views": [{"camera_id": "top", "regions": regions}],
        "rules": [{"class": "bright", "reject_at_score": 0.5}],
    }
    return Recipe.model_validate(written | changes)


class Station:
    """An inspector of one camera, whose batch can be read."""

    def __init__(
        self,
        package: ModelPackage,
        pixel_format: PixelFormat,
        calibration: ViewCalibration = UNCALIBRATED,
        recipe: Recipe | None = None,
    ) -> None:
        recipe = recipe or recipe_of()
        self.pixel_format = pixel_format
        given: dict[str, Any] = {"intra_op_threads": 1, "engine_cache": None, "allow_fallback": False}
        self.session = open_session(package, provider="cpu", batch_rows=recipe.region_count, **given)
        frame_format = FrameFormat(WIDTH_PX, HEIGHT_PX, pixel_format)
        self.inspector = Inspector(
            recipe, package, self.session, {"top": frame_format}, calibrations={"top": calibration}
        )
        self.inspector.warm_up(1)

    def judged(self, pixels: Pixels) -> tuple[Any, ...]:
        self.inspector.begin()
        self.inspector.load(Frame("top", 1, self.pixel_format, pixels))
        self.inspector.infer()
        inspection, position = self.inspector.judge("top"), self.inspector.position("top")
        return (
            (inspection.verdict, inspection.score, [defect.box_px for defect in inspection.defects]),
            position,
            self.session.input.copy(),
        )


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return load_package(write_blob_package(tmp_path_factory.mktemp("blobs") / "model"))


def in_colour(picture: Pixels, pixel_format: PixelFormat) -> Pixels:
    return picture if pixel_format.channel_count == 1 else np.repeat(picture[:, :, None], 3, axis=2)


def registration() -> Registration:
    x_px, y_px, width_px, height_px = TEMPLATE_PX
    section = RegistrationSection.model_validate(
        {
            "template": {"x_px": x_px, "y_px": y_px, "width_px": width_px, "height_px": height_px},
            "template_sha256": "0" * 64,
            "search_x_px": 40,
            "search_y_px": 40,
            "tolerance_x_px": 20.5,
            "tolerance_y_px": 20.5,
            "min_score": 0.5,
            "min_contrast": 4.0,
            "levels": 2,
        }
    )
    return Registration(section, REFERENCE[y_px : y_px + height_px, x_px : x_px + width_px].copy())


def calibrations(pixel_format: PixelFormat) -> dict[str, ViewCalibration]:
    shape = pixel_format.decoded.shape(WIDTH_PX, HEIGHT_PX)
    chance = np.random.default_rng(1)
    flat_field = Correction(
        gain=chance.uniform(0.8, 1.4, shape).astype(np.float32),
        dark=chance.uniform(0.0, 9.0, shape).astype(np.float32),
        dead=chance.random(shape[:2]) < 0.001,
    )
    lens = Lens(
        width_px=WIDTH_PX, height_px=HEIGHT_PX, fx_px=400.0, fy_px=400.0, cx_px=183.0, cy_px=147.0, k1=-0.12, p1=0.002
    )
    geometry = CameraGeometry(
        lens=lens, belt_rotation=[0.0, 0.0, 0.0], belt_translation_mm=[0.0, 0.0, 200.0], part_height_mm=10.0
    )
    return {
        "place": ViewCalibration(registration=registration()),
        "light": ViewCalibration(flat_field=flat_field),
        "lens": ViewCalibration(geometry=geometry),
        "all": ViewCalibration(geometry=geometry, flat_field=flat_field, registration=registration()),
    }


@pytest.mark.parametrize("pixel_format", RAW)
@pytest.mark.parametrize("calibrated", ["place", "light", "lens", "all"])
def test_a_calibrated_view_judges_a_raw_frame_as_its_picture(
    blobs: ModelPackage, pixel_format: PixelFormat, calibrated: str
) -> None:
    """To the bit, wherever the part lies; of 10 and 12 bit the first eight count then."""
    calibration = calibrations(pixel_format)[calibrated]
    raw = Station(blobs, pixel_format, calibration)
    plain = Station(blobs, pixel_format.decoded, calibration)
    for shift in ((0, 0), (7, -5)):
        picture = in_colour(np.roll(REFERENCE, shift[::-1], (0, 1)), pixel_format)
        sent = raw_pixels(picture, pixel_format)
        (told, position, rows), (plain_told, plain_position, plain_rows) = (
            raw.judged(sent),
            plain.judged(decoded_pixels(sent, pixel_format)),
        )
        assert np.array_equal(rows, plain_rows)
        assert told == plain_told
        assert position == plain_position
        assert (position is not None) == (calibration.registration is not None)
        if position is not None:
            assert position.whole_px == shift


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_the_same_picture_gets_the_same_verdict_in_every_format(tmp_path: Path, pixel_format: PixelFormat) -> None:
    """Dark and bright parts whose score lies on either side of the recipe's."""
    package = load_package(write_stub_package(tmp_path / "stub"))
    recipe = recipe_of(rules=[{"class": "defective", "reject_at_score": 0.5}])
    station = Station(package, pixel_format, recipe=recipe)
    scores = []
    for level in (40, 210):
        picture = in_colour(np.full((HEIGHT_PX, WIDTH_PX), level, np.uint8), pixel_format)
        (verdict, score, _), _, rows = station.judged(raw_pixels(picture, pixel_format))
        assert verdict is (Verdict.REJECT if level > 127 else Verdict.PASS)
        assert np.abs(rows.max() - rows.min()) < 1e-5
        scores.append(score)
    expected = Station(package, PixelFormat.MONO8, recipe=recipe)
    plain = [expected.judged(np.full((HEIGHT_PX, WIDTH_PX), level, np.uint8))[0][1] for level in (40, 210)]
    assert scores == pytest.approx(plain, abs=1e-5)


def test_a_raw_frame_of_another_size_is_a_wrong_frame(blobs: ModelPackage) -> None:
    for calibration in (UNCALIBRATED, ViewCalibration(registration=registration())):
        station = Station(blobs, PixelFormat.MONO12P, calibration)
        with pytest.raises(WrongFrame, match=r"camera top: got a frame of shape \(300, 360\), expected \(300, 540\)"):
            station.judged(REFERENCE)
