"""A product's package: the model and its card, in a folder that is put in its place when everything in it is true."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Mapping, Sequence
from errno import EINVAL, ENOSYS
from pathlib import Path
from types import MappingProxyType
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


VERSION = "1"
"""What comes before the ``+`` where nobody says otherwise."""


def write_package(
    folder: Path,
    shape: FeatureShape,
    views: Sequence[str],
    model: bytes,
    name: str,
    training: Mapping[str, Any],
    accuracy: Mapping[str, Any],
    edited: Mapping[str, Any] = MappingProxyType({}),
    version: str = VERSION,
) -> None:
    """Model and card into a folder that is there; ``views``: their names, in the model's order; ``edited``: keys of the card in
    place of those of ``fixed_card``. Raises OSError.
    """
    card = {
        **_card(shape, views, name, model, version),
        "training": dict(training),
        "accuracy": dict(accuracy),
        **edited,
    }
    (folder / MODEL_NAME).write_bytes(model)
    text = yaml.safe_dump(_whole(card), sort_keys=False, allow_unicode=True, width=_LINE_WIDTH)
    (folder / CARD_NAME).write_text(text, encoding="utf-8")


def fixed_card(shape: FeatureShape, views: Sequence[str]) -> dict[str, Any]:
    """Of the card what is the same whatever the pictures show, as it is written."""
    written = _whole(_card(shape, views, "any", b"", VERSION))
    return {key: value for key, value in written.items() if key not in _BY_TEACHING}


_BY_TEACHING = ("name", "version", "sha256", "training", "accuracy", "derivation")


def _card(shape: FeatureShape, views: Sequence[str], name: str, model: bytes, version: str) -> dict[str, Any]:
    sha256 = hashlib.sha256(model).hexdigest()
    return {
        "name": name,
        "version": f"{version}+{sha256[:12]}",
        "task": "anomaly",
        "input": input_of(shape, views),
        "outputs": {SCORE: SCORE, MAP: MAP},
        "classes": list(CLASSES),
        "decoder": {"kind": "anomaly"},
        "thresholds": {ANOMALY: THRESHOLD},
        "sha256": sha256,
        "licence": "Apache-2.0 (the backbone's weights); what was learnt from the pictures is yours",
        "limitations": LIMITATIONS,
    }


def _whole(card: Mapping[str, Any]) -> dict[str, Any]:
    """With defaults; without what has nothing in it, which would be asked for."""
    return ModelCard.model_validate(dict(card)).model_dump(mode="json", exclude_none=True)


def publish(draft: Path, out: Path, *, is_replacing: bool = False) -> None:
    """Everything on disk, then in the place of ``out`` in one step; ``is_replacing``: what is there is removed.

    Raises OSError, FileExistsError or another where something is there that is not to be replaced.
    """
    for place, _, files in os.walk(draft):
        for file in files:
            path = Path(place, file)
            if path.is_symlink():  # whatever it leads to is not ours
                continue
            with path.open("rb") as written:
                os.fsync(written.fileno())
        sync_folder(Path(place))
    if is_replacing:
        _exchange(draft, out)
    else:
        draft.rename(out)  # of a folder onto one with something in it is refused
    sync_folder(out.parent)


def _exchange(one: Path, other: Path) -> None:
    """The draft's folder becomes the package and the other way round: a reader finds the one or the other."""
    code = _renamed_both(one, other)
    if code == 0:
        return
    if code not in (EINVAL, ENOSYS):
        raise OSError(code, os.strerror(code), str(other))
    # Some network file systems cannot: for a moment there is no package, which a starting line waits for.
    aside = one.with_name(f"{one.name}.before")
    other.rename(aside)
    try:
        one.rename(other)
    except OSError:
        aside.rename(other)
        raise
    aside.rename(one)


def _renamed_both(one: Path, other: Path) -> int:
    """0, or the number of the error."""
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:  # a C library without it
        return ENOSYS
    paths = os.fsencode(one), os.fsencode(other)
    done = call(_AT_WORKING_DIRECTORY, paths[0], _AT_WORKING_DIRECTORY, paths[1], _EXCHANGE)
    return 0 if done == 0 else ctypes.get_errno()
