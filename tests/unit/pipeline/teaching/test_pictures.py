"""Folders of pictures that a product is taught from: what is taken, what is told, what is refused and in which words."""

from __future__ import annotations

import os
import shutil
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.image_reading import decode_image, read_image
from pipeline.teaching.picture_set import (
    FAULTS_MAX,
    Copy,
    PictureSet,
    expect_apart,
    expect_content,
    without_known,
    without_parts,
)
from pipeline.teaching.pictures import read_folder, size_tolerance_px
from pipeline.teaching.pixel_facts import is_flat
from tests.labelled import write_image
from vision.faults import FaultsError
from vision.preprocess import FrameFormat
from vision.types import PixelFormat

Pixels = npt.NDArray[np.uint8]


def grey(seed: int, height_px: int = 40, width_px: int = 60) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height_px, width_px), np.uint8)


def colour(seed: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), np.uint8)


def in_three_channels(pixels: Pixels) -> Pixels:
    return np.repeat(pixels[..., None], 3, axis=2)


def write(folder: Path, pictures: Mapping[str, Pixels]) -> Path:
    folder.mkdir(exist_ok=True, parents=True)
    for name, pixels in pictures.items():
        write_image(folder / name, pixels)
    return folder


def told(folder: Path, **options: object) -> list[str]:
    """What the refusal says, a line each; each names something in the folder, or it."""
    with pytest.raises(FaultsError) as caught:
        read_folder(folder, **options)  # type: ignore[arg-type]
    lines = str(caught.value).split("\n")
    assert all(line.startswith(str(folder)) and ": got " in line and ", expected " in line for line in lines)
    return [line.removeprefix(str(folder)) for line in lines]


@pytest.fixture
def good(tmp_path: Path) -> Path:
    """Ten grey parts in one view."""
    return write(tmp_path / "good", {f"{number:02d}.png": grey(number) for number in range(10)})


def names(pictures: PictureSet) -> list[str]:
    return [picture.name for picture in pictures.all()]


# What is taken.


def test_a_folder_of_one_view(good: Path) -> None:
    looked: list[None] = []
    pictures = read_folder(good, looked=lambda: looked.append(None))
    (view,) = pictures.views
    assert view.name == ""
    assert view.frame == FrameFormat(60, 40, PixelFormat.MONO8)
    assert names(pictures) == [f"{number:02d}.png" for number in range(10)]
    assert (pictures.parts_count, pictures.pictures_count, len(looked)) == (10, 10, 10)
    assert pictures.copies == ()
    assert pictures.left_out == ()
    picture = view.pictures[3]
    assert (picture.part_name, picture.width_px, picture.height_px, picture.is_grey) == ("03", 60, 40, True)
    assert np.array_equal(pictures.read(picture), grey(3))


@pytest.mark.parametrize("suffix", [".png", ".PNG", ".jpg", ".JPEG", ".bmp", ".tif", ".TIFF"])
@pytest.mark.parametrize("make", [grey, colour])
def test_pixels_are_those_that_the_folder_camera_would_take(
    tmp_path: Path, suffix: str, make: Callable[[int], Pixels]
) -> None:
    folder = write(tmp_path / "good", {f"{number}{suffix}": make(number) for number in range(2)})
    pictures = read_folder(folder)
    (view,) = pictures.views
    assert view.frame.pixel_format is (PixelFormat.MONO8 if make is grey else PixelFormat.BGR8)
    for picture in view.pictures:
        pixels, as_camera = pictures.read(picture), read_image(picture.path, view.frame.pixel_format)
        assert as_camera is not None
        assert np.array_equal(pixels, as_camera)
        assert pixels.flags.c_contiguous
        assert pixels.shape == view.frame.shape


