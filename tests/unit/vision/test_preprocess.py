from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import naive
from vision.model_input import ModelInput
from vision.preprocess import FrameFormat, RegionPlan, WrongFrame
from vision.raw import decoded_pixels
from vision.raw_picture import raw_pixels
from vision.recipe import Region
from vision.types import PixelFormat

EXACT_GREY_LEVELS = 1e-3
"""Float rounding against the double precision reference, in grey levels."""
HALF_A_LEVEL = 0.5
"""What rounding to the nearest byte costs, beside that."""
OPENCV_GREY_LEVELS = 1.5
"""OpenCV resizes uint8 in fixed point and rounds, and for GRAY rounds once more: 1 and half a level more."""

PICTURE_FORMATS = [PixelFormat.MONO8, PixelFormat.BGR8, PixelFormat.RGB8]
PIXEL_FORMATS = st.sampled_from(list(PixelFormat))
COLOUR_ORDERS = st.sampled_from(["GRAY", "RGB", "BGR"])
FITS = st.sampled_from(["stretch", "letterbox"])
SIZES = st.integers(1, 24)


def model_input(colour_order: str, width_px: int, height_px: int, **changes: Any) -> ModelInput:
    count = 1 if colour_order == "GRAY" else 3
    return ModelInput.model_validate(
        {
            "name": "image",
            "width_px": width_px,
            "height_px": height_px,
            "colour_order": colour_order,
            "fit": "stretch",
            "scale": 1 / 255,
            "mean": [0.45, 0.41, 0.5][:count],
            "std": [0.22, 0.2, 0.25][:count],
        }
        | changes
    )


def region(x_px: int, y_px: int, width_px: int, height_px: int) -> Region:
    return Region(name="cell", x_px=x_px, y_px=y_px, width_px=width_px, height_px=height_px)


def frame_of(frame_format: FrameFormat, seed: int, gap_bytes: int = 0) -> npt.NDArray[np.uint8]:
    """Noise, its rows ``gap_bytes`` further apart than they need be, as in a ring's slot."""
    height, *row = frame_format.shape
    row_bytes = int(np.prod(row))
    memory = np.random.default_rng(seed).integers(0, 256, (height, row_bytes + gap_bytes), np.uint8)
    strides = (row_bytes + gap_bytes, *((3, 1) if len(row) == 2 else (1,)))
    return np.lib.stride_tricks.as_strided(memory, frame_format.shape, strides)


def seen(pixels: npt.NDArray[np.uint8], pixel_format: PixelFormat) -> npt.NDArray[Any]:
    """The frame's picture by the readable reference."""
    return naive.decoded(pixels, pixel_format.value) if pixel_format.is_raw else pixels


def grey_levels(row: npt.NDArray[Any], card: ModelInput) -> npt.NDArray[np.float64]:
    mean, std = (np.array(values)[:, None, None] for values in (card.mean, card.std))
    levels: npt.NDArray[np.float64] = (row * std + mean) / card.scale
    return levels


def byte_input(colour_order: str, width_px: int, height_px: int, **changes: Any) -> ModelInput:
    """A model that takes pixels as they are."""
    count = 1 if colour_order == "GRAY" else 3
    raw = {"dtype": "uint8", "scale": 1.0, "mean": [0.0] * count, "std": [1.0] * count}
    return model_input(colour_order, width_px, height_px, **raw, **changes)


def filled_bytes(plan: RegionPlan, pixels: npt.NDArray[np.uint8], card: ModelInput) -> npt.NDArray[np.uint8]:
    """The same twice on other memory: what was there before must not show."""
    rows: list[npt.NDArray[np.uint8]] = []
    for before in (0, 255):
        batch: npt.NDArray[np.uint8] = np.full((3, *card.row_shape), before, np.uint8)
        plan.fill(pixels, batch[1])
        assert (batch[[0, 2]] == before).all(), "wrote into a neighbouring row"
        rows.append(batch[1])
    assert np.array_equal(rows[0], rows[1])
    return rows[0]


def filled(plan: RegionPlan, pixels: npt.NDArray[np.uint8], card: ModelInput) -> npt.NDArray[np.float32]:
    batch: npt.NDArray[np.float32] = np.full((3, *card.row_shape), np.nan, np.float32)
    row: npt.NDArray[np.float32] = batch[1]
    plan.fill(pixels, row)
    assert np.isnan(batch[[0, 2]]).all(), "wrote into a neighbouring row"
    return row


