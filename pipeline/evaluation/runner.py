"""Images -> judgements, through the inspector, session, decoders and rules of the line."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.config_sections import RuntimeConfig
from pipeline.evaluation.data import DataSet, Sample
from pipeline.evaluation.image_check import read_mask
from pipeline.evaluation.metrics.pixels import PixelScores
from pipeline.image_reading import read_image
from pipeline.picture_view import ANY_VIEW, view_of
from vision.batch_rows import batch_rows
from vision.decoders import DECODERS, Decoder
from vision.decoders.base import BadOutput
from vision.faults import Fault, FaultsError
from vision.geometry import RowGeometry, moved_findings, moved_geometry
from vision.inspector import Inspector, RecipeError, check_recipe
from vision.judge import Judge
from vision.package import ModelPackage
from vision.preprocess import FrameFormat, WrongFrame
from vision.recipe import Recipe, Region, Rule, View
from vision.runtime import InferenceError, open_session
from vision.types import Findings, Frame, Inspection, PixelFormat, Reason, Verdict
from vision.view_calibration import UNCALIBRATED, ViewCalibration

STAGES = ("preprocess", "inference", "judge")
"""Under the names that ``lineside run`` gives them; ``judge`` is decoding and judging."""
CANDIDATE_SCORE_MIN = 0.001
"""Average precision asks what precision costs at every recall: findings below the card's ``score_min`` count for it too."""

_INSPECTORS_MAX = 64
_NS_PER_US = 1_000
_BAD_FRAME = Inspection(Verdict.NO_DECISION, Reason.BAD_FRAME, float("nan"), ())
_CANDIDATE_KINDS = ("yolov5", "yolov8", "end_to_end", "instance_segmentation")
"""Decoders whose ``score_min`` only says where the list of findings ends."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What came out for one image.

    ``class_scores``: float32 (classes,), of a classifier, the highest over its regions; ``candidates``: findings of low scores too,
    where objects are to be found; ``stages_ns`` in the order of ``STAGES``; ``fault``: why there is no decision, empty otherwise;
    ``unread_candidates``: why the candidates end at the card's ``score_min`` already, empty otherwise.
    """

    sample: Sample
    inspection: Inspection
    class_scores: npt.NDArray[np.float32] | None
    candidates: Findings | None
    stages_ns: tuple[int, int, int]
    fault: str = ""
    unread_candidates: str = ""


@dataclass(slots=True)
class _Bench:
    """All that images of one size and format need."""

    recipe: Recipe
    camera_id: str
    inspector: Inspector
    candidate_decoders: list[Decoder] | None


