"""``lineside calibrate flat-field`` and ``light``, by command, from pictures whose truth is known."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from calibration.flat_field import evenness_percent
from pipeline.calibration_file import CalibrationStore, CameraCalibration, GeometrySection, made_now
from pipeline.calibration_store import NEW
from tests.in_process import Done, lineside_here
from tests.service import lineside
from tests.station_pictures import (
    HEIGHT_PX,
    WIDTH_PX,
    flat_field_pictures,
    parts_line,
    resting_pictures,
    save_pictures,
    vignetted_sensor,
)
from vision.camera_geometry import CameraGeometry, Lens
from vision.correction import Correction
from vision.flat_field import FlatFieldSection, read_flat_field
from vision.model_input import ModelInput
from vision.preprocess import FrameFormat, RegionPlan
from vision.recipe import Region
from vision.types import PixelFormat


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flat_field_pictures(tmp_path_factory.mktemp("pictures"), vignetted_sensor())


def flat_field(line: Path, images: Path, *options: str | Path, who: str = "Anna") -> Done:
    return lineside_here("calibrate", "flat-field", line, "--images", images, "--as", who, *options)


def current(line: Path) -> CameraCalibration:
    kept = CalibrationStore(line.parent / "calibrations").current("stub", "cam0")
    assert kept is not None
    return kept


def correction_in_force(line: Path, frame_format: FrameFormat) -> tuple[FlatFieldSection, Correction]:
    """Read as a line reads it."""
    evened = current(line).flat_field
    assert evened is not None
    store, section = CalibrationStore(line.parent / "calibrations"), evened.flat_field
    gains, darks = store.file(section.gain_sha256), store.file(section.dark_sha256)
    return section, read_flat_field(section, gains, darks, frame_format, gain_file="gain", dark_file="dark")


def uneven_percent(correction: Correction | None, frames: Any, frame_format: FrameFormat) -> float:
    """Of what a model is given, by the line's own kernel: the mean over frames."""
    count = frame_format.pixel_format.channel_count
    model_input = ModelInput.model_validate(
        {
            "name": "image",
            "width_px": WIDTH_PX,
            "height_px": HEIGHT_PX,
            "colour_order": "GRAY" if count == 1 else "BGR",
            "scale": 1.0,
            "mean": [0.0] * count,
            "std": [1.0] * count,
            "fit": "stretch",
        }
    )
    whole = Region(name="all", x_px=0, y_px=0, width_px=WIDTH_PX, height_px=HEIGHT_PX)
    plan = RegionPlan("cam0", whole, frame_format, model_input, correction)
    rows = np.zeros((len(frames), *model_input.row_shape), np.float32)
    for row, frame in zip(rows, frames, strict=True):
        plan.fill(frame, row)
    return evenness_percent(rows.mean(axis=0).transpose(1, 2, 0))


