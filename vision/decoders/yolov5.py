"""YOLOv5 as its own repository exports it: one candidate a row, with an objectness."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from vision.decoders.base import TensorFormat
from vision.decoders.boxes import Share, SuppressedBoxSettings, SuppressingBoxDecoder, wrong_class_count, wrong_layout
from vision.detector_cells import ANCHORS_OF_YOLOV5, cells
from vision.geometry import RowGeometry
from vision.kernels import FloatArray
from vision.kernels.candidates import Found, scan_rows


class Yolov5Settings(SuppressedBoxSettings):
    """The defaults are those of YOLOv5's ``non_max_suppression``; its ``detect.py`` keeps up to 1,000 boxes."""

    kind: Literal["yolov5"] = "yolov5"
    iou_max: Share = 0.45


class Yolov5Decoder(SuppressingBoxDecoder):
    """``predictions``: float32 (N, 5 + classes): centre x, centre y, width and height in pixels of the input, objectness, then a
    probability per class; N is three times the cells, 25,200 for 640 x 640. A candidate's score is objectness times its best
    class's probability; the objectness alone must exceed ``score_min`` too.

    Layout and rules from YOLOv5 v7.0, ``models/yolo.py`` (``Detect``) and ``utils/general.py`` (``non_max_suppression`` with
    ``multi_label=False``, as ``detect.py`` calls it). Ultralytics' exports of ``yolov5*u`` have the layout ``yolov8``.
    """

    def __init__(
        self,
        settings: SuppressedBoxSettings,
        class_names: Sequence[str],
        geometry: RowGeometry,
        outputs: Mapping[str, TensorFormat],
        mask_count: int = 0,
    ) -> None:
        """See ``BoxDecoder``.

        With one class a row has six numbers, as a finished detection of ``end_to_end`` has: only N tells them apart.
        """
        super().__init__(settings, class_names, geometry, outputs, mask_count)
        shape, wide_px, high_px = outputs["predictions"].row_shape, geometry.input_width_px, geometry.input_height_px
        counts = sorted({ANCHORS_OF_YOLOV5 * count for count in cells(high_px, wide_px)})
        if shape[0] not in counts:
            expected = f"{ANCHORS_OF_YOLOV5} candidates a cell of {wide_px} x {high_px} px: one of {counts}"
            raise wrong_layout("yolov5", shape, expected)

    def _candidate_count(self, row_shape: tuple[int, ...]) -> int:
        if len(row_shape) != 2 or row_shape[1] >= row_shape[0] or row_shape[1] < 6:
            raise wrong_layout("yolov5", row_shape, "[candidates, 5 + classes], more candidates than that")
        if (tensor_class_count := row_shape[1] - 5 - self._mask_count) != self._class_count:
            raise wrong_class_count(self._class_count, tensor_class_count, row_shape)
        return row_shape[0]

    def _scan(self, tensor: FloatArray) -> Found:
        return scan_rows(tensor, self._class_count, self._score_min, *self._found)

    def _probabilities(self, tensor: FloatArray) -> FloatArray:
        return tensor[:, 4 : 5 + self._class_count]

    def mask_weights(self, tensor: FloatArray, place: int) -> FloatArray:
        """See ``BoxDecoder``."""
        return tensor[self._sources[place], 5 + self._class_count :]
