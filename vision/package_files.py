"""The files of a model package, found and read. Only these are read, and only where they stand as plain files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vision.faults import Fault, FaultsError, quote
from vision.onnx_limits import FILE_MAX_BYTES
from vision.plain_file import NotAPlainFile, read_plain_file
from vision.unique_keys import UniqueKeyLoader

CARD_NAME = "model.yaml"
MODEL_NAME = "model.onnx"
SIDECAR_NAME = "metadata.json"
"""Anomalib 1.x writes its thresholds here, beside its ``model.onnx``."""

CARD_MAX_BYTES = 1 << 20
"""Of the card, and of Anomalib's file beside the model."""


class PackageError(FaultsError):
    """The model package cannot be used; ``faults`` holds everything found wrong with it."""


class PackageUnreadable(PackageError):
    """A file of the package could not be read now: the disk's fault, which may pass, and says nothing of the package."""


@dataclass(frozen=True, slots=True)
class PackageFiles:
    """Where a package's files are, or would be. ``name`` is what the model is called where nobody says otherwise."""

    name: str
    model_path: Path
    card_path: Path

    @property
    def folder(self) -> Path:
        return self.model_path.parent

    @property
    def is_package(self) -> bool:
        """Whether card and metadata are looked for: what lies beside a file of another name is some other model's."""
        return self.model_path.name == MODEL_NAME


def find_files(path: Path) -> PackageFiles:
    """The files of the package in the folder ``path``, or of the model file ``path`` itself, which may be a link.

    A file of another name than ``model.onnx`` has no card and no metadata of Anomalib.
    Raises PackageError where there is nothing of either kind, PackageUnreadable where the disk fails.
    """
    try:
        if path.is_dir():
            return PackageFiles(path.resolve().name or "model", path / MODEL_NAME, path / CARD_NAME)
        if path.suffix.lower() == ".onnx" and path.exists():
            # Whoever names a file means it, wherever a link leads; inside a package links are not followed.
            model = path.resolve(strict=True)
            name = model.parent.name if model.name == MODEL_NAME else model.stem
            return PackageFiles(name or "model", model, model.with_name(CARD_NAME))
        expected = f"a folder with {MODEL_NAME} (and its card {CARD_NAME}), or an ONNX file"
        raise PackageError(
            [Fault(str(path), "", "something else" if path.exists() else "no such file or folder", expected)]
        )
    except OSError as error:
        raise _unreadable(path, error) from error


def read_bytes(path: Path, *, max_bytes: int = FILE_MAX_BYTES) -> bytes:
    """A file of the package. Raises PackageError for what is no plain file within the limit, PackageUnreadable."""
    try:
        return read_plain_file(path, max_bytes=max_bytes)
    except NotAPlainFile as error:
        raise PackageError([Fault(str(path), "", error.got, error.expected)]) from error
    except OSError as error:
        raise _unreadable(path, error) from error


def is_there(path: Path) -> bool:
    """Whether anything, a broken link included, has this name. Raises PackageUnreadable."""
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    except OSError as error:
        raise _unreadable(path, error) from error
    return True


def read_card(card_path: Path) -> dict[str, Any]:
    """What the card says, not validated. Raises PackageError for what is no mapping, PackageUnreadable."""
    content = read_bytes(card_path, max_bytes=CARD_MAX_BYTES)
    try:
        text = content.decode("utf-8")
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            # A few lines of aliases of aliases are gigabytes once they are written out.
            raise PackageError([Fault(str(card_path), "", "an alias (*name)", "values written where they belong")])
        written = yaml.load(text, Loader=UniqueKeyLoader)
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # also an impossible date, or a number of 5,000 digits
        if isinstance(error, PackageError):
            raise
        first_line = " ".join(str(error).split())
        raise PackageError([Fault(str(card_path), "", f"text that is not YAML ({first_line})", "YAML")]) from error
    if not isinstance(written, dict):
        raise PackageError([Fault(str(card_path), "", quote(written), "a mapping of the card's keys")])
    return written


def read_sidecar(folder: Path) -> dict[str, Any] | None:
    """Anomalib's metadata beside the model; None where there is no such file, or another one of that name."""
    path = folder / SIDECAR_NAME
    if not is_there(path):
        return None
    try:
        found = json.loads(read_plain_file(path, max_bytes=CARD_MAX_BYTES))
    except (NotAPlainFile, ValueError, RecursionError):
        return None
    except OSError as error:
        raise _unreadable(path, error) from error
    return found if isinstance(found, dict) else None


def _unreadable(path: Path, error: OSError) -> PackageUnreadable:
    return PackageUnreadable([Fault(str(path), "", str(error.strerror), "a readable file")])
