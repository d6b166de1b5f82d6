"""ONNX Runtime's execution providers: what each needs, what it is asked for, and which one a session really got.

ONNX Runtime lists providers that cannot run here and then uses the CPU without saying so. Nothing here believes a list: what
counts is what a session that was opened says of itself.
"""

from __future__ import annotations

import ctypes
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

Provider = Literal["auto", "tensorrt", "tensorrt_fp16", "tensorrt_int8", "cuda", "openvino", "cpu"]

# ONNX Runtime's errors have no common base class.
ORT_ERRORS: tuple[type[Exception], ...] = (
    ort_errors.EPFail,
    ort_errors.EngineError,
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
    ValueError,
)


class RuntimeProviderError(RuntimeError):
    """The execution provider that was asked for is not the one that would run."""


@dataclass(frozen=True, slots=True)
class ProviderKind:
    """One way to run a model.

    ``ort_name`` is ONNX Runtime's word for it, ``extra`` Lineside's extra with that runtime, ``needs`` what must be on the box
    besides. ``options`` are those that can change a result: they are part of the fingerprint. ``beside`` says who runs the nodes
    that it cannot, ``has_device_memory`` whether input is copied to a device, ``builds_engine`` whether it compiles the model
    for minutes at its first start, ``precision`` what it computes in.
    """

    ort_name: str
    extra: str
    needs: str
    precision: str
    options: Mapping[str, str] = field(default_factory=dict)
    beside: tuple[Provider, ...] = ()
    has_device_memory: bool = False
    builds_engine: bool = False


def _tensorrt(precision: str, needs: str, **flags: str) -> ProviderKind:
    return ProviderKind(
        ort_name="TensorrtExecutionProvider",
        extra="gpu",
        needs=f"an NVIDIA GPU, its driver, CUDA, cuDNN and TensorRT 10{needs}",
        precision=precision,
        options={"device_id": "0", "trt_fp16_enable": "0", "trt_int8_enable": "0", **flags},
        beside=("cuda", "cpu"),
        has_device_memory=True,
        builds_engine=True,
    )


PROVIDERS: dict[Provider, ProviderKind] = {
    "tensorrt": _tensorrt("float32", ""),
    "tensorrt_fp16": _tensorrt("float16 where TensorRT finds it quicker", "", trt_fp16_enable="1"),
    "tensorrt_int8": _tensorrt(
        "int8 as the model is quantised, float16 elsewhere",
        "; a model with Q/DQ nodes and zero points of 0 (lineside model quantize --int8 --symmetric)",
        trt_fp16_enable="1",
        trt_int8_enable="1",
    ),
    "cuda": ProviderKind(
        ort_name="CUDAExecutionProvider",
        extra="gpu",
        needs="an NVIDIA GPU, its driver, and the CUDA and cuDNN that the onnxruntime-gpu wheel was built for",
        precision="as the model",
        # Autotuned algorithms and TensorFloat-32 would make two starts of one box differ.
        options={"device_id": "0", "cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"},
        beside=("cpu",),
        has_device_memory=True,
    ),
    "openvino": ProviderKind(
        ort_name="OpenVINOExecutionProvider",
        extra="openvino",
        needs="an x86-64 CPU",
        precision="float32 (its own choice on a CPU would be bfloat16 where the CPU has it)",
        # The hint ACCURACY keeps to the model's own types.
        options={"device_type": "CPU", "precision": "ACCURACY"},
        beside=("cpu",),
    ),
    "cpu": ProviderKind(ort_name="CPUExecutionProvider", extra="cpu", needs="nothing more", precision="as the model"),
}
"""What each way to run a model needs. README.md and docs/models.md say which of them were run, and where."""

AUTO: tuple[Provider, ...] = ("tensorrt", "cuda", "openvino", "cpu")
"""The order in which ``auto`` looks; a lower precision is never chosen by itself."""

DRIVER_FILE = Path("/proc/driver/nvidia/version")

RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino")
"""Distributions that install the same module over each other."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A session and how it came about: ``passed_over`` says why each better choice does not run here, in words."""

    session: onnxruntime.InferenceSession
    kind: Provider
    passed_over: tuple[str, ...]


