"""COCO: one JSON file of images, annotations and categories (cocodataset.org/#format-data).

It lies in the data folder, in ``annotations`` or in a folder for each part, as exports of labelling tools have it. A box is
x, y, width, height in pixels, from the corner at the upper left.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from pipeline.evaluation.data import BoxPx, Sample, TrueBox, clipped
from pipeline.evaluation.layouts.reading import Reading, folders_in, is_for_training, own_files
from vision.faults import quote

_JSON_BYTES_MAX = 2 << 30
_BEGINNING_BYTES = 1 << 20
_IMAGES_KEY, _CATEGORIES_KEY = b'"images"', b'"categories"'


class _Image(msgspec.Struct, frozen=True):
    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class _Annotation(msgspec.Struct, frozen=True):
    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    area: float | None = None
    iscrowd: int | bool = 0


class _Category(msgspec.Struct, frozen=True):
    id: int
    name: str


class _File(msgspec.Struct, frozen=True):
    """The keys that matter; a file of captions or of results lacks some of them."""

    images: list[_Image]
    annotations: list[_Annotation]
    categories: list[_Category]


def is_here(folder: Path) -> bool:
    """A JSON file of that form."""
    return bool(_files(folder))


def read(folder: Path, reading: Reading) -> list[Sample]:
    """The images that the file lists, also those without an annotation."""
    files = _files(folder)
    if not files:
        reading.faults.add(folder, "", "no JSON file of images, annotations and categories", "one")
        return []
    file = _chosen(folder, files, reading)
    content = reading.text(file, bytes_max=_JSON_BYTES_MAX)
    if content is None:
        return []
    try:
        told = msgspec.json.decode(content, type=_File)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        reading.faults.add(file, "", " ".join(str(error).split()), "JSON in the form of COCO")
        return []
    categories = {category.id: category.name for category in told.categories}
    if len(categories) != len(told.categories):
        reading.faults.add(file, "categories", "an id twice", "every id once")
    by_image: dict[int | str, list[tuple[int, _Annotation]]] = {image.id: [] for image in told.images}
    if len(by_image) != len(told.images):
        reading.faults.add(file, "images", "an id twice", "every id once")
    for index, annotation in enumerate(told.annotations):
        if annotation.image_id not in by_image:
            got = quote(annotation.image_id)
            reading.faults.add(file, f"annotations.{index}.image_id", got, "the id of one of the images")
        elif annotation.category_id not in categories:
            got, expected = str(annotation.category_id), "the id of one of the categories"
            reading.faults.add(file, f"annotations.{index}.category_id", got, expected)
        else:
            by_image[annotation.image_id].append((index, annotation))
    base = _base(folder, file, told.images)
    samples = []
    seen: set[Path] = set()
    for index, image in enumerate(told.images):
        sample = _sample(base, image, f"images.{index}", by_image[image.id], categories, file, reading)
        if sample is None:
            continue
        if sample.image in seen:
            reading.faults.add(file, f"images.{index}.file_name", quote(image.file_name), "every file once")
        seen.add(sample.image)
        samples.append(sample)
    return samples


def _files(folder: Path) -> list[Path]:
    places = [folder, folder / "annotations", *folders_in(folder)]
    found = {file.resolve(): file for place in places for file in own_files(place, "*.json", folder)}
    return sorted(file for file in found.values() if _looks_like_it(file))


def _looks_like_it(file: Path) -> bool:
    """By its keys near the beginning or the end: such files have hundreds of megabytes."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_BEGINNING_BYTES)
            stream.seek(max(0, file.stat().st_size - _BEGINNING_BYTES))
            content += stream.read(_BEGINNING_BYTES)
    except OSError:
        return False
    return _IMAGES_KEY in content and _CATEGORIES_KEY in content


def _chosen(folder: Path, files: list[Path], reading: Reading) -> Path:
    """A part is named by its folder, or by what the file's name ends with: ``instances_val2017.json``."""
    if len(files) == 1 and reading.split.asked is None and not is_for_training(_part(folder, files[0])):
        return files[0]
    parts = {_part(folder, file): file for file in files}
    if len(parts) < len(files):
        parts = {file.stem: file for file in files}
    return parts[reading.split.choose(folder, parts)]


def _part(folder: Path, file: Path) -> str:
    return file.stem.rpartition("_")[2] if file.parent in (folder, folder / "annotations") else file.parent.name


def _base(folder: Path, file: Path, images: list[_Image]) -> Path:
    """The folder that ``file_name`` starts from, which the format leaves open: the first where the first image is."""
    part = _part(folder, file)
    places = [file.parent, folder, folder / "images", folder / part, folder / "images" / part]
    for place in places:
        try:
            if images and (place / images[0].file_name).is_file():
                return place
        except (OSError, ValueError):  # ValueError: a NUL
            break
    return file.parent


def _sample(
    base: Path,
    image: _Image,
    key: str,
    annotations: list[tuple[int, _Annotation]],
    categories: dict[int, str],
    file: Path,
    reading: Reading,
) -> Sample | None:
    path = base / image.file_name
    if not reading.is_inside(path, named_in=file, key=f"{key}.file_name"):
        return None
    if not path.is_file():
        reading.faults.add(file, f"{key}.file_name", quote(image.file_name), f"an image in {base}")
        return None
    path = path.resolve()
    facts = reading.look(path)
    if facts is None:
        return None
    width_px, height_px = facts.format.width_px, facts.format.height_px
    for name, told, found in (("width", image.width, width_px), ("height", image.height, height_px)):
        if told is not None and told != found:
            reading.faults.add(file, f"{key}.{name}", str(told), f"{found}, as {reading.name_of(path)} has")
    boxes = []
    for index, annotation in annotations:
        x, y, width, height = annotation.bbox
        box_px: BoxPx = (x, y, x + width, y + height)
        within = clipped(box_px, width_px, height_px)
        if within is None:
            expected = f"x, y, width, height of a box inside the image of {width_px}x{height_px} pixels"
            reading.faults.add(file, f"annotations.{index}.bbox", str(list(annotation.bbox)), expected)
            continue
        # Tools that do not compute areas write 0, which would make the object smaller than any rule asks for.
        area_px = annotation.area if annotation.area is not None and annotation.area > 0 else width * height
        name = categories[annotation.category_id]
        boxes.append(TrueBox(name, within, area_px, "crowd" if annotation.iscrowd else "yes"))
    return Sample(path, reading.name_of(path), facts, boxes=tuple(boxes))