def test_each_sub_folder_is_a_view_and_equal_names_are_one_part(tmp_path: Path) -> None:
    for view, first, make in (("top", 0, grey), ("side", 100, colour)):
        suffix = ".png" if view == "top" else ".bmp"
        write(tmp_path / view, {f"{number:02d}{suffix}": make(first + number) for number in range(4)})
    pictures = read_folder(tmp_path)
    assert [view.name for view in pictures.views] == ["side", "top"]
    assert [view.frame.pixel_format for view in pictures.views] == [PixelFormat.BGR8, PixelFormat.MONO8]
    assert (pictures.parts_count, pictures.pictures_count) == (4, 8)
    assert names(pictures)[:2] == ["side/00.bmp", "side/01.bmp"]
    assert pictures.frames == {view.name: view.frame for view in pictures.views}


def test_a_part_that_is_not_seen_in_every_view_is_left_out_and_told(tmp_path: Path) -> None:
    for view, count in (("side", 4), ("top", 3)):
        write(tmp_path / view, {f"{number:02d}.png": grey(len(view) * 10 + number) for number in range(count)})
    pictures = read_folder(tmp_path)
    assert pictures.left_out == ("part 03: no picture in top",)
    assert (pictures.parts_count, pictures.pictures_count) == (3, 6)
    # Of a defect one view may be all that there is.
    defects = read_folder(tmp_path, frames=pictures.frames, needs_all_views=False)
    assert (defects.left_out, defects.parts_count, defects.pictures_count) == ((), 4, 7)


def test_hidden_files_and_what_file_managers_leave_are_passed_over(good: Path) -> None:
    for name in (".DS_Store", ".hidden.png", "Thumbs.db", "desktop.ini"):
        (good / name).write_text("x")
    (good / ".thumbnails").mkdir()
    (good / "__MACOSX").mkdir()
    assert read_folder(good).pictures_count == 10


def test_links_to_pictures_are_pictures(tmp_path: Path, good: Path) -> None:
    linked = tmp_path / "linked"
    linked.mkdir()
    for file in good.iterdir():
        (linked / file.name).symlink_to(file)
    assert read_folder(linked).pictures_count == 10


@pytest.mark.parametrize("name", ["\N{RIGHT-TO-LEFT OVERRIDE}gnp.png", "a\N{NARROW NO-BREAK SPACE}b.png"])
def test_names_that_would_rule_a_terminal(good: Path, name: str) -> None:
    shutil.copy(good / "00.png", good / name)
    pictures = read_folder(good)
    assert pictures.parts_count == 10
    (copy,) = pictures.copies
    assert all(each.isprintable() for each in (copy.name, copy.of))
    (good / name).write_bytes(b"no picture")
    with pytest.raises(FaultsError) as caught:
        read_folder(good)
    assert str(caught.value).isprintable()


# Sizes.


def test_sizes_within_tolerance_are_taken(good: Path) -> None:
    write_image(good / "10.png", grey(10, 42, 58))
    pictures = read_folder(good)
    assert pictures.views[0].frame == FrameFormat(60, 40, PixelFormat.MONO8)
    assert pictures.views[0].sizes_count == 2
    assert pictures.read(pictures.views[0].pictures[10]).shape == (42, 58)


@pytest.mark.parametrize(("height_px", "width_px"), [(43, 60), (40, 63), (20, 30), (60, 40)])
def test_sizes_beyond_tolerance(good: Path, height_px: int, width_px: int) -> None:
    write_image(good / "10.png", grey(10, height_px, width_px))
    (line,) = told(good)
    assert line.startswith(
        f"/10.png: got {width_px}x{height_px} pixels, expected 60x40, as most are, within 2 and 2 px"
    )


@given(st.integers(1, 20_000))
def test_the_tolerance_is_3_percent_but_never_nothing(side_px: int) -> None:
    tolerance_px = size_tolerance_px(side_px)
    assert tolerance_px == 2 if side_px < 80 else abs(tolerance_px - 0.03 * side_px) <= 0.5


def test_of_equally_frequent_sizes_the_larger_is_expected(tmp_path: Path) -> None:
    write(tmp_path, {f"{number}.png": grey(number, 40, 60 if number % 2 else 90) for number in range(4)})
    assert [line[:29] for line in told(tmp_path)] == ["/1.png: got 60x40 pixels, exp", "/3.png: got 60x40 pixels, exp"]


