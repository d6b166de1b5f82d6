"""Pictures of a printed board before a camera, with known truth: rays are cast through a lens on to the board.

Shares no line with what calibrates cameras: neither its lens model nor OpenCV's is asked where a point is seen.
Positions in pixels are of pixels' edges: 0 is the left edge of the first pixel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Floats32 = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

_ITERATIONS = 100
_SETTLED = 1e-13
_SURFACE_ITERATIONS = 4
_PAGE_PX = 3000.0
_PX_PER_MM_MAX = 40.0


@dataclass(frozen=True, slots=True)
class TrueLens:
    """A lens. ``bend``: by which share a point at the frame's corner is seen nearer to the middle than without distortion
    (negative: farther).

    ``polynomial``: a distortion by powers of the undistorted radius, with ``decentring`` as its tangential terms.
    ``division``: one by powers of the *distorted* radius (Fitzgibbon 2001, Simultaneous linear estimation of multiple view
    geometry and lens distortion), about a point ``decentring`` off the axis: no polynomial of the other kind is quite it.
    """

    width_px: int
    height_px: int
    focal_px: float
    centre_x_px: float
    centre_y_px: float
    kind: Literal["polynomial", "division"] = "polynomial"
    bend: float = 0.0
    decentring: tuple[float, float] = (0.0, 0.0)

    def rays(self, positions_px: Floats) -> Floats:
        """Where what is seen there lies on the plane 1 before the camera: (..., 2) -> (..., 2)."""
        seen = (positions_px - self._centre) / self.focal_px
        if self.kind == "division":
            about = seen - np.asarray(self.decentring)
            r2 = (about**2).sum(axis=-1, keepdims=True)
            return np.asarray(np.asarray(self.decentring) + about / (1 + self._strength * r2))
        rays = seen
        p, q = self.decentring
        for _ in range(_ITERATIONS):
            x, y = rays[..., :1], rays[..., 1:]
            r2 = x * x + y * y
            shift = np.concatenate(
                [2 * p * x * y + q * (r2 + 2 * x * x), p * (r2 + 2 * y * y) + 2 * q * x * y], axis=-1
            )
            before, rays = rays, (seen - shift) / (1 + self._strength * r2)
            if float(np.abs(rays - before).max()) < _SETTLED:
                break
        return rays

    def positions(self, rays: Floats) -> Floats:
        """The inverse of ``rays``."""
        if self.kind == "division":
            about = rays - np.asarray(self.decentring)
            r2 = (about**2).sum(axis=-1, keepdims=True)
            # r_seen solves r = r_seen / (1 + s * r_seen**2); written so that it holds for s = 0 too.
            seen = np.asarray(self.decentring) + about * 2 / (1 + np.sqrt(1 - 4 * self._strength * r2))
        else:
            x, y = rays[..., :1], rays[..., 1:]
            p, q = self.decentring
            r2 = x * x + y * y
            seen = rays * (1 + self._strength * r2) + np.concatenate(
                [2 * p * x * y + q * (r2 + 2 * x * x), p * (r2 + 2 * y * y) + 2 * q * x * y], axis=-1
            )
        return np.asarray(seen * self.focal_px + self._centre)

    @property
    def _centre(self) -> Floats:
        return np.array([self.centre_x_px, self.centre_y_px])

    @property
    def _strength(self) -> float:
        corner2 = (self.width_px**2 + self.height_px**2) / (2 * self.focal_px) ** 2
        return -self.bend / corner2


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a plane lies: a point on it, in mm, is at ``rotation @ (x, y, z) + translation_mm`` before the camera.

    ``rotation``: (3, 3); z points away from the camera.
    """

    rotation: Floats
    translation_mm: Floats

    def shifted(self, x_mm: float, y_mm: float, z_mm: float, turn_rad: float = 0.0) -> Pose:
        """Of something that lies at this place on the plane, turned about its normal."""
        cosine, sine = np.cos(turn_rad), np.sin(turn_rad)
        turn = np.array([[cosine, -sine, 0.0], [sine, cosine, 0.0], [0.0, 0.0, 1.0]])
        origin = self.rotation @ np.array([x_mm, y_mm, z_mm]) + self.translation_mm
        return Pose(self.rotation @ turn, origin)

    def points(self, rays: Floats, height_mm: float = 0.0) -> Floats:
        """Where rays (..., 2) meet the plane so far above this one: x, y in mm, (..., 2)."""
        eye = -self.rotation.T @ self.translation_mm
        ways = np.concatenate([rays, np.ones((*rays.shape[:-1], 1))], axis=-1) @ self.rotation
        reach = (-height_mm - eye[2]) / ways[..., 2:]
        return np.asarray(eye[:2] + reach * ways[..., :2])


