"""The model package: a folder with ``model.onnx`` and its card ``model.yaml``."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, field_validator, model_validator

from vision.decoders import DECODERS, DecoderSettings
from vision.decoders.anomaly import HOT_REGION, AnomalySettings
from vision.decoders.semantic_segmentation import SCORE_MIN_OF_ONE, SemanticSegmentationSettings
from vision.faults import Fault, disagreement, faults_of
from vision.identify import Identification, identify
from vision.model_input import ModelInput
from vision.onnx_file import OnnxFile, RefusedModel, read_onnx
from vision.package_files import (
    CARD_NAME,
    MODEL_NAME,
    PackageError,
    PackageFiles,
    PackageUnreadable,
    find_files,
    is_there,
    read_bytes,
    read_card,
    read_sidecar,
)
from vision.recipe import Strict

__all__ = [
    "CARD_NAME",
    "MODEL_NAME",
    "Look",
    "ModelCard",
    "ModelPackage",
    "PackageError",
    "PackageUnreadable",
    "hash_fault",
    "judged",
    "load_package",
    "look_at",
    "read_bytes",
]


def _settings_of(decoder: object) -> object:
    """A word alone is a kind with its defaults."""
    return {"kind": decoder} if isinstance(decoder, str) else decoder


def _in_small_letters(digest: object) -> object:
    """Some tools write hexadecimal digits in capitals."""
    return digest.lower() if isinstance(digest, str) else digest


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
    sha256: Annotated[str, BeforeValidator(_in_small_letters)] = Field(pattern="^[0-9a-f]{64}$")
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
        for name, threshold in self.thresholds.items():
            if (floor := self.score_floor(name)) is not None and threshold <= floor[1]:
                expected = f"more than {floor[1]:g}: findings up to that are dropped ({floor[0]})"
                raise disagreement(f"thresholds.{name}", f"{threshold:g}", expected)
        return self

    def score_floor(self, class_name: str) -> tuple[str, float] | None:
        """The key of the card by which findings of a class are dropped, and up to which score; None where none are."""
        settings = self.decoder
        if isinstance(settings, AnomalySettings):
            if class_name != HOT_REGION or "anomaly_map" not in self.outputs:
                return None
            # What scores hot_min itself is hot.
            return "decoder.hot_min", math.nextafter(settings.hot_min, 0.0)
        score_min = getattr(settings, "score_min", None)
        if score_min is None and isinstance(settings, SemanticSegmentationSettings) and len(self.classes) == 1:
            score_min = SCORE_MIN_OF_ONE
        return None if score_min is None else ("decoder.score_min", score_min)


@dataclass(frozen=True, slots=True)
class ModelPackage:
    """A package whose card is valid and whose model file is the one that the card describes.

    Where a file brought no card, or one with gaps, ``card`` is what the file itself is known to be. ``card_path`` names the card
    in faults: the model's own file where that is alone.
    """

    card: ModelCard
    folder: Path
    model_path: Path
    sha256: str
    card_path: Path

    def card_text(self) -> str:
        """The whole card as ``model.yaml`` would have it."""
        return yaml.safe_dump(self.card.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)


@dataclass(frozen=True, slots=True)
class Look:
    """What was found at a path, before anything is judged. ``written`` is the card as it stands there, None without one."""

    files: PackageFiles
    facts: OnnxFile
    written: dict[str, Any] | None
    identification: Identification


def look_at(path: Path) -> Look:
    """Reads a package's folder, or an ONNX file alone, and says what the model is.

    Raises PackageError where the model is not the one of its card, or must not be loaded, or the card is no YAML;
    PackageUnreadable where the disk fails.
    """
    files = find_files(path)
    if not is_there(files.model_path):
        expected = f"the model (a package is a folder with {MODEL_NAME} and its card {CARD_NAME})"
        raise PackageError([Fault(str(files.model_path), "", "no such file", expected)])
    content = read_bytes(files.model_path)
    written = read_card(files.card_path) if files.is_package and is_there(files.card_path) else None
    sha256, expected_sha256 = hashlib.sha256(content).hexdigest(), (written or {}).get("sha256")
    if isinstance(expected_sha256, str) and expected_sha256.lower() != sha256:
        raise PackageError([hash_fault(files.card_path, got=sha256, expected=expected_sha256)])
    try:
        facts = read_onnx(content, str(files.model_path))
    except RefusedModel as error:
        raise PackageError(error.faults) from error
    identification = identify(
        facts,
        name=files.name,
        model_file=str(files.model_path),
        card_file=str(files.card_path),
        card=written,
        sidecar=read_sidecar(files.folder) if files.is_package else None,
    )
    return Look(files, facts, written, identification)


def load_package(path: Path) -> ModelPackage:
    """Reads a package and checks its card and the hash of its model.

    ``path``: a folder with ``model.onnx`` and, where the file does not say everything, its card ``model.yaml``; or an ONNX file.
    A card with gaps is completed from the file; what the file does not say is a fault that names the card's key.

    Raises PackageError with every fault found, PackageUnreadable where the disk fails.
    """
    look = look_at(path)
    card, faults = judged(look)
    card_file, questions = str(look.files.card_path), look.identification.questions
    if card is None and questions:
        begin = f"`lineside model info {look.files.model_path} --card FILE` begins one"
        if not look.files.is_package:
            expected = f"a folder with this file as {MODEL_NAME} and its card as {CARD_NAME} ({begin})"
            faults.append(Fault(str(look.files.model_path), "", "a file that does not say everything itself", expected))
            card_file = CARD_NAME
        elif look.written is None:
            expected = f"the model's card, since its file does not say everything ({begin})"
            faults.append(Fault(card_file, "", "no such file", expected))
        faults += [question.fault(card_file) for question in questions]
    if faults or card is None:
        raise PackageError(faults)
    card_path = look.files.card_path if look.files.is_package else look.files.model_path
    return ModelPackage(card, look.files.folder, look.files.model_path, look.facts.sha256, card_path)


def _is_gap(finding: Any) -> bool:
    """Whether nothing is written where pydantic wants something."""
    return finding["type"] in ("missing", "union_tag_not_found") or finding["input"] is None


def _card_faults(card_file: str, error: ValidationError) -> list[Fault]:
    return [replace(fault, key=_untagged(fault.key)) for fault in faults_of(card_file, error)]


def _untagged(key: str) -> str:
    """Pydantic puts the decoder's kind into the path of its settings; nobody wrote it there."""
    first, *rest = key.split(".")
    return ".".join((first, *rest[1:])) if first == "decoder" and len(rest) > 1 else key


