"""One ONNX model of a product: a picture -> ``pred_score`` and ``anomaly_map``, each 0 to 1, 0.5 where the threshold is.

Of a product with several views a batch is a part: a row for each view, judged by how that view of good parts looks and by nothing
else, so that a defect which looks like a good part seen from another side is none the less strange.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper, numpy_helper
from scipy.special import expit

from calibration.teaching.backbone import FeatureShape, feature_nodes, model_of
from calibration.teaching.fitting import ScaleFit, ViewFit
from calibration.teaching.gaussian import STRANGENESS_FLOOR
from calibration.teaching.windows import Layer, Windows

Floats = npt.NDArray[np.float64]

SCORE, MAP = "pred_score", "anomaly_map"

_MAP_STEP_PX = 4
"""Of the map, in pixels of the shape's ``width_px``."""


def score_of(excess: Floats | float, threshold: float) -> npt.NDArray[np.float64]:
    """``pred_score`` of a part's excess: a standard deviation of good parts above the threshold is 0.67, ten are 0.92, 1,000 0.999.

    The logarithm keeps single precision from taking what is very strange for all alike: a map would be 1 everywhere around it.
    """
    above = np.asarray(excess, np.float64) - threshold
    return np.asarray(expit(np.sign(above) * np.log1p(np.abs(above))), np.float64)


def product_model(shape: FeatureShape, views: Sequence[ViewFit], thresholds: Sequence[float]) -> bytes:
    """The model; ``thresholds``: the excess that is too much, of each view.

    ``image``: as ``FeatureShape`` says, n pictures of the only view, or one of each, in their order; ``pred_score``: float32 (n,);
    ``anomaly_map``: float32 (n, 1, h, w), whose highest is the score.
    """
    graph, limited = _Graph(shape), list(zip(views, thresholds, strict=True))
    count: int | str = "n" if len(limited) == 1 else len(limited)
    excess, strange = graph.head("view0", *limited[0]) if len(limited) == 1 else graph.heads(limited)
    graph.outputs(excess, strange)
    rows, columns = graph.map_size
    outputs = [
        helper.make_tensor_value_info(SCORE, TensorProto.FLOAT, [count]),
        helper.make_tensor_value_info(MAP, TensorProto.FLOAT, [count, 1, rows, columns]),
    ]
    return model_of(shape, graph.nodes, graph.constants, outputs, count)


@dataclass(frozen=True, slots=True)
class _Scale:
    """Of windows of one layer and size the tensors' names: the part's excess, (n, 1, 1, 1), and the places', (n, 1, rows, columns)
    of features.
    """

    layer: Layer
    part: str
    places: str


