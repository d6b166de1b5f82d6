"""Regions of raw frames, corrected: ``vision.correction``, and what ``vision.preprocess`` does with it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import naive
from vision.correction import SUBSTITUTE_REACH_PX, Correction, substitutes_of
from vision.model_input import ModelInput
from vision.preprocess import FrameFormat, RegionPlan, WrongFrame
from vision.recipe import Region
from vision.types import PixelFormat

EXACT_LEVELS = 0.15
"""Dark levels are kept in 255 steps up to the highest one, here 20, and a gain multiplies what that makes, here by 2 at most."""

PIXEL_FORMATS = st.sampled_from([PixelFormat.MONO8, PixelFormat.BGR8, PixelFormat.RGB8])
COLOUR_ORDERS = st.sampled_from(["GRAY", "RGB", "BGR"])
SIZES = st.integers(2, 14)
GREY_WEIGHTS = {"R": 0.299, "G": 0.587, "B": 0.114}

Floats = npt.NDArray[np.float32]


def card(colour_order: str, width_px: int, height_px: int, **changes: Any) -> ModelInput:
    """Takes grey levels as they are."""
    count = 1 if colour_order == "GRAY" else 3
    plain = {"scale": 1.0, "mean": [0.0] * count, "std": [1.0] * count, "fit": "stretch"}
    size = {"name": "image", "width_px": width_px, "height_px": height_px, "colour_order": colour_order}
    return ModelInput.model_validate(size | plain | changes)


def region(x_px: int, y_px: int, width_px: int, height_px: int) -> Region:
    return Region(name="cell", x_px=x_px, y_px=y_px, width_px=width_px, height_px=height_px)


def noise(frame_format: FrameFormat, seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, frame_format.shape, np.uint8)


def filled(
    plan: RegionPlan, pixels: npt.NDArray[np.uint8], model_input: ModelInput, shift_px: tuple[int, int] = (0, 0)
) -> npt.NDArray[Any]:
    batch = np.full((3, *model_input.row_shape), 77, model_input.numpy_dtype)
    plan.fill(pixels, batch[1], shift_px)
    assert (batch[[0, 2]] == 77).all(), "wrote into a neighbouring row"
    row: npt.NDArray[Any] = batch[1]
    return row


def barrel(frame_format: FrameFormat, strength: float) -> tuple[Floats, Floats]:
    """Undistorted -> raw places of a lens whose corners are drawn in by about so much of the frame's half diagonal."""
    middle_x, middle_y = (frame_format.width_px - 1) / 2, (frame_format.height_px - 1) / 2
    x, y = np.meshgrid(np.arange(frame_format.width_px), np.arange(frame_format.height_px))
    radius = ((x - middle_x) ** 2 + (y - middle_y) ** 2) / (middle_x**2 + middle_y**2)
    return (
        (x - (x - middle_x) * strength * radius).astype(np.float32),
        (y - (y - middle_y) * strength * radius).astype(np.float32),
    )


def vignetting(frame_format: FrameFormat, strength: float) -> npt.NDArray[np.float64]:
    """The share of the light that each pixel gets, least in the corners; (height, width) or (height, width, 3)."""
    middle_x, middle_y = (frame_format.width_px - 1) / 2, (frame_format.height_px - 1) / 2
    x, y = np.meshgrid(np.arange(frame_format.width_px), np.arange(frame_format.height_px))
    share = 1 - strength * ((x - middle_x) ** 2 + (y - middle_y) ** 2) / (middle_x**2 + middle_y**2)
    return share if len(frame_format.shape) == 2 else share[:, :, None] * np.array([1.0, 0.95, 0.9])


