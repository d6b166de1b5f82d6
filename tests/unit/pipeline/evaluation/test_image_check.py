"""Images that the line could not take, told before the first is judged."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from pipeline.evaluation.data import Faults, ImageFacts
from pipeline.evaluation.image_check import check_image
from pipeline.image_reading import read_image
from vision.faults import FaultsError
from vision.preprocess import FrameFormat
from vision.raw import fine_pixels
from vision.types import PixelFormat

Pixels = npt.NDArray[np.uint8]

GREY = np.random.default_rng(0).integers(0, 256, (24, 40), np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (24, 40, 3), np.uint8)


def checked(file: Path) -> ImageFacts:
    faults = Faults()
    facts = check_image(file, faults)
    faults.settle()
    assert facts is not None
    return facts


def fault(file: Path) -> str:
    faults = Faults()
    assert check_image(file, faults) is None
    with pytest.raises(FaultsError) as caught:
        faults.settle()
    assert str(file) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
def test_images_as_cameras_deliver_them(tmp_path: Path, suffix: str, pixels: Pixels) -> None:
    file = tmp_path / f"image{suffix}"
    assert cv2.imwrite(str(file), pixels)
    facts = checked(file)
    assert facts.format.pixel_format is (PixelFormat.MONO8 if pixels.ndim == 2 else PixelFormat.BGR8)
    read = read_image(file, facts.format.pixel_format)
    assert read is not None
    assert read.shape == facts.format.shape


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_truncated_images(tmp_path: Path, suffix: str, share: float) -> None:
    file = tmp_path / f"image{suffix}"
    assert cv2.imwrite(str(file), COLOUR)
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    assert "expected a whole image" in fault(file)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("pixels", [GREY, COLOUR], ids=["grey", "colour"])
@pytest.mark.parametrize("pixel_format", [PixelFormat.MONO8, PixelFormat.BGR8, PixelFormat.RGB8])
def test_more_than_8_bit_are_not_brought_down_to_8(
    tmp_path: Path, suffix: str, pixels: Pixels, pixel_format: PixelFormat
) -> None:
    """12 bit in 16 would be nearly black, and a defect in it would pass."""
    file = tmp_path / f"image{suffix}"
    assert cv2.imwrite(str(file), pixels.astype(np.uint16) << 4)
    assert "16 bit a channel" in fault(file)
    assert read_image(file, pixel_format) is None


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_grey_is_what_the_line_keeps_of_10_and_12(tmp_path: Path, suffix: str) -> None:
    """Its white is 65,535, and nothing of it is lost."""
    file = tmp_path / f"image{suffix}"
    fine = ((np.arange(40 * 60).reshape(40, 60) + 1500) << 4).astype(np.uint16)
    assert cv2.imwrite(str(file), fine)
    assert checked(file).format == FrameFormat(60, 40, PixelFormat.MONO12)
    pixels = read_image(file, PixelFormat.MONO12)
    assert pixels is not None
    assert np.array_equal(fine_pixels(pixels, PixelFormat.MONO12), fine)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_of_several_images_in_a_file_none_is_left_aside(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"image{suffix}"
    first, *others = (Image.fromarray(GREY + level) for level in (0, 1, 2))
    first.save(file, save_all=True, append_images=others)
    assert "3 images in one file" in fault(file)


def test_a_thumbnail_does_not_hide_that_the_image_is_cut(tmp_path: Path) -> None:
    thumbnail = cv2.imencode(".jpg", GREY[:8, :8])[1].tobytes()
    file = tmp_path / "image.jpg"
    Image.fromarray(GREY).save(file, comment=thumbnail)
    checked(file)
    content = file.read_bytes()
    assert content.count(b"\xff\xd9") == 2
    file.write_bytes(content[:-200])
    assert "truncated" in fault(file)


def test_damage_within_a_png(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    assert cv2.imwrite(str(file), COLOUR)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    assert "truncated or damaged image" in fault(file)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bit_colour(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"image{suffix}"
    assert cv2.imwrite(str(file), COLOUR.astype(np.uint16) * 257)
    assert "16 bit a channel, expected 8 bit grey or colour" in fault(file)


@pytest.mark.parametrize(
    ("mode", "suffix", "got"),
    [
        ("RGBA", ".png", "colour with an alpha channel"),
        ("LA", ".png", "grey with an alpha channel"),
        ("CMYK", ".jpg", "CMYK"),
        ("CMYK", ".tif", "CMYK"),
        ("1", ".png", "1 bit a pixel"),
        ("F", ".tif", "32 bit"),
    ],
)
def test_other_kinds_of_pixels(tmp_path: Path, mode: str, suffix: str, got: str) -> None:
    file = tmp_path / f"image{suffix}"
    Image.fromarray(COLOUR).convert(mode).save(file)
    assert got in fault(file)


def test_a_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    image = Image.fromarray(COLOUR).quantize(16)
    image.save(file)
    assert checked(file).format.pixel_format is PixelFormat.BGR8
    image.save(file, transparency=3)
    assert "transparency" in fault(file)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_an_image_on_its_side_has_the_size_that_the_line_sees(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"image{suffix}"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(GREY).save(file, exif=exif)
    facts = checked(file)
    read = read_image(file, PixelFormat.MONO8)
    assert read is not None
    assert read.shape == facts.format.shape == (40, 24)


@pytest.mark.parametrize(
    "content", [b"", b"\x00" * 100, b"BM", b"\x89PNG\r\n\x1a\n", b"<svg/>", b"GIF89a" + b"\x00" * 50]
)
def test_what_is_no_image(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(content)
    assert "no image, or a damaged one" in fault(file)


def test_a_header_of_a_monstrous_image(tmp_path: Path) -> None:
    file = tmp_path / "image.bmp"
    assert cv2.imwrite(str(file), GREY)
    content = bytearray(file.read_bytes())
    content[18:26] = (60_000).to_bytes(4, "little") + (60_000).to_bytes(4, "little")
    file.write_bytes(content)
    assert "more pixels than a camera has" in fault(file)
