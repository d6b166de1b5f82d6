"""How a bench is run and how it ends: what every one of its commands does before and after its own measurement."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from pipeline.bench.chaos.disk import DiskUnavailable
from pipeline.cli.console import console_for, show
from pipeline.cli.output import fail, words, write_json
from pipeline.configs import configs_folder
from pipeline.rehearsal import RehearsalError
from pipeline.simulator.images import ImageError, SolarCellImages
from pipeline.simulator.process import SimulatorError
from pipeline.simulator.solar_cells import test_indices


def package_folder(model: Path | None) -> Path:
    """The model package asked for, or the shipped one."""
    return model if model is not None else configs_folder() / "models" / "solar-cell"


def solar_cells() -> SolarCellImages:
    """The test images. Raises ImageError."""
    return SolarCellImages(indices=test_indices())


@contextlib.contextmanager
def failing_in_words() -> Iterator[None]:
    """A line that cannot be simulated here ends the command."""
    try:
        yield
    except (RehearsalError, SimulatorError, ImageError, DiskUnavailable) as error:
        raise fail(str(error)) from None


def tell_progress(text: str) -> None:
    """On standard error, while it is measured."""
    Console(stderr=True, markup=False).print(text, soft_wrap=True)


def tell(
    json_file: Path | None,
    result: dict[str, Any],
    told: Iterable[Table | str],
    *,
    width: int | None = None,
    highlight: bool = True,
) -> None:
    """The result, in words and tables and as JSON."""
    show(console_for(json_file, width=width, highlight=highlight), told)
    write_json(json_file, result)


def tell_as_json(json_file: Path | None, result: dict[str, Any]) -> None:
    """The result, for people too as it is."""
    write_json(json_file, result)
    print(json.dumps(result, indent=2), file=words(json_file))


def expect_kept(broken_promises: dict[str, int], examples: Sequence[str] = ()) -> None:
    """Ends the command with status 1 where a promise was broken."""
    broken = {name: count for name, count in broken_promises.items() if count}
    if broken:
        raise fail("\n".join((f"the promise did not hold: {broken}", *examples)))
