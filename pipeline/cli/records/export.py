"""``lineside records export``: one flat table, a row a part."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.output import fail
from pipeline.cli.records.options import (
    LotOption,
    OrderOption,
    RecordArgument,
    SerialOption,
    SessionOption,
    ShiftOption,
    SinceOption,
    UntilOption,
    wanted_of,
)
from pipeline.cli.records.places import line_of, record_file
from pipeline.cli.records.reading import with_progress
from pipeline.record.export import CannotExport
from pipeline.record.export import export as export_rows
from pipeline.record.reader import NotReadable, files_of, read_rows


def export(
    record: RecordArgument,
    target: Annotated[
        Path, typer.Argument(metavar="FILE", help="Ends in .csv or .parquet; replaced where it is there.")
    ],
    session: SessionOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    lot: LotOption = None,
    order: OrderOption = None,
    serial: SerialOption = None,
    shift: ShiftOption = None,
) -> None:
    """One flat table, a row a part."""
    wanted = replace(wanted_of(session, since, until), lot=lot, order=order, serial=serial, shift=shift)
    file = record_file(record, line_of(record))
    try:
        if target.resolve() in [each.resolve() for each in files_of(file)]:
            raise fail(f"got {target}, expected a file that is not the record's own", 2)
        count = export_rows(with_progress(read_rows(file, wanted)), target)
    except (CannotExport, NotReadable) as error:
        raise fail(str(error), 2) from None
    except OSError as error:
        raise fail(f"{target}: {error.strerror}") from None
    print(f"{count} parts in {target}")
