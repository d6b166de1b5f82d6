"""A product's package: the model and its card, in a folder that is put in its place when everything in it is true."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Mapping
from errno import EINVAL, ENOSYS
from pathlib import Path
from typing import Any

import yaml

from calibration.teaching.backbone import FeatureShape
from calibration.teaching.graph import MAP, SCORE
from pipeline.teaching.features import input_of
from pipeline.whole_file import sync_folder
from vision.decoders.anomaly import ANOMALY, CLASSES
from vision.package import CARD_NAME, MODEL_NAME, ModelCard

THRESHOLD = 0.5
"""Of ``pred_score``, by how the model is made."""

_LINE_WIDTH = 130
_AT_WORKING_DIRECTORY, _EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)

LIMITATIONS = (
    "Knows nothing of defects: it finds what is unlike the good parts that it was shown, whatever that is, and passes defects "
    "that look like good parts. Another camera, light, position or make of the parts needs new pictures. Defects much smaller "
    "than a hundredth of the picture can go unseen."
)


def write_package(
    folder: Path,
    shape: FeatureShape,
    model: bytes,
    name: str,
    training: Mapping[str, Any],
    accuracy: Mapping[str, Any],
) -> None:
    """Model and card into a folder that is there. Raises OSError."""
    card = ModelCard.model_validate(
        {
            "name": name,
            "version": f"1+{hashlib.sha256(model).hexdigest()[:12]}",
            "task": "anomaly",
            "input": input_of(shape),
            "outputs": {SCORE: SCORE, MAP: MAP},
            "classes": list(CLASSES),
            "decoder": {"kind": "anomaly"},
            "thresholds": {ANOMALY: THRESHOLD},
            "sha256": hashlib.sha256(model).hexdigest(),
            "licence": "Apache-2.0 (the backbone's weights); what was learnt from the pictures is yours",
            "training": dict(training),
            "accuracy": dict(accuracy),
            "limitations": LIMITATIONS,
        }
    )
    (folder / MODEL_NAME).write_bytes(model)
    text = yaml.safe_dump(card.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=_LINE_WIDTH)
    (folder / CARD_NAME).write_text(text, encoding="utf-8")


def publish(draft: Path, out: Path) -> None:
    """Everything on disk, then in the place of ``out`` in one step; what was there is removed. Raises OSError."""
    for place, _, files in os.walk(draft):
        for file in files:
            with Path(place, file).open("rb") as written:
                os.fsync(written.fileno())
        sync_folder(Path(place))
    if out.exists():
        _exchange(draft, out)
    else:
        draft.rename(out)
    sync_folder(out.parent)


def _exchange(one: Path, other: Path) -> None:
    """The draft's folder becomes the package and the other way round: a reader finds the one or the other."""
    libc = ctypes.CDLL(None, use_errno=True)
    paths = os.fsencode(one), os.fsencode(other)
    if libc.renameat2(_AT_WORKING_DIRECTORY, paths[0], _AT_WORKING_DIRECTORY, paths[1], _EXCHANGE) == 0:
        return
    if (code := ctypes.get_errno()) not in (EINVAL, ENOSYS):
        raise OSError(code, os.strerror(code), str(other))
    # Some network file systems cannot: for a moment there is no package, which a starting line waits for.
    aside = one.with_name(f"{one.name}.before")
    other.rename(aside)
    one.rename(other)
    aside.rename(one)
