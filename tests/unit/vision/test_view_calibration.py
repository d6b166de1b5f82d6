"""What is judged and told where a camera's lens, light and place are calibrated, from frames rendered with known truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.simulator.part_scene import Look, PartScene
from tests.seeing_models import write_blob_package
from vision.camera_geometry import CameraGeometry, Lens, mm_from_undistorted, undistorted_from_raw
from vision.correction import Correction
from vision.inspector import Inspector, RecipeError
from vision.package import ModelPackage, load_package
from vision.preprocess import FrameFormat
from vision.recipe import Recipe
from vision.registration import PartPosition, Registration, RegistrationSection, TemplateRegion
from vision.runtime import Session, open_session
from vision.types import Frame, Inspection, PixelFormat
from vision.view_calibration import UNCALIBRATED, ShiftRule, ViewCalibration

Pixels = npt.NDArray[np.uint8]
WIDTH_PX, HEIGHT_PX = 360, 300
FORMAT = FrameFormat(WIDTH_PX, HEIGHT_PX, PixelFormat.MONO8)
LENS = Lens(
    width_px=WIDTH_PX, height_px=HEIGHT_PX, fx_px=400.0, fy_px=400.0, cx_px=183.0, cy_px=147.0, k1=-0.12, p1=0.002
)
GEOMETRY = CameraGeometry(
    lens=LENS, belt_rotation=[0.02, -0.03, 0.01], belt_translation_mm=[0.0, 0.0, 200.0], part_height_mm=10.0
)
TOLERANCE_PX = 12


def raw_of(undistorted: npt.NDArray[np.float32]) -> Pixels:
    """The frame as this lens shows it, of what a pinhole would show."""
    middles = np.stack(np.meshgrid(np.arange(WIDTH_PX) + 0.5, np.arange(HEIGHT_PX) + 0.5), axis=-1)
    places = (undistorted_from_raw(LENS, middles) - 0.5).astype(np.float32)
    x_px, y_px = np.ascontiguousarray(places[..., 0]), np.ascontiguousarray(places[..., 1])
    shown = cv2.remap(undistorted, x_px, y_px, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    raw: Pixels = np.rint(shown).clip(0, 255).astype(np.uint8)
    return raw


def recipe_of(*corners: tuple[int, int], **changes: Any) -> Recipe:
    regions = [
        {"name": f"at {x},{y}", "x_px": x, "y_px": y, "width_px": 64, "height_px": 64}
        for x, y in corners or [(40, 30), (250, 200)]
    ]
    written = {
        "recipe_id": "plates",
        "recipe_version": "1",
        "model": "model",
        "views": [{"camera_id": "top", "regions": regions}],
        "rules": [{"class": "bright", "reject_at_score": 0.5}],
    }
    return Recipe.model_validate(written | changes)


class Station:
    """An inspector whose batch can be read."""

    def __init__(self, package: ModelPackage, recipe: Recipe, calibration: ViewCalibration) -> None:
        rows = recipe.region_count
        given: dict[str, Any] = {"intra_op_threads": 1, "engine_cache": None, "allow_fallback": False}
        self.session: Session = open_session(package, provider="cpu", batch_rows=rows, **given)
        self.inspector = Inspector(recipe, package, self.session, {"top": FORMAT}, calibrations={"top": calibration})
        self.inspector.warm_up(1)

    def judged(self, pixels: Pixels) -> Inspection:
        self.inspector.begin()
        self.inspector.load(Frame("top", 1, PixelFormat.MONO8, pixels))
        self.inspector.infer()
        return self.inspector.judge("top")


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return load_package(write_blob_package(tmp_path_factory.mktemp("blobs") / "model"))


def scene_with_a_spot(x_px: int, y_px: int) -> npt.NDArray[np.float32]:
    """A spot that fills the model's cell there exactly, on an almost black ground."""
    scene = np.full((HEIGHT_PX, WIDTH_PX), 10.0, np.float32)
    scene[y_px : y_px + 8, x_px : x_px + 8] = 240.0
    return scene


