"""Two models on the same images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.config_sections import RuntimeConfig
from pipeline.evaluation.layouts import read_data_set
from pipeline.evaluation.runner import Runner
from pipeline.shrink.comparison import compare, labels_of
from tests.labelled import write_folders
from tests.models import write_nan_package, write_stub_package
from vision.package import load_package


@pytest.mark.parametrize("is_swapped", [False, True])
def test_a_score_against_none_differs_as_much_as_any_can(tmp_path: Path, is_swapped: bool) -> None:
    """As for ``lineside model verify``. The second model says NaN of what is bright."""
    images = {
        name: {"0.png": np.full((16, 16), level, np.uint8)} for name, level in (("functional", 60), ("defective", 200))
    }
    data_set = read_data_set(write_folders(tmp_path / "data", images), layout=None, split=None)
    folders = (
        write_stub_package(tmp_path / "all"),
        write_nan_package(tmp_path / "dark", only_when_bright=True),
    )
    runners = [Runner(load_package(folder), None, RuntimeConfig(provider="cpu")) for folder in folders]
    before, after = runners[::-1] if is_swapped else runners
    found = compare(before, after, data_set, labels_of(data_set, before))
    assert found.score_difference == 1.0
    assert (found.defective_count, found.good_count, found.copies_left_out) == (1, 1, 0)
    # Who cannot be judged does not pass.
    assert (found.new_escapes, found.new_false_rejects) == (0, 0)
    assert compare(before, before, data_set, labels_of(data_set, before)).score_difference == 0.0
