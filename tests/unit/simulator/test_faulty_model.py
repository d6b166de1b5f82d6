"""The model that misbehaves on demand: run in the service's own session, fed by its own pre-processing."""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from pipeline.configs import configs_folder
from pipeline.simulator.faulty_model import write_faulty_package
from pipeline.simulator.picture_code import SIGNS, PictureCode, stamp_code
from pipeline.simulator.process import SimulatorError
from tests.models import write_stub_package
from vision.package import load_package
from vision.preprocess import FrameFormat, RegionPlan
from vision.recipe import Region
from vision.runtime import InferenceError, Session, open_session
from vision.types import PixelFormat

Pixels = npt.NDArray[np.uint8]
Load = Callable[[Pixels, int], None]


def opened(folder: Path, picture: Pixels, batch_rows: int) -> tuple[Session, Load]:
    """A warm session, and what fills one of its rows from a picture of this size."""
    package = load_package(folder)
    session = open_session(
        package, provider="cpu", batch_rows=batch_rows, intra_op_threads=1, engine_cache=None, allow_fallback=False
    )
    session.warm_up(4)
    height_px, width_px = picture.shape[:2]
    pixel_format = PixelFormat.MONO8 if picture.ndim == 2 else PixelFormat.BGR8
    region = Region(name="part", x_px=0, y_px=0, width_px=width_px, height_px=height_px)
    plan = RegionPlan("cam0", region, FrameFormat(width_px, height_px, pixel_format), package.card.input)
    return session, lambda pixels, row: plan.fill(pixels, session.input[row])


def grey(side_px: int, level: int = 100, channel_count: int = 1) -> Pixels:
    return np.full((side_px, side_px) if channel_count == 1 else (side_px, side_px, channel_count), level, np.uint8)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stub_package(tmp_path_factory.mktemp("base") / "stub")


