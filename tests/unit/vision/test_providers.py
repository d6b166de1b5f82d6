"""Which provider runs, with stand-ins for ONNX Runtime's sessions where no such hardware is."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

import onnxruntime
import pytest

from pipeline.config_sections import RuntimeConfig
from vision import providers
from vision.providers import (
    AUTO,
    PROVIDERS,
    Provider,
    RuntimeProviderError,
    choose,
    device_facts,
    engine_folder_of,
    engine_folders,
    engine_to_build,
    present_providers,
    refuse_two_runtimes,
    result_options,
    told,
)

TENSORRT, CUDA, OPENVINO, CPU = (PROVIDERS[name].ort_name for name in ("tensorrt", "cuda", "openvino", "cpu"))


class Runtimes:
    """In the place of ONNX Runtime's sessions: which providers it lists, which of them run, and what it was asked for."""

    def __init__(self, listed: Sequence[str], running: Sequence[str], *, is_silent: bool = False) -> None:
        self.listed, self.running, self.is_silent = list(listed), list(running), is_silent
        self.asked: list[dict[str, dict[str, str]]] = []

    def session(self, model: bytes, options: Any, *, providers: Any, enable_fallback: int) -> Any:
        assert enable_fallback == 0
        self.asked.append(dict(providers))
        names = [name for name, _ in providers]
        if names[0] not in self.running and not self.is_silent:
            raise RuntimeError(f"{names[0]}: its library\ncannot be opened")
        runs = [name for name in names if name in self.running]

        class Session:
            def get_providers(self) -> list[str]:
                return runs

        return Session()


@pytest.fixture
def runtimes(monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(listed: Sequence[str], running: Sequence[str], *, is_silent: bool = False) -> Runtimes:
        found = Runtimes(listed, running, is_silent=is_silent)
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: found.listed)
        monkeypatch.setattr(onnxruntime, "InferenceSession", found.session)
        return found

    return install


def chosen(provider: Provider, *, allow_fallback: bool = False, folders: dict[Provider, Path] | None = None) -> Any:
    return choose(b"", None, provider, folders or {}, allow_fallback=allow_fallback, threads=3)


def test_the_table_the_type_and_the_configuration_know_the_same_providers() -> None:
    assert set(get_args(Provider)) == {"auto", *PROVIDERS}
    assert set(get_args(RuntimeConfig.model_fields["provider"].annotation)) == {"auto", *PROVIDERS}
    assert set(AUTO) <= set(PROVIDERS)
    assert {kind.extra for kind in PROVIDERS.values()} == {"cpu", "gpu", "openvino"}


@pytest.mark.parametrize("is_silent", [False, True])
def test_auto_takes_the_best_that_runs_and_says_what_it_passed_over(runtimes: Any, is_silent: bool) -> None:
    runtimes([TENSORRT, CUDA, CPU], [CPU], is_silent=is_silent)
    found = chosen("auto")
    assert found.kind == "cpu"
    assert [reason.split(":")[0] for reason in found.passed_over] == ["tensorrt", "cuda"]


def test_auto_has_nothing_to_say_of_what_was_never_installed(runtimes: Any) -> None:
    runtimes([CPU], [CPU])
    assert chosen("auto").passed_over == ()
    runtimes([OPENVINO, CPU], [OPENVINO, CPU])
    assert (chosen("auto").kind, chosen("auto").passed_over) == ("openvino", ())


@pytest.mark.parametrize("is_silent", [False, True])
@pytest.mark.parametrize("provider", ["tensorrt", "tensorrt_fp16", "tensorrt_int8", "cuda", "openvino"])
def test_a_provider_that_was_asked_for_is_never_replaced_in_silence(
    runtimes: Any, provider: Provider, is_silent: bool
) -> None:
    runtimes([kind.ort_name for kind in PROVIDERS.values()], [CPU], is_silent=is_silent)
    with pytest.raises(
        RuntimeProviderError, match=f"expected {provider}, which needs .* extra {PROVIDERS[provider].extra} "
    ):
        chosen(provider)
    found = chosen(provider, allow_fallback=True)
    assert found.kind == "cpu"
    assert found.passed_over[0].startswith(f"{provider}: ")


def test_a_runtime_without_the_provider_is_refused(runtimes: Any) -> None:
    runtimes([CPU], [CPU])
    with pytest.raises(
        RuntimeProviderError, match="openvino: this onnxruntime was built without OpenVINOExecutionProvider"
    ):
        chosen("openvino")
    with pytest.raises(RuntimeProviderError):
        chosen("openvino", allow_fallback=False)


def test_falling_back_does_not_try_the_same_hardware_in_another_precision(runtimes: Any) -> None:
    tried = runtimes([TENSORRT, CUDA, CPU], [CUDA, CPU])
    found = chosen("tensorrt_fp16", allow_fallback=True)
    assert found.kind == "cuda"
    assert [next(iter(asked)) for asked in tried.asked] == [TENSORRT, CUDA]


@pytest.mark.parametrize(
    ("provider", "flags"), [("tensorrt", ("0", "0")), ("tensorrt_fp16", ("1", "0")), ("tensorrt_int8", ("1", "1"))]
)
def test_tensorrt_is_told_its_precision_and_where_its_engines_are(
    runtimes: Any, tmp_path: Path, provider: Provider, flags: tuple[str, str]
) -> None:
    tried = runtimes([TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU])
    found = chosen(provider, folders={provider: tmp_path / "engines"})
    asked = tried.asked[0]
    assert list(asked) == [TENSORRT, CUDA, CPU]
    assert (asked[TENSORRT]["trt_fp16_enable"], asked[TENSORRT]["trt_int8_enable"]) == flags
    assert asked[TENSORRT]["trt_engine_cache_path"] == str(tmp_path / "engines")
    assert (tmp_path / "engines").is_dir()
    options = result_options(found.session.get_providers(), provider)
    assert f'"trt_int8_enable": "{flags[1]}"' in options
    assert "engines" not in options


