"""The pretrained features that the rivals see by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime

from calibration.teaching.backbone import BACKBONE_FILE
from pipeline.bench.one_class.data import Pixels

Features = npt.NDArray[np.float32]

_MEAN, _SCALE = 127.0, 1.0 / 128.0
_THREADS = 2


class Backbone:
    """Several stages of the shipped backbone at once."""

    def __init__(self, stages: Sequence[str], side_px: int) -> None:
        """Pictures are brought to ``side_px`` both ways."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = _THREADS
        # Methods take turns: none may keep a core busy into another's turn.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session: Any = onnxruntime.InferenceSession(BACKBONE_FILE, options, providers=["CPUExecutionProvider"])
        self._stages = list(stages)
        self._side_px = side_px

    def features(self, picture: Pixels) -> list[Features]:
        """Of each stage float32 (channels, h, w)."""
        small = resized(picture, self._side_px)
        planes = small[None] if small.ndim == 2 else small[..., ::-1].transpose(2, 0, 1)
        image = np.empty((1, 3, self._side_px, self._side_px), np.float32)
        np.subtract(planes, _MEAN, out=image[0], dtype=np.float32)
        image *= _SCALE
        return [output[0] for output in self._session.run(self._stages, {"image": image})]


def resized(picture: Pixels, side_px: int) -> Pixels:
    """Square, whatever it was."""
    is_smaller = side_px < max(picture.shape[:2])
    how = cv2.INTER_AREA if is_smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(picture, (side_px, side_px), interpolation=how), np.uint8)
