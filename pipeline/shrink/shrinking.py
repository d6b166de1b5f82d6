"""A package in, a smaller one out: shrink the graph, judge both, and publish what the gate lets through."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import onnxruntime

from pipeline.config_sections import RuntimeConfig
from pipeline.evaluation.data import DataSet
from pipeline.evaluation.figures import Figures
from pipeline.evaluation.labels import expect_labels_fit
from pipeline.evaluation.runner import Runner
from pipeline.new_folder import scratch_folder
from pipeline.picture_view import view_of
from pipeline.shrink.calibration import CalibrationSet, rows
from pipeline.shrink.comparison import Comparison, compare, gate_of, labels_of, too_few
from pipeline.shrink.gate import Gate, Limits
from pipeline.shrink.graph import fold_input, load_graph, to_float16
from pipeline.shrink.int8 import CalibrationMethod, Int8, to_int8
from pipeline.shrink.writing import Draft
from vision.faults import Fault, FaultsError
from vision.package import ModelPackage, PackageError, hash_fault, read_bytes
from vision.recipe import Recipe

_TIMES = ("p50", "p99")


class TooFewImages(Exception):
    """They could not decide, however well the shrunk model does."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done to the graph, in this order. ``colour_order``: of raw pixels, None leaves the input as it is."""

    precision: Literal["float32", "float16", "int8"]
    calibration: CalibrationSet | None
    method: CalibrationMethod
    is_symmetric: bool
    colour_order: Literal["GRAY", "RGB", "BGR"] | None

    @property
    def suffix(self) -> str:
        """Of the version: what was done, in a word."""
        done = {"float32": [], "float16": ["fp16"], "int8": ["int8"]}[self.precision]
        return ".".join([*done, *(["uint8"] if self.colour_order is not None else [])])


@dataclass(frozen=True, slots=True)
class Shrunk:
    """What came of it; ``out`` None where the gate did not let it through."""

    comparison: Comparison
    gate: Gate
    bytes_before: int
    bytes_after: int
    derivation: dict[str, Any]
    out: Path | None


def shrink(
    package: ModelPackage,
    recipe: Recipe | None,
    recipe_file: str,
    data_set: DataSet,
    plan: Plan,
    limits: Limits,
    out: Path,
    *,
    looked: Callable[[], None],
) -> Shrunk:
    """Raises TooFewImages, CannotShrink, FaultsError, RuntimeProviderError, InferenceError, OSError."""
    expect_labels_fit(data_set, package.card)
    _expect_every_view(package, recipe, recipe_file, data_set)
    before = _runner(package, recipe, recipe_file, data_set)
    is_defective = labels_of(data_set, before)
    if words := too_few(data_set, is_defective, limits):
        raise TooFewImages(words)
    model, int8 = _shrunk_graph(package, plan)
    with scratch_folder(out) as folder:
        draft = Draft(folder, package, model, _card_changes(package, plan), plan.suffix)
        after = _runner(draft.package(), recipe, recipe_file, data_set)
        found = compare(before, after, data_set, is_defective, looked=looked)
        gate = gate_of(found, limits)
        bytes_before = package.model_path.stat().st_size
        derivation = _derivation(package, plan, int8, data_set, found, gate, (bytes_before, len(model)), before, recipe)
        is_published = gate.outcome == "passed"
        if is_published:
            draft.write(accuracy=_measured(found.after, data_set), derivation=derivation)
            draft.package()
            draft.publish(out)
        return Shrunk(found, gate, bytes_before, len(model), derivation, out if is_published else None)


def _expect_every_view(package: ModelPackage, recipe: Recipe | None, recipe_file: str, data_set: DataSet) -> None:
    """What judges one view says nothing about the others that the model knows. Raises FaultsError."""
    views = package.card.input.views
    if not views:
        return
    if recipe is not None:
        expected = f"none: the model judges each of {', '.join(views)} by itself, and all of them are to be compared"
        raise FaultsError([Fault(recipe_file, "", "a recipe of one view", expected)])
    if missing := sorted(set(views) - {view_of(sample.image, views) for sample in data_set.samples}):
        expected = f"labelled images of every view, in folders called so: {', '.join(views)}"
        raise FaultsError([Fault(str(data_set.folder), "", f"no image of {', '.join(missing)}", expected)])


def _runner(package: ModelPackage, recipe: Recipe | None, recipe_file: str, data_set: DataSet) -> Runner:
    # On the CPU, the reference that `lineside model verify` compares every other runtime with.
    runtime = RuntimeConfig(provider="cpu")
    runner = Runner(package, recipe, runtime, recipe_file=recipe_file, wants_candidates=data_set.has_boxes)
    runner.warm_up(data_set)
    return runner


