from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from tests.hostile_models import (
    answer_constants,
    answer_from,
    calls,
    chain,
    constant_shape,
    declaring,
    deep,
    elsewhere,
    empty_nodes,
    endless_loop,
    hidden_gigabytes,
    huge,
    integers,
    many_inputs,
    model_of,
    of_function,
    resized,
    with_weight,
)
from tests.models import stub_card, write_package, write_stub_package
from vision.onnx_file import RefusedModel, read_onnx
from vision.onnx_limits import NODES_MAX_COUNT, PORTS_MAX_COUNT, SUBGRAPH_DEPTH_MAX_COUNT, TENSOR_MAX_COUNT
from vision.package import PackageError, load_package
from vision.refusal import refusal
from vision.runtime import open_session


def refused(model: onnx.ModelProto | bytes) -> str:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    with pytest.raises(RefusedModel) as caught:
        read_onnx(content, "model.onnx")
    assert all(str(fault).startswith("model.onnx") for fault in caught.value.faults)
    return str(caught.value)


def test_a_model_says_what_it_is(tmp_path: Path) -> None:
    content = (write_stub_package(tmp_path / "stub") / "model.onnx").read_bytes()
    facts = read_onnx(content, "model.onnx")
    assert (facts.size_bytes, facts.sha256) == (len(content), hashlib.sha256(content).hexdigest())
    assert (facts.opset, facts.ir_version, facts.opsets) == (17, 8, {"ai.onnx": 17})
    (image,), (scores,) = facts.inputs, facts.outputs
    assert (image.name, image.dtype, image.shape) == ("image", "float32", ("N", 1, 16, 16))
    assert (scores.name, scores.dtype, scores.shape) == ("probabilities", "float32", ("N", 2))
    assert facts.operators == {"ReduceMean": 1, "Reshape": 1, "Sub": 1, "Concat": 1}
    assert facts.made_by == {"probabilities": "Concat"}


def test_the_first_arithmetic_on_the_input_is_seen_with_its_numbers() -> None:
    mean = numpy_helper.from_array(np.array([1.0, 2.0, 3.0], np.float32).reshape(1, 3, 1, 1), "mean")
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["centred"]),
        helper.make_node("Constant", [], ["scale"], value_float=0.5),
        helper.make_node("Mul", ["centred", "scale"], ["scaled"]),
        helper.make_node("Relu", ["scaled"], ["probabilities"]),
    ]
    facts = read_onnx(model_of(nodes, initializers=[mean]).SerializeToString(), "model.onnx")
    assert facts.read_by["image"] == (("Cast", None), ("Sub", (1.0, 2.0, 3.0)), ("Mul", (0.5,)), ("Relu", None))


def test_a_size_that_the_graph_resizes_to_is_seen_though_the_batch_is_free() -> None:
    nodes = [
        helper.make_node("Shape", ["image"], ["batch_channels"], start=0, end=2),
        helper.make_node("Concat", ["batch_channels", "size"], ["sizes"], axis=0),
        helper.make_node("Resize", ["image", "", "", "sizes"], ["resized"], mode="linear"),
        helper.make_node("Conv", ["resized", "weight"], ["probabilities"]),
    ]
    facts = read_onnx(model_of(nodes, initializers=[integers("size", [240, 320])]).SerializeToString(), "model.onnx")
    assert facts.read_by["image"] == (("Resize", (240.0, 320.0)), ("Conv", None))


SCALARS = [numpy_helper.from_array(np.array(value, np.float32), str(value)) for value in (0.0, 1.0)]
SCALARS += [numpy_helper.from_array(np.array(value), str(value)) for value in (True, False)]


