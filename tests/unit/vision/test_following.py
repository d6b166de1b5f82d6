"""Regions, zones and boxes follow the part; a part that is not found in its place is not judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.simulator.part_scene import Look, PartScene
from tests.models import write_stub_package
from tests.seeing_models import write_blob_package
from vision.inspector import Inspector, StageError
from vision.model_input import ModelInput
from vision.package import ModelPackage, load_package
from vision.part_mark import stamp
from vision.preprocess import FrameFormat, RegionPlan, WrongFrame
from vision.recipe import Recipe, Region
from vision.registration import PartOutOfPlace, Registration, RegistrationSection
from vision.runtime import Session, open_session
from vision.types import Frame, Inspection, PixelFormat, Verdict
from vision.view_calibration import ViewCalibration

Pixels = npt.NDArray[np.uint8]
FORMAT = FrameFormat(360, 300, PixelFormat.MONO8)
SCENE = PartScene(360, 300)
REFERENCE = SCENE.frame(Look(), seed=0)
TEMPLATE_PX = (120, 90, 128, 120)
LEFT = {"name": "left", "x_px": 100, "y_px": 100, "width_px": 64, "height_px": 64}
RIGHT = {"name": "right", "x_px": 190, "y_px": 140, "width_px": 64, "height_px": 64}
TOLERANCE_PX = 20
SHIFTS = st.integers(-TOLERANCE_PX, TOLERANCE_PX)


def registration_of(**changes: Any) -> Registration:
    x_px, y_px, width_px, height_px = TEMPLATE_PX
    written: dict[str, Any] = {
        "template": {"x_px": x_px, "y_px": y_px, "width_px": width_px, "height_px": height_px},
        "template_sha256": "0" * 64,
        "search_x_px": 40,
        "search_y_px": 40,
        "tolerance_x_px": TOLERANCE_PX + 0.5,
        "tolerance_y_px": TOLERANCE_PX + 0.5,
        "min_score": 0.5,
        "min_contrast": 4.0,
        "levels": 2,
    }
    section = RegistrationSection.model_validate(written | changes)
    return Registration(section, REFERENCE[y_px : y_px + height_px, x_px : x_px + width_px].copy())


def recipe_of(*regions: dict[str, Any], **changes: Any) -> Recipe:
    written: dict[str, Any] = {
        "recipe_id": "plates",
        "recipe_version": "1",
        "model": "model",
        "views": [{"camera_id": "top", "regions": list(regions) or [LEFT, RIGHT]}],
        "rules": [{"class": "bright", "reject_at_score": 0.5}],
    }
    return Recipe.model_validate(written | changes)


class Station:
    """An inspector whose batch can be read."""

    def __init__(self, package: ModelPackage, recipe: Recipe, registration: Registration | None) -> None:
        self.session: Session = open_session(
            package,
            provider="cpu",
            batch_rows=recipe.region_count,
            intra_op_threads=1,
            engine_cache=None,
            allow_fallback=False,
        )
        calibrations = {"top": ViewCalibration(registration=registration)}
        self.inspector = Inspector(recipe, package, self.session, {"top": FORMAT}, calibrations=calibrations)
        self.inspector.warm_up(1)

    def judged(self, pixels: Pixels) -> Inspection:
        self.inspector.begin()
        self.inspector.load(Frame("top", 1, PixelFormat.MONO8, pixels))
        self.inspector.infer()
        return self.inspector.judge("top")

    @property
    def rows(self) -> npt.NDArray[Any]:
        return self.session.input.copy()


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return load_package(write_blob_package(tmp_path_factory.mktemp("blobs") / "model"))


@pytest.fixture(scope="module")
def following(blobs: ModelPackage) -> Station:
    return Station(blobs, recipe_of(), registration_of())


@pytest.fixture(scope="module")
def fixed(blobs: ModelPackage) -> Station:
    return Station(blobs, recipe_of(), None)


def shifted(pixels: Pixels, dx: int, dy: int) -> Pixels:
    moved: Pixels = np.roll(pixels, (dy, dx), (0, 1))
    return moved


def boxes(inspection: Inspection) -> list[tuple[float, ...]]:
    return [defect.box_px for defect in inspection.defects]


@settings(deadline=None, max_examples=60)
@given(dx=SHIFTS, dy=SHIFTS)
def test_a_part_moved_by_whole_pixels_gives_the_same_rows_and_the_boxes_moved_with_it(
    following: Station, fixed: Station, dx: int, dy: int
) -> None:
    expected = fixed.judged(REFERENCE)
    rows, found = fixed.rows, fixed.inspector.findings("top")
    assert len(expected.defects) > 1, "the model sees the print"
    inspection = following.judged(shifted(REFERENCE, dx, dy))
    assert np.array_equal(following.rows, rows)
    assert (inspection.verdict, inspection.reason, inspection.score, inspection.headroom) == (
        expected.verdict,
        expected.reason,
        expected.score,
        expected.headroom,
    )
    assert boxes(inspection) == [(x1 + dx, y1 + dy, x2 + dx, y2 + dy) for x1, y1, x2, y2 in boxes(expected)]
    for here, there in zip(found, following.inspector.findings("top"), strict=True):
        assert np.array_equal(there.boxes_px, here.boxes_px + np.array([dx, dy, dx, dy], np.float32))
        assert np.array_equal(there.scores, here.scores)
    assert following.inspector.shift_px("top") == (dx, dy)
    position = following.inspector.position("top")
    assert position is not None
    assert position.whole_px == (dx, dy)


def test_the_same_frame_comes_to_the_same_whatever_came_before(blobs: ModelPackage, following: Station) -> None:
    """As it is between the line, an evaluation and a replay: each has an inspector of its own."""
    frames = [SCENE.frame(Look(dx, dy), seed) for seed, (dx, dy) in enumerate([(3.3, -7.7), (-11.5, 4.5), (0.5, 0.0)])]
    for pixels in frames:
        inspection, rows = following.judged(pixels), following.rows
        other = Station(blobs, recipe_of(), registration_of())
        assert other.judged(pixels) == inspection
        assert np.array_equal(other.rows, rows)
        assert other.inspector.position("top") == following.inspector.position("top")


def test_zones_follow_the_part(tmp_path: Path) -> None:
    """Of a stub whose findings are its regions: of a part in its place only the left one's middle lies in the zone."""
    package = load_package(write_stub_package(tmp_path / "stub"))
    rule = {
        "class": "defective",
        "reject_at_score": 0.1,
        "zone": {"x_px": 127, "y_px": 127, "width_px": 10, "height_px": 10},
    }
    station = Station(package, recipe_of(rules=[rule]), registration_of())
    for dx in (0, 18, -18):
        inspection = station.judged(shifted(REFERENCE, dx, -dx))
        assert inspection.verdict is Verdict.REJECT
        assert boxes(inspection) == [(100.0 + dx, 100.0 - dx, 164.0 + dx, 164.0 - dx)]


