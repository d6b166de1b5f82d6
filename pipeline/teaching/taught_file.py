"""What was taught, kept beside the model so that parts can be added: features of every good picture, and what they are of.

``taught/parts.json`` and, for each view in its order, ``taught/features_N.npy``, float32 (parts, channels, rows, columns). No
picture is kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, ValidationError, model_validator

from calibration.auroc import Auroc
from calibration.teaching.backbone import CHANNELS_BY_DEPTH, FeatureShape
from pipeline.teaching.features import Features, mapped
from pipeline.teaching.names import SoundName
from vision.faults import Fault, FaultsError, disagreement, faults_of, quote
from vision.package import CARD_NAME, ModelPackage
from vision.plain_file import NotAPlainFile, read_plain_file
from vision.preprocess import FrameFormat
from vision.recipe import Strict

FOLDER = "taught"
_FILE = "parts.json"

_BLOCK_BYTES = 1 << 20
_BYTES_MAX = 1 << 28
"""Of ``parts.json``: a part's entry is some 200 bytes."""

_FEATURE_MAX = 1e4
"""Of pictures they are of the order of 1 to 100."""


class KeptPicture(Strict):
    """One view of a part. ``source``: the folder or recorded window that ``name`` is of; empty where it was not kept."""

    name: SoundName
    pixels_sha256: str
    source: str = ""


class KeptPart(Strict):
    """A good part, with its score when it was last taught; ``pictures`` in the order of the views; ``is_said_good``: somebody has
    looked at it; ``is_said_other``: somebody knows that no other picture shows it; ``was_rejected``: by the product as it was when
    the part was added; ``lot``: 0 of those that it was taught with first, and one more at each time that parts were added.
    """

    name: SoundName
    score: Annotated[float, Field(ge=0.0, le=1.0)]
    pictures: tuple[KeptPicture, ...]
    is_said_good: bool = False
    is_said_other: bool = False
    was_rejected: bool = False
    lot: Annotated[int, Field(ge=0)] = 0


class TakenOut(Strict):
    """A part of which somebody said that it is not good: ``pictures`` as they were shown then."""

    name: SoundName
    pictures: tuple[KeptPicture, ...]


class KeptView(Strict):
    """A view, what its pictures are like, and the hash of the file with their features."""

    name: SoundName
    frame: FrameFormat
    features_sha256: str


class WrittenCard(Strict):
    """What was written into the card, to be told from what somebody has changed there since: ``values`` of keys that are the same
    whatever was taught, and the ``keys`` inside those that are not.
    """

    values: dict[str, Any]
    keys: dict[str, tuple[str, ...]]


class Taught(Strict):
    """``parts.json``. ``sha256``: of the model that was made of it; ``parts_missing``: for the promise that was asked for."""

    layout: Literal["lineside.taught/1"]
    product: SoundName
    sha256: str
    shape: FeatureShape
    false_reject_max: Annotated[float, Field(gt=0.0, lt=1.0)]
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)]
    views: Annotated[tuple[KeptView, ...], Field(min_length=1)]
    parts: Annotated[tuple[KeptPart, ...], Field(min_length=1)]
    rejected: tuple[SoundName, ...] = ()
    said_defective: tuple[SoundName, ...] = ()
    taken_out: tuple[TakenOut, ...] = ()
    parts_missing: int | None
    auroc: Auroc | None
    card: WrittenCard | None = None

    @model_validator(mode="after")
    def _agrees(self) -> Taught:
        if self.shape.depth not in CHANNELS_BY_DEPTH:
            raise disagreement("shape.depth", str(self.shape.depth), f"one of {', '.join(map(str, CHANNELS_BY_DEPTH))}")
        for number, part in enumerate(self.parts):
            if len(part.pictures) != len(self.views):
                got, expected = f"{len(part.pictures)} pictures", f"{len(self.views)}, one of each view"
                raise disagreement(f"parts.{number}.pictures", got, expected)
        return self

    @property
    def names_by_pixels(self) -> dict[str, str]:
        """Each picture's name by its pixels' hash."""
        return {picture.pixels_sha256: picture.name for part in self.parts for picture in part.pictures}

    @property
    def frames(self) -> dict[str, FrameFormat]:
        """By view."""
        return {view.name: view.frame for view in self.views}


class PackageHeld(RuntimeError):
    """Somebody else is at work on the package. The text says what to do."""


