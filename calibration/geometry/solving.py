"""Views of a board -> one lens and where the board lay in each view, with how surely all of it is known.

The estimate is the least squares of the corners' distances in the picture (Zhang 2000, A flexible new technique for camera
calibration), begun by OpenCV. What is known of its error is worked out here, from the same derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_STEPS = (cv2.TERM_CRITERIA_COUNT + cv2.TERM_CRITERIA_EPS, 200, 1e-10)
_REFINING_STEPS = 60
_REFINED = 1e-10
"""Of the sum of squares, gained by a step."""
_LENS_COUNT = 3
"""Focal length, and the two of the principal point, before the distortion's."""


class Unsolvable(Exception):
    """No lens and poses explain the views."""


@dataclass(frozen=True, slots=True, eq=False)
class Corners:
    """Corners of one view: on the board in mm, float64 (N, 3), and in the picture, float64 (N, 2), from the first pixel's
    middle.
    """

    board_mm: Floats
    seen_px: Floats


@dataclass(frozen=True, slots=True)
class LensModel:
    """How a lens may bend: which of OpenCV's five distortion coefficients (k1, k2, p1, p2, k3) are free. Pixels are square."""

    name: str
    free: tuple[int, ...]

    @property
    def free_parameters(self) -> npt.NDArray[np.intp]:
        """Which of ``Solution.parameters`` these are, with those of the pinhole."""
        return np.array([*range(_LENS_COUNT), *(index + _LENS_COUNT for index in self.free)], np.intp)

    @property
    def flags(self) -> int:
        flags = cv2.CALIB_FIX_ASPECT_RATIO
        for index, fixed in ((0, cv2.CALIB_FIX_K1), (1, cv2.CALIB_FIX_K2), (4, cv2.CALIB_FIX_K3)):
            if index not in self.free:
                flags |= fixed
        if 2 not in self.free:
            flags |= cv2.CALIB_ZERO_TANGENT_DIST
        return int(flags)


LENS_MODELS = (
    LensModel("no distortion", ()),
    LensModel("radial, 1 term", (0,)),
    LensModel("radial, 2 terms", (0, 1)),
    LensModel("radial, 1 term, and tangential", (0, 2, 3)),
    LensModel("radial, 2 terms, and tangential", (0, 1, 2, 3)),
    LensModel("radial, 3 terms, and tangential", (0, 1, 2, 3, 4)),
)
"""The simplest first."""


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A lens and the poses of the views that it was found from.

    ``parameters``: focal length, cx, cy, k1, k2, p1, p2, k3, float64 (8,). ``poses``: rotation vectors and translations in mm,
    float64 (views, 6). ``residuals_px``: of each view, float64 (N, 2), seen less computed.
    """

    model: LensModel
    parameters: Floats
    poses: Floats
    residuals_px: tuple[Floats, ...]

    @property
    def rms_px(self) -> float:
        """Root mean square of the corners' distances from where they should be, over all of them."""
        errors = np.concatenate(self.residuals_px)
        return float(np.sqrt((errors**2).sum(axis=1).mean()))

    @property
    def sigma_px(self) -> float:
        """The standard deviation of one coordinate of a corner, its degrees of freedom counted."""
        errors = np.concatenate(self.residuals_px)
        free = errors.size - _LENS_COUNT - len(self.model.free) - self.poses.size
        return float(np.sqrt((errors**2).sum() / max(free, 1)))


def solve(views: Sequence[Corners], width_px: int, height_px: int, model: LensModel) -> Solution:
    """Raises Unsolvable where OpenCV finds nothing finite."""
    try:
        _, matrix, coefficients, rotations, translations = cv2.calibrateCamera(
            [view.board_mm.astype(np.float32) for view in views],
            [view.seen_px.astype(np.float32).reshape(-1, 1, 2) for view in views],
            (width_px, height_px),
            np.eye(3),
            np.zeros(5),
            flags=model.flags,
            criteria=_STEPS,
        )
    except cv2.error as error:
        raise Unsolvable(str(error)) from error
    found = np.asarray(coefficients, np.float64).reshape(-1)[:5]
    parameters = np.array([matrix[0, 0], matrix[0, 2], matrix[1, 2], *found])
    poses = np.array(
        [[*rotation.ravel(), *shift.ravel()] for rotation, shift in zip(rotations, translations, strict=True)]
    )
    if not (np.isfinite(parameters).all() and np.isfinite(poses).all() and parameters[0] > 0):
        raise Unsolvable("the views lead to no finite lens")
    parameters, poses = _refined(views, model, parameters, _unstuck(views, parameters, poses))
    return Solution(model, parameters, poses, tuple(_residuals(views, parameters, poses)))


