"""Readable references for the compiled kernels: plain loops in double precision, one formula per line."""

from __future__ import annotations

from math import floor
from typing import Any

import numpy as np
import numpy.typing as npt


def preprocess(
    pixels: npt.NDArray[Any],
    *,
    pixel_format: str,
    x_px: int,
    y_px: int,
    width_px: int,
    height_px: int,
    colour_order: str,
    out_width_px: int,
    out_height_px: int,
    scale: float,
    mean: list[float],
    std: list[float],
    fit: str,
    pad_value: int,
    crop_fraction: float = 1.0,
) -> npt.NDArray[np.float64]:
    """Crop, channel order, resize and normalisation of one region; returns (channels, height, width)."""
    region = pixels[y_px : y_px + height_px, x_px : x_px + width_px].astype(np.float64)
    planes = channels_of(region, pixel_format, colour_order)
    fit_width, fit_height = out_width_px, out_height_px
    if fit == "letterbox":
        ratio = min(out_width_px / width_px, out_height_px / height_px)
        fit_width = min(out_width_px, max(1, round(width_px * ratio)))
        fit_height = min(out_height_px, max(1, round(height_px * ratio)))
    left, top = (out_width_px - fit_width) // 2, (out_height_px - fit_height) // 2
    shown_width, shown_height = float(width_px), float(height_px)
    if fit == "crop":
        shrink = crop_fraction * min(width_px / out_width_px, height_px / out_height_px)
        shown_width, shown_height = out_width_px * shrink, out_height_px * shrink
    out = np.full((len(planes), out_height_px, out_width_px), float(pad_value))
    for plane, levels in enumerate(planes):
        out[plane, top : top + fit_height, left : left + fit_width] = bilinear(
            levels, fit_width, fit_height, shown_width, shown_height
        )
        out[plane] = (out[plane] * scale - mean[plane]) / std[plane]
    return out


def decoded(raw: npt.NDArray[np.uint8], pixel_format: str) -> npt.NDArray[np.float64]:
    """A raw frame's grey levels 0..256: (height, width), or (height, width, 3) in the order blue, green, red."""
    if pixel_format.startswith("Mono"):
        return unpacked(raw, pixel_format)
    if pixel_format.startswith("Bayer"):
        return demosaiced(raw, {"RG8": "RGGB", "GR8": "GRBG", "GB8": "GBRG", "BG8": "BGGR"}[pixel_format[5:]])
    return of_yuv(raw, "UYVY" if pixel_format.endswith("UYVY") else "YUYV")


