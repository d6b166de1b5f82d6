"""Books and logs: files of one JSON object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Record = Mapping[str, Any]


def stream_book(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a book or log, one after the other; a last line that was cut short, by a kill, is left out."""
    with path.open("rb") as book:
        for line in book:
            if line.endswith(b"\n"):
                yield json.loads(line)


def read_book(path: Path) -> list[dict[str, Any]]:
    """All the records at once; for hours of parts rather ``stream_book``."""
    return list(stream_book(path))
