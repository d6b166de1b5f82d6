"""The part is found where it lies, by rule not found where it does not, and the same pixels always give the same place."""

from __future__ import annotations

import hashlib
import tracemalloc
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.simulator.part_scene import Look, PartScene
from tests import naive
from vision.faults import FaultsError, faults_of
from vision.kernels import flat_rows
from vision.kernels.matching import best_places, climb, directions, halve, score_at, score_everywhere, to_grey
from vision.preprocess import FrameFormat, WrongFrame
from vision.registration import (
    PartLocator,
    PartOutOfPlace,
    PartPosition,
    Registration,
    RegistrationSection,
    read_template,
    registration_faults,
    template_png,
    top_of,
)
from vision.types import PixelFormat

Pixels = npt.NDArray[np.uint8]
WIDTH_PX, HEIGHT_PX = 360, 300
FORMAT = FrameFormat(WIDTH_PX, HEIGHT_PX, PixelFormat.MONO8)
SCENE = PartScene(WIDTH_PX, HEIGHT_PX)
TEMPLATE = {"x_px": 120, "y_px": 90, "width_px": 128, "height_px": 120}
SEARCH_PX = 40
REFERENCE = SCENE.frame(Look(), seed=0)
SEEDS = st.integers(0, 2**32 - 1)
INSIDE = st.integers(-SEARCH_PX + 1, SEARCH_PX - 1)


def section_of(**changes: Any) -> RegistrationSection:
    written: dict[str, Any] = {
        "template": TEMPLATE,
        "template_sha256": "0" * 64,
        "search_x_px": SEARCH_PX,
        "search_y_px": SEARCH_PX,
        "tolerance_x_px": 12.0,
        "tolerance_y_px": 8.0,
        "min_score": 0.5,
        "min_contrast": 4.0,
        "levels": 2,
    }
    return RegistrationSection.model_validate(written | changes)


def template_of(reference: Pixels, section: RegistrationSection) -> Pixels:
    where = section.template
    return reference[where.y_px : where.y_px + where.height_px, where.x_px : where.x_px + where.width_px].copy()


def locator_of(reference: Pixels = REFERENCE, frame_format: FrameFormat = FORMAT, **changes: Any) -> PartLocator:
    section = section_of(**changes)
    return PartLocator("top", Registration(section, template_of(reference, section)), frame_format)


LOCATOR = locator_of()
THOROUGH = locator_of(levels=0)
QUICK = {levels: locator_of(levels=levels) for levels in (1, 2, 3)}