def test_what_is_missing_is_told_where_it_should_have_been(blobs: ModelPackage) -> None:
    zone = {"x_px": 100, "y_px": 100, "width_px": 64, "height_px": 64}
    required = {"class": "dark", "found_at_score": 0.99, "zone": zone}
    station = Station(blobs, recipe_of(rules=[], required=[required]), registration_of())
    inspection = station.judged(shifted(REFERENCE, 7, 5))
    assert [(defect.class_name, defect.box_px) for defect in inspection.defects] == [
        ("missing dark", (107.0, 105.0, 171.0, 169.0))
    ]


@pytest.mark.parametrize(
    ("look", "text"),
    [
        (
            Look(shift_x_px=25.0),
            r"camera top: got a part 2\d\.\d px right of and .* its place, expected at most 20.5 px",
        ),
        (Look(shift_y_px=-23.0), r"px above its place"),
        (Look(shift_x_px=70.0), "camera top: no part found"),
        (Look(has_part=False), "camera top: no part found"),
    ],
    ids=["too far right", "too far up", "beyond the search", "empty belt"],
)
def test_a_part_that_is_not_in_its_place_is_a_bad_frame(following: Station, look: Look, text: str) -> None:
    following.judged(REFERENCE)
    following.inspector.begin()
    with pytest.raises(PartOutOfPlace, match=text) as caught:
        following.inspector.load(Frame("top", 1, PixelFormat.MONO8, SCENE.frame(look, seed=3)))
    assert isinstance(caught.value, WrongFrame)
    following.inspector.infer()
    assert not following.rows.any(), "nothing of an earlier part is judged"
    with pytest.raises(StageError):
        following.inspector.judge("top")
    assert following.inspector.position("top") is not None