@contextmanager
def held(package: Path) -> Iterator[None]:
    """Nobody else adds parts to the package meanwhile, as long as this process lives; a package without ``FOLDER`` is not held.

    Raises PackageHeld.
    """
    folder = package / FOLDER
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        descriptor = -1
    try:
        if descriptor >= 0:
            _lock(descriptor, package)
        yield
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _lock(descriptor: int, package: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        told = f"{package}: another `lineside teach` is at work on it; nothing was written: wait until it has ended"
        raise PackageHeld(told) from None
    except OSError:  # a network file system without locks: the model's hash is looked at again before it is replaced
        return
    with suppress(OSError):
        if os.path.samestat(os.fstat(descriptor), (package / FOLDER).stat()):
            return
    raise PackageHeld(f"{package} was changed by somebody else just now; nothing was written: try again")


def features_file(package: Path, view_index: int) -> Path:
    """Of one view."""
    return package / FOLDER / f"features_{view_index}.npy"


def features_sha256(package: Path, view_index: int) -> str:
    """Of the file's content. Raises OSError."""
    digest = hashlib.sha256()
    with features_file(package, view_index).open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def write_taught(package: Path, taught: Taught) -> None:
    """Beside the features, in a folder that is there. Raises OSError."""
    text = taught.model_dump_json(indent=1)
    (package / FOLDER / _FILE).write_text(text, encoding="utf-8")


def read_taught(package: ModelPackage) -> tuple[Taught, list[Features]]:
    """What a package was taught; the features are mapped from their files. Raises FaultsError."""
    file, expected = (
        package.folder / FOLDER / _FILE,
        f"a package made by `lineside teach`, whole, with its folder {FOLDER}",
    )
    taught = _read(file, expected)
    if taught.sha256 != package.sha256:
        got, wanted = f"of the model {taught.sha256}", f"{package.sha256}, the model beside it: teach anew"
        raise FaultsError([Fault(str(file), "sha256", got, wanted)])
    views = package.card.input.views or [""]
    if len(taught.views) > 1 and views != [view.name for view in taught.views]:
        got, wanted = ", ".join(map(quote, views)), ", ".join(quote(view.name) for view in taught.views)
        fault = Fault(
            str(package.card_path), "input.views", got, f"{wanted}, as they were taught: name them so, or teach anew"
        )
        raise FaultsError([fault])
    shape, wanted_shape = taught.shape, package.card.input.row_shape
    if (shape.input_channel_count, shape.input_height_px, shape.input_width_px) != wanted_shape:
        got = f"an input of {shape.input_width_px}x{shape.input_height_px}, {shape.input_channel_count} channels"
        wanted = f"channels, height and width {wanted_shape}, as {CARD_NAME} says"
        raise FaultsError([Fault(str(file), "shape", got, wanted)])
    return taught, [_features(package.folder, taught, index, expected) for index in range(len(taught.views))]


def taught_pixels(package: ModelPackage) -> frozenset[str]:
    """The ``pixels_sha256`` of every good picture that the package was taught with; none of one that was made otherwise.

    Raises FaultsError where what it was taught cannot be read, or is of another model.
    """
    if not (package.folder / FOLDER).exists():
        return frozenset()
    taught = _read(package.folder / FOLDER / _FILE, "what `lineside teach` wrote")
    return frozenset(taught.names_by_pixels) if taught.sha256 == package.sha256 else frozenset()


def _read(file: Path, expected: str) -> Taught:
    try:
        return Taught.model_validate_json(read_plain_file(file, max_bytes=_BYTES_MAX))
    except NotAPlainFile as error:
        raise FaultsError([Fault(str(file), "", error.got, f"{error.expected}: {expected}")]) from error
    except OSError as error:
        raise FaultsError([Fault(str(file), "", str(error.strerror), expected)]) from error
    except ValidationError as error:
        raise FaultsError(faults_of(str(file), error)) from error


def _features(package: Path, taught: Taught, index: int, expected: str) -> Features:
    file = features_file(package, index)
    size = (len(taught.parts), taught.shape.channel_count, *taught.shape.grid)
    try:
        if not stat.S_ISREG(file.lstat().st_mode):
            raise FaultsError([Fault(str(file), "", "no plain file", expected)])
        if features_sha256(package, index) != taught.views[index].features_sha256:
            raise FaultsError([Fault(str(file), "", "another content than was written", expected)])
        features = mapped(file)
    except (OSError, ValueError, EOFError) as error:
        if isinstance(error, FaultsError):
            raise
        raise FaultsError([Fault(str(file), "", str(error), expected)]) from error
    if features.shape != size or features.dtype != np.float32:
        got = f"{features.dtype} {list(features.shape)}"
        raise FaultsError([Fault(str(file), "", got, f"float32 {list(size)}, as {CARD_NAME} and {_FILE} say")])
    for part in range(len(features)):
        greatest = float(np.abs(features[part]).max())
        if not greatest <= _FEATURE_MAX:
            got = f"{greatest:g} among the features of part {part}"
            raise FaultsError([Fault(str(file), "", got, f"finite numbers up to {_FEATURE_MAX:g}: {expected}")])
    return features
