"""``lineside bench replay``: does a recorded run come out the same again, and how fast?"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress

from pipeline.bench.replay import faults_of, record_run
from pipeline.bench.replay import replay as measure_replay
from pipeline.cli.bench.measuring import failing_in_words, package_folder, solar_cells, tell_as_json
from pipeline.cli.bench.options import CellModelOption
from pipeline.cli.output import JsonOption, check_json_target, fail
from pipeline.replay import ReplayBroken
from pipeline.window.reader import NotAWindow
from vision.runtime import InferenceError, RuntimeProviderError


def replay(
    window: Annotated[
        Path | None, typer.Option(metavar="DIR", help="A window that is there already; else a run is recorded first.")
    ] = None,
    model: CellModelOption = None,
    parts: Annotated[int, typer.Option(min=1, help="Of the recorded run.")] = 2_100,
    rate: Annotated[float, typer.Option(min=1, max=60_000, help="Parts a minute of the recorded run.")] = 2_400.0,
    round_parts: Annotated[int, typer.Option(min=1, help="Parts a round.")] = 500,
    rounds: Annotated[int, typer.Option(min=2, max=1_000, help="Of each, taking turns.")] = 10,
    processes: Annotated[int, typer.Option(min=1, max=256, help="Beside one alone.")] = 2,
    json_file: JsonOption = None,
) -> None:
    """A run is recorded and run again: to the bit, with another threshold, and against its bare model, taking turns."""
    check_json_target(json_file)

    def measured(recorded: Path) -> dict[str, Any]:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("rounds", total=2 * (rounds + 1))
            return measure_replay(
                recorded,
                parts=round_parts,
                rounds=rounds,
                processes=processes,
                progress=lambda: progress.advance(task),
            )

    with failing_in_words():
        try:
            if window is not None:
                result = measured(window)
            else:
                package, images = package_folder(model), solar_cells()
                with tempfile.TemporaryDirectory(prefix="lineside-") as folder:
                    result = measured(record_run(Path(folder), package, images, parts=parts, parts_per_min=rate))
        except NotAWindow as error:
            raise fail(str(error), 2) from None
        except (ReplayBroken, RuntimeProviderError, InferenceError) as error:
            raise fail(str(error)) from None
    tell_as_json(json_file, result)
    if faults := faults_of(result):
        raise fail("; ".join(faults))
