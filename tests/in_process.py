"""The command in the test's own process: many short runs, of which each would take seconds to start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner

from pipeline.cli.main import app
from vision.faults import FaultsError


@dataclass(frozen=True, slots=True)
class Done:
    """As ``subprocess.CompletedProcess`` has it."""

    returncode: int
    stdout: str
    stderr: str


def lineside_here(*arguments: str | Path) -> Done:
    """Runs the command to its end. Raises whatever it does not tell in words."""
    result = CliRunner().invoke(app, [str(each) for each in arguments])
    if isinstance(result.exception, FaultsError):
        return Done(2, result.stdout, f"{result.stderr}{result.exception}\n")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Done(result.exit_code, result.stdout, result.stderr)
