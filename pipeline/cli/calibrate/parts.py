"""Pictures of known parts, each once."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.refusal import Refusal
from pipeline.calibrated_line import open_calibrated
from pipeline.cli.calibrate.options import Station, check_size, pictures_in
from pipeline.cli.output import fail
from pipeline.line_inspector import unverified
from pipeline.model_probe import probe_model
from vision.inspector import Inspector
from vision.package import ModelPackage, load_package
from vision.runtime import InferenceError, RuntimeProviderError

_NAMED_MAX = 5


def open_station(station: Station, *, is_calibrating: bool = False) -> tuple[ModelPackage, Inspector]:
    """The model, judging as the line would run now; see ``open_calibrated``. Raises FaultsError; ends the command where it does not
    run.
    """
    line = station.line
    package = load_package(line.recipe.model)
    try:
        # First elsewhere: a model that never ends would hold this command up for ever, deaf to Ctrl-C.
        probe_model(line.recipe.model, batch_rows=line.recipe.region_count)
        inspector, session = open_calibrated(
            line, package, tell=lambda text: print(text, file=sys.stderr), is_calibrating=is_calibrating
        )
    except (RuntimeProviderError, InferenceError) as error:
        raise fail(str(error)) from None
    if warning := unverified(line, package, session):
        if line.config.runtime.on_unverified == "refuse":
            raise fail(warning)
        print(f"lineside: warning: {warning}", file=sys.stderr)
    return package, inspector


@dataclass(frozen=True, slots=True)
class PartPicture:
    """``name``: the folder's and the file's; ``digest``: the file's SHA-256."""

    name: str
    file: Path
    digest: bytes
    pixels: npt.NDArray[np.uint8]


class PartPictures:
    """``copies``: pictures that show the very pixels of an earlier one: name, and the earlier one's."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._files: dict[bytes, Path] = {}
        self._shared: list[str] = []
        self.copies: list[tuple[str, str]] = []

    def fresh(self, folder: Path) -> Iterator[PartPicture]:
        """Those in a folder that no earlier one shows, by name. Raises FaultsError."""
        is_new_folder = folder.resolve() not in {file.parent.resolve() for file in self._files.values()}
        for file_name, pixels, digest in pictures_in(folder, self._station.frame_format.pixel_format):
            file = folder / file_name
            check_size(str(file), pixels, self._station.frame_format.pixel_format, self._station)
            content = hashlib.sha256(pixels.tobytes()).digest()
            if (first := self._files.get(content)) is not None:
                self.copies.append((_name(file), _name(first)))
                if first.parent != folder or not is_new_folder:
                    self._shared.append(f"{file} is {first}")
                continue
            self._files[content] = file
            yield PartPicture(_name(file), file, digest, pixels)

    def shared_refusals(self) -> list[Refusal]:
        """Where pictures of different folders show the same pixels."""
        if not self._shared:
            return []
        advice = "One part was put into two folders: take it out of the wrong one."
        return [Refusal("the same picture in two folders", named(self._shared), "each picture in one", advice)]


def _name(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


def named(names: Sequence[str]) -> str:
    """How many, and the first of them."""
    more = len(names) - _NAMED_MAX
    return f"{len(names)} ({', '.join(names[:_NAMED_MAX])}{f' and {more} more' if more > 0 else ''})"
