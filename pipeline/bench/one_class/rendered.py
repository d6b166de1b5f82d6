"""A rendered part with natural variation, and defects whose places are known.

The part is a drilled plate with a slot, a printed mark and a row of pins. Of part to part differ where it lies, how it is turned,
its grain, the depth of its print, the size of its holes, the light and its slope, focus and noise. A defect is one of KINDS, often
no stronger than that. Its mask is where the picture without grain and noise differs from the same part without the defect.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from math import cos, pi, sin
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.bench.one_class.data import Mask, Part, Pixels, Product
from pipeline.bench.one_class.variation import clouds, turned

KINDS = ("scratch", "blob", "missing feature", "stain", "dent")
WIDTH_PX, HEIGHT_PX = 320, 240
GOOD_COUNT, DEFECTIVE_COUNT = 250, 150

ALIKE: dict[Part, tuple[int, ...]] = {"choose": (0, 7), "report": (3, 9), "all": (0, 3, 7, 9)}
"""Features, a hole or a pin, that all defective parts of a product lack."""

_FINE = 3
"""The part is drawn so many times as fine as the camera sees it."""
_PLATE_PX = (30, 25, 290, 215)
_HOLES_PX = ((55, 50, 10), (265, 50, 10), (55, 190, 10), (265, 190, 10), (215, 120, 22))
_PINS_PX = tuple((90 + 18 * number, 180) for number in range(7))
_MARKS_PX = ((85, 60, 135, 60), (85, 75, 120, 75), (85, 90, 150, 90), (170, 60, 170, 95), (170, 95, 190, 95))
_SLOT_PX = (85, 118, 165, 140)
_FEATURES = len(_HOLES_PX) + len(_PINS_PX) + len(_MARKS_PX)
_LEVEL_MIN, _PEAK_SHARE = 2.0, 0.25
"""A pixel is in the mask from two levels on, and from a quarter of the defect's greatest difference on."""
_LEAST_AREA_PX = 6
# Blue, green, red of the belt, the plate, the holes, the print and the pins; a grey camera sees their mean.
_COLOURS = {
    "belt": (52.0, 46.0, 44.0),
    "plate": (128.0, 142.0, 134.0),
    "hole": (30.0, 28.0, 30.0),
    "print": (205.0, 190.0, 170.0),
    "pin": (88.0, 168.0, 206.0),
}

Floats = npt.NDArray[Any]


def rendered_parts(
    *, is_colour: bool, part: Part, good_count: int = GOOD_COUNT, defective_count: int = DEFECTIVE_COUNT
) -> Product:
    """So many pictures, 240 x 320; the kinds of defects take turns. The same ones at every call."""
    if part == "all":
        halves = [
            rendered_parts(is_colour=is_colour, part=each, good_count=good_count, defective_count=defective_count)
            for each in ("choose", "report")
        ]
        good = [picture for half in halves for picture in half.good]
        defective = [picture for half in halves for picture in half.defective]
        masks = [mask for half in halves for mask in half.masks or ()]
        return Product(halves[0].name, good, np.arange(len(good)), defective, masks)
    seed = zlib.crc32(f"{part} {is_colour}".encode())
    good = [render(np.random.default_rng([seed, 0, at]), None, is_colour=is_colour)[0] for at in range(good_count)]
    both = [
        render(np.random.default_rng([seed, 1, at]), KINDS[at % len(KINDS)], is_colour=is_colour)
        for at in range(defective_count)
    ]
    name = f"rendered {'colour' if is_colour else 'grey'}"
    return Product(name, good, np.arange(good_count), [picture for picture, _ in both], [mask for _, mask in both])


def alike_parts(*, part: Part, good_count: int = GOOD_COUNT, defective_count: int = DEFECTIVE_COUNT) -> list[Product]:
    """Grey products whose defective parts all lack one feature of ``ALIKE``; the good ones are those of ``rendered_parts``."""
    good = rendered_parts(is_colour=False, part=part, good_count=good_count, defective_count=0)
    products = []
    for missing in ALIKE[part]:
        seeds = [[zlib.crc32(part.encode()), 2, missing, at] for at in range(defective_count)]
        both = [
            render(np.random.default_rng(seed), "missing feature", is_colour=False, missing=missing) for seed in seeds
        ]
        pictures, masks = [picture for picture, _ in both], [mask for _, mask in both]
        products.append(Product(f"feature {missing} missing", good.good, good.sources, pictures, masks))
    return products


