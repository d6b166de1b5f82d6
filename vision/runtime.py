"""ONNX Runtime sessions with one fixed batch, buffers bound once, and the provider that was asked for.

Custom-op libraries are never registered and models with weights outside ``model.onnx`` are refused: the hash on the
card covers everything that runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import onnxruntime

from vision.decoders import DECODING_VERSION, TensorFormat
from vision.decoders.base import RowTensors
from vision.faults import Fault
from vision.memory_bound import is_out_of_memory, load_max_bytes, memory_bound
from vision.package import MODEL_NAME, ModelPackage, PackageError, hash_fault, read_bytes
from vision.preprocess import PREPROCESSING_VERSION
from vision.providers import (
    ORT_ERRORS,
    PROVIDERS,
    Chosen,
    Provider,
    RuntimeProviderError,
    choose,
    device_facts,
    engine_folders,
    nodes_by_provider,
    refuse_two_runtimes,
    result_options,
    told,
)
from vision.refusal import refusal

__all__ = ["InferenceError", "Provider", "RuntimeProviderError", "Session", "open_session"]

_LOAD_ERRORS: tuple[type[Exception], ...] = (MemoryError, *ORT_ERRORS)

_INPUT_TYPES = {"float32": "tensor(float)", "uint8": "tensor(uint8)"}
_OUTPUT_TYPES = ("tensor(float)", "tensor(bool)", "tensor(uint8)", "tensor(int32)", "tensor(int64)")

_ERRORS_ONLY = 3  # ONNX Runtime's severity


class InferenceError(RuntimeError):
    """The model did not run, or not to a usable end. No part may pass on it."""


class Session:
    """A model ready to run on one fixed batch. Made by ``open_session``.

    ``input``: float32 or uint8 (batch_rows, channels, height, width), zero at first, filled by the caller, read by ``run``.
    ``outputs``: the tensors that the card names, each (batch_rows, ...), overwritten by each ``run``.
    ``rows``: for each row of the batch, views of the outputs by the roles that the card gives them; ``formats`` is what they
    hold.

    A model with a batch of one size and no other runs as often as it takes, the last time with rows of zeros beside the others.

    ``provider`` is what runs, ``nodes`` how many each of ONNX Runtime's providers runs (where it can say),
    ``provider_words`` the same for people; ``passed_over`` says why each better choice does not run here.

    On providers without memory of their own all are bound by address: the model reads and writes them in place. On CUDA and
    TensorRT ``run`` copies ``input`` to buffers on the device that are bound once, and ONNX Runtime copies the outputs back.
    The GPU path follows ONNX Runtime's documentation; it has not been run by this project's tests.
    """

    def __init__(
        self,
        chosen: Chosen,
        package: ModelPackage,
        fingerprint: dict[str, str | int],
        rows_per_run: int,
    ) -> None:
        """Raises InferenceError where the model does not run, PackageError where its outputs cannot be bound."""
        card, session = package.card, chosen.session
        batch_rows = int(fingerprint["batch_rows"])
        self.batch_rows = batch_rows
        self.provider: Provider = chosen.kind
        self.passed_over = chosen.passed_over
        self.providers: tuple[str, ...] = tuple(session.get_providers())
        self.nodes = nodes_by_provider(session)
        self.provider_words = told(self.providers, self.nodes)
        self.fingerprint = fingerprint
        self.fingerprint_sha256 = hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()
        run_rows = -(-batch_rows // rows_per_run) * rows_per_run
        self._fed: npt.NDArray[Any] = np.zeros((run_rows, *card.input.row_shape), card.input.numpy_dtype)
        self.input = self._fed[:batch_rows]
        self._session = session
        self._put_out = _buffers(session, package, self._fed[:rows_per_run], run_rows)
        self.outputs = {name: output[:batch_rows] for name, output in self._put_out.items()}
        self.rows: tuple[RowTensors, ...] = tuple(
            # With the ellipsis a view even where a row is a single number.
            {role: self.outputs[name][row, ...] for role, name in card.outputs.items()}
            for row in range(batch_rows)
        )
        self.formats = {
            role: TensorFormat(self.outputs[name].dtype, self.outputs[name].shape[1:])
            for role, name in card.outputs.items()
        }
        in_place = not PROVIDERS[chosen.kind].has_device_memory
        self._runs = [
            self._bound(card.input.name, slice(start, start + rows_per_run), in_place=in_place)
            for start in range(0, run_rows, rows_per_run)
        ]

    def run(self) -> None:
        """``input`` -> ``outputs``. Raises InferenceError."""
        try:
            for binding, rows, device_input in self._runs:
                if device_input is not None:
                    device_input.update_inplace(rows)
                self._session.run_with_iobinding(binding)
                if device_input is not None:
                    binding.synchronize_outputs()
        except ORT_ERRORS as error:
            raise InferenceError(f"the model did not run: {error}") from error

    def warm_up(self, runs: int) -> None:
        """Runs on zeros and on noise until every lazy allocation is made; leaves ``input`` zero.

        Raises InferenceError where a run fails or an output is not finite, ValueError for ``runs`` < 1.
        """
        if runs < 1:
            raise ValueError(f"warm-up: got {runs} runs, expected at least 1")
        floats = [output for output in self.outputs.values() if output.dtype.kind == "f"]
        noise = _noise(self.input)
        for run in range(runs):
            # The first run sees zeros, as the padded rows do in production.
            self.input[...] = noise if run % 2 else 0
            for output in floats:
                output[...] = np.nan
            self.run()
            if not all(np.isfinite(output).all() for output in floats):
                raise InferenceError("warm-up: the model's output is not finite; it cannot judge anything")
        self.input[...] = 0

    def _bound(self, input_name: str, rows: slice, *, in_place: bool) -> tuple[Any, npt.NDArray[Any], Any]:
        """(binding, rows of the input, their buffer on the device or None)."""
        binding = self._session.io_binding()
        array, device_input = self._fed[rows], None
        if in_place:
            binding.bind_input(input_name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)
        else:
            # A CPU buffer bound as input would be copied to the device when it is bound and never again.
            device_input = onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0)
            binding.bind_ortvalue_input(input_name, device_input)
        for name, output in self._put_out.items():
            part = output[rows]
            binding.bind_output(name, "cpu", 0, part.dtype.type, part.shape, part.ctypes.data)
        return binding, array, device_input


def open_session(
    package: ModelPackage,
    *,
    provider: Provider,
    batch_rows: int,
    intra_op_threads: int,
    engine_cache: Path | None,
    allow_fallback: bool,
) -> Session:
    """Opens the package's model for batches of exactly ``batch_rows`` rows, or of one for each view that its card names.

    ``auto`` takes the best provider that really runs here. Any other choice is binding unless ``allow_fallback``, and what was
    passed over is said in the session. ``engine_cache`` is the folder where TensorRT keeps built engines; without it every
    start builds them again.

    Raises PackageError where the model does not fit its card or the batch, RuntimeProviderError for an unwanted
    fallback, ValueError for batch_rows or intra_op_threads < 1.
    """
    for name, value in (("batch_rows", batch_rows), ("intra_op_threads", intra_op_threads)):
        if value < 1:
            raise ValueError(f"{name}: got {value}, expected at least 1")
    batch_rows = len(package.card.input.views) or batch_rows
    refuse_two_runtimes()
    # The bytes that are hashed are the bytes that run, even if the file is replaced meanwhile.
    model = read_bytes(package.model_path)
    sha256 = hashlib.sha256(model).hexdigest()
    if sha256 != package.sha256:
        raise PackageError([hash_fault(package.card_path, got=sha256, expected=package.sha256)])

    with _bounded(package):
        free_dimensions, rows_per_run = _check_model(model, package, batch_rows)
        options = _session_options(intra_op_threads, free_dimensions)
        folders = engine_folders(engine_cache, model_sha256=package.sha256, batch_rows=batch_rows)
        chosen = choose(model, options, provider, folders, allow_fallback=allow_fallback, threads=intra_op_threads)
    providers = chosen.session.get_providers()
    fingerprint: dict[str, str | int] = {
        "onnxruntime": onnxruntime.__version__,
        "providers": ",".join(providers),
        "provider_options": result_options(providers, chosen.kind),
        "batch_rows": batch_rows,
        "intra_op_threads": intra_op_threads,
        "machine": platform.machine(),
        "cpu": _cpu_name(),
        **device_facts(chosen.kind),
        "numba": numba.__version__,
        "numpy": np.__version__,
        "model_sha256": package.sha256,
        "preprocessing_version": PREPROCESSING_VERSION,
        "decoding_version": DECODING_VERSION,
    }
    with _bounded(package):
        return Session(chosen, package, fingerprint, rows_per_run)


@contextmanager
def _bounded(package: ModelPackage) -> Iterator[None]:
    """A model that wants more memory than any should is refused instead of taking the box down.

    Not where a GPU's driver is at work: it reserves what it likes.
    """
    listed = onnxruntime.get_available_providers()
    if any(kind.has_device_memory and kind.ort_name in listed for kind in PROVIDERS.values()):
        yield
        return
    limit = load_max_bytes()
    try:
        with memory_bound(limit):
            yield
    except _LOAD_ERRORS as error:
        if not is_out_of_memory(error):
            raise
        expected = f"a model that opens and runs in at most {limit} bytes"
        raise PackageError([Fault(str(package.model_path), "memory", "a failed allocation", expected)]) from error


def _noise(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    generator = np.random.default_rng(seed=0)
    if array.dtype == np.uint8:
        return generator.integers(0, 256, array.shape, np.uint8)
    return generator.standard_normal(array.shape, np.float32)


def _buffers(
    session: onnxruntime.InferenceSession, package: ModelPackage, rows: npt.NDArray[Any], run_rows: int
) -> dict[str, npt.NDArray[Any]]:
    """One array for each output that the card names, of the shapes that the model really puts out for ``rows``."""
    card = package.card
    names = list(dict.fromkeys(card.outputs.values()))
    try:
        blank = session.run(names, {card.input.name: rows})
        noisy = session.run(names, {card.input.name: _noise(rows)})
    except ORT_ERRORS as error:
        raise InferenceError(f"the model did not run: {error}") from error
    faults: list[Fault] = []
    buffers = {}
    for name, one, other in zip(names, blank, noisy, strict=True):
        key = f"output {name}"
        if one.shape != other.shape:
            got = f"shapes {list(one.shape)} and {list(other.shape)} for two images"
            advice = "one fixed shape: export it with its post-processing padded to a fixed number, or without"
            faults.append(Fault(str(package.model_path), key, got, advice))
        elif 0 in one.shape:
            advice = "numbers for any image: export it with its post-processing padded to a fixed number, or without"
            faults.append(Fault(str(package.model_path), key, f"shape {list(one.shape)}: nothing", advice))
        elif one.shape[:1] != (rows.shape[0],):
            got = f"shape {list(one.shape)} for {rows.shape[0]} rows"
            faults.append(Fault(str(package.model_path), key, got, "one entry a row on the first axis"))
        else:
            buffers[name] = np.zeros((run_rows, *one.shape[1:]), one.dtype)
    if faults:
        raise PackageError(faults)
    return buffers


def _session_options(intra_op_threads: int, free_dimensions: dict[str, int]) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = intra_op_threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.use_deterministic_compute = True
    options.log_severity_level = _ERRORS_ONLY
    # Spinning threads starve the other processes of a small box.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # So that a session can tell which nodes its provider left to another one; older versions do not know it.
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    for dimension, size in free_dimensions.items():
        options.add_free_dimension_override_by_name(dimension, size)
    return options


def opened_as_it_is(model: bytes, model_file: str) -> onnxruntime.InferenceSession:
    """The model on the CPU, nothing optimised: whether this ONNX Runtime takes it at all. Raises PackageError."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = _ERRORS_ONLY + 1
    # Weights in files of their own would be looked for in the working directory, unhashed; nothing is found in here.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        return onnxruntime.InferenceSession(model, options, providers=[PROVIDERS["cpu"].ort_name], enable_fallback=0)
    except ORT_ERRORS as error:
        if is_out_of_memory(error):
            raise
        raise PackageError([refusal(model_file, error)]) from error