# Grey and colour.


def test_grey_levels_in_a_file_in_colour_are_grey(good: Path) -> None:
    """As the model sees the same either way."""
    for seed, suffix in enumerate((".png", ".jpg", ".bmp", ".tif"), 50):
        write_image(good / f"colour{suffix[1:]}{suffix}", in_three_channels(grey(seed)))
    pictures = read_folder(good)
    (view,) = pictures.views
    assert view.frame.pixel_format is PixelFormat.MONO8
    assert len(view.pictures) == 14
    for picture in view.pictures[10:]:
        assert picture.is_grey
        in_colour = decode_image(np.fromfile(picture.path, np.uint8), PixelFormat.BGR8)
        assert in_colour is not None
        assert in_colour.ndim == 3
        assert np.array_equal(pictures.read(picture), in_colour[..., 1])


def test_the_same_grey_picture_in_a_file_in_colour_is_a_copy(good: Path) -> None:
    write_image(good / "10.png", in_three_channels(grey(4)))
    assert read_folder(good).copies == (Copy("10.png", "04.png"),)


def test_a_picture_without_colours_among_those_in_colour(tmp_path: Path) -> None:
    """A camera in colour may see something grey."""
    black = np.zeros((40, 60, 3), np.uint8)
    write(tmp_path, {"0.png": colour(0), "1.png": black, "2.png": colour(2)})
    (view,) = read_folder(tmp_path).views
    assert view.frame.pixel_format is PixelFormat.BGR8
    assert [picture.is_grey for picture in view.pictures] == [False, True, False]


def test_grey_and_colour_in_one_view(good: Path) -> None:
    write_image(good / "10.png", colour(10))
    (line,) = told(good)
    assert line.startswith(
        "/10.png: got a picture in colour, expected pictures of one kind (10 others of this view are grey)"
    )


# Copies.


def test_copies_are_told_and_count_once(good: Path) -> None:
    shutil.copy(good / "03.png", good / "10.png")
    write_image(good / "11.bmp", grey(3))
    (good / "12.png").symlink_to(good / "07.png")
    pictures = read_folder(good)
    assert pictures.copies == (Copy("10.png", "03.png"), Copy("11.bmp", "03.png"), Copy("12.png", "07.png"))
    assert pictures.parts_count == 10


def test_a_picture_turned_or_of_another_shape_is_no_copy(tmp_path: Path) -> None:
    even = np.full((40, 41), 7, np.uint8)
    write(
        tmp_path,
        {"0.png": even, "1.png": even.reshape(41, 40), "2.png": grey(0, 40, 41)[::-1], "3.png": grey(0, 40, 41)},
    )
    assert read_folder(tmp_path).copies == ()


def test_a_part_with_a_copy_in_one_view_is_left_out_of_all(tmp_path: Path) -> None:
    write(tmp_path / "side", {"0.png": grey(0), "1.png": grey(1), "2.png": grey(1)})
    write(tmp_path / "top", {"0.png": grey(10), "1.png": grey(11), "2.png": grey(12)})
    pictures = read_folder(tmp_path)
    assert pictures.copies == (Copy("side/2.png", "side/1.png"),)
    assert (pictures.parts_count, pictures.pictures_count) == (2, 4)


def test_all_identical(tmp_path: Path) -> None:
    write(tmp_path, {f"{number}.png": grey(0) for number in range(12)})
    (line,) = told(tmp_path)
    assert line.startswith(": got 12 pictures that are all the same, pixel for pixel")


def test_what_was_taught_before_is_not_counted_again(good: Path, tmp_path: Path) -> None:
    pictures = read_folder(good)
    more = write(tmp_path / "more", {"a.png": grey(2), "b.png": grey(50)})
    added = without_known(read_folder(more, frames=pictures.frames), pictures.names_by_pixels)
    assert (names(added), added.copies) == (["b.png"], ())
    assert without_known(pictures, pictures.names_by_pixels).parts_count == 0


