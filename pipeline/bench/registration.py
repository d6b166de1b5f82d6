"""Suite ``registration``: the part's place by the directions of edges, by grey levels and by phase, beside the pre-processing.

Times are of calls that take turns, on one thread. Errors are against the truth of a rendered plate, for each thing that can stand
in the way. The rivals are OpenCV's: normalised cross-correlation, in a quarter of the size first and then around the best place;
and phase correlation of the whole search window.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.bench.statistics import median_ratio, percentiles_us
from pipeline.clock import NS_PER_US, now_ns
from pipeline.simulator.part_scene import Look, PartScene
from vision.model_input import ModelInput
from vision.preprocess import FrameFormat, RegionPlan
from vision.recipe import Region
from vision.registration import PartLocator, Registration, RegistrationSection, TemplateRegion, top_of
from vision.types import PixelFormat

Pixels = npt.NDArray[np.uint8]
Place = tuple[float, float, float]
"""Shift in x and y in pixels, and the method's own score."""

_WIDTH_PX, _HEIGHT_PX = 1280, 1024
_SEARCH_PX = 40
_WARM_UP = 20
_REDUCED = 4
_AROUND_PX = 6
_RIGHT_PX = 1.0
"""A place that is farther off than this would move the regions by more than rounding does."""
_PLACES_PX = 30.0
"""Parts lie anywhere within so many pixels of their place."""
_LOOKS = {
    "as calibrated": Look(),
    "half the light": Look(gain=0.5),
    "a third more light": Look(gain=1.33, offset=5.0),
    "out of focus by 1 px": Look(blur_px=1.0),
    "out of focus by 2 px": Look(blur_px=2.0),
    "noise of 10 levels": Look(noise_levels=10.0),
    "noise of 20 levels": Look(noise_levels=20.0),
    "30 % covered": Look(covered=0.3),
    "50 % covered": Look(covered=0.5),
    "turned by 1 degree": Look(angle_deg=1.0),
    "turned by 3 degrees": Look(angle_deg=3.0),
}
_ABSENT = {"empty belt": Look(has_part=False), "30 px beyond the search": Look(shift_x_px=_SEARCH_PX + 30.0)}


@dataclass(frozen=True, slots=True)
class _Case:
    template: TemplateRegion
    pixel_format: PixelFormat