class Runner:
    """One model on many images. The session is opened once; what depends on an image's size is made for each size."""

    def __init__(
        self,
        package: ModelPackage,
        recipe: Recipe | None,
        runtime: RuntimeConfig,
        *,
        recipe_file: str = "recipe",
        calibration: ViewCalibration = UNCALIBRATED,
        wants_candidates: bool = False,
    ) -> None:
        """``recipe`` None: the whole image is one region, and the card's thresholds are the rules.

        ``calibration``: of the recipe's one camera; nothing of it is used without a recipe.

        Raises FaultsError, RuntimeProviderError, or InferenceError where the model does not run.
        """
        if recipe is not None and len(recipe.views) != 1:
            cameras = ", ".join(view.camera_id for view in recipe.views)
            expected = "one view: each image is one camera's look at a part"
            raise RecipeError([Fault(recipe_file, "views", f"{len(recipe.views)} of them ({cameras})", expected)])
        if recipe is None and not package.card.thresholds:
            expected = "a class's threshold at least, or a recipe with rules"
            raise FaultsError([Fault(str(package.card_path), "thresholds", "none", expected)])
        self.package = package
        self._recipe, self._recipe_file = recipe, recipe_file
        self._calibrations = {} if recipe is None else {recipe.views[0].camera_id: calibration}
        self.session = open_session(
            package,
            provider=runtime.provider,
            batch_rows=1 if recipe is None else batch_rows(recipe, package.card.input),
            intra_op_threads=runtime.intra_op_threads,
            engine_cache=runtime.engine_cache,
            allow_fallback=runtime.allow_fallback,
        )
        self._warm_up_runs = runtime.warm_up_runs
        self._candidate_settings = None
        if wants_candidates and package.card.decoder.kind in _CANDIDATE_KINDS:
            low = min(CANDIDATE_SCORE_MIN, getattr(package.card.decoder, "score_min"))  # noqa: B009 - of these kinds only
            self._candidate_settings = package.card.decoder.model_copy(update={"score_min": low})
        self._wants_candidates = wants_candidates
        self._benches: dict[tuple[FrameFormat, str], _Bench] = {}
        self._judges: dict[tuple[FrameFormat, str, bool], Judge] = {}
        self._warm: set[PixelFormat] = set()

    def recipe_for(self, sample: Sample) -> Recipe:
        """The rules and regions for images of this size and view. Raises FaultsError for one of no view that the model knows."""
        if self._recipe is not None:
            return self._recipe
        card, image = self.package.card, sample.facts.format
        whole = Region(name="image", x_px=0, y_px=0, width_px=image.width_px, height_px=image.height_px)
        return Recipe(
            recipe_id="card",
            recipe_version=card.version[:32],
            model=self.package.folder,
            views=[View(camera_id=view_of(sample.image, card.input.views), regions=[whole])],
            rules=[Rule.model_validate({"class": name, "reject_at_score": at}) for name, at in card.thresholds.items()],
        )

    def judge_of(self, sample: Sample) -> Judge:
        """The rules for an image, for labels in place of findings. Where its only label is a folder they ask for classes alone."""
        image, is_in_folder = sample.facts.format, sample.class_name is not None
        key = (*self._look(sample), is_in_folder)
        judge = self._judges.get(key)
        if judge is None:
            recipe, whole = self.recipe_for(sample), (0.0, 0.0, float(image.width_px), float(image.height_px))
            used = _of_classes_alone(recipe) if is_in_folder else recipe
            judge = Judge(used, recipe.views[0].camera_id, self.package.card.classes, whole)
            self._judges[key] = judge
        return judge

    def warm_up(self, data_set: DataSet) -> None:
        """Builds what the first sizes need and runs every stage, so that bad news come before the work.

        Raises FaultsError where images do not fit the recipe or an output the card, InferenceError.
        """
        first: dict[tuple[FrameFormat, str], Sample] = {}
        for sample in data_set.samples:
            first.setdefault(self._look(sample), sample)
        usual, *others = first
        if self._recipe is not None and others:
            got, expected = (
                _told(others[0][0]),
                f"{_told(usual[0])}, as {data_set.samples[0].name} is: one camera has one format",
            )
            raise FaultsError([Fault(str(first[others[0]].image), "", got, expected)])
        recipe = self.recipe_for(data_set.samples[0])
        formats = {recipe.views[0].camera_id: usual[0]}
        if faults := check_recipe(recipe, self.package.card, formats, file=self._recipe_file):
            raise RecipeError(faults)
        for sample in list(first.values())[:_INSPECTORS_MAX]:
            self._bench(sample)
        # What no image can be judged with, raw scores without a scale say, is known after one.
        first_judged = self.judged(data_set.samples[0])
        if first_judged.inspection.reason is Reason.FAULT:
            raise InferenceError(f"{data_set.samples[0].name}: {first_judged.fault}")

    def run(self, data_set: DataSet, *, pixels: PixelScores | None = None) -> Iterator[Judged]:
        """Each image, in the set's order. With ``pixels`` anomaly maps are counted into it.

        Raises FaultsError where an image cannot be decoded, InferenceError where the model does not run.
        """
        for sample in data_set.samples:
            judged = self.judged(sample)
            if pixels is not None and judged.inspection.verdict is not Verdict.NO_DECISION:
                pixels.add(self.anomaly_map(sample), mask_of(sample))
            yield judged

    def judged(self, sample: Sample) -> Judged:
        """One image; NO_DECISION/BAD_FRAME where the part is not in its place. Raises FaultsError, InferenceError."""
        image = sample.facts.format
        bench = self._bench(sample)
        camera_id = bench.camera_id
        frame = Frame(camera_id, 0, image.pixel_format, _pixels_of(sample))
        inspector = bench.inspector
        inspector.begin()
        began_ns = time.perf_counter_ns()
        try:
            inspector.load(frame)
        except WrongFrame as error:
            stages_ns = (time.perf_counter_ns() - began_ns, 0, 0)
            return Judged(sample, _BAD_FRAME, None, None, stages_ns, str(error))
        loaded_ns = time.perf_counter_ns()
        inspector.infer()
        inferred_ns = time.perf_counter_ns()
        inspection = inspector.judge(camera_id)
        judged_ns = time.perf_counter_ns()
        class_scores, candidates, fault, unread = None, None, "", ""
        if inspection.reason is Reason.FAULT:
            fault = self._fault(bench)
        else:
            if self.package.card.task == "classification":
                class_scores = _highest(inspector.findings(camera_id), len(self.package.card.classes))
            if self._wants_candidates:
                candidates, unread = self._candidates(bench, camera_id)
        stages_ns = (loaded_ns - began_ns, inferred_ns - loaded_ns, judged_ns - inferred_ns)
        return Judged(sample, inspection, class_scores, candidates, stages_ns, fault, unread)

    def findings(self, sample: Sample) -> list[Findings]:
        """What was found in the image that was judged last, this one, by region. Raises BadOutput."""
        bench = self._bench(sample)
        return bench.inspector.findings(bench.camera_id)

    @property
    def has_anomaly_map(self) -> bool:
        return "anomaly_map" in self.package.card.outputs

    def anomaly_map(self, sample: Sample) -> npt.NDArray[np.float32]:
        """Of the image that was judged last, this one: float32 (height, width), the model's own numbers at the image's size.

        Interpolated between the centres of the map's pixels; -inf where the model was shown nothing. Where regions overlap, the
        higher one.
        """
        image = sample.facts.format
        bench = self._bench(sample)
        inspector, camera_id = bench.inspector, bench.camera_id
        whole = np.full((image.height_px, image.width_px), -np.inf, np.float32)
        shift_px = inspector.shift_px(camera_id)
        for row, geometry in zip(inspector.rows(camera_id), inspector.geometries(camera_id), strict=True):
            tensor = self.session.rows[row]["anomaly_map"]
            _place_map(tensor.reshape(tensor.shape[-2:]), moved_geometry(geometry, shift_px), whole)
        return whole

    def _look(self, sample: Sample) -> tuple[FrameFormat, str]:
        """What an image shows of a part, and how large."""
        views = self.package.card.input.views
        return sample.facts.format, ANY_VIEW if self._recipe is not None else view_of(sample.image, views)

    def _bench(self, sample: Sample) -> _Bench:
        look, image = self._look(sample), sample.facts.format
        bench = self._benches.get(look)
        if bench is not None:
            return bench
        if len(self._benches) >= _INSPECTORS_MAX:
            self._benches.pop(next(iter(self._benches)))
        recipe, card = self.recipe_for(sample), self.package.card
        view = recipe.views[0]
        inspector = Inspector(
            recipe, self.package, self.session, {view.camera_id: image}, calibrations=self._calibrations
        )
        geometries = inspector.geometries(view.camera_id)
        decoders = None
        if self._candidate_settings is not None:
            kind = DECODERS[card.decoder.kind]
            decoders = [
                kind(self._candidate_settings, card.classes, geometry, self.session.formats) for geometry in geometries
            ]
        bench = _Bench(recipe, view.camera_id, inspector, decoders)
        # What is compiled or allocated at first use is so for each pixel format, not for each size.
        if image.pixel_format not in self._warm:
            inspector.warm_up(1 if self._warm else self._warm_up_runs)
            self._warm.add(image.pixel_format)
        self._benches[look] = bench
        return bench

    def _fault(self, bench: _Bench) -> str:
        try:
            bench.inspector.findings(bench.camera_id)
        except BadOutput as error:
            return str(error)
        return "findings that are not finite, of no class of the model, or more of them than decoder.max_findings"

    def _candidates(self, bench: _Bench, camera_id: str) -> tuple[Findings, str]:
        """Also why they are only those that the line sees, where that is so."""
        inspector = bench.inspector
        unread = ""
        if bench.candidate_decoders is not None:
            decoded = zip(inspector.rows(camera_id), bench.candidate_decoders, strict=True)
            try:
                found = _joined([decoder.decode(self.session.rows[row]) for row, decoder in decoded])
                return moved_findings(found, inspector.shift_px(camera_id)), ""
            except BadOutput as error:  # of a score that the line does not look at: no reason not to judge
                unread = str(error)
        return _joined(inspector.findings(camera_id)), unread


