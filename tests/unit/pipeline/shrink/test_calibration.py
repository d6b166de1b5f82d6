from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.shrink.calibration import calibration_set, images_of, is_for_calibration, rows
from tests.service import write_images
from vision.faults import FaultsError
from vision.model_input import ModelInput

INPUT = ModelInput(
    name="image", width_px=4, height_px=4, colour_order="GRAY", scale=1 / 255, mean=[0.5], std=[0.5], fit="stretch"
)


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@given(share=st.floats(0.05, 0.9))
def test_about_the_share_calibrates(share: float) -> None:
    chosen = sum(is_for_calibration(sha256_of(str(index)), share) for index in range(1_000))
    assert abs(chosen / 1_000 - share) < 0.08


@given(share=st.floats(0.0, 0.9), more=st.floats(0.0, 0.1), text=st.text())
def test_a_larger_share_only_adds_images(share: float, more: float, text: str) -> None:
    assert is_for_calibration(sha256_of(text), share) <= is_for_calibration(sha256_of(text), share + more)


@given(
    names=st.lists(st.text("abcdef", min_size=1), unique=True, min_size=1),
    count_max=st.integers(1, 5),
    seed=st.randoms(),
)
def test_the_choice_depends_on_contents_alone(names: list[str], count_max: int, seed: object) -> None:
    images = [(Path(name), sha256_of(name)) for name in names]
    chosen = calibration_set(images, count_max, "here")
    again = calibration_set(images[::-1], count_max, "here")
    assert chosen == again
    assert len(chosen.images) == min(count_max, len(names))


def test_images_that_judge_do_not_calibrate(tmp_path: Path) -> None:
    write_images(tmp_path / "judging", [10, 20])
    write_images(tmp_path / "others", [30, 40, 50])
    shutil.copy(tmp_path / "judging" / "000.png", tmp_path / "others" / "copy.png")
    judging = frozenset(hashlib.sha256(file.read_bytes()).hexdigest() for file in (tmp_path / "judging").iterdir())
    found, left_out = images_of(tmp_path / "others", judging)
    assert [file.name for file, _ in found] == ["000.png", "001.png", "002.png"]
    assert left_out == 1


def test_no_image_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(FaultsError, match="not among those that judge"):
        calibration_set([], 5, "here")
    with pytest.raises(FaultsError, match="got no folder"):
        images_of(tmp_path / "nowhere", frozenset())


def test_the_model_is_shown_what_the_line_would_show_it(tmp_path: Path) -> None:
    write_images(tmp_path, [0, 255])
    shown = list(rows(sorted(tmp_path.iterdir()), INPUT))
    assert [row.shape for row in shown] == [(1, 1, 4, 4)] * 2
    np.testing.assert_allclose([row.mean() for row in shown], [-1.0, 1.0], atol=1e-6)
