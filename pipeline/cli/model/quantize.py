"""``lineside model quantize``: a smaller, quicker model, if it can be shown to lose nothing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from pipeline.cli.console import console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, spare_inputs, write_json
from pipeline.config import load_model
from pipeline.model_probe import probe_model
from vision.faults import Fault, FaultsError
from vision.package import load_package
from vision.recipe import Recipe
from vision.runtime import InferenceError, RuntimeProviderError

if TYPE_CHECKING:  # they need the extra, and a second to load
    from pipeline.evaluation.data import DataSet
    from pipeline.shrink.calibration import CalibrationSet
    from pipeline.shrink.shrinking import Shrunk

_TABLE_WIDTH = 100


def quantize(
    model: Annotated[Path, typer.Option(metavar="DIR", help="The model package to shrink.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Labelled images, as for lineside evaluate: they judge.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The new package; must not be there yet.")],
    fp16: Annotated[bool, typer.Option("--fp16", help="Weights and arithmetic in float16.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Static int8 with Q/DQ nodes, weights by channel.")] = False,
    fold_input: Annotated[
        bool, typer.Option("--fold-input", help="Normalisation into the graph: the line feeds uint8.")
    ] = False,
    colour_order: Annotated[
        Literal["RGB", "BGR"] | None,
        typer.Option(help="With --fold-input: the camera's; the graph takes care of the rest."),
    ] = None,
    symmetric: Annotated[
        bool, typer.Option("--symmetric", help="With --int8: zero points of 0, as TensorRT wants them.")
    ] = False,
    calibration: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --int8: images to calibrate with, instead of a share of --data."),
    ] = None,
    calibration_share: Annotated[
        float, typer.Option(min=0.01, max=0.9, help="Of --data, chosen by content; those do not judge.")
    ] = 0.2,
    calibration_count: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many calibrate.")] = 300,
    calibration_method: Annotated[
        Literal["minmax", "entropy", "percentile"],
        typer.Option(help="How ranges are found; the latter two hold every activation in memory."),
    ] = "minmax",
    layout: Annotated[
        Literal["mvtec", "yolo", "coco", "voc", "folders"] | None, typer.Option(help="As for lineside evaluate.")
    ] = None,
    split: Annotated[str | None, typer.Option(metavar="NAME", help="As for lineside evaluate.")] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Regions and rules; else the whole image and the card's thresholds."),
    ] = None,
    confidence: Annotated[float, typer.Option(min=0.5, max=0.9999, help="That the limits on rates hold.")] = 0.95,
    new_escapes_max: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="Share of the defective that only the original rejects.")
    ] = 0.01,
    new_false_rejects_max: Annotated[
        float, typer.Option(min=0.0001, max=0.5, help="Share of the good that only the original passes.")
    ] = 0.01,
    auroc_drop_max: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Fall of the area under the ROC curve.")
    ] = 0.005,
    ap_drop_max: Annotated[float, typer.Option(min=0.0, max=1.0, help="Fall of the mean average precision.")] = 0.005,
    json_file: JsonOption = None,
) -> None:
    """Shrink a model package, and write the new one only if it makes no new mistakes worth a limit.

    Exit status 1 where the gate refuses, or the images are too few to decide; then nothing is written.
    """
    if fp16 and int8:
        raise fail("--fp16 and --int8: got both, expected one of them", 2)
    if not (fp16 or int8 or fold_input):
        raise fail("got nothing to do, expected --fp16, --int8 or --fold-input", 2)
    for option, given, needs, there in (
        ("--colour-order", colour_order is not None, "--fold-input", fold_input),
        ("--symmetric", symmetric, "--int8", int8),
        ("--calibration", calibration is not None, "--int8", int8),
    ):
        if given and not there:
            raise fail(f"{option}: expected {needs} as well", 2)
    _expect_libraries()
    check_json_target(json_file)
    spare_inputs({"--json": json_file, "--out": out}, model, data, calibration, recipe)
    spare_inputs({"--json": json_file}, out)
    from pipeline.new_folder import expect_free
    from pipeline.shrink.gate import Limits
    from pipeline.shrink.graph import CannotShrink
    from pipeline.shrink.shrinking import Plan, TooFewImages, shrink

    out = out.absolute()  # the working directory has a name, too
    expect_free(out)
    package = load_package(model)
    # First elsewhere: a model that never ends would hold this command up for ever, deaf to Ctrl-C.
    probe_model(model)
    rules = None if recipe is None else load_model(recipe, Recipe)
    console = console_for(json_file, width=_TABLE_WIDTH, highlight=False)
    data_set, calibrating, words = _images(
        data,
        layout,
        split,
        package.card.input.views,
        calibration,
        calibration_share,
        calibration_count,
        int8=int8,
    )
    show(console, words)
    plan = Plan(
        precision="float16" if fp16 else "int8" if int8 else "float32",
        calibration=calibrating,
        method=calibration_method,
        is_symmetric=symmetric,
        colour_order=(colour_order or package.card.input.colour_order) if fold_input else None,
    )
    limits = Limits(new_escapes_max, new_false_rejects_max, auroc_drop_max, ap_drop_max, confidence)
    try:
        with _bar("judging both", len(data_set.samples)) as looked:
            shrunk = shrink(
                package, rules, str(recipe or package.card_path), data_set, plan, limits, out, looked=looked
            )
    except CannotShrink as error:
        raise fail(f"{package.model_path}: {error}", 2) from None
    except InferenceError as error:
        raise fail(f"{package.model_path}: {error}", 2) from None
    except (RuntimeProviderError, TooFewImages) as error:
        raise fail(f"{error}. Nothing was written") from None
    except OSError as error:
        raise fail(f"{out}: {error.strerror}. Nothing was written") from None
    show(console, _told(shrunk))
    write_json(
        json_file, {"outcome": shrunk.gate.outcome, "out": str(shrunk.out) if shrunk.out else None, **shrunk.derivation}
    )
    if shrunk.out is None:
        wrong = [f"{check.name}: {check.words}" for check in shrunk.gate.checks if check.outcome != "passed"]
        raise fail(f"{shrunk.gate.outcome}: {'; '.join(wrong)}. Nothing was written")
    console.print(f"written to {shrunk.out}; run `lineside model verify` on it before a line does", soft_wrap=True)


def _images(
    data: Path,
    layout: str | None,
    split: str | None,
    views: Sequence[str],
    calibration: Path | None,
    share: float,
    count_max: int,
    *,
    int8: bool,
) -> tuple[DataSet, CalibrationSet | None, list[str]]:
    """The images that judge, those that calibrate where any do, and both in words. Raises FaultsError."""
    from pipeline.evaluation.layouts import read_data_set
    from pipeline.shrink.calibration import calibration_set, images_of, is_for_calibration

    with _bar("checking", None) as looked:
        data_set = read_data_set(data, layout=layout, split=split, views=views, looked=looked)
    if not int8:
        return data_set, None, [f"judging     {len(data_set.samples)} images of {data}"]
    left_out = 0
    if calibration is not None:
        judging = frozenset(sample.facts.sha256 for sample in data_set.samples)
        images, left_out = images_of(calibration, judging)
        source = "images of a folder of their own"
        if not images:
            got = f"{left_out} images, all of them among those that judge" if left_out else "no image"
            raise FaultsError([Fault(str(calibration), "", got, "images that do not judge")])
    else:
        calibrates = [is_for_calibration(sample.facts.sha256, share) for sample in data_set.samples]
        pairs = list(zip(data_set.samples, calibrates, strict=True))
        images = [(sample.image, sample.facts.sha256) for sample, is_one in pairs if is_one]
        data_set = replace(data_set, samples=tuple(sample for sample, is_one in pairs if not is_one))
        source = f"the share of {share:g} of the labelled images with the lowest SHA-256"
        if not images or not data_set.samples:
            got = f"{len(images)} images to calibrate with and {len(data_set.samples)} to judge with"
            raise FaultsError([Fault(str(data), "", got, "some of both; or name the former with --calibration")])
    chosen = calibration_set(images, count_max, source)
    words = [
        f"calibrating {len(chosen.images)} of {len(images)} images: {source}",
        f"judging     {len(data_set.samples)} images of {data}, none of which calibrates",
    ]
    if left_out:
        words.insert(1, f"            {left_out} more were left out: they are among those that judge")
    return data_set, chosen, words


def _told(shrunk: Shrunk) -> Iterator[Table | str]:
    found, gate = shrunk.comparison, shrunk.gate
    table = Table("", title="before and after", title_justify="left")
    for column in ("before", "after", "after / before"):
        table.add_column(column, justify="right")
    smaller = shrunk.bytes_after / shrunk.bytes_before
    table.add_row("model, bytes", f"{shrunk.bytes_before:,}", f"{shrunk.bytes_after:,}", f"{smaller:.2f}")
    for stage in ("preprocess", "inference", "total"):
        for name in ("p50", "p99"):
            before, after = found.before.stages_us[stage][name], found.after.stages_us[stage][name]
            table.add_row(f"{stage} {name}, us", f"{before:,.0f}", f"{after:,.0f}", f"{after / before:.2f}")
    for name, share in (
        ("verdicts as the labels say", "correct"),
        ("false accepts, of the defective", "false_accept"),
        ("false rejects, of the good", "false_reject"),
    ):
        shares = [getattr(figures.verdicts, share) for figures in (found.before, found.after)]
        table.add_row(name, *(_share(each) for each in shares), "")
    table.add_row("AUROC", _number(found.before.auroc), _number(found.after.auroc), "")
    if found.before.detected is not None and found.after.detected is not None:
        areas = [each.detected.mean_average_precision for each in (found.before, found.after) if each.detected]
        table.add_row("mAP at IoU 0.5", *map(_number, areas), "")
    table.add_row("new escapes, of the defective", "", f"{found.new_escapes} of {found.defective_count}", "")
    table.add_row("new false rejects, of the good", "", f"{found.new_false_rejects} of {found.good_count}", "")
    table.add_row("wrong before, right after", "", str(found.mended), "")
    table.add_row("largest difference of scores", "", f"{found.score_difference:.4f}", "")
    yield table
    if found.copies_left_out:
        yield f"            {found.copies_left_out} copies of other images are no further evidence, and do not count"
    if "float_products" in shrunk.derivation:
        yield f"            {_int8_words(shrunk.derivation)}"
    for check in gate.checks:
        yield f"gate        {check.outcome:15} {check.name}: {check.words}"


def _int8_words(derivation: dict[str, Any]) -> str:
    kept, noise = derivation["float_products"], derivation["noise"]
    told = (
        f"the first {kept['first']} of {kept['of']} products stayed float" if kept["first"] else "all products are int8"
    )
    if noise is None:
        return told
    return f"{told}: on the images that calibrate, outputs differ by {noise:.1%} of their spread from image to image"


def _share(share: Any) -> str:
    return "-" if share is None else f"{share.count} of {share.total}, {share.value:.2%}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _expect_libraries() -> None:
    missing = [name for name in ("onnx", "scipy", "sklearn", "PIL") if importlib.util.find_spec(name) is None]
    if missing:
        raise fail(f"lineside model quantize needs {', '.join(missing)}: pip install 'lineside[quantize]'", 2)


@contextmanager
def _bar(what: str, total: int | None) -> Iterator[Callable[[], None]]:
    """Gives what is to be called after each image. Nothing is shown where nobody looks."""
    console = Console(stderr=True, markup=False)
    if not console.is_terminal:
        yield lambda: None
        return
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda: progress.advance(task)
