"""YOLOv8, v9, v11, v12 and whatever else Ultralytics exports with the same head: one candidate a column, no objectness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from vision.decoders.base import TensorFormat
from vision.decoders.boxes import SuppressedBoxSettings, SuppressingBoxDecoder, wrong_class_count, wrong_layout
from vision.geometry import RowGeometry
from vision.kernels import FloatArray
from vision.kernels.candidates import Found, scan_columns


class Yolov8Settings(SuppressedBoxSettings):
    """The defaults are those of Ultralytics' own prediction (``conf``, ``iou``, ``max_det``)."""

    kind: Literal["yolov8"] = "yolov8"


class Yolov8Decoder(SuppressingBoxDecoder):
    """``predictions``: float32 (4 + classes, N): centre x, centre y, width and height in pixels of the input, then a probability
    per class; N is 8,400 for 640 x 640.

    Layout and rules from Ultralytics 8.4.190, ``nn/modules/head.py`` (``Detect``) and ``utils/nms.py``
    (``non_max_suppression`` with ``multi_label=False``, as ``models/yolo/detect/predict.py`` calls it).
    """

    def __init__(
        self,
        settings: SuppressedBoxSettings,
        class_names: Sequence[str],
        geometry: RowGeometry,
        outputs: Mapping[str, TensorFormat],
        mask_count: int = 0,
    ) -> None:
        """See ``BoxDecoder``."""
        super().__init__(settings, class_names, geometry, outputs, mask_count)
        self._score_min_bits = self._score_min.view(np.uint32)
        self._best = np.zeros(self._keys.size, np.uint32)

    def _candidate_count(self, row_shape: tuple[int, ...]) -> int:
        if len(row_shape) != 2 or row_shape[0] >= row_shape[1]:
            raise wrong_layout("yolov8", row_shape, "[4 + classes, candidates], more candidates than that")
        if (tensor_class_count := row_shape[0] - 4 - self._mask_count) != self._class_count:
            raise wrong_class_count(self._class_count, tensor_class_count, row_shape)
        return row_shape[1]

    def _scan(self, tensor: FloatArray) -> Found:
        return scan_columns(tensor, self._class_count, self._score_min_bits, self._best, *self._found)

    def _probabilities(self, tensor: FloatArray) -> FloatArray:
        return tensor[4 : 4 + self._class_count]

    def mask_weights(self, tensor: FloatArray, place: int) -> FloatArray:
        """See ``BoxDecoder``."""
        return tensor[4 + self._class_count :, self._sources[place]]
