"""One ONNX model of a product: a picture -> ``pred_score`` and ``anomaly_map``, each 0 to 1, 0.5 where the threshold is.

A picture of a product with several views is judged by the view it is most like.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper

from calibration.teaching.backbone import FEATURES, FeatureShape, feature_nodes, model_of
from calibration.teaching.fitting import ScaleFit, ViewFit
from calibration.teaching.gaussian import STRANGENESS_FLOOR
from calibration.teaching.windows import VARIANCE_MIN, Windows

Floats = npt.NDArray[np.float64]

SCORE, MAP = "pred_score", "anomaly_map"

_EXCESS_PER_LOGIT = 2.0
"""A part one standard deviation of good parts above the threshold scores 0.62, ten 0.993; single precision tells scores apart up
to thirty.
"""

_MAP_STEP_PX = 4
"""Of the map, in pixels of the shape's ``width_px``."""


def score_of(excess: Floats | float, threshold: float) -> npt.NDArray[np.float64]:
    """``pred_score`` of a part's excess."""
    logit = (np.asarray(excess, np.float64) - threshold) / _EXCESS_PER_LOGIT
    return np.asarray(1.0 / (1.0 + np.exp(-logit)), np.float64)


def product_model(shape: FeatureShape, views: Sequence[ViewFit], thresholds: Sequence[float]) -> bytes:
    """The model; ``thresholds``: the excess that is too much, of each view.

    ``image``: as ``FeatureShape`` says; ``pred_score``: float32 (n,); ``anomaly_map``: float32 (n, 1, h, w), whose highest is the
    score.
    """
    graph = _Graph(shape)
    heads = [
        graph.head(f"view{number}", view, at) for number, (view, at) in enumerate(zip(views, thresholds, strict=True))
    ]
    excess, strange = heads[0] if len(heads) == 1 else graph.most_alike(heads)
    graph.outputs(excess, strange)
    rows, columns = graph.map_size
    outputs = [
        helper.make_tensor_value_info(SCORE, TensorProto.FLOAT, ["n"]),
        helper.make_tensor_value_info(MAP, TensorProto.FLOAT, ["n", 1, rows, columns]),
    ]
    return model_of(shape, graph.nodes, graph.constants, outputs)


