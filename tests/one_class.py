"""Products, and a backbone that costs nothing, for the tests of one-class methods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from pipeline.bench.one_class.data import Product


def write_backbone(file: Path) -> Path:
    """With stages named as the real one's, at its strides, of untrained weights."""
    generator = np.random.default_rng(0)
    nodes, weights, outputs = [], [], []
    stages = (("b2", "image", 3, 8, 4), ("b4", "b2", 8, 12, 2), ("b7", "b4", 12, 12, 2), ("b10", "b7", 12, 16, 1))
    for name, before, channels_in, channels, stride in stages:
        weight = generator.normal(0.0, 0.3, (channels, channels_in, stride, stride)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"{name}.weight"))
        nodes.append(helper.make_node("Conv", [before, f"{name}.weight"], [f"{name}.sum"], strides=[stride, stride]))
        nodes.append(helper.make_node("Relu", [f"{name}.sum"], [name]))
        outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, None, None]))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, None, None])
    graph = helper.make_graph(nodes, "backbone", [image], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), file)
    return file


def spotted(
    *, good: int = 30, defective: int = 10, side_px: int = 96, is_colour: bool = False, seed: int = 0
) -> Product:
    """Grey slopes with noise; a defective one has a bright spot of 12 px, anywhere."""
    generator = np.random.default_rng(seed)
    shape = (side_px, side_px, 3) if is_colour else (side_px, side_px)
    slope = np.linspace(60.0, 120.0, side_px).reshape(1, -1, *(1,) * is_colour)

    def picture() -> npt.NDArray[np.uint8]:
        return (slope + generator.normal(0.0, 4.0, shape)).clip(0, 255).astype(np.uint8)

    pictures, masks = [picture() for _ in range(defective)], []
    for each in pictures:
        y, x = generator.integers(8, side_px - 20, 2)
        mask = np.zeros((side_px, side_px), bool)
        mask[y : y + 12, x : x + 12] = True
        each[mask] = 235
        masks.append(mask)
    return Product("spotted", [picture() for _ in range(good)], np.arange(good), pictures, masks)
