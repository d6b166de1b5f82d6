"""Small labelled data sets in every layout, written as the tools that have them as exports write them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import numpy.typing as npt
import yaml

Box = tuple[str, float, float, float, float]
"""Class, x1, y1, x2, y2 in pixels."""
Labelled = Mapping[str, tuple[npt.NDArray[np.uint8], Sequence[Box]]]
"""By file name: the picture and its objects."""


def write_image(file: Path, pixels: npt.NDArray[np.uint8]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), pixels)
    return file


def write_folders(folder: Path, images: Mapping[str, Mapping[str, npt.NDArray[np.uint8]]]) -> Path:
    """By class, by name."""
    for of_class, named in images.items():
        for name, pixels in named.items():
            write_image(folder / of_class / name, pixels)
    return folder


def write_mvtec(
    folder: Path,
    images: Mapping[str, Mapping[str, npt.NDArray[np.uint8]]],
    masks: Mapping[str, Mapping[str, npt.NDArray[np.uint8]]],
) -> Path:
    """By kind, ``good`` among them, by name; masks by the same."""
    write_folders(folder / "test", images)
    write_image(folder / "train" / "good" / "000.png", next(iter(images["good"].values())))
    for kind, named in masks.items():
        for name, mask in named.items():
            write_image(folder / "ground_truth" / kind / f"{Path(name).stem}_mask.png", mask)
    return folder


def write_yolo(folder: Path, labelled: Labelled, names: Sequence[str], *, split: str = "val") -> Path:
    for name, (pixels, boxes) in labelled.items():
        write_image(folder / "images" / split / name, pixels)
        height, width = pixels.shape[:2]
        lines = [
            f"{names.index(of)} {(x1 + x2) / 2 / width} {(y1 + y2) / 2 / height} {(x2 - x1) / width} {(y2 - y1) / height}"
            for of, x1, y1, x2, y2 in boxes
        ]
        if lines:
            labels = folder / "labels" / split / f"{Path(name).stem}.txt"
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text("\n".join(lines))
    content = {"path": ".", split: f"images/{split}", "names": dict(enumerate(names))}
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    return folder


def write_coco(folder: Path, labelled: Labelled, names: Sequence[str]) -> Path:
    annotations: list[dict[str, Any]] = []
    images = []
    for image_id, (name, (pixels, boxes)) in enumerate(labelled.items(), 7):
        write_image(folder / "images" / name, pixels)
        height, width = pixels.shape[:2]
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for of, x1, y1, x2, y2 in boxes:
            box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
            annotations.append(
                {"id": len(annotations), "image_id": image_id, "category_id": 10 + names.index(of), **box}
            )
    content = {
        "info": {"description": "made up"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 10 + at, "name": name, "supercategory": "none"} for at, name in enumerate(names)],
    }
    (folder / "annotations").mkdir(parents=True)
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return folder


def write_voc(folder: Path, labelled: Labelled) -> Path:
    for name, (pixels, boxes) in labelled.items():
        write_image(folder / "JPEGImages" / name, pixels)
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = name
        size = ElementTree.SubElement(root, "size")
        for side, value in (("width", pixels.shape[1]), ("height", pixels.shape[0])):
            ElementTree.SubElement(size, side).text = str(value)
        for of, x1, y1, x2, y2 in boxes:
            element = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(element, "name").text = of
            ElementTree.SubElement(element, "difficult").text = "0"
            corners = ElementTree.SubElement(element, "bndbox")
            # Pixels from 1 on, the last ones included.
            for corner, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
                ElementTree.SubElement(corners, corner).text = f"{value:g}"
        annotations = folder / "Annotations" / f"{Path(name).stem}.xml"
        annotations.parent.mkdir(parents=True, exist_ok=True)
        ElementTree.ElementTree(root).write(annotations)
    return folder