@pytest.mark.parametrize(
    "pixel_format", [PixelFormat.MONO8, PixelFormat.RGB8, PixelFormat.MONO12P, PixelFormat.BAYER_RG8]
)
def test_what_is_kept_makes_pictures_of_other_light_even_within_a_per_cent(
    tmp_path: Path, pixel_format: PixelFormat
) -> None:
    line = parts_line(tmp_path, pixel_format=pixel_format.value)
    sensor = vignetted_sensor(channels=pixel_format.channel_count)
    images = flat_field_pictures(tmp_path / "pictures", sensor)
    done = flat_field(line, images, "--json", tmp_path / "found.json", "--report", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["calibration_id"] == current(line).calibration_id
    assert found["calibration_id"] in done.stdout
    assert found["refusals"] == []
    frame_format = FrameFormat(WIDTH_PX, HEIGHT_PX, pixel_format).decoded
    section, correction = correction_in_force(line, frame_format)
    assert (section.dead_count, section.hot_count) == (1, 1)
    assert section.uneven_before_percent.low > 20.0
    assert section.uneven_after_percent.high < 1.0
    assert found["quality"]["uneven_after_percent"]["high"] == section.uneven_after_percent.high
    frames = sensor.frames(120.0, 16)
    if pixel_format is PixelFormat.RGB8:
        frames = np.ascontiguousarray(frames[..., ::-1])  # as the camera delivers what the files have in BGR
    assert uneven_percent(None, frames, frame_format) > 20.0
    assert uneven_percent(correction, frames, frame_format) < 1.0
    assert correction.dead is not None
    assert [tuple(place) for place in np.argwhere(correction.dead).tolist()] == [(40, 50), (100, 200)]
    page = (tmp_path / "report" / "index.html").read_text()
    assert page.count("<img") >= 3
    assert found["calibration_id"] in page
    assert ">dead<" in page
    assert ">hot<" in page


def test_a_second_one_replaces_the_first_and_says_what_is_outdated(tmp_path: Path, pictures: Path) -> None:
    line = parts_line(tmp_path)
    assert flat_field(line, pictures).returncode == 0
    first = current(line)
    again = flat_field(line, pictures, "--json", "-", who="Ben")
    assert again.returncode == 0, again.stderr
    second = current(line)
    assert json.loads(again.stdout)["calibration_id"] == second.calibration_id
    assert second.replaces == first.calibration_id
    assert second.flat_field is not None
    assert first.flat_field is not None
    assert second.flat_field.flat_field == first.flat_field.flat_field
    assert second.outdated is None
    assert (first.flat_field.made.by, second.flat_field.made.by) == ("Anna", "Ben")
    assert second.flat_field.made.pictures_count == 36
    checked = lineside("check", line)
    assert second.calibration_id in checked.stdout


def copied(pictures: Path, folder: Path) -> Path:
    return Path(shutil.copytree(pictures, folder))


def swapped(pictures: Path, folder: Path) -> Path:
    copied(pictures / "dark", folder / "bright")
    copied(pictures / "bright", folder / "dark")
    return folder


def too_few(pictures: Path, folder: Path) -> Path:
    copied(pictures, folder)
    for file in sorted((folder / "bright").iterdir())[5:]:
        file.unlink()
    return folder


def saturated(pictures: Path, folder: Path) -> Path:
    copied(pictures / "dark", folder / "dark")
    save_pictures(folder / "bright", vignetted_sensor().frames(400.0, 24))
    return folder


def something_printed(pictures: Path, folder: Path) -> Path:
    copied(pictures, folder)
    for file in (folder / "bright").iterdir():
        picture = cv2.imread(str(file), cv2.IMREAD_GRAYSCALE)
        assert picture is not None
        printed = picture.copy()
        printed[:, ::9] = np.rint(0.8 * picture[:, ::9])
        assert cv2.imwrite(str(file), printed)
    return folder


@pytest.mark.parametrize(
    ("change", "reason", "advice"),
    [
        (swapped, "the dark frames are not dark", "Put the cap on the lens"),
        (too_few, "too few bright frames", "Take 7 more"),
        (saturated, "the bright frames are saturated", "Shorten the exposure"),
        (something_printed, "the bright target is not plain", "Use a clean matt sheet"),
    ],
)
def test_pictures_that_do_not_support_one_change_nothing(
    tmp_path: Path, pictures: Path, change: Any, reason: str, advice: str
) -> None:
    line = parts_line(tmp_path)
    images = change(pictures, tmp_path / "pictures")
    done = flat_field(line, images, "--json", tmp_path / "found.json", "--report", tmp_path / "report")
    assert done.returncode == 1
    assert f"not calibrated: {reason}" in done.stderr
    assert advice in done.stdout
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["calibration_id"] is None
    assert found["refusals"][0]["reason"] == reason
    assert reason in (tmp_path / "report" / "index.html").read_text()
    assert not (tmp_path / "calibrations").exists()


def without_dark(pictures: Path, folder: Path) -> Path:
    copied(pictures / "bright", folder / "bright")
    return folder


def of_another_size(pictures: Path, folder: Path) -> Path:
    copied(pictures, folder)
    assert cv2.imwrite(str(folder / "bright" / "03.png"), np.zeros((HEIGHT_PX, WIDTH_PX + 2), np.uint8))
    return folder


def with_a_copy(pictures: Path, folder: Path) -> Path:
    copied(pictures, folder)
    shutil.copy(folder / "bright" / "03.png", folder / "bright" / "99.png")
    return folder


def with_a_jpeg(pictures: Path, folder: Path) -> Path:
    copied(pictures, folder)
    assert cv2.imwrite(str(folder / "dark" / "99.jpg"), np.zeros((HEIGHT_PX, WIDTH_PX), np.uint8))
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without_dark, "pictures/dark: got No such file or directory, expected a folder of pictures"),
        (of_another_size, "bright/03.png: got 362x300 px, expected 360x300 px, as camera cam0 delivers"),
        (with_a_copy, "bright/99.png: got the same picture as 03.png, expected another picture"),
        (with_a_jpeg, "dark/99.jpg: got a JPEG, expected a PNG, BMP or TIFF"),
    ],
)
def test_what_cannot_be_is_told_before_the_work(tmp_path: Path, pictures: Path, change: Any, words: str) -> None:
    line = parts_line(tmp_path)
    done = flat_field(line, change(pictures, tmp_path / "pictures"))
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "calibrations").exists()


def light(line: Path, images: Path, *options: str | Path) -> Done:
    return lineside_here("calibrate", "light", line, "--images", images, "--exposure-us", "800", *options)


def with_geometry(line: Path, *, mm_per_px: float) -> None:
    lens = Lens(
        width_px=WIDTH_PX, height_px=HEIGHT_PX, fx_px=1_000.0, fy_px=1_000.0, cx_px=WIDTH_PX / 2, cy_px=HEIGHT_PX / 2
    )
    camera = CameraGeometry(
        lens=lens, belt_rotation=[0.0, 0.0, 0.0], belt_translation_mm=[0.0, 0.0, 1_000.0 * mm_per_px]
    )
    CalibrationStore(line.parent / "calibrations").keep(
        CameraCalibration(
            calibration_id=NEW,
            recipe_id="stub",
            camera_id="cam0",
            width_px=WIDTH_PX,
            height_px=HEIGHT_PX,
            geometry=GeometrySection(made=made_now("Anna", []), camera=camera, worst_error_mm=0.1),
        )
    )


