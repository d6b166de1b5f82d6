from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.models import OPSET, stub_card, write_nan_package, write_package, write_stub_package
from vision.decoders import TensorFormat
from vision.package import ModelPackage, PackageError, load_package
from vision.runtime import InferenceError, RuntimeProviderError, Session, open_session


def opened(package: ModelPackage, **changes: Any) -> Session:
    settings: dict[str, Any] = {
        "provider": "cpu",
        "batch_rows": 2,
        "intra_op_threads": 1,
        "engine_cache": None,
        "allow_fallback": False,
    }
    return open_session(package, **(settings | changes))


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    return load_package(write_stub_package(tmp_path / "stub"))


@pytest.mark.parametrize("batch", ["N", None, 2], ids=["symbolic", "unnamed", "fixed"])
def test_a_run_reads_and_writes_the_bound_buffers(tmp_path: Path, batch: int | str | None) -> None:
    session = opened(load_package(write_stub_package(tmp_path / "stub", batch=batch)))
    assert session.input.shape == (2, 1, 16, 16)
    assert not session.input.any()
    addresses = session.input.ctypes.data, session.outputs["probabilities"].ctypes.data
    for level in (0.25, 0.5, 1.0):
        session.input[1] = level
        session.run()
        np.testing.assert_allclose(session.outputs["probabilities"], [[1.0, 0.0], [1.0 - level, level]], atol=1e-6)
    assert (session.input.ctypes.data, session.outputs["probabilities"].ctypes.data) == addresses


def test_a_row_does_not_depend_on_its_neighbours(package: ModelPackage) -> None:
    session = opened(package, batch_rows=3)
    session.input[0] = np.random.default_rng(0).random((1, 16, 16), np.float32)
    session.run()
    alone = session.outputs["probabilities"][0].copy()
    session.input[1:] = 1e6
    session.run()
    assert np.array_equal(session.outputs["probabilities"][0], alone)


@pytest.mark.parametrize("runs", [1, 2, 3])
def test_warm_up_leaves_a_zero_input(package: ModelPackage, runs: int) -> None:
    session = opened(package)
    session.warm_up(runs)
    assert not session.input.any()


def test_a_warm_up_of_no_runs_is_refused(package: ModelPackage) -> None:
    session = opened(package)
    with pytest.raises(ValueError, match="at least 1"):
        session.warm_up(0)


def test_warm_up_refuses_a_model_that_answers_nan(tmp_path: Path) -> None:
    session = opened(load_package(write_nan_package(tmp_path / "nan")))
    with pytest.raises(InferenceError, match="not finite"):
        session.warm_up(1)


def test_the_fingerprint_says_what_ran(package: ModelPackage) -> None:
    session = opened(package, intra_op_threads=2)
    assert session.providers == ("CPUExecutionProvider",)
    assert session.fingerprint["onnxruntime"] == onnxruntime.__version__
    assert session.fingerprint["model_sha256"] == package.sha256
    assert session.fingerprint["intra_op_threads"] == 2
    assert {session.fingerprint[name] for name in ("gpu", "driver", "tensorrt")} == {"none"}
    assert session.fingerprint_sha256 == opened(package, intra_op_threads=2).fingerprint_sha256
    others = [opened(package), opened(package, intra_op_threads=2, batch_rows=3)]
    assert len({session.fingerprint_sha256, *(other.fingerprint_sha256 for other in others)}) == 3


def test_auto_takes_the_best_provider_present(package: ModelPackage) -> None:
    assert opened(package, provider="auto").providers[0] in onnxruntime.get_available_providers()


needs_no_gpu = pytest.mark.skipif(
    "CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this onnxruntime can run on a GPU"
)


