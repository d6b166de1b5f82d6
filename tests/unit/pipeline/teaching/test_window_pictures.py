"""Pictures of parts taken from a recorded window, cut as the line's recipe cuts its frames."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import yaml

from pipeline.image_encoder import encode_image
from pipeline.image_reading import decode_seen
from pipeline.simulator.part_scene import Look, PartScene
from pipeline.teaching import window_pictures
from pipeline.teaching.picture_set import PictureSet
from pipeline.teaching.pictures import read_folder
from pipeline.teaching.window_pictures import Taking, read_window
from pipeline.window.format import DESCRIPTION_NAME, chunk_name
from tests.windows import HEIGHT_PX, WIDTH_PX, RecordedWindow, WindowLine, pictures, recipe_of, write_window_line
from vision.faults import FaultsError
from vision.preprocess import FrameFormat
from vision.raw_picture import raw_pixels
from vision.registration import Registration, RegistrationSection
from vision.types import PixelFormat
from vision.view_calibration import ViewCalibration

Pixels = npt.NDArray[np.uint8]
PARTS = 30
REGIONS = {
    "top.left": recipe_of(0.5)["views"][0]["regions"][0],
    "top.right": recipe_of(0.5)["views"][0]["regions"][1],
    "side": recipe_of(0.5)["views"][1]["regions"][0],
}


def seen(number: int) -> dict[str, Pixels]:
    return pictures(number, np.random.default_rng(number))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RecordedWindow:
    """Thirty parts on both sides of the threshold; the frame of one is missed, the line was halted at another."""
    folder = tmp_path_factory.mktemp("window")
    line = WindowLine(write_window_line(folder / "line"), folder / "window", chunk_bytes=1 << 18)
    for number in range(1, PARTS + 1):
        line.run(seen(number), "missed" if number == 7 else "not running" if number == 8 else "together")
    return line.close()


def numbers(found: PictureSet) -> list[int]:
    return [int(picture.part_name[-8:]) for picture in found.views[0].pictures]


def test_parts_that_passed_by_region(recorded: RecordedWindow) -> None:
    looked: list[None] = []
    found = read_window(recorded.folder, looked=lambda: looked.append(None))
    passed = [result.part_id for result in recorded.results if result.verdict == "PASS"]
    assert 3 < len(passed) < PARTS - 3
    assert numbers(found) == passed
    # Whoever was rejected may have been good all the same.
    rejected = [result.part_id for result in recorded.results if result.verdict == "REJECT" and result.part_id != 8]
    assert sorted(int(name[-8:]) for name in found.rejected) == rejected
    assert len(passed) + len(rejected) + len(found.left_out) == PARTS - 1
    assert [view.name for view in found.views] == list(REGIONS)
    assert (found.parts_count, found.pictures_count, len(looked)) == (len(passed), 3 * len(passed), len(passed))
    for view in found.views:
        region = REGIONS[view.name]
        pixel_format = PixelFormat.BGR8 if view.name == "side" else PixelFormat.MONO8
        assert view.frame == FrameFormat(region["width_px"], region["height_px"], pixel_format)
        for picture, number in zip(view.pictures, passed, strict=True):
            frame = seen(number)[view.name.partition(".")[0]]
            x, y = region["x_px"], region["y_px"]
            cut = frame[y : y + region["height_px"], x : x + region["width_px"]]
            pixels = found.read(picture)
            assert np.array_equal(pixels, cut)
            assert pixels.flags.c_contiguous
            assert picture.is_grey is (view.name != "side")


@pytest.mark.parametrize(("top", "side"), [("Mono12p", "BayerGR8"), ("Mono10", "YUV422_8")])
def test_raw_frames_are_the_pictures_that_are_kept_of_them(tmp_path: Path, top: str, side: str) -> None:
    """By the same hash, so that a part is known whichever of the two it comes from."""
    formats = {"top": PixelFormat(top), "side": PixelFormat(side)}
    line = WindowLine(write_window_line(tmp_path / "line", threshold=0.95, formats=formats), tmp_path / "window")
    sent: list[dict[str, Pixels]] = []
    for number in range(1, 6):
        fine = seen(number)["top"].astype(np.uint16) << 8 | 0xF0
        sent.append(
            {"top": raw_pixels(fine, formats["top"]), "side": raw_pixels(seen(number)["side"], formats["side"])}
        )
        line.run(sent[-1])
    line.close()
    found = read_window(tmp_path / "window")
    assert numbers(found) == [1, 2, 3, 4, 5]
    for view in found.views:
        region, camera_id = REGIONS[view.name], view.name.partition(".")[0]
        x, y = region["x_px"], region["y_px"]
        for picture, frames in zip(view.pictures, sent, strict=True):
            kept = encode_image(frames[camera_id], formats[camera_id], "png", 0)
            whole = decode_seen(np.frombuffer(kept, np.uint8), formats[camera_id])
            assert whole is not None
            cut = whole[y : y + region["height_px"], x : x + region["width_px"]]
            assert np.array_equal(found.read(picture), cut)
            assert picture.is_grey is (camera_id == "top")


def test_all_parts_that_production_made(recorded: RecordedWindow) -> None:
    found = read_window(recorded.folder, Taking(all_parts=True))
    assert found.rejected == frozenset()
    assert found.settled == read_window(recorded.folder).rejected
    # Or somebody knows that those that were rejected are defective: they are here, and not good.
    known = read_window(recorded.folder, Taking(rejects_are_defective=True))
    assert known.views == read_window(recorded.folder).views
    assert known.said_defective == known.settled == found.settled
    # One of them has not all its frames.
    assert {picture.part_name for picture in known.not_good} < found.settled
    for picture in known.not_good:
        assert known.read(picture).shape[:2] == (picture.height_px, picture.width_px)
    assert numbers(found) == [result.part_id for result in recorded.results if result.part_id not in (7, 8)]
    assert found.left_out == ("part 7: no frame of camera side",)


def test_the_only_view_has_no_name_as_in_a_folder_of_pictures(tmp_path: Path) -> None:
    """So that a product taught from either takes more parts from the other."""
    file = write_window_line(tmp_path / "line", threshold=0.9)
    line = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**line, "cameras": line["cameras"][:1]}))
    recipe = recipe_of(0.9)
    recipe["views"] = [{**recipe["views"][0], "regions": recipe["views"][0]["regions"][:1]}]
    (tmp_path / "line" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    played = WindowLine(file, tmp_path / "window")
    for number in range(1, 6):
        played.run({"top": seen(number)["top"]})
    played.close()
    found = read_window(tmp_path / "window")
    folder = tmp_path / "folder"
    folder.mkdir()
    for picture in found.views[0].pictures:
        assert picture.name == picture.part_name
        cv2.imwrite(str(folder / f"{picture.name}.png"), found.read(picture))
    same = read_folder(folder, frames=found.frames)
    assert (list(found.frames), same.frames) == ([""], found.frames)
    assert same.names_by_pixels.keys() == found.names_by_pixels.keys()


def test_a_part_that_is_seen_twice_counts_once(tmp_path: Path) -> None:
    line = WindowLine(write_window_line(tmp_path / "line", threshold=1.0), tmp_path / "window")
    for number in (1, 2, 1):
        line.run(seen(number))
    found = read_window(line.close().folder)
    assert found.parts_count == 2
    assert [(copy.name[-8:], copy.of[-8:]) for copy in found.copies] == [("00000003", "00000001")] * 3


def test_what_is_not_as_it_was_recorded(recorded: RecordedWindow, tmp_path: Path) -> None:
    window = Path(shutil.copytree(recorded.folder, tmp_path / "window"))
    whole = read_window(window, Taking(all_parts=True))
    chunk = window / chunk_name(1)
    content = bytearray(chunk.read_bytes())
    content[5_000] ^= 0xFF
    chunk.write_bytes(content)
    damaged = read_window(window, Taking(all_parts=True))
    assert damaged.parts_count == whole.parts_count - 1
    assert "its pixels are not those that were recorded" in damaged.left_out[0]
    lost = set(whole.all()) - set(damaged.all())
    with pytest.raises(FaultsError, match="its pixels are not those that were recorded"):
        whole.read(next(picture for picture in lost if picture.view.startswith("top")))


def test_no_window(recorded: RecordedWindow, tmp_path: Path) -> None:
    with pytest.raises(FaultsError, match=r"nowhere: got window .*, expected the folder of a recorded window"):
        read_window(tmp_path / "nowhere")
    window = Path(shutil.copytree(recorded.folder, tmp_path / "window"))
    (window / chunk_name(1)).unlink()
    with pytest.raises(FaultsError, match="copy the window whole"):
        read_window(window)
    (window / DESCRIPTION_NAME).write_text(json.dumps({"schema": "other"}))
    with pytest.raises(FaultsError, match="got schema 'other'"):
        read_window(window)


def test_a_window_without_a_part_that_passed(tmp_path: Path) -> None:
    line = WindowLine(write_window_line(tmp_path / "line"), tmp_path / "window")
    line.run(seen(1), "not running")
    with pytest.raises(FaultsError, match="got no part that the line passed with all its frames, expected a window of"):
        read_window(line.close().folder)


def test_regions_follow_the_part_and_a_part_out_of_its_place_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = PartScene(WIDTH_PX, HEIGHT_PX)
    reference = scene.frame(Look(), seed=0)
    section = {
        "template": {"x_px": 40, "y_px": 25, "width_px": 80, "height_px": 50},
        "template_sha256": "0" * 64,
        "search_x_px": 16,
        "search_y_px": 16,
        "tolerance_x_px": 8.0,
        "tolerance_y_px": 8.0,
        "min_score": 0.4,
        "min_contrast": 4.0,
        "levels": 1,
    }
    template = reference[25:75, 40:120].copy()
    followed = ViewCalibration(registration=Registration(RegistrationSection.model_validate(section), template))
    line_file = write_window_line(tmp_path / "line", threshold=1.0)
    line = WindowLine(line_file, tmp_path / "window", calibrations={})
    shifts = [(0, 0), (5, -3), (-6, 2), (14, 0)]
    parts = []
    for number, (right, down) in enumerate(shifts, 1):
        part = np.repeat(reference[..., None], 3, axis=2)
        part[30:34, 20:24, 0] = 10 * number
        parts.append(part[20:80, 10:70])
        line.run(seen(number) | {"side": np.roll(part, (down, right), (0, 1))})
    monkeypatch.setattr(window_pictures, "view_calibrations", lambda _: {"side": followed})
    found = read_window(line.close().folder)
    assert found.parts_count == 3
    assert len(found.left_out) == 1
    assert "expected at most 8 px" in found.left_out[0]
    for picture, part in zip(found.views[2].pictures, parts, strict=False):
        assert np.array_equal(found.read(picture), part)