@st.composite
def corrections(draw: st.DrawFn, frame_format: FrameFormat) -> Correction:
    """Noisy in every pixel, so that no place, channel or neighbour can be mistaken for another."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    map_x = map_y = gain = dark = dead = None
    if draw(st.booleans()):
        map_x, map_y = barrel(frame_format, draw(st.floats(0.0, 0.1)))
    if draw(st.booleans()):
        gain = generator.uniform(0.5, 2.0, frame_format.shape).astype(np.float32)
    if draw(st.booleans()):
        dark = generator.uniform(0.0, 20.0, frame_format.shape).astype(np.float32)
    if draw(st.booleans()):
        dead = np.zeros(frame_format.shape[:2], np.bool_)
        for _ in range(draw(st.integers(1, 4))):
            dead[draw(st.integers(0, dead.shape[0] - 1)), draw(st.integers(0, dead.shape[1] - 1))] = True
        dead[0, 0] = False
        if dead.all(axis=1).any() or dead.all(axis=0).any():
            dead[...] = False
    return Correction(map_x, map_y, gain, dark, dead)


@st.composite
def set_ups(draw: st.DrawFn) -> tuple[FrameFormat, Region, Correction, tuple[int, int], tuple[int, int]]:
    """Frame, region, correction, how far it may move, how far it has moved."""
    most = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    left, right = (draw(st.integers(most[0], most[0] + 3)) for _ in range(2))
    top, bottom = (draw(st.integers(most[1], most[1] + 3)) for _ in range(2))
    cell = region(left, top, draw(SIZES), draw(SIZES))
    frame_format = FrameFormat(left + cell.width_px + right, top + cell.height_px + bottom, draw(PIXEL_FORMATS))
    shift = draw(st.integers(-most[0], most[0])), draw(st.integers(-most[1], most[1]))
    return frame_format, cell, draw(corrections(frame_format)), most, shift


def expected_row(
    pixels: npt.NDArray[np.uint8],
    frame_format: FrameFormat,
    cell: Region,
    model_input: ModelInput,
    correction: Correction,
    most: tuple[int, int],
    shift_px: tuple[int, int],
) -> npt.NDArray[np.float64]:
    """The readable reference, for ``fit: stretch``."""
    height, width = frame_format.shape[:2]
    channels = frame_format.pixel_format.channel_count
    names = frame_format.pixel_format.value.removesuffix("8")
    if channels == 1:
        weights = [[1.0]] * model_input.channel_count
    elif model_input.colour_order == "GRAY":
        weights = [[GREY_WEIGHTS[name] for name in names]]
    else:
        weights = [[float(name == wanted) for name in names] for wanted in model_input.colour_order]
    whole = (height, width, channels)

    def of_each_pixel(values: Floats | None, otherwise: float) -> npt.NDArray[np.float64]:
        return np.full(whole, otherwise) if values is None else values.astype(np.float64).reshape(whole)

    map_y, map_x = np.mgrid[:height, :width].astype(np.float64)
    if correction.map_x_px is not None and correction.map_y_px is not None:
        map_x, map_y = correction.map_x_px.astype(np.float64), correction.map_y_px.astype(np.float64)
    columns = places(cell.x_px, cell.width_px, model_input.width_px, width, shift_px[0])
    rows = places(cell.y_px, cell.height_px, model_input.height_px, height, shift_px[1])
    return naive.corrected_row(
        pixels.reshape(whole),
        colour_weights=weights,
        places_x=columns[0],
        places_y=rows[0],
        entries_x=columns[1],
        entries_y=rows[1],
        shift_px=shift_px,
        map_x=map_x,
        map_y=map_y,
        gain=of_each_pixel(correction.gain, 1.0),
        dark=of_each_pixel(correction.dark, 0.0),
        dead=np.zeros((height, width), np.bool_) if correction.dead is None else correction.dead,
        around_px=(
            around_px(cell.width_px / model_input.width_px, most[0]),
            around_px(cell.height_px / model_input.height_px, most[1]),
        ),
    )


def around_px(step: float, most: int) -> int:
    """Enough pixels to reach from a moved output pixel's place to that of the nearest unmoved one."""
    return 1 + 2 * max(
        next(reach for reach in range(9) if reach + 1e-6 >= min(abs(shift - k * step) for k in range(100)))
        for shift in range(most + 1)
    )