def render(
    generator: np.random.Generator, kind: str | None, *, is_colour: bool, missing: int | None = None
) -> tuple[Pixels, Mask]:
    """A picture of a part, with a defect of that kind unless it is None, and where the defect is seen.

    ``missing``: which feature is, where that is the kind of defect; None: any.
    """
    while True:
        look = _look(generator)
        surface = _surface(look, missing=None)
        flawed = surface if kind is None else _flawed(surface, look, kind, generator, missing)
        plain, seen = (_seen(each, look, is_colour=is_colour) for each in (surface, flawed))
        difference = np.abs(seen - plain)
        if is_colour:
            difference = difference.max(axis=2)
        mask = difference > max(_LEVEL_MIN, _PEAK_SHARE * float(difference.max()))
        if kind is None or mask.sum() >= _LEAST_AREA_PX:
            break  # a defect that fell off the plate or is not seen at all is none
    grain = _grain(generator, (HEIGHT_PX, WIDTH_PX))
    noise = generator.normal(0.0, look.noise_levels, seen.shape)
    grown = seen * (1.0 + (grain[..., None] if is_colour else grain)) + noise
    return np.clip(np.rint(grown), 0.0, 255.0).astype(np.uint8), mask


@dataclass(frozen=True, slots=True)
class _Look:
    """How one part is made and seen."""

    shift_px: tuple[float, float]
    angle_deg: float
    hole_grown_px: float
    print_share: float
    gain: float
    slope: tuple[float, float]
    blur_px: float
    noise_levels: float


def _look(generator: np.random.Generator) -> _Look:
    x_px, y_px, slope_x, slope_y = generator.uniform(-1.0, 1.0, 4)
    return _Look(
        shift_px=(4.0 * x_px, 4.0 * y_px),
        angle_deg=float(generator.normal(0.0, 0.8)),
        hole_grown_px=float(generator.normal(0.0, 0.4)),
        print_share=float(generator.uniform(0.75, 1.0)),
        gain=float(generator.normal(1.0, 0.06)),
        slope=(0.08 * slope_x, 0.08 * slope_y),
        blur_px=float(generator.uniform(0.5, 1.1)),
        noise_levels=float(generator.uniform(1.5, 4.0)),
    )


def _surface(look: _Look, missing: int | None) -> Floats:
    """The part in its place, float32 (h, w, 3), fine; without one of its features."""
    canvas = np.empty((HEIGHT_PX * _FINE, WIDTH_PX * _FINE, 3), np.float32)
    canvas[:] = _COLOURS["belt"]
    x1, y1, x2, y2 = (value * _FINE for value in _PLATE_PX)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), _COLOURS["plate"], -1)
    left, top, right, bottom = (value * _FINE for value in _SLOT_PX)
    cv2.rectangle(canvas, (left, top), (right, bottom), _COLOURS["hole"], -1)
    ink = tuple(
        plate + look.print_share * (full - plate)
        for plate, full in zip(_COLOURS["plate"], _COLOURS["print"], strict=True)
    )
    number = 0
    for x_px, y_px, radius_px in _HOLES_PX:
        if number != missing:
            radius = round((radius_px + look.hole_grown_px) * _FINE)
            cv2.circle(canvas, (x_px * _FINE, y_px * _FINE), radius, _COLOURS["hole"], -1)
        number += 1
    for x_px, y_px in _PINS_PX:
        if number != missing:
            corners = ((x_px - 4) * _FINE, (y_px - 9) * _FINE), ((x_px + 4) * _FINE, (y_px + 9) * _FINE)
            cv2.rectangle(canvas, *corners, _COLOURS["pin"], -1)
        number += 1
    for ax, ay, bx, by in _MARKS_PX:
        if number != missing:
            cv2.line(canvas, (ax * _FINE, ay * _FINE), (bx * _FINE, by * _FINE), ink, 4 * _FINE)
        number += 1
    return canvas