def posed(target_ray: Floats, distance_mm: float, tilt_rad: float, tilt_about_rad: float, turn_rad: float) -> Pose:
    """Of a plane whose origin is seen along ``target_ray`` (2,), its normal tilted against the camera's axis by ``tilt_rad``."""
    axis = np.array([np.cos(tilt_about_rad), np.sin(tilt_about_rad), 0.0])
    cross = np.array([[0.0, -axis[2], axis[1]], [axis[2], 0.0, -axis[0]], [-axis[1], axis[0], 0.0]])
    tilt = np.eye(3) + np.sin(tilt_rad) * cross + (1 - np.cos(tilt_rad)) * cross @ cross  # Rodrigues
    flat = Pose(tilt, distance_mm * np.array([target_ray[0], target_ray[1], 1.0]))
    return flat.shifted(0.0, 0.0, 0.0, turn_rad)


@dataclass(frozen=True, slots=True)
class Print:
    """A printed page: grey levels, 0 black to 255 white, and where its pixels lie on the board's plane.

    ``left_mm``, ``top_mm``: of the page's upper left corner from the board's. ``bow_mm``: how far the page's middle stands out
    towards the camera, bent about y. ``stretch_x``, ``stretch_y``: how much larger than meant it was printed.
    """

    levels: Bytes
    px_per_mm: float
    left_mm: float
    top_mm: float
    bow_mm: float = 0.0
    stretch_x: float = 1.0
    stretch_y: float = 1.0


def printed(
    black_mm: list[tuple[float, float, float, float]], width_mm: float, height_mm: float, *, border_mm: float
) -> Print:
    """A page with these rectangles (x, y, width, height), which do not overlap: each pixel as dark as they cover it."""
    px_per_mm = min(_PAGE_PX / max(width_mm, height_mm), _PX_PER_MM_MAX)
    rows, columns = (round((side + 2 * border_mm) * px_per_mm) for side in (height_mm, width_mm))
    white = np.ones((rows, columns), np.float32)
    for x, y, width, height in black_mm:
        across, columns_covered = _covered((border_mm + x) * px_per_mm, width * px_per_mm)
        down, rows_covered = _covered((border_mm + y) * px_per_mm, height * px_per_mm)
        white[down, across] -= np.outer(rows_covered, columns_covered)
    levels = np.clip(np.rint(255.0 * white), 0, 255).astype(np.uint8)
    return Print(levels, px_per_mm, -border_mm, -border_mm)


def _covered(start: float, length: float) -> tuple[slice, Floats32]:
    """The pixels that a length reaches into, and how much of each it covers."""
    first, last = int(np.floor(start)), int(np.ceil(start + length))
    edges = np.arange(first, last + 1, dtype=np.float64).clip(start, start + length)
    return slice(first, last), np.diff(edges).astype(np.float32)


@dataclass(frozen=True, slots=True)
class Exposure:
    """What the picture is made of besides geometry. ``blur_px``: standard deviation of the blur; ``smear_px``: how far the picture
    moves along x meanwhile; ``noise``: grey levels, standard deviation, at half the white level; ``vignetting``: the loss of light
    at the corner.
    """

    blur_px: float = 0.6
    smear_px: float = 0.0
    noise: float = 2.0
    vignetting: float = 0.2
    white: float = 205.0
    black: float = 22.0
    ground: float = 75.0


