"""Raw frames and the pictures that they are."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import naive
from vision.frame_decoder import FrameDecoder
from vision.preprocess import FrameFormat, WrongFrame
from vision.raw import decoded_pixels, fine_pixels
from vision.raw_picture import raw_pixels
from vision.types import PixelFormat

RAW = [pixel_format for pixel_format in PixelFormat if pixel_format.is_raw]
DEEP = [pixel_format for pixel_format in RAW if pixel_format.bit_depth > 8]
BAYER = [pixel_format for pixel_format in RAW if pixel_format.value.startswith("Bayer")]
YUV = [pixel_format for pixel_format in RAW if pixel_format.value.startswith("YUV")]
OPENCV_BAYER = {
    # OpenCV's short names tell the pattern from the second row's second pixel on.
    PixelFormat.BAYER_RG8: cv2.COLOR_BayerRGGB2BGR,
    PixelFormat.BAYER_GR8: cv2.COLOR_BayerGRBG2BGR,
    PixelFormat.BAYER_GB8: cv2.COLOR_BayerGBRG2BGR,
    PixelFormat.BAYER_BG8: cv2.COLOR_BayerBGGR2BGR,
}


@st.composite
def raw_frames(draw: st.DrawFn, formats: list[PixelFormat]) -> tuple[FrameFormat, npt.NDArray[np.uint8]]:
    """Noise of every size that the format has, its rows perhaps apart."""
    pixel_format = draw(st.sampled_from(formats))
    width_px = draw(st.integers(1, 12)) * pixel_format.width_step_px
    height_px = draw(st.integers(1, 12)) * pixel_format.height_step_px
    frame_format = FrameFormat(width_px, height_px, pixel_format)
    rows, row_bytes = frame_format.shape
    gap_bytes = draw(st.sampled_from([0, 1, 7, 64]))
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return frame_format, chance.integers(0, 256, (rows, row_bytes + gap_bytes), np.uint8)[:, :row_bytes]


@settings(deadline=None, max_examples=200)
@given(frame=raw_frames(RAW))
def test_a_raw_frame_is_decoded_as_the_readable_reference_says(
    frame: tuple[FrameFormat, npt.NDArray[np.uint8]],
) -> None:
    frame_format, pixels = frame
    picture = decoded_pixels(pixels, frame_format.pixel_format)
    expected = naive.decoded(pixels, frame_format.pixel_format.value)
    assert picture.shape == frame_format.decoded.shape
    assert np.array_equal(picture, np.floor(expected))
    if frame_format.pixel_format.bit_depth > 8:
        assert np.array_equal(fine_pixels(pixels, frame_format.pixel_format), expected * 256)


@pytest.mark.parametrize(
    ("pixel_format", "sent", "levels"),
    [
        ("Mono10", "a503 5a01", [0x3A5, 0x15A]),
        ("Mono12", "5a0a c30f", [0xA5A, 0xFC3]),
        ("Mono10Packed", "e9 21 56", [0x3A5, 0x15A]),
        ("Mono12Packed", "a5 3a fc", [0xA5A, 0xFC3]),
        ("Mono10p", "a5 6b c5 ff 01", [0x3A5, 0x15A, 0x3FC, 0x007]),
        ("Mono12p", "5a 3a fc", [0xA5A, 0xFC3]),
    ],
)
def test_bits_lie_where_the_standards_say(pixel_format: str, sent: str, levels: list[int]) -> None:
    """Written down by hand, pixel by pixel, from the standards' tables."""
    pixels = np.frombuffer(bytes.fromhex(sent), np.uint8).reshape(1, -1)
    depth = PixelFormat(pixel_format).bit_depth
    assert (fine_pixels(pixels, PixelFormat(pixel_format))[0] >> (16 - depth)).tolist() == levels
    fine = (np.array([levels]) << (16 - depth)).astype(np.uint16)
    assert np.array_equal(raw_pixels(fine, PixelFormat(pixel_format)), pixels)


@pytest.mark.parametrize("pixel_format", BAYER)
def test_demosaicing_agrees_with_opencv(pixel_format: PixelFormat) -> None:
    """To the bit, less the outermost pixels: OpenCV repeats there what lies beside them, the kernel mirrors the frame."""
    raw = np.random.default_rng(5).integers(0, 256, (90, 120), np.uint8)
    ours, theirs = decoded_pixels(raw, pixel_format), cv2.cvtColor(raw, OPENCV_BAYER[pixel_format])
    assert np.array_equal(ours[1:-1, 1:-1], theirs[1:-1, 1:-1])