@needs_no_gpu
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_fallback_that_nobody_asked_for_is_an_error(package: ModelPackage, provider: str) -> None:
    with pytest.raises(RuntimeProviderError, match=f"expected {provider}"):
        opened(package, provider=provider)
    assert opened(package, provider=provider, allow_fallback=True).providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_listed_provider_that_does_not_run_is_a_fallback(
    package: ModelPackage, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As onnxruntime-gpu does on a box without a GPU: it lists the provider and opens a CPU session."""
    listed = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    genuine = onnxruntime.InferenceSession

    def silently_on_the_cpu(model: bytes, options: Any, **arguments: Any) -> onnxruntime.InferenceSession:
        return genuine(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(onnxruntime, "InferenceSession", silently_on_the_cpu)
    with pytest.raises(RuntimeProviderError, match="fell back to CPUExecutionProvider"):
        opened(package, provider=provider)
    assert opened(package, provider=provider, allow_fallback=True).providers == ("CPUExecutionProvider",)
    assert opened(package, provider="auto").providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_listed_provider_that_fails_to_start_is_a_fallback(
    package: ModelPackage, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As TensorRT does where its libraries are missing."""
    listed = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    genuine = onnxruntime.InferenceSession

    def only_on_the_cpu(
        model: bytes, options: Any, *, providers: list[Any], enable_fallback: int
    ) -> onnxruntime.InferenceSession:
        names = [provider if isinstance(provider, str) else provider[0] for provider in providers]
        if names != ["CPUExecutionProvider"]:
            raise RuntimeError("libnvinfer.so: cannot open shared object file")
        return genuine(model, options, providers=names, enable_fallback=enable_fallback)

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: listed)
    monkeypatch.setattr(onnxruntime, "InferenceSession", only_on_the_cpu)
    with pytest.raises(RuntimeProviderError, match="cannot open shared object"):
        opened(package, provider=provider)
    assert opened(package, provider=provider, allow_fallback=True).providers == ("CPUExecutionProvider",)
    assert opened(package, provider="auto").providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize(
    ("changes", "key", "text"),
    [
        ({"input": {"name": "picture"}}, "input.name", "got 'picture', expected one of the model's: ['image']"),
        ({"outputs": {"scores": "logits"}}, "outputs.scores", "expected one of the model's: ['probabilities']"),
        ({"input": {"width_px": 20}}, "input.width_px", "got 20, expected 16"),
        ({"input": {"height_px": 20}}, "input.height_px", "got 20, expected 16"),
        (
            {"input": {"colour_order": "RGB", "mean": [0, 0, 0], "std": [1, 1, 1]}},
            "input.colour_order",
            "got RGB, expected GRAY: image has 1 channels",
        ),
        ({"input": {"dtype": "uint8", "scale": 1.0}}, "input.dtype", "what model.onnx takes: tensor(float)"),
    ],
)
def test_a_card_that_does_not_fit_its_model_is_refused(
    tmp_path: Path, changes: dict[str, Any], key: str, text: str
) -> None:
    folder = write_stub_package(tmp_path / "stub", card=changes)
    with pytest.raises(PackageError) as caught:
        opened(load_package(folder))  # what the file itself says is told by the first of the two
    assert [(fault.file, fault.key) for fault in caught.value.faults] == [(str(folder / "model.yaml"), key)]
    assert text in str(caught.value)


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_a_model_of_one_size_of_batch_runs_as_often_as_the_rows_take(tmp_path: Path, batch: int) -> None:
    session = opened(load_package(write_stub_package(tmp_path / "stub", batch=batch)), batch_rows=3)
    assert session.input.shape[0] == len(session.rows) == 3
    for row, level in enumerate((0.25, 0.5, 1.0)):
        session.input[row] = level
    session.run()
    defective = [float(row["scores"][1]) for row in session.rows]
    np.testing.assert_allclose(defective, [0.25, 0.5, 1.0], atol=1e-6)


def test_a_model_that_takes_raw_pixels_is_fed_them(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["image"], ["levels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["levels"], ["brightest"], axes=[2, 3], keepdims=0),
        helper.make_node("Div", ["brightest", "white"], ["probabilities"]),
    ]
    model = model_of(nodes, ["N", 1, 16, 16], numpy_helper.from_array(np.array(255, np.float32), "white"))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    raw = {"input": {"dtype": "uint8", "scale": 1.0}, "classes": ["bright"], "thresholds": {}}
    session = opened(load_package(write_package(tmp_path / "raw", model, stub_card(16, 16, 1), raw)))
    assert session.input.dtype == np.uint8
    session.warm_up(3)
    session.input[1, 0, 3, 4] = 51
    session.run()
    np.testing.assert_allclose(session.outputs["probabilities"], [[0.0], [0.2]], atol=1e-6)


def test_several_tensors_of_any_type_are_handed_out_by_their_roles(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["probabilities"], axes=[2, 3], keepdims=0),
        helper.make_node("Greater", ["image", "half"], ["mask"]),
        helper.make_node("Cast", ["mask"], ["labels"], to=TensorProto.INT64),
    ]
    model = model_of(nodes, ["N", 1, 16, 16], numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    model.graph.output.extend(
        [
            helper.make_tensor_value_info("mask", TensorProto.BOOL, None),
            helper.make_tensor_value_info("labels", TensorProto.INT64, None),
        ]
    )
    one = {"classes": ["bright"], "thresholds": {}}
    package = load_package(write_package(tmp_path / "three", model, stub_card(16, 16, 1), one))
    card = package.card.model_copy(update={"outputs": {"scores": "probabilities", "mask": "mask", "labels": "labels"}})
    session = opened(dataclasses.replace(package, card=card))
    session.input[1, 0, :8] = 1.0
    session.run()
    assert session.formats["mask"] == TensorFormat(np.dtype(bool), (1, 16, 16))
    assert session.formats["labels"] == TensorFormat(np.dtype(np.int64), (1, 16, 16))
    assert session.rows[1]["mask"].sum() == session.rows[1]["labels"].sum() == 128
    assert not session.rows[0]["mask"].any()
    np.testing.assert_allclose(session.rows[1]["scores"], [0.5])


def test_a_row_that_is_a_single_number_is_seen_anew_after_each_run(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["image"], ["probabilities"], axes=[1, 2, 3], keepdims=0)]
    package = load_package(write_package(tmp_path / "number", model_of(nodes, ["N", 1, 16, 16]), stub_card(16, 16, 1)))
    session = opened(package)
    for level in (0.25, 0.75):
        session.input[1] = level
        session.run()
        assert session.rows[1]["scores"].shape == session.formats["scores"].row_shape == ()
        assert session.rows[1]["scores"] == level
        assert session.rows[0]["scores"] == 0.0


