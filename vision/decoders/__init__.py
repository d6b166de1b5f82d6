"""Decoders: one file per model head, raw tensors -> Findings.

A decoder is built once per row of the batch and decodes that row of every part. A new head is one new file, one new line in
``DECODERS`` and one in ``DecoderSettings``.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vision.decoders.anomaly import AnomalyDecoder, AnomalySettings
from vision.decoders.base import Decoder, DecoderKind, TensorFormat, WrongOutput
from vision.decoders.classification import ClassificationDecoder, ClassificationSettings
from vision.decoders.end_to_end import EndToEndDecoder, EndToEndSettings
from vision.decoders.instance_segmentation import InstanceSegmentationDecoder, InstanceSegmentationSettings
from vision.decoders.semantic_segmentation import SemanticSegmentationDecoder, SemanticSegmentationSettings
from vision.decoders.yolov5 import Yolov5Decoder, Yolov5Settings
from vision.decoders.yolov8 import Yolov8Decoder, Yolov8Settings

__all__ = ["DECODERS", "DECODING_VERSION", "Decoder", "DecoderKind", "DecoderSettings", "TensorFormat", "WrongOutput"]

DECODING_VERSION = 3
"""Counts changes that can change a finding or its judgement; part of the runtime fingerprint."""

DecoderSettings = Annotated[
    ClassificationSettings
    | Yolov5Settings
    | Yolov8Settings
    | EndToEndSettings
    | InstanceSegmentationSettings
    | SemanticSegmentationSettings
    | AnomalySettings,
    Field(discriminator="kind"),
]
"""The ``decoder`` of a model card: a kind with its settings."""

DECODERS: dict[str, DecoderKind] = {
    "classification": ClassificationDecoder,
    "yolov5": Yolov5Decoder,
    "yolov8": Yolov8Decoder,
    "end_to_end": EndToEndDecoder,
    "instance_segmentation": InstanceSegmentationDecoder,
    "semantic_segmentation": SemanticSegmentationDecoder,
    "anomaly": AnomalyDecoder,
}
