"""What was taught, kept beside the model so that parts can be added: features of every good picture, and what they are of.

``taught/parts.json`` and, for each view in its order, ``taught/features_N.npy``, float32 (parts, channels, rows, columns). No
picture is kept.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ValidationError

from calibration.auroc import Auroc
from calibration.teaching.backbone import FeatureShape
from pipeline.teaching.features import Features
from vision.faults import Fault, FaultsError, faults_of
from vision.package import CARD_NAME, ModelPackage
from vision.preprocess import FrameFormat
from vision.recipe import Strict

FOLDER = "taught"
_FILE = "parts.json"


class KeptPicture(Strict):
    """One view of a part."""

    name: str
    pixels_sha256: str


class KeptPart(Strict):
    """A good part, with its score when it was last taught; ``pictures`` in the order of the views."""

    name: str
    score: float
    pictures: tuple[KeptPicture, ...]


class KeptView(Strict):
    """A view and what its pictures are like."""

    name: str
    frame: FrameFormat


class Taught(Strict):
    """``parts.json``. ``sha256``: of the model that was made of it; ``parts_missing``: for the promise that was asked for."""

    layout: Literal["lineside.taught/1"]
    product: str
    sha256: str
    shape: FeatureShape
    false_reject_max: float
    confidence: float
    views: tuple[KeptView, ...]
    parts: tuple[KeptPart, ...]
    parts_missing: int | None
    auroc: Auroc | None

    @property
    def names_by_pixels(self) -> dict[str, str]:
        """Each picture's name by its pixels' hash."""
        return {picture.pixels_sha256: picture.name for part in self.parts for picture in part.pictures}

    @property
    def frames(self) -> dict[str, FrameFormat]:
        """By view."""
        return {view.name: view.frame for view in self.views}


def features_file(package: Path, view_index: int) -> Path:
    """Of one view."""
    return package / FOLDER / f"features_{view_index}.npy"


def write_taught(package: Path, taught: Taught) -> None:
    """Beside the features, in a folder that is there. Raises OSError."""
    text = taught.model_dump_json(indent=1)
    (package / FOLDER / _FILE).write_text(text, encoding="utf-8")


def read_taught(package: ModelPackage) -> tuple[Taught, list[Features]]:
    """What a package was taught; the features are mapped from their files. Raises FaultsError."""
    file = package.folder / FOLDER / _FILE
    expected = f"a package made by `lineside teach`, whole, with its folder {FOLDER}"
    try:
        taught = Taught.model_validate_json(file.read_bytes())
    except OSError as error:
        raise FaultsError([Fault(str(file), "", str(error.strerror), expected)]) from error
    except ValidationError as error:
        raise FaultsError(faults_of(str(file), error)) from error
    if taught.sha256 != package.sha256:
        got, wanted = f"of the model {taught.sha256}", f"{package.sha256}, the model beside it: teach anew"
        raise FaultsError([Fault(str(file), "sha256", got, wanted)])
    features = []
    for index in range(len(taught.views)):
        of_view = features_file(package.folder, index)
        try:
            mapped = np.load(of_view, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise FaultsError([Fault(str(of_view), "", str(error), expected)]) from error
        size = (len(taught.parts), taught.shape.channel_count, *taught.shape.grid)
        if mapped.shape != size or mapped.dtype != np.float32:
            got = f"{mapped.dtype} {list(mapped.shape)}"
            raise FaultsError([Fault(str(of_view), "", got, f"float32 {list(size)}, as {CARD_NAME} and {_FILE} say")])
        features.append(mapped)
    return taught, features