def test_good_light_and_focus_need_no_change(tmp_path: Path) -> None:
    line = parts_line(tmp_path)
    with_geometry(line, mm_per_px=0.2)
    images = resting_pictures(tmp_path / "pictures")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "calibrations").rglob("*")}
    done = light(line, images, "--belt-mm-per-s", "100", "--json", tmp_path / "found.json")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["motion"]["exposure_max_us"] == pytest.approx(0.5 * 0.2 / 100.0 * 1e6)
    assert found["motion"]["blur_px"] == pytest.approx(800e-6 * 100.0 / 0.2)
    assert found["exposure"]["is_good"]
    assert found["focus"]["is_sharp"]
    assert "sharp enough" in done.stdout
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "calibrations").rglob("*")} == before


def test_too_long_an_exposure_for_the_belt_is_told_with_what_to_set(tmp_path: Path) -> None:
    line = parts_line(tmp_path)
    images = resting_pictures(tmp_path / "pictures")
    options = ("--belt-mm-per-s", "300", "--mm-per-px", "0.2", "--blur-max-px", "0.3")
    done = light(line, images, *options, "--json", tmp_path / "found.json")
    assert done.returncode == 1
    assert "not as it should be yet: exposure" in done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["exposure"]["exposure_time_us"] == pytest.approx(200.0)
    # What a quarter of the time takes away, gain gives back: 12 dB.
    assert found["exposure"]["gain_db"] == pytest.approx(12.0, abs=0.1)
    assert "set exposure_time_us to 200" in done.stdout


def test_dark_pictures_out_of_focus_are_both_told(tmp_path: Path) -> None:
    line = parts_line(tmp_path)
    images = resting_pictures(tmp_path / "pictures", gain=0.4, blur_px=2.0)
    done = light(line, images)
    assert done.returncode == 1
    assert "not as it should be yet: exposure and focus" in done.stderr
    assert "turn the focus ring" in done.stdout
    loose = light(line, images, "--focus-target", "3")
    assert loose.returncode == 1
    assert "sharp enough" in loose.stdout


def test_the_focus_ring_is_followed_from_folder_to_folder(tmp_path: Path) -> None:
    line = parts_line(tmp_path)
    images = tmp_path / "pictures"
    for place, blur_px in enumerate((2.5, 1.5, 0.0, 1.5)):
        resting_pictures(images / f"{place}", blur_px=blur_px)
    past = light(line, images)
    assert past.returncode == 1
    assert "turn the focus ring back" in past.stdout
    resting_pictures(images / "4")
    back = light(line, images)
    assert back.returncode == 0, back.stderr
    assert "sharp, fasten the ring" in back.stdout


def test_pictures_beside_folders_of_them_are_not_passed_over(tmp_path: Path) -> None:
    line = parts_line(tmp_path)
    images = resting_pictures(tmp_path / "pictures")
    resting_pictures(images / "1")
    done = light(line, images)
    assert done.returncode == 2
    assert "got 00.png beside 1, expected pictures, or folders of them" in done.stderr


def test_without_edges_focus_cannot_be_told(tmp_path: Path) -> None:
    line = parts_line(tmp_path)
    generator = np.random.default_rng(1)
    blank = generator.normal(210.0, 1.0, (8, HEIGHT_PX, WIDTH_PX)).astype(np.uint8)
    done = light(line, save_pictures(tmp_path / "pictures", blank))
    assert done.returncode == 1
    assert "refused   nothing to focus on" in done.stdout


@pytest.mark.parametrize(
    ("options", "is_calibrated", "words"),
    [
        (("--belt-mm-per-s", "300"), False, "--mm-per-px: got none, expected how large a pixel is on the part"),
        (("--belt-mm-per-s", "300", "--mm-per-px", "0.3"), True, "--mm-per-px: got 0.3, expected none: the geometry"),
        (("--belt-mm-per-s", "inf", "--mm-per-px", "0.3"), False, "--belt-mm-per-s: got inf, expected a number"),
        (("--gain-db", "nan"), False, "--gain-db: got nan, expected a number"),
        (("--belt-mm-per-s", "300", "--mm-per-px", "-1"), False, "mm_per_px: got -1.0, expected above 0"),
    ],
)
def test_settings_that_cannot_be_are_told_and_a_pixels_size_has_one_source(
    tmp_path: Path, options: tuple[str, ...], is_calibrated: bool, words: str
) -> None:
    line = parts_line(tmp_path)
    if is_calibrated:
        with_geometry(line, mm_per_px=0.2)
    done = light(line, resting_pictures(tmp_path / "pictures"), *options)
    assert done.returncode == 2
    assert words in done.stderr