class _Graph:
    """Nodes and constants as they come; each method returns the names of the tensors it made."""

    def __init__(self, shape: FeatureShape) -> None:
        self.nodes, self.constants = feature_nodes(shape)
        self._shape = shape
        zoom = shape.stride_px // _MAP_STEP_PX
        self.map_size = (shape.grid[0] * zoom, shape.grid[1] * zoom)
        self._looked: dict[Windows, str] = {}

    def head(self, name: str, view: ViewFit, threshold: float) -> tuple[str, str]:
        """Above the threshold, in standard deviations of good parts: of the part, (n, 1, 1, 1), and of places, (n, 1, h, w)."""
        scales = [self._scale(f"{name}.scale{number}", scale) for number, scale in enumerate(view.scales)]
        share = self._constant(f"{name}.share", np.float32(1 / len(scales)))
        whole = self._node("Mul", [self._sum(f"{name}.parts", [part for part, _ in scales]), share], f"{name}.part")
        places = self._node("Mul", [self._sum(f"{name}.all", [place for _, place in scales]), share], f"{name}.places")
        limit = self._constant(f"{name}.threshold", np.float32(threshold))
        return self._node("Sub", [whole, limit], f"{name}.above"), places

    def most_alike(self, heads: Sequence[tuple[str, str]]) -> tuple[str, str]:
        """Of the view by which the part is the least strange."""
        wholes = self._node("Concat", [whole for whole, _ in heads], "views.parts", axis=1)
        places = self._node("Concat", [place for _, place in heads], "views.places", axis=1)
        least = self._node("ArgMin", [wholes], "views.which", axis=1, keepdims=1)
        count = self._constant("views.count", np.int64(len(heads)))
        on_off = self._constant("views.on_off", np.array([0, 1], np.float32))
        flat = self._node("Squeeze", [least, self._constant("views.axes", np.array([2, 3], np.int64))], "views.flat")
        hot = self._node("OneHot", [flat, count, on_off], "views.hot", axis=1)
        line = self._node("Squeeze", [hot, self._constant("views.last", np.array([2], np.int64))], "views.line")
        axes = self._constant("views.new_axes", np.array([2, 3], np.int64))
        chosen = self._node("Unsqueeze", [line, axes], "views.chosen")
        masked = self._node("Mul", [places, chosen], "views.masked")
        channels = self._constant("views.channels", np.array([1], np.int64))
        shown = self._node("ReduceSum", [masked, channels], "views.shown", keepdims=1)
        return self._node("ReduceMin", [wholes], "views.least", axes=[1], keepdims=1), shown

    def outputs(self, excess: str, strange: str) -> None:
        """Scores of the part, and of the map, whose highest is made the part's."""
        none = self._constant("map.none", np.array([], np.float32))
        size = self._constant("map.size", np.array([1, 1, *np.array(self.map_size) // self._shape.grid], np.float32))
        fine = self._node(
            "Resize", [strange, none, size], "map.fine", mode="linear", coordinate_transformation_mode="half_pixel"
        )
        highest = self._node("ReduceMax", [fine], "map.highest", axes=[1, 2, 3], keepdims=1)
        below = self._node("Sub", [fine, highest], "map.below")
        slope = self._constant("score.slope", np.float32(1 / _EXCESS_PER_LOGIT))
        places = self._node("Mul", [self._node("Add", [below, excess], "map.above"), slope], "map.logit")
        self._node("Sigmoid", [places], MAP)
        whole = self._node("Sigmoid", [self._node("Mul", [excess, slope], "score.logit")], "score.cube")
        self._node("Flatten", [whole], "score.column", axis=1)
        self._node("Squeeze", ["score.column", self._constant("score.axis", np.array([1], np.int64))], SCORE)

    def _scale(self, name: str, scale: ScaleFit) -> tuple[str, str]:
        """Of windows of one size: the part's excess, (n, 1, 1, 1), and the places', (n, 1, rows, columns) of features."""
        windows, gaussian, usual = scale.windows, scale.gaussian, scale.usual
        rows, columns = windows.places
        size = len(gaussian.whitening)
        kernel = self._constant(f"{name}.whitening", gaussian.whitening.astype(np.float32).reshape(size, size, 1, 1))
        turned = self._node("Conv", [self._look(windows), kernel], f"{name}.turned")
        centre = (gaussian.centre @ gaussian.whitening.T).T.reshape(1, size, rows, columns)
        left = self._node("Sub", [turned, self._constant(f"{name}.centre", centre.astype(np.float32))], f"{name}.left")
        mean = self._node("ReduceMean", [self._node("Mul", [left, left], f"{name}.square")], f"{name}.mean", axes=[1])
        floor = self._constant("strangeness.floor", np.float32(STRANGENESS_FLOOR))
        logarithm = self._node("Log", [self._node("Add", [mean, floor], f"{name}.raised")], f"{name}.strangeness")
        shift = (usual.offset + usual.location).reshape(1, 1, rows, columns).astype(np.float32)
        moved = self._node("Sub", [logarithm, self._constant(f"{name}.usual", shift)], f"{name}.moved")
        spread = self._constant(f"{name}.spread", np.float32(1 / usual.spread))
        excess = self._node("Mul", [moved, spread], f"{name}.excess")
        return (
            self._node("ReduceMax", [excess], f"{name}.part", axes=[1, 2, 3], keepdims=1),
            self._laid_out(name, excess, windows),
        )

    def _look(self, windows: Windows) -> str:
        """As ``calibration.teaching.windows.look``, (n, 2 * channels, rows, columns) of windows."""
        if windows not in self._looked:
            name = f"look{windows.side}"
            sides = {"kernel_shape": [windows.side] * 2, "strides": [windows.step] * 2}
            if not self._looked:
                self._node("Mul", [FEATURES, FEATURES], "features.square")
            mean = self._node("AveragePool", [FEATURES], f"{name}.mean", **sides)
            square = self._node("AveragePool", ["features.square"], f"{name}.square", **sides)
            mean_square = self._node("Mul", [mean, mean], f"{name}.mean_square")
            variance = self._node("Sub", [square, mean_square], f"{name}.variance")
            least = self._constant("variance.least", np.float32(VARIANCE_MIN))
            spread = self._node("Sqrt", [self._node("Max", [variance, least], f"{name}.held")], f"{name}.spread")
            self._looked[windows] = self._node("Concat", [mean, spread], name, axis=1)
        return self._looked[windows]

    def _laid_out(self, name: str, excess: str, windows: Windows) -> str:
        """What each feature's place shows: the mean of the windows that it lies in, so that the highest is where strange windows
        overlap.
        """
        side, step, (rows, columns) = windows.side, windows.step, windows.grid
        ones = self._constant(f"ones{side}", np.ones((1, 1, side, side), np.float32))
        spread = self._node("ConvTranspose", [excess, ones], f"{name}.spread_out", strides=[step, step])
        cover = np.zeros((rows, columns), np.float32)
        for top in range(0, rows - side + 1, step):
            for first in range(0, columns - side + 1, step):
                cover[top : top + side, first : first + side] += 1
        share = self._constant(f"share{side}", (1 / cover).reshape(1, 1, rows, columns))
        return self._node("Mul", [spread, share], f"{name}.laid_out")

    def _sum(self, name: str, tensors: list[str]) -> str:
        return tensors[0] if len(tensors) == 1 else self._node("Sum", tensors, name)

    def _constant(self, name: str, values: Any) -> str:
        if all(constant.name != name for constant in self.constants):
            self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output
