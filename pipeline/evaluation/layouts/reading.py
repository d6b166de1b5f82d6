"""What all layouts need: a way to files that stays in the data folder, images that are checked, the part that is meant."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.config_places import IMAGE_SUFFIXES
from pipeline.evaluation.data import Faults, ImageFacts
from pipeline.evaluation.image_check import check_image, images_in
from vision.faults import Fault, FaultsError, quote

_OTHER_IMAGE_SUFFIXES = frozenset(
    (".avif", ".gif", ".heic", ".heif", ".jfif", ".jp2", ".jxl", ".pbm", ".pgm", ".ppm", ".raw", ".tga", ".webp")
)
"""Nobody would notice that they are not measured."""
LABEL_FILE_BYTES_MAX = 16 << 20
"""Of one image's labels, or of a list of names."""


class Split:
    """Which part of the set is meant, and which was taken."""

    def __init__(self, asked: str | None) -> None:
        self.asked = asked
        self.used: str | None = None

    def choose(self, where: Path, there: Iterable[str]) -> str:
        """The part to take. Raises FaultsError where it is not there; where none was asked for, if several are or it trains."""
        names = sorted(there)
        if self.asked is not None and self.asked not in names:
            raise FaultsError([Fault(str(where), "", f"--split {self.asked}", f"one of: {', '.join(names)}")])
        if self.asked is None and len(names) != 1:
            got = f"several parts: {', '.join(names)}"
            raise FaultsError([Fault(str(where), "", got, "one; say which with --split")])
        if self.asked is None and is_for_training(names[0]):
            expected = f"--split {names[0]} where that is meant: a model does well on what it was fitted to"
            raise FaultsError([Fault(str(where), "", f"only the part {names[0]}", expected)])
        self.used = self.asked if self.asked is not None else names[0]
        return self.used


class Reading:
    """One reading of a data set. ``root``: its folder, resolved."""

    def __init__(self, root: Path, split: Split, faults: Faults, looked: Callable[[], None]) -> None:
        self.root = root
        self.split = split
        self.faults = faults
        self._looked = looked

    def look(self, file: Path, *, is_mask: bool = False) -> ImageFacts | None:
        """What an image is; None, and a fault, where it is no usable one or lies outside."""
        facts = check_image(file, self.faults, is_mask=is_mask) if self.is_inside(file) else None
        self._looked()
        return facts

    def name_of(self, file: Path) -> str:
        """A file's name in the set."""
        return file.relative_to(self.root).as_posix()

    def from_root(self, path: Path) -> Path:
        """The same path, begun with ``root``, where links outside lead into it; what is below stays as it is named.

        For paths that ``is_inside`` holds of. Raises OSError.
        """
        for parent in reversed(path.parents):
            if (resolved := parent.resolve()).is_relative_to(self.root):
                return resolved / path.relative_to(parent)
        return path.resolve()

    def is_inside(self, file: Path, *, named_in: Path | None = None, key: str = "") -> bool:
        """Whether a file lies in the data folder, links followed; a fault of it, or of the file that names it, where not."""
        try:
            if file.resolve().is_relative_to(self.root):
                return True
            got = f"{quote(str(file))}, which leads out of the data folder"
        except (
            OSError,
            RuntimeError,
            ValueError,
        ):  # RuntimeError: a loop of links, before Python 3.13; ValueError: a NUL
            got = f"{quote(str(file))}, which leads nowhere"
        self.faults.add(named_in or file, key, got, f"a file inside {self.root}")
        return False

    def images_of_class(self, folder: Path) -> list[Path]:
        """The images of a class's folder; a fault where some would be left aside in silence, and all where there is none.

        An empty folder has none, and that is all.
        """
        images = list(images_in(folder))
        for other in sorted(folder.iterdir()):
            if other.suffix.lower() in _OTHER_IMAGE_SUFFIXES and not other.name.startswith("."):
                self.faults.add(other, "", "an image of a kind that is not read", f"one of {', '.join(IMAGE_SUFFIXES)}")
        below = next((inner for inner in folders_in(folder) if any(images_in(inner))), None)
        if below is not None:
            self.faults.add(below, "", f"images below {folder.name}, itself a folder of one class", f"them in {folder}")
        elif not images and any(not path.name.startswith(".") for path in folder.iterdir()):
            expected = f"images ({', '.join(IMAGE_SUFFIXES)}) directly in it, as in each folder of a class"
            self.faults.add(folder, "", "other files or folders, and no image", expected)
        return images

    def text(self, file: Path, *, bytes_max: int = LABEL_FILE_BYTES_MAX) -> bytes | None:
        """A label file's content; None, and a fault, where it is too large, lies outside or cannot be read."""
        if not self.is_inside(file):
            return None
        try:
            if file.exists() and not file.is_file():
                self.faults.add(file, "", "a folder, a pipe or a device", "a file")
                return None
            with file.open("rb") as stream:
                content = stream.read(bytes_max + 1)
        except OSError as error:
            self.faults.add(file, "", str(error.strerror), "a readable file")
            return None
        if len(content) > bytes_max:
            self.faults.add(file, "", f"more than {bytes_max} bytes", "a file of labels")
            return None
        return content


def is_for_training(part: str) -> bool:
    """By its name: ``train``, ``trainval``, ``train2017``."""
    return part.startswith("train")


def own_files(folder: Path, pattern: str, root: Path) -> list[Path]:
    """The files of a folder whose names match, by name: no pipes, and no links that lead out of the data folder ``root``."""
    return sorted(file for file in folder.glob(pattern) if is_own_file(file, root))


def is_own_file(file: Path, root: Path) -> bool:
    """Whether it is a file, links followed, and lies in ``root``, which is resolved. To be asked before a file is opened."""
    try:
        return file.is_file() and file.resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError):  # as in ``Reading.is_inside``
        return False


def folders_in(folder: Path) -> list[Path]:
    """The folders in a folder, by name, but for hidden ones; none where it is none."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
