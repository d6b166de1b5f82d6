"""Where the part lies in a frame: a template of it is looked for around its nominal place, so that regions can follow.

The template is searched for in a pyramid of pictures, each half as large as the one before: everywhere in the smallest, then
uphill from the best places down to the frame's own pixels. What is found is a function of the frame alone, in whole numbers up
to the last division: the same frame gives the same shift in the line, in an evaluation and in a replay.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from vision.faults import Fault, FaultsError, disagreement
from vision.kernels import PixelArray, flat_rows
from vision.kernels.matching import (
    BLUE_SHARE,
    GREEN_SHARE,
    RED_SHARE,
    SOBEL_WEIGHT,
    DirectionArray,
    best_places,
    climb,
    directions,
    halve,
    score_everywhere,
    to_grey,
)
from vision.preprocess import FrameFormat, WrongFrame
from vision.recipe import Strict
from vision.types import PixelFormat

SEARCH_STEP_PX = 8
"""Search ranges are multiples of it, so that every picture of the pyramid shows the same range."""
TEMPLATE_SIDE_MIN_PX, TEMPLATE_SIDE_MAX_PX = 32, 512
LEVELS_MAX = 3

GREY_SHARES = {
    PixelFormat.BGR8: np.array([BLUE_SHARE, GREEN_SHARE, RED_SHARE], np.int64),
    PixelFormat.RGB8: np.array([RED_SHARE, GREEN_SHARE, BLUE_SHARE], np.int64),
}
TEMPLATE_CONTRAST = 2
"""The template's edges are those that many times as strong as a frame's must be, so that they are seen in half the light too."""

_CANDIDATES = 3
"""Places of the smallest picture that are followed up: the best of it may be another one's in the frame."""
_APART = 2
"""Pixels of the smallest picture that these lie more than apart."""
_CLIMB_STEPS = 8
"""In one picture; from the place of the smaller one's peak to its own it is one or two."""

_SearchPx = Annotated[int, Field(gt=0, le=256, multiple_of=SEARCH_STEP_PX)]
_SidePx = Annotated[int, Field(ge=TEMPLATE_SIDE_MIN_PX, le=TEMPLATE_SIDE_MAX_PX)]
_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class TemplateRegion(Strict):
    """The rectangle of the frame in which the template lies where the part is in its nominal place."""

    x_px: int = Field(ge=0)
    y_px: int = Field(ge=0)
    width_px: _SidePx
    height_px: _SidePx


class RegistrationSection(Strict):
    """How one camera finds the part. The recipe's regions and zones are drawn for a part in its nominal place."""

    template: TemplateRegion
    template_sha256: _Sha256 = Field(description="of the template's file, a grey PNG of the template's size")
    search_x_px: _SearchPx = Field(
        description="how far to either side it is looked for; found at the very end it is not"
    )
    search_y_px: _SearchPx = Field(description="the same up and down")
    tolerance_x_px: float = Field(gt=0.0, description="a part further from its nominal place is not judged")
    tolerance_y_px: float = Field(gt=0.0)
    min_score: float = Field(gt=0.0, lt=1.0, description="where the best place scores less, there is no such part")
    min_contrast: float = Field(ge=0.25, le=64.0, description="of an edge in a frame, in grey levels a pixel")
    levels: int = Field(ge=0, le=LEVELS_MAX, description="how often the search halves the picture")

    @model_validator(mode="after")
    def _tolerances_are_searched(self) -> RegistrationSection:
        for axis, tolerance_px, search_px in (
            ("x", self.tolerance_x_px, self.search_x_px),
            ("y", self.tolerance_y_px, self.search_y_px),
        ):
            if tolerance_px > search_px - 1:
                expected = f"at most {search_px - 1}, a pixel less than search_{axis}_px"
                raise disagreement(f"tolerance_{axis}_px", f"{tolerance_px:g}", expected)
        return self


@dataclass(frozen=True, slots=True)
class Registration:
    """What a frame needs to be registered. ``template``: uint8 (height, width), the size of the section's rectangle."""

    section: RegistrationSection
    template: npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PartPosition:
    """Where the part lies against its nominal place, in pixels of the frame; right and down are positive.

    ``score``: the share of the template's edges that are seen there, -1..1. ``whole_px``: x and y of the shift in whole pixels, by
    which regions move. Where ``is_found`` is False the rest is the best place that there was, and nothing to rely on.
    """

    shift_x_px: float
    shift_y_px: float
    score: float
    is_found: bool
    whole_px: tuple[int, int]


NOWHERE = PartPosition(0.0, 0.0, 0.0, False, (0, 0))
"""No place is like the template at all."""


class PartOutOfPlace(WrongFrame):
    """The part is not found, or not within tolerance of its nominal place: the part becomes ``BAD_FRAME``."""


def template_png(template: npt.NDArray[np.uint8]) -> bytes:
    """The template's file. ``template``: uint8 (height, width)."""
    is_made, content = cv2.imencode(".png", template)
    if not is_made:
        raise ValueError(f"template: got {template.dtype} {template.shape}, expected uint8 (height, width)")
    return content.tobytes()


