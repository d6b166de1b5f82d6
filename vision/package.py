"""The model package: a folder with ``model.onnx`` and its card ``model.yaml``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator

from vision.decoders import DECODERS, DecoderSettings
from vision.faults import Fault, FaultsError, disagreement, faults_of, quote
from vision.model_input import ModelInput
from vision.recipe import Strict

CARD_NAME = "model.yaml"
MODEL_NAME = "model.onnx"


class PackageError(FaultsError):
    """The model package cannot be used; ``faults`` holds everything found wrong with it."""


class PackageUnreadable(PackageError):
    """A file of the package could not be read now: the disk's fault, which may pass, and says nothing of the package."""


def _settings_of(decoder: object) -> object:
    """A word alone is a kind with its defaults."""
    return {"kind": decoder} if isinstance(decoder, str) else decoder


class VerificationLimits(Strict):
    """How much another runtime may differ from the reference (the CPU provider, one row at a time) on sample images."""

    flips_max: int = Field(default=0, ge=0, description="views that get another verdict")
    score_difference_max: float | None = Field(
        default=None, ge=0.0, le=1.0, description="between the scores of a view; null: any"
    )


class ModelCard(Strict):
    """``model.yaml``: what the model is, what it eats, what it was trained on and how good it was measured to be."""

    name: str = Field(min_length=1)
    version: str = Field(min_length=1)
    task: Literal["classification", "detection", "segmentation", "anomaly", "reference"]
    input: ModelInput
    outputs: dict[str, Annotated[str, Field(min_length=1)]] = Field(
        min_length=1, description="the tensor that has each role that the decoder knows"
    )
    classes: list[Annotated[str, Field(min_length=1)]] = Field(min_length=1)
    decoder: Annotated[DecoderSettings, BeforeValidator(_settings_of, json_schema_input_type=DecoderSettings | str)]
    thresholds: dict[str, Annotated[float, Field(gt=0.0, le=1.0)]] = Field(default_factory=dict)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    licence: str = Field(min_length=1)
    training: dict[str, Any] = Field(default_factory=dict)
    accuracy: dict[str, Any] = Field(default_factory=dict)
    limitations: str = ""
    verification: VerificationLimits = VerificationLimits()
    derivation: dict[str, Any] = Field(
        default_factory=dict, description="what `lineside model quantize` made it from, how, and what its gate measured"
    )

    @field_validator("classes")
    @classmethod
    def _classes_are_unique(cls, classes: list[str]) -> list[str]:
        if len(set(classes)) != len(classes):
            raise ValueError("every class once")
        return classes

    @field_validator("thresholds")
    @classmethod
    def _thresholds_name_classes(cls, thresholds: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        classes = info.data.get("classes")
        if classes is not None and (strangers := sorted(set(thresholds) - set(classes))):
            raise ValueError(f"thresholds of the model's classes {classes} only, not of {strangers}")
        return thresholds

    @model_validator(mode="after")
    def _decoder_fits(self) -> ModelCard:
        decoder = DECODERS[self.decoder.kind]
        if self.task != decoder.TASK:
            raise disagreement("task", repr(self.task), f"{decoder.TASK}, which decoder {self.decoder.kind} serves")
        known = {*decoder.ROLES, *decoder.OPTIONAL_ROLES}
        if missing := sorted(decoder.ROLES - set(self.outputs)):
            raise disagreement("outputs", str(sorted(self.outputs)), f"also the roles {', '.join(missing)}")
        if strangers := sorted(set(self.outputs) - known):
            raise disagreement("outputs", f"the roles {', '.join(strangers)}", f"only {', '.join(sorted(known))}")
        return self


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
        raise PackageError([_without_tag(fault) for fault in faults_of(str(card_path), error)]) from error


def read_bytes(path: Path) -> bytes:
    """A file of the package. Raises PackageUnreadable."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _without_tag(fault: Fault) -> Fault:
    """Pydantic puts the decoder's kind into the path of its settings; nobody wrote it there."""
    first, *rest = fault.key.split(".")
    return replace(fault, key=".".join((first, *rest[1:]))) if first == "decoder" and len(rest) > 1 else fault


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
