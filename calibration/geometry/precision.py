"""How far positions in mm may be off, from how surely lens, belt, board and part height are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import hypot

import cv2
import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from calibration.geometry.solving import Unsolvable
from vision.camera_geometry import CameraGeometry, Lens, mm_from_undistorted, undistorted_from_raw

Floats = npt.NDArray[np.float64]

CONFIDENCE = 0.95
_SAMPLES = 4000
_SEED = 20
_GRID = 7


def lens_of(parameters: Floats, width_px: int, height_px: int) -> Lens:
    """``Solution.parameters`` as a lens. Raises Unsolvable where it folds the picture."""
    focal, cx, cy, k1, k2, p1, p2, k3 = (float(value) for value in parameters)
    try:
        return Lens(
            width_px=width_px,
            height_px=height_px,
            fx_px=focal,
            fy_px=focal,
            cx_px=cx,
            cy_px=cy,
            k1=k1,
            k2=k2,
            p1=p1,
            p2=p2,
            k3=k3,
        )
    except ValidationError as error:
        raise Unsolvable("the distortion found is not one of a lens: it shows places of the picture twice") from error


def geometry_of(lens: Lens, pose: Floats, thickness_mm: float, part_height_mm: float) -> CameraGeometry:
    """The belt's frame below a board of this pose: turned to the picture's x, its origin where the picture's middle looks.

    Raises Unsolvable where the belt is not before the camera all over the picture.
    """
    rotation = cv2.Rodrigues(pose[:3])[0]
    on_belt = pose[3:] + rotation[:, 2] * thickness_mm
    try:
        as_laid = CameraGeometry(
            lens=lens,
            belt_rotation=[float(one) for one in pose[:3]],
            belt_translation_mm=[float(one) for one in on_belt],
        )
        middle = np.array([lens.width_px / 2, lens.height_px / 2])
        origin, right = mm_from_undistorted(as_laid, np.stack([middle, middle + np.array([1.0, 0.0])]))
        across = np.array([*(right - origin), 0.0])
        x = rotation @ (across / np.linalg.norm(across))
        z = rotation[:, 2]
        turned = cv2.Rodrigues(np.column_stack([x, np.cross(z, x), z]))[0].ravel()
        moved = rotation[:, :2] @ origin + on_belt
        return CameraGeometry(
            lens=lens,
            belt_rotation=[float(one) for one in turned],
            belt_translation_mm=[float(one) for one in moved],
            part_height_mm=part_height_mm,
        )
    except ValidationError as error:
        raise Unsolvable(
            "the belt is not before the camera all over the picture: is the board's view the right one?"
        ) from error


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """What a geometry was made from, and how surely.

    ``parameters`` (8,), ``pose`` (6,) of the board on the belt; ``covariance`` (14, 14) of the one and the other.
    ``scale_uncertainty``: of the board's size, as a share; ``height_uncertainty_mm``: of the part's height; standard uncertainties.
    """

    parameters: Floats
    pose: Floats
    covariance: Floats
    thickness_mm: float
    part_height_mm: float
    scale_uncertainty: float
    height_uncertainty_mm: float


def places_px(width_px: int, height_px: int) -> dict[str, tuple[float, float]]:
    """Where errors are told: the raw frame's corners and its middle."""
    width, height = float(width_px), float(height_px)
    return {
        "upper left": (0.0, 0.0),
        "upper right": (width, 0.0),
        "middle": (width / 2, height / 2),
        "lower left": (0.0, height),
        "lower right": (width, height),
    }


@dataclass(frozen=True, slots=True, eq=False)
class Precision:
    """``at_places_mm``: of ``places_px``, in their order; ``worst_mm`` of the whole picture; ``shares_mm``: by cause."""

    at_places_mm: Floats
    worst_mm: float
    shares_mm: dict[str, float]


