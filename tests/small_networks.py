"""A network small enough to be shrunk in a moment, and pictures for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SIDE_PX = 8
Floats = npt.NDArray[np.float32]


def small_network(channels: int, *, rows: int | str = "N", opset: int = 17) -> Any:
    """A padded convolution, a second one and a classifier's head: enough to be quantised."""
    generator = np.random.default_rng(3)

    def constant(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(generator.normal(0, 0.4, shape).astype(np.float32), name)

    return helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Conv", ["image", "first"], ["a"], pads=[1, 1, 1, 1], name="first_conv"),
                helper.make_node("Relu", ["a"], ["b"], name="relu"),
                helper.make_node("Conv", ["b", "second"], ["c"], pads=[1, 1, 1, 1], name="second_conv"),
                helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
                helper.make_node("Flatten", ["d"], ["e"], name="flatten"),
                helper.make_node("Gemm", ["e", "weights"], ["f"], name="gemm"),
                helper.make_node("Softmax", ["f"], ["probabilities"], axis=1, name="softmax"),
            ],
            "small",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [rows, channels, SIDE_PX, SIDE_PX])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [rows, 2])],
            [constant("first", 4, channels, 3, 3), constant("second", 4, 4, 3, 3), constant("weights", 4, 2)],
        ),
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=8,
    )


def answer(model: Any, image: npt.NDArray[Any]) -> Floats:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    probabilities: Floats = session.run(None, {"image": image})[0]
    return probabilities


def images(channels: int, count: int = 16, seed: int = 0) -> Iterator[Floats]:
    generator = np.random.default_rng(seed)
    for _ in range(count):
        yield generator.normal(0, 1, (1, channels, SIDE_PX, SIDE_PX)).astype(np.float32)
