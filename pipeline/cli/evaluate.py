"""``lineside evaluate``: a model measured on labelled images, through the code that the line judges with."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.table import Table

from pipeline.calibrated_line import calibration_warnings, camera_recipe, check_thresholds, view_calibrations
from pipeline.cli.console import console_for, show
from pipeline.cli.line_camera import camera_of
from pipeline.cli.output import JsonOption, check_json_target, fail, spare_inputs, write_json
from pipeline.cli.progress import progress_bar
from pipeline.cli.report import ReportOption, check_report_folder
from pipeline.config import Line, load_line, load_model
from pipeline.config_sections import RuntimeConfig
from pipeline.evaluation.needs import missing_libraries
from pipeline.line_inspector import frame_formats
from pipeline.model_probe import probe_model
from pipeline.report.blocks import plain
from pipeline.report.folder import CannotReport, write_page
from vision.faults import Fault, FaultsError
from vision.package import ModelPackage, load_package
from vision.preprocess import FrameFormat
from vision.providers import Provider
from vision.recipe import Recipe
from vision.runtime import InferenceError, RuntimeProviderError
from vision.types import PixelFormat, Reason
from vision.view_calibration import UNCALIBRATED, ViewCalibration

if TYPE_CHECKING:  # they need the extra, and a second to load
    from pipeline.evaluation.data import DataSet
    from pipeline.evaluation.figures import Figures
    from pipeline.evaluation.runner import Runner

_TABLE_WIDTH = 100
_NAMED_MAX = 20


def evaluate(
    model: Annotated[Path, typer.Option(metavar="DIR", help="The model package.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="The labelled images.")],
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Regions and rules; else the whole image and the card's thresholds."),
    ] = None,
    line_file: Annotated[
        Path | None,
        typer.Option(
            "--line",
            metavar="LINE",
            help="The images are a camera's frames: the line's recipe, calibration and runtime.",
        ),
    ] = None,
    camera_id: Annotated[
        str | None, typer.Option("--camera-id", metavar="ID", help="Which camera, where the line has several.")
    ] = None,
    layout: Annotated[
        Literal["mvtec", "yolo", "coco", "voc", "folders"] | None,
        typer.Option(help="How the images are labelled; found by itself where that is plain."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which part of a set that has several: test, val ...")
    ] = None,
    iou: Annotated[
        float, typer.Option(min=0.01, max=1.0, help="From which overlap on an object counts as found.")
    ] = 0.5,
    pixel_format: Annotated[
        PixelFormat | None,
        typer.Option(help="As the line's camera delivers; else as each file is, grey or colour."),
    ] = None,
    provider: Annotated[
        Provider | None, typer.Option(help="What runs the model; else as the line has it, or auto.")
    ] = None,
    json_file: JsonOption = None,
    report: ReportOption = None,
) -> None:
    """Measure a model package on labelled images: through the same pre-processing, runtime, decoder and rules as the line.

    Exit status 2 where images, labels, card or recipe are not as they should be, or the model's output cannot be judged.
    """
    if missing := missing_libraries():
        raise fail(f"lineside evaluate needs {', '.join(missing)}: pip install 'lineside[evaluate]'", 2)
    check_json_target(json_file)
    check_report_folder(report)
    spare_inputs({"--json": json_file, "--report": report}, model, data, recipe, line_file)
    if line_file is not None and (recipe is not None or pixel_format is not None):
        given = "--recipe" if recipe is not None else "--pixel-format"
        raise fail(f"{given}: got one beside --line, which has its own; expected one of the two", 2)
    if line_file is None and camera_id is not None:
        raise fail(f"--camera-id: got {camera_id} without --line", 2)
    from pipeline.evaluation.labels import are_defective, expect_labels_fit
    from pipeline.evaluation.layouts import read_data_set
    from pipeline.evaluation.metrics.pixels import PixelScores
    from pipeline.evaluation.runner import Runner

    package = load_package(model)
    # First elsewhere: a model that never ends would hold this command up for ever, deaf to Ctrl-C.
    probe_model(model)
    rules = None if recipe is None else load_model(recipe, Recipe)
    seen = None if line_file is None else _camera_of(line_file, camera_id)
    if seen is not None:
        check_thresholds(seen.line, package)
        for text in calibration_warnings(seen.line):
            print(f"lineside: warning: {text}", file=sys.stderr)
    runtime = RuntimeConfig()
    calibration = UNCALIBRATED
    if seen is not None:
        recipe, rules, runtime, calibration = (
            seen.line.recipe_file,
            seen.recipe,
            seen.line.config.runtime,
            seen.calibration,
        )
    if provider is not None:
        runtime = runtime.model_copy(update={"provider": provider})
    console = console_for(json_file, width=_TABLE_WIDTH, highlight=False)
    with progress_bar("checking", None) as advance:
        # With a recipe all are of its one view.
        views = package.card.input.views if rules is None else ()
        data_set = read_data_set(data, layout=layout, split=split, views=views, looked=advance)
    if pixel_format is not None:
        data_set = data_set.seen_as(pixel_format)
    if seen is not None:
        data_set = _as_frames(data_set, seen)
    expect_labels_fit(data_set, package.card)
    try:
        runner = Runner(
            package,
            rules,
            runtime,
            recipe_file=str(recipe or package.card_path),
            calibration=calibration,
            wants_candidates=data_set.has_boxes,
        )
        runner.warm_up(data_set)
    except RuntimeProviderError as error:
        raise fail(str(error)) from None
    except InferenceError as error:
        raise fail(f"{package.model_path}: {error}", 2) from None
    is_defective = are_defective(data_set, package.card, runner.judge_of)
    pixels = PixelScores() if data_set.has_masks and runner.has_anomaly_map else None
    judged = []
    try:
        with progress_bar("judging", len(data_set.samples)) as advance:
            for each in runner.run(data_set, pixels=pixels):
                judged.append(each)
                advance()
    except InferenceError as error:
        raise fail(f"{package.model_path}: {error}", 2) from None
    from pipeline.evaluation.figures import figures_of, result_of  # whoever is refused does not wait for scikit-learn

    figures = figures_of(
        judged,
        is_defective,
        package.card,
        runner.recipe_for(data_set.samples[0]),
        iou_min=iou,
        pixels=None if pixels is None else pixels.auroc(),
    )
    calibration_id = None if seen is None else seen.line.calibration_ids.get(seen.camera_id)
    result = {
        **_facts(package, runner, data_set, recipe, rules),
        "calibration_id": calibration_id,
        **result_of(figures),
    }
    show(console, _words(result))
    write_json(json_file, result)  # first: a few kilobytes still find room where pictures do not
    if report is not None:
        _write_report(report, figures, result, runner)
    if unread := [each for each in judged if each.inspection.reason is Reason.FAULT]:
        named = ", ".join(each.sample.name for each in unread[:3]) + (", ..." if len(unread) > 3 else "")
        got = f"an output that cannot be judged for {len(unread)} of {len(judged)} images ({named})"
        raise fail(f"{package.model_path}: got {got}, the first: {unread[0].fault}", 2)


@dataclass(frozen=True, slots=True)
class _SeenBy:
    """A line's camera whose frames the images are."""

    line: Line
    camera_id: str
    frame_format: FrameFormat
    recipe: Recipe
    calibration: ViewCalibration


