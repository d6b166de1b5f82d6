"""What ``lineside teach`` makes of good pictures, as a method beside others: the very model that a line would run."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from calibration.teaching.backbone import feature_shape
from calibration.teaching.graph import product_model
from calibration.teaching.near_copies import near_copies
from pipeline.bench.one_class.data import Mask, Pixels
from pipeline.bench.one_class.methods import Map
from pipeline.teaching.budget import PREFERRED, opened
from pipeline.teaching.features import FeatureReader, InputFiller, input_of
from pipeline.teaching.fit import fit, threshold_of
from pipeline.teaching.package_writer import THRESHOLD, write_package
from vision.package import load_package

_FALSE_REJECT_MAX, _CONFIDENCE = 0.01, 0.95


class Taught:
    """Of the size that is taught where nothing else is asked for and the box is quick enough.

    ``is_said_good``: somebody knows that all pictures are good, as is said of data that are labelled; else it looks for suspects.
    """

    name = "lineside teach"
    reject_at_score = THRESHOLD

    def __init__(self, *, is_said_good: bool) -> None:
        self._is_said_good = is_said_good

    def fit(self, good: Sequence[Pixels]) -> None:
        """At least ``PARTS_MIN`` pictures."""
        height_px, width_px = good[0].shape[:2]
        size_px, depth = PREFERRED[0]
        shape = feature_shape(width_px, height_px, is_grey=good[0].ndim == 2, size_px=size_px, depth=depth)
        reader = FeatureReader(shape)
        features = np.stack([reader.features(picture) for picture in good])
        is_said_good = np.full(len(features), self._is_said_good)
        self.fitted = fit([features], shape.layers, near_copies([features], shape.layers).part, is_said_good)
        at = threshold_of(self.fitted, _FALSE_REJECT_MAX, _CONFIDENCE)
        with tempfile.TemporaryDirectory() as folder:
            write_package(Path(folder), shape, ("",), product_model(shape, self.fitted.views, [at]), "bench", {}, {})
            self._session = opened(load_package(Path(folder)))
        self._filler = InputFiller(input_of(shape))

    @property
    def is_suspect(self) -> Mask:
        """(pictures,), of those it was fitted on last."""
        return self.fitted.is_suspect

    def score(self, picture: Pixels) -> tuple[float, Map | None]:
        """``pred_score`` and ``anomaly_map``."""
        self._session.input[...] = self._filler.fill(picture)
        self._session.run()
        (row,) = self._session.rows
        return float(row["pred_score"].item()), np.array(row["anomaly_map"][0], np.float32)
