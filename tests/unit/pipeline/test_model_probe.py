from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import helper, numpy_helper

from pipeline.model_probe import RefusedByProbe, probe_model
from tests.hostile_models import endless_loop, hidden_gigabytes, integers, model_of
from tests.models import stub_card, write_nan_package, write_package, write_stub_package


def test_a_model_that_runs_says_what_it_puts_out(tmp_path: Path) -> None:
    probed = probe_model(write_stub_package(tmp_path / "stub"), batch_rows=2)
    assert probed.outputs == {"scores": [2]}
    assert probed.run_us > 0
    assert probed.peak_bytes > 0


def test_python_files_beside_a_model_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_stub_package(tmp_path / "stub")
    for name in ("numpy", "onnx", "onnxruntime", "yaml", "pipeline", "vision"):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nraise SystemExit(7)\n")
    monkeypatch.chdir(folder)
    assert probe_model(Path()).outputs == {"scores": [2]}
    assert not (tmp_path / "ran").exists()


def test_a_model_that_never_ends_is_refused(tmp_path: Path) -> None:
    folder = write_package(tmp_path / "endless", endless_loop(), stub_card(16, 16, 1))
    with pytest.raises(
        RefusedByProbe, match=r"time: got no result after 5 s, expected a model that opens and runs once"
    ):
        probe_model(folder, time_max_s=5)


def test_a_model_that_takes_the_box_is_refused(tmp_path: Path) -> None:
    folder = write_package(tmp_path / "hidden", hidden_gigabytes(1 << 34), stub_card(16, 16, 1))
    with pytest.raises(
        RefusedByProbe, match=r"model\.onnx: memory: got a failed allocation, expected a model that opens"
    ):
        probe_model(folder)


def test_a_model_of_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedByProbe, match=r"a model that fails \(warm-up: the model's output is not finite"):
        probe_model(write_nan_package(tmp_path / "nan"))


def test_what_the_package_is_refused_for_is_told(tmp_path: Path) -> None:
    folder = write_stub_package(tmp_path / "stub", card={"classes": ["a", "b", "c"], "thresholds": {}})
    with pytest.raises(RefusedByProbe) as caught:
        probe_model(folder)
    assert [fault.key for fault in caught.value.faults] == ["classes"]


def test_scores_that_are_no_probabilities_are_told(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMax", ["image"], ["most"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["most", "ten"], ["logit"]),
        helper.make_node("Reshape", ["logit", "column"], ["one"]),
        helper.make_node("Concat", ["one", "one"], ["probabilities"], axis=1),
    ]
    ten = numpy_helper.from_array(np.array(10.0, np.float32), "ten")
    model = model_of(nodes, initializers=[ten, integers("column", [-1, 1])])
    folder = write_package(tmp_path / "logits", model, stub_card(16, 16, 1))
    probed = probe_model(folder)
    assert probed.unread is not None
    assert probed.unread.startswith("made of noise: scores: got [")
    assert probe_model(write_stub_package(tmp_path / "stub")).unread is None


def test_a_process_that_dies_is_told_with_its_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "numpy.py"
    broken.write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    with pytest.raises(RefusedByProbe, match="an end of the process that opened it \\(SIGSEGV\\)"):
        probe_model(write_stub_package(tmp_path / "stub"))
    broken.write_text("raise ImportError('broken')\n")
    with pytest.raises(RefusedByProbe, match=r"\(status 1: ImportError: broken\)"):
        probe_model(tmp_path / "stub")
