from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.image_encoder import CannotEncode, encode_image, encode_thumbnail
from pipeline.image_reading import decode_image
from pipeline.payloads import DefectResult
from tests import naive
from vision.raw_picture import raw_pixels
from vision.types import PixelFormat


def noise(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, shape, np.uint8)


def decoded(body: bytes) -> npt.NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(picture, np.uint8)


@pytest.mark.parametrize("pixel_format", [PixelFormat.MONO8, PixelFormat.BGR8, PixelFormat.RGB8])
def test_png_keeps_every_pixel(pixel_format: PixelFormat) -> None:
    pixels = noise(33, 47) if pixel_format is PixelFormat.MONO8 else noise(33, 47, 3)
    read = decoded(encode_image(pixels, pixel_format, "png", 95))
    expected = pixels[:, :, ::-1] if pixel_format is PixelFormat.RGB8 else pixels
    assert (read == expected).all()


@pytest.mark.parametrize("pixel_format", [each for each in PixelFormat if each.is_raw])
def test_png_of_a_raw_frame_shows_what_it_shows(pixel_format: PixelFormat) -> None:
    """Any viewer shows it; with all the bits, of which the first eight are what one of 8 bit shows."""
    pixels = noise(*pixel_format.shape(48, 34))
    body = encode_image(pixels, pixel_format, "png", 95)
    picture: Any = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
    assert picture.dtype == (np.uint16 if pixel_format.bit_depth > 8 else np.uint8)
    levels = naive.decoded(pixels, pixel_format.value)
    assert np.array_equal(picture, levels * 256 if pixel_format.bit_depth > 8 else levels)
    plain: Any = cv2.imdecode(
        np.frombuffer(body, np.uint8), cv2.IMREAD_GRAYSCALE if levels.ndim == 2 else cv2.IMREAD_COLOR
    )
    assert np.array_equal(plain, np.floor(levels))


@pytest.mark.parametrize("pixel_format", [each for each in PixelFormat if each.is_raw])
def test_a_kept_picture_is_read_as_the_frame_that_it_was(pixel_format: PixelFormat) -> None:
    """So that it is judged as then. Of YUV as near as colours in whole levels are."""
    picture = cv2.GaussianBlur(noise(*pixel_format.decoded.shape(48, 34)), (0, 0), 3.0)
    pixels = raw_pixels(np.asarray(picture, np.uint8), pixel_format)
    body = np.frombuffer(encode_image(pixels, pixel_format, "png", 95), np.uint8)
    read = decode_image(body, pixel_format)
    assert read is not None
    allowed = 1 if pixel_format.value.startswith("YUV") else 0
    assert np.abs(read.astype(int) - pixels).max() <= allowed


@pytest.mark.parametrize("pixel_format", [each for each in PixelFormat if each.is_raw])
def test_jpeg_of_a_raw_frame(pixel_format: PixelFormat) -> None:
    pixels = raw_pixels(np.full(pixel_format.decoded.shape(48, 34), 150, np.uint8), pixel_format)
    read = decoded(encode_image(pixels, pixel_format, "jpeg", 95)).astype(int)
    assert read.shape == pixel_format.decoded.shape(48, 34)
    assert np.abs(read - 150).max() <= 2


def test_pixels_that_are_no_frame_are_said() -> None:
    with pytest.raises(CannotEncode, match="expected rows of Mono10p"):
        encode_image(noise(8, 12), PixelFormat.MONO10P, "png", 95)


def test_jpeg_is_a_jpeg() -> None:
    body = encode_image(np.full((40, 40, 3), (10, 20, 200), np.uint8), PixelFormat.RGB8, "jpeg", 95)
    assert body.startswith(b"\xff\xd8")
    assert np.abs(decoded(body).astype(int) - (200, 20, 10)).max() < 6, "blue and red change places in a file"


def test_what_no_jpeg_can_be_is_said() -> None:
    with pytest.raises(CannotEncode):
        encode_image(np.zeros((1, 65_536), np.uint8), PixelFormat.MONO8, "jpeg", 95)


@pytest.mark.parametrize("edge", [float("nan"), float("inf"), 1e30])
def test_a_thumbnail_that_cannot_be_drawn_is_said(edge: float) -> None:
    defect = DefectResult(
        class_name="x", score=1.0, camera_id="c", box_px=(edge, 0.0, 9.0, 9.0), box_mm=None, area_mm2=None
    )
    with pytest.raises(CannotEncode, match="as a thumbnail"):
        encode_thumbnail(noise(64, 64), PixelFormat.MONO8, 64, "REJECT", "", [defect])


def test_no_memory_for_a_picture_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(cv2, "imencode", refuse)
    with pytest.raises(CannotEncode, match="MemoryError"):
        encode_image(noise(8, 8), PixelFormat.MONO8, "png", 95)


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_a_thumbnail_has_the_defects_drawn_where_they_are(pixel_format: PixelFormat) -> None:
    pixels = raw_pixels(np.full(pixel_format.decoded.shape(800, 400), 128, np.uint8), pixel_format)
    defect = DefectResult(
        class_name="Riß", score=0.9, camera_id="cam0", box_px=(400.0, 200.0, 600.0, 360.0), box_mm=None, area_mm2=None
    )
    with_it = decoded(encode_thumbnail(pixels, pixel_format, 200, "REJECT", "17 REJECT DEFECT", [defect])).astype(int)
    without = decoded(encode_thumbnail(pixels, pixel_format, 200, "PASS", "17 PASS", [])).astype(int)
    assert with_it.shape == without.shape == (100, 200, 3)
    redness = with_it[:, :, 2] - with_it[:, :, 0]
    assert redness[50:90, 100].mean() > 60, "the box's left edge"
    assert redness[95:, :].max() < 60, "nothing below it"
    assert np.abs(without[30:] - 128).max() < 12, "words at the top alone"


def test_a_small_picture_is_not_made_larger() -> None:
    assert decoded(encode_thumbnail(noise(32, 32), PixelFormat.MONO8, 320, "PASS", "", [])).shape == (32, 32, 3)


def test_a_box_that_leaves_the_frame_is_drawn_as_far_as_it_is_there() -> None:
    defect = DefectResult(
        class_name="x", score=1.0, camera_id="c", box_px=(-5.0, -5.0, 900.0, 900.0), box_mm=None, area_mm2=None
    )
    assert encode_thumbnail(noise(64, 64), PixelFormat.MONO8, 64, "REJECT", "", [defect])
