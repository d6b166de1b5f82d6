"""The teaching's arithmetic as one would write it down: loops, whole arrays, no moments and no blocks."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from calibration.teaching.backbone import FeatureShape
from calibration.teaching.fitting import ScaleFit, ViewFit
from calibration.teaching.windows import Layer

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Features = npt.NDArray[np.float32]

SHRINKAGE_MIN, SPREAD_MIN, SHARED_PARTS, STRANGENESS_FLOOR = 0.01, 1e-3, 2.0, 1e-6


def map_of(features: Features, layer: Layer) -> Features:
    """A kept channel holds one of ``fineness`` x ``fineness`` neighbours, rows before columns."""
    count, _, rows, columns = features.shape
    fine = layer.fineness
    shown = np.empty((count, layer.channel_count, fine * rows, fine * columns), np.float32)
    for channel in range(layer.channel_count):
        for y in range(fine * rows):
            for x in range(fine * columns):
                kept = layer.first + ((y % fine) * fine + x % fine) * layer.channel_count + channel
                shown[:, channel, y, x] = features[:, kept, y // fine, x // fine]
    return shown


def look(features: Features, layer: Layer, side: int, step: int) -> Floats:
    """(n, places, channels)."""
    shown = map_of(features, layer).astype(np.float64)
    rows, columns = shown.shape[2:]
    means = [
        shown[:, :, top : top + side, left : left + side].mean(axis=(2, 3))
        for top in range(0, rows - side + 1, step)
        for left in range(0, columns - side + 1, step)
    ]
    return np.stack(means, axis=1)


def oracle_approximating_shrinkage(covariance: Floats, count: float) -> float:
    """Chen et al. (2010), eq. 23."""
    p = len(covariance)
    trace_of_square, square_of_trace = np.trace(covariance @ covariance), np.trace(covariance) ** 2
    rho = ((1 - 2 / p) * trace_of_square + square_of_trace) / (
        (count + 1 - 2 / p) * (trace_of_square - square_of_trace / p)
    )
    return float(min(rho, 1.0))


def covariances(looks: Floats, separate_count: float) -> Floats:
    """Of each place, shrunk: (places, features, features); ``looks``: (parts, places, features)."""
    part_count, place_count, size = looks.shape
    own = np.array([np.cov(looks[:, place], rowvar=False) for place in range(place_count)])
    together = own.mean(axis=0)
    spread = np.maximum(np.sqrt(np.diag(together)), SPREAD_MIN)
    correlation = together / np.outer(spread, spread)
    rho = max(SHRINKAGE_MIN, oracle_approximating_shrinkage(correlation, part_count * separate_count))
    shared = np.outer(spread, spread) * ((1 - rho) * correlation + rho * np.eye(size))
    weight = SHARED_PARTS * size
    return np.asarray(((part_count - 1) * own + weight * shared) / (part_count - 1 + weight), np.float64)


def strangeness(looks: Floats, fitted_on: Floats, separate_count: float) -> Floats:
    """(parts, places): the logarithm of the squared Mahalanobis distance for each feature."""
    found = np.empty(looks.shape[:2])
    for place, covariance in enumerate(covariances(fitted_on, separate_count)):
        left = looks[:, place] - fitted_on[:, place].mean(axis=0)
        squared = np.einsum("nf,fg,ng->n", left, np.linalg.inv(covariance), left)
        found[:, place] = np.log(squared / looks.shape[2] + STRANGENESS_FLOOR)
    return found


def excess(strangeness_: Floats, of_usual: Floats) -> Floats:
    """(parts,): the strangest window of each, in the terms of good parts' strangest."""
    middle, spread = of_usual.mean(axis=0), np.maximum(of_usual.std(axis=0), SPREAD_MIN)
    usual = ((of_usual - middle) / spread).max(axis=1)
    highest = ((strangeness_ - middle) / spread).max(axis=1)
    return np.asarray((highest - usual.mean()) / max(SPREAD_MIN, usual.std()), np.float64)


def cross_fit(features: Features, layers: Sequence[Layer], folds: npt.NDArray[np.int64], is_kept: Flags) -> Floats:
    """(parts,), where each window's step is the layer's: each fold by a fit of the others' kept parts."""
    scales = []
    for layer in layers:
        for side in layer.sides:
            looks = look(features, layer, side, layer.step)
            rows, columns = (layer.fineness * length for length in features.shape[2:])
            separate_count = rows * columns / side**2
            strange = np.empty(looks.shape[:2])
            for fold in set(folds.tolist()):
                fitted_on = looks[(folds != fold) & is_kept]
                strange[folds == fold] = strangeness(looks[folds == fold], fitted_on, separate_count)
            found = np.empty(len(features))
            for fold in set(folds.tolist()):
                found[folds == fold] = excess(strange[folds == fold], strange[(folds != fold) & is_kept])
            scales.append(found)
    return np.asarray(np.mean(scales, axis=0), np.float64)


def anomaly_places(shape: FeatureShape, view: ViewFit, features: Features) -> Floats:
    """How strange each place of the map is, (n, h, w): the mean over the scales, each feature showing the mean of the windows that
    it lies in, brought to the map's size.
    """
    size = (shape.width_px // 4, shape.height_px // 4)
    shown = [
        np.stack([cv2.resize(each, size, interpolation=cv2.INTER_LINEAR) for each in _places(scale, features)])
        for scale in view.scales
    ]
    return np.asarray(np.mean(shown, axis=0), np.float64)


def _places(scale: ScaleFit, features: Features) -> Floats:
    windows, usual = scale.windows, scale.usual
    looks = look(features, windows.layer, windows.side, windows.step)
    left = looks - scale.gaussian.centre
    whitened = np.einsum("pfg,npg->npf", scale.gaussian.whitening, left)
    strange = np.log(np.square(whitened).mean(axis=2) + STRANGENESS_FLOOR)
    above = ((strange - usual.offset) / usual.deviation - usual.location) / usual.spread
    total, count = np.zeros((len(features), *windows.grid)), np.zeros(windows.grid)
    for place, (row, column) in enumerate(np.ndindex(*windows.places)):
        top, left_edge = row * windows.step, column * windows.step
        inside = (slice(top, top + windows.side), slice(left_edge, left_edge + windows.side))
        total[:, inside[0], inside[1]] += above[:, place, None, None]
        count[inside] += 1
    return np.asarray(total / count, np.float64)