def _of_classes_alone(recipe: Recipe) -> Recipe:
    """A folder's name says what an image shows; how often, where and how large it does not."""
    anywhere: dict[str, Any] = {"zone": None, "min_width_px": 0.0, "min_height_px": 0.0, "min_area_px": 0.0}
    once = {**anywhere, "reject_at_count": None, "reject_at_total_area_px": None}
    return recipe.model_copy(
        update={
            "rules": [rule.model_copy(update=once) for rule in recipe.rules],
            "required": [one.model_copy(update={**anywhere, "count": 1}) for one in recipe.required],
        }
    )


def _told(image: FrameFormat) -> str:
    return f"{image.width_px}x{image.height_px} {image.pixel_format.value}"


def _pixels_of(sample: Sample) -> npt.NDArray[np.uint8]:
    image = sample.facts.format
    pixels = read_image(sample.image, image.pixel_format)
    if pixels is None or pixels.shape != image.shape:
        got = (
            f"an image that cannot be decoded as {image.pixel_format.value}"
            if pixels is None
            else f"pixels of shape {pixels.shape}"
        )
        raise FaultsError([Fault(str(sample.image), "", got, f"{image.width_px}x{image.height_px} pixels, whole")])
    return pixels


def mask_of(sample: Sample) -> npt.NDArray[np.bool_]:
    """Which pixels are defective by the sample's mask, bool (height, width); none without one. Raises FaultsError."""
    image = sample.facts.format
    if sample.mask is None:
        return np.zeros((image.height_px, image.width_px), np.bool_)
    return read_mask(sample.mask, image)