@pytest.mark.parametrize(
    ("nodes", "maker", "limits"),
    [
        ([("Clip", ["image", "0.0", "1.0"])], "Clip", (0.0, 1.0)),
        ([("Clip", ["image", "0.0"])], "Clip", None),
        ([("Clip", ["image"])], "Clip", None),
        ([("Max", ["image", "0.0"])], "Max", None),
        ([("Max", ["image", "0.0"]), ("Min", ["1.0", "a"])], "Min", (0.0, 1.0)),
        ([("Clip", ["image", "0.0", "1.0"]), ("Where", ["True", "a", "image"])], "Clip", (0.0, 1.0)),
        ([("Clip", ["image", "0.0", "1.0"]), ("Where", ["False", "a", "image"])], "", None),
        ([("Clip", ["image", "0.0", "1.0"]), ("Squeeze", ["a"])], "Clip", (0.0, 1.0)),
        ([("Clip", ["image", "0.0", "1.0"]), ("Mul", ["a", "a"])], "Mul", None),
    ],
)
def test_what_an_output_ends_in_is_seen(
    nodes: list[tuple[str, list[str]]], maker: str, limits: tuple[float, float] | None
) -> None:
    names = [*"abc"[: len(nodes) - 1], "probabilities"]
    made = [helper.make_node(operator, inputs, [name]) for (operator, inputs), name in zip(nodes, names, strict=True)]
    facts = read_onnx(model_of(made, initializers=SCALARS).SerializeToString(), "model.onnx")
    assert (facts.made_by["probabilities"], facts.cut_to.get("probabilities")) == (maker, limits)


def test_only_inputs_that_are_fed_are_followed() -> None:
    facts = read_onnx(many_inputs(fed=True).SerializeToString(), "model.onnx")
    assert set(facts.read_by) == {"image"}


