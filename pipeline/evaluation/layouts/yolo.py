"""YOLO: a text file of labels for each image: ``class x y width height`` or ``class x1 y1 x2 y2 x3 y3 ...``, shares of its size.

Where the files lie is as Ultralytics documents it (docs.ultralytics.com/datasets/detect): the labels of ``.../images/a.png`` are
``.../labels/a.txt``, or ``a.txt`` beside it where no folder is called ``images``; an image without that file has no objects.
``data.yaml`` has the names and where the images of each part are. Without it ``classes.txt`` has the names, one a line.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from pipeline.evaluation.data import BoxPx, Sample, TrueBox, clipped, polygon_area_px
from pipeline.evaluation.image_check import images_in, is_image_name
from pipeline.evaluation.layouts.reading import Reading, folders_in, is_own_file, own_files
from vision.faults import quote
from vision.preprocess import FrameFormat

_SPLITS = ("train", "val", "test")
_YAML_BYTES_MAX = 1 << 20
_CLASSES_NAME = "classes.txt"
_NOT_LABELS = (_CLASSES_NAME, "train.txt", "val.txt", "test.txt")


def is_here(folder: Path) -> bool:
    """A YAML file of that form, a ``classes.txt``, or text files in ``labels``."""
    if _yaml_files(folder) or _classes_file(folder) is not None:
        return True
    labels = folder / "labels"
    return labels.is_dir() and (folder / "images").is_dir() and next(labels.rglob("*.txt"), None) is not None


def read(folder: Path, reading: Reading) -> list[Sample]:
    """Boxes with the names' classes; polygons as the boxes around them, with their own area."""
    found = _yaml_files(folder)
    if len(found) > 1:
        names_told = ", ".join(path.name for path in found)
        reading.faults.add(folder, "", f"several files of names: {names_told}", "one data.yaml")
        return []
    if found:
        content = _load(found[0])
        names = _names(found[0], content, reading)
        has_parts = any(content.get(split) for split in _SPLITS)
        images = _images_of_split(found[0], content, reading) if has_parts else _images_of_folders(folder, reading)
    else:
        names = _names_of_lines(folder, reading)
        images = _images_of_folders(folder, reading)
    reading.faults.settle()
    samples, label_count = [], 0
    for image in images:
        facts = reading.look(image)
        if facts is None:
            continue
        labels = _labels_of(image, reading.root)
        boxes: tuple[TrueBox, ...] = ()
        if labels.is_file():
            label_count += 1
            # The same line twice is one object labelled twice, as it happens when sets are merged.
            boxes = tuple(dict.fromkeys(_boxes(labels, names, facts.format, reading)))
        samples.append(Sample(image, reading.name_of(image), facts, boxes=boxes))
    _expect_images(images, reading)
    if samples and not label_count:
        expected = f"some: those of {samples[0].name} would be {_labels_of(samples[0].image, reading.root)}"
        reading.faults.add(folder, "", "no file of labels for any image", expected)
    return samples


def _expect_images(images: Sequence[Path], reading: Reading) -> None:
    """Labels in a folder of their own that belong to no image are of a misspelt or missing one, and would not count."""
    folders = {image.parent: _labels_of(image, reading.root).parent for image in images}
    for of_images, of_labels in folders.items():
        if of_labels == of_images or not of_labels.is_dir():
            continue
        labels = {_labels_of(image, reading.root) for image in images_in(of_images)}
        for file in sorted(of_labels.iterdir()):
            if file.suffix.lower() == ".txt" and file not in labels and file.name not in _NOT_LABELS:
                expected = f"an image {file.stem} in {of_images}, and labels called {file.stem}.txt"
                reading.faults.add(file, "", "labels of no image", expected)


def _yaml_files(folder: Path) -> list[Path]:
    """Those with names in them."""
    found = sorted(file for pattern in ("*.yaml", "*.yml") for file in own_files(folder, pattern, folder))
    return [file for file in found if "names" in _load(file)]


def _load(file: Path) -> dict[str, Any]:
    """Empty where the file is not of that kind at all."""
    try:
        if file.stat().st_size > _YAML_BYTES_MAX:
            return {}
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}


def _names(file: Path, content: dict[str, Any], reading: Reading) -> list[str]:
    told = content["names"]
    if isinstance(told, dict) and sorted(told, key=str) == sorted(range(len(told)), key=str):
        told = [told[index] for index in range(len(told))]
    if not isinstance(told, list) or not told or not all(isinstance(name, str) and name for name in told):
        reading.faults.add(file, "names", _brief(told), "the classes' names, as a list or by number from 0")
        return []
    if len(set(told)) != len(told):
        reading.faults.add(file, "names", _brief(told), "every name once")
    count = content.get("nc")
    if count is not None and count != len(told):
        reading.faults.add(file, "nc", _brief(count), f"{len(told)}, as there are names")
    return told


def _classes_file(folder: Path) -> Path | None:
    places = (folder / _CLASSES_NAME, folder / "labels" / _CLASSES_NAME)
    return next((path for path in places if is_own_file(path, folder)), None)


