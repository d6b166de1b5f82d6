"""Decoders: one file per model head, raw tensors -> Findings.

A decoder is built once per row of the batch and decodes that row of every part. A new head is one new file, one new line in
``DECODERS`` and one in ``DecoderSettings``.
"""

from __future__ import annotations

from vision.decoders.base import Decoder, DecoderKind, TensorFormat, WrongOutput
from vision.decoders.classification import ClassificationDecoder, ClassificationSettings

__all__ = ["DECODERS", "DECODING_VERSION", "Decoder", "DecoderKind", "DecoderSettings", "TensorFormat", "WrongOutput"]

DECODING_VERSION = 1
"""Counts changes that can change a finding or its judgement; part of the runtime fingerprint."""

DecoderSettings = ClassificationSettings
"""The ``decoder`` of a model card: a kind with its settings."""

DECODERS: dict[str, DecoderKind] = {
    "classification": ClassificationDecoder,
}
