"""Pictures that a model was fitted on, which say nothing about parts that it has never seen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from calibration.refusal import Refusal
from pipeline.cli.calibrate.options import Station
from pipeline.cli.calibrate.parts import PartPicture, named
from pipeline.teaching.pixel_facts import pixels_sha256
from pipeline.teaching.taught_file import taught_pixels
from pipeline.teaching.window_pictures import cuts_of
from vision.package import ModelPackage
from vision.preprocess import WrongFrame
from vision.raw import decoded_pixels

_SHA256 = re.compile("[0-9a-fA-F]{64}")


class FittedOn:
    """As far as the package tells: by the SHA-256 of files anywhere under its card's ``training``, and by the pixels of what
    ``lineside teach`` was shown, as whole frames or as regions of them.
    """

    def __init__(self, package: ModelPackage, station: Station) -> None:
        """Raises FaultsError where what was taught cannot be read."""
        self._files = frozenset(_hashes(package.card.training))
        self._pixels = taught_pixels(package)
        self._pixel_format = station.frame_format.pixel_format
        self._cuts = (
            [cut for cut in cuts_of(station.line) if cut.camera_id == station.camera_id] if self._pixels else []
        )

    @property
    def count(self) -> int:
        """Pictures by which it is known."""
        return len(self._files) + len(self._pixels)

    def has(self, picture: PartPicture) -> bool:
        if picture.digest.hex() in self._files:
            return True
        return bool(self._pixels) and not self._pixels.isdisjoint(self._seen(picture))

    def _seen(self, picture: PartPicture) -> Iterator[str]:
        yield pixels_sha256(decoded_pixels(picture.pixels, self._pixel_format))
        for cut in self._cuts:
            try:
                yield pixels_sha256(cut.of(picture.pixels))
            except WrongFrame:
                continue


def fitted_refusals(names: Sequence[str]) -> list[Refusal]:
    """``names``: of pictures that the model was fitted on."""
    if not names:
        return []
    advice = "Take them out, and put pictures of other parts in their place."
    return [Refusal("pictures that the model was fitted on", named(names), "parts that it has never seen", advice)]


def _hashes(content: object) -> Iterator[str]:
    if isinstance(content, dict):
        for each in (*content.keys(), *content.values()):
            yield from _hashes(each)
    elif isinstance(content, list):
        for each in content:
            yield from _hashes(each)
    elif isinstance(content, str) and _SHA256.fullmatch(content):
        yield content.lower()