def _camera_of(line_file: Path, camera_id: str | None) -> _SeenBy:
    line = load_line(line_file)
    chosen, formats = camera_of(line, camera_id), frame_formats(line.config)
    calibration = view_calibrations(line).get(chosen, UNCALIBRATED)
    return _SeenBy(line, chosen, formats[chosen], camera_recipe(line, chosen), calibration)


def _as_frames(data_set: DataSet, seen: _SeenBy) -> DataSet:
    frames = seen.frame_format
    for sample in data_set.samples:
        image = sample.facts.format
        if (image.width_px, image.height_px) != (frames.width_px, frames.height_px):
            got = f"{image.width_px}x{image.height_px} px"
            expected = f"{frames.width_px}x{frames.height_px} px, as camera {seen.camera_id} delivers"
            raise FaultsError([Fault(str(sample.image), "", got, expected)])
    if seen.calibration.geometry is not None and (data_set.has_boxes or data_set.has_masks):
        got = f"labels that say where, in frames as camera {seen.camera_id} delivers them"
        expected = "labels of whole images: with a geometry in force defects are told in the undistorted frame"
        raise FaultsError([Fault(str(data_set.folder), "", got, expected)])
    return data_set.seen_as(frames.pixel_format)


def _facts(
    package: ModelPackage, runner: Runner, data_set: DataSet, recipe_file: Path | None, recipe: Recipe | None
) -> dict[str, Any]:
    card = package.card
    return {
        "model": {
            "folder": str(package.folder),
            "name": card.name,
            "version": card.version,
            "task": card.task,
            "decoder": card.decoder.kind,
            "sha256": package.sha256,
        },
        "recipe": None
        if recipe is None
        else {"file": str(recipe_file), "recipe_id": recipe.recipe_id, "recipe_version": recipe.recipe_version},
        "data": {
            "folder": str(data_set.folder),
            "layout": data_set.layout,
            "split": data_set.split,
            "images": len(data_set.samples),
            "sha256": data_set.sha256(),
        },
        "runtime": {
            **runner.session.fingerprint,
            "sha256": runner.session.fingerprint_sha256,
            "told": runner.session.provider_words,
            "passed_over": list(runner.session.passed_over),
        },
        "rules": [
            rule.model_dump(mode="json", by_alias=True, exclude_defaults=True)
            for rules in (runner.recipe_for(data_set.samples[0]),)
            for rule in (*rules.rules, *rules.required)
        ],
        "made_utc": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
        "version": metadata.version("lineside"),
    }


