"""``lineside bench teach``: learning from good pictures alone, against known methods."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pipeline.cli.bench.measuring import failing_in_words, tell, tell_progress
from pipeline.cli.output import JsonOption, check_json_target, fail
from pipeline.evaluation.needs import missing_libraries

_TABLE_WIDTH = 132


class PartName(str, Enum):
    """Of a data set."""

    CHOOSE = "choose"
    REPORT = "report"
    ALL = "all"


def teach(
    part: Annotated[
        PartName,
        typer.Option(help="Of the data: what settings are chosen by, what is reported, or both."),
    ] = PartName.REPORT,
    only_set: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME", help="A data set; again for more. Without it, all.")
    ] = None,
    deeppcb: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The folder of DeepPCB. Without it, no circuit boards.")
    ] = None,
    splits: Annotated[
        int, typer.Option(min=1, max=100, help="Of the good pictures, to learn from and to test on.")
    ] = 5,
    is_apart: Annotated[
        bool, typer.Option("--apart", help="Near copies among the good pictures are on one side of each split.")
    ] = False,
    most: Annotated[
        int | None, typer.Option(min=30, metavar="N", help="Pictures of each kind and product, for a short run.")
    ] = None,
    hidden_share: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.4,
            help="Of the pictures learnt from, so many are defective ones: how many are flagged, and what it costs.",
        ),
    ] = 0.0,
    others: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE", help="Scores that scripts/anomalib_rivals.py wrote, for this table; again for more."
        ),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """One-class methods on the same splits: how well they tell defective pictures, where their maps point, and their times."""
    if missing := missing_libraries():
        raise fail(f"lineside bench teach needs {', '.join(missing)}: pip install 'lineside[evaluate]'", 2)
    check_json_target(json_file)
    # What they import is no part of every installation.
    from pipeline.bench.hidden import teach_hidden
    from pipeline.bench.one_class.data import NoData
    from pipeline.bench.one_class.elsewhere import WrongScores, read_elsewhere
    from pipeline.bench.one_class.rivals import rivals
    from pipeline.bench.one_class.sets import data_sets
    from pipeline.bench.one_class.taught import Taught
    from pipeline.bench.teach import TIMED_PICTURES
    from pipeline.bench.teach import teach as measure_teach

    if is_apart and others:
        raise fail("--apart: got --others too, whose scores are of other splits", 2)
    sets = data_sets(deeppcb, most=most, has_alike=hidden_share > 0, is_apart=is_apart)
    boards = "" if deeppcb else ", and with --deeppcb DIR those of boards"
    if unknown := [name for name in only_set or () if name not in sets]:
        raise fail(f"--set: got {', '.join(unknown)}, expected some of {', '.join(sets)}{boards}", 2)
    chosen = {name: read for name, read in sets.items() if not only_set or name in only_set}
    with failing_in_words():
        try:
            if hidden_share:
                hidden = teach_hidden(
                    Taught(is_said_good=False),
                    chosen,
                    part=part.value,
                    splits=splits,
                    hidden_share=hidden_share,
                    progress=tell_progress,
                )
                tell(json_file, hidden, [_hidden_table(hidden), *_HIDDEN_WORDS], width=_TABLE_WIDTH, highlight=False)
                return
            result = measure_teach(
                [Taught(is_said_good=True), *rivals()],
                chosen,
                part=part.value,
                splits=splits,
                timed_pictures=most or TIMED_PICTURES,
                elsewhere=read_elsewhere(others or (), part.value),
                progress=tell_progress,
            )
        except NoData as error:
            raise fail(str(error)) from None
        except WrongScores as error:
            raise fail(str(error), 2) from None
    tell(json_file, result, [*_tables(result), *_words(result)], width=_TABLE_WIDTH, highlight=False)


_HIDDEN_WORDS = (
    "sums over products and splits; clean: learnt from the same good pictures without the hidden ones",
    "passed, rejected: of pictures that were not learnt from, at the threshold; AUROC: of these, a mean",
)


def _hidden_table(result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['hidden_share']:.0%} of what is learnt from is defective ({result['part']})")
    for column in (
        "",
        "hidden, flagged",
        "good flagged (clean)",
        "AUROC (clean)",
        "defective passed (clean)",
        "good rejected (clean)",
    ):
        table.add_column(column, justify="right" if column else "left")
    for name, told in result["sets"].items():
        table.add_row(
            name,
            f"{told['flagged']} of {told['hidden']}",
            f"{told['good_flagged']} ({told['good_flagged_clean']}) of {told['learnt'] - told['hidden']}",
            f"{told['auroc']:.4f} ({told['auroc_clean']:.4f})",
            f"{told['passed']} ({told['passed_clean']}) of {told['tried']}",
            f"{told['rejected']} ({told['rejected_clean']}) of {told['good']}",
        )
    return table


def _tables(result: dict[str, Any]) -> list[Table]:
    tables = []
    for name, told in result["sets"].items():
        products = "" if told["products"] == 1 else f" of {told['products']} products"
        table = Table(
            title=f"{name} ({result['part']}): {told['good']} good and {told['defective']} defective pictures{products}, "
            f"{told['picture']} px"
        )
        for column in (
            "",
            "AUROC",
            "std",
            "lowest .. highest",
            "pointing hits (95 %)",
            "a picture, p50",
            "p99",
            "fit",
        ):
            table.add_column(column, justify="right" if column else "left")
        for method, row in told["methods"].items():
            area, times = row["auroc"], row["score_us"]
            splits = len(area["of_splits"])
            table.add_row(
                method if splits == result["splits"] else f"{method}, {splits} splits",
                f"{area['mean']:.4f}",
                "" if area["std"] is None else f"{area['std']:.4f}",
                f"{area['low']:.4f} .. {area['high']:.4f}",
                _pointing(row["pointing"]),
                f"{times['p50'] / 1e3:.2f} ms",
                f"{times['p99'] / 1e3:.2f} ms",
                f"{row['fit_ms'] / 1e3:.1f} s",
            )
        tables.append(table)
    return tables


def _pointing(told: dict[str, Any] | None) -> str:
    return "" if told is None else f"{told['share']:.1%} ({told['low']:.1%} .. {told['high']:.1%})"


def _words(result: dict[str, Any]) -> list[str]:
    return [
        f"AUROC: mean over {result['splits']} splits; each is a mean over the products",
        "lineside teach is told that all pictures it learns from are good, as --suspects-are-good does",
        f"a hit: the anomaly map is highest in a defect, or within {result['pointing_tolerance_px']} px of one",
        *(f"{method} did not run: {reason}" for method, reason in result["not_run"].items()),
    ]
