"""``lineside bench replay``: how fast recorded parts run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from pipeline.bench.replay import replay as measure_replay
from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.replay import ReplayBroken
from pipeline.window_reader import NotAWindow
from vision.runtime import InferenceError, RuntimeProviderError


def replay(
    window: Annotated[Path, typer.Argument(metavar="WINDOW", help="The folder of a recorded window.")],
    parts: Annotated[int, typer.Option(min=1, help="Of the window, a round.")] = 500,
    rounds: Annotated[int, typer.Option(min=2, max=1_000, help="Of each, taking turns.")] = 10,
    processes: Annotated[int, typer.Option(min=1, max=256, help="Beside one alone.")] = 2,
    json_file: JsonOption = None,
) -> None:
    """A recorded window against its bare model, with one process and with several, taking turns."""
    check_json_target(json_file)
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("rounds", total=2 * (rounds + 1))
            result = measure_replay(
                window, parts=parts, rounds=rounds, processes=processes, progress=lambda: progress.advance(task)
            )
    except (NotAWindow, ValueError) as error:
        raise fail(str(error), 2) from None
    except (ReplayBroken, RuntimeProviderError, InferenceError) as error:
        raise fail(str(error)) from None
    try:
        write_json(json_file, result)
    except OSError as error:
        raise fail(f"{json_file}: {error.strerror}") from None
    print(json.dumps(result, indent=2), file=words(json_file))
