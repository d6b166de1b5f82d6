"""Sample images through the reference and through each runtime of a model."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.clock import wall_text
from pipeline.config_places import IMAGE_SUFFIXES
from pipeline.image_reading import decode_picture, read_image
from pipeline.line_config import LineConfig
from pipeline.line_inspector import frame_formats
from pipeline.picture_view import view_of
from pipeline.verification.file import VerifiedRuntime
from vision.batch_rows import rows_by_camera
from vision.decoders import Decoder
from vision.decoders.base import BadOutput
from vision.faults import Fault, FaultsError
from vision.geometry import row_geometry
from vision.inspector import RecipeError, check_recipe, decoder_of
from vision.judge import FAULT, Judge
from vision.package import ModelPackage
from vision.preprocess import FrameFormat, RegionPlan
from vision.recipe import Recipe, Region, Rule, View
from vision.runtime import Session
from vision.types import Findings, Inspection, PixelFormat, Verdict

_FORMATS_MAX = 64


@dataclass(frozen=True, slots=True)
class Look:
    """One image as one camera of the line would have delivered it."""

    image: Path
    camera_id: str
    format: FrameFormat


@dataclass(frozen=True, slots=True)
class Samples:
    """``looks`` in order, what they are judged by, and the hash of all images' bytes in that order."""

    looks: tuple[Look, ...]
    image_count: int
    images_sha256: str
    recipe_of: Callable[[Look], Recipe]


def images_below(folder: Path) -> list[Path]:
    """All images in a folder and in the folders in it, by path. Raises FaultsError where there is none."""
    try:
        images = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".") and path.is_file()
        )
    except OSError as error:
        raise FaultsError([Fault(str(folder), "", str(error.strerror), "a readable folder")]) from error
    if not images:
        got = "no image in it" if folder.is_dir() else "no folder"
        raise FaultsError([Fault(str(folder), "", got, f"a folder of sample images ({', '.join(IMAGE_SUFFIXES)})")])
    return images


def samples_for_card(package: ModelPackage, folder: Path) -> Samples:
    """Whole images, each one region, judged by the card's thresholds; see ``view_of``. Raises FaultsError."""
    card = package.card
    if not card.thresholds:
        got, expected = "none", "a class's threshold at least; or give a line with --config, whose recipe has rules"
        raise FaultsError([Fault(str(package.card_path), "thresholds", got, expected)])
    rules = [Rule.model_validate({"class": name, "reject_at_score": score}) for name, score in card.thresholds.items()]

    def recipe_of(look: Look) -> Recipe:
        region = Region(name="image", x_px=0, y_px=0, width_px=look.format.width_px, height_px=look.format.height_px)
        view = View(camera_id=look.camera_id, regions=[region])
        return Recipe(recipe_id="card", recipe_version="1", model=package.folder, views=[view], rules=rules)

    pixel_format = PixelFormat.MONO8 if card.input.colour_order == "GRAY" else PixelFormat.BGR8
    images = images_below(folder)
    digest, looks = hashlib.sha256(), []
    for image in images:
        height_px, width_px = _read(image, pixel_format, digest)
        looks.append(Look(image, view_of(image, card.input.views), FrameFormat(width_px, height_px, pixel_format)))
    if missing := sorted(set(card.input.views) - {look.camera_id for look in looks}):
        expected = "pictures of every view that the model knows, in folders called so: each is judged by itself"
        raise FaultsError([Fault(str(folder), "", f"no picture of {', '.join(missing)}", expected)])
    return Samples(tuple(looks), len(images), digest.hexdigest(), recipe_of)


def samples_for_line(
    package: ModelPackage, config: LineConfig, recipe: Recipe, recipe_file: Path, folder: Path
) -> Samples:
    """Each image as a frame of every camera that delivers this size, judged by the line's recipe. Raises FaultsError."""
    formats = frame_formats(config)
    if faults := check_recipe(recipe, package.card, formats, file=str(recipe_file)):
        raise RecipeError(faults)
    images = images_below(folder)
    has_deep = any(each.pixel_format.bit_depth > 8 for each in formats.values())
    digest, looks = hashlib.sha256(), []
    for image in images:
        size = _read(image, PixelFormat.MONO12 if has_deep else PixelFormat.MONO8, digest)
        fitting = [name for name, each in formats.items() if (each.height_px, each.width_px) == size]
        if not fitting:
            got = f"{size[1]}x{size[0]} pixels"
            sizes = ", ".join(f"{name} {each.width_px}x{each.height_px}" for name, each in formats.items())
            raise FaultsError([Fault(str(image), "", got, f"a frame of one of the line's cameras: {sizes}")])
        looks += [Look(image, name, formats[name]) for name in fitting]
    if missing := sorted(set(formats) - {look.camera_id for look in looks}):
        got = f"no image of the size of {', '.join(missing)}"
        raise FaultsError([Fault(str(folder), "", got, "frames of every camera of the line")])
    return Samples(tuple(looks), len(images), digest.hexdigest(), lambda look: recipe)


