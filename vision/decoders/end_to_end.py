"""YOLOv10, YOLO26 and exports with ``nms=True``: finished detections, one a row, padded with zeros."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from vision.decoders.base import BadOutput
from vision.decoders.boxes import NOTHING, BoxDecoder, BoxSettings, Places, wrong_layout
from vision.kernels import FloatArray
from vision.kernels.candidates import Found, scan_finished

_PLACE = np.uint64(0xFFFFFFFF)


class EndToEndSettings(BoxSettings):
    """``score_min`` cannot bring back what the export itself has cut off (0.25 with ``nms=True`` unless told otherwise).

    The export's own limit is one too: where all of its N rows score more than ``score_min``, it may have dropped others that score
    no more than the last one, which is then the ``dropped_score`` unless that of ``max_findings`` is higher.
    """

    kind: Literal["end_to_end"] = "end_to_end"


class EndToEndDecoder(BoxDecoder):
    """``predictions``: float32 (N, 6): x1, y1, x2, y2 in pixels of the input, score, class as a float; N is 300 as a rule.

    Layout and rules from Ultralytics 8.4.190, ``nn/modules/head.py`` (``Detect.postprocess``), ``engine/exporter.py``
    (``NMSModel``) and ``utils/nms.py`` (``non_max_suppression`` of end-to-end output). Rows come sorted by score; should they
    not, they are sorted here.
    """

    def _candidate_count(self, row_shape: tuple[int, ...]) -> int:
        width = 6 + self._mask_count
        if len(row_shape) != 2 or row_shape[1] != width:
            masks = f" and {self._mask_count} mask weights" if self._mask_count else ""
            raise wrong_layout("end_to_end", row_shape, f"[detections, {width}]: x1, y1, x2, y2, score, class{masks}")
        return row_shape[0]

    def _scan(self, tensor: FloatArray) -> Found:
        return scan_finished(tensor, self._score_min, *self._found)

    def _probabilities(self, tensor: FloatArray) -> FloatArray:
        return tensor[:, 4]

    def _select(self, keys: npt.NDArray[np.uint64]) -> tuple[Places, int]:
        class_ids = self._class_ids[: keys.size]
        if keys.size and not (class_ids.min() >= 0 and class_ids.max() < self._class_count):
            raise BadOutput(
                f"predictions: got the classes {sorted(set(class_ids.tolist()))} (-1: no whole number), "
                f"expected 0 to {self._class_count - 1}"
            )
        kept = self._kept[: keys.size]
        kept[:] = keys[: kept.size] & _PLACE
        if keys.size > kept.size:
            return kept, int(keys[kept.size] & _PLACE)
        is_full = keys.size == self._keys.size
        return kept, int(keys[-1] & _PLACE) if is_full else NOTHING

    def mask_weights(self, tensor: FloatArray, place: int) -> FloatArray:
        """See ``BoxDecoder``."""
        return tensor[self._sources[place], 6:]