def _check_model(model: bytes, package: ModelPackage, batch_rows: int) -> tuple[dict[str, int], int]:
    """Compares the model's input and the names of its outputs with its card.

    Returns sizes for the model's symbolic dimensions, and how many rows it takes in a run. Raises PackageError.
    """
    card, model_file, card_file = package.card, str(package.model_path), str(package.card_path)
    session = opened_as_it_is(model, model_file)
    faults: list[Fault] = []
    inputs = {tensor.name: tensor for tensor in session.get_inputs()}
    outputs = {tensor.name: tensor for tensor in session.get_outputs()}
    if len(inputs) != 1:
        faults.append(Fault(model_file, "inputs", f"{len(inputs)}: {sorted(inputs)}", "one"))
    named = [("input.name", card.input.name, inputs)]
    named += [(f"outputs.{role}", name, outputs) for role, name in card.outputs.items()]
    for key, name, tensors in named:
        if name not in tensors:
            faults.append(Fault(card_file, key, repr(name), f"one of the model's: {sorted(tensors)}"))
        elif tensors is outputs and tensors[name].type not in _OUTPUT_TYPES:
            faults.append(Fault(model_file, f"output {name}", tensors[name].type, f"one of {', '.join(_OUTPUT_TYPES)}"))
    if faults:
        raise PackageError(faults)

    tensor = inputs[card.input.name]
    wanted_type = _INPUT_TYPES[card.input.dtype]
    if tensor.type != wanted_type:
        faults.append(Fault(card_file, "input.dtype", card.input.dtype, f"what {MODEL_NAME} takes: {tensor.type}"))
    shape, where = list(tensor.shape), f"input {tensor.name}"
    if len(shape) != 4:
        faults.append(Fault(model_file, where, f"shape {shape}", "4 dimensions"))
        raise PackageError(faults)
    if (views := card.input.views) and shape[0] != len(views):
        got = f"{len(views)} views ({', '.join(views)})"
        expected = f"none, or one for each row of a fixed batch: {where} of {MODEL_NAME} is {shape}"
        faults.append(Fault(card_file, "input.views", got, expected))
        raise PackageError(faults)
    rows_per_run = shape[0] if isinstance(shape[0], int) and shape[0] > 0 else batch_rows
    free_dimensions: dict[str, int] = {}
    keys = ("", "input.colour_order", "input.height_px", "input.width_px")
    for axis, (size, wanted, key) in enumerate(zip(shape, (rows_per_run, *card.input.row_shape), keys, strict=True)):
        if isinstance(size, str):
            size = free_dimensions.setdefault(size, wanted)
        if size is None or size == wanted:
            continue
        if key:
            faults.append(Fault(card_file, key, str(wanted), f"{size} ({where} of {MODEL_NAME} is {shape})"))
        else:
            advice = "export it with a symbolic batch dimension, for one row or for this many (one per region)"
            faults.append(Fault(model_file, f"{where}.shape.{axis}", f"{size} rows", f"{wanted}: {advice}"))
    if faults:
        raise PackageError(faults)
    return free_dimensions, rows_per_run


def _cpu_name() -> str:
    """What decides which code ONNX Runtime and numba choose: the model, and a digest of the instruction sets."""
    first = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0]
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in first.splitlines())}
    named = ("model name", "cpu family", "model", "stepping", "CPU implementer", "CPU part", "CPU variant")
    sets = " ".join(sorted((facts.get("flags") or facts.get("Features") or "").split()))
    digest = hashlib.sha256(sets.encode()).hexdigest()[:12]
    return ", ".join([*(f"{key} {facts[key]}" for key in named if key in facts), f"instruction sets {digest}"])