def _flawed(surface: Floats, look: _Look, kind: str, generator: np.random.Generator, missing: int | None) -> Floats:
    if kind == "missing feature":
        return _surface(look, missing=int(generator.integers(_FEATURES)) if missing is None else missing)
    x1, y1, x2, y2 = _PLATE_PX
    middle = np.array([generator.uniform(x1 + 12, x2 - 12), generator.uniform(y1 + 12, y2 - 12)]) * _FINE
    if kind == "dent":
        return surface + _dent(surface.shape, middle, generator)
    drawn = np.zeros(surface.shape[:2], np.uint8)
    if kind == "scratch":
        _scratch(drawn, middle, generator)
        soft_px, change = 0.5, generator.uniform(15.0, 50.0)
    elif kind == "blob":
        axes = tuple(int(value * _FINE) for value in generator.uniform(1.5, 5.0, 2))
        turned_deg = float(generator.uniform(0.0, 180.0))
        cv2.ellipse(drawn, tuple(map(int, middle)), axes, turned_deg, 0, 360, 255, -1, cv2.LINE_AA)
        soft_px, change = 0.5, generator.uniform(15.0, 60.0)
    else:
        around = generator.uniform(0.6, 1.4, 12) * generator.uniform(9.0, 24.0) * _FINE
        turns = np.arange(12) * 2 * pi / 12
        outline = middle + np.stack([around * np.cos(turns), around * np.sin(turns)], axis=1)
        cv2.fillPoly(drawn, [outline.astype(np.int32)], 255)
        soft_px, change = 4.0, generator.uniform(9.0, 22.0)
    sign = 1.0 if generator.random() < 0.5 else -1.0
    soft = cv2.GaussianBlur(drawn.astype(np.float32) / 255.0, (0, 0), soft_px * _FINE)
    # Dirt has a colour: it does not change all channels alike.
    tint = generator.uniform(0.7, 1.0, 3) if kind in ("blob", "stain") else np.ones(3)
    return np.asarray(surface + sign * change * soft[..., None] * tint, np.float32)


def _dent(shape: tuple[int, ...], middle: Floats, generator: np.random.Generator) -> Floats:
    """Light comes from one side: one flank is brighter, the other darker. float32 (h, w, 1)."""
    size, angle = generator.uniform(3.0, 7.0) * _FINE, generator.uniform(0.0, 2 * pi)
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
    right, down = columns - middle[0], rows - middle[1]
    bump = (right * cos(angle) + down * sin(angle)) / size * np.exp(0.5 - (right**2 + down**2) / (2 * size**2))
    return np.asarray(generator.uniform(12.0, 35.0) * bump[..., None], np.float32)


def _scratch(drawn: npt.NDArray[np.uint8], middle: Floats, generator: np.random.Generator) -> None:
    angle, bend = generator.uniform(0.0, pi), generator.normal(0.0, 0.25)
    step = generator.uniform(15.0, 60.0) / 8 * _FINE
    points = [middle]
    for _ in range(8):
        points.append(points[-1] + step * np.array([cos(angle), sin(angle)]))
        angle += bend / 4
    line = np.array(points) - (points[-1] - points[0]) / 2
    cv2.polylines(drawn, [line.astype(np.int32)], False, 255, int(generator.integers(3, 7)), cv2.LINE_AA)


def _seen(surface: Floats, look: _Look, *, is_colour: bool) -> Floats:
    """What the camera sees of it, without grain and noise: float32 (h, w) or (h, w, 3)."""
    small = cv2.resize(surface, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_AREA)
    if not is_colour:
        small = small.mean(axis=2)
    move = turned((WIDTH_PX, HEIGHT_PX), look.angle_deg, look.shift_px)
    moved = cv2.warpAffine(small, move, (WIDTH_PX, HEIGHT_PX), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    moved = cv2.GaussianBlur(moved, (0, 0), look.blur_px)
    across = np.linspace(-1.0, 1.0, WIDTH_PX, dtype=np.float32) * look.slope[0]
    down = np.linspace(-1.0, 1.0, HEIGHT_PX, dtype=np.float32) * look.slope[1]
    light = look.gain * (1.0 + across[None, :] + down[:, None])
    return np.asarray(moved * (light[..., None] if is_colour else light), np.float32)


def _grain(generator: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Brushed metal: fine along one direction, with slow clouds; a share of the level."""
    brushed = cv2.GaussianBlur(generator.normal(0.0, 1.0, shape), (0, 0), sigmaX=12.0, sigmaY=0.7)
    return np.asarray(0.02 * brushed / brushed.std() + 0.015 * clouds(generator, shape, 14.0), np.float32)
