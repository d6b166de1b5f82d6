"""``lineside calibrate registration``, by command, from rendered pictures of a plate whose place is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from pipeline.calibration_file import CalibrationStore, CameraCalibration, GeometrySection, ThresholdSection, made_now
from pipeline.calibration_store import NEW
from pipeline.simulator.part_scene import Look
from tests.in_process import Done, lineside_here
from tests.service import lineside
from tests.station_pictures import HEIGHT_PX, SCENE, WIDTH_PX, parts_line, registration_pictures
from vision.camera_geometry import CameraGeometry, Lens
from vision.preprocess import FrameFormat
from vision.registration import PartLocator, read_template
from vision.types import PixelFormat

MM_PER_PX = 0.25


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return registration_pictures(tmp_path_factory.mktemp("pictures"))


def registration(line: Path, images: Path, *options: str | Path) -> Done:
    return lineside_here("calibrate", "registration", line, "--images", images, "--as", "Anna", *options)


def store_of(line: Path) -> CalibrationStore:
    return CalibrationStore(line.parent / "calibrations")


def current(line: Path) -> CameraCalibration:
    kept = store_of(line).current("stub", "cam0")
    assert kept is not None
    return kept


def keep(line: Path, **sections: Any) -> None:
    store_of(line).keep(
        CameraCalibration(
            calibration_id=NEW, recipe_id="stub", camera_id="cam0", width_px=WIDTH_PX, height_px=HEIGHT_PX, **sections
        )
    )


def geometry() -> GeometrySection:
    lens = Lens(
        width_px=WIDTH_PX, height_px=HEIGHT_PX, fx_px=1_000.0, fy_px=1_000.0, cx_px=WIDTH_PX / 2, cy_px=HEIGHT_PX / 2
    )
    camera = CameraGeometry(
        lens=lens, belt_rotation=[0.0, 0.0, 0.0], belt_translation_mm=[0.0, 0.0, 1_000.0 * MM_PER_PX]
    )
    return GeometrySection(made=made_now("Anna", []), camera=camera, worst_error_mm=0.1)


@pytest.mark.parametrize(
    ("template", "pixel_format"), [(None, "Mono8"), ("120,90,128,120", "Mono8"), (None, "Mono10Packed")]
)
def test_what_is_kept_finds_parts_where_they_are(
    tmp_path: Path, pictures: Path, template: str | None, pixel_format: str
) -> None:
    line = parts_line(tmp_path, pixel_format=pixel_format)
    marked = () if template is None else ("--template", template)
    done = registration(line, pictures, *marked, "--json", tmp_path / "found.json", "--report", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    kept = current(line)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["calibration_id"] == kept.calibration_id
    assert kept.registration is not None
    assert kept.registration.made.by == "Anna"
    assert kept.registration.made.pictures_count == 33
    section = kept.registration.registration
    if template is not None:
        where = section.template
        assert (where.x_px, where.y_px, where.width_px, where.height_px) == (120, 90, 128, 120)
    content = store_of(line).file(section.template_sha256)
    locator = PartLocator(
        "cam0",
        read_template(content, section, file="template"),
        FrameFormat(WIDTH_PX, HEIGHT_PX, PixelFormat.MONO8),
    )
    for seed, (dx, dy) in enumerate([(0.0, 0.0), (4.4, 2.1), (-5.5, -1.9)], 500):
        position = locator.locate(SCENE.frame(Look(dx, dy), seed))
        locator.check(position)
        assert position.shift_x_px == pytest.approx(dx, abs=0.4)
        assert position.shift_y_px == pytest.approx(dy, abs=0.4)
    assert not locator.locate(SCENE.frame(Look(has_part=False), 600)).is_found
    assert found["repeats_x"]["spread_px"] < 0.2
    assert found["parts_x"]["spread_px"] == pytest.approx(3.0, rel=0.5)
    assert found["mm_per_px"] is None
    assert [each["picture"] for each in found["positions"]] == [f"{at:02d}.png" for at in range(20)]
    page = (tmp_path / "report" / "index.html").read_text()
    assert ">template<" in page
    assert kept.calibration_id in page


def test_with_a_geometry_places_and_tolerance_are_in_mm(tmp_path: Path, pictures: Path) -> None:
    line = parts_line(tmp_path)
    keep(line, geometry=geometry())
    done = registration(line, pictures, "--tolerance-mm", "5", "--json", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["mm_per_px"] == pytest.approx([MM_PER_PX, MM_PER_PX])
    kept = current(line)
    assert kept.registration is not None
    assert kept.registration.registration.tolerance_x_px == pytest.approx(5 / MM_PER_PX)
    assert kept.geometry is not None
    assert "(5.00 and 5.00 mm)" in done.stdout
    spread_mm = MM_PER_PX * found["repeats_x"]["spread_px"]
    assert (
        f"one part  to either side: spread {found['repeats_x']['spread_px']:.3f} px ({spread_mm:.4f} mm)" in done.stdout
    )
    checked = lineside("check", line)
    assert checked.returncode == 0, checked.stderr
    assert kept.calibration_id in checked.stdout


def test_regions_that_the_lens_bends_out_of_the_picture_with_the_part_are_told(tmp_path: Path, pictures: Path) -> None:
    line = parts_line(tmp_path)
    recipe_file = tmp_path / "recipe.yaml"
    recipe = yaml.safe_load(recipe_file.read_text())
    recipe["views"][0]["regions"][0] |= {"x_px": 26, "y_px": 40, "width_px": 300, "height_px": 200}
    recipe_file.write_text(yaml.safe_dump(recipe))
    bent = geometry()
    lens = bent.camera.lens.model_copy(update={"k1": 0.5, "fx_px": 400.0, "fy_px": 400.0})
    keep(line, geometry=bent.model_copy(update={"camera": bent.camera.model_copy(update={"lens": lens})}))
    done = registration(line, pictures)
    assert done.returncode == 0, done.stderr
    assert "REGIONS   the line will not start: " in done.stdout
    assert "views.0.regions.0" in done.stdout
    checked = lineside("check", line)
    assert checked.returncode == 2
    assert "views.0.regions.0" in checked.stderr


def test_a_second_one_replaces_the_first_and_says_what_is_outdated(tmp_path: Path, pictures: Path) -> None:
    line = parts_line(tmp_path)
    threshold = ThresholdSection(
        made=made_now("Anna", []),
        reject_at_score={"defective": 0.7},
        false_reject_max=0.01,
        confidence=0.95,
        good_count=299,
    )
    keep(line, threshold=threshold)
    first = registration(line, pictures, "--template", "120,90,128,120")
    assert first.returncode == 0, first.stderr
    assert "OUTDATED  threshold: " in first.stdout
    before = current(line)
    assert before.outdated == ["threshold"]
    assert before.threshold == threshold
    assert f"{before.calibration_id}: registration, threshold; OUTDATED: threshold" in lineside("check", line).stdout
    second = registration(line, pictures, "--template", "120,90,128,100", "--json", "-")
    assert second.returncode == 0, second.stderr
    assert json.loads(second.stdout)["outdated"] == ["threshold"]
    after = current(line)
    assert after.replaces == before.calibration_id
    assert store_of(line).kept("stub", "cam0", before.calibration_id) == before
    assert after.registration != before.registration


def copied(pictures: Path, folder: Path, *, without: str = "nothing") -> Path:
    return Path(shutil.copytree(pictures, folder, ignore=shutil.ignore_patterns(without)))


def too_few(pictures: Path, folder: Path) -> Path:
    copied(pictures, folder)
    for file in sorted((folder / "parts").iterdir())[12:]:
        file.unlink()
    return folder


def with_an_empty_belt_among_the_parts(pictures: Path, folder: Path) -> Path:
    copied(pictures, folder)
    shutil.copy(folder / "empty" / "00.png", folder / "parts" / "20.png")
    return folder


def all_alike(pictures: Path, folder: Path) -> Path:
    """The empty belt is a part, too."""
    copied(pictures, folder)
    shutil.copy(folder / "parts" / "00.png", folder / "empty" / "01.png")
    return folder


@pytest.mark.parametrize(
    ("change", "options", "reason", "advice"),
    [
        (too_few, (), "too few parts", "Let 8 more good parts pass"),
        (with_an_empty_belt_among_the_parts, (), "part not found", "NOT FOUND in 20.png"),
        (all_alike, (), "unsure score", "Mark a template with more and stronger edges"),
        (copied, ("--template", "110,60,128,40"), "weak in one direction", "mark a template that also holds edges"),
        (copied, ("--template", "20,90,128,120"), "template too near the edge", "search less far"),
        (copied, ("--tolerance-px", "2"), "tolerance too tight", "Guide the parts better, or allow more"),
        (copied, ("--tolerance-px", "60"), "parts too far off", "Search farther"),
    ],
)
def test_pictures_that_do_not_support_one_change_nothing(
    tmp_path: Path, pictures: Path, change: Any, options: tuple[str, ...], reason: str, advice: str
) -> None:
    line = parts_line(tmp_path)
    images = change(pictures, tmp_path / "pictures")
    done = registration(line, images, *options, "--json", tmp_path / "found.json", "--report", tmp_path / "report")
    assert done.returncode == 1
    assert f"not calibrated: {reason}" in done.stderr
    assert advice in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["calibration_id"] is None
    assert reason in [refusal["reason"] for refusal in found["refusals"]]
    assert reason in (tmp_path / "report" / "index.html").read_text()
    assert not (tmp_path / "calibrations").exists()


def without_still(pictures: Path, folder: Path) -> Path:
    return copied(pictures, folder, without="still")


def without_empty(pictures: Path, folder: Path) -> Path:
    return copied(pictures, folder, without="empty")


def of_another_size(pictures: Path, folder: Path) -> Path:
    copied(pictures, folder)
    assert cv2.imwrite(str(folder / "parts" / "03.png"), np.zeros((HEIGHT_PX, WIDTH_PX + 2), np.uint8))
    return folder


def with_a_copy(pictures: Path, folder: Path) -> Path:
    copied(pictures, folder)
    shutil.copy(folder / "still" / "03.png", folder / "still" / "04.png")
    return folder


@pytest.mark.parametrize(
    ("change", "options", "words"),
    [
        (without_still, (), "pictures/still: got No such file or directory, expected a folder of pictures"),
        (without_empty, (), "pictures/empty: got no such folder, expected pictures of the belt without a part, or"),
        (of_another_size, (), "parts/03.png: got 362x300 px, expected 360x300 px"),
        (with_a_copy, (), "still/04.png: got the same picture as 03.png"),
        (copied, ("--template", "1,2,3"), "--template: got '1,2,3', expected x, y, width and height"),
        (copied, ("--template", "120,90,12,120"), "--template: width_px: got 12"),
        (copied, ("--tolerance-px", "inf"), "--tolerance-px: got inf, expected a number"),
        (copied, ("--tolerance-mm", "2"), "--tolerance-mm: got 2 where no geometry is in force"),
        (copied, ("--tolerance-mm", "2", "--tolerance-px", "3"), "--tolerance-mm: got --tolerance-px as well"),
    ],
)
def test_what_cannot_be_is_told_before_the_work(
    tmp_path: Path, pictures: Path, change: Any, options: tuple[str, ...], words: str
) -> None:
    line = parts_line(tmp_path)
    done = registration(line, change(pictures, tmp_path / "pictures"), *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "calibrations").exists()


def test_without_a_part_in_its_place_there_is_no_outline(tmp_path: Path, pictures: Path) -> None:
    line = parts_line(tmp_path)
    images = copied(pictures, tmp_path / "pictures", without="empty")
    shutil.copytree(pictures / "still", images / "empty")
    done = registration(line, images)
    assert done.returncode == 1
    assert "that the empty belt has not" in done.stderr
    assert not (tmp_path / "calibrations").exists()