def shifted(pixels: Pixels, dx: int, dy: int) -> Pixels:
    """The same picture moved; what comes in at the edges went out at the others, 80 px from anything that is searched."""
    moved: Pixels = np.roll(pixels, (dy, dx), (0, 1))
    return moved


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(3, 20),
    width=st.integers(3, 20),
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    min_contrast=st.floats(0.5, 60.0),
    gap=st.integers(0, 9),
    seed=SEEDS,
)
def test_directions_and_scores_are_what_the_readable_reference_says(
    height: int, width: int, rows: int, columns: int, min_contrast: float, gap: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    wide = width + columns - 1
    memory = rng.integers(0, 256, (height + rows - 1, wide + gap), np.uint8)
    memory[rng.random(memory.shape) < 0.3] = 128
    picture = memory[:, :wide]
    weakest_square = round((8 * min_contrast) ** 2)
    found = np.full((2, *picture.shape), 99, np.int8)
    flat, pitch = flat_rows(picture)
    directions(flat, pitch, 0, weakest_square, found)
    assert np.array_equal(found, naive.edge_directions(picture, min_contrast))
    template = np.ascontiguousarray(found[:, :height, :width])
    template_sum = int((template.astype(np.int64) ** 2).sum())
    scores = np.full((rows, columns), np.nan)
    score_everywhere(found, template, template_sum, scores)
    for v in range(rows):
        for u in range(columns):
            expected = naive.share_of_edges(found, template, u, v) if template_sum else 0.0
            assert scores[v, u] == pytest.approx(expected, abs=1e-12)
            assert score_at(found, template, template_sum, v, u) == scores[v, u]
    v, u = climb(found, template, template_sum, np.full_like(scores, np.nan), 0, 0, rows * columns)
    assert scores[v, u] == scores[max(0, v - 1) : v + 2, max(0, u - 1) : u + 2].max()


@settings(deadline=None, max_examples=60)
@given(height=st.integers(2, 30), width=st.integers(2, 30), first=st.integers(0, 5), gap=st.integers(0, 9), seed=SEEDS)
def test_a_smaller_picture_and_a_grey_one_are_what_the_readable_reference_says(
    height: int, width: int, first: int, gap: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    memory = rng.integers(0, 256, first + height * (width + gap), np.uint8)
    picture = np.lib.stride_tricks.as_strided(memory[first:], (height, width), (width + gap, 1))
    half = np.full((height // 2, width // 2), 99, np.uint8)
    halve(memory, width + gap, first, half)
    assert np.array_equal(half, naive.halved(picture))
    colours = rng.integers(0, 256, (height, width, 3), np.uint8)
    grey = np.zeros((height, width), np.uint8)
    to_grey(colours.reshape(-1), 3 * width, 0, np.array([77, 150, 29]), grey)
    exact = naive.channels_of(colours.astype(np.float64), "RGB8", "GRAY")[0]
    assert np.abs(grey - exact).max() < 1.5


@settings(deadline=None, max_examples=60)
@given(
    rows=st.integers(1, 12), columns=st.integers(1, 12), apart=st.integers(0, 4), wanted=st.integers(1, 4), seed=SEEDS
)
def test_the_best_places_are_the_highest_that_are_far_enough_apart(
    rows: int, columns: int, apart: int, wanted: int, seed: int
) -> None:
    scores = np.random.default_rng(seed).integers(-5, 6, (rows, columns)) / 5.0
    places = np.zeros((wanted, 2), np.int64)
    found = best_places(scores, apart, places)
    left = scores.copy()
    for row, column in places[:found].tolist():
        assert scores[row, column] == left.max()
        left[max(0, row - apart) : row + apart + 1, max(0, column - apart) : column + apart + 1] = -np.inf
    assert found == wanted or left.max() == -np.inf


@settings(deadline=None, max_examples=40)
@given(
    dx=st.floats(-38.0, 38.0),
    dy=st.floats(-38.0, 38.0),
    noise_levels=st.floats(0.0, 15.0),
    covered=st.floats(0.0, 0.4),
    levels=st.integers(1, 3),
    seed=SEEDS,
)
def test_the_quick_search_finds_what_the_search_of_every_place_finds(
    dx: float, dy: float, noise_levels: float, covered: float, levels: int, seed: int
) -> None:
    frame = SCENE.frame(Look(dx, dy, noise_levels=noise_levels, covered=covered), seed)
    thorough = THOROUGH.locate(frame)
    assert thorough.score == THOROUGH.every_score(frame).max()
    assert QUICK[levels].locate(frame) == thorough


@settings(deadline=None, max_examples=100)
@given(dx=INSIDE, dy=INSIDE)
def test_a_frame_moved_by_whole_pixels_moves_the_part_by_exactly_these(dx: int, dy: int) -> None:
    here, there = LOCATOR.locate(REFERENCE), LOCATOR.locate(shifted(REFERENCE, dx, dy))
    assert here.is_found
    assert here.whole_px == (0, 0)
    assert here.score == 1.0
    assert (there.is_found, there.whole_px, there.score) == (True, (dx, dy), here.score)
    assert (there.shift_x_px, there.shift_y_px) == (dx + here.shift_x_px, dy + here.shift_y_px)


@settings(deadline=None, max_examples=20)
@given(
    dx=st.floats(-30.0, 30.0),
    dy=st.floats(-30.0, 30.0),
    look=st.sampled_from(
        [
            Look(),
            Look(gain=0.5),
            Look(gain=1.4, offset=15.0),
            Look(blur_px=1.5),
            Look(noise_levels=10.0),
            Look(covered=0.35),
        ]
    ),
    seed=SEEDS,
)
def test_the_part_is_found_between_the_pixels_in_other_light_out_of_focus_and_half_covered(
    dx: float, dy: float, look: Look, seed: int
) -> None:
    moved = Look(dx, dy, 0.0, look.gain, look.offset, look.blur_px, look.noise_levels, look.covered)
    position = LOCATOR.locate(SCENE.frame(moved, seed))
    assert position.is_found
    assert position.shift_x_px == pytest.approx(dx, abs=0.5)
    assert position.shift_y_px == pytest.approx(dy, abs=0.5)
    assert abs(position.whole_px[0] - position.shift_x_px) <= 0.5
    assert abs(position.whole_px[1] - position.shift_y_px) <= 0.5


@pytest.mark.parametrize("levels", [0, 1, 2, 3])
def test_a_part_turned_a_little_is_found(levels: int) -> None:
    position = locator_of(levels=levels).locate(SCENE.frame(Look(11.0, -7.0, angle_deg=1.0), seed=1))
    assert position.is_found
    # The template's middle is not the plate's, about which it is turned.
    assert position.shift_x_px == pytest.approx(11.0, abs=1.0)
    assert position.shift_y_px == pytest.approx(-7.0, abs=1.0)


@settings(deadline=None, max_examples=20)
@given(
    shift=st.sampled_from([(60.0, 0.0), (0.0, -55.0), (-48.0, 44.0), (40.6, 0.0), (3.0, -40.7)]),
    seed=SEEDS,
)
def test_a_part_beyond_the_search_is_not_found(shift: tuple[float, float], seed: int) -> None:
    assert not LOCATOR.locate(SCENE.frame(Look(*shift), seed)).is_found


@pytest.mark.parametrize(
    "pixels",
    [
        SCENE.frame(Look(has_part=False), seed=5),
        np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8),
        np.full((HEIGHT_PX, WIDTH_PX), 255, np.uint8),
        np.add.outer(np.arange(HEIGHT_PX) // 3, np.arange(WIDTH_PX) // 3).astype(np.uint8),
        np.random.default_rng(0).integers(0, 256, (HEIGHT_PX, WIDTH_PX), np.uint8),
        255 - REFERENCE,
    ],
    ids=["empty belt", "black", "white", "ramp", "noise", "negative"],
)
def test_where_no_part_lies_none_is_found(pixels: Pixels) -> None:
    assert not LOCATOR.locate(pixels).is_found


@settings(deadline=None, max_examples=30)
@given(pixel_format=st.sampled_from([PixelFormat.BGR8, PixelFormat.RGB8]), gap=st.integers(0, 70), dx=INSIDE, dy=INSIDE)
def test_a_grey_picture_in_colour_with_any_stride_gives_the_same_place(
    pixel_format: PixelFormat, gap: int, dx: int, dy: int
) -> None:
    frame = shifted(REFERENCE, dx, dy)
    memory = np.zeros((HEIGHT_PX, WIDTH_PX * 3 + gap), np.uint8)
    memory[:, : WIDTH_PX * 3] = frame.repeat(3, axis=1)
    coloured = np.lib.stride_tricks.as_strided(memory, (HEIGHT_PX, WIDTH_PX, 3), (WIDTH_PX * 3 + gap, 3, 1))
    coloured.flags.writeable = False
    locator = locator_of(frame_format=FrameFormat(WIDTH_PX, HEIGHT_PX, pixel_format))
    assert locator.locate(coloured) == LOCATOR.locate(frame)
    apart = np.zeros((HEIGHT_PX, WIDTH_PX + gap), np.uint8)
    apart[:, :WIDTH_PX] = frame
    assert LOCATOR.locate(apart[:, :WIDTH_PX]) == LOCATOR.locate(frame)


def test_a_red_edge_weighs_by_the_order_of_the_channels() -> None:
    pixels = np.full((HEIGHT_PX, WIDTH_PX, 3), 100, np.uint8)
    pixels[:, :, 0] = REFERENCE
    in_rgb, in_bgr = (
        locator_of(frame_format=FrameFormat(WIDTH_PX, HEIGHT_PX, each), min_contrast=5.0)
        for each in (PixelFormat.RGB8, PixelFormat.BGR8)
    )
    # Blue has 29 of 256 parts, red 77: blue's edges are weaker than the contrast.
    assert in_rgb.locate(pixels).score > 0.5 > in_bgr.locate(pixels).score


@pytest.mark.parametrize("pixel_format", [PixelFormat.MONO8, PixelFormat.BGR8])
def test_after_the_first_frame_nothing_large_is_allocated(pixel_format: PixelFormat) -> None:
    locator = locator_of(frame_format=FrameFormat(WIDTH_PX, HEIGHT_PX, pixel_format))
    frame = REFERENCE if pixel_format is PixelFormat.MONO8 else np.repeat(REFERENCE[:, :, None], 3, axis=2)
    locator.locate(frame)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        locator.locate(frame)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    smallest_picture = (TEMPLATE["width_px"] // 4) * (TEMPLATE["height_px"] // 4)
    assert peak - before < 16_384, f"a picture of {smallest_picture} bytes upwards would show"


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((HEIGHT_PX, WIDTH_PX + 1), np.uint8),
        np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8),
        np.zeros((HEIGHT_PX, WIDTH_PX), np.uint16),
        np.zeros((HEIGHT_PX, 2 * WIDTH_PX), np.uint8)[:, ::2],
    ],
    ids=["wider", "colour", "16 bits", "gaps in a row"],
)
def test_a_frame_that_is_not_as_planned_is_a_wrong_frame(pixels: npt.NDArray[Any]) -> None:
    with pytest.raises(WrongFrame, match="camera top"):
        LOCATOR.locate(pixels)


@pytest.mark.parametrize(
    ("position", "text"),
    [
        (PartPosition(12.0, -8.0, 0.9, True, (12, -8)), ""),
        (PartPosition(12.1, 0.0, 0.9, True, (12, 0)), "12.1 px right of and 0.0 px above its place"),
        (PartPosition(-3.0, 8.5, 0.9, True, (-3, 8)), "3.0 px left of and 8.5 px below its place"),
        (PartPosition(0.0, 0.0, 0.31, False, (0, 0)), "no part found within 40 px .* got a score of 0.31"),
    ],
)
def test_a_part_out_of_tolerance_is_told_in_words(position: PartPosition, text: str) -> None:
    if not text:
        LOCATOR.check(position)
        return
    with pytest.raises(PartOutOfPlace, match=text):
        LOCATOR.check(position)


def test_a_templates_file_is_read_back_and_another_one_refused() -> None:
    template = template_of(REFERENCE, section_of())
    content = template_png(template)
    section = section_of(template_sha256=hashlib.sha256(content).hexdigest())
    assert np.array_equal(read_template(content, section, file="t.png").template, template)
    with pytest.raises(FaultsError, match=r"t\.png: sha256"):
        read_template(content + b"!", section, file="t.png")
    for wrong in (b"", b"no picture", template_png(template[:-1]), _colour_png(template)):
        section = section_of(template_sha256=hashlib.sha256(wrong).hexdigest())
        with pytest.raises(FaultsError, match=r"t\.png: got .* expected a grey PNG of 128 x 120 px"):
            read_template(wrong, section, file="t.png")


def _colour_png(template: Pixels) -> bytes:
    content: bytes = cv2.imencode(".png", np.repeat(template[:, :, None], 3, axis=2))[1].tobytes()
    return content


def test_a_search_that_leaves_the_frame_is_a_fault() -> None:
    near = section_of(template={"x_px": 39, "y_px": 150, "width_px": 128, "height_px": 120})
    faults = registration_faults(near, FORMAT, file="top.yaml")
    assert [fault.key for fault in faults] == ["registration.search_x_px", "registration.search_y_px"]
    assert "with the template from -1 to 207" in faults[0].got
    with pytest.raises(FaultsError, match="search_x_px"):
        PartLocator("top", Registration(near, template_of(REFERENCE, near)), FORMAT)
    assert not registration_faults(section_of(), FORMAT, file="top.yaml")


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"tolerance_x_px": 39.5}, "tolerance_x_px"),
        ({"tolerance_y_px": 40.0}, "tolerance_y_px"),
        ({"search_x_px": 20}, "search_x_px"),
        ({"min_score": 1.0}, "min_score"),
        ({"levels": 4}, "levels"),
        ({"min_contrast": 0.1}, "min_contrast"),
        ({"template": TEMPLATE | {"width_px": 16}}, "template.width_px"),
        ({"template_sha256": "ab"}, "template_sha256"),
        ({"sharpness": 1}, "sharpness"),
    ],
)
def test_a_section_that_cannot_be_used_is_refused(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(ValidationError) as caught:
        section_of(**changes)
    assert [fault.key for fault in faults_of("top.yaml", caught.value)] == [key]


@settings(deadline=None)
@given(
    top_x=st.floats(-0.49, 0.49),
    top_y=st.floats(-0.49, 0.49),
    bend_x=st.floats(-2.0, -0.1),
    bend_y=st.floats(-2.0, -0.1),
    tilt=st.floats(-0.9, 0.9),
    level=st.floats(-1.0, 1.0),
)
def test_a_paraboloid_through_nine_scores_has_its_top_there(
    top_x: float, top_y: float, bend_x: float, bend_y: float, tilt: float, level: float
) -> None:
    twist = tilt * (bend_x * bend_y) ** 0.5
    scores = [
        [
            level + bend_x * (x - top_x) ** 2 / 2 + bend_y * (y - top_y) ** 2 / 2 + twist * (x - top_x) * (y - top_y)
            for x in (-1, 0, 1)
        ]
        for y in (-1, 0, 1)
    ]
    assert top_of(np.array(scores)) == pytest.approx((top_x, top_y), abs=1e-9)


@pytest.mark.parametrize("across", [0.0, -1.0])
def test_scores_without_a_top_have_it_in_the_middle(across: float) -> None:
    """All alike, or a ridge."""
    assert top_of(np.array([[across, 0.0, across]] * 3)) == (0.0, 0.0)