def test_an_output_whose_shape_depends_on_the_image_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Greater", ["image", "half"], ["mask"]),
        helper.make_node("NonZero", ["mask"], ["where"]),
        helper.make_node("Cast", ["where"], ["probabilities"], to=TensorProto.FLOAT),
    ]
    model = model_of(nodes, ["N", 1, 16, 16], numpy_helper.from_array(np.array(0.5, np.float32), "half"))
    package = load_package(write_package(tmp_path / "loose", model, stub_card(16, 16, 1)))
    with pytest.raises(PackageError, match=r"output probabilities: got shapes .* expected one fixed shape"):
        opened(package)


def test_an_output_that_is_empty_until_a_certain_image_comes_is_refused(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["brightest"], keepdims=0),
        helper.make_node("Greater", ["brightest", "hundred"], ["is_there"]),
        helper.make_node("Reshape", ["is_there", "one"], ["which"]),
        helper.make_node("Compress", ["image", "which"], ["probabilities"], axis=1),
    ]
    constants: dict[str, npt.NDArray[Any]] = {"hundred": np.array(100.0, np.float32), "one": np.array([1], np.int64)}
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    model = model_of(nodes, ["N", 1, 16, 16], *tensors)
    package = load_package(write_package(tmp_path / "empty", model, stub_card(16, 16, 1)))
    with pytest.raises(PackageError, match=r"output probabilities: got shape \[2, 0, 16, 16\]: nothing"):
        opened(package)


def test_an_output_without_an_entry_a_row_is_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceMean", ["image"], ["probabilities"], keepdims=0)]
    package = load_package(write_package(tmp_path / "one", model_of(nodes, ["N", 1, 16, 16]), stub_card(16, 16, 1)))
    with pytest.raises(PackageError, match=r"output probabilities: got shape \[\] for 2 rows"):
        opened(package)


def test_a_model_replaced_after_it_was_checked_is_refused(package: ModelPackage) -> None:
    package.model_path.write_bytes(package.model_path.read_bytes() + b"\0")
    with pytest.raises(PackageError, match="sha256"):
        opened(package)


@pytest.mark.parametrize("batch_rows", [0, -1])
def test_an_empty_batch_is_refused(package: ModelPackage, batch_rows: int) -> None:
    with pytest.raises(ValueError, match="batch_rows"):
        opened(package, batch_rows=batch_rows)


def model_of(nodes: list[onnx.NodeProto], shape: list[int | str], *constants: onnx.TensorProto) -> onnx.ModelProto:
    return helper.make_model(
        helper.make_graph(
            nodes,
            "odd",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, None)],
            list(constants),
        ),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("vendor", 1)],
        ir_version=8,
    )


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    model = model_of([helper.make_node("Identity", ["image"], ["probabilities"])], ["N", 1, 16, 16])
    folder = write_package(tmp_path / "stub", model, stub_card(16, 16, 1))
    (folder / "model.onnx").write_bytes(b"not a model")
    with pytest.raises(PackageError):
        load_package(folder)


def test_custom_operators_are_refused(tmp_path: Path) -> None:
    model = model_of([helper.make_node("Wizardry", ["image"], ["probabilities"], domain="vendor")], ["N", 1, 16, 16])
    folder = write_package(tmp_path / "stub", model, stub_card(16, 16, 1))
    with pytest.raises(PackageError, match=r"domain vendor, expected an operator of ai\.onnx"):
        load_package(folder)


def test_weights_outside_the_hashed_file_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    weights = numpy_helper.from_array(np.ones((256, 2), np.float32), "weights")
    model = model_of(
        [
            helper.make_node("Flatten", ["image"], ["flat"]),
            helper.make_node("MatMul", ["flat", "weights"], ["probabilities"]),
        ],
        ["N", 1, 16, 16],
        weights,
    )
    folder = tmp_path / "stub"
    folder.mkdir()
    onnx.external_data_helper.convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    onnx.external_data_helper.write_external_data_tensors(model, str(folder))
    write_package(folder, model, stub_card(16, 16, 1))
    assert (folder / "weights.bin").is_file()
    monkeypatch.chdir(folder)
    with pytest.raises(PackageError, match=r"weights in another file \(weights\.bin\)"):
        load_package(folder)


def test_a_model_removed_after_it_was_checked_is_refused(package: ModelPackage) -> None:
    package.model_path.unlink()
    with pytest.raises(PackageError, match=r"model\.onnx: got No such file"):
        opened(package)