def _residuals(views: Sequence[Corners], parameters: Floats, poses: Floats) -> list[Floats]:
    return [
        view.seen_px - projected(view.board_mm, pose, parameters)[0] for view, pose in zip(views, poses, strict=True)
    ]


def _unstuck(views: Sequence[Corners], parameters: Floats, poses: Floats) -> Floats:
    """A plane seen from afar looks much the same tilted the other way, and some views' poses may have been caught there."""
    better = poses.copy()
    for number, (view, pose) in enumerate(zip(views, poses, strict=True)):
        other = posed(view, parameters)
        away, other_away = (float((_residuals([view], parameters, one[None])[0] ** 2).sum()) for one in (pose, other))
        if other_away < away:
            better[number] = other
    return better


def _refined(views: Sequence[Corners], model: LensModel, parameters: Floats, poses: Floats) -> tuple[Floats, Floats]:
    """Down to the least sum of squares, all together, by Levenberg's and Marquardt's method, the poses eliminated at each step
    (Triggs et al. 2000, Bundle adjustment: a modern synthesis, section 6.1).
    """
    free = model.free_parameters
    cost = sum(float((errors**2).sum()) for errors in _residuals(views, parameters, poses))
    damping = 1e-6
    for _ in range(_REFINING_STEPS):
        normal, gradient = np.zeros((len(free), len(free))), np.zeros(len(free))
        owns = []
        for view, pose in zip(views, poses, strict=True):
            seen, to_pose, to_lens = projected(view.board_mm, pose, parameters)
            shared, own = to_lens[..., free].reshape(-1, len(free)), to_pose.reshape(-1, 6)
            errors = (view.seen_px - seen).reshape(-1)
            block = own.T @ own
            block[np.diag_indices(6)] *= 1 + damping
            solved = np.linalg.solve(block, own.T @ np.column_stack([shared, errors]))
            owns.append(solved)
            normal += shared.T @ shared - (shared.T @ own) @ solved[:, :-1]
            gradient += shared.T @ errors - (shared.T @ own) @ solved[:, -1]
        normal[np.diag_indices(len(free))] *= 1 + damping
        try:
            step = np.linalg.solve(normal, gradient)
        except np.linalg.LinAlgError as error:
            raise Unsolvable("something is not determined by the views") from error
        ahead = parameters.copy()
        ahead[free] += step
        moved = poses + np.array([solved[:, -1] - solved[:, :-1] @ step for solved in owns])
        new_cost = sum(float((errors**2).sum()) for errors in _residuals(views, ahead, moved))
        if new_cost <= cost:
            is_done = cost - new_cost < _REFINED * cost
            parameters, poses, cost, damping = ahead, moved, new_cost, damping / 10
            if is_done:
                break
        else:
            damping *= 100
    return parameters, poses


def projected(board_mm: Floats, pose: Floats, parameters: Floats) -> tuple[Floats, Floats, Floats]:
    """Where corners are seen, (N, 2), and the derivatives of that: (N, 2, 6) to the pose, (N, 2, 8) to the parameters."""
    focal, cx, cy = parameters[:3]
    matrix = np.array([[focal, 0.0, cx], [0.0, focal, cy], [0.0, 0.0, 1.0]])
    seen, slopes = cv2.projectPoints(board_mm, pose[:3], pose[3:], matrix, parameters[3:])
    slopes = np.asarray(slopes, np.float64).reshape(-1, 2, slopes.shape[1])
    to_lens = np.concatenate([slopes[..., 6:7] + slopes[..., 7:8], slopes[..., 8:15]], axis=-1)
    return np.asarray(seen, np.float64).reshape(-1, 2), slopes[..., :6], to_lens


def posed(view: Corners, parameters: Floats) -> Floats:
    """The pose of a view of a known lens: float64 (6,). Raises Unsolvable."""
    focal, cx, cy = parameters[:3]
    matrix = np.array([[focal, 0.0, cx], [0.0, focal, cy], [0.0, 0.0, 1.0]])
    known = (view.board_mm, view.seen_px, matrix, parameters[3:])
    try:
        found, rotation, translation = cv2.solvePnP(*known, flags=cv2.SOLVEPNP_IPPE)
        if found:
            rotation, translation = cv2.solvePnPRefineLM(*known, rotation, translation)
    except cv2.error as error:
        raise Unsolvable(str(error)) from error
    pose = np.concatenate([np.ravel(rotation), np.ravel(translation)]) if found else np.full(6, np.nan)
    if not np.isfinite(pose).all():
        raise Unsolvable("a view leads to no pose of the board")
    return pose


def held_out_sigma_px(views: Sequence[Corners], parameters: Floats) -> float:
    """How far a known lens is from views that it was not found from, as ``Solution.sigma_px``: each view's pose alone is fitted.

    Raises Unsolvable.
    """
    total, free = 0.0, 0
    for view in views:
        errors = view.seen_px - projected(view.board_mm, posed(view, parameters), parameters)[0]
        total += float((errors**2).sum())
        free += errors.size - 6
    return float(np.sqrt(total / max(free, 1)))