def _shrunk_graph(package: ModelPackage, plan: Plan) -> tuple[bytes, Int8 | None]:
    content = read_bytes(package.model_path)
    if (sha256 := hashlib.sha256(content).hexdigest()) != package.sha256:
        raise PackageError([hash_fault(package.card_path, got=sha256, expected=package.sha256)])
    graph, int8 = load_graph(content), None
    if plan.precision == "float16":
        graph = to_float16(graph)
    elif plan.precision == "int8":
        assert plan.calibration is not None
        images = plan.calibration.images
        int8 = to_int8(
            graph, lambda: rows(images, package.card.input), method=plan.method, is_symmetric=plan.is_symmetric
        )
        graph = int8.model
    if plan.colour_order is not None:
        # Last: the tools for int8 would give the new nodes scales of their own.
        graph = fold_input(graph, package.card.input, plan.colour_order)
    return graph.SerializeToString(), int8


def _card_changes(package: ModelPackage, plan: Plan) -> dict[str, Any]:
    if plan.colour_order is None:
        return {}
    model_input = package.card.input
    raw = {
        "dtype": "uint8",
        "colour_order": plan.colour_order,
        "scale": 1.0,
        "mean": [0.0] * model_input.channel_count,
        "std": [1.0] * model_input.channel_count,
    }
    return {"input": {**model_input.model_dump(mode="json", exclude_unset=True), **raw}}


def _derivation(
    package: ModelPackage,
    plan: Plan,
    int8: Int8 | None,
    data_set: DataSet,
    found: Comparison,
    gate: Gate,
    sizes: tuple[int, int],
    before: Runner,
    recipe: Recipe | None,
) -> dict[str, Any]:
    """For the card: what was done to what, judged how."""
    done: dict[str, Any] = {"parent_sha256": package.sha256, "parent_version": package.card.version}
    done["precision"] = plan.precision
    if plan.calibration is not None:
        done["activations"] = "int8, zero points of 0" if plan.is_symmetric else "uint8"
        done["calibration"] = {
            "images": len(plan.calibration.images),
            "sha256": plan.calibration.sha256,
            "source": plan.calibration.source,
            "method": plan.method,
        }
    if int8 is not None:
        done["float_products"] = {"first": int8.float_count, "of": int8.product_count}
        done["noise"] = None if int8.noise is None else round(int8.noise, 4)
    done["folded_input"] = plan.colour_order is not None
    limits = gate.limits
    done["gate"] = {
        "outcome": gate.outcome,
        "confidence": limits.confidence,
        "judged_images": len(data_set.samples),
        "judged_sha256": data_set.sha256(),
        "layout": data_set.layout,
        "split": data_set.split,
        "recipe_id": None if recipe is None else recipe.recipe_id,
        "recipe_version": None if recipe is None else recipe.recipe_version,
        "rules": [
            rule.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            for judged_by in (before.recipe_for(data_set.samples[0]),)
            for rule in (*judged_by.rules, *judged_by.required)
        ],
        "defective": found.defective_count,
        "good": found.good_count,
        "copies_left_out": found.copies_left_out,
        "new_escapes": _rate(gate, "new escapes"),
        "new_false_rejects": _rate(gate, "new false rejects"),
        "auroc": {
            "before": _rounded(found.before.auroc),
            "after": _rounded(found.after.auroc),
            "drop_max": limits.auroc_drop_max,
        },
        "score_difference": round(found.score_difference, 6),
    }
    if found.before.detected is not None and found.after.detected is not None:
        done["gate"]["mean_average_precision"] = {
            "before": _rounded(found.before.detected.mean_average_precision),
            "after": _rounded(found.after.detected.mean_average_precision),
            "drop_max": limits.ap_drop_max,
        }
    done["model_bytes"] = {"before": sizes[0], "after": sizes[1]}
    done["inference_us"] = {
        "before": _times(found.before),
        "after": _times(found.after),
        "runtime": f"{before.session.provider_words}, onnxruntime {onnxruntime.__version__}, 1 thread",
        "cpu": before.session.fingerprint["cpu"],
    }
    done["lineside"] = metadata.version("lineside")
    done["made_utc"] = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    return done


def _rounded(area: float | None) -> float | None:
    return None if area is None else round(area, 6)


def _rate(gate: Gate, name: str) -> dict[str, Any]:
    (check,) = (each for each in gate.checks if each.name == name)
    bound = None if check.bound is None else round(check.bound, 6)
    return {"count": check.count, "of": check.total, "rate_at_most": bound, "limit": check.limit}


def _times(figures: Figures) -> dict[str, float]:
    return {name: round(figures.stages_us["inference"][name], 1) for name in _TIMES}


def _measured(figures: Figures, data_set: DataSet) -> dict[str, Any]:
    """For the card, as measured on the images that judged."""
    verdicts = figures.verdicts
    told: dict[str, Any] = {"test_images": len(data_set.samples), "data_sha256": data_set.sha256()}
    for name, share in (
        ("accuracy", verdicts.correct),
        ("false_accept", verdicts.false_accept),
        ("false_reject", verdicts.false_reject),
    ):
        if share is not None:
            told[f"{name}_rate" if name != "accuracy" else name] = round(share.value, 4)
            told[f"{name}_95_interval"] = [round(share.low, 4), round(share.high, 4)]
    if figures.auroc is not None:
        told["auroc"] = round(figures.auroc, 4)
    if figures.detected is not None and figures.detected.mean_average_precision is not None:
        told["mean_average_precision_at_iou_0.5"] = round(figures.detected.mean_average_precision, 4)
    return told
