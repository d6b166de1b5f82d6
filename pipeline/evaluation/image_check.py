"""What an image file is, from its header and its end: every image of a set is looked at before the first is judged.

Pillow reads headers without decoding, which OpenCV cannot. Pixels that are judged come from ``pipeline.image_reading`` alone.
"""

from __future__ import annotations

import hashlib
import io
import stat
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.config_places import IMAGE_SUFFIXES
from pipeline.evaluation.data import Faults, ImageFacts
from pipeline.image_reading import decode_picture
from vision.faults import Fault, FaultsError
from vision.preprocess import FrameFormat
from vision.types import PixelFormat

_IMAGE_BYTES_MAX = 1 << 30
_READERS = ("BMP", "JPEG", "PNG", "TIFF")
_DEEP = "I;16"
_FORMATS = {"L": PixelFormat.MONO8, "RGB": PixelFormat.BGR8, "P": PixelFormat.BGR8, _DEEP: PixelFormat.MONO12}
_LOW_BITS_MAX = 4095
_MODES = {
    "1": "1 bit a pixel",
    "LA": "grey with an alpha channel",
    "RGBA": "colour with an alpha channel",
    "PA": "a palette with an alpha channel",
    "CMYK": "CMYK",
    "YCbCr": "YCbCr",
    "LAB": "CIE Lab",
    "F": "32 bit floating-point numbers",
}
_ORIENTATION_TAG = 0x0112
_TURNED = (5, 6, 7, 8)
"""Exif orientations that swap width and height; the line decodes upright."""
_START_OF_SCAN, _END_OF_IMAGE = b"\xff\xda", b"\xff\xd9"


def images_in(folder: Path) -> Iterator[Path]:
    """The images directly in a folder, by name."""
    yield from sorted(path for path in folder.iterdir() if is_image_name(path) and path.is_file())


def is_image_name(path: Path) -> bool:
    """Whether the line's folder camera would take the file for an image."""
    return path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")


def check_image(file: Path, faults: Faults, *, is_mask: bool = False) -> ImageFacts | None:
    """Reads the file once. None, and a fault, where it is no whole image of 8 bit grey or colour, or of 16 bit grey; of a mask any
    depth will do.
    """
    expected = f"a whole image ({', '.join(IMAGE_SUFFIXES)})"
    try:
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            faults.add(file, "", "a folder, a pipe or a device", expected)
            return None
        if status.st_size > _IMAGE_BYTES_MAX:
            faults.add(file, "", f"{status.st_size} bytes", f"at most {_IMAGE_BYTES_MAX}")
            return None
        content = file.read_bytes()
    except OSError as error:
        faults.add(file, "", str(error.strerror), "a readable image")
        return None
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images, and of oddities in tags that do not matter here; it refuses the monstrous ones.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(content), formats=_READERS) as image:
                mode, size, kind = image.mode, image.size, image.format
                # Pillow decodes the whole of a PNG to look for what few have.
                has_tags = kind != "PNG" or b"eXIf" in content
                orientation = image.getexif().get(_ORIENTATION_TAG) if has_tags else None
                has_alpha = image.has_transparency_data
                images_count = getattr(image, "n_frames", 1)
                # Header-only libraries widen some depths silently: PNG's 16 bit grey is told apart, 16 bit colour is not.
                bits = _png_bits(content) if kind == "PNG" else _tiff_bits(image) if kind == "TIFF" else 8
    except Image.DecompressionBombError:
        faults.add(file, "", "more pixels than a camera has", expected)
        return None
    except Exception as error:  # noqa: BLE001 - of a foreign file Pillow's readers raise whatever they come upon
        faults.add(file, "", f"a file that is no image, or a damaged one ({type(error).__name__})", expected)
        return None
    if images_count > 1 and kind != "MPO":  # a camera's JPEG with a preview behind it
        faults.add(file, "", f"{images_count} images in one file", "one: all but the first would be left aside")
        return None
    if is_mask and (mode == "1" or mode.startswith("I")):
        mode, bits = "L", 8
    is_deep = mode.startswith("I") and bits == 16
    if is_deep:
        mode = _DEEP
    elif bits > 8 or mode.startswith("I"):
        faults.add(
            file, "", f"{max(bits, 16)} bit a channel", "8 bit grey or colour, or 16 bit grey, as the line keeps"
        )
        return None
    if mode not in _FORMATS or has_alpha:
        got = _MODES.get(mode, mode) if mode not in _FORMATS else "an image with transparency"
        faults.add(file, "", got, "8 bit grey or colour, without an alpha channel")
        return None
    if not _is_whole(content, kind, _FORMATS[mode]):
        faults.add(file, "", "a truncated or damaged image", expected)
        return None
    if is_deep and (got := _low_bits(content)):
        faults.add(file, "", got, "16 bit grey whose white is 65,535, as in pictures that the line kept")
        return None
    width_px, height_px = size if orientation not in _TURNED else size[::-1]
    return ImageFacts(FrameFormat(width_px, height_px, _FORMATS[mode]), hashlib.sha256(content).hexdigest())


def read_mask(file: Path, image: FrameFormat) -> npt.NDArray[np.bool_]:
    """Which pixels a mask marks, bool (height, width) of its image. Raises FaultsError where it cannot be decoded."""
    mask = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE | cv2.IMREAD_ANYDEPTH)
    if mask is None or mask.shape != (image.height_px, image.width_px):
        raise FaultsError([Fault(str(file), "", "a mask that cannot be decoded", "a whole image")])
    return np.asarray(mask != 0)


def _low_bits(content: bytes) -> str:
    """Why a picture of 16 bit is not one whose white is 65,535; empty where it may be."""
    picture = decode_picture(np.frombuffer(content, np.uint8), PixelFormat.MONO12)
    if picture is None:
        return "an image that cannot be decoded"
    if picture.max() <= _LOW_BITS_MAX:
        return f"16 bit a channel, all below {_LOW_BITS_MAX + 1:,}: levels of 12 bit in the low ones, or all but black"
    return ""


def _is_whole(content: bytes, kind: str | None, pixel_format: PixelFormat) -> bool:
    if kind in ("JPEG", "MPO"):
        # Neither marker occurs in the coded pixels; a thumbnail's stand before the image's own start of scan.
        return content.rfind(_END_OF_IMAGE) > content.rfind(_START_OF_SCAN)
    if kind == "PNG":
        try:
            with Image.open(io.BytesIO(content), formats=_READERS) as image:
                image.verify()  # the checksums of all chunks
        except Exception:  # noqa: BLE001 - as above
            return False
        return b"IEND" in content[-64:]
    # Little is saved by not decoding what is not compressed.
    return decode_picture(np.frombuffer(content, np.uint8), pixel_format) is not None


def _png_bits(content: bytes) -> int:
    """The bit depth of the IHDR chunk, which comes first (PNG, third edition, 11.2.1)."""
    return content[24]


def _tiff_bits(image: Image.Image) -> int:
    """BitsPerSample (TIFF 6.0, tag 258)."""
    bits = getattr(image, "tag_v2", {}).get(258, (1,))
    return max(bits) if isinstance(bits, tuple) else int(bits)