class Judging:
    """Judges looks with one session, whatever its number of rows: they are filled one after the other, as they come, or, where
    each is for a view of its own, with looks at that view.
    """

    def __init__(self, package: ModelPackage, session: Session, samples: Samples) -> None:
        self._package, self._session, self._samples = package, session, samples
        self._plans: dict[tuple[str, FrameFormat], list[tuple[int | None, RegionPlan, Decoder]]] = {}
        self._judges: dict[tuple[str, FrameFormat], Judge] = {}

    def inspections(self) -> Iterator[Inspection]:
        """One for each look, in order. Raises FaultsError, InferenceError."""
        session, rows = self._session, self._session.batch_rows
        waiting: dict[int, tuple[int, Decoder]] = {}  # (look, decoder) of each row filled
        findings: dict[int, list[Findings] | None] = {}
        due = 0
        for index, look in enumerate(self._samples.looks):
            pixels = _pixels(look)
            findings[index] = []
            for its_row, plan, decoder in self._plans_of(look):
                if len(waiting) == rows or its_row in waiting:
                    self._run(waiting, findings)
                row = len(waiting) if its_row is None else its_row
                plan.fill(pixels, session.input[row])
                waiting[row] = (index, decoder)
            while due < index and not any(at == due for at, _ in waiting.values()):
                yield self._judge(self._samples.looks[due], findings.pop(due))
                due += 1
        if waiting:
            self._run(waiting, findings)
        for index in range(due, len(self._samples.looks)):
            yield self._judge(self._samples.looks[index], findings.pop(index))

    def _run(self, waiting: dict[int, tuple[int, Decoder]], findings: dict[int, list[Findings] | None]) -> None:
        self._session.input[[row for row in range(self._session.batch_rows) if row not in waiting]] = 0
        self._session.run()
        for row, (index, decoder) in waiting.items():
            found = findings[index]
            try:
                if found is not None:
                    found.append(decoder.decode(self._session.rows[row]))
            except BadOutput:
                findings[index] = None
        waiting.clear()

    def _judge(self, look: Look, findings: list[Findings] | None) -> Inspection:
        return FAULT if findings is None else self._judges[look.camera_id, look.format].judge(findings)

    def _plans_of(self, look: Look) -> list[tuple[int | None, RegionPlan, Decoder]]:
        """Of each region the row that is for it alone, if any, and how it is filled and read."""
        key = (look.camera_id, look.format)
        if key not in self._plans:
            recipe, model_input = self._samples.recipe_of(look), self._package.card.input
            rows = rows_by_camera(recipe, model_input)[look.camera_id]
            (view,) = (each for each in recipe.views if each.camera_id == look.camera_id)
            if len(self._plans) >= _FORMATS_MAX:
                self._plans.pop(next(iter(self._plans)))
            self._plans[key] = [
                (
                    row if model_input.views else None,
                    RegionPlan(look.camera_id, region, look.format, model_input),
                    decoder_of(self._package, self._session, row_geometry(region, model_input)),
                )
                for row, region in zip(rows, view.regions, strict=True)
            ]
            whole = (0.0, 0.0, float(look.format.width_px), float(look.format.height_px))
            self._judges[key] = Judge(recipe, look.camera_id, self._package.card.classes, whole)
        return self._plans[key]


def compared(
    package: ModelPackage,
    session: Session,
    samples: Samples,
    reference: Sequence[Inspection],
    *,
    looked: Callable[[], None] = lambda: None,
) -> VerifiedRuntime:
    """The samples on ``session`` against what the reference said. Raises FaultsError, InferenceError."""
    flips, worst = 0, 0.0
    for inspection, expected in zip(Judging(package, session, samples).inspections(), reference, strict=True):
        flips += inspection.verdict is not expected.verdict
        worst = max(worst, score_difference(inspection.score, expected.score))
        looked()
    limits = package.card.verification
    return VerifiedRuntime(
        provider=session.provider,
        batch_rows=session.batch_rows,
        fingerprint=session.fingerprint,
        fingerprint_sha256=session.fingerprint_sha256,
        image_count=samples.image_count,
        images_sha256=samples.images_sha256,
        flips=flips,
        flips_max=limits.flips_max,
        view_count=len(reference),
        undecided=sum(expected.verdict is Verdict.NO_DECISION for expected in reference),
        score_difference=worst,
        score_difference_max=limits.score_difference_max,
        nodes=session.nodes,
        verified_utc=wall_text(time.time_ns()),
    )


def score_difference(score: float, other: float) -> float:
    """Scores are within 0 and 1, NaN where nothing could be judged: a score against none differs as much as any can."""
    if isnan(score) or isnan(other):
        return 0.0 if isnan(score) and isnan(other) else 1.0
    return abs(score - other)


def _read(image: Path, pixel_format: PixelFormat, digest: Any) -> tuple[int, int]:
    """Adds the image to the digest and says its height and width in pixels."""
    try:
        encoded = image.read_bytes()
    except OSError as error:
        raise FaultsError([Fault(str(image), "", str(error.strerror), "a readable image")]) from error
    pixels = decode_picture(np.frombuffer(encoded, np.uint8), pixel_format)
    if pixels is None:
        depth = "8 or 16" if pixel_format.bit_depth > 8 else "8"
        expected = f"a whole one, of {depth} bit a channel"
        raise FaultsError([Fault(str(image), "", "no image, or one that cannot be used", expected)])
    digest.update(hashlib.sha256(encoded).digest())
    height_px, width_px = pixels.shape[:2]
    return height_px, width_px


def _pixels(look: Look) -> npt.NDArray[np.uint8]:
    pixels = read_image(look.image, look.format.pixel_format)
    if pixels is None or pixels.shape != look.format.shape:
        got = "an image that cannot be decoded" if pixels is None else f"pixels of shape {pixels.shape}"
        raise FaultsError([Fault(str(look.image), "", got, "the image that it was a moment ago")])
    return pixels