class _Graph:
    """Nodes and constants as they come; each method returns the names of the tensors it made."""

    def __init__(self, shape: FeatureShape) -> None:
        self.nodes, self.constants = feature_nodes(shape)
        self._shape = shape
        self.map_size = (shape.height_px // _MAP_STEP_PX, shape.width_px // _MAP_STEP_PX)
        self._features = {layer.name: layer.name for layer in shape.layers}
        self._looked: dict[tuple[str, int], str] = {}

    def head(self, name: str, view: ViewFit, threshold: float) -> tuple[str, str]:
        """Above the threshold, in standard deviations of good parts: of the part, (n, 1, 1, 1), and of places, (n, 1, h, w)."""
        scales = [self._scale(f"{name}.scale{number}", scale) for number, scale in enumerate(view.scales)]
        share = self._constant(f"{name}.share", np.float32(1 / len(scales)))
        whole = self._node("Mul", [self._sum(f"{name}.parts", [scale.part for scale in scales]), share], f"{name}.part")
        finer = [self._finer(f"{name}.{layer.name}", layer, scales) for layer in self._shape.layers]
        places = self._node("Mul", [self._sum(f"{name}.all", finer), share], f"{name}.places")
        limit = self._constant(f"{name}.threshold", np.float32(threshold))
        return self._node("Sub", [whole, limit], f"{name}.above"), places

    def heads(self, limited: Sequence[tuple[ViewFit, float]]) -> tuple[str, str]:
        """A head for each row of the batch; see ``head``."""
        parted = {name: [f"view{number}.{name}" for number in range(len(limited))] for name in self._features}
        for name, rows in parted.items():
            self.nodes.append(helper.make_node("Split", [name], rows, name=f"{name}.views", axis=0))
        heads = []
        for number, (view, at) in enumerate(limited):
            self._features = {name: rows[number] for name, rows in parted.items()}
            heads.append(self.head(f"view{number}", view, at))
        wholes = self._node("Concat", [whole for whole, _ in heads], "views.parts", axis=0)
        return wholes, self._node("Concat", [places for _, places in heads], "views.places", axis=0)

    def outputs(self, excess: str, strange: str) -> None:
        """Scores of the part, and of the map, whose highest is made the part's."""
        highest = self._node("ReduceMax", [strange], "map.highest", axes=[1, 2, 3], keepdims=1)
        below = self._node("Sub", [strange, highest], "map.below")
        self._node("Sigmoid", [self._logit("map", self._node("Add", [below, excess], "map.above"))], MAP)
        whole = self._node("Sigmoid", [self._logit("score", excess)], "score.cube")
        self._node("Flatten", [whole], "score.column", axis=1)
        self._node("Squeeze", ["score.column", self._constant("score.axis", np.array([1], np.int64))], SCORE)

    def _logit(self, name: str, above: str) -> str:
        """As ``score_of`` has it."""
        size = self._node("Abs", [above], f"{name}.size")
        one = self._constant("one", np.float32(1))
        logarithm = self._node("Log", [self._node("Add", [size, one], f"{name}.more")], f"{name}.log")
        return self._node("Mul", [self._node("Sign", [above], f"{name}.sign"), logarithm], f"{name}.logit")

    def _finer(self, name: str, layer: Layer, scales: Sequence[_Scale]) -> str:
        """The sum of a layer's places, of the map's size."""
        laid_out = self._sum(f"{name}.laid_out", [scale.places for scale in scales if scale.layer == layer])
        none = self._constant("map.none", np.array([], np.float32))
        zoom = self._shape.stride_px // layer.fineness / _MAP_STEP_PX
        size = self._constant(f"{layer.name}.zoom", np.array([1, 1, zoom, zoom], np.float32))
        how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
        return self._node("Resize", [laid_out, none, size], f"{name}.finer", **how)

    def _scale(self, name: str, scale: ScaleFit) -> _Scale:
        windows, gaussian, usual = scale.windows, scale.gaussian, scale.usual
        centre = self._constant(f"{name}.centre", gaussian.centre.astype(np.float32)[:, None])
        kernel = self._constant(f"{name}.whitening", gaussian.whitening.transpose(0, 2, 1).astype(np.float32))
        left = self._node("Sub", [self._look(windows), centre], f"{name}.left")
        turned = self._node("MatMul", [left, kernel], f"{name}.turned")
        square = self._node("Mul", [turned, turned], f"{name}.square")
        mean = self._node("ReduceMean", [square], f"{name}.mean", axes=[2], keepdims=0)
        floor = self._constant("strangeness.floor", np.float32(STRANGENESS_FLOOR))
        logarithm = self._node("Log", [self._node("Add", [mean, floor], f"{name}.raised")], f"{name}.strangeness")
        spread = usual.deviation * usual.spread
        shift = usual.offset + usual.deviation * usual.location
        moved = self._node(
            "Sub", [logarithm, self._constant(f"{name}.usual", shift.astype(np.float32)[:, None])], f"{name}.moved"
        )
        share = self._constant(f"{name}.spread", (1 / spread).astype(np.float32)[:, None])
        turned_back = self._node(
            "Transpose", [self._node("Mul", [moved, share], f"{name}.by_place")], f"{name}.by_part"
        )
        size = self._constant(f"{name}.size", np.array([-1, 1, *windows.places], np.int64))
        excess = self._node("Reshape", [turned_back, size], f"{name}.excess")
        part = self._node("ReduceMax", [excess], f"{name}.part", axes=[1, 2, 3], keepdims=1)
        return _Scale(windows.layer, part, self._laid_out(name, excess, windows))

    def _look(self, windows: Windows) -> str:
        """As ``calibration.teaching.windows.look``, but (places, n, channels)."""
        features, side, step = self._features[windows.layer.name], windows.side, windows.step
        if (features, side) not in self._looked:
            name = f"{features}.look{side}"
            mean = features
            if side > 1 or step > 1:
                sides = {"kernel_shape": [side] * 2, "strides": [step] * 2}
                mean = self._node("AveragePool", [features], f"{name}.mean", **sides)
            size = self._constant(f"look{side}.size", np.array([0, 0, -1], np.int64))
            line = self._node("Reshape", [mean, size], f"{name}.line")
            self._looked[features, side] = self._node("Transpose", [line], name, perm=[2, 0, 1])
        return self._looked[features, side]

    def _laid_out(self, name: str, excess: str, windows: Windows) -> str:
        """What each feature's place shows: the mean of the windows that it lies in, so that the highest is where strange windows
        overlap.
        """
        step = windows.step
        across = windows.side // step
        if across > 1:
            around = {"kernel_shape": [across] * 2, "pads": [across - 1] * 4, "count_include_pad": 0}
            excess = self._node("AveragePool", [excess], f"{name}.overlapping", **around)
        if step > 1:
            none = self._constant("map.none", np.array([], np.float32))
            size = self._constant(f"{name}.step", np.array([1, 1, step, step], np.float32))
            how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            excess = self._node("Resize", [excess, none, size], f"{name}.laid_out", **how)
        return excess

    def _sum(self, name: str, tensors: list[str]) -> str:
        return tensors[0] if len(tensors) == 1 else self._node("Sum", tensors, name)

    def _constant(self, name: str, values: Any) -> str:
        if all(constant.name != name for constant in self.constants):
            self.constants.append(numpy_helper.from_array(np.asarray(values), name))
        return name

    def _node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output
