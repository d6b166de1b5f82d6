"""``lineside bench``: the project's own measurements."""

from __future__ import annotations

import json
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from pipeline.bench.capacity import capacity
from pipeline.bench.handover import handover
from pipeline.bench.line import line
from pipeline.bench.preprocess import preprocess
from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.configs import configs_folder
from pipeline.rehearsal import RehearsalError
from pipeline.simulator.images import ImageError, SolarCellImages
from pipeline.simulator.process import SimulatorError
from pipeline.simulator.solar_cells import test_indices


class Suite(str, Enum):
    """What can be measured."""

    LINE = "line"
    CAPACITY = "capacity"
    HANDOVER = "handover"
    PREPROCESS = "preprocess"


def bench(
    suite: Annotated[
        Suite,
        typer.Argument(
            help="line: what the service adds to the bare model. capacity: the highest "
            "rate. handover: frames between processes. preprocess: the fused kernel against OpenCV."
        ),
    ],
    model: Annotated[Path | None, typer.Option(metavar="DIR", help="Model package for line and capacity.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Measure, as ratios against a named alternative in the same run."""
    check_json_target(json_file)
    folder = model if model is not None else configs_folder() / "models" / "solar-cell"
    suites: dict[Suite, Callable[[], dict[str, object]]] = {
        Suite.LINE: lambda: line(folder, SolarCellImages(indices=test_indices())),
        Suite.CAPACITY: lambda: capacity(folder, SolarCellImages(indices=test_indices())),
        Suite.HANDOVER: handover,
        Suite.PREPROCESS: preprocess,
    }
    try:
        result = suites[suite]()
        write_json(json_file, result)
    except (RehearsalError, SimulatorError, ImageError) as error:
        raise fail(str(error)) from None
    except OSError as error:
        raise fail(f"{json_file}: {error.strerror}") from None
    print(json.dumps(result, indent=2), file=words(json_file))
