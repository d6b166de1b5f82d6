"""Calibrations on disk: each names itself by its content, none is ever lost, and what was changed by hand is told."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from calibration.repeatability_figures import RepeatabilityFigures
from pipeline.calibration_file import (
    CalibrationStore,
    CameraCalibration,
    EvenedSection,
    GeometrySection,
    RegisteredSection,
    ThresholdSection,
    made_now,
    with_sections,
)
from pipeline.calibration_store import NEW, calibration_id_of, line_calibration_id
from vision.camera_geometry import CameraGeometry, Lens
from vision.faults import FaultsError
from vision.flat_field import FlatFieldSection, MeasuredPercent
from vision.registration import RegistrationSection, TemplateRegion

MADE = made_now("Anna", [hashlib.sha256(b"picture").digest()])


def fresh(recipe_id: str = "housing", camera_id: str = "cam0") -> CameraCalibration:
    return CameraCalibration(
        calibration_id=NEW,
        recipe_id=recipe_id,
        camera_id=camera_id,
        width_px=640,
        height_px=480,
    )


def threshold(score: float) -> ThresholdSection:
    return ThresholdSection(
        made=MADE, reject_at_score={"scratch": score}, false_reject_max=0.01, confidence=0.95, good_count=299
    )


def with_threshold(calibration: CameraCalibration, score: float) -> CameraCalibration:
    return calibration.model_copy(update={"threshold": threshold(score)})


def geometry(worst_error_mm: float = 0.1) -> GeometrySection:
    lens = Lens(width_px=640, height_px=480, fx_px=1_000.0, fy_px=1_000.0, cx_px=319.5, cy_px=239.5)
    camera = CameraGeometry(lens=lens, belt_rotation=[0.0, 0.0, 0.0], belt_translation_mm=[0.0, 0.0, 500.0])
    return GeometrySection(made=MADE, camera=camera, worst_error_mm=worst_error_mm)


def evened(dead_count: int = 0) -> EvenedSection:
    percent = MeasuredPercent(value=0.5, low=0.4, high=0.6)
    section = FlatFieldSection(
        gain_sha256="0" * 64,
        dark_sha256="1" * 64,
        dark_frame_count=8,
        bright_frame_count=12,
        held_out_count=4,
        dead_count=dead_count,
        hot_count=0,
        uneven_before_percent=percent,
        uneven_after_percent=percent,
    )
    return EvenedSection(made=MADE, flat_field=section)


def registered(min_score: float = 0.5) -> RegisteredSection:
    section = RegistrationSection(
        template=TemplateRegion(x_px=100, y_px=100, width_px=64, height_px=64),
        template_sha256="2" * 64,
        search_x_px=40,
        search_y_px=40,
        tolerance_x_px=10.0,
        tolerance_y_px=10.0,
        min_score=min_score,
        min_contrast=4.0,
        levels=2,
    )
    return RegisteredSection(made=MADE, registration=section)


def test_what_rests_on_another_section_is_outdated_until_it_is_found_again(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    whole = with_sections(
        fresh(), geometry=geometry(), flat_field=evened(), registration=registered(), threshold=threshold(0.5)
    )
    kept = store.keep(whole)
    assert kept.outdated is None
    assert "outdated" not in store.path("housing", "cam0").read_text()
    moved = store.keep(with_sections(kept, geometry=geometry(0.2)))
    assert moved.outdated == ["registration", "threshold"]
    lit = with_sections(moved, flat_field=evened(3))
    assert lit.outdated == ["registration", "threshold"]
    placed = with_sections(lit, registration=registered(0.6))
    assert placed.outdated == ["threshold"]
    assert with_sections(placed, threshold=threshold(0.6)).outdated is None
    current = store.current("housing", "cam0")
    assert current == moved


@pytest.mark.parametrize(
    ("changed", "outdated"),
    [
        ({"geometry": geometry(0.2)}, ["registration", "threshold"]),
        ({"geometry": geometry()}, None),
        ({"flat_field": evened(1)}, ["threshold"]),
        ({"registration": registered(0.6)}, ["threshold"]),
        ({"registration": registered(0.6), "threshold": threshold(0.6)}, None),
        ({"threshold": threshold(0.6)}, None),
    ],
)
def test_only_what_was_found_under_it_is_outdated(changed: dict[str, Any], outdated: list[str] | None) -> None:
    whole = with_sections(
        fresh(), geometry=geometry(), flat_field=evened(), registration=registered(), threshold=threshold(0.5)
    )
    assert with_sections(whole, **changed).outdated == outdated


def test_a_repeatability_is_outdated_by_another_threshold() -> None:
    figures = RepeatabilityFigures.model_construct()
    shown = with_sections(fresh(), threshold=threshold(0.5), repeatability=figures)
    assert with_sections(shown, threshold=threshold(0.6)).outdated == ["repeatability"]
    assert with_sections(shown, threshold=threshold(0.6), repeatability=figures).outdated is None


def test_a_first_geometry_outdates_what_was_found_without_one() -> None:
    without = with_sections(fresh(), threshold=threshold(0.5))
    assert without.outdated is None
    assert with_sections(without, geometry=geometry()).outdated == ["threshold"]


def test_what_is_kept_is_in_force_and_what_was_before_stays(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path / "calibrations")
    assert store.current("housing", "cam0") is None
    first = store.keep(with_threshold(fresh(), 0.5))
    second = store.keep(with_threshold(first, 0.6))
    assert first.replaces is None
    assert second.replaces == first.calibration_id != second.calibration_id
    assert store.current("housing", "cam0") == second
    assert second.replaces is not None
    assert store.kept("housing", "cam0", second.replaces) == first
    assert store.current("housing", "cam1") is None
    text = store.path("housing", "cam0").read_text()
    assert "made:" in text
    assert "by: Anna" in text


def test_a_geometry_is_of_the_cameras_frames() -> None:
    lens = Lens(width_px=320, height_px=240, fx_px=400.0, fy_px=400.0, cx_px=160.0, cy_px=120.0)
    camera = CameraGeometry(lens=lens, belt_rotation=[0.0, 0.0, 0.0], belt_translation_mm=[0.0, 0.0, 300.0])
    section = GeometrySection(made=MADE, camera=camera, worst_error_mm=0.1)
    with pytest.raises(ValidationError, match="320x240 px"):
        CameraCalibration.model_validate(fresh().model_dump(by_alias=True) | {"geometry": section})
    small = fresh().model_copy(update={"width_px": 320, "height_px": 240, "geometry": section})
    assert list(small.made) == ["geometry"]


def test_nothing_changed_nothing_written(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    kept = store.keep(with_threshold(fresh(), 0.5))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert store.keep(kept) == kept
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@given(
    recipe_id=st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20),
    camera_id=st.from_regex(r"[A-Za-z0-9_.-]{1,32}", fullmatch=True),
)
def test_any_name_stays_inside_the_folder(tmp_path_factory: Any, recipe_id: str, camera_id: str) -> None:
    folder = tmp_path_factory.mktemp("store")
    store = CalibrationStore(folder / "in")
    path = store.path(recipe_id, camera_id)
    assert path.resolve().parent.parent.parent == (folder / "in").resolve()
    kept = store.keep(fresh(recipe_id, camera_id))
    assert store.current(recipe_id, camera_id) == kept
    assert [each.name for each in folder.iterdir()] == ["in"]


def test_two_at_once_do_not_lose_each_others(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    first = store.keep(with_threshold(fresh(), 0.5))
    store.keep(with_threshold(first, 0.6))
    with pytest.raises(FaultsError, match="put in force by somebody else meanwhile"):
        store.keep(with_threshold(first, 0.7))
    with pytest.raises(FaultsError, match="put in force by somebody else meanwhile"):
        store.keep(fresh())


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("scratch: 0.5", "scratch: 0.4", "changed by hand"),
        ("by: Anna", "by: Otto", "changed by hand"),
        ("width_px: 640", "width_px: 64O", "changed by hand"),
        ("camera_id: cam0", "camera_id: cam1", "changed by hand"),
        ("threshold:", "treshold:", "changed by hand"),
        ("schema: lineside.calibration/1", "schema: lineside.calibration/9", "changed by hand"),
        ("recipe_id: housing", "recipe_id: [", "not YAML"),
        ("recipe_id: housing", "camera_id: cam0", "not YAML"),
    ],
)
def test_what_was_changed_is_told(tmp_path: Path, old: str, new: str, words: str) -> None:
    store = CalibrationStore(tmp_path)
    store.keep(with_threshold(fresh(), 0.5))
    path = store.path("housing", "cam0")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(FaultsError, match=words) as caught:
        store.current("housing", "cam0")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [("schema", "lineside.calibration/9", "schema"), ("width_px", "640", "width_px"), ("treshold", {}, "treshold")],
)
def test_what_another_program_wrote_is_told(tmp_path: Path, key: str, value: Any, words: str) -> None:
    store = CalibrationStore(tmp_path)
    store.keep(with_threshold(fresh(), 0.5))
    path = store.path("housing", "cam0")
    body = yaml.safe_load(path.read_text()) | {key: value}
    path.write_text(yaml.safe_dump(body | {"calibration_id": calibration_id_of(body)}))
    with pytest.raises(FaultsError, match=words) as caught:
        store.current("housing", "cam0")
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"- 1", b"1: 2\na: 3", b"a: 2020-01-01", b"\xff", b"[" * 5_000, b"a: *b"])
def test_what_is_no_calibration_is_told(tmp_path: Path, content: bytes) -> None:
    store = CalibrationStore(tmp_path)
    path = store.path("housing", "cam0")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(FaultsError, match="expected"):
        store.current("housing", "cam0")


def test_anothers_file_in_its_place_is_told(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    store.keep(fresh("housing", "cam0"))
    store.path("housing", "cam0").parent.rename(store.path("housing", "cam1").parent)
    with pytest.raises(FaultsError, match="got a calibration of camera cam0 for housing"):
        store.current("housing", "cam1")


def test_a_disk_that_fails_leaves_the_one_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = CalibrationStore(tmp_path)
    first = store.keep(with_threshold(fresh(), 0.5))

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space"):
            store.keep(with_threshold(first, 0.6))
    assert store.current("housing", "cam0") == first
    assert store.keep(with_threshold(first, 0.6)).replaces == first.calibration_id


def test_files_are_what_their_names_say(tmp_path: Path) -> None:
    store = CalibrationStore(tmp_path)
    sha256 = store.keep_file(b"a table")
    assert store.keep_file(b"a table") == sha256
    assert store.file(sha256) == b"a table"
    (tmp_path / "files" / sha256).write_bytes(b"another")
    with pytest.raises(FaultsError, match="calibrate again"):
        store.file(sha256)
    with pytest.raises(FaultsError, match="no such file"):
        store.file("0" * 64)


def test_a_lines_id_is_made_of_all_its_cameras() -> None:
    assert line_calibration_id([]) is None
    assert line_calibration_id(["0a"]) == "0a"
    assert len({line_calibration_id(ids) for ids in (["0a", "0b"], ["0b", "0a"], ["0a", "0a"])}) == 3


def test_an_id_is_over_everything_but_itself(tmp_path: Path) -> None:
    kept = CalibrationStore(tmp_path).keep(with_threshold(fresh(), 0.5))
    body = yaml.safe_load(CalibrationStore(tmp_path).path("housing", "cam0").read_text())
    assert calibration_id_of(body) == kept.calibration_id
    for key in body:
        other = {**body, key: "changed"}
        assert (calibration_id_of(other) == kept.calibration_id) == (key == "calibration_id")