@pytest.mark.parametrize("pixel_format", YUV)
def test_yuv_agrees_with_opencv(pixel_format: PixelFormat) -> None:
    """Within a level of OpenCV's conversion over the full range (``YCrCb``), and of the standard's own coefficients."""
    raw = np.random.default_rng(6).integers(0, 256, (90, 240), np.uint8)
    luma = 0 if pixel_format is PixelFormat.YUV422_8 else 1
    y, u, v = raw[:, luma::2], raw[:, 1 - luma :: 4].repeat(2, axis=1), raw[:, 3 - luma :: 4].repeat(2, axis=1)
    ours = decoded_pixels(raw, pixel_format).astype(np.int64)
    theirs = cv2.cvtColor(np.dstack([y, v, u]), cv2.COLOR_YCrCb2BGR)
    assert np.abs(ours - theirs).max() <= 1
    level, blue, red = y.astype(np.float64), u - 128.0, v - 128.0
    exact = np.dstack([level + 1.772 * blue, level - 0.344136 * blue - 0.714136 * red, level + 1.402 * red])
    assert np.abs(ours - exact.clip(0, 255)).max() <= 0.51


@settings(deadline=None, max_examples=100)
@given(frame=raw_frames(DEEP + BAYER))
def test_what_is_decoded_makes_the_same_frame_again(frame: tuple[FrameFormat, npt.NDArray[np.uint8]]) -> None:
    """So that a kept picture is judged as its frame was. Bits that are no level's are not kept."""
    frame_format, pixels = frame
    pixel_format = frame_format.pixel_format
    decode = fine_pixels if pixel_format in DEEP else decoded_pixels
    again = raw_pixels(decode(pixels, pixel_format), pixel_format)
    assert np.array_equal(decode(again, pixel_format), decode(pixels, pixel_format))
    if pixel_format.value.startswith(("Bayer", "Mono10p", "Mono12p", "Mono12Packed")):
        assert np.array_equal(again, pixels)


@pytest.mark.parametrize("pixel_format", YUV)
def test_a_picture_in_yuv_is_nearly_the_same(pixel_format: PixelFormat) -> None:
    """Neighbours of one colour come back within rounding."""
    picture = np.random.default_rng(7).integers(0, 256, (40, 60, 3), np.uint8).repeat(2, axis=1)
    again = decoded_pixels(raw_pixels(picture, pixel_format), pixel_format)
    assert np.abs(again.astype(np.int64) - picture).max() <= 2


@settings(deadline=None, max_examples=100)
@given(frame=raw_frames(RAW), corners=st.tuples(*[st.floats(0, 1)] * 4))
def test_a_rectangle_is_decoded_as_the_whole_frame_is(
    frame: tuple[FrameFormat, npt.NDArray[np.uint8]], corners: tuple[float, float, float, float]
) -> None:
    frame_format, pixels = frame
    x_px, y_px = int(corners[0] * (frame_format.width_px - 1)), int(corners[1] * (frame_format.height_px - 1))
    width_px = 1 + int(corners[2] * (frame_format.width_px - x_px - 1))
    height_px = 1 + int(corners[3] * (frame_format.height_px - y_px - 1))
    decoder = FrameDecoder("top", frame_format, x_px=x_px, y_px=y_px, width_px=width_px, height_px=height_px)
    whole = decoded_pixels(pixels, frame_format.pixel_format)
    for _ in range(2):
        picture = decoder.decode(pixels)
        assert np.array_equal(picture, whole[y_px : y_px + height_px, x_px : x_px + width_px])


def test_another_frame_than_planned_is_a_wrong_frame() -> None:
    decoder = FrameDecoder("top", FrameFormat(16, 8, PixelFormat.MONO10P))
    with pytest.raises(WrongFrame, match=r"camera top: got a frame of shape \(8, 16\), expected \(8, 20\)"):
        decoder.decode(np.zeros((8, 16), np.uint8))
    with pytest.raises(WrongFrame, match="camera top"):
        decoder.decode(np.zeros((8, 40), np.uint8)[:, ::2])


def test_what_is_no_frame_of_a_format_is_refused() -> None:
    with pytest.raises(ValueError, match="expected rows of Mono10p"):
        decoded_pixels(np.zeros((4, 12), np.uint8), PixelFormat.MONO10P)
    with pytest.raises(ValueError, match="got 3 rows, expected a multiple of 2"):
        decoded_pixels(np.zeros((3, 4), np.uint8), PixelFormat.BAYER_RG8)
    with pytest.raises(ValueError, match="got 6x4 px, expected multiples of 4 and 1: Mono10p"):
        raw_pixels(np.zeros((4, 6), np.uint8), PixelFormat.MONO10P)


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_a_rows_bytes_tell_its_width(pixel_format: PixelFormat) -> None:
    for count in range(1, 9):
        width_px = count * pixel_format.width_step_px
        assert pixel_format.width_px(pixel_format.row_bytes(width_px)) == width_px
        assert pixel_format.frame_bytes(width_px, 6) == int(np.prod(pixel_format.shape(width_px, 6)))