def test_initializers_declared_as_inputs_are_not_fed() -> None:
    model = with_weight(lambda weight: None)
    model.graph.input.append(helper.make_tensor_value_info("weight", TensorProto.FLOAT, [4]))
    assert [tensor.name for tensor in read_onnx(model.SerializeToString(), "model.onnx").inputs] == ["image"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    content = (write_stub_package(tmp_path / "stub") / "model.onnx").read_bytes()
    assert "a file that does not parse" in refused(content[: int(share * len(content))])


@given(content=st.binary(max_size=200))
def test_anything_else_is_refused(content: bytes) -> None:
    refused(content)


@settings(max_examples=200)
@given(data=st.data())
def test_a_damaged_file_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(with_weight(lambda weight: None).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(RefusedModel):  # no other error
        read_onnx(bytes(content), "model.onnx")


def change_dims(*dims: int) -> Callable[[onnx.TensorProto], None]:
    def change(weight: onnx.TensorProto) -> None:
        weight.dims[:] = dims

    return change


def change_type(weight: onnx.TensorProto) -> None:
    weight.data_type = 99


def cut_data(weight: onnx.TensorProto) -> None:
    weight.raw_data = weight.raw_data[:-1]


def test_what_may_be_loaded_is_read() -> None:
    for model in (
        with_weight(lambda weight: None),
        deep(SUBGRAPH_DEPTH_MAX_COUNT - 1),
        calls(3, 3),
        chain(500),
        huge("ConstantOfShape", sizes=[1000]),
        huge("Expand", "image", sizes=[2, 1, 16, 16]),
        resized("Resize", "", "scales", scales=[1.0, 1.0, 2.0, 2.0]),
        of_function(constant_shape(100)),
        many_inputs(fed=True),
    ):
        read_onnx(model.SerializeToString(), "model.onnx")


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            with_weight(change_dims(1 << 40)),
            f"got a tensor of 1099511627776 elements, expected at most {TENSOR_MAX_COUNT}",
        ),
        (with_weight(change_dims(1 << 33, 1 << 33)), "got a tensor of 8589934592 x 8589934592 elements"),
        (with_weight(change_dims(*[1 << 62] * 64)), "got a tensor of 4611686018427387904 x 4611686018427387904 x"),
        (with_weight(change_dims(*[1 << 62] * 300)), "got 300 dimensions, expected at most 64"),
        (declaring([1 << 62] * 64), "graph.value wide: got a tensor of 4611686018427387904 x"),
        (declaring([1 << 62] * 80_000), "graph.value wide: got 80000 dimensions, expected at most 64"),
        (with_weight(change_dims(1 << 20)), "got data of another size, expected all 1048576 elements"),
        (with_weight(change_dims(-4)), "got shape -4, expected sizes of at least 0"),
        (with_weight(change_type), "got element type 99"),
        (with_weight(cut_data), "got data of another size, expected all 4 elements"),
        (with_weight(elsewhere("weights.bin")), "got weights in another file (weights.bin)"),
        (with_weight(elsewhere("../../etc/passwd")), "got weights in another file (../../etc/passwd)"),
        (with_weight(elsewhere("/etc/passwd")), "got weights in another file (/etc/passwd)"),
        (with_weight(elsewhere("*/_ORT_MEM_ADDR_/*", offset="4096")), "got weights in another file"),
        (
            huge("ConstantOfShape", sizes=[1 << 40]),
            "graph.ConstantOfShape huge: got a result of at least 1099511627776",
        ),
        (huge("ConstantOfShape", sizes=[1 << 20, 1 << 20]), "got a result of at least 1048576 x 1048576 elements"),
        (huge("Expand", "image", sizes=[1 << 24, 3, 16, 16]), "graph.Expand huge: got a result of at least"),
        (huge("Tile", "image", sizes=[1 << 30, 1, 1, 1]), "graph.Tile huge: got a result of at least"),
        (
            resized("Resize", "", "scales", scales=[1.0, 1.0, 1e5, 1e5]),
            "graph.Resize huge: got a result of at least 1 x 1 x",
        ),
        (resized("Resize", "scales", scales=[1.0, 1.0, 1e30, 1.0], opset=10), "at least 1 x 1 x 1e+30 x 1 elements"),
        (resized("Upsample", "scales", scales=[1.0, 1.0, 1e5, 1e5], opset=9), "graph.Upsample huge: got a result of"),
        (
            of_function(constant_shape(1 << 40)),
            "function f.ConstantOfShape huge: got a result of at least 1099511627776",
        ),
        (of_function([], default=True), "function f.weight: got weights in another file (weights.bin)"),
        (many_inputs(fed=False), f"graph.input: got 1001 tensors, expected at most {PORTS_MAX_COUNT}"),
        (deep(SUBGRAPH_DEPTH_MAX_COUNT), f"got graphs {SUBGRAPH_DEPTH_MAX_COUNT + 1} deep"),
        (deep(25), f"expected at most {SUBGRAPH_DEPTH_MAX_COUNT} inside one another"),
        (calls(8, 8), f"expected at most {NODES_MAX_COUNT} with the calls of functions written out"),
        (calls(30, 1), "got calls 17 deep or without end"),
        (calls(3, 1, endless=True), "got calls 17 deep or without end"),
        (chain(NODES_MAX_COUNT), f"expected at most {NODES_MAX_COUNT} in all graphs"),
        (empty_nodes(10_000_000), "a file that does not parse (Error parsing message with type 'onnx.ModelProto'"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_what_must_not_be_loaded_is_refused(model: onnx.ModelProto | bytes, text: str) -> None:
    assert text in refused(model)


@pytest.mark.parametrize(
    ("operator", "domain", "text"),
    [
        ("Wizardry", "vendor", "domain vendor, expected an operator of ai.onnx, ai.onnx.ml, com.microsoft (no library"),
        ("Wizardry", "ai.onnx.contrib", "domain ai.onnx.contrib"),
        ("EPContext", "com.microsoft", "got a compiled engine"),
        ("PythonOp", "com.microsoft", "got Python code"),
    ],
)
@pytest.mark.parametrize("inside", ["graph", "branch", "function"])
def test_operators_of_others_are_refused_wherever_they_are(operator: str, domain: str, text: str, inside: str) -> None:
    node = helper.make_node(operator, ["image"], ["odd"], domain=domain)
    sums = [helper.make_node("ReduceSum", ["odd"], ["scalar"], keepdims=0), *answer_from("scalar")]
    if inside == "graph":
        model = model_of([node, *sums], initializers=answer_constants(), domains=[domain])
    elif inside == "branch":
        branch = helper.make_graph([node], "b", [], [helper.make_tensor_value_info("odd", TensorProto.FLOAT, None)])
        choice = helper.make_node("If", ["yes"], ["odd"], then_branch=branch, else_branch=branch)
        yes = numpy_helper.from_array(np.array(True), "yes")
        model = model_of([choice, *sums], initializers=[yes, *answer_constants()], domains=[domain])
    else:
        opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
        function = helper.make_function("own", "f", ["image"], ["odd"], [node], opsets)
        call = helper.make_node("f", ["image"], ["odd"], domain="own")
        model = model_of([call, *sums], initializers=answer_constants(), functions=[function], domains=["own"])
    assert text in refused(model)


def test_a_constant_in_a_node_is_held_to_the_same_limits() -> None:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "weight")
    elsewhere("weights.bin")(tensor)
    nodes = [
        helper.make_node("Constant", [], ["weight"], value=tensor),
        helper.make_node("ReduceSum", ["weight"], ["scalar"], keepdims=0),
        *answer_from("scalar"),
    ]
    assert "weights in another file" in refused(model_of(nodes, initializers=answer_constants()))


def test_sparse_weights_are_refused() -> None:
    model = with_weight(lambda weight: None)
    sparse = model.graph.sparse_initializer.add()
    sparse.dims[:] = [1 << 31]
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "sparse"))
    sparse.indices.CopyFrom(integers("indices", [5]))
    assert "sparse_initializer: got sparse weights" in refused(model)