def test_a_region_that_leaves_the_frame_with_its_part_is_a_bad_frame(blobs: ModelPackage) -> None:
    edge = {"name": "edge", "x_px": 10, "y_px": 100, "width_px": 64, "height_px": 64}
    station = Station(blobs, recipe_of(LEFT, edge), registration_of())
    station.judged(shifted(REFERENCE, -10, 0))
    station.inspector.begin()
    with pytest.raises(WrongFrame, match="region edge: moved with the part it has x from -1 to 63 px, expected inside"):
        station.inspector.load(Frame("top", 1, PixelFormat.MONO8, shifted(REFERENCE, -11, 0)))
    station.inspector.infer()
    with pytest.raises(StageError):
        station.inspector.judge("top")


def test_the_mark_stays_where_it_is(blobs: ModelPackage) -> None:
    view = {"camera_id": "top", "regions": [LEFT], "part_mark": {"x_px": 0, "y_px": 0}}
    station = Station(blobs, recipe_of(views=[view]), registration_of())
    pixels = shifted(REFERENCE, 9, 9)
    stamp(pixels, 48_211, x_px=0, y_px=0)
    frame = Frame("top", 1, PixelFormat.MONO8, pixels)
    station.inspector.load(frame)
    assert station.inspector.read_mark(frame) == 48_211


def test_without_a_registration_nothing_moves(fixed: Station) -> None:
    fixed.judged(shifted(REFERENCE, 15, 0))
    assert fixed.inspector.position("top") is None
    assert fixed.inspector.shift_px("top") == (0, 0)


def test_a_part_of_another_camera_is_not_looked_for(blobs: ModelPackage) -> None:
    station = Station(blobs, recipe_of(), None)
    inspector = Inspector(
        recipe_of(),
        blobs,
        station.session,
        {"top": FORMAT},
        calibrations={"side": ViewCalibration(registration=registration_of())},
    )
    inspector.load(Frame("top", 1, PixelFormat.MONO8, SCENE.frame(Look(has_part=False), seed=0)))
    assert inspector.position("top") is None


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(
    pixel_format=st.sampled_from(list(PixelFormat)),
    colour_order=st.sampled_from(["GRAY", "RGB", "BGR"]),
    fit=st.sampled_from(["stretch", "letterbox", "crop"]),
    corner=st.tuples(st.integers(0, 9), st.integers(0, 9)),
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    shift=st.tuples(st.integers(-12, 12), st.integers(-12, 12)),
    gap=st.sampled_from([0, 5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_moved_region_is_the_region_that_is_planned_there(
    pixel_format: PixelFormat,
    colour_order: str,
    fit: str,
    corner: tuple[int, int],
    size: tuple[int, int],
    shift: tuple[int, int],
    gap: int,
    seed: int,
) -> None:
    frame_format = FrameFormat(32, 30, pixel_format)
    count = 1 if colour_order == "GRAY" else 3
    model_input = ModelInput.model_validate(
        {
            "name": "image",
            "width_px": 8,
            "height_px": 8,
            "colour_order": colour_order,
            "fit": fit,
            "scale": 1 / 255,
            "mean": [0.4] * count,
            "std": [0.2] * count,
        }
    )
    memory = np.random.default_rng(seed).integers(0, 256, (30, pixel_format.row_bytes(32) + gap), np.uint8)
    inner = (3, 1) if pixel_format in (PixelFormat.BGR8, PixelFormat.RGB8) else (1,)
    pixels = np.lib.stride_tricks.as_strided(memory, frame_format.shape, (memory.shape[1], *inner))

    def region(dx: int, dy: int) -> Region:
        where = {"x_px": corner[0] + dx, "y_px": corner[1] + dy, "width_px": size[0], "height_px": size[1]}
        return Region(name="cell", **where)

    row = np.zeros(model_input.row_shape, np.float32)
    plan = RegionPlan("top", region(0, 0), frame_format, model_input)
    x_px, y_px = corner[0] + shift[0], corner[1] + shift[1]
    if min(x_px, y_px) < 0 or x_px + size[0] > 32 or y_px + size[1] > 30:
        with pytest.raises(WrongFrame, match="camera top, region cell: moved with the part"):
            plan.fill(pixels, row, shift)
        return
    plan.fill(pixels, row, shift)
    expected = np.ones_like(row)
    RegionPlan("top", region(*shift), frame_format, model_input).fill(pixels, expected)
    assert np.array_equal(row, expected)
