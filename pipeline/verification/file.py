"""``verification.json``, beside a package's card: on which runtimes it was compared with the reference, and how that went.

One entry for each runtime fingerprint, so that a package that is used on several boxes is verified on each of them. What was
found with another model or another card counts for nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from vision.faults import Fault, FaultsError, faults_of
from vision.package import MODEL_NAME, ModelPackage, PackageUnreadable
from vision.plain_file import NotAPlainFile, read_plain_file
from vision.recipe import Strict

FILE_NAME = "verification.json"
_BYTES_MAX = 4 << 20
_RUNTIMES_MAX = 256
"""Of so many the newest are kept."""

_DECISIVE = {"task", "input", "outputs", "classes", "decoder", "thresholds", "verification"}

Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class VerifiedRuntime(Strict):
    """What became of the sample images on one runtime, against the reference: the CPU provider, one row at a time."""

    provider: str = Field(description="as in runtime.provider")
    batch_rows: int = Field(ge=1)
    fingerprint: dict[str, str | int]
    fingerprint_sha256: Sha256
    image_count: int = Field(ge=1)
    images_sha256: Sha256
    flips: int = Field(ge=0, description="views that got another verdict than from the reference")
    flips_max: int = Field(ge=0)
    view_count: int = Field(default=1, ge=1, description="images, for each camera that they fit")
    undecided: int = Field(default=0, ge=0, description="views that the reference could not judge")
    score_difference: float = Field(ge=0.0, description="the largest between the scores of a view")
    score_difference_max: float | None = None
    nodes: dict[str, int] = Field(default_factory=dict, description="how many each provider runs, where that is known")
    verified_utc: str

    @property
    def has_passed(self) -> bool:
        if self.undecided >= self.view_count:
            return False
        limit = self.score_difference_max
        return self.flips <= self.flips_max and (limit is None or self.score_difference <= limit)

    @property
    def outcome(self) -> str:
        """In words."""
        if self.undecided >= self.view_count:
            return f"the reference itself could judge none of the {self.image_count} images"
        flips = f"{self.flips} flips among {self.image_count} images (limit {self.flips_max})"
        limit = "" if self.score_difference_max is None else f" (limit {self.score_difference_max:g})"
        unjudged = f", {self.undecided} views that the reference could not judge" if self.undecided else ""
        return f"{flips}, scores differ by up to {self.score_difference:.6f}{limit}{unjudged}"


class Verification(Strict):
    """The file."""

    schema_name: Literal["lineside.verification/1"] = Field(default="lineside.verification/1", alias="schema")
    model_sha256: Sha256
    card_sha256: Sha256
    runtimes: list[VerifiedRuntime]


def file_of(package: ModelPackage) -> Path:
    """Beside the model; named after it where it is not called ``model.onnx``."""
    name = FILE_NAME if package.model_path.name == MODEL_NAME else f"{package.model_path.stem}.{FILE_NAME}"
    return package.folder / name


def card_sha256(package: ModelPackage) -> str:
    """Of what the card says that a verdict can depend on."""
    # Without defaults, so that a key which a later version knows changes nothing; a decoder's kind is one of them.
    told = package.card.model_dump(mode="json", include=_DECISIVE, exclude_defaults=True)
    told["decoder"] = package.card.decoder.model_dump(mode="json")
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def read_verification(package: ModelPackage) -> Verification | None:
    """None where there is no file. Raises PackageUnreadable where the disk fails, FaultsError where it is none of ours."""
    file = file_of(package)
    try:
        content = read_plain_file(file, max_bytes=_BYTES_MAX)
    except FileNotFoundError:
        return None
    except NotAPlainFile as error:
        raise FaultsError([Fault(str(file), "", error.got, error.expected)]) from error
    except OSError as error:
        raise PackageUnreadable([Fault(str(file), "", str(error.strerror), "a readable file")]) from error
    try:
        return Verification.model_validate_json(content)
    except ValidationError as error:
        expected = "what `lineside model verify` writes; remove it and verify again"
        named = [fault for fault in faults_of(str(file), error) if fault.key]
        raise FaultsError(named or [Fault(str(file), "", "a damaged file", expected)]) from error


def write_verification(
    package: ModelPackage, runtimes: Sequence[VerifiedRuntime], *, failed: Sequence[str] = ()
) -> Path:
    """Puts new results in the place of older ones on the same runtimes; the file appears whole or not at all.

    ``failed``: fingerprints of runtimes on which the model did not run; what is on file of them is removed.

    Raises FaultsError where what is there is none of ours, OSError.
    """
    with _locked(package.folder):
        return _written(package, runtimes, failed)


def _written(package: ModelPackage, runtimes: Sequence[VerifiedRuntime], failed: Sequence[str]) -> Path:
    card = card_sha256(package)
    before = read_verification(package)
    kept: list[VerifiedRuntime] = []
    if before is not None and (before.model_sha256, before.card_sha256) == (package.sha256, card):
        new = {*failed, *(runtime.fingerprint_sha256 for runtime in runtimes)}
        kept = [runtime for runtime in before.runtimes if runtime.fingerprint_sha256 not in new]
    verification = Verification(
        model_sha256=package.sha256, card_sha256=card, runtimes=[*kept, *runtimes][-_RUNTIMES_MAX:]
    )
    file = file_of(package)
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with scratch.open("w", encoding="utf-8") as written:
            written.write(verification.model_dump_json(indent=2, by_alias=True) + "\n")
            written.flush()
            os.fsync(written.fileno())
        scratch.replace(file)
    finally:
        scratch.unlink(missing_ok=True)
    return file


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """One writer at a time; the others wait, or the last one would lose what the others found. Puts renames on disk at the end."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def why_unverified(package: ModelPackage, fingerprint_sha256: str) -> str | None:
    """Why a line should not run this model on this runtime; None where it was verified and passed.

    Raises FaultsError where the file cannot be read or is none.
    """
    verification = read_verification(package)
    if verification is None:
        return f"model {package.folder} was never verified: it has no {file_of(package).name}"
    if verification.model_sha256 != package.sha256:
        return f"model {package.folder} was verified with another {package.model_path.name}"
    if verification.card_sha256 != card_sha256(package):
        return f"model {package.folder} was verified with another card"
    for runtime in verification.runtimes:
        if runtime.fingerprint_sha256 == fingerprint_sha256:
            if runtime.has_passed:
                return None
            return f"model {package.folder} failed its verification on this runtime: {runtime.outcome}"
    count = len(verification.runtimes)
    return f"model {package.folder} was never verified on this runtime (fingerprint {fingerprint_sha256[:12]}; on {count} others)"