def places(start_px: int, size_px: int, count: int, frame_px: int, shift_px: int) -> tuple[list[float], list[float]]:
    """Each output's centre, and the nearest to where it has moved to among those and their continuation."""
    step = size_px / count

    def place(index: int) -> float:
        unclamped = start_px + (index + 0.5) * step - 0.5
        least, most = (start_px, start_px + size_px - 1) if 0 <= index < count else (0, frame_px - 1)
        return float(min(max(unclamped, least), most))

    moved = int(np.floor(shift_px / step + 0.5))
    return [place(index) for index in range(count)], [place(index + moved) for index in range(count)]


@settings(deadline=None, max_examples=150)
@given(set_up=set_ups(), colour_order=COLOUR_ORDERS, width_px=SIZES, height_px=SIZES, seed=st.integers(0, 2**32 - 1))
def test_a_corrected_row_is_what_the_readable_reference_says(
    set_up: tuple[FrameFormat, Region, Correction, tuple[int, int], tuple[int, int]],
    colour_order: str,
    width_px: int,
    height_px: int,
    seed: int,
) -> None:
    frame_format, cell, correction, most, shift = set_up
    pixels = noise(frame_format, seed)
    pixels.flags.writeable = False
    exact = expected_row(pixels, frame_format, cell, card(colour_order, width_px, height_px), correction, most, shift)
    model_input = card(colour_order, width_px, height_px)
    row = filled(RegionPlan("top", cell, frame_format, model_input, correction, most), pixels, model_input, shift)
    assert np.abs(row - exact).max() < EXACT_LEVELS
    # The same normalised, and in bytes.
    count = model_input.channel_count
    normalised = card(
        colour_order, width_px, height_px, scale=1 / 255, mean=[0.4, 0.5, 0.6][:count], std=[0.2, 0.25, 0.3][:count]
    )
    row = filled(RegionPlan("top", cell, frame_format, normalised, correction, most), pixels, normalised, shift)
    mean, std = (np.array(values)[:, None, None] for values in (normalised.mean, normalised.std))
    assert np.abs((row * std + mean) * 255 - exact).max() < EXACT_LEVELS
    in_bytes = card(colour_order, width_px, height_px, dtype="uint8")
    row = filled(RegionPlan("top", cell, frame_format, in_bytes, correction, most), pixels, in_bytes, shift)
    assert np.abs(row - exact).max() < 0.5 + EXACT_LEVELS