def present_providers() -> list[Provider]:
    """Those that this runtime was built with: whether they run here shows when a session is opened."""
    listed = onnxruntime.get_available_providers()
    return [name for name, kind in PROVIDERS.items() if kind.ort_name in listed]


def choose(
    model: bytes,
    options: onnxruntime.SessionOptions,
    provider: Provider,
    engine_folder: Mapping[Provider, Path],
    *,
    allow_fallback: bool,
    threads: int,
) -> Chosen:
    """Opens the model on ``provider``; on the best that runs where it is ``auto`` or falling back is allowed.

    ``engine_folder``: where a provider that builds engines keeps them; ``threads``: for a provider that takes no heed of the
    session's. Raises RuntimeProviderError.
    """
    if provider == "auto":
        candidates: Sequence[Provider] = AUTO
    else:
        first = PROVIDERS[provider].ort_name
        others = [name for name in AUTO if PROVIDERS[name].ort_name != first] if allow_fallback else []
        candidates = [provider, *others]
    listed = onnxruntime.get_available_providers()
    passed_over: list[str] = []
    for name in candidates:
        kind = PROVIDERS[name]
        if kind.ort_name not in listed:
            # That another runtime is not installed is no news to those who did not ask for it.
            if name == provider:
                passed_over.append(f"{name}: this onnxruntime was built without {kind.ort_name}")
            continue
        chain = [each for each in (name, *kind.beside) if PROVIDERS[each].ort_name in listed]
        asked = [(PROVIDERS[each].ort_name, _options(each, engine_folder, threads)) for each in chain]
        try:
            session = onnxruntime.InferenceSession(model, options, providers=asked, enable_fallback=0)
        except ORT_ERRORS as error:
            passed_over.append(f"{name}: {' '.join(str(error).split())}")
            continue
        running = session.get_providers()
        if running[0] == kind.ort_name:
            return Chosen(session, name, tuple(passed_over))
        passed_over.append(f"{name}: the session fell back to {running[0]}")
    expected = "one that runs" if provider == "auto" else f"{provider}, which needs {PROVIDERS[provider].needs}"
    raise RuntimeProviderError(
        f"provider: got {', '.join(listed)}, expected {expected} ({'; '.join(passed_over)}). "
        f"Install the extra {_extra_of(provider)} and what it needs, choose another provider, or allow the fallback"
    )


def _extra_of(provider: Provider) -> str:
    return PROVIDERS["cpu" if provider == "auto" else provider].extra


def _options(name: Provider, engine_folder: Mapping[Provider, Path], threads: int) -> dict[str, str]:
    options = dict(PROVIDERS[name].options)
    if name == "openvino":
        options["num_of_threads"] = str(threads)
    # Engine shapes are fixed by the free-dimension overrides; no profile is needed.
    if (folder := engine_folder.get(name)) is not None:
        folder.mkdir(parents=True, exist_ok=True)
        options |= {
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(folder),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(folder),
        }
    return options


def engine_folder_of(
    engine_cache: Path, name: Provider, *, model_sha256: str, batch_rows: int, gpu: str, driver: str, tensorrt: str
) -> Path:
    """Where the engines of one model for one TensorRT and driver on one GPU lie: what differs in any of these is never loaded.

    ONNX Runtime's own names of engines say nothing of a model's weights.
    """
    device = re.sub(r"[^A-Za-z0-9.]+", "-", f"{gpu}-driver-{driver}").strip("-").lower()
    return engine_cache / f"{model_sha256[:16]}-{name}-{tensorrt}-{device}-{batch_rows}rows"


def engine_folders(engine_cache: Path | None, *, model_sha256: str, batch_rows: int) -> dict[Provider, Path]:
    """By each provider that builds engines; empty without a cache."""
    if engine_cache is None:
        return {}
    return {
        name: engine_folder_of(
            engine_cache, name, model_sha256=model_sha256, batch_rows=batch_rows, **device_facts(name)
        )
        for name, kind in PROVIDERS.items()
        if kind.builds_engine
    }


