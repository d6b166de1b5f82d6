"""Layouts of labelled data sets: one file each. A new layout is one new file and one new line here.

Nothing outside the data folder is read, whatever a label file names or a link points to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.evaluation.data import DataSet, Faults, Sample
from pipeline.evaluation.layouts import class_folders, coco, mvtec, voc, yolo
from pipeline.evaluation.layouts.reading import Reading, Split
from vision.faults import Fault, FaultsError


@dataclass(frozen=True, slots=True)
class Layout:
    """``is_here``: whether a folder, resolved, has what marks the layout; ``read``: its samples, by name; ``told``: in words."""

    is_here: Callable[[Path], bool]
    read: Callable[[Path, Reading], list[Sample]]
    told: str


LAYOUTS = {
    "mvtec": Layout(mvtec.is_here, mvtec.read, "MVTec AD: test/good and test/<defect>, ground_truth"),
    "yolo": Layout(yolo.is_here, yolo.read, "YOLO: images and labels of the same names, data.yaml or classes.txt"),
    "coco": Layout(coco.is_here, coco.read, "COCO: a JSON file of images, annotations and categories"),
    "voc": Layout(voc.is_here, voc.read, "Pascal VOC: an XML file for each image in Annotations"),
    "folders": Layout(class_folders.is_here, class_folders.read, "a folder of images for each class"),
}
"""What marks the first four is unmistakable; folders with images in them are found in most of them too."""


def find_layout(folder: Path) -> str:
    """The layout that a folder has. Raises FaultsError where none is found, or several are; OSError."""
    if not folder.is_dir():
        got = "no such folder" if not folder.exists() else "a file"
        raise FaultsError([Fault(str(folder), "", got, "a folder of labelled images")])
    root = folder.resolve()
    marked = [name for name in LAYOUTS if name != "folders" and LAYOUTS[name].is_here(root)]
    if len(marked) > 1:
        got = f"marks of several layouts: {', '.join(marked)}"
        raise FaultsError([Fault(str(folder), "", got, f"one; say which with --layout {'|'.join(marked)}")])
    if marked:
        return marked[0]
    if LAYOUTS["folders"].is_here(root):
        return "folders"
    expected = "one of: " + "; ".join(f"{name} ({layout.told})" for name, layout in LAYOUTS.items())
    raise FaultsError([Fault(str(folder), "", "no labelled images in a layout that is known", expected)])


def read_data_set(
    folder: Path,
    *,
    layout: str | None = None,
    split: str | None = None,
    views: Sequence[str] = (),
    looked: Callable[[], None] = lambda: None,
) -> DataSet:
    """Reads and checks all labels, and all images but for their pixels; ``looked`` is called after each image.

    ``views``: that the model knows by name; a folder with nothing but sub-folders called so is a set of each, taken together.
    ``split``: which part of a set that has several (``train``, ``val``, ``test``); needed where it has and none is
    plainly meant. Raises FaultsError.
    """
    if named := _views_in(folder, views):
        return _together(
            folder, [read_data_set(folder / view, layout=layout, split=split, looked=looked) for view in named]
        )
    faults = Faults()
    try:
        name = layout if layout is not None else find_layout(folder)
        if not folder.is_dir():
            raise FaultsError([Fault(str(folder), "", "no folder", "a folder of labelled images")])
        reading = Reading(folder.resolve(), Split(split), faults, looked)
        samples = LAYOUTS[name].read(reading.root, reading)
    except OSError as error:
        faults.add(Path(str(error.filename or folder)), "", str(error.strerror), "a readable file or folder")
        faults.settle()
        raise
    _expect_once(samples, faults)
    faults.settle()
    if not samples:
        raise FaultsError([Fault(str(folder), "", f"no image in it (layout {name})", LAYOUTS[name].told)])
    if split is not None and reading.split.used is None:
        expected = f"no --split: this set of layout {name} has no parts"
        raise FaultsError([Fault(str(folder), "", f"--split {split}", expected)])
    samples.sort(key=lambda sample: sample.name)
    return DataSet(folder, name, reading.split.used, tuple(samples), any(sample.mask is not None for sample in samples))


def _views_in(folder: Path, views: Sequence[str]) -> list[str]:
    if not views or not folder.is_dir():
        return []
    found = sorted(each.name for each in folder.iterdir() if not each.name.startswith("."))
    return found if set(found) <= set(views) else []


def _together(folder: Path, sets: Sequence[DataSet]) -> DataSet:
    """Raises FaultsError for sets that are not laid out alike."""
    first = sets[0]
    for other in sets[1:]:
        if (other.layout, other.split) != (first.layout, first.split):
            got, expected = (
                f"layout {other.layout}, split {other.split}",
                f"{first.layout}, {first.split}, as {first.folder} has",
            )
            raise FaultsError([Fault(str(other.folder), "", got, expected)])
    samples = [replace(sample, name=f"{each.folder.name}/{sample.name}") for each in sets for sample in each.samples]
    return DataSet(folder, first.layout, first.split, tuple(samples), any(each.has_masks for each in sets))


def _expect_once(samples: list[Sample], faults: Faults) -> None:
    """An image that is named twice, or linked to, would count twice in every figure."""
    seen: dict[Path, Sample] = {}
    for sample in samples:
        first = seen.setdefault(sample.image.resolve(), sample)
        if first is not sample:
            got = f"the same image twice, as {first.name} and {sample.name}"
            faults.add(sample.image, "", got, "every image once in the set: in its folders, lists and label files")