@settings(deadline=None, max_examples=100)
@given(
    set_up=set_ups(),
    colour_order=COLOUR_ORDERS,
    width_px=SIZES,
    height_px=SIZES,
    fit=st.sampled_from(["stretch", "letterbox", "crop"]),
    crop_fraction=st.floats(0.3, 1.0),
    dtype=st.sampled_from(["float32", "uint8"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_correction_of_nothing_is_the_plain_row(
    set_up: tuple[FrameFormat, Region, Correction, tuple[int, int], tuple[int, int]],
    colour_order: str,
    width_px: int,
    height_px: int,
    fit: str,
    crop_fraction: float,
    dtype: str,
    seed: int,
) -> None:
    frame_format, cell, _, most, shift = set_up
    model_input = card(colour_order, width_px, height_px, fit=fit, crop_fraction=crop_fraction, dtype=dtype)
    pixels = noise(frame_format, seed)
    plain = filled(RegionPlan("top", cell, frame_format, model_input, None, most), pixels, model_input, shift)
    ones = Correction(
        *barrel(frame_format, 0.0),
        np.ones(frame_format.shape, np.float32),
        np.zeros(frame_format.shape, np.float32),
        np.zeros(frame_format.shape[:2], np.bool_),
    )
    for correction in (Correction(), ones):
        row = filled(RegionPlan("top", cell, frame_format, model_input, correction, most), pixels, model_input, shift)
        assert np.abs(row.astype(np.float64) - plain).max() < (EXACT_LEVELS if dtype == "float32" else 1.5)


@settings(deadline=None, max_examples=60)
@given(set_up=set_ups(), colour_order=COLOUR_ORDERS, seed=st.integers(0, 2**32 - 1))
def test_a_moved_region_without_correction_is_a_region_planned_there(
    set_up: tuple[FrameFormat, Region, Correction, tuple[int, int], tuple[int, int]], colour_order: str, seed: int
) -> None:
    frame_format, cell, _, most, shift = set_up
    model_input = card(colour_order, 9, 7)
    pixels = noise(frame_format, seed)
    moved = region(cell.x_px + shift[0], cell.y_px + shift[1], cell.width_px, cell.height_px)
    there = filled(RegionPlan("top", moved, frame_format, model_input), pixels, model_input)
    assert np.array_equal(
        filled(RegionPlan("top", cell, frame_format, model_input, None, most), pixels, model_input, shift), there
    )


@pytest.mark.parametrize("pixel_format", [PixelFormat.MONO8, PixelFormat.RGB8])
@pytest.mark.parametrize("side_px", [40, 90])
def test_a_corrected_row_agrees_with_opencv(pixel_format: PixelFormat, side_px: int) -> None:
    frame_format = FrameFormat(120, 100, pixel_format)
    share = vignetting(frame_format, 0.4)
    correction = Correction(*barrel(frame_format, 0.05), gain=(1 / share).astype(np.float32))
    blurred = cv2.GaussianBlur(noise(frame_format, 5), (0, 0), 4)
    pixels = np.clip((blurred.astype(np.float64) - 128) * 4 + 110, 0, 255).astype(np.uint8)
    model_input = card("GRAY" if pixel_format is PixelFormat.MONO8 else "RGB", side_px, side_px)
    row = filled(RegionPlan("top", region(10, 5, 90, 90), frame_format, model_input, correction), pixels, model_input)
    even = np.clip(pixels / share, 0, 255).astype(np.float32)
    undistorted = cv2.remap(even, *barrel(frame_format, 0.05), cv2.INTER_LINEAR)
    resized = cv2.resize(undistorted[5:95, 10:100], (side_px, side_px), interpolation=cv2.INTER_LINEAR)
    expected = resized.reshape(side_px, side_px, -1).transpose(2, 0, 1)
    # OpenCV blends twice, and places to 1/32 px: on a soft picture little in the mean, more at its steepest.
    assert np.abs(row - expected).mean() < 0.6
    assert np.abs(row - expected).max() < 6.0
    without = filled(RegionPlan("top", region(10, 5, 90, 90), frame_format, model_input), pixels, model_input)
    assert np.abs(without - expected).mean() > 5.0


@settings(deadline=None, max_examples=60)
@given(set_up=set_ups(), width_px=SIZES, height_px=SIZES, level=st.floats(30, 110), seed=st.integers(0, 2**32 - 1))
def test_even_light_comes_out_even_whatever_the_pixels_gains(
    set_up: tuple[FrameFormat, Region, Correction, tuple[int, int], tuple[int, int]],
    width_px: int,
    height_px: int,
    level: float,
    seed: int,
) -> None:
    frame_format, cell, correction, _, _ = set_up
    generator = np.random.default_rng(seed)
    dark = np.rint(generator.uniform(0, 15, frame_format.shape)).astype(np.float32)
    pixels = np.rint(dark + generator.uniform(0.5, 2.0, frame_format.shape) * level).astype(np.uint8)
    # Gains for the very bytes: what rounding the light to bytes makes is no matter here.
    gain = (level / (pixels - dark)).astype(np.float32)
    correction = replace(correction, gain=gain, dark=dark)
    if correction.dead is not None:
        pixels[correction.dead] = generator.integers(0, 256)
    model_input = card("GRAY" if frame_format.pixel_format is PixelFormat.MONO8 else "RGB", width_px, height_px)
    row = filled(RegionPlan("top", cell, frame_format, model_input, correction), pixels, model_input)
    assert np.abs(row - level).max() < EXACT_LEVELS


@settings(deadline=None, max_examples=100)
@given(set_up=set_ups(), colour_order=COLOUR_ORDERS, width_px=SIZES, height_px=SIZES, seed=st.integers(0, 2**32 - 1))
def test_what_a_dead_pixel_says_changes_nothing_wherever_the_region_lies(
    set_up: tuple[FrameFormat, Region, Correction, tuple[int, int], tuple[int, int]],
    colour_order: str,
    width_px: int,
    height_px: int,
    seed: int,
) -> None:
    frame_format, cell, correction, most, shift = set_up
    model_input = card(colour_order, width_px, height_px)
    plan = RegionPlan("top", cell, frame_format, model_input, correction, most)
    pixels = noise(frame_format, seed)
    rows = []
    for level in (0, 255):
        if correction.dead is not None:
            pixels[correction.dead] = level
        rows.append(filled(plan, pixels, model_input, shift))
    assert np.array_equal(rows[0], rows[1])


def test_a_moved_region_of_a_distorted_vignetted_frame_is_nearly_one_planned_there() -> None:
    frame_format = FrameFormat(640, 512, PixelFormat.MONO8)
    share = vignetting(frame_format, 0.4)
    correction = Correction(*barrel(frame_format, 0.02), gain=(1 / share).astype(np.float32))
    y, x = np.mgrid[:512, :640]
    waves = 100 + 60 * np.sin(x / 9.0) * np.cos(y / 11.0)
    pixels = np.rint(waves * share).astype(np.uint8)
    model_input = card("GRAY", 80, 80)
    plan = RegionPlan("top", region(300, 250, 200, 200), frame_format, model_input, correction, (31, 29))
    worst = 0.0
    for shift in ((31, 29), (-17, 8), (5, -29), (1, 1)):
        moved = region(300 + shift[0], 250 + shift[1], 200, 200)
        there = filled(RegionPlan("top", moved, frame_format, model_input, correction), pixels, model_input)
        worst = max(worst, float(np.abs(filled(plan, pixels, model_input, shift) - there).max()))
    # Entries of the tables are at most half an output pixel, 1.25 px, away: 0.1 px of displacement, a thousandth of gain.
    assert worst < 1.0
    assert np.abs(filled(plan, pixels, model_input, (31, 29)) - filled(plan, pixels, model_input)).max() > 20


def test_where_nothing_is_resized_a_moved_region_has_each_pixels_own_gain() -> None:
    frame_format = FrameFormat(160, 120, PixelFormat.MONO8)
    gain = np.random.default_rng(6).normal(1.0, 0.03, frame_format.shape).astype(np.float32)
    pixels = np.rint(150 / gain).astype(np.uint8)
    correction = Correction(gain=(150 / pixels).astype(np.float32))
    for size, bound in ((60, EXACT_LEVELS), (30, 20.0)):
        model_input = card("GRAY", size, size)
        plan = RegionPlan("top", region(50, 30, 60, 60), frame_format, model_input, correction, (20, 20))
        for shift in ((0, 0), (7, -13), (-20, 20)):
            row = filled(plan, pixels, model_input, shift)
            assert np.abs(row - 150).max() < bound
            # Shrunk, the pattern is no stronger than the camera's own.
            assert row.std() < 1.1 * 0.03 * 150


def test_saturated_and_darker_than_dark_pixels_stay_grey_levels() -> None:
    frame_format = FrameFormat(8, 8, PixelFormat.MONO8)
    correction = Correction(gain=np.full((8, 8), 3.0, np.float32), dark=np.full((8, 8), 10.0, np.float32))
    pixels = np.zeros((8, 8), np.uint8)
    pixels[:, 4:] = 255
    for dtype in ("float32", "uint8"):
        model_input = card("GRAY", 8, 8, dtype=dtype)
        row = filled(RegionPlan("top", region(0, 0, 8, 8), frame_format, model_input, correction), pixels, model_input)
        assert np.array_equal(row[0], np.where(np.arange(8) < 4, 0, 255)[None, :].repeat(8, axis=0))


def test_the_frames_border_is_read_and_nothing_behind_it() -> None:
    frame_format = FrameFormat(6, 5, PixelFormat.BGR8)
    memory = np.full(6 * 5 * 3 + 64, 255, np.uint8)
    pixels = memory[: 6 * 5 * 3].reshape(5, 6, 3)
    pixels[...] = 100
    map_x, map_y = barrel(frame_format, 0.0)
    outwards = Correction(map_x * np.float32(1.05), map_y * np.float32(1.05))
    model_input = card("RGB", 12, 10)
    row = filled(RegionPlan("top", region(0, 0, 6, 5), frame_format, model_input, outwards), pixels, model_input)
    assert np.abs(row - 100).max() < EXACT_LEVELS


BAD: list[tuple[dict[str, Any], str]] = [
    ({"map_x_px": np.zeros((30, 40), np.float32)}, "map_x_px, map_y_px: got one without the other"),
    ({"gain": np.ones((30, 40, 3), np.float32)}, r"gain: got shape \(30, 40, 3\), expected \(30, 40\)"),
    ({"gain": np.zeros((30, 40), np.float32)}, "gain: got 0 to 0, expected 0.1 to 16"),
    ({"gain": np.full((30, 40), np.nan, np.float32)}, "gain: got nan"),
    ({"dark": np.full((30, 40), -1, np.float32)}, "dark: got -1 to -1, expected 0 to 255"),
    ({"dead": np.zeros((40, 30), np.bool_)}, "dead: got shape"),
    ({"dead": np.ones((30, 40), np.bool_)}, f"dead: got no good pixel within {SUBSTITUTE_REACH_PX} px"),
]


@pytest.mark.parametrize(("given", "text"), BAD, ids=[text for _, text in BAD])
def test_a_correction_that_is_not_for_these_frames_is_refused(given: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match="camera top, region cell: " + text):
        RegionPlan(
            "top", region(0, 0, 40, 30), FrameFormat(40, 30, PixelFormat.MONO8), card("GRAY", 8, 8), Correction(**given)
        )


def test_a_region_that_the_undistorted_frame_does_not_show_whole_is_refused() -> None:
    frame_format = FrameFormat(400, 300, PixelFormat.MONO8)
    outwards = Correction(*barrel(frame_format, -0.05))
    with pytest.raises(ValueError, match=r"got a part that lies \d+.\d px outside the raw frame, left or right"):
        RegionPlan("top", region(0, 0, 400, 300), frame_format, card("GRAY", 200, 150), outwards)
    RegionPlan("top", region(100, 100, 200, 100), frame_format, card("GRAY", 200, 150), outwards)


def test_a_corrected_region_moves_no_further_than_planned_and_none_leaves_the_frame() -> None:
    frame_format, model_input = FrameFormat(40, 30, PixelFormat.MONO8), card("GRAY", 8, 8)
    pixels, row = np.zeros((30, 40), np.uint8), np.zeros((1, 8, 8), np.float32)
    corrected = RegionPlan("top", region(4, 5, 32, 20), frame_format, model_input, Correction(), (3, 4))
    corrected.fill(pixels, row, (-3, 4))
    with pytest.raises(ValueError, match=r"shift: got \(0, -5\) px, expected at most \(3, 4\) px"):
        corrected.fill(pixels, row, (0, -5))
    for plan in (corrected, RegionPlan("top", region(4, 5, 32, 20), frame_format, model_input)):
        with pytest.raises(WrongFrame, match="moved with the part it has x from 9 to 41 px"):
            plan.fill(pixels, row, (5, 0))


def test_a_frame_of_one_row_is_not_corrected() -> None:
    with pytest.raises(ValueError, match="sides of 2 to 16384 px"):
        RegionPlan("top", region(0, 0, 40, 1), FrameFormat(40, 1, PixelFormat.MONO8), card("GRAY", 8, 8), Correction())


def test_a_dead_pixel_lies_on_the_line_between_its_neighbours() -> None:
    dead = np.zeros((9, 9), np.bool_)
    dead[4, 3:5] = dead[0, 0] = dead[:, 7] = True
    slope = np.add.outer(3.0 * np.arange(9), 5.0 * np.arange(9))
    spoiled = np.where(dead, 1000.0, slope)
    mended = substitutes_of(dead).fill(spoiled)
    assert np.array_equal(mended[~dead], slope[~dead])
    assert np.allclose(mended[4, 3:5], slope[4, 3:5])
    assert np.allclose(mended[1:8, 7], slope[1:8, 7])
    assert mended[0, 0] == (slope[0, 1] + slope[1, 0]) / 2
