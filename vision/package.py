"""The model package: a folder with ``model.onnx`` and its card ``model.yaml``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, ValidationInfo, field_validator

from vision.decoders import DECODED_TASKS, DECODERS
from vision.faults import Fault, FaultsError, faults_of, quote
from vision.recipe import Strict

CARD_NAME = "model.yaml"
MODEL_NAME = "model.onnx"

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(allow_inf_nan=False, gt=0.0)]


class PackageError(FaultsError):
    """The model package cannot be used; ``faults`` holds everything found wrong with it."""


class PackageUnreadable(PackageError):
    """A file of the package could not be read now: the disk's fault, which may pass, and says nothing of the package."""


class ModelInput(Strict):
    """What the model wants to see: ``x = (pixel * scale - mean) / std`` per channel, pixel 0..255."""

    name: str = Field(min_length=1)
    width_px: int = Field(gt=0)
    height_px: int = Field(gt=0)
    colour_order: Literal["GRAY", "RGB", "BGR"]
    layout: Literal["NCHW"] = "NCHW"
    scale: Positive
    mean: list[Finite]
    std: list[Positive]
    fit: Literal["stretch", "letterbox"] = "stretch"
    pad_value: int = Field(default=114, ge=0, le=255, description="grey level around a letterboxed region")

    @field_validator("mean", "std")
    @classmethod
    def _one_per_channel(cls, values: list[float], info: ValidationInfo) -> list[float]:
        order = info.data.get("colour_order")
        if order is not None and len(values) != _channel_count(order):
            raise ValueError(f"{_channel_count(order)} numbers, one per channel of {order}")
        return values

    @property
    def channel_count(self) -> int:
        return _channel_count(self.colour_order)

    @property
    def row_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one row of the batch."""
        return (self.channel_count, self.height_px, self.width_px)


class ModelOutput(Strict):
    """The tensor that the decoder reads."""

    name: str = Field(min_length=1)


class ModelCard(Strict):
    """``model.yaml``: what the model is, what it eats, what it was trained on and how good it was measured to be."""

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    task: Literal["classification", "detection", "segmentation", "anomaly", "reference"]
    input: ModelInput
    output: ModelOutput
    classes: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1)
    decoder: str
    thresholds: dict[str, Annotated[float, Field(gt=0.0, le=1.0)]] = Field(default_factory=dict)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    licence: str = Field(min_length=1)
    training: dict[str, Any] = Field(default_factory=dict)
    accuracy: dict[str, Any] = Field(default_factory=dict)
    limitations: str = ""

    @field_validator("task")
    @classmethod
    def _task_has_a_decoder(cls, task: str) -> str:
        if task not in DECODED_TASKS:
            raise ValueError(f"a task with a decoder in this version: {', '.join(DECODED_TASKS)}")
        return task

    @field_validator("classes")
    @classmethod
    def _classes_are_unique(cls, classes: list[str]) -> list[str]:
        if len(set(classes)) != len(classes):
            raise ValueError("every class once")
        return classes

    @field_validator("decoder")
    @classmethod
    def _decoder_exists(cls, decoder: str) -> str:
        if decoder not in DECODERS:
            raise ValueError(f"one of: {', '.join(sorted(DECODERS))}")
        return decoder

    @field_validator("thresholds")
    @classmethod
    def _thresholds_name_classes(cls, thresholds: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        classes = info.data.get("classes")
        if classes is not None and (strangers := sorted(set(thresholds) - set(classes))):
            raise ValueError(f"thresholds of the model's classes {classes} only, not of {strangers}")
        return thresholds


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package whose card is valid and whose model file is the one that the card describes."""

    card: ModelCard
    folder: Path
    model_path: Path
    sha256: str

    @property
    def card_path(self) -> Path:
        return self.folder / CARD_NAME


def load_package(folder: Path) -> ModelPackage:
    """Reads a package and checks its card and the hash of its model. Raises PackageError with every fault found,
    PackageUnreadable where the disk fails.
    """
    card_path, model_path = folder / CARD_NAME, folder / MODEL_NAME
    missing = [
        Fault(str(path), "", "no such file", f"{what} (a model package is a folder with {CARD_NAME} and {MODEL_NAME})")
        for path, what in ((card_path, "the model's card"), (model_path, "the model"))
        if not _is_file(path)
    ]
    if missing:
        raise PackageError(missing)
    card = read_card(card_path)
    sha256 = hashlib.sha256(read_bytes(model_path)).hexdigest()
    if sha256 != card.sha256:
        raise PackageError([hash_fault(card_path, got=sha256, expected=card.sha256)])
    return ModelPackage(card=card, folder=folder, model_path=model_path, sha256=sha256)


def read_card(card_path: Path) -> ModelCard:
    """Reads and validates a card alone. Raises PackageError with every fault found."""
    content = read_bytes(card_path)
    try:
        written = yaml.safe_load(content.decode("utf-8"))
    except (
        yaml.YAMLError,
        ValueError,
        RecursionError,
    ) as error:  # also an impossible date, or a number of 5,000 digits
        first_line = " ".join(str(error).split())
        raise PackageError([Fault(str(card_path), "", f"text that is not YAML ({first_line})", "YAML")]) from error
    if not isinstance(written, dict):
        raise PackageError([Fault(str(card_path), "", quote(written), "a mapping of the card's keys")])
    try:
        return ModelCard.model_validate(written)
    except ValidationError as error:
        raise PackageError(faults_of(str(card_path), error)) from error


def read_bytes(path: Path) -> bytes:
    """A file of the package. Raises PackageUnreadable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def hash_fault(card_path: Path, *, got: str, expected: str) -> Fault:
    """The model file is not the one that the card describes."""
    advice = f"fetch the package again, or write the new hash into {card_path.name} if the change was meant"
    return Fault(str(card_path), "sha256", f"a {MODEL_NAME} with {got}", f"{expected}: {advice}")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> PackageUnreadable:
    return PackageUnreadable([Fault(str(path), "", str(error.strerror), "a readable file")])


def _channel_count(colour_order: str) -> int:
    return 1 if colour_order == "GRAY" else 3