@pytest.fixture(scope="module")
def faulty(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_faulty_package(base, tmp_path_factory.mktemp("faulty") / "stub")


def test_codes_differ_in_half_their_cells() -> None:
    assert sorted(map(int, PictureCode)) == list(range(1, len(SIGNS) + 1))
    likeness = SIGNS.astype(int) @ SIGNS.T.astype(int)
    assert (likeness == 16 * np.eye(len(SIGNS), dtype=int)).all()
    assert (SIGNS.sum(axis=1) == 0).all()


@pytest.mark.parametrize("shape", [(48, 64), (300, 300, 3)])
def test_a_code_changes_its_corner_alone(shape: tuple[int, ...]) -> None:
    picture = np.random.default_rng(0).integers(1, 255, shape, np.uint8)
    before = picture.copy()
    coded = stamp_code(picture, PictureCode.RAISE)
    assert (picture == before).all()
    corner = coded[: shape[0] // 4, : shape[1] // 4]
    assert set(np.unique(corner)) == {0, 255}
    coded[: shape[0] // 4, : shape[1] // 4] = picture[: shape[0] // 4, : shape[1] // 4]
    assert (coded == picture).all()


def test_a_picture_too_small_for_a_code_is_refused() -> None:
    with pytest.raises(ValueError, match="got a picture of 47 x 47 px, expected at least 48 px"):
        stamp_code(grey(47), PictureCode.NAN)


@pytest.mark.parametrize("model", ["stub", "stub for colour", "solar-cell"])
@pytest.mark.parametrize("batch_rows", [1, 3])
def test_without_a_code_every_bit_is_the_bases(model: str, batch_rows: int, tmp_path: Path) -> None:
    channel_count = 3 if model == "stub for colour" else 1
    if model == "solar-cell":
        base, side_px = configs_folder() / "models" / "solar-cell", 300
    else:
        base, side_px = write_stub_package(tmp_path / "base", channel_count=channel_count), 64
    faulty = write_faulty_package(base, tmp_path / "faulty")
    blank = grey(side_px, channel_count=channel_count)
    sessions = [opened(folder, blank, batch_rows) for folder in (base, faulty)]
    chance = np.random.default_rng(1)
    pictures = [chance.integers(0, 256, blank.shape, np.uint8) for _ in range(20)]
    # Near misses: a corner that is black or white throughout, and codes with one cell the wrong way round.
    pictures += [np.zeros_like(blank), np.full_like(blank, 255)]
    for code in PictureCode:
        coded = stamp_code(blank, code)
        cell_px = side_px // 16
        coded[:cell_px, :cell_px] = 255 - coded[:cell_px, :cell_px]
        pictures.append(coded)
    for picture in pictures:
        for session, load in sessions:
            for row in range(batch_rows):
                load(picture, row)
            session.run()
        assert sessions[0][0].outputs["probabilities"].tobytes() == sessions[1][0].outputs["probabilities"].tobytes()


@pytest.mark.parametrize(("batch_rows", "row"), [(1, 0), (3, 2)])
@pytest.mark.parametrize("channel_count", [1, 3])
def test_a_code_is_obeyed_and_forgotten(batch_rows: int, row: int, channel_count: int, tmp_path: Path) -> None:
    base = write_stub_package(tmp_path / "base", channel_count=channel_count)
    faulty = write_faulty_package(base, tmp_path / "faulty")
    plain = grey(64, channel_count=channel_count)
    session, load = opened(faulty, plain, batch_rows)
    for each in range(batch_rows):
        load(plain, each)
    session.run()
    sane = session.outputs["probabilities"].copy()
    for code, expected in {
        PictureCode.NAN: "NaN",
        PictureCode.WRONG_SHAPE: f"has shape {{{batch_rows},2}} but the computed output shape for this run is "
        f"{{{2 * batch_rows},2}}",
        PictureCode.RAISE: "indices element out of data bounds",
        PictureCode.SLOW: "",
    }.items():
        load(stamp_code(plain, code), row)
        if expected == "NaN":
            session.run()
            assert np.isnan(session.outputs["probabilities"]).all()
        elif expected:
            with pytest.raises(InferenceError, match=expected.replace("{", r"\{").replace("}", r"\}")):
                session.run()
        else:
            session.run()
            assert np.isfinite(session.outputs["probabilities"]).all()
        load(plain, row)
        session.run()
        assert (session.outputs["probabilities"] == sane).all(), f"{code.name} was not forgotten"


def test_a_slow_picture_takes_several_times_as_long(tmp_path: Path) -> None:
    faulty = write_faulty_package(configs_folder() / "models" / "solar-cell", tmp_path / "faulty")
    session, load = opened(faulty, grey(300), 1)
    times_s: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(20):
        is_slow = turn % 2 == 1
        load(stamp_code(grey(300), PictureCode.SLOW) if is_slow else grey(300), 0)
        start_s = time.perf_counter()
        session.run()
        times_s[is_slow].append(time.perf_counter() - start_s)
    # Ten times as calibrated, on a box that does other things as well.
    assert min(times_s[True]) > 4.0 * min(times_s[False])


def test_the_card_is_the_bases_with_a_name_and_a_hash_of_its_own(base: Path, faulty: Path) -> None:
    before, after = (yaml.safe_load((folder / "model.yaml").read_text()) for folder in (base, faulty))
    assert after.pop("name") == f"{before.pop('name')}-faulty"
    assert (
        after.pop("sha256") == hashlib.sha256((faulty / "model.onnx").read_bytes()).hexdigest() != before.pop("sha256")
    )
    assert after == before


def test_what_cannot_carry_codes_is_refused(base: Path, tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match="expected a model package in"):
        write_faulty_package(tmp_path, tmp_path / "faulty")
    letterbox = write_stub_package(tmp_path / "letterbox", card={"input": {"fit": "letterbox"}})
    with pytest.raises(SimulatorError, match="got fit letterbox, expected stretch"):
        write_faulty_package(letterbox, tmp_path / "faulty")
    small = write_stub_package(tmp_path / "small", width_px=8)
    with pytest.raises(SimulatorError, match="got an input of 8 px, expected at least 16 px"):
        write_faulty_package(small, tmp_path / "faulty")


def test_without_onnx_it_says_what_to_install(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(SimulatorError, match="the package onnx is missing: pip install onnx"):
        write_faulty_package(base, tmp_path / "faulty")
