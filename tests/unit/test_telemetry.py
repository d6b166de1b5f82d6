"""Nothing leaves the box: not what onnxruntime would tell its makers of the models that it ran either."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models import write_stub_package

SEEN = """
import os, sys
from pathlib import Path
{imports}
import onnxruntime
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
names = [os.readlink(place) for place in Path("/proc/self/fd").iterdir() if place.is_symlink() and os.path.lexists(place)]
print([name for name in names if "socket" in name or "onnxruntime" in name])
"""


@pytest.mark.parametrize("package", ["vision.runtime", "pipeline.bench.line", "pipeline.simulator.faulty_model"])
def test_onnxruntime_keeps_no_book_and_calls_nobody(tmp_path: Path, package: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    model = write_stub_package(tmp_path / "stub") / "model.onnx"
    # CI would turn it off by itself.
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    done = subprocess.run(
        [sys.executable, "-c", SEEN.format(imports=f"import {package}"), str(model)],
        capture_output=True,
        text=True,
        check=True,
        env=environment | {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache")},
        timeout=60,
    )
    assert done.stdout.strip() == "[]"
    assert not [place for place in home.rglob("*") if "onnxruntime" in place.name.lower() or "Microsoft" in place.name]