class BoardCamera:
    """Takes pictures of a print through a lens."""

    def __init__(self, lens: TrueLens, *, rays_a_side: int = 3) -> None:
        """``rays_a_side``: of each pixel, squared."""
        self.lens = lens
        self._fine = rays_a_side
        across = (np.arange(lens.width_px * rays_a_side) + 0.5) / rays_a_side
        down = (np.arange(lens.height_px * rays_a_side) + 0.5) / rays_a_side
        rays = [lens.rays(np.stack(np.meshgrid(across, rows), axis=-1)) for rows in np.array_split(down, 24)]
        self._rays = np.concatenate(rays).astype(np.float32)
        x, y = np.meshgrid(np.linspace(-1.0, 1.0, lens.width_px), np.linspace(-1.0, 1.0, lens.height_px))
        self._corner2 = ((x * x + y * y) / 2).astype(np.float32)

    def picture(self, page: Print, pose: Pose, exposure: Exposure, generator: np.random.Generator) -> Bytes:
        """Mono8, (height, width)."""
        x_mm, y_mm = self._points(page, pose)
        fine = cv2.remap(
            page.levels,
            (x_mm / np.float32(page.stretch_x) - np.float32(page.left_mm)) * np.float32(page.px_per_mm)
            - np.float32(0.5),
            (y_mm / np.float32(page.stretch_y) - np.float32(page.top_mm)) * np.float32(page.px_per_mm)
            - np.float32(0.5),
            cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=255.0 * (exposure.ground - exposure.black) / (exposure.white - exposure.black),
        )
        light = cv2.GaussianBlur(fine.astype(np.float32), (0, 0), exposure.blur_px * self._fine)
        if (smear := round(exposure.smear_px * self._fine)) > 1:
            light = cv2.blur(light, (smear, 1))
        light = cv2.resize(light, (self.lens.width_px, self.lens.height_px), interpolation=cv2.INTER_AREA)
        levels = exposure.black + light / 255.0 * (exposure.white - exposure.black)
        levels = np.asarray(levels * (1.0 - exposure.vignetting * self._corner2), np.float32)
        # The noise of light grows with its root, and a part of it is there in the dark.
        spread = exposure.noise * np.sqrt(0.3 + 0.7 * levels / (exposure.white / 2))
        levels += spread * generator.standard_normal(levels.shape, np.float32)
        return np.asarray(np.clip(np.rint(levels), 0, 255), np.uint8)

    def _points(self, page: Print, pose: Pose) -> tuple[Floats32, Floats32]:
        """Where each fine ray meets the page: x and y in mm."""
        rotation = pose.rotation.astype(np.float32)
        eye = (-pose.rotation.T @ pose.translation_mm).astype(np.float32)
        x, y = self._rays[..., 0], self._rays[..., 1]
        way_x, way_y, way_z = (x * rotation[0, i] + y * rotation[1, i] + rotation[2, i] for i in range(3))
        way_x /= way_z
        way_y /= way_z
        at_x, at_y = eye[0] - eye[2] * way_x, eye[1] - eye[2] * way_y
        if page.bow_mm:
            half = page.levels.shape[1] / page.px_per_mm / 2
            middle = page.left_mm + half
            for _ in range(_SURFACE_ITERATIONS):
                z = np.float32(-page.bow_mm) * np.clip(1 - ((at_x - middle) / half) ** 2, 0, None).astype(np.float32)
                at_x, at_y = eye[0] + (z - eye[2]) * way_x, eye[1] + (z - eye[2]) * way_y
        return np.asarray(at_x, np.float32), np.asarray(at_y, np.float32)


def stretched(page: Print, x: float, y: float) -> Print:
    """The same page, printed larger by these factors."""
    return replace(page, stretch_x=x, stretch_y=y)