def hash_fault(card_path: Path, *, got: str, expected: str) -> Fault:
    """The model file is not the one that the card describes."""
    advice = f"fetch the package again, or write the new hash into {card_path.name} if the change was meant"
    return Fault(str(card_path), "sha256", f"a {MODEL_NAME} with {got}", f"{expected}: {advice}")


def judged(look: Look) -> tuple[ModelCard | None, list[Fault]]:
    """The card, as written where it is whole, else completed from the file; None where it has gaps or faults of its own.

    With what is wrong with card and file; what is only to be answered is left to ``look.identification.questions``.
    """
    card_file, identification = str(look.files.card_path), look.identification
    faults: list[Fault] = []
    if look.written is not None:
        if look.written.get("sha256") is None:
            expected = f"{look.facts.sha256} if the {MODEL_NAME} beside it is the model that this card describes"
            faults.append(Fault(card_file, "sha256", "nothing", expected))
        else:
            try:
                return ModelCard.model_validate(look.written), list(identification.faults)
            except ValidationError as error:
                if not any(map(_is_gap, error.errors(include_url=False))):
                    return None, _card_faults(card_file, error)
    card = None
    try:
        card = ModelCard.model_validate(identification.card())
    except ValidationError as error:
        missing = {
            _untagged(".".join(map(str, finding["loc"])))
            for finding in error.errors(include_url=False)
            if _is_gap(finding) and not identification.is_complete
        }
        faults += [fault for fault in _card_faults(card_file, error) if fault.key not in missing]
    return (None if identification.questions else card), faults + list(identification.faults)