def test_names_in_faults_cannot_write_on_the_terminal() -> None:
    def rename(weight: onnx.TensorProto) -> None:
        weight.name = "\x1b[2J" + "w" * 10_000
        weight.dims[:] = [7]

    text = refused(with_weight(rename))
    assert "\x1b" not in text
    assert len(text) < 400


def opened(folder: Path) -> None:
    open_session(
        load_package(folder), provider="cpu", batch_rows=1, intra_op_threads=1, engine_cache=None, allow_fallback=False
    )


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (
            model_of(answer_from("nothing"), initializers=answer_constants(), opset=99),
            "opset of ai.onnx: got 99, expected at most",
        ),
        (
            model_of(answer_from("nothing"), initializers=answer_constants(), ir_version=99),
            "ir_version: got 99, expected at most",
        ),
        (
            model_of([helper.make_node("Wizardry", ["image"], ["probabilities"])]),
            "got a file that ONNX Runtime refuses (",
        ),
    ],
)
def test_what_this_runtime_does_not_take_is_told_in_its_words(
    tmp_path: Path, model: onnx.ModelProto, text: str
) -> None:
    folder = write_package(tmp_path / "odd", model, stub_card(16, 16, 1))
    with pytest.raises(PackageError) as caught:
        opened(folder)
    assert text in str(caught.value)
    assert "onnxruntime_src" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_long_refusal_is_told_at_once() -> None:
    """Its time grew by the square of names that the file chooses."""
    fault = refusal("model.onnx", RuntimeError("a" * 10_000_000 + "\x1b[2J"))
    assert len(str(fault)) < 500


def peak_of(program: str, *arguments: str) -> tuple[str, int]:
    """(what a child printed, its peak of memory in bytes beyond what it held when it began ``work()``)."""
    text = textwrap.dedent(program) + textwrap.dedent(
        """
        import resource
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        work()
        print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
        """
    )
    done = subprocess.run([sys.executable, "-c", text, *arguments], capture_output=True, text=True, check=True)
    *told, peak = done.stdout.splitlines()
    return "\n".join(told), int(peak)


