"""Pascal VOC: an XML file for each image, in ``Annotations``; images in ``JPEGImages``; parts in ``ImageSets/Main``.

M. Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", International Journal of Computer Vision 88 (2010), and
its development kit: pixels count from 1 and a box includes its last ones, so that ``xmin 1, xmax W`` is the whole width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat

from pipeline.evaluation.data import Sample, TrueBox, clipped
from pipeline.evaluation.image_check import images_in
from pipeline.evaluation.layouts.reading import Reading
from vision.faults import quote
from vision.preprocess import FrameFormat

_SPLITS = ("train", "val", "trainval", "test")
_DEPTH_MAX = 32
_ELEMENTS_MAX = 200_000


class _NotPlain(ValueError):
    """XML that no labelling tool writes."""


def is_here(folder: Path) -> bool:
    """XML files in ``Annotations``, or with a name of an image in the folder itself."""
    return next((folder / "Annotations").glob("*.xml"), None) is not None or any(
        any(file.with_suffix(suffix).exists() for suffix in (".jpg", ".png", ".jpeg", ".bmp"))
        for file in folder.glob("*.xml")
    )


def read(folder: Path, reading: Reading) -> list[Sample]:
    """The images of the part, or of all files where the set has no parts."""
    annotations = folder / "Annotations" if (folder / "Annotations").is_dir() else folder
    lists = folder / "ImageSets" / "Main"
    parts = [split for split in _SPLITS if (lists / f"{split}.txt").is_file()]
    if parts:
        part = lists / f"{reading.split.choose(lists, parts)}.txt"
        lines = (reading.text(part) or b"").decode("utf-8", "replace").splitlines()
        files = [annotations / f"{line.split()[0]}.xml" for line in lines if line.strip()]
    else:
        files = sorted(annotations.glob("*.xml"))
    samples = [sample for file in files if (sample := _sample(folder, file, reading)) is not None]
    if not parts:
        _expect_annotations(samples, annotations, reading)
    return samples


def _expect_annotations(samples: Sequence[Sample], annotations: Path, reading: Reading) -> None:
    """Some tools write no file for an image without objects, and an image may be unlabelled: which of them, nobody says."""
    known = {sample.image for sample in samples}
    for folder in sorted({image.parent for image in known}):
        for image in images_in(folder):
            if image.resolve() not in known:
                expected = f"{annotations / image.stem}.xml, without an object in it where the image is good"
                reading.faults.add(image, "", "an image without an annotation", expected)


def _sample(folder: Path, file: Path, reading: Reading) -> Sample | None:
    content = reading.text(file)
    if content is None:
        return None
    try:
        root = _parsed(content)
    except (expat.ExpatError, _NotPlain, UnicodeDecodeError, LookupError) as error:  # LookupError: an unknown encoding
        reading.faults.add(file, "", f"no plain XML ({error})", "an annotation in the form of Pascal VOC")
        return None
    name = (root.findtext("filename") or "").strip()
    if root.tag != "annotation" or not name:
        reading.faults.add(file, "annotation.filename", "nothing", "the image's name")
        return None
    places = [folder / "JPEGImages", folder / "images", file.parent]
    image = next((place / name for place in places if _is_file(place / name)), places[0] / name)
    if not reading.is_inside(image, named_in=file, key="annotation.filename"):
        return None
    if not _is_file(image):
        expected = "an image in JPEGImages, in images or beside its annotation"
        reading.faults.add(file, "annotation.filename", quote(name), expected)
        return None
    image = image.resolve()
    facts = reading.look(image)
    if facts is None:
        return None
    for side, found in (("width", facts.format.width_px), ("height", facts.format.height_px)):
        told = (root.findtext(f"size/{side}") or "").strip()
        if told not in ("", "0", str(found)):
            reading.faults.add(file, f"annotation.size.{side}", quote(told), f"{found}, as {name} has")
    boxes = [
        box
        for index, element in enumerate(root.findall("object"))
        if (box := _box(element, f"annotation.object.{index}", file, facts.format, reading)) is not None
    ]
    return Sample(image, reading.name_of(image), facts, boxes=tuple(boxes))


def _box(element: ElementTree.Element, key: str, file: Path, image: FrameFormat, reading: Reading) -> TrueBox | None:
    name = (element.findtext("name") or "").strip()
    if not name:
        reading.faults.add(file, f"{key}.name", "nothing", "the object's class")
        return None
    told = [(element.findtext(f"bndbox/{corner}") or "").strip() for corner in ("xmin", "ymin", "xmax", "ymax")]
    expected = f"xmin, ymin, xmax, ymax of a box inside the image of {image.width_px}x{image.height_px} pixels"
    try:
        x1, y1, x2, y2 = map(float, told)
    except ValueError:
        reading.faults.add(file, f"{key}.bndbox", quote(", ".join(told)), expected)
        return None
    within = clipped((x1 - 1, y1 - 1, x2, y2), image.width_px, image.height_px)
    if within is None:
        reading.faults.add(file, f"{key}.bndbox", quote(", ".join(told)), expected)
        return None
    area_px = (within[2] - within[0]) * (within[3] - within[1])
    is_difficult = (element.findtext("difficult") or "").strip() == "1"
    return TrueBox(name, within, area_px, "difficult" if is_difficult else "yes")


def _parsed(content: bytes) -> ElementTree.Element:
    """A small tree. A document type, which entities (bombs of them, or files) would need, is refused; so is depth."""
    builder = ElementTree.TreeBuilder()
    parser = expat.ParserCreate()
    depth = count = 0

    def refuse(*_: object) -> None:
        raise _NotPlain("a document type")

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, count
        depth, count = depth + 1, count + 1
        if depth > _DEPTH_MAX or count > _ELEMENTS_MAX:
            raise _NotPlain("too deep, or too many elements")
        builder.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(tag)

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.Parse(content, True)
    return builder.close()


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # ValueError: a NUL
        return False