def cross_validated_sigma_px(
    views: Sequence[Corners], width_px: int, height_px: int, model: LensModel, folds: int
) -> float:
    """``held_out_sigma_px`` when each of so many parts of the views is left out in turn.

    Stone 1974, Cross-validatory choice and assessment of statistical predictions. Raises Unsolvable.
    """
    total = 0.0
    for fold in range(folds):
        kept = [view for number, view in enumerate(views) if number % folds != fold]
        left = [view for number, view in enumerate(views) if number % folds == fold]
        solution = solve(kept, width_px, height_px, model)
        total += held_out_sigma_px(left, solution.parameters) ** 2
    return float(np.sqrt(total / folds))


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """How a print may differ from a flat one of the measured size: a direction in which all its corners move at once.

    ``moves_mm``: of each corner of the board, in the order of its ids, float64 (corners, 3), for an amount of 1.
    """

    name: str
    moves_mm: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Certainty:
    """What the views say of the error of a solution.

    ``covariance``: of ``Solution.parameters``, float64, and of the pose of one view behind them, (14, 14). ``shapes``: of each
    ``Shape`` that was asked for, the amount that would fit the views best, and its standard error, to first order.
    """

    covariance: Floats
    shapes: dict[str, tuple[float, float]]


def certainty(
    views: Sequence[Corners],
    ids: Sequence[npt.NDArray[np.int32]],
    solution: Solution,
    belt: int,
    shapes: Sequence[Shape] = (),
) -> Certainty:
    """From the derivatives at the solution, the poses of all views but ``belt`` eliminated. Raises Unsolvable where they are
    singular.

    The covariance of a least-squares estimate is ``sigma**2 * inv(J.T @ J)``; eliminating a view's own pose leaves
    ``A.T @ A - A.T @ B @ inv(B.T @ B) @ B.T @ A`` of it (Triggs et al. 2000, Bundle adjustment: a modern synthesis, section 6.1).
    A shape's amount is one Gauss-Newton step from 0. All distortion terms count as free, chosen or not: that the views did not
    need one does not say that it is 0.
    """
    count, extra = len(solution.parameters), len(shapes)
    size = count + 6 + extra
    normal, gradient = np.zeros((size, size)), np.zeros(size)
    for number, (view, numbers) in enumerate(zip(views, ids, strict=True)):
        _, to_pose, to_lens = projected(view.board_mm, solution.poses[number], solution.parameters)
        moved = [_slope(view.board_mm, shape.moves_mm[numbers], solution, number) for shape in shapes]
        shared = np.zeros((len(numbers) * 2, size))
        shared[:, :count] = to_lens.reshape(-1, count)
        own = to_pose.reshape(-1, 6)
        for column, slope in enumerate(moved):
            shared[:, count + 6 + column] = slope.reshape(-1)
        residuals = solution.residuals_px[number].reshape(-1)
        if number == belt:
            shared[:, count : count + 6] = own
        else:
            basis, _ = np.linalg.qr(own)
            shared = shared - basis @ (basis.T @ shared)
            residuals = residuals - basis @ (basis.T @ residuals)
        normal += shared.T @ shared
        gradient += shared.T @ residuals
    variance = solution.sigma_px**2
    plain = count + 6
    covariance = variance * _inverse(normal[:plain, :plain])
    found: dict[str, tuple[float, float]] = {}
    if extra:
        whole = _inverse(normal)
        amounts = whole @ gradient
        for column, shape in enumerate(shapes):
            at = plain + column
            found[shape.name] = float(amounts[at]), float(np.sqrt(variance * whole[at, at]))
    return Certainty(covariance, found)


def _slope(board_mm: Floats, moves_mm: Floats, solution: Solution, number: int) -> Floats:
    """How the corners of a view move in the picture, px for each mm of ``moves_mm``."""
    small = 1e-3
    ahead, behind = (
        projected(board_mm + sign * small * moves_mm, solution.poses[number], solution.parameters)[0]
        for sign in (1, -1)
    )
    return (ahead - behind) / (2 * small)


def _inverse(normal: Floats) -> Floats:
    """Of a symmetric positive definite matrix whose rows are of very different units."""
    scale = np.sqrt(np.diag(normal))
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise Unsolvable("something is not determined by the views")
    scaled = normal / np.outer(scale, scale)
    values, vectors = np.linalg.eigh(scaled)
    if values[0] <= 1e-14:
        raise Unsolvable("something is not determined by the views")
    return np.asarray((vectors / values) @ vectors.T / np.outer(scale, scale))
