"""What an engineer has made of a taught package since: what of it goes on into the package with more parts, and what cannot.

What was written when it was taught is kept in ``taught/parts.json`` (``WrittenCard``); what differs from that is the engineer's.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.teaching.package_writer import THRESHOLD, VERSION, fixed_card
from pipeline.teaching.taught_file import FOLDER, Taught, WrittenCard
from pipeline.verification.file import file_of
from vision.decoders.anomaly import ANOMALY
from vision.package import CARD_NAME, MODEL_NAME, ModelPackage, read_bytes
from vision.package_files import read_card

_HOLDS = ("licence", "limitations", "decoder", "thresholds", "verification")
"""Keys of the card that say nothing of the model's weights."""


@dataclass(frozen=True, slots=True)
class Carried:
    """``card``: keys in place of those that are written otherwise; ``training``: keys beside those of the teaching; ``version``:
    what comes before the ``+``; ``files``: what lies in the package beside what was taught; ``told``: all that in words, a line
    each.
    """

    card: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    version: str = VERSION
    files: tuple[Path, ...] = ()
    told: tuple[str, ...] = ()

    def copy_files(self, folder: Path) -> None:
        """Raises OSError."""
        for file in self.files:
            _copy(file, folder / file.name)


def carried(package: ModelPackage, taught: Taught) -> Carried:
    """Of a package that was loaded. Raises PackageError, PackageUnreadable."""
    written = read_card(package.card_path)
    own = taught.card or WrittenCard(values={}, keys={})
    before = {**fixed_card(taught.shape, tuple(taught.frames)), **own.values}
    changed = [key for key in before if written.get(key) is not None and written[key] != before[key]]
    card = {key: written[key] for key in changed if key in _HOLDS}
    training = _others(written, own, "training")
    version = package.card.version.partition("+")[0] or VERSION
    beside = list(_beside(package))
    files = tuple(file for file in beside if _is_copied(file))
    told = [
        *([f"name: kept as edited; it was {taught.product}"] if package.card.name != taught.product else []),
        *([f"version: {version}, with the hash of the model as it is now"] if version != VERSION else []),
        *(f"{key}: kept as edited{_but(key, card[key])}" for key in card),
        *(f"training.{key}: kept" for key in training),
        *(f"{key}: WRITTEN ANEW, as the model takes and gives it" for key in changed if key not in _HOLDS),
        *(f"accuracy.{key}: REMOVED, it is of the model before" for key in _others(written, own, "accuracy")),
        *(["derivation: REMOVED, it is of the model before"] if written.get("derivation") else []),
        *_comments(package),
        *(f"{file.name}: {'kept' if file in files else 'NOT KEPT: no file, folder or link'}" for file in beside),
    ]
    if file_of(package).is_file():
        told.append(f"{file_of(package).name}: REMOVED, it is of the model before: run `lineside model verify`")
    return Carried(card, training, version, files, tuple(told))


def _but(key: str, value: Any) -> str:
    if key != "thresholds":
        return ""
    kept = value.get(ANOMALY) if isinstance(value, dict) else None
    if kept == THRESHOLD:
        return ""
    at = "none for the whole part" if kept is None else f"{kept:g}"
    return f" ({at}), while what is promised and counted here is for {THRESHOLD:g}"


def _others(written: dict[str, Any], own: WrittenCard, key: str) -> dict[str, Any]:
    """What is there beside the keys of the teaching, where those are known."""
    there, known = written.get(key), own.keys.get(key)
    if known is None or not isinstance(there, dict):
        return {}
    return {name: value for name, value in there.items() if name not in known}


def _comments(package: ModelPackage) -> Iterator[str]:
    text = read_bytes(package.card_path).decode("utf-8", errors="replace")
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            yield f"comment in {CARD_NAME}: NOT KEPT: {line.strip()}"


def _beside(package: ModelPackage) -> Iterator[Path]:
    verification = file_of(package).name
    for file in sorted(package.folder.iterdir()):
        if file.name not in (CARD_NAME, MODEL_NAME, FOLDER, verification) and not _is_scratch(file.name, verification):
            yield file


def _is_scratch(name: str, of: str) -> bool:
    """Of a process that was killed."""
    return name.startswith(f".{of}.")


def _is_copied(file: Path) -> bool:
    """Pipes and devices have no business in a package."""
    return file.is_symlink() or file.is_dir() or file.is_file()


def _copy(source: Path, target: Path) -> None:
    if source.is_symlink():
        target.symlink_to(source.readlink())
    elif source.is_dir():
        target.mkdir()
        for file in source.iterdir():
            _copy(file, target / file.name)
    elif source.is_file():
        shutil.copy2(source, target)