def precision(known: Known, width_px: int, height_px: int, rivals: Sequence[tuple[Floats, Floats]] = ()) -> Precision:
    """The errors that are not exceeded with 95 % confidence, by the law of propagation (JCGM 101:2008, drawn from the normal law).

    The effect of each cause is taken as linear. Where the origin lies and how the axes are turned is a convention: what a shift
    and a turn of all positions explain is no error. ``rivals``: parameters and pose of solutions with other lens models that the
    views cannot tell from this one; by how much the farthest of them differs is added everywhere. Raises Unsolvable.
    """
    told = np.array(list(places_px(width_px, height_px).values()))
    grid = np.stack(np.meshgrid(np.linspace(0.0, width_px, _GRID), np.linspace(0.0, height_px, _GRID)), axis=-1)
    raw = np.concatenate([grid.reshape(-1, 2), told])
    lens_count = len(known.parameters)

    def positions(change: Floats) -> Floats:
        return placed(
            known.parameters + change[:lens_count],
            known.pose + change[lens_count : lens_count + 6],
            *change[lens_count + 6 :],
        )

    def placed(parameters: Floats, pose: Floats, grown: float = 0.0, higher: float = 0.0) -> Floats:
        lens = lens_of(parameters, width_px, height_px)
        pose = pose.copy()
        pose[3:] *= 1 + grown
        rotation = cv2.Rodrigues(pose[:3])[0]
        above = known.part_height_mm + float(higher) - known.thickness_mm
        origin = pose[3:] - rotation[:, 2] * above
        rays = np.concatenate([lens.rays(raw), np.ones((len(raw), 1))], axis=1)
        local = rays @ np.linalg.inv(np.column_stack([rotation[:, :2], origin])).T
        return np.asarray(local[:, :2] / local[:, 2:])

    spreads = np.sqrt(np.diag(known.covariance))
    steps = np.concatenate([spreads, [1e-5, 1e-3 * max(1.0, known.part_height_mm)]])
    slopes = _slopes(positions, steps)
    found = placed(known.parameters, known.pose)
    fitted = grid.size // 2
    slopes = _without_shift_and_turn(slopes, found, fitted)
    model = np.zeros_like(found)
    for rival in rivals:
        off = aligned(placed(*rival), found, fitted) - found
        farther = (off**2).sum(axis=1) > (model**2).sum(axis=1)
        model[farther] = off[farther]
    generator = np.random.default_rng(_SEED)
    scaled = known.covariance / np.outer(spreads, spreads)
    values, vectors = np.linalg.eigh(scaled)
    root = (vectors * np.sqrt(np.clip(values, 0.0, None))) * 1.0
    drawn = (generator.standard_normal((_SAMPLES, lens_count + 6)) @ root.T) * spreads
    causes = {
        "views": np.einsum("pcj,nj->npc", slopes[..., : lens_count + 6], drawn),
        "square size": np.einsum("pc,n->npc", slopes[..., -2], generator.normal(0, known.scale_uncertainty, _SAMPLES)),
        "part height": np.einsum(
            "pc,n->npc", slopes[..., -1], generator.normal(0, known.height_uncertainty_mm, _SAMPLES)
        ),
    }
    distances = np.linalg.norm(model + sum(causes.values()), axis=-1)
    return Precision(
        at_places_mm=np.quantile(distances[:, -len(told) :], CONFIDENCE, axis=0),
        worst_mm=_worst(distances),
        shares_mm={
            **{cause: _worst(np.linalg.norm(errors, axis=-1)) for cause, errors in causes.items()},
            "lens model": float(np.linalg.norm(model, axis=1).max()),
        },
    )


def aligned(positions_mm: Floats, target_mm: Floats, fitted: int | None = None) -> Floats:
    """``positions_mm`` (N, 2) shifted and turned, not scaled, so that the first ``fitted`` (all) come as near to ``target_mm`` as
    they go.

    Umeyama 1991, Least-squares estimation of transformation parameters between two point patterns.
    """
    middle, target_middle = positions_mm[:fitted].mean(axis=0), target_mm[:fitted].mean(axis=0)
    left, _, right = np.linalg.svd((target_mm[:fitted] - target_middle).T @ (positions_mm[:fitted] - middle))
    sign = np.sign(np.linalg.det(left @ right))
    rotation = left @ np.diag([1.0, sign]) @ right
    return np.asarray((positions_mm - middle) @ rotation.T + target_middle)


def field_mm(geometry: CameraGeometry) -> tuple[float, float]:
    """Width and height of what the raw frame shows on the parts' plane, through its middle."""
    lens = geometry.lens
    width, height = float(lens.width_px), float(lens.height_px)
    ends = np.array([[0.0, height / 2], [width, height / 2], [width / 2, 0.0], [width / 2, height]])
    left, right, top, bottom = mm_from_undistorted(geometry, undistorted_from_raw(lens, ends))
    return hypot(*(right - left)), hypot(*(bottom - top))


def _worst(distances: Floats) -> float:
    return float(np.quantile(distances.max(axis=1), CONFIDENCE))


def _slopes(positions: Callable[[Floats], Floats], steps: Floats) -> Floats:
    """By central differences: (places, 2, causes)."""
    columns = []
    for number, step in enumerate(steps):
        change = np.zeros(len(steps))
        change[number] = step
        columns.append((positions(change) - positions(-change)) / (2 * step))
    return np.stack(columns, axis=-1)


def _without_shift_and_turn(slopes: Floats, positions_mm: Floats, fitted: int) -> Floats:
    """Less what a shift and a small turn explain, by least squares over the first ``fitted`` places."""
    middle = positions_mm[:fitted].mean(axis=0)
    x, y = (positions_mm - middle).T
    none, one = np.zeros_like(x), np.ones_like(x)
    moves = np.stack([np.stack([one, none], -1), np.stack([none, one], -1), np.stack([-y, x], -1)], axis=-1)
    flat = moves[:fitted].reshape(-1, 3)
    amounts, *_ = np.linalg.lstsq(flat, slopes[:fitted].reshape(len(flat), -1), rcond=None)
    return np.asarray(slopes - np.einsum("pcm,mj->pcj", moves, amounts))
