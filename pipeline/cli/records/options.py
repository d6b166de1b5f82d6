"""Which record, and which of its parts: arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.output import fail
from pipeline.clock import asked_text
from pipeline.record.reader import Wanted

RecordArgument = Annotated[
    Path, typer.Argument(metavar="RECORD", help="The record's file, or the YAML file of the line whose record it is.")
]

SessionOption = Annotated[str | None, typer.Option("--session", metavar="ID", help="Only this session.")]
SinceOption = Annotated[
    str | None, typer.Option(metavar="UTC", help="Only parts from then on: 2026-01-31, or 2026-01-31T06:00.")
]
UntilOption = Annotated[str | None, typer.Option(metavar="UTC", help="Only parts before then.")]
LotOption = Annotated[str | None, typer.Option(metavar="LOT", help="Only parts of this lot.")]
OrderOption = Annotated[str | None, typer.Option(metavar="ORDER", help="Only parts of this order.")]
SerialOption = Annotated[str | None, typer.Option(metavar="SERIAL", help="Only parts with this serial number.")]
ShiftOption = Annotated[str | None, typer.Option(metavar="SHIFT", help="Only parts of this shift.")]


def wanted_of(session: str | None, since: str | None, until: str | None) -> Wanted:
    """Ends the command where that is no moment."""
    return Wanted(session_id=session, since_utc=_moment("--since", since), until_utc=_moment("--until", until))


def _moment(name: str, asked: str | None) -> str | None:
    try:
        return None if asked is None else asked_text(asked)
    except ValueError as error:
        raise fail(f"{name}: {error}", 2) from None
