"""The new package: a folder beside its place, renamed into it when everything in it is true."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import yaml

from vision.package import CARD_NAME, MODEL_NAME, ModelPackage, load_package

_LINE_WIDTH = 130


class Draft:
    """A package that is not yet where it is meant to be."""

    def __init__(self, folder: Path, parent: ModelPackage, model: bytes, changes: dict[str, Any], version: str) -> None:
        self._folder = folder
        old = parent.card.version
        self._card: dict[str, Any] = {
            **parent.card.model_dump(mode="json", exclude_unset=True),
            **changes,
            "version": f"{old}{'.' if '+' in old else '+'}{version}",
            "sha256": hashlib.sha256(model).hexdigest(),
        }
        (folder / MODEL_NAME).write_bytes(model)
        self.write()

    def write(self, **more: Any) -> None:
        """The card, with these keys in place of what it had."""
        self._card |= more
        text = yaml.safe_dump(self._card, sort_keys=False, allow_unicode=True, width=_LINE_WIDTH)
        (self._folder / CARD_NAME).write_text(text, encoding="utf-8")

    def package(self) -> ModelPackage:
        """As it would be loaded. Raises PackageError."""
        return load_package(self._folder)

    def publish(self, out: Path) -> None:
        """Everything on disk, then in its place. Raises OSError."""
        for file in self._folder.iterdir():
            with file.open("rb") as written:
                os.fsync(written.fileno())
        self._folder.rename(out)