def device_facts(provider: Provider) -> dict[str, str]:
    """For the fingerprint and for engines: ``gpu``, ``driver`` and ``tensorrt``; "none" where the provider has no use for them."""
    kind = PROVIDERS[provider]
    return {
        "gpu": gpu_name() if kind.has_device_memory else "none",
        "driver": driver_version() if kind.has_device_memory else "none",
        "tensorrt": tensorrt_version() if kind.builds_engine else "none",
    }


def engine_to_build(provider: Provider, folders: Mapping[Provider, Path]) -> str | None:
    """What opening a session will have to build, in words; None where nothing is built or it lies in the cache."""
    wanted = [name for name in (AUTO if provider == "auto" else (provider,)) if PROVIDERS[name].builds_engine]
    listed = onnxruntime.get_available_providers()
    if not wanted or PROVIDERS[wanted[0]].ort_name not in listed:
        return None
    folder = folders.get(wanted[0])
    if folder is not None and any(folder.glob("*.engine")):
        return None
    kept = f"kept in {folder}" if folder is not None else "kept nowhere: set runtime.engine_cache"
    return f"TensorRT builds an engine, which can take minutes ({kept})"


def nodes_by_provider(session: onnxruntime.InferenceSession) -> dict[str, int]:
    """How many nodes each provider runs, by ONNX Runtime's names. Empty where this onnxruntime cannot say (before 1.24)."""
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    if tell is None:
        return {}
    counts: dict[str, int] = {}
    try:
        for part in tell():
            counts[part.ep_name] = counts.get(part.ep_name, 0) + len(part.get_nodes())
    except ORT_ERRORS:
        return {}
    return counts


def told(providers: Sequence[str], nodes: Mapping[str, int]) -> str:
    """Who runs the model, in words: a part of it that runs elsewhere is said."""
    first = providers[0]
    elsewhere = {name: count for name, count in nodes.items() if name != first and count}
    if not elsewhere:
        return first
    others = ", ".join(f"{count} on {name}" for name, count in elsewhere.items())
    return f"{first}, but of its {sum(nodes.values())} nodes {others}"


def result_options(providers: Sequence[str], kind: Provider) -> str:
    """The options in force that can change a result, as JSON for the fingerprint."""
    names = {PROVIDERS[each].ort_name: each for each in (kind, *PROVIDERS[kind].beside)}
    known = {name: dict(PROVIDERS[names[name]].options) for name in providers if name in names}
    return json.dumps(known, sort_keys=True)


def refuse_two_runtimes() -> None:
    """They install one module over each other, and pip does not forbid it. Raises RuntimeProviderError."""
    there = [name for name in RUNTIMES if any(metadata.distributions(name=name))]
    if len(there) > 1:
        raise RuntimeProviderError(
            f"got {' and '.join(there)} installed, expected one of them (they overwrite each other): "
            f"pip uninstall {' '.join(there)}, then install one of the extras cpu, gpu and openvino"
        )


def gpu_name() -> str:
    """The first GPU's name as its driver or the board's device tree states it."""
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("Model:"):
                return line.removeprefix("Model:").strip()
    board = Path("/proc/device-tree/model")
    return board.read_text(encoding="utf-8").strip("\0\n ") if board.is_file() else "unknown"


def driver_version() -> str:
    """The NVIDIA driver's, as it states it itself; "none" without one."""
    try:
        first = DRIVER_FILE.read_text(encoding="utf-8").partition("\n")[0]
    except FileNotFoundError:
        return "none"
    # "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024"
    version = re.search(r"\d+(\.\d+)+", first)
    return version.group() if version else first.strip() or "unknown"


def tensorrt_version() -> str:
    """As TensorRT's own library says it (``getInferLibVersion``: 10 * 10000 + 3 * 100 + 0 is 10.3.0); "none" without one."""
    library: Any = None
    for name in ("libnvinfer.so.10", "libnvinfer.so"):
        try:
            library = ctypes.CDLL(name)
            number = int(library.getInferLibVersion())
        except (OSError, AttributeError):
            continue
        return f"trt{_dotted(number)}"
    return "none"


def _dotted(number: int) -> str:
    # Up to version 9 the major number counted thousands.
    major, rest = divmod(number, 10_000) if number >= 100_000 else divmod(number, 1_000)
    return f"{major}.{rest // 100}.{rest % 100}"
