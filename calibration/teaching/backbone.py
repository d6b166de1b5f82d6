"""The shipped backbone, and what of it a product's model uses.

EfficientNet-Lite0 (M. Tan and Q. V. Le, EfficientNet, ICML 2019) with ImageNet weights, cut by scripts/export_backbone.py. It takes
pictures as ``(pixel - 127) / 128``, red first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.utils import Extractor

from calibration.teaching.windows import Layer

BACKBONE_FILE = Path(__file__).with_name("efficientnet_lite0.onnx")
BACKBONE_NAME = "EfficientNet-Lite0 0.1.0"
BLOCK_STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1)
"""Of the blocks, after a stem of stride 2."""

CHANNELS_BY_DEPTH = {10: 112, 7: 80, 4: 40, 2: 24}
"""The blocks that features are taken from, the deepest first, with their channels."""

FINE_DEPTH = 4
"""Of its features small windows are looked at, whatever else is."""

FINE_SIDES, DEEP_SIDES = (1, 3), (2,)
"""Of windows, in features."""

PIXEL_MEAN, PIXEL_STD = 127.0, 128.0

SIZE_STEP_PX = 32
SIZE_MIN_PX, SIZE_MAX_PX = 96, 512


@dataclass(frozen=True, slots=True)
class FeatureShape:
    """How a picture becomes a map of features.

    The model's input is ``shrink`` times ``width_px`` and ``height_px``, which are multiples of ``SIZE_STEP_PX``: it averages
    squares of ``shrink`` pixels first, since the line's sampling leaves out pixels where it makes a picture smaller, and with them
    fine cracks. ``depth`` is the deepest block that features are taken from, one of ``CHANNELS_BY_DEPTH``;
    where that lies below ``FINE_DEPTH``, they are taken from that one as well.
    """

    width_px: int
    height_px: int
    shrink: int
    depth: int
    is_grey: bool

    @property
    def input_width_px(self) -> int:
        return self.width_px * self.shrink

    @property
    def input_height_px(self) -> int:
        return self.height_px * self.shrink

    @property
    def input_channel_count(self) -> int:
        return 1 if self.is_grey else 3

    @property
    def layers(self) -> tuple[Layer, ...]:
        """What the features are of, in the order of their channels."""
        fine = self._layer(min(FINE_DEPTH, self.depth), 0, FINE_SIDES)
        return (fine,) if self.depth <= FINE_DEPTH else (fine, self._layer(self.depth, fine.kept_count, DEEP_SIDES))

    def _layer(self, depth: int, first: int, sides: tuple[int, ...]) -> Layer:
        step = 1 if self.width_px * self.height_px <= _SINGLE_STEPS_MAX_PX**2 else 2
        fineness = self.stride_px // _stride_px(depth)
        return Layer(
            f"block{depth}", first, CHANNELS_BY_DEPTH[depth], fineness, tuple(step * side for side in sides), step
        )

    @property
    def channel_count(self) -> int:
        """Of the kept features."""
        return sum(layer.kept_count for layer in self.layers)

    @property
    def stride_px(self) -> int:
        """Of the kept features, in pixels of ``width_px``."""
        return _stride_px(self.depth)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the kept features."""
        return self.height_px // self.stride_px, self.width_px // self.stride_px


def _stride_px(depth: int) -> int:
    stride = 2
    for block_stride in BLOCK_STRIDES[: depth + 1]:
        stride *= block_stride
    return stride


def feature_shape(width_px: int, height_px: int, *, is_grey: bool, size_px: int, depth: int) -> FeatureShape:
    """As many pixels as a square of ``size_px``, as much like the picture in shape as steps allow."""
    aspect = (width_px / height_px) ** 0.5
    inner_width_px, inner_height_px = (
        min(SIZE_MAX_PX, max(SIZE_MIN_PX, round(side / SIZE_STEP_PX) * SIZE_STEP_PX))
        for side in (size_px * aspect, size_px / aspect)
    )
    shrink = max(1, round(min(width_px / inner_width_px, height_px / inner_height_px)))
    return FeatureShape(inner_width_px, inner_height_px, min(shrink, _SHRINK_MAX), depth, is_grey)


_SHRINK_MAX = 4
"""The input's pixels grow with its square, and with them the time to fill it."""

_SINGLE_STEPS_MAX_PX = 320
"""In larger pictures windows are twice as large and as far apart: each place has a covariance, and a model of 40 MB is enough."""

FEATURES = "features"


def feature_nodes(shape: FeatureShape) -> tuple[list[Any], list[Any]]:
    """The nodes and constants that make the tensors named as the layers are, float32 (n, channels, rows, columns), of ``image``,
    float32 (n, 1 or 3, input_height_px, input_width_px).
    """
    cut = _cut(shape.depth, shape.is_grey)
    nodes, constants = [_copy(node) for node in cut.node], list(cut.initializer)
    if shape.shrink > 1:
        side = [shape.shrink, shape.shrink]
        shrunk = helper.make_node("AveragePool", ["image"], ["shrunk"], name="shrink", kernel_shape=side, strides=side)
        nodes[0].input[0] = "shrunk"
        nodes.insert(0, shrunk)
    return nodes, constants


def model_of(
    shape: FeatureShape, nodes: list[Any], constants: list[Any], outputs: list[Any], rows: int | str = "n"
) -> bytes:
    """A whole model around the nodes; ``rows``: of its batch, any number or so many.

    Raises onnx.checker.ValidationError where they make none.
    """
    size = [shape.input_channel_count, shape.input_height_px, shape.input_width_px]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [rows, *size])
    graph = helper.make_graph(nodes, "good parts", [image], outputs, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.producer_name = "lineside"
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def feature_model(shape: FeatureShape) -> bytes:
    """The model that makes features alone: ``FEATURES``, float32 (n, shape.channel_count, rows, columns), see ``Layer``."""
    nodes, constants = feature_nodes(shape)
    kept = []
    for layer in shape.layers:
        kept.append(layer.name if layer.fineness == 1 else f"{layer.name}.kept")
        if layer.fineness > 1:
            nodes.append(helper.make_node("SpaceToDepth", [layer.name], kept[-1:], blocksize=layer.fineness))
    nodes.append(helper.make_node("Concat", kept, [FEATURES], axis=1))
    rows, columns = shape.grid
    size: list[str | int | None] = ["n", shape.channel_count, rows, columns]
    return model_of(shape, nodes, constants, [helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, size)])


@cache
def _cut(depth: int, is_grey: bool) -> Any:
    model = Extractor(onnx.load(BACKBONE_FILE)).extract_model(["image"], [f"block{depth}"])
    if is_grey:
        # Three equal channels through the stem are one through the sum of its kernels.
        (kernel,) = (constant for constant in model.graph.initializer if constant.name == "stem.kernel")
        kernel.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(kernel).sum(1, keepdims=True), "stem.kernel"))
    return model.graph


def _copy(node: Any) -> Any:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