def test_openvino_keeps_to_the_lines_threads(runtimes: Any) -> None:
    tried = runtimes([OPENVINO, CPU], [OPENVINO, CPU])
    chosen("openvino")
    assert tried.asked[0][OPENVINO] == {"device_type": "CPU", "precision": "ACCURACY", "num_of_threads": "3"}


ABOUT: dict[str, Any] = {
    "model_sha256": "a" * 64,
    "batch_rows": 1,
    "gpu": "NVIDIA Orin (nvgpu)/integrated",
    "driver": "550.54.14",
    "tensorrt": "trt10.3.0",
}


@pytest.mark.parametrize(
    "change",
    [{"model_sha256": "b" * 64}, {"batch_rows": 2}, {"gpu": "L4"}, {"driver": "550.5.414"}, {"tensorrt": "trt10.4.0"}],
)
def test_an_engine_of_another_model_tensorrt_driver_gpu_or_batch_lies_elsewhere(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    here = engine_folder_of(tmp_path, "tensorrt", **ABOUT)
    assert here.parent == tmp_path
    assert here != engine_folder_of(tmp_path, "tensorrt", **(ABOUT | change))
    assert here != engine_folder_of(tmp_path, "tensorrt_fp16", **ABOUT)


@pytest.mark.parametrize(
    ("content", "version"),
    [
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 2024\nGCC version: 12.3.0\n", "550.54.14"),
        ("NVRM version: NVIDIA UNIX Open Kernel Module for aarch64  540.2.0  Release Build  (buildbrain@mobile)\n", "540.2.0"),
        ("NVRM version: 535.104\n", "535.104"),
        ("something else\n", "something else"),
        ("", "unknown"),
        (None, "none"),
    ],
)  # fmt: skip
def test_another_driver_is_another_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, version: str
) -> None:
    monkeypatch.setattr(providers, "DRIVER_FILE", tmp_path / "version")
    if content is not None:
        (tmp_path / "version").write_text(content)
    assert device_facts("cuda")["driver"] == device_facts("tensorrt")["driver"] == version
    assert set(device_facts("cpu").values()) == {"none"}
    here = engine_folders(tmp_path, model_sha256="a" * 64, batch_rows=1)
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.1  x\n")
    updated = engine_folders(tmp_path, model_sha256="a" * 64, batch_rows=1)
    assert all(here[name] != updated[name] for name in here)


def test_an_engine_is_announced_until_it_is_in_the_cache(runtimes: Any, tmp_path: Path) -> None:
    runtimes([TENSORRT, CUDA, CPU], [TENSORRT, CUDA, CPU])
    folders = engine_folders(tmp_path, model_sha256="a" * 64, batch_rows=1)
    assert set(folders) == {"tensorrt", "tensorrt_fp16", "tensorrt_int8"}
    for provider in ("auto", "tensorrt", "tensorrt_int8"):
        assert "takes minutes" in (engine_to_build(provider, folders) or "").replace("can take", "takes")
    assert "set runtime.engine_cache" in (engine_to_build("tensorrt", {}) or "")
    folders["tensorrt"].mkdir(parents=True)
    (folders["tensorrt"] / "x_sm87.engine").touch()
    assert engine_to_build("tensorrt", folders) is None
    assert engine_to_build("tensorrt_fp16", folders) is not None
    assert engine_to_build("cuda", folders) is None
    assert engine_folders(None, model_sha256="a" * 64, batch_rows=1) == {}


def test_no_engine_is_announced_where_there_is_no_tensorrt(runtimes: Any) -> None:
    runtimes([CPU], [CPU])
    assert engine_to_build("auto", {}) is None


@pytest.mark.parametrize(("number", "version"), [(8601, "8.6.1"), (100300, "10.3.0"), (101303, "10.13.3")])
def test_tensorrts_number_is_a_version(number: int, version: str) -> None:
    assert providers._dotted(number) == version


def test_nodes_that_run_elsewhere_are_said() -> None:
    assert told([OPENVINO, CPU], {OPENVINO: 40}) == OPENVINO
    assert told([OPENVINO, CPU], {}) == OPENVINO
    assert told([OPENVINO, CPU], {OPENVINO: 40, CPU: 3}) == f"{OPENVINO}, but of its 43 nodes 3 on {CPU}"


def test_what_is_present_is_what_the_runtime_was_built_with(runtimes: Any) -> None:
    runtimes([OPENVINO, CPU], [CPU])
    assert present_providers() == ["openvino", "cpu"]


@pytest.mark.parametrize(
    "installed",
    [
        ("onnxruntime", "onnxruntime-gpu"),
        ("onnxruntime", "onnxruntime-openvino"),
        ("onnxruntime-gpu", "onnxruntime-openvino"),
    ],
)
def test_two_runtimes_over_each_other_are_refused(monkeypatch: pytest.MonkeyPatch, installed: tuple[str, str]) -> None:
    monkeypatch.setattr(metadata, "distributions", lambda name: [object()] if name in installed else [])
    with pytest.raises(RuntimeProviderError, match=f"got {installed[0]} and {installed[1]} installed"):
        refuse_two_runtimes()


def test_one_runtime_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "distributions", lambda name: [object()] if name == "onnxruntime-openvino" else [])
    refuse_two_runtimes()