@pytest.mark.parametrize(("region", "cell"), [((8, 8), (1, 1)), ((280, 220), (6, 6)), ((150, 120), (3, 4))])
def test_what_the_lens_bends_is_found_where_it_is_and_told_in_mm(
    blobs: ModelPackage, region: tuple[int, int], cell: tuple[int, int]
) -> None:
    x_px, y_px = region[0] + 8 * cell[0], region[1] + 8 * cell[1]
    raw = raw_of(scene_with_a_spot(x_px, y_px))
    recipe = recipe_of(region)
    (defect,) = Station(blobs, recipe, ViewCalibration(geometry=GEOMETRY)).judged(raw).defects
    truth_px = (x_px - 2.0, y_px - 2.0, x_px + 10.0, y_px + 10.0)
    assert defect.box_px == pytest.approx(truth_px, abs=0.01)
    x1, y1, x2, y2 = truth_px
    corners_mm = mm_from_undistorted(GEOMETRY, [(x1, y1), (x2, y1), (x2, y2), (x1, y2)])
    assert defect.box_mm == pytest.approx((*corners_mm.min(0), *corners_mm.max(0)), abs=0.15)
    assert defect.area_mm2 is not None
    assert defect.area_mm2 == pytest.approx(float(cv2.contourArea(corners_mm.astype(np.float32))), rel=1e-3)


def test_without_the_geometry_the_corner_is_another_place(blobs: ModelPackage) -> None:
    """What the test above shows is the calibration's work."""
    raw = raw_of(scene_with_a_spot(8, 8))
    plain = Station(blobs, recipe_of((8, 8)), UNCALIBRATED).judged(raw)
    put_right = Station(blobs, recipe_of((8, 8)), ViewCalibration(geometry=GEOMETRY)).judged(raw)
    assert plain.score < put_right.score - 0.1
    assert all(defect.box_mm is None and defect.area_mm2 is None for defect in plain.defects)


def test_a_flat_field_shows_the_model_what_even_light_would(blobs: ModelPackage) -> None:
    scene = PartScene(WIDTH_PX, HEIGHT_PX).frame(Look(), seed=0).astype(np.float32)
    x, y = np.meshgrid(np.linspace(-1, 1, WIDTH_PX), np.linspace(-1, 1, HEIGHT_PX))
    share = (1.0 - 0.3 * (x * x + y * y)).astype(np.float32)
    dark = np.full(share.shape, 4.0, np.float32)
    dead = np.zeros(share.shape, np.bool_)
    raw = np.rint(scene * 0.9 * share + dark).clip(0, 255).astype(np.uint8)
    correction = Correction(gain=1.0 / share, dark=dark, dead=dead)
    even = Station(blobs, recipe_of(), UNCALIBRATED)
    even.judged(np.rint(scene * 0.9).astype(np.uint8))
    flat = Station(blobs, recipe_of(), ViewCalibration(flat_field=correction))
    flat.judged(raw)
    uneven = Station(blobs, recipe_of(), UNCALIBRATED)
    uneven.judged(raw)
    assert np.abs(flat.session.input - even.session.input).max() < 2 / 255
    assert np.abs(uneven.session.input - even.session.input).max() > 15 / 255


def registration_of(raw: Pixels) -> Registration:
    region = {"x_px": 120, "y_px": 90, "width_px": 128, "height_px": 120}
    section = {
        "template": region,
        "template_sha256": "0" * 64,
        "search_x_px": 32,
        "search_y_px": 32,
        "tolerance_x_px": TOLERANCE_PX + 1.0,
        "tolerance_y_px": TOLERANCE_PX + 1.0,
        "min_score": 0.4,
        "min_contrast": 4.0,
        "levels": 2,
    }
    return Registration(RegistrationSection.model_validate(section), raw[90:210, 120:248].copy())


@pytest.fixture(scope="module")
def moving() -> npt.NDArray[np.float32]:
    return PartScene(WIDTH_PX, HEIGHT_PX).frame(Look(), seed=0).astype(np.float32)