def read_template(content: bytes, section: RegistrationSection, *, file: str) -> Registration:
    """A section with the content of its template's file, which ``file`` names in faults. Raises FaultsError."""
    sha256 = hashlib.sha256(content).hexdigest()
    if sha256 != section.template_sha256:
        expected = f"{section.template_sha256}: calibrate the registration again"
        raise FaultsError([Fault(file, "sha256", sha256, expected)])
    encoded = np.frombuffer(content, np.uint8)
    template: Any = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED) if encoded.size else None
    size = (section.template.height_px, section.template.width_px)
    if template is None or template.dtype != np.uint8 or template.shape != size:
        got = "no image" if template is None else f"{template.dtype} {template.shape}"
        raise FaultsError([Fault(file, "", got, f"a grey PNG of {size[1]} x {size[0]} px, 8 bits")])
    return Registration(section, template)


def registration_faults(
    section: RegistrationSection, frame_format: FrameFormat, *, file: str, key: str = "registration"
) -> list[Fault]:
    """Why a camera's frames cannot be searched: the search leaves them."""
    region, faults = section.template, []
    for axis, start, size, search, limit in (
        ("x", region.x_px, region.width_px, section.search_x_px, frame_format.width_px),
        ("y", region.y_px, region.height_px, section.search_y_px, frame_format.height_px),
    ):
        if start - search < 0 or start + size + search > limit:
            got = f"{search} (with the template from {start - search} to {start + size + search})"
            expected = f"inside the frame's {limit} px: a smaller search, or a template further from the edge"
            faults.append(Fault(file, f"{key}.search_{axis}_px", got, expected))
    return faults