def test_a_picture_among_the_good_and_the_defects(good: Path, tmp_path: Path) -> None:
    pictures = read_folder(good)
    defects = write(tmp_path / "defects", {"a.png": grey(60), "b.png": grey(2)})
    with pytest.raises(FaultsError, match=r"b\.png: got the same picture as 02\.png, one of the good parts, expected"):
        expect_apart(read_folder(defects, frames=pictures.frames, needs_all_views=False), pictures.names_by_pixels)


# Refusals.


def test_no_such_folder(tmp_path: Path) -> None:
    assert told(tmp_path / "nowhere") == [": got No such file or directory, expected a folder of pictures"]


def test_a_file_for_a_folder(good: Path) -> None:
    assert told(good / "00.png") == [": got Not a directory, expected a folder of pictures"]


def test_a_folder_that_may_not_be_read(good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything: the refusal is played."""

    def refused(_: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refused)
    assert told(good) == [": got Permission denied, expected a folder of pictures"]


def test_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (line,) = told(tmp_path)
    assert line.startswith(": got no picture in it, expected pictures of parts (.png, ")


def test_an_empty_view(tmp_path: Path) -> None:
    write(tmp_path / "top", {"0.png": grey(0), "1.png": grey(1)})
    (tmp_path / "side").mkdir()
    (line,) = told(tmp_path)
    assert line.startswith("/side: got no picture in it")


def test_pictures_and_sub_folders_side_by_side(good: Path) -> None:
    (good / "old").mkdir()
    (line,) = told(good)
    assert line.startswith(": got pictures and sub-folders side by side ('old'), expected either")


def test_folders_in_views(tmp_path: Path) -> None:
    write(tmp_path / "top", {"0.png": grey(0)})
    write(tmp_path / "top" / "inner", {"0.png": grey(0)})
    write(tmp_path / "deep" / "inner", {"0.png": grey(0)})
    (tmp_path / "notes.txt").write_text("x")
    lines = told(tmp_path)
    assert [line.split(", expected")[0] for line in lines] == [
        "/notes.txt: got a file beside the views' sub-folders",
        "/deep/inner: got a folder inside a view's folder",
        "/top/inner: got a folder inside a view's folder",
    ]


def test_a_view_with_a_name_that_cannot_be_told(tmp_path: Path) -> None:
    write(tmp_path / "a\nb", {"0.png": grey(0)})
    (line,) = told(tmp_path)
    assert "got the name 'a\\nb' for a view" in line


@pytest.mark.parametrize(
    ("name", "got"),
    [
        ("a\nb.png", "control characters in its name"),
        ("\x1b[2Jx.png", "control characters in its name"),
        (os.fsdecode(b"\xff.png"), "bytes that are no UTF-8 in its name"),
    ],
)
def test_a_picture_with_a_name_that_cannot_be_kept(good: Path, name: str, got: str) -> None:
    shutil.copy(good / "00.png", good / name)
    (line,) = told(good)
    assert f": got {got}, expected a name without control characters, in UTF-8: rename it" in line
    assert line.isprintable()


def test_strangers_among_the_pictures_are_refused_all_at_once(good: Path) -> None:
    """Nobody would notice that a picture of a kind that is not read was not taught."""
    for name in ("notes.txt", "part.webp", "no_suffix"):
        (good / name).write_text("x")
    lines = told(good)
    assert [line.split(":")[0] for line in lines] == ["/no_suffix", "/notes.txt", "/part.webp"]
    assert all("got a file that is no picture by its name, expected pictures only (.png" in line for line in lines)


def test_two_files_of_one_name(good: Path) -> None:
    write_image(good / "03.jpg", grey(90))
    (line,) = told(good)
    assert line.startswith("/03.png: got the same name as 03.jpg, expected one picture of a part")


def test_corrupt_pictures_are_told_one_by_one_up_to_a_number(good: Path) -> None:
    for number in range(FAULTS_MAX + 5):
        (good / f"bad{number:02d}.png").write_bytes(b"text, whatever its name says")
    *lines, last = told(good)
    assert [line.split(":")[0] for line in lines] == [f"/bad{number:02d}.png" for number in range(FAULTS_MAX)]
    assert all("a file that is no image, or a damaged one" in line for line in lines)
    assert last.startswith(": got 5 more that cannot be used, 25 in all, expected none")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif"])
def test_pictures_that_were_cut_off(good: Path, suffix: str, share: float) -> None:
    file = write_image(good / f"x{suffix}", grey(50))
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    (line,) = told(good)
    assert line.startswith(f"/x{suffix}: got ")
    assert "expected a whole image" in line


def test_kept_pictures_of_12_bit_are_grey_pictures(good: Path) -> None:
    for number in range(10):
        fine = grey(number).astype(np.uint16) << 8 | 0xF0
        write_image(good / f"{number:02d}.png", fine)  # type: ignore[arg-type]
    pictures = read_folder(good)
    assert pictures.views[0].frame == FrameFormat(60, 40, PixelFormat.MONO8)
    for number, picture in enumerate(pictures.all()):
        assert picture.is_grey
        assert np.array_equal(pictures.read(picture), grey(number))


def test_more_than_8_bit_and_alpha_channels(good: Path) -> None:
    write_image(good / "deep.png", grey(0).astype(np.uint16) << 4)  # type: ignore[arg-type]
    Image.fromarray(colour(0)).convert("RGBA").save(good / "glass.png")
    Image.fromarray(grey(0)).convert("LA").save(good / "glass2.png")
    lines = told(good)
    assert "/deep.png: got 16 bit a channel, all below 4,096" in lines[0]
    assert lines[1].startswith("/glass.png: got colour with an alpha channel")
    assert lines[2].startswith("/glass2.png: got grey with an alpha channel")


def test_links_that_lead_nowhere_or_in_a_circle_and_pipes(good: Path) -> None:
    (good / "circle.png").symlink_to(good / "circle.png")
    (good / "gone.png").symlink_to(good / "nowhere")
    os.mkfifo(good / "pipe.png")
    lines = told(good)
    assert [line.split(",")[0] for line in lines] == [
        "/circle.png: got Too many levels of symbolic links",
        "/gone.png: got No such file or directory",
        "/pipe.png: got a folder",
    ]


def test_names_that_do_not_pair(tmp_path: Path) -> None:
    write(tmp_path / "side", {f"s{number}.png": grey(number) for number in range(3)})
    write(tmp_path / "top", {f"t{number}.png": grey(10 + number) for number in range(3)})
    (line,) = told(tmp_path)
    assert "6 of 6 parts without a picture in every view (part s0 is in side)" in line


def test_a_labelled_set_is_not_taken_for_views(tmp_path: Path) -> None:
    """Its defective parts would be taught as another look at the good ones."""
    write(tmp_path / "good", {f"{number}.png": grey(number) for number in range(4)})
    write(tmp_path / "bad", {f"{number}.png": grey(9 + number) for number in range(4)})
    lines = told(tmp_path)
    assert [line.partition(":")[0] for line in lines] == ["/bad", "/good"]
    assert "are its pictures good ones?" in lines[0]


def test_parts_that_are_not_good_after_all_are_left_out(tmp_path: Path) -> None:
    for view in ("left", "right"):
        write(tmp_path / view, {f"{number}.png": grey(2 * number + (view == "left")) for number in range(4)})
    found = read_folder(tmp_path)
    fewer = without_parts(found, ["1", "right/3.png"])
    assert [[picture.part_name for picture in view.pictures] for view in fewer.views] == [["0", "2"]] * 2
    assert fewer.left_out == ("part 1: by --without", "part 3: by --without")
    assert without_parts(found, []) == found
    with pytest.raises(FaultsError, match=r"--without: got 'top/1\.png', expected the name of a picture or part"):
        without_parts(found, ["1", "top/1.png"])
    with pytest.raises(FaultsError, match="all 4 parts"):
        without_parts(found, ["0", "1", "2", "3"])


def test_views_other_than_those_of_the_good_parts(good: Path, tmp_path: Path) -> None:
    frames = read_folder(good).frames
    write(tmp_path / "defects" / "scratch", {"0.png": grey(0)})
    # The only view, whatever its folder is called.
    assert list(read_folder(tmp_path / "defects", frames=frames).frames) == [""]
    write(tmp_path / "defects" / "stain", {"0.png": grey(1)})
    (line,) = told(tmp_path / "defects", frames=frames)
    assert line == (
        ": got the sub-folders scratch, stain, expected pictures directly in it, as the good parts of one view are"
    )
    frame = FrameFormat(60, 40, PixelFormat.MONO8)
    (line,) = told(good, frames={"side": frame, "top": frame})
    assert "expected a sub-folder for each view, called as those of the good parts: side, top" in line


def test_pictures_unlike_the_good_ones(tmp_path: Path) -> None:
    folder = write(tmp_path / "more", {"0.png": colour(0), "1.png": grey(1), "2.png": grey(2, 80, 120)})
    frame = FrameFormat(60, 40, PixelFormat.MONO8)
    lines = told(folder, frames={"": frame})
    assert lines[0].startswith("/0.png: got a picture in colour, expected a grey one, as the good parts")
    assert lines[1].startswith("/2.png: got 120x80 pixels, expected 60x40")
    lines = told(folder, frames={"": FrameFormat(60, 40, PixelFormat.BGR8)})
    assert lines[0].startswith("/1.png: got a grey picture, expected one in colour, as the good parts")


# What happens meanwhile.


def test_a_picture_that_is_changed_meanwhile(good: Path) -> None:
    pictures = read_folder(good)
    picture = pictures.views[0].pictures[0]
    write_image(picture.path, grey(99))
    with pytest.raises(FaultsError, match=r"00\.png: got another content than before, expected what it held when"):
        pictures.read(picture)
    picture.path.unlink()
    with pytest.raises(
        FaultsError, match=r"00\.png: got No such file or directory, expected the picture that was there"
    ):
        pictures.read(picture)


def test_a_picture_that_vanishes_while_the_folder_is_looked_at(good: Path) -> None:
    (line,) = told(good, looked=lambda: (good / "05.png").unlink(missing_ok=True))
    assert line.startswith("/05.png: got No such file or directory")


def test_memory_is_that_of_a_few_pictures(tmp_path: Path) -> None:
    """Whatever their number: 40 pictures of 1 MB."""
    size_bytes, count = 1_000 * 1_000, 40
    write(tmp_path, {f"{number:02d}.bmp": grey(number, 1_000, 1_000) for number in range(count)})
    tracemalloc.start()
    pictures = read_folder(tmp_path)
    for picture in pictures.all():
        pictures.read(picture)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert pictures.parts_count == count
    assert peak_bytes < 8 * size_bytes


def flat(level: int) -> Pixels:
    return np.full((40, 60), level, np.uint8)


def test_pictures_that_show_nothing_are_refused_where_they_are_most(good: Path, tmp_path: Path) -> None:
    folder = write(tmp_path / "flat", {f"{number}.png": flat(100 + number) for number in range(9)})
    pictures = read_folder(folder)
    assert all(picture.is_flat for picture in pictures.all())
    with pytest.raises(FaultsError, match=r"9 of 9 pictures all of whose pixels are alike, as 0\.png"):
        expect_content(pictures)
    write(folder, {f"some{number}.png": grey(number) for number in range(9)})
    expect_content(read_folder(folder))
    assert not any(picture.is_flat for picture in read_folder(good).all())


def test_one_pixel_is_something() -> None:
    one = flat(9)
    one[21, 33] = 10
    assert is_flat(flat(9))
    assert not is_flat(one)
    assert is_flat(np.full((40, 60, 3), (1, 2, 3), np.uint8))