@pytest.fixture(scope="module")
def following(blobs: ModelPackage, moving: npt.NDArray[np.float32]) -> Station:
    calibration = ViewCalibration(geometry=GEOMETRY, registration=registration_of(raw_of(moving)))
    return Station(blobs, recipe_of((110, 100), (190, 130)), calibration)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(dx=st.integers(-TOLERANCE_PX, TOLERANCE_PX), dy=st.integers(-TOLERANCE_PX, TOLERANCE_PX))
def test_regions_follow_the_part_in_the_undistorted_frame(
    following: Station, moving: npt.NDArray[np.float32], dx: int, dy: int
) -> None:
    """The lens bends the part otherwise where it has moved to: what is seen raw is not the shift on the belt."""
    expected = following.judged(raw_of(moving))
    rows = following.session.input.copy()
    found = following.judged(raw_of(np.roll(moving, (dy, dx), (0, 1))))
    assert following.inspector.shift_px("top") == (dx, dy)
    # Resampled from other raw pixels: alike up to what two interpolations smooth away at the print's edges.
    assert np.abs(following.session.input - rows).mean() < 0.02
    # Of all shifts one, (3, 12), loses one of the print's 45 edges that way.
    assert {defect.class_name for defect in found.defects} == {defect.class_name for defect in expected.defects}
    assert abs(len(found.defects) - len(expected.defects)) <= 1


@pytest.mark.parametrize("k1", [-0.35, -0.1, 0.2])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (95.0, -63.5), (-120.3, 40.2), (13.0, 90.9)])
def test_a_shift_is_put_right_by_the_lens_and_not_by_a_line(k1: float, shift: tuple[float, float]) -> None:
    lens = Lens(width_px=640, height_px=480, fx_px=620.0, fy_px=620.0, cx_px=320.0, cy_px=240.0, k1=k1)
    geometry = CameraGeometry(lens=lens, belt_rotation=[0.0, 0.0, 0.0], belt_translation_mm=[0.0, 0.0, 300.0])
    section = {"x_px": 150, "y_px": 110, "width_px": 100, "height_px": 80}
    registration = registration_of(np.zeros((300, 360), np.uint8)).section.model_copy(
        update={
            "template": TemplateRegion.model_validate(section),
            "search_x_px": 128,
            "search_y_px": 96,
            "tolerance_x_px": 127.0,
            "tolerance_y_px": 95.0,
        }
    )
    calibration = ViewCalibration(
        geometry=geometry, registration=Registration(registration, np.zeros((80, 100), np.uint8))
    )
    rule = ShiftRule(calibration)
    middle = np.array([200.0, 150.0])
    truth = undistorted_from_raw(lens, middle + shift) - undistorted_from_raw(lens, middle)
    found = rule.whole_px(PartPosition(*shift, 0.9, True, (round(shift[0]), round(shift[1]))))
    assert np.abs(np.array(found) - truth).max() < 0.55
    assert (np.abs(found) <= rule.shift_max_px).all()


def test_a_region_that_the_camera_does_not_see_is_told(blobs: ModelPackage) -> None:
    pincushion = LENS.model_copy(update={"k1": 0.25, "p1": 0.0})
    geometry = GEOMETRY.model_copy(update={"lens": pincushion})
    with pytest.raises(RecipeError, match=r"views\.0\.regions\.0: got one that is up to \d+\.\d px outside") as caught:
        Station(blobs, recipe_of((0, 0), (150, 120)), ViewCalibration(geometry=geometry))
    assert len(caught.value.faults) == 1
    seen = recipe_of((10, 120))
    Station(blobs, seen, ViewCalibration(geometry=geometry))
    moving = ViewCalibration(geometry=geometry, registration=registration_of(np.zeros((300, 360), np.uint8)))
    with pytest.raises(RecipeError, match=r"and its part up to 1\d px out of place"):
        Station(blobs, seen, moving)


def test_a_geometry_of_other_frames_is_refused(blobs: ModelPackage, tmp_path: Path) -> None:
    lens = Lens(width_px=400, height_px=300, fx_px=400.0, fy_px=400.0, cx_px=200.0, cy_px=150.0)
    geometry = GEOMETRY.model_copy(update={"lens": lens})
    with pytest.raises(ValueError, match="that of the camera's frames"):
        Station(blobs, recipe_of((150, 120)), ViewCalibration(geometry=geometry))