def _words(result: dict[str, Any]) -> Iterator[str | Table]:
    model, data, images = result["model"], result["data"], result["images"]
    name = f"{plain(model['name'])} {plain(model['version'])}"
    yield f"model     {name}, {model['task']} ({model['decoder']}), sha256 {model['sha256']}"
    part = "" if data["split"] is None else f", part {data['split']}"
    yield f"data      {data['folder']}: {data['images']} images, layout {data['layout']}{part}, sha256 {data['sha256']}"
    if result["calibration_id"] is not None:
        yield f"calibrated {result['calibration_id']}"
    yield f"runtime   {result['runtime']['told']}, fingerprint {result['runtime']['sha256']}"
    for each in result["runtime"]["passed_over"]:
        yield f"NOT       {each}"
    for rule in result["rules"]:
        yield f"rule      {plain(', '.join(f'{key} {value}' for key, value in rule.items()), 200)}"
    yield f"images    {images['good']} good, {images['defective']} defective by their labels"
    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for name, value in _rows(result):
        table.add_row(name, value)
    yield table
    if result["detection"] is not None:
        yield _detection_table(result["detection"])
    elif result["classification"] is not None:
        yield _classification_table(result["classification"])
    elif result["kinds"]:
        yield _kinds_table(result["kinds"])
    yield _times_table(result["stages_us"])


def _rows(result: dict[str, Any]) -> Iterator[tuple[str, str]]:
    verdicts, areas = result["verdicts"], result["auroc"]
    yield "verdicts as the labels say", _share(verdicts["correct"])
    yield "false accepts, of the defective", _share(verdicts["false_accept"])
    yield "false rejects, of the good", _share(verdicts["false_reject"])
    yield (
        "precision / recall / F1 of defective",
        " / ".join(_number(verdicts[key]) for key in ("precision", "recall", "f1")),
    )
    if result["images"]["no_decision"]:
        yield "NO DECISION, count as rejected", str(result["images"]["no_decision"])
    yield "AUROC, image", _number(areas["image"])
    if areas["pixel"] is not None:
        yield "AUROC, pixel", f"{areas['pixel']:.4f} +- {areas['pixel_error_max']:.1e}"
    if (detection := result["detection"]) is not None:
        yield f"mAP at IoU {detection['iou_min']:g}", _number(detection["mean_average_precision"])
        if cut := detection["images_without_low_scores"]:
            yield "images whose findings below score_min cannot be read", str(cut)
    if (classification := result["classification"]) is not None:
        right, total = classification["right"], classification["total"]
        yield "first choice is the class", f"{right} of {total} ({100 * right / total:.2f} %)"


def _detection_table(detection: dict[str, Any]) -> Table:
    table = Table("class", title=f"objects, at IoU {detection['iou_min']:g}", title_justify="left")
    for column in ("objects", "AP", "threshold", "found", "precision", "recall", "F1"):
        table.add_column(column, justify="right")
    for each in detection["classes"][:_NAMED_MAX]:
        numbers = [each[key] for key in ("average_precision", "threshold")]
        ratios = [each[key] for key in ("precision", "recall", "f1")]
        found = "-" if each["found"] is None else str(each["found"])
        table.add_row(plain(each["class"]), str(each["objects"]), *map(_number, numbers), found, *map(_number, ratios))
    return table


def _classification_table(classification: dict[str, Any]) -> Table:
    table = Table("class", title="first choices", title_justify="left")
    for column in ("images", "precision", "recall", "F1"):
        table.add_column(column, justify="right")
    for each in classification["classes"][:_NAMED_MAX]:
        ratios = [_number(each[key]) for key in ("precision", "recall", "f1")]
        table.add_row(plain(each["class"]), str(each["images"]), *ratios)
    return table


def _kinds_table(kinds: list[dict[str, Any]]) -> Table:
    table = Table("images", title="verdicts", title_justify="left")
    for column in ("PASS", "REJECT", "NO_DECISION"):
        table.add_column(column, justify="right")
    for kind in kinds[:_NAMED_MAX]:
        table.add_row(plain(kind["name"]), str(kind["passed"]), str(kind["rejected"]), str(kind["no_decision"]))
    return table


def _times_table(stages_us: dict[str, dict[str, float]]) -> Table:
    table = Table("us", title="times", title_justify="left")
    names = list(next(iter(stages_us.values()), {}))
    for name in names:
        table.add_column(name, justify="right")
    for stage, told in stages_us.items():
        table.add_row(stage, *(f"{told[name]:,.0f}" for name in names))
    return table


def _share(share: dict[str, Any] | None) -> str:
    if share is None:
        return "-"
    low, high = share["interval_95"]
    return (
        f"{share['count']} of {share['total']}: {100 * share['rate']:.2f} % (95 %: {100 * low:.2f} to {100 * high:.2f})"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _write_report(folder: Path, figures: Figures, result: dict[str, Any], runner: Runner) -> None:
    # They bring plotting along, which takes a second to load.
    from pipeline.evaluation.page import EvaluationShown, evaluation_page
    from pipeline.report.page import render

    try:
        page = write_page(folder, render(evaluation_page(EvaluationShown(figures, result, runner))))
    except CannotReport as error:
        raise fail(str(error), 2) from None
    except OSError as error:
        raise fail(f"--report {folder}: {error.strerror}") from None
    typer.echo(f"report in {page}", err=True)
