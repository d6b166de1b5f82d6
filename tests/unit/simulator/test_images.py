from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.simulator.images import (
    FolderImages,
    ImageError,
    SolarCellImages,
    SyntheticImages,
    frame_geometry,
    load_images,
    mark_strip,
    shuffled_forever,
)
from vision.part_mark_reader import read
from vision.types import PixelFormat


@pytest.mark.parametrize("pixel_format", ["Mono8", "BGR8"])
@pytest.mark.parametrize("width_px", [32, 64, 100, 300])
def test_the_mark_is_read_below_an_untouched_picture(pixel_format: str, width_px: int) -> None:
    source = SyntheticImages.model_validate({"width_px": width_px, "height_px": 40, "pixel_format": pixel_format})
    images = load_images(source)
    geometry = images.geometry
    assert geometry == frame_geometry(source)
    channels = PixelFormat(pixel_format).channel_count
    shape = (geometry.frame_height_px, geometry.frame_width_px, channels)
    for part_number in (1, 48_211, 2**32 - 1):
        frame_bytes = images.pictures[0].tobytes() + mark_strip(geometry, part_number)
        frame = np.frombuffer(frame_bytes, np.uint8).reshape(shape)
        frame = frame[:, :, 0] if channels == 1 else frame
        assert np.array_equal(frame[:40], images.pictures[0])
        mark = {"x_px": geometry.mark_x_px, "y_px": geometry.mark_y_px, "cell_px": geometry.mark_cell_px}
        assert read(frame, **mark) == part_number


def test_synthetic_labels_can_be_told_by_eye_and_are_seeded() -> None:
    images = load_images(SyntheticImages(image_count=20, defective_share=0.3, seed=7))
    assert images.labels.count("defective") == 6
    for picture, label in zip(images.pictures, images.labels, strict=True):
        assert (picture.mean() > 128) == (label == "defective")
    again = load_images(SyntheticImages(image_count=20, defective_share=0.3, seed=7))
    assert all(np.array_equal(one, other) for one, other in zip(images.pictures, again.pictures, strict=True))
    other = load_images(SyntheticImages(image_count=20, defective_share=0.3, seed=8))
    assert not np.array_equal(images.pictures[0], other.pictures[0])


@given(st.integers(2, 12), st.integers(0, 2**32))
def test_neighbours_differ_and_every_round_shows_each_image_once(image_count: int, seed: int) -> None:
    order = list(itertools.islice(shuffled_forever(image_count, seed), 5 * image_count))
    assert all(one != following for one, following in itertools.pairwise(order))
    for start in range(0, len(order), image_count):
        assert sorted(order[start : start + image_count]) == list(range(image_count))
    assert order == list(itertools.islice(shuffled_forever(image_count, seed), 5 * image_count))


def test_one_image_is_not_enough() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        next(shuffled_forever(1, 0))


def _write(file: Path, grey: int, side_px: int = 40) -> None:
    file.parent.mkdir(exist_ok=True)
    assert cv2.imwrite(str(file), np.full((side_px, side_px), grey, np.uint8))


def test_a_folder_with_labels_and_one_without(tmp_path: Path) -> None:
    _write(tmp_path / "good" / "a.png", 10)
    _write(tmp_path / "defective" / "b.png", 200)
    images = load_images(FolderImages(path=tmp_path))
    assert images.labels == ("good", "defective")
    assert [int(picture[0, 0]) for picture in images.pictures] == [10, 200]
    flat = tmp_path / "flat"
    _write(flat / "a.png", 1)
    _write(flat / "b.png", 2)
    assert load_images(FolderImages(path=flat, pixel_format=PixelFormat.BGR8)).labels == (None, None)


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="expected a folder"):
        FolderImages(path=tmp_path / "nowhere")
    with pytest.raises(ImageError, match="got 0 images"):
        load_images(FolderImages(path=tmp_path))
    _write(tmp_path / "a.png", 1)
    _write(tmp_path / "b.png", 1, side_px=50)
    with pytest.raises(ImageError, match=r"b\.png: got 50 x 50 px, expected 40 x 40"):
        load_images(FolderImages(path=tmp_path))
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"b\.png: cannot be read"):
        load_images(FolderImages(path=tmp_path))


@pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="needs the extra demo (elpv-dataset)")
def test_chosen_solar_cells_with_their_labels() -> None:
    images = load_images(SolarCellImages(indices=[0, 3, 2623]))
    assert [picture.shape for picture in images.pictures] == [(300, 300)] * 3
    assert images.labels == ("defective", "good", "good")
    assert (images.geometry.frame_width_px, images.geometry.frame_height_px) == (300, 308)
    with pytest.raises(ImageError, match=r"got indices \[2624\], expected 0\.\.2623"):
        load_images(SolarCellImages(indices=[0, 2624]))


def test_missing_solar_cells_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImageError, match=r"lineside\[demo\]"):
        load_images(SolarCellImages())
