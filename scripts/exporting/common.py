"""What all families share: the image, the weights, and how an export is kept."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from render_parts import CLASSES, RenderedPart, render_part

SEED = 0
NAMES = (*CLASSES, "stain")
SIDE_PX = 160
SCORE_MIN, IOU_MAX, MAX_FINDINGS = 0.25, 0.7, 300

Arrays = dict[str, NDArray[Any]]


def frames(count: int, defect_count: int = 3) -> list[RenderedPart]:
    """The same rendered parts at every call."""
    rng = np.random.default_rng(SEED)
    return [render_part(rng, defect_count) for _ in range(count)]


def raw_outputs(model: Path, model_input: NDArray[np.float32]) -> Arrays:
    """What ONNX Runtime gives, by the tensor's name."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    tensor = session.get_inputs()[0]
    cast = {"tensor(float16)": np.float16, "tensor(float)": np.float32, "tensor(uint8)": np.uint8}[tensor.type]
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {tensor.name: model_input.astype(cast)}), strict=True))


def keep(
    out: Path,
    name: str,
    model: Path,
    arrays: Arrays,
    *,
    exporter: str,
    command: str,
    task: str,
    settings: dict[str, Any],
) -> None:
    """Puts an export, its arrays and its story into ``out``."""
    target = out / f"{name}.onnx"
    if model.resolve() != target.resolve():
        shutil.copyfile(model, target)
    outputs = {f"output.{key}": value for key, value in raw_outputs(target, arrays["input"]).items()}
    np.savez_compressed(out / f"{name}.npz", **arrays, **outputs)
    story = {"exporter": exporter, "command": command, "task": task, "settings": settings}
    (out / f"{name}.json").write_text(json.dumps(story, indent=2) + "\n", encoding="utf-8")
    shapes = {key: list(value.shape) for key, value in outputs.items()}
    print(f"{name}: {shapes}, {len(arrays.get('scores', ()))} findings", flush=True)


def versions(*packages: str) -> str:
    """The installed versions of these packages, in words."""
    return ", ".join(f"{package} {importlib.metadata.version(package)}" for package in packages)


@contextmanager
def scratch() -> Iterator[Path]:
    """An empty working directory: exporters write beside where they are started."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            yield Path(folder)
        finally:
            os.chdir(before)


def take_batch_statistics(model: Any, batch: Any) -> None:
    """Sets every batch normalisation to the statistics of ``batch``, so that random weights do not fade out."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    with torch.no_grad():
        model(batch)
    model.eval()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def spread(model: Any, layer: Any, batch: Any, mean: Any, std: float) -> None:
    """Scales a last convolution or linear layer so that its outputs over ``batch`` have this mean and deviation."""
    seen: list[Any] = []
    handle = layer.register_forward_hook(lambda _module, _inputs, output: seen.append(output.detach()))
    with torch.no_grad():
        model(batch)
    handle.remove()
    values = seen[0].transpose(0, 1).flatten(1)
    gain = std / values.std(dim=1).clamp(min=1e-6)
    mean = torch.as_tensor(mean, dtype=values.dtype).expand(len(values))
    with torch.no_grad():
        layer.weight.mul_(gain.view(-1, *[1] * (layer.weight.dim() - 1)))
        layer.bias.copy_((layer.bias - values.mean(dim=1)) * gain + mean)