def _names_of_lines(folder: Path, reading: Reading) -> list[str]:
    file = _classes_file(folder)
    if file is None:
        for named in (folder / "data.yaml", folder / _CLASSES_NAME):
            reading.is_inside(named)
        expected = "the classes' names: names in data.yaml, or a line each in classes.txt"
        reading.faults.add(folder, "", "numbers of classes without names", expected)
        return []
    text = (reading.text(file) or b"").decode("utf-8", "replace")
    return [line.strip() for line in text.splitlines() if line.strip()]


def _images_of_split(file: Path, content: dict[str, Any], reading: Reading) -> list[Path]:
    """Of the part asked for, or of the one of ``val`` and ``test`` that is there; ``train`` is measured only where asked for."""
    there = [split for split in _SPLITS if content.get(split)]
    measured = [split for split in ("val", "test") if split in there]
    split = reading.split.choose(file, measured if reading.split.asked is None and measured else there)
    told = content[split] if isinstance(content[split], list) else [content[split]]
    base = content.get("path", ".")
    images: list[Path] = []
    for number, place in enumerate(told):
        key = f"{split}.{number}" if isinstance(content[split], list) else split
        if not isinstance(place, str) or not isinstance(base, str):
            reading.faults.add(file, key, _brief(place), "a folder of images, or a text file that names them")
            continue
        # Tools write the base as it was on their own disk, and "../" too much: what is meant is below this folder.
        tried = [file.parent / base / place, file.parent / place, file.parent / place.removeprefix("../")]
        existing = [path for path in tried if path.exists() and path.resolve().is_relative_to(reading.root)]
        if not existing:
            reading.faults.add(file, key, quote(place), f"a folder of images inside {reading.root}")
        elif existing[0].is_dir():
            images += _below(reading.from_root(existing[0]))
        else:
            images += _listed(reading.from_root(existing[0]), reading)
    return images


def _listed(file: Path, reading: Reading) -> Iterator[Path]:
    text = (reading.text(file) or b"").decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            image = file.parent / line.strip()
            if reading.is_inside(image, named_in=file, key=f"line {number}"):
                # Not resolved: labels are found by the folders' names.
                yield reading.from_root(image)


def _images_of_folders(folder: Path, reading: Reading) -> list[Path]:
    images = folder / "images" if (folder / "images").is_dir() else folder
    parts = [path.name for path in folders_in(images) if path.name in (*_SPLITS, "valid")]
    if parts:
        return _below(images / reading.split.choose(images, parts))
    return _below(images)


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if is_image_name(path) and path.is_file())


def _labels_of(image: Path, root: Path) -> Path:
    parts = list(image.relative_to(root).parts)
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            parts[index] = "labels"
            return root.joinpath(*parts).with_suffix(".txt")
    return image.with_suffix(".txt")


def _boxes(labels: Path, names: list[str], image: FrameFormat, reading: Reading) -> Iterator[TrueBox]:
    text = (reading.text(labels) or b"").decode("utf-8", "replace")
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        key = f"line {number}"
        expected = "a class's number and x y width height, or the corners of a polygon, as shares of the image"
        try:
            class_id, values = int(words[0]), [float(word) for word in words[1:]]
        except ValueError:
            reading.faults.add(labels, key, quote(line), expected)
            continue
        if not all(map(math.isfinite, values)) or not (len(values) == 4 or (len(values) >= 6 and len(values) % 2 == 0)):
            reading.faults.add(labels, key, quote(line), expected)
        elif not 0 <= class_id < len(names):
            reading.faults.add(labels, key, f"class {class_id}", f"0 to {len(names) - 1}: there are {len(names)} names")
        else:
            box_px, area_px = _in_pixels(values, image)
            within = clipped(box_px, image.width_px, image.height_px)
            if within is None:
                expected = f"a box with an area inside the image of {image.width_px}x{image.height_px} pixels"
                reading.faults.add(labels, key, f"a box from {_corners(box_px)}", expected)
            else:
                yield TrueBox(names[class_id], within, area_px)


def _in_pixels(values: list[float], image: FrameFormat) -> tuple[BoxPx, float]:
    if len(values) == 4:
        x, y, width, height = values
        x1, x2 = (x - width / 2) * image.width_px, (x + width / 2) * image.width_px
        y1, y2 = (y - height / 2) * image.height_px, (y + height / 2) * image.height_px
        return (x1, y1, x2, y2), (x2 - x1) * (y2 - y1)
    points = [(x * image.width_px, y * image.height_px) for x, y in zip(values[::2], values[1::2], strict=True)]
    xs, ys = zip(*points, strict=True)
    return (min(xs), min(ys), max(xs), max(ys)), polygon_area_px(points)


def _corners(box_px: BoxPx) -> str:
    x1, y1, x2, y2 = box_px
    return f"{x1:.1f},{y1:.1f} to {x2:.1f},{y2:.1f} px"


def _brief(value: object) -> str:
    """Not ``repr``: aliases make a few lines of YAML into gigabytes."""
    if isinstance(value, (list, dict)):
        return f"{len(value)} of {'list' if isinstance(value, list) else 'mapping'}"
    return quote(value) if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__
