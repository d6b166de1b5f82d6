"""``lineside bench calibrate-threshold``: is what a threshold promises kept?"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.table import Table

from pipeline.bench.calibrate_threshold import calibrate_threshold as measure_calibrate_threshold
from pipeline.cli.bench.measuring import (
    expect_kept,
    failing_in_words,
    package_folder,
    tell,
    tell_progress,
)
from pipeline.cli.bench.options import ModelOption
from pipeline.cli.output import JsonOption, check_json_target, fail
from vision.runtime import InferenceError, RuntimeProviderError


def calibrate_threshold(
    calibrations: Annotated[int, typer.Option(min=10, max=100_000, help="Of each kind.")] = 400,
    seed: Annotated[int, typer.Option(help="Of the draws.")] = 1,
    model: ModelOption = None,
    json_file: JsonOption = None,
) -> None:
    """Thresholds found again and again, on simulated scores and on solar cells held out: how often more good parts are rejected
    than promised, and how often that may be. Exit status 1 where the figures do not fit the promise.
    """
    check_json_target(json_file)
    with failing_in_words():
        try:
            result = measure_calibrate_threshold(
                package_folder(model), calibrations=calibrations, seed=seed, progress=tell_progress
            )
        except (RuntimeProviderError, InferenceError) as error:
            raise fail(str(error)) from None
    tell(json_file, result, [_table(result), *_words(result["solar_cells"])], width=120, highlight=False)
    expect_kept(result["broken_promises"])


def _table(result: dict[str, Any]) -> Table:
    once, together = (result[name][0]["calibrations"] for name in ("simulated", "simulated_classes_together"))
    table = Table(title=f"Simulated: {once} calibrations each, {together} of two classes")
    for title in (
        "classes",
        "good parts",
        "promised",
        "violations",
        "may be",
        "fits",
        "achieved (mean)",
        "by the law",
        "law fits",
    ):
        table.add_column(title, justify="right")
    for name, classes in (("simulated", 1), ("simulated_classes_together", 2), ("simulated_with_ties", 1)):
        for each in result[name]:
            table.add_row(
                str(classes),
                str(each["good_parts"]),
                f"{each['wanted_false_reject']:.0%} at {each['confidence']:.0%}",
                str(each["violations"]),
                f"{each['violations_expected_at_most']:g}",
                f"p {each['violations_fit_confidence_p']:.2f}",
                f"{each['achieved_false_reject']['mean']:.3%}",
                f"{each['expected_false_reject']:.3%}",
                f"p {each['rates_fit_beta_p']:.2f}" if "rates_fit_beta_p" in each else "ties: below",
            )
    return table


def _words(cells: dict[str, Any]) -> list[str]:
    lines = [f"{cells['held_out_good']} good and {cells['held_out_defective']} defective solar cells held out:"]
    lines += [f"  found on {_promise(each)}" for each in cells["one_calibration"]]
    lines += [
        f"  drawn apart again and again, {each['good_parts']} and {each['rest']}: promised {each['promised_false_reject']:.0%}, "
        f"achieved {each['achieved_false_reject']['mean']:.2%} on average (law {each['expected_false_reject']:.2%}); "
        f"beyond the promise {each['rest_rejected_beyond_promise']} times, by the law "
        f"{each['rest_rejected_beyond_promise_expected']:g} (p {each['violations_fit_law_p']:.2f})"
        for each in cells["splits"]
    ]
    lines.append("as it must not be:")
    lines += [f"  {name.replace('_', ' ')}: {_promise(each)}" for name, each in cells["as_it_must_not_be"].items()]
    return lines


def _promise(each: dict[str, Any]) -> str:
    begin = f"{each['good_parts']} good ones: promised {each['promised_false_reject']:.0%} at {each['confidence']:.0%}"
    if each["threshold"] is None:
        return f"{begin}, refused: {'; '.join(each['refusals'])}"
    achieved, accepted = each["achieved_false_reject"], each["false_accept"]
    return (
        f"{begin}, threshold {each['threshold']:.4f}; achieved {achieved['count']} of {achieved['total']} "
        f"({achieved['share']:.1%}, {achieved['low']:.1%} to {achieved['high']:.1%}); false accepts {accepted['share']:.1%} "
        f"({accepted['low']:.1%} to {accepted['high']:.1%})"
    )
