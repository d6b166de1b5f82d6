"""A folder of images for each class, at once or below train, val and test (torchvision's ImageFolder)."""

from __future__ import annotations

from pathlib import Path

from pipeline.evaluation.data import Sample
from pipeline.evaluation.image_check import images_in
from pipeline.evaluation.layouts.reading import Reading, folders_in

SPLITS = ("train", "val", "valid", "test")


def is_here(folder: Path) -> bool:
    """Folders with images in them, or such folders in a train, val or test."""
    return _has_classes(folder) or any(_has_classes(folder / split) for split in SPLITS)


def read(folder: Path, reading: Reading) -> list[Sample]:
    """The class is the folder's name."""
    parts = [split for split in SPLITS if _has_classes(folder / split)]
    if parts:
        folder = folder / reading.split.choose(folder, parts)
    return [
        Sample(image, reading.name_of(image), facts, class_name=of_class.name)
        for of_class in folders_in(folder)
        for image in reading.images_of_class(of_class)
        if (facts := reading.look(image)) is not None
    ]


def _has_classes(folder: Path) -> bool:
    return any(next(images_in(of_class), None) is not None for of_class in folders_in(folder))