class _Level:
    """One picture of the pyramid: the directions of its edges and of the template's, and the scores of its places."""

    def __init__(self, template: npt.NDArray[np.uint8], weakest_square: int, rows: int, columns: int) -> None:
        height, width = template.shape
        self.template: DirectionArray = np.zeros((2, height, width), np.int8)
        directions(*_memory(template), weakest_square * TEMPLATE_CONTRAST**2, self.template)
        levels = self.template.astype(np.int64)
        self.template_sum = int((levels * levels).sum())
        self.picture: DirectionArray = np.zeros((2, height + rows - 1, width + columns - 1), np.int8)
        self.scores = np.empty((rows, columns), np.float64)

    def tops(self, places: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
        """Row and column of the tops that these places lead to, the best first; without those that are too far to reach."""
        reached = {
            climb(self.picture, self.template, self.template_sum, self.scores, row, column, _CLIMB_STEPS)
            for row, column in places
        }
        return sorted(reached - {(-1, -1)}, key=lambda top: (-self.scores[top], top))


class PartLocator:
    """Finds the part in one camera's frames; all memory is its own from the start. Not for several threads at once."""

    def __init__(self, camera_id: str, registration: Registration, frame_format: FrameFormat) -> None:
        """Raises FaultsError where the search leaves the frame, ValueError for a template of another size."""
        section = registration.section
        if faults := registration_faults(section, frame_format, file=f"camera {camera_id}"):
            raise FaultsError(faults)
        region = section.template
        if registration.template.shape != (region.height_px, region.width_px):
            raise ValueError(f"template: got {registration.template.shape}, expected {region}")
        self._camera_id = camera_id
        self._shape = frame_format.shape
        self._section = section
        self._corner = (region.x_px - section.search_x_px, region.y_px - section.search_y_px)
        self._channels = frame_format.pixel_format.channel_count
        high, wide = region.height_px + 2 * section.search_y_px, region.width_px + 2 * section.search_x_px
        self._grey: PixelArray | None = None
        if frame_format.pixel_format is not PixelFormat.MONO8:
            self._shares = GREY_SHARES[frame_format.pixel_format]
            self._grey = np.zeros((high, wide), np.uint8)
        self._weakest_square = round((SOBEL_WEIGHT * section.min_contrast) ** 2)
        self._smaller = [np.zeros((high >> at, wide >> at), np.uint8) for at in range(1, section.levels + 1)]
        self._levels: list[_Level] = []
        template = np.ascontiguousarray(registration.template)
        for at in range(section.levels + 1):
            rows, columns = 2 * section.search_y_px >> at, 2 * section.search_x_px >> at
            self._levels.append(_Level(template, self._weakest_square, rows + 1, columns + 1))
            half = np.zeros((template.shape[0] // 2, template.shape[1] // 2), np.uint8)
            halve(*_memory(template), half)
            template = half
        self._places = np.zeros((_CANDIDATES, 2), np.int64)

    def locate(self, pixels: npt.NDArray[np.uint8]) -> PartPosition:
        """Reads the frame's ``pixels`` in place. Raises WrongFrame where they are not as planned."""
        if pixels.shape != self._shape:
            raise WrongFrame(f"camera {self._camera_id}: got a frame of shape {pixels.shape}, expected {self._shape}")
        try:
            flat, pitch = flat_rows(pixels)
        except ValueError as error:
            raise WrongFrame(f"camera {self._camera_id}: {error}") from error
        x_px, y_px = self._corner
        picture = (flat, pitch, y_px * pitch + x_px * self._channels)
        if self._grey is not None:
            to_grey(*picture, self._shares, self._grey)
            picture = _memory(self._grey)
        for at, level in enumerate(self._levels):
            if at > 0:
                halve(*picture, self._smaller[at - 1])
                picture = _memory(self._smaller[at - 1])
            directions(*picture, self._weakest_square, level.picture)
            level.scores.fill(np.nan)
        frame, smallest = self._levels[0], self._levels[-1]
        score_everywhere(smallest.picture, smallest.template, smallest.template_sum, smallest.scores)
        places: Sequence[Sequence[int]] = self._places[: best_places(smallest.scores, _APART, self._places)].tolist()
        for level in reversed(self._levels):
            if level is not smallest:
                # In the frame's own pixels, where it costs most, only the best is followed.
                places = [(2 * row, 2 * column) for row, column in (places[:1] if level is frame else places)]
            places = level.tops(places)
        return self._position(*places[0]) if places else NOWHERE

    def every_score(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """The score of each whole-pixel place in the search, float64 (rows, columns), the nominal place in the middle.

        Takes hundreds of times as long as ``locate``: for a calibration, which asks what else looks like the template.
        Raises WrongFrame.
        """
        self.locate(pixels)
        frame = self._levels[0]
        scores = np.empty_like(frame.scores)
        score_everywhere(frame.picture, frame.template, frame.template_sum, scores)
        return scores

    def check(self, position: PartPosition) -> None:
        """Raises PartOutOfPlace, with words for the operator, where the part is not found or not within tolerance."""
        section = self._section
        if not position.is_found:
            raise PartOutOfPlace(
                f"camera {self._camera_id}: no part found within {section.search_x_px} px to either side and "
                f"{section.search_y_px} px up and down of its place: got a score of {position.score:.2f}, "
                f"expected at least {section.min_score:.2f} inside this range"
            )
        if abs(position.shift_x_px) > section.tolerance_x_px or abs(position.shift_y_px) > section.tolerance_y_px:
            raise PartOutOfPlace(
                f"camera {self._camera_id}: got a part {_told(position)} its place, expected at most "
                f"{section.tolerance_x_px:g} px to either side and {section.tolerance_y_px:g} px up and down"
            )

    def _position(self, row: int, column: int) -> PartPosition:
        scores, section = self._levels[0].scores, self._section
        score = float(scores[row, column])
        shift_x_px, shift_y_px = column - section.search_x_px, row - section.search_y_px
        if abs(shift_x_px) >= section.search_x_px or abs(shift_y_px) >= section.search_y_px:
            return PartPosition(float(shift_x_px), float(shift_y_px), score, False, (shift_x_px, shift_y_px))
        top_x_px, top_y_px = top_of(scores[row - 1 : row + 2, column - 1 : column + 2])
        return PartPosition(
            shift_x_px=shift_x_px + top_x_px,
            shift_y_px=shift_y_px + top_y_px,
            score=score,
            is_found=score >= section.min_score,
            whole_px=(shift_x_px, shift_y_px),
        )


def top_of(around: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Where a surface through nine neighbouring scores has its top: x and y, -0.5..0.5 from the middle one, the highest.

    float64 (3, 3), rows down. The paraboloid of the scores' central differences (Q. Tian, M. N. Huhns, "Algorithms for subpixel
    registration", Computer Vision, Graphics, and Image Processing 35, 1986), its mixed term included: edges that run aslant tilt
    the top. 0, 0 where the scores have none.
    """
    (before_0, above, before_2), (left, middle, right), (after_0, below, after_2) = around.tolist()
    slope_x, slope_y = (right - left) / 2, (below - above) / 2
    bend_x, bend_y = left - 2 * middle + right, above - 2 * middle + below
    twist = (before_0 - before_2 - after_0 + after_2) / 4
    bend = bend_x * bend_y - twist * twist
    if bend_x >= 0.0 or bend <= 0.0:
        return 0.0, 0.0
    x, y = (twist * slope_y - bend_y * slope_x) / bend, (twist * slope_x - bend_x * slope_y) / bend
    return min(max(x, -0.5), 0.5), min(max(y, -0.5), 0.5)


def _memory(picture: npt.NDArray[np.uint8]) -> tuple[PixelArray, int, int]:
    flat, pitch = flat_rows(picture)
    return flat, pitch, 0


def _told(position: PartPosition) -> str:
    x_px, y_px = position.shift_x_px, position.shift_y_px
    return f"{abs(x_px):.1f} px {'right' if x_px > 0 else 'left'} of and {abs(y_px):.1f} px {'below' if y_px > 0 else 'above'}"
