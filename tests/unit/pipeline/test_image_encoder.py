from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from pipeline.image_encoder import CannotEncode, encode_image, encode_thumbnail
from pipeline.payloads import DefectResult
from vision.types import PixelFormat


def noise(*shape: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, shape, np.uint8)


def decoded(body: bytes) -> npt.NDArray[np.uint8]:
    picture = cv2.imdecode(np.frombuffer(body, np.uint8), cv2.IMREAD_UNCHANGED)
    return np.asarray(picture, np.uint8)


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_png_keeps_every_pixel(pixel_format: PixelFormat) -> None:
    pixels = noise(33, 47) if pixel_format is PixelFormat.MONO8 else noise(33, 47, 3)
    read = decoded(encode_image(pixels, pixel_format, "png", 95))
    expected = pixels[:, :, ::-1] if pixel_format is PixelFormat.RGB8 else pixels
    assert (read == expected).all()


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
    pixels = np.full((400, 800) if pixel_format is PixelFormat.MONO8 else (400, 800, 3), 128, np.uint8)
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
