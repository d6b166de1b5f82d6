"""Frames of one camera, read from folders of pictures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.cli.calibrate.options import Station, check_size, seen_in
from vision.faults import Fault, FaultsError


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """``pixels``: uint8 (count, height, width) or (count, height, width, 3), the camera's frames decoded, by the files' names."""

    folder: Path
    names: list[str]
    digests: list[bytes]
    pixels: npt.NDArray[np.uint8]

    def expect_distinct(self) -> None:
        """Raises FaultsError where one picture is there twice: what changes from frame to frame could not be told."""
        first: dict[bytes, str] = {}
        for name, digest in zip(self.names, self.digests, strict=True):
            if (other := first.setdefault(digest, name)) != name:
                expected = "another picture: take each one anew, copies tell nothing"
                raise FaultsError([Fault(f"{self.folder}/{name}", "", f"the same picture as {other}", expected)])


def frames_in(folder: Path, station: Station) -> Frames:
    """Raises FaultsError where there are none, or of another size than the camera's frames."""
    names, digests, all_pixels = [], [], []
    pixel_format = station.frame_format.pixel_format
    for name, pixels, digest in seen_in(folder, pixel_format):
        check_size(f"{folder}/{name}", pixels, pixel_format.decoded, station)
        names.append(name)
        digests.append(digest)
        all_pixels.append(pixels)
    return Frames(folder, names, digests, np.stack(all_pixels))