def unpacked(raw: npt.NDArray[np.uint8], pixel_format: str) -> npt.NDArray[np.float64]:
    """Grey levels of 10 or 12 bit, in steps of a fourth or a sixteenth."""
    depth = int(pixel_format[4:6])
    rows = []
    for row in raw.tolist():
        if pixel_format.endswith("p"):
            number = int.from_bytes(bytes(row), "little")
            values = [number >> (depth * place) & (2**depth - 1) for place in range(8 * len(row) // depth)]
        elif pixel_format.endswith("Packed"):
            values = []
            for first, low, second in zip(row[::3], row[1::3], row[2::3], strict=True):
                values.append(first * 2 ** (depth - 8) + (low & 15) % 2 ** (depth - 8))
                values.append(second * 2 ** (depth - 8) + (low >> 4) % 2 ** (depth - 8))
        else:
            values = [(low + 256 * high) % 2**depth for low, high in zip(row[::2], row[1::2], strict=True)]
        rows.append(values)
    levels: npt.NDArray[np.float64] = np.array(rows) / 2 ** (depth - 8)
    return levels


def demosaiced(raw: npt.NDArray[np.uint8], pattern: str) -> npt.NDArray[np.float64]:
    """Each colour that a pixel lacks is the mean of those next to it, of whole levels, halves upwards; mirrored at the edges."""
    height, width = raw.shape
    out = np.zeros((height, width, 3))
    mirrored = np.pad(raw.astype(np.float64), 1, mode="reflect")
    for y in range(height):
        for x in range(width):
            for channel, colour in enumerate("BGR"):
                nearby = [
                    (abs(down) + abs(right), mirrored[y + 1 + down, x + 1 + right])
                    for down in (-1, 0, 1)
                    for right in (-1, 0, 1)
                    if pattern[2 * ((y + down) % 2) + (x + right) % 2] == colour
                ]
                nearest_px = min(distance for distance, _ in nearby)
                levels = [level for distance, level in nearby if distance == nearest_px]
                out[y, x, channel] = floor(sum(levels) / len(levels) + 0.5)
    return out


def of_yuv(raw: npt.NDArray[np.uint8], order: str) -> npt.NDArray[np.float64]:
    """BT.601 over the full range, its coefficients in 65536ths, in whole levels; two neighbours share U and V."""
    height, row_bytes = raw.shape
    out = np.zeros((height, row_bytes // 2, 3))
    for y in range(height):
        for x in range(row_bytes // 2):
            start = x // 2 * 4
            luma = float(raw[y, start + [at for at, name in enumerate(order) if name == "Y"][x % 2]])
            u = float(raw[y, start + order.index("U")]) - 128
            v = float(raw[y, start + order.index("V")]) - 128
            green = luma - (22554 * u + 46802 * v) / 65536
            out[y, x] = luma + 116130 * u / 65536, green, luma + 91881 * v / 65536
    levels: npt.NDArray[np.float64] = np.floor(out + 0.5).clip(0, 255)
    return levels


def nearest(levels: npt.NDArray[np.float64]) -> npt.NDArray[np.uint8]:
    """Grey levels 0..255 as bytes, halves upwards."""
    return np.floor(levels + 0.5).astype(np.uint8)


def channels_of(region: npt.NDArray[np.float64], pixel_format: str, colour_order: str) -> list[npt.NDArray[np.float64]]:
    """The planes of a region in the model's order."""
    if pixel_format == "Mono8":
        return [region] if colour_order == "GRAY" else [region] * 3
    by_name = {name: region[:, :, index] for index, name in enumerate(pixel_format.removesuffix("8"))}
    if colour_order == "GRAY":
        return [0.299 * by_name["R"] + 0.587 * by_name["G"] + 0.114 * by_name["B"]]
    return [by_name[name] for name in colour_order]


def bilinear(
    levels: npt.NDArray[np.float64], width_px: int, height_px: int, shown_width_px: float, shown_height_px: float
) -> npt.NDArray[np.float64]:
    """The middle of an image, so much of it. Half-pixel centres, clamped edges, no antialiasing."""
    out = np.empty((height_px, width_px))
    source_height, source_width = levels.shape
    for y in range(height_px):
        top, bottom, down = neighbours(y, source_height, height_px, shown_height_px)
        for x in range(width_px):
            left, right, across = neighbours(x, source_width, width_px, shown_width_px)
            upper = levels[top, left] * (1 - across) + levels[top, right] * across
            lower = levels[bottom, left] * (1 - across) + levels[bottom, right] * across
            out[y, x] = upper * (1 - down) + lower * down
    return out


def neighbours(target: int, source_px: int, target_px: int, shown_px: float) -> tuple[int, int, float]:
    """The two source pixels around a target pixel's centre and the weight of the second."""
    position = (source_px - shown_px) / 2 + (target + 0.5) * shown_px / target_px - 0.5
    first = floor(position)
    return min(max(first, 0), source_px - 1), min(max(first + 1, 0), source_px - 1), position - first


def corrected_row(
    pixels: npt.NDArray[np.uint8],
    *,
    colour_weights: list[list[float]],
    places_x: list[float],
    places_y: list[float],
    entries_x: list[float],
    entries_y: list[float],
    shift_px: tuple[int, int] = (0, 0),
    map_x: npt.NDArray[np.float64],
    map_y: npt.NDArray[np.float64],
    gain: npt.NDArray[np.float64],
    dark: npt.NDArray[np.float64],
    dead: npt.NDArray[np.bool_],
    around_px: tuple[int, int] = (1, 1),
) -> npt.NDArray[np.float64]:
    """Undistorted, even grey levels of a region: (planes, rows, columns).

    pixels, gain, dark: (height, width, channels); ``colour_weights``: of each plane, one weight a channel. The outputs' centres
    lie at ``places`` of the undistorted frame, and displacement, gain and dark level are those of ``entries``, the latter two
    means over ``around_px`` pixels.
    """
    levels = mended(pixels.astype(np.float64), dead)
    light, darkness = (mean_around(mended(values, dead), *around_px) for values in (1 / gain, dark))
    channels = pixels.shape[2]
    out = np.zeros((len(colour_weights), len(places_y), len(places_x)))
    for row, (place_y, entry_y) in enumerate(zip(places_y, entries_y, strict=True)):
        for column, (place_x, entry_x) in enumerate(zip(places_x, entries_x, strict=True)):
            move_x = at(map_x, entry_x, entry_y) - entry_x
            move_y = at(map_y, entry_x, entry_y) - entry_y
            for channel in range(channels):
                blend = at(levels[:, :, channel], place_x + shift_px[0] + move_x, place_y + shift_px[1] + move_y)
                raw_x, raw_y = entry_x + move_x, entry_y + move_y
                even = (blend - at(darkness[:, :, channel], raw_x, raw_y)) / at(light[:, :, channel], raw_x, raw_y)
                for plane, weights in enumerate(colour_weights):
                    out[plane, row, column] += min(max(even, 0.0), 255.0) * weights[channel]
    return out


def at(values: npt.NDArray[np.float64], x: float, y: float) -> float:
    """Bilinear, edges clamped; 0 is the centre of the first pixel."""
    height, width = values.shape
    x, y = min(max(x, 0.0), width - 1.0), min(max(y, 0.0), height - 1.0)
    left, top = floor(x), floor(y)
    right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
    upper = values[top, left] * (1 - (x - left)) + values[top, right] * (x - left)
    lower = values[bottom, left] * (1 - (x - left)) + values[bottom, right] * (x - left)
    return float(upper * (1 - (y - top)) + lower * (y - top))


def mean_around(values: npt.NDArray[np.float64], width_px: int, height_px: int) -> npt.NDArray[np.float64]:
    """Of the pixels around each one, odd numbers of them, edges repeated."""
    height, width = values.shape[:2]
    out = np.zeros_like(values)
    for y in range(height):
        for x in range(width):
            for down in range(-(height_px // 2), height_px // 2 + 1):
                for right in range(-(width_px // 2), width_px // 2 + 1):
                    out[y, x] += values[min(max(y + down, 0), height - 1), min(max(x + right, 0), width - 1)]
    return out / (width_px * height_px)


def mended(values: npt.NDArray[np.float64], dead: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """Dead pixels become the mean of the nearest good ones in the four directions, the nearer the heavier."""
    height, width = dead.shape
    out = values.copy()
    for y, x in zip(*np.nonzero(dead), strict=True):
        total, weight = np.zeros(values.shape[2]), 0.0
        for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            for distance in range(1, max(height, width)):
                good_y, good_x = y + down * distance, x + right * distance
                if not (0 <= good_y < height and 0 <= good_x < width):
                    break
                if not dead[good_y, good_x]:
                    total += values[good_y, good_x] / distance
                    weight += 1 / distance
                    break
        out[y, x] = total / weight
    return out


def crc16(content: bytes) -> int:
    """CRC-16 with polynomial 0x1021 and start 0xFFFF as a long division, bit by bit."""
    register = 0xFFFF
    for byte in content:
        for bit in (byte >> shift & 1 for shift in range(7, -1, -1)):
            carry = (register >> 15) ^ bit
            register = (register << 1) & 0xFFFF
            if carry:
                register ^= 0x1021
    return register


def halved(picture: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Means of two by two pixels, halves upwards; an odd last row or column is left out."""
    height, width = picture.shape[0] // 2, picture.shape[1] // 2
    means = picture[: 2 * height, : 2 * width].astype(np.float64).reshape(height, 2, width, 2).mean(axis=(1, 3))
    return nearest(means)


def edge_directions(picture: npt.NDArray[np.uint8], min_contrast: float) -> npt.NDArray[np.int8]:
    """(2, height, width): x and y of the grey levels' gradient (Sobel), 127 long, where it is that many levels a pixel."""
    height, width = picture.shape
    levels = picture.astype(np.float64)
    out = np.zeros((2, height, width), np.int8)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            around = levels[y - 1 : y + 2, x - 1 : x + 2]
            across = (around[:, 2] - around[:, 0]) @ [1, 2, 1] / 8
            down = (around[2] - around[0]) @ [1, 2, 1] / 8
            length = (across**2 + down**2) ** 0.5
            if length > 0 and round((8 * length) ** 2) >= round((8 * min_contrast) ** 2):
                out[:, y, x] = np.rint([127 * across / length, 127 * down / length])
    return out


def share_of_edges(picture: npt.NDArray[np.int8], template: npt.NDArray[np.int8], x_px: int, y_px: int) -> float:
    """How much of a template's edges is seen in a picture with the template's corner there, both as directions."""
    _, height, width = template.shape
    below = picture[:, y_px : y_px + height, x_px : x_px + width].astype(np.float64)
    pattern = template.astype(np.float64)
    return float((below * pattern).sum() / (pattern**2).sum())