def registration(rounds: int = 300, parts: int = 40) -> dict[str, object]:
    """``rounds`` of each call for the times, ``parts`` frames of each kind for the errors."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        scene = PartScene(_WIDTH_PX, _HEIGHT_PX)
        x_px, y_px, _, _ = scene.plate_px
        print_px = TemplateRegion(x_px=x_px + 40, y_px=y_px + 16, width_px=128, height_px=120)
        large_px = TemplateRegion(x_px=x_px - 28, y_px=y_px - 53, width_px=256, height_px=256)
        cases = {
            "128x120 Mono8": _Case(print_px, PixelFormat.MONO8),
            "128x120 BGR8": _Case(print_px, PixelFormat.BGR8),
            "256x256 Mono8": _Case(large_px, PixelFormat.MONO8),
        }
        return {
            "suite": "registration",
            "frame": f"{_WIDTH_PX}x{_HEIGHT_PX}",
            "search_px": _SEARCH_PX,
            "times": {name: _times(scene, case, rounds) for name, case in cases.items()},
            "errors": _errors(scene, cases["128x120 Mono8"], parts),
        }
    finally:
        cv2.setNumThreads(threads)


def _times(scene: PartScene, case: _Case, rounds: int) -> dict[str, object]:
    reference = scene.frame(Look(), seed=0)
    frame = _as(case.pixel_format, scene.frame(Look(11.3, -7.6), seed=1))
    methods = _methods(reference, case)
    frame_format = FrameFormat(_WIDTH_PX, _HEIGHT_PX, case.pixel_format)
    colour_order, channels = ("GRAY", 1) if case.pixel_format is PixelFormat.MONO8 else ("RGB", 3)
    model_input = ModelInput.model_validate(
        {
            "name": "image",
            "width_px": 320,
            "height_px": 320,
            "colour_order": colour_order,
            "scale": 1 / 255,
            "mean": [0.5] * channels,
            "std": [0.25] * channels,
            "fit": "stretch",
        }
    )
    whole = Region(name="all", x_px=0, y_px=0, width_px=_WIDTH_PX, height_px=_HEIGHT_PX)
    plan, row = RegionPlan("bench", whole, frame_format, model_input), np.zeros(model_input.row_shape, np.float32)
    calls: dict[str, Callable[[], object]] = {name: partial(method, frame) for name, method in methods.items()}
    calls["preprocess"] = partial(plan.fill, frame, row)
    times_us: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + _WARM_UP):
        for name, call in calls.items():
            start_ns = now_ns()
            call()
            if turn >= _WARM_UP:
                times_us[name].append((now_ns() - start_ns) / NS_PER_US)
    return {
        **{f"{name}_us": percentiles_us(values) for name, values in times_us.items()},
        "ratio_edges_to_preprocess": median_ratio(times_us["edges"], times_us["preprocess"]),
        "ratio_edges_to_grey": median_ratio(times_us["edges"], times_us["grey"]),
        "ratio_edges_to_phase": median_ratio(times_us["edges"], times_us["phase"]),
    }


def _errors(scene: PartScene, case: _Case, parts: int) -> dict[str, object]:
    methods = _methods(scene.frame(Look(), seed=0), case)
    rng = np.random.default_rng(0)
    told: dict[str, object] = {}
    for at, (name, look) in enumerate(_LOOKS.items()):
        places = rng.uniform(-_PLACES_PX, _PLACES_PX, (parts, 2))
        errors: dict[str, list[tuple[float, float]]] = {method: [] for method in methods}
        for seed, (x_px, y_px) in enumerate(places.tolist()):
            frame = scene.frame(replace(look, shift_x_px=x_px, shift_y_px=y_px), seed=1_000 * (at + 1) + seed)
            for method, locate in methods.items():
                found_x, found_y, score = locate(frame)
                errors[method].append((max(abs(found_x - x_px), abs(found_y - y_px)), score))
        told[name] = {method: _told(values) for method, values in errors.items()}
    for at, (name, look) in enumerate(_ABSENT.items()):
        scores = {
            method: [locate(scene.frame(look, seed=100_000 * (at + 1) + seed))[2] for seed in range(parts)]
            for method, locate in methods.items()
        }
        told[name] = {method: {"score_max": round(max(values), 3)} for method, values in scores.items()}
    return told


def _told(errors: list[tuple[float, float]]) -> dict[str, object]:
    off_px = np.array([error for error, _ in errors])
    right = off_px <= _RIGHT_PX
    return {
        "parts": len(errors),
        "right": int(right.sum()),
        "error_of_right_px": None
        if not right.any()
        else {"p50": round(float(np.median(off_px[right])), 3), "max": round(float(off_px[right].max()), 3)},
        "score_min": round(min(score for _, score in errors), 3),
    }


def _methods(reference: Pixels, case: _Case) -> Mapping[str, Callable[[Pixels], Place]]:
    """Each takes a frame as the camera delivers it."""
    where = case.template
    template = reference[where.y_px : where.y_px + where.height_px, where.x_px : where.x_px + where.width_px].copy()
    section = RegistrationSection(
        template=where,
        template_sha256="0" * 64,
        search_x_px=_SEARCH_PX,
        search_y_px=_SEARCH_PX,
        tolerance_x_px=_PLACES_PX,
        tolerance_y_px=_PLACES_PX,
        min_score=0.4,
        min_contrast=3.5,
        levels=3,
    )
    frame_format = FrameFormat(_WIDTH_PX, _HEIGHT_PX, case.pixel_format)
    locator = PartLocator("bench", Registration(section, template), frame_format)
    rows = slice(where.y_px - _SEARCH_PX, where.y_px + where.height_px + _SEARCH_PX)
    columns = slice(where.x_px - _SEARCH_PX, where.x_px + where.width_px + _SEARCH_PX)

    def window_of(frame: Pixels) -> Pixels:
        window = frame[rows, columns]
        return window if frame.ndim == 2 else cv2.cvtColor(window, cv2.COLOR_BGR2GRAY)  # type: ignore[return-value]

    def edges(frame: Pixels) -> Place:
        position = locator.locate(frame)
        return position.shift_x_px, position.shift_y_px, position.score

    grey_template = _Grey(template)

    def grey(frame: Pixels) -> Place:
        return grey_template.place(window_of(frame))

    expected = window_of(reference).astype(np.float32)
    hann = cv2.createHanningWindow((expected.shape[1], expected.shape[0]), cv2.CV_32F)

    def phase(frame: Pixels) -> Place:
        (x_px, y_px), response = cv2.phaseCorrelate(expected, window_of(frame).astype(np.float32), hann)
        return x_px, y_px, response

    return {"edges": edges, "grey": grey, "phase": phase}


class _Grey:
    """Normalised cross-correlation of grey levels: a quarter of the size first."""

    def __init__(self, template: Pixels) -> None:
        self._template, self._small = template, _smaller(template)

    def place(self, window: Pixels) -> Place:
        scores = cv2.matchTemplate(_smaller(window), self._small, cv2.TM_CCOEFF_NORMED)
        _, _, _, (column, row) = cv2.minMaxLoc(scores)
        high, wide = self._template.shape
        left = min(max(0, column * _REDUCED - _AROUND_PX), 2 * _SEARCH_PX - 2 * _AROUND_PX)
        top = min(max(0, row * _REDUCED - _AROUND_PX), 2 * _SEARCH_PX - 2 * _AROUND_PX)
        around = window[top : top + high + 2 * _AROUND_PX, left : left + wide + 2 * _AROUND_PX]
        scores = cv2.matchTemplate(around, self._template, cv2.TM_CCOEFF_NORMED)
        _, score, _, (column, row) = cv2.minMaxLoc(scores)
        x_px, y_px = float(left + column - _SEARCH_PX), float(top + row - _SEARCH_PX)
        if 0 < column < 2 * _AROUND_PX and 0 < row < 2 * _AROUND_PX:
            top_x_px, top_y_px = top_of(scores[row - 1 : row + 2, column - 1 : column + 2].astype(np.float64))
            x_px, y_px = x_px + top_x_px, y_px + top_y_px
        return x_px, y_px, score


def _smaller(picture: Pixels) -> Pixels:
    size = (picture.shape[1] // _REDUCED, picture.shape[0] // _REDUCED)
    smaller: Pixels = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
    return smaller


def _as(pixel_format: PixelFormat, pixels: Pixels) -> Pixels:
    return pixels if pixel_format is PixelFormat.MONO8 else np.repeat(pixels[:, :, None], 3, axis=2)
