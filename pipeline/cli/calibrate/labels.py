"""The operator's labels of parts, from a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection
from pathlib import Path

from vision.faults import Fault, FaultsError, quote
from vision.plain_file import NotAPlainFile, read_plain_file

_BYTES_MAX = 1 << 22
_COLUMNS = ("part", "label")
_LABELS = {"good": False, "defective": True}
_FAULTS_MAX = 20


def read_labels(file: Path, parts: Collection[str]) -> dict[str, bool]:
    """Whether each of ``parts`` is defective. A CSV file with the columns part and label: good or defective.

    Raises FaultsError where it is no such table, or its parts are not these.
    """
    try:
        text = read_plain_file(file, max_bytes=_BYTES_MAX).decode("utf-8-sig")
    except NotAPlainFile as error:
        raise FaultsError([Fault(str(file), "", error.got, error.expected)]) from error
    except (OSError, UnicodeDecodeError) as error:
        got = "text that is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error.strerror)
        raise FaultsError([Fault(str(file), "", got, "a CSV file with the columns part and label")]) from error
    first = text.split("\n", 1)[0]
    # As spreadsheets write them where a comma is a decimal point.
    rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=";" if ";" in first else ","))
    if not rows or [cell.strip().lower() for cell in rows[0]] != [*_COLUMNS]:
        raise FaultsError([Fault(str(file), "line 1", quote(first.strip()), "part,label")])
    faults: list[Fault] = []
    labels: dict[str, bool] = {}
    for number, row in enumerate(rows[1:], 2):
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        where = f"line {number}"
        if len(cells) != len(_COLUMNS) or cells[1].lower() not in _LABELS:
            faults.append(Fault(str(file), where, quote(",".join(row)), f"a part and {' or '.join(_LABELS)}"))
        elif cells[0] not in parts:
            expected = f"a folder of pictures: {', '.join(sorted(parts)[:5])} ..."
            faults.append(Fault(str(file), where, f"part {quote(cells[0])}", expected))
        elif cells[0] in labels:
            faults.append(Fault(str(file), where, f"part {quote(cells[0])} again", "each part once"))
        else:
            labels[cells[0]] = _LABELS[cells[1].lower()]
    if not faults:
        faults = [
            Fault(str(file), "", f"no label of part {part}", "one of each") for part in parts if part not in labels
        ]
    if faults:
        raise FaultsError(faults[:_FAULTS_MAX])
    return labels