def _highest(findings_per_region: list[Findings], class_count: int) -> npt.NDArray[np.float32]:
    scores = np.zeros(class_count, np.float32)
    for findings in findings_per_region:
        np.maximum.at(scores, findings.class_ids, findings.scores)
    return scores


def _joined(findings_per_region: list[Findings]) -> Findings:
    """Of all regions, with boxes and scores only."""
    return Findings(
        class_ids=np.concatenate([findings.class_ids for findings in findings_per_region]),
        scores=np.concatenate([findings.scores for findings in findings_per_region]),
        boxes_px=np.concatenate([findings.boxes_px for findings in findings_per_region]),
        areas_px=np.concatenate([findings.areas_px for findings in findings_per_region]),
    )


def _place_map(scores: npt.NDArray[np.float32], geometry: RowGeometry, out: npt.NDArray[np.float32]) -> None:
    """Writes a map of the model's whole input where its region lies in the frame."""
    height, width = scores.shape
    left, top = geometry.origin_x_px, geometry.origin_y_px
    x1, y1 = max(0, round(left)), max(0, round(top))
    x2 = min(out.shape[1], round(left + geometry.shown_width_px * geometry.step_x_px))
    y2 = min(out.shape[0], round(top + geometry.shown_height_px * geometry.step_y_px))
    across, down = width / geometry.input_width_px, height / geometry.input_height_px
    columns = ((np.arange(x1, x2) + 0.5 - left) / geometry.step_x_px + geometry.left_px) * across
    rows = ((np.arange(y1, y2) + 0.5 - top) / geometry.step_y_px + geometry.top_px) * down
    placed = _interpolated(_interpolated(scores, rows).T, columns).T
    np.maximum(out[y1:y2, x1:x2], placed, out=out[y1:y2, x1:x2])


def _interpolated(values: npt.NDArray[np.float32], places: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Along the first axis, at places where 0.5 is the centre of the first entry; beyond the outer centres their values."""
    last = len(values) - 1
    at = np.clip(places - 0.5, 0, last)
    lower = np.floor(at).astype(np.intp)
    weights = (at - lower).astype(np.float32)[:, None]
    upper = np.minimum(lower + 1, last)
    return np.asarray(values[lower] * (1 - weights) + values[upper] * weights, np.float32)