@st.composite
def regions_in_frames(draw: st.DrawFn) -> tuple[FrameFormat, Region]:
    left, top, right, bottom = (draw(st.integers(0, 9)) for _ in range(4))
    width, height = draw(SIZES), draw(SIZES)
    pixel_format = draw(PIXEL_FORMATS)
    step_x, step_y = pixel_format.width_step_px, pixel_format.height_step_px
    frame_width, frame_height = left + width + right, top + height + bottom
    frame_format = FrameFormat(-(-frame_width // step_x) * step_x, -(-frame_height // step_y) * step_y, pixel_format)
    return frame_format, region(left, top, width, height)


@settings(deadline=None, max_examples=150)
@given(
    where=regions_in_frames(),
    colour_order=COLOUR_ORDERS,
    width_px=SIZES,
    height_px=SIZES,
    fit=st.sampled_from(["stretch", "letterbox", "crop"]),
    crop_fraction=st.floats(0.3, 1.0),
    pad_value=st.integers(0, 255),
    gap_bytes=st.sampled_from([0, 1, 7, 64]),
    is_read_only=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_row_is_what_the_readable_reference_says(
    where: tuple[FrameFormat, Region],
    colour_order: str,
    width_px: int,
    height_px: int,
    fit: str,
    crop_fraction: float,
    pad_value: int,
    gap_bytes: int,
    is_read_only: bool,
    seed: int,
) -> None:
    frame_format, cell = where
    card = model_input(colour_order, width_px, height_px, fit=fit, pad_value=pad_value, crop_fraction=crop_fraction)
    pixels = frame_of(frame_format, seed, gap_bytes)
    if is_read_only:
        pixels.flags.writeable = False
    row = filled(RegionPlan("top", cell, frame_format, card), pixels, card)
    expected = naive.preprocess(
        seen(pixels, frame_format.pixel_format),
        pixel_format=frame_format.pixel_format.decoded.value,
        x_px=cell.x_px,
        y_px=cell.y_px,
        width_px=cell.width_px,
        height_px=cell.height_px,
        colour_order=colour_order,
        out_width_px=width_px,
        out_height_px=height_px,
        scale=card.scale,
        mean=card.mean,
        std=card.std,
        fit=fit,
        pad_value=pad_value,
        crop_fraction=crop_fraction,
    )
    assert np.abs(grey_levels(row, card) - grey_levels(expected, card)).max() < EXACT_GREY_LEVELS


@settings(deadline=None, max_examples=150)
@given(
    where=regions_in_frames(),
    colour_order=COLOUR_ORDERS,
    width_px=SIZES,
    height_px=SIZES,
    fit=FITS,
    pad_value=st.integers(0, 255),
    extreme=st.sampled_from([None, 0, 255]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_row_of_bytes_is_the_reference_rounded(
    where: tuple[FrameFormat, Region],
    colour_order: str,
    width_px: int,
    height_px: int,
    fit: str,
    pad_value: int,
    extreme: int | None,
    seed: int,
) -> None:
    frame_format, cell = where
    card = byte_input(colour_order, width_px, height_px, fit=fit, pad_value=pad_value)
    pixels = frame_of(frame_format, seed)
    if extreme is not None:
        pixels[...] = extreme
    row = filled_bytes(RegionPlan("top", cell, frame_format, card), pixels, card)
    exact = naive.preprocess(
        np.minimum(seen(pixels, frame_format.pixel_format), 255),
        pixel_format=frame_format.pixel_format.decoded.value,
        x_px=cell.x_px,
        y_px=cell.y_px,
        width_px=cell.width_px,
        height_px=cell.height_px,
        colour_order=colour_order,
        out_width_px=width_px,
        out_height_px=height_px,
        scale=1.0,
        mean=card.mean,
        std=card.std,
        fit=fit,
        pad_value=pad_value,
    )
    difference = np.abs(row - exact)
    assert difference.max() < HALF_A_LEVEL + EXACT_GREY_LEVELS
    # Ties aside, it is the very byte.
    is_tie = np.abs(exact - np.floor(exact) - HALF_A_LEVEL) < EXACT_GREY_LEVELS
    assert np.array_equal(row[~is_tie], naive.nearest(exact)[~is_tie])


def opencv(
    pixels: npt.NDArray[np.uint8], pixel_format: PixelFormat, cell: Region, card: ModelInput
) -> npt.NDArray[np.float64]:
    """OpenCV's chain in grey levels, without letterbox borders: (channels, height, width)."""
    crop = pixels[cell.y_px : cell.y_px + cell.height_px, cell.x_px : cell.x_px + cell.width_px]
    size = (card.width_px, card.height_px)
    if card.fit == "letterbox":
        ratio = min(card.width_px / cell.width_px, card.height_px / cell.height_px)
        size = (max(1, round(cell.width_px * ratio)), max(1, round(cell.height_px * ratio)))
    small = cv2.resize(crop, size, interpolation=cv2.INTER_LINEAR)
    conversions = {
        ("Mono8", "RGB"): cv2.COLOR_GRAY2RGB,
        ("Mono8", "BGR"): cv2.COLOR_GRAY2BGR,
        ("BGR8", "GRAY"): cv2.COLOR_BGR2GRAY,
        ("RGB8", "GRAY"): cv2.COLOR_RGB2GRAY,
        ("BGR8", "RGB"): cv2.COLOR_BGR2RGB,
        ("RGB8", "BGR"): cv2.COLOR_RGB2BGR,
    }
    if (conversion := conversions.get((pixel_format.value, card.colour_order))) is not None:
        small = cv2.cvtColor(small, conversion)
    levels = small.astype(np.float64).reshape(size[1], size[0], -1).transpose(2, 0, 1)
    if card.fit == "letterbox":
        below, right = card.height_px - size[1], card.width_px - size[0]
        borders = ((0, 0), (below // 2, below - below // 2), (right // 2, right - right // 2))
        levels = np.pad(levels, borders, constant_values=card.pad_value)
    return levels


@settings(deadline=None, max_examples=80)
@given(
    pixel_format=st.sampled_from(PICTURE_FORMATS),
    colour_order=COLOUR_ORDERS,
    source=st.tuples(st.integers(2, 200), st.integers(2, 200)),
    target=st.tuples(st.integers(2, 200), st.integers(2, 200)),
    fit=FITS,
    seed=st.integers(0, 2**32 - 1),
)
def test_a_row_agrees_with_opencv(
    pixel_format: PixelFormat,
    colour_order: str,
    source: tuple[int, int],
    target: tuple[int, int],
    fit: str,
    seed: int,
) -> None:
    frame_format = FrameFormat(source[0] + 5, source[1] + 3, pixel_format)
    cell = region(2, 1, *source)
    card = model_input(colour_order, *target, fit=fit)
    pixels = frame_of(frame_format, seed)
    row = filled(RegionPlan("top", cell, frame_format, card), pixels, card)
    bound = OPENCV_GREY_LEVELS if colour_order == "GRAY" and pixel_format is not PixelFormat.MONO8 else 1.0
    assert np.abs(grey_levels(row, card) - opencv(pixels, pixel_format, cell, card)).max() <= bound


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
@pytest.mark.parametrize("colour_order", ["GRAY", "RGB", "BGR"])
def test_a_region_of_the_models_size_keeps_its_grey_levels(pixel_format: PixelFormat, colour_order: str) -> None:
    frame_format = FrameFormat(40, 30, pixel_format)
    card = model_input(colour_order, 16, 12)
    pixels = frame_of(frame_format, seed=3)
    row = filled(RegionPlan("top", region(20, 10, 16, 12), frame_format, card), pixels, card)
    crop = naive.channels_of(
        seen(pixels, pixel_format)[10:22, 20:36].astype(np.float64), pixel_format.decoded.value, colour_order
    )
    assert np.abs(grey_levels(row, card) - np.stack(crop)).max() < EXACT_GREY_LEVELS


def test_pixels_outside_the_region_change_nothing() -> None:
    frame_format = FrameFormat(40, 30, PixelFormat.BGR8)
    card = model_input("RGB", 16, 12)
    plan = RegionPlan("top", region(7, 5, 21, 13), frame_format, card)
    pixels = frame_of(frame_format, seed=4)
    before = filled(plan, pixels, card)
    inside = pixels[5:18, 7:28].copy()
    pixels[...] = 255 - pixels
    pixels[5:18, 7:28] = inside
    assert np.array_equal(filled(plan, pixels, card), before)


@settings(deadline=None, max_examples=150)
@given(
    where=regions_in_frames(),
    colour_order=COLOUR_ORDERS,
    side_px=st.tuples(SIZES, SIZES),
    dtype=st.sampled_from(["float32", "uint8"]),
    shift=st.tuples(st.integers(-3, 3), st.integers(-3, 3)),
    gap_bytes=st.sampled_from([0, 1, 7]),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_raw_frame_gives_the_very_row_of_its_picture(
    where: tuple[FrameFormat, Region],
    colour_order: str,
    side_px: tuple[int, int],
    dtype: str,
    shift: tuple[int, int],
    gap_bytes: int,
    seed: int,
) -> None:
    """Of 8 bit, bit by bit; of 10 and 12 the picture of 8 is at most a level darker."""
    frame_format, cell = where
    card = (model_input if dtype == "float32" else byte_input)(colour_order, *side_px)
    pixels = frame_of(frame_format, seed, gap_bytes)
    picture = decoded_pixels(pixels, frame_format.pixel_format)
    shift_px = (
        min(max(shift[0], -cell.x_px), frame_format.width_px - cell.x_px - cell.width_px),
        min(max(shift[1], -cell.y_px), frame_format.height_px - cell.y_px - cell.height_px),
    )
    rows = [np.zeros(card.row_shape, dtype) for _ in range(2)]
    RegionPlan("top", cell, frame_format, card).fill(pixels, rows[0], shift_px)
    RegionPlan("top", cell, frame_format.decoded, card).fill(picture, rows[1], shift_px)
    if frame_format.pixel_format.bit_depth == 8:
        assert np.array_equal(rows[0], rows[1])
    else:
        brighter = grey_levels(rows[0].astype(np.float64), card) - grey_levels(rows[1].astype(np.float64), card)
        assert brighter.min() >= -EXACT_GREY_LEVELS
        assert brighter.max() <= 1.0 + EXACT_GREY_LEVELS


def test_fractions_of_a_level_come_through() -> None:
    """12 bit tell apart what 8 bit do not."""
    frame_format = FrameFormat(16, 12, PixelFormat.MONO12P)
    card = model_input("GRAY", 16, 12)
    fine = np.arange(16 * 12, dtype=np.uint16).reshape(12, 16) * 16 + 1600 * 16
    row = filled(
        RegionPlan("top", region(0, 0, 16, 12), frame_format, card), raw_pixels(fine, PixelFormat.MONO12P), card
    )
    assert np.abs(grey_levels(row, card)[0] - (fine / 256)).max() < EXACT_GREY_LEVELS


def test_white_of_12_bit_is_white_for_a_model_that_takes_bytes() -> None:
    frame_format = FrameFormat(16, 12, PixelFormat.MONO12)
    card = byte_input("GRAY", 8, 6)
    plan = RegionPlan("top", region(0, 0, 16, 12), frame_format, card)
    assert (filled_bytes(plan, np.full((12, 32), 255, np.uint8), card) == 255).all()


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (region(30, 0, 11, 5), "camera top, region cell: got x from 30 to 41 px, expected inside the frame's 40 px"),
        (region(0, 26, 5, 5), "camera top, region cell: got y from 26 to 31 px, expected inside the frame's 30 px"),
        (region(400, 0, 1, 1), "got x from 400 to 401 px"),
    ],
)
def test_a_region_outside_the_frame_is_refused_when_planned(cell: Region, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        RegionPlan("top", cell, FrameFormat(40, 30, PixelFormat.MONO8), model_input("GRAY", 16, 16))


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((30, 41), np.uint8),
        np.zeros((29, 40), np.uint8),
        np.zeros((30, 40, 3), np.uint8),
        np.zeros((30, 80), np.uint8)[:, ::2],
        np.zeros((30, 40), np.uint8)[::-1],
        np.zeros((30, 40), np.uint16),
        np.asfortranarray(np.zeros((30, 40), np.uint8)),
    ],
    ids=["wider", "lower", "colour", "gaps in a row", "bottom row first", "16 bits", "column by column"],
)
def test_a_frame_that_is_not_as_planned_is_a_wrong_frame(pixels: npt.NDArray[Any]) -> None:
    card = model_input("GRAY", 16, 16)
    plan = RegionPlan("top", region(0, 0, 40, 30), FrameFormat(40, 30, PixelFormat.MONO8), card)
    with pytest.raises(WrongFrame, match="camera top"):
        plan.fill(pixels, np.zeros(card.row_shape, np.float32))


def test_a_row_of_another_shape_is_refused() -> None:
    plan = RegionPlan("top", region(0, 0, 40, 30), FrameFormat(40, 30, PixelFormat.MONO8), model_input("GRAY", 16, 16))
    with pytest.raises(ValueError, match="row of the batch"):
        plan.fill(np.zeros((30, 40), np.uint8), np.zeros((1, 16, 15), np.float32))
    for dtype in (np.float64, np.uint8):
        with pytest.raises(TypeError, match="expected float32"):
            plan.fill(np.zeros((30, 40), np.uint8), np.zeros((1, 16, 16), dtype))
    bytes_plan = RegionPlan(
        "top", region(0, 0, 40, 30), FrameFormat(40, 30, PixelFormat.MONO8), byte_input("GRAY", 16, 16)
    )
    with pytest.raises(TypeError, match="got float32, expected uint8"):
        bytes_plan.fill(np.zeros((30, 40), np.uint8), np.zeros((1, 16, 16), np.float32))