def test_a_small_file_of_many_nodes_takes_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "nodes.onnx"
    path.write_bytes(empty_nodes(10_000_000))  # 20 MB on disk, 1.5 GB once parsed
    told, peak_bytes = peak_of(
        """
        import sys
        from pathlib import Path
        import onnx
        from vision.onnx_file import RefusedModel, read_onnx
        content = Path(sys.argv[1]).read_bytes()
        def work():
            try:
                read_onnx(content, "model.onnx")
            except RefusedModel as error:
                print(error)
        """,
        str(path),
    )
    assert "does not parse" in told
    assert peak_bytes < 400 << 20


def test_gigabytes_that_only_a_run_shows_are_refused_before_they_are_taken(tmp_path: Path) -> None:
    folder = write_package(tmp_path / "hidden", hidden_gigabytes(1 << 34), stub_card(16, 16, 1))  # 64 GiB
    told, peak_bytes = peak_of(
        """
        import sys
        from pathlib import Path
        from vision.package import PackageError, load_package
        from vision.runtime import open_session
        package = load_package(Path(sys.argv[1]))
        def work():
            try:
                open_session(package, provider="cpu", batch_rows=1, intra_op_threads=1, engine_cache=None, allow_fallback=False)
            except PackageError as error:
                print(error)
        """,
        str(folder),
    )
    assert "memory: got a failed allocation, expected a model that opens and runs in at most" in told
    assert peak_bytes < 400 << 20


def test_memory_is_unbounded_again_after_a_model_was_refused(tmp_path: Path) -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_DATA)
    with pytest.raises(PackageError, match="memory"):
        opened(write_package(tmp_path / "hidden", hidden_gigabytes(1 << 34), stub_card(16, 16, 1)))
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


_IN_OPEN = 0x20


@pytest.mark.parametrize("where", ["beside", "outside", "absolute"])
def test_nothing_else_is_opened(tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel says who opens the canary, be it Python or native code."""
    folder = tmp_path / "package"
    canary = {"beside": folder, "outside": tmp_path, "absolute": tmp_path}[where] / "canary.bin"
    location = {"beside": "canary.bin", "outside": "../canary.bin", "absolute": str(canary)}[where]
    write_package(folder, with_weight(elsewhere(location)), stub_card(16, 16, 1))
    canary.write_bytes(bytes(64))
    monkeypatch.chdir(folder)
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(os.O_NONBLOCK)
    try:
        assert libc.inotify_add_watch(watch, os.fsencode(canary), _IN_OPEN) >= 0
        with pytest.raises(PackageError, match="weights in another file"):
            opened(folder)
        with pytest.raises(BlockingIOError):
            os.read(watch, 4096)
        canary.read_bytes()
        assert os.read(watch, 4096)  # the watch does watch
    finally:
        os.close(watch)


def test_python_opens_only_the_package_itself(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub")
    (folder / "metadata.json").write_text("{}")
    told, _ = peak_of(
        """
        import sys
        from pathlib import Path
        import onnx
        from vision.package import load_package
        load_package(Path(sys.argv[1]))  # once, so that everything is imported
        opened = set()
        sys.addaudithook(lambda event, values: opened.add(str(values[0])) if event == "open" else None)
        def work():
            load_package(Path(sys.argv[1]))
            print("\\n".join(sorted(opened - {"/proc/self/statm"})))
        """,
        str(folder),
    )
    files = set(told.splitlines())
    assert {name for name in files if not name.isdigit()} == {
        str(folder / name) for name in ("model.onnx", "model.yaml", "metadata.json")
    }


def test_an_endless_loop_is_not_a_matter_of_the_file_alone() -> None:
    # Its turns are data; pipeline.model_probe bounds the time.
    read_onnx(endless_loop().SerializeToString(), "model.onnx")
