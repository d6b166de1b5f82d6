"""Labelled data sets: what is read of each layout, and what is said of those that are not as they should be."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

from pipeline.evaluation.data import Sample, TrueBox
from pipeline.evaluation.layouts import find_layout, read_data_set
from tests.labelled import Labelled, write_coco, write_folders, write_image, write_mvtec, write_voc, write_yolo
from vision.faults import FaultsError
from vision.preprocess import FrameFormat
from vision.types import PixelFormat

GREY = np.full((40, 60), 90, np.uint8)
COLOUR = np.dstack([np.full((30, 20), level, np.uint8) for level in (10, 120, 240)])
NAMES = ["scratch", "dent"]
LABELLED: Labelled = {
    "a.png": (GREY, [("dent", 2, 4, 12, 14), ("scratch", 30, 0, 60, 40)]),
    "b.png": (COLOUR, [("scratch", 5, 5, 10, 25)]),
    "c.png": (GREY, []),
}


def fault(folder: Path, **options: Any) -> str:
    with pytest.raises(FaultsError) as caught:
        read_data_set(folder, **options)
    return str(caught.value)


def boxes_of(samples: tuple[Sample, ...]) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    return {
        Path(sample.name).name: sorted(
            (box.class_name, tuple(round(side, 6) for side in box.box_px)) for box in sample.boxes or ()
        )
        for sample in samples
    }


def of_labelled() -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    return {
        name: sorted((of, tuple(map(float, sides))) for of, *sides in boxes) for name, (_, boxes) in LABELLED.items()
    }


@pytest.mark.parametrize(
    ("layout", "write"),
    [
        ("yolo", lambda folder: write_yolo(folder, LABELLED, NAMES)),
        ("coco", lambda folder: write_coco(folder, LABELLED, NAMES)),
        ("voc", lambda folder: write_voc(folder, LABELLED)),
    ],
)
def test_every_layout_of_boxes_tells_the_same(tmp_path: Path, layout: str, write: Callable[[Path], Path]) -> None:
    looked = []
    data_set = read_data_set(write(tmp_path / "data"), looked=lambda: looked.append(1))
    assert data_set.layout == layout
    assert boxes_of(data_set.samples) == of_labelled()
    formats = [sample.facts.format for sample in data_set.samples]
    assert formats == [
        FrameFormat(60, 40, PixelFormat.MONO8),
        FrameFormat(20, 30, PixelFormat.BGR8),
        FrameFormat(60, 40, PixelFormat.MONO8),
    ]
    assert len(looked) == 3
    assert data_set.has_boxes
    assert all(sample.class_name is None for sample in data_set.samples)


def test_folders_are_classes(tmp_path: Path) -> None:
    write_folders(tmp_path, {"bad": {"2.png": GREY, "1.bmp": GREY}, "good": {"1.jpg": GREY}, "empty": {}})
    (tmp_path / "bad" / "notes.txt").write_text("no image")
    data_set = read_data_set(tmp_path)
    assert data_set.layout == "folders"
    assert [(sample.name, sample.class_name, sample.boxes) for sample in data_set.samples] == [
        ("bad/1.bmp", "bad", None),
        ("bad/2.png", "bad", None),
        ("good/1.jpg", "good", None),
    ]


def test_a_part_of_several_has_to_be_named(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_folders(tmp_path / split, {"bad": {f"{split}.png": GREY}})
    assert "several parts: test, train" in fault(tmp_path)
    assert "--split" in fault(tmp_path)
    assert "--split val, expected one of: test, train" in fault(tmp_path, split="val")
    data_set = read_data_set(tmp_path, split="test")
    assert [sample.name for sample in data_set.samples] == ["test/bad/test.png"]
    assert data_set.split == "test"


def test_a_part_of_a_set_without_parts_is_refused(tmp_path: Path) -> None:
    write_folders(tmp_path, {"bad": {"1.png": GREY}})
    assert "--split test, expected no --split" in fault(tmp_path, split="test")


def test_mvtec_measures_what_was_not_trained_on(tmp_path: Path) -> None:
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 10:20] = 255
    images = {"good": {"000.png": GREY}, "crack": {"000.png": GREY, "001.png": GREY}}
    write_mvtec(tmp_path, images, {"crack": {"000.png": mask, "001.png": mask}})
    data_set = read_data_set(tmp_path)
    assert (data_set.layout, data_set.split, data_set.has_masks) == ("mvtec", "test", True)
    assert [(sample.name, sample.class_name) for sample in data_set.samples] == [
        ("test/crack/000.png", "crack"),
        ("test/crack/001.png", "crack"),
        ("test/good/000.png", "good"),
    ]
    assert data_set.samples[0].mask == tmp_path / "ground_truth" / "crack" / "000_mask.png"
    assert data_set.samples[2].mask is None


def test_mvtec_masks_are_there_and_fit(tmp_path: Path) -> None:
    images = {"good": {"000.png": GREY}, "crack": {"000.png": GREY, "001.png": GREY}}
    write_mvtec(tmp_path, images, {"crack": {"000.png": np.zeros((40, 50), np.uint8)}})
    told = fault(tmp_path)
    assert re.search(r"000_mask.png: got 50x40 pixels, expected 60x40, as test/crack/000.png has", told)
    assert re.search(r"001_mask.png: got no such file, expected the mask of test/crack/001.png", told)


def test_a_mask_that_marks_nothing_is_none(tmp_path: Path) -> None:
    write_mvtec(tmp_path, {"good": {"0.png": GREY}, "crack": {"0.png": GREY}}, {"crack": {"0.png": GREY * 0}})
    assert "0_mask.png: got a mask that marks no pixel, expected the defect of test/crack/0.png" in fault(tmp_path)


@pytest.mark.parametrize("name", ["x.txt", "a.TXT"])
def test_yolo_labels_of_no_image_are_told(tmp_path: Path, name: str) -> None:
    """Else the image they were meant for would count as one without objects."""
    folder = write_yolo(tmp_path, LABELLED, NAMES)
    (labels,) = folder.rglob("a.txt")
    labels.rename(labels.with_name(name))
    assert f"{name}: got labels of no image" in fault(folder)


def test_voc_images_without_a_file_of_their_own_are_told(tmp_path: Path) -> None:
    """Whether such an image is good or was never labelled, nobody says."""
    write_voc(tmp_path, LABELLED)
    (tmp_path / "Annotations" / "c.xml").unlink()
    told = fault(tmp_path)
    assert "c.png: got an image without an annotation, expected" in told
    assert "c.xml, without an object in it where the image is good" in told


def test_marks_of_two_layouts_have_to_be_told_apart(tmp_path: Path) -> None:
    write_yolo(tmp_path, LABELLED, NAMES)
    write_coco(tmp_path, LABELLED, NAMES)
    told = fault(tmp_path)
    assert "marks of several layouts: yolo, coco" in told
    assert "--layout yolo|coco" in told
    assert read_data_set(tmp_path, layout="coco").layout == "coco"


@pytest.mark.parametrize("kind", ["empty", "missing", "file", "other"])
def test_a_folder_without_labelled_images_is_refused(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "data"
    if kind == "file":
        folder.write_text("")
    elif kind != "missing":
        folder.mkdir()
    if kind == "other":
        write_image(folder / "unlabelled.png", GREY)
    with pytest.raises(FaultsError, match="expected"):
        find_layout(folder)
    for layout in ("mvtec", "yolo", "coco", "voc", "folders"):
        assert str(folder) in fault(folder, layout=layout)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("2 0.5 0.5 0.1 0.1", "line 1: got class 2, expected 0 to 1: there are 2 names"),
        ("0 0.95 0.5 0.2 0.1", "expected a box with an area inside the image of 60x40 pixels"),
        ("0 0.5 0.5 0 0.1", "a box with an area inside"),
        ("0 30 20 10 10", "inside the image"),
        ("0 0.5 0.5 0.1", "expected a class's number and x y width height"),
        ("0 0.5 0.5 0.1 0.1 0.9", "expected a class's number"),
        ("0 nan 0.5 0.1 0.1", "expected a class's number"),
        ("dent 0.5 0.5 0.1 0.1", "expected a class's number"),
    ],
)
def test_yolo_labels_that_cannot_be(tmp_path: Path, line: str, expected: str) -> None:
    write_yolo(tmp_path, LABELLED, NAMES)
    (tmp_path / "labels" / "val" / "c.txt").write_text(line)
    told = fault(tmp_path)
    assert expected in told
    assert "labels/val/c.txt: line 1: got" in told


def test_yolo_polygons_are_boxes_with_an_area_of_their_own(tmp_path: Path) -> None:
    write_yolo(tmp_path, LABELLED, NAMES)
    triangle = "1 0.1 0.1 0.5 0.1 0.1 0.6"
    (tmp_path / "labels" / "val" / "c.txt").write_text(f"{triangle}\n\n{triangle}\n")
    (box,) = read_data_set(tmp_path).samples[2].boxes or ()
    assert box.class_name == "dent"
    assert box.box_px == pytest.approx((6, 4, 30, 24))
    assert box.area_px == pytest.approx(24 * 20 / 2)


def test_yolo_names_may_stand_in_a_text_file(tmp_path: Path) -> None:
    write_yolo(tmp_path, LABELLED, NAMES)
    (tmp_path / "data.yaml").unlink()
    assert "numbers of classes without names" in fault(tmp_path)
    (tmp_path / "classes.txt").write_text("scratch\ndent\n")
    assert boxes_of(read_data_set(tmp_path).samples) == of_labelled()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"names": ["scratch"]}, "expected 0 to 0: there are 1 names"),
        ({"nc": 3}, "nc: got 3, expected 2, as there are names"),
        ({"names": {0: "scratch", 2: "dent"}}, "names: got 2 of mapping, expected the classes' names"),
        ({"names": ["dent", "dent"]}, "expected every name once"),
        ({"val": "../../elsewhere"}, "expected a folder of images inside"),
        ({"val": 7}, "val: got 7, expected a folder of images"),
        ({"test": "images/val"}, "several parts: test, val"),
    ],
)
def test_yolo_yaml_that_does_not_fit(tmp_path: Path, changes: dict[str, Any], expected: str) -> None:
    write_yolo(tmp_path / "data", LABELLED, NAMES)
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "data" / "data.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **changes}))
    assert expected in fault(tmp_path / "data")


def test_yolo_without_any_labels_is_not_a_set_of_good_images(tmp_path: Path) -> None:
    write_yolo(tmp_path, {"c.png": (GREY, [])}, NAMES)
    assert "no file of labels for any image" in fault(tmp_path)


def test_yolo_parts_may_be_lists_of_files(tmp_path: Path) -> None:
    write_yolo(tmp_path, LABELLED, NAMES)
    (tmp_path / "some.txt").write_text("./images/val/b.png\nimages/val/a.png\n")
    content = {"test": "some.txt", "train": "images/val", "names": NAMES}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content))
    data_set = read_data_set(tmp_path)
    assert (data_set.split, [sample.name for sample in data_set.samples]) == (
        "test",
        ["images/val/a.png", "images/val/b.png"],
    )
    (tmp_path / "some.txt").write_text("images/val/a.png\n../../secret.png\n")
    assert "some.txt: line 2: got" in fault(tmp_path)


def coco(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    write_coco(folder, LABELLED, NAMES)
    file = folder / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: c["annotations"][0].update(bbox=[50, 0, 20, 10]), "annotations.0.bbox: got [50.0, 0.0, 20.0, 10.0]"),
        (lambda c: c["annotations"][0].update(bbox=[5, 5, 0, 10]), "annotations.0.bbox"),
        (lambda c: c["annotations"][1].update(category_id=99), "annotations.1.category_id: got 99"),
        (lambda c: c["annotations"][1].update(image_id=99), "annotations.1.image_id: got 99"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2, 3]), "$.annotations[1].bbox"),
        (lambda c: c["images"][0].update(width=61), "images.0.width: got 61, expected 60, as images/a.png has"),
        (lambda c: c["images"][1].update(file_name="nothing.png"), "images.1.file_name: got 'nothing.png'"),
        (lambda c: c["images"][1].update(file_name="../../secret.png"), "leads out of the data folder"),
        (lambda c: c["images"][1].update(file_name="/etc/hostname"), "leads out of the data folder"),
        (lambda c: c["images"][1].update(file_name="a\0b.png"), "leads nowhere"),
        (
            lambda c: c["images"][1].update(file_name="a.png"),
            "images.1.file_name: got 'a.png', expected every file once",
        ),
        (lambda c: c["images"][1].update(id=7), "images: got an id twice"),
        (lambda c: c["categories"].append({"id": 10, "name": "dust"}), "categories: got an id twice"),
        (lambda c: c["categories"].append({"id": "10"}), "JSON in the form of COCO"),
    ],
)
def test_coco_that_cannot_be(tmp_path: Path, change: Callable[[dict[str, Any]], None], expected: str) -> None:
    write_image(tmp_path / "secret.png", GREY)
    told = fault(coco(tmp_path / "data", change))
    assert expected in told
    assert "instances_val.json" in told


def test_coco_that_is_no_json(tmp_path: Path) -> None:
    file = coco(tmp_path, lambda c: None) / "annotations" / "instances_val.json"
    for text in (file.read_text()[:-9], '{"images": ' + "[" * 100_000 + '"categories"'):
        file.write_text(text)
        assert "expected JSON in the form of COCO" in fault(tmp_path)


def test_coco_crowds_and_parts(tmp_path: Path) -> None:
    coco(tmp_path, lambda c: c["annotations"][0].update(iscrowd=1))
    (box, _) = read_data_set(tmp_path).samples[0].boxes or ()
    assert box == TrueBox("dent", (2.0, 4.0, 12.0, 14.0), 100.0, "crowd")
    first = tmp_path / "annotations" / "instances_val.json"
    (tmp_path / "annotations" / "instances_train.json").write_text(first.read_text())
    assert "several parts: train, val" in fault(tmp_path)
    assert read_data_set(tmp_path, split="val").split == "val"


def test_coco_in_a_folder_for_each_part(tmp_path: Path) -> None:
    coco(tmp_path / "made", lambda c: None)
    for split in ("test", "valid"):
        for name, (pixels, _) in LABELLED.items():
            write_image(tmp_path / "data" / split / name, pixels)
        content = (tmp_path / "made" / "annotations" / "instances_val.json").read_text()
        (tmp_path / "data" / split / "_annotations.coco.json").write_text(content)
    data_set = read_data_set(tmp_path / "data", split="valid")
    assert [sample.name for sample in data_set.samples] == ["valid/a.png", "valid/b.png", "valid/c.png"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("<xmax>12</xmax>", "<xmax>62</xmax>", "annotation.object.0.bndbox: got '3, 5, 62, 14'"),
        ("<xmax>12</xmax>", "<xmax>3.5</xmax>", None),
        ("<xmax>12</xmax>", "<xmax>2</xmax>", "annotation.object.0.bndbox"),
        ("<xmax>12</xmax>", "<xmax>inf</xmax>", "annotation.object.0.bndbox"),
        ("<xmax>12</xmax>", "", "annotation.object.0.bndbox"),
        ("<name>dent</name>", "<name> </name>", "annotation.object.0.name: got nothing"),
        ("<width>60</width>", "<width>61</width>", "annotation.size.width: got '61', expected 60, as a.png has"),
        ("<filename>a.png</filename>", "<filename>../../secret.png</filename>", "leads out of the data folder"),
        ("<filename>a.png</filename>", "<filename>/etc/hostname</filename>", "leads out of the data folder"),
        ("<filename>a.png</filename>", "<filename>x.png</filename>", "annotation.filename: got 'x.png'"),
        ("<filename>a.png</filename>", "", "annotation.filename: got nothing"),
        ("</annotation>", "", "no plain XML"),
        ("<annotation>", "<!DOCTYPE annotation><annotation>", "no plain XML (a document type)"),
        ("<annotation>", '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/hostname">]><annotation>', "(a document type)"),
        ("<annotation>", "<annotation>" + "<a>" * 50_000, "too deep, or too many elements"),
    ],
)
def test_voc_that_cannot_be(tmp_path: Path, old: str, new: str, expected: str | None) -> None:
    write_image(tmp_path / "secret.png", GREY)
    write_voc(tmp_path / "data", LABELLED)
    file = tmp_path / "data" / "Annotations" / "a.xml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    if expected is None:
        assert read_data_set(tmp_path / "data").samples
    else:
        told = fault(tmp_path / "data")
        assert expected in told
        assert "a.xml" in told


def test_voc_parts_and_difficult_objects(tmp_path: Path) -> None:
    write_voc(tmp_path, LABELLED)
    file = tmp_path / "Annotations" / "b.xml"
    file.write_text(file.read_text().replace("<difficult>0", "<difficult>1"))
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "test.txt").write_text("b\n")
    (lists / "scratch_test.txt").write_text("b  1\n")
    data_set = read_data_set(tmp_path)
    assert data_set.split == "test"
    (sample,) = data_set.samples
    assert sample.boxes == (TrueBox("scratch", (5.0, 5.0, 10.0, 25.0), 100.0, "difficult"),)
    (lists / "train.txt").write_text("a\n../../../secret\n")
    assert "several parts: test, train" in fault(tmp_path)
    assert "leads out of the data folder" in fault(tmp_path, split="train")


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    secret = write_image(tmp_path / "secret.png", GREY)
    write_folders(tmp_path / "data", {"bad": {"1.png": GREY}})
    (tmp_path / "data" / "bad" / "2.png").symlink_to(secret)
    assert "leads out of the data folder" in fault(tmp_path / "data")


def test_a_set_of_wrong_labels_is_not_read_to_its_end(tmp_path: Path) -> None:
    labelled: Labelled = {f"{at:03d}.png": (GREY, [("scratch", 0, 0, 9, 9)]) for at in range(60)}
    write_yolo(tmp_path, labelled, NAMES)
    for file in (tmp_path / "labels" / "val").iterdir():
        file.write_text("9 0.5 0.5 0.1 0.1")
    assert len(fault(tmp_path).splitlines()) == 20


def test_the_hash_is_of_images_and_labels(tmp_path: Path) -> None:
    write_yolo(tmp_path, LABELLED, NAMES)
    first = read_data_set(tmp_path).sha256()
    assert read_data_set(tmp_path).sha256() == first
    labels = tmp_path / "labels" / "val" / "b.txt"
    told = labels.read_text()
    labels.write_text(told.replace("0 ", "1 ", 1))
    assert read_data_set(tmp_path).sha256() != first
    labels.write_text(told)
    assert cv2.imwrite(str(tmp_path / "images" / "val" / "b.png"), COLOUR + 1)
    assert read_data_set(tmp_path).sha256() != first


@pytest.mark.parametrize("name", ["x.yaml", "x.yml", "x.json", "classes.txt", "bad/x.json", "bad/2.png"])
def test_pipes_are_not_waited_for(tmp_path: Path, name: str) -> None:
    write_folders(tmp_path, {"bad": {"1.png": GREY}})
    os.mkfifo(tmp_path / name)
    data_set = read_data_set(tmp_path)
    assert (data_set.layout, [sample.name for sample in data_set.samples]) == ("folders", ["bad/1.png"])


def test_pipes_that_a_label_file_names_are_faults(tmp_path: Path) -> None:
    write_yolo(tmp_path / "yolo", LABELLED, NAMES)
    os.mkfifo(tmp_path / "yolo" / "some.txt")
    (tmp_path / "yolo" / "data.yaml").write_text(yaml.safe_dump({"test": "some.txt", "names": NAMES}))
    assert "some.txt: got a folder, a pipe or a device" in fault(tmp_path / "yolo")
    (tmp_path / "yolo" / "some.txt").unlink()
    (tmp_path / "yolo" / "some.txt").write_text("pipe.png\n")
    os.mkfifo(tmp_path / "yolo" / "pipe.png")
    assert "pipe.png: got a folder, a pipe or a device" in fault(tmp_path / "yolo")
    write_voc(tmp_path / "voc", LABELLED)
    os.mkfifo(tmp_path / "voc" / "Annotations" / "d.xml")
    assert "d.xml: got a folder, a pipe or a device" in fault(tmp_path / "voc")


def test_label_files_that_are_links_out_of_the_folder_are_not_read(tmp_path: Path) -> None:
    """Not even to see what they are."""
    write_yolo(tmp_path / "yolo", LABELLED, NAMES)
    write_coco(tmp_path / "coco", LABELLED, NAMES)
    for file in (tmp_path / "yolo" / "data.yaml", tmp_path / "coco" / "annotations" / "instances_val.json"):
        file.rename(tmp_path / file.name)
        file.symlink_to(tmp_path / file.name)
    assert "data.yaml: got" in (told := fault(tmp_path / "yolo"))
    assert "leads out of the data folder" in told
    assert "no JSON file of images, annotations and categories" in fault(tmp_path / "coco", layout="coco")
    with pytest.raises(FaultsError, match="no labelled images"):
        find_layout(tmp_path / "coco" / "annotations")


@pytest.mark.parametrize("has_list", [False, True])
@pytest.mark.parametrize("given", ["data", "link"])
@pytest.mark.parametrize("deeper", ["", "images"])
def test_yolo_paths_may_reach_the_folder_through_a_link(
    tmp_path: Path, has_list: bool, given: str, deeper: str
) -> None:
    data = write_yolo(tmp_path / "data", LABELLED, NAMES)
    (tmp_path / "link").symlink_to(data)
    (tmp_path / "deep").symlink_to(data / deeper)
    named = tmp_path / "deep" / ("val" if deeper else "images/val")
    content = {"path": str(tmp_path / "deep"), "val": str(named), "names": NAMES}
    if has_list:
        (data / "val.txt").write_text("".join(f"{named}/{name}\n" for name in LABELLED))
        content = {"val": "val.txt", "names": NAMES}
    (data / "data.yaml").write_text(yaml.safe_dump(content))
    data_set = read_data_set(tmp_path / given)
    assert [sample.name for sample in data_set.samples] == [f"images/val/{name}" for name in LABELLED]
    assert boxes_of(data_set.samples) == of_labelled()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "crack/kind1/0.png",
            r"crack/kind1: got images below crack, itself a folder of one class, expected them in \S+crack",
        ),
        ("good/more/0.png", r"good/more: got images below good"),
        ("crack/kinds/kind1/0.png", r"crack: got other files or folders, and no image, expected images \(\.png"),
        ("crack/0.webp", "crack: got other files or folders, and no image"),
        ("bent/1.webp", r"bent/1.webp: got an image of a kind that is not read, expected one of \.png"),
    ],
)
@pytest.mark.parametrize("layout", ["folders", "mvtec"])
def test_images_of_a_class_are_not_left_aside_in_silence(tmp_path: Path, name: str, expected: str, layout: str) -> None:
    images = {"good": {"0.png": GREY}, "bent": {"0.png": GREY}}
    folder = write_mvtec(tmp_path, images, {}) / "test" if layout == "mvtec" else write_folders(tmp_path, images)
    (folder / "empty").mkdir()
    (folder / "hidden").mkdir()
    (folder / "hidden" / ".keep").touch()
    assert len(read_data_set(tmp_path, layout=layout).samples) == 2
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"not looked at")
    assert re.search(expected, fault(tmp_path, layout=layout))


def test_an_image_is_measured_once(tmp_path: Path) -> None:
    expected = "got the same image twice, as "
    write_yolo(tmp_path / "yolo", LABELLED, NAMES)
    (tmp_path / "yolo" / "data.yaml").write_text(yaml.safe_dump({"val": "val.txt", "names": NAMES}))
    a = "images/val/a.png"
    (tmp_path / "yolo" / "val.txt").write_text(f"{a}\n{a}\n./{a}\nimages/../{a}\n{tmp_path / 'yolo' / a}\n")
    assert fault(tmp_path / "yolo").count(expected) == 4
    (tmp_path / "yolo" / "val.txt").write_text(f"{a}\n")
    assert len(read_data_set(tmp_path / "yolo").samples) == 1

    write_voc(tmp_path / "voc", LABELLED)
    file = tmp_path / "voc" / "Annotations" / "b.xml"
    (tmp_path / "voc" / "Annotations" / "d.xml").write_text(file.read_text())
    assert f"{expected}JPEGImages/b.png and JPEGImages/b.png" in fault(tmp_path / "voc")

    write_folders(tmp_path / "folders", {"bad": {"0.png": GREY}, "good": {"1.png": GREY}})
    (tmp_path / "folders" / "good" / "0.png").symlink_to(tmp_path / "folders" / "bad" / "0.png")
    assert f"{expected}bad/0.png and good/0.png" in fault(tmp_path / "folders")


@pytest.mark.parametrize("layout", [None, "mvtec", "yolo", "coco", "voc", "folders"])
def test_a_folder_that_cannot_be_looked_into_is_a_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str | None
) -> None:
    assert "a" * 300 in fault(tmp_path / ("a" * 300), layout=layout)
    write_folders(tmp_path / "data", {"bad": {"0.png": GREY}})

    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "is_dir", refuse)
    assert "got Permission denied, expected a readable file or folder" in fault(tmp_path / "data", layout=layout)


@pytest.mark.parametrize(("area", "expected"), [(0, 100.0), (-1.5, 100.0), (None, 100.0), (0.25, 0.25)])
def test_coco_without_an_area_has_that_of_the_box(tmp_path: Path, area: float | None, expected: float) -> None:
    coco(tmp_path, lambda c: c["annotations"][0].update(area=area))
    assert next(iter(read_data_set(tmp_path).samples[0].boxes or ())).area_px == expected


@pytest.mark.parametrize("layout", ["folders", "yolo", "yolo without parts", "coco", "coco in folders", "voc"])
def test_what_a_model_is_fitted_to_is_measured_only_where_it_is_asked_for(tmp_path: Path, layout: str) -> None:
    if layout == "folders":
        write_folders(tmp_path / "train", {"bad": {"0.png": GREY}})
    elif layout.startswith("yolo"):
        write_yolo(tmp_path, LABELLED, NAMES, split="train")
        if layout != "yolo":
            (tmp_path / "data.yaml").write_text(yaml.safe_dump({"names": NAMES}))
    elif layout.startswith("coco"):
        write_coco(tmp_path, LABELLED, NAMES)
        file = tmp_path / "annotations" / "instances_val.json"
        if layout == "coco":
            file.rename(file.with_name("instances_train.json"))
        else:
            (tmp_path / "images").rename(tmp_path / "train")
            file.rename(tmp_path / "train" / "_annotations.coco.json")
    else:
        write_voc(tmp_path, LABELLED)
        (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
        (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    assert "got only the part train, expected --split train where that is meant" in fault(tmp_path)
    data_set = read_data_set(tmp_path, split="train")
    assert data_set.split == "train"
    assert data_set.samples
