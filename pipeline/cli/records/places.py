"""Where the record, its line and its pictures are, as the argument RECORD names them."""

from __future__ import annotations

from pathlib import Path

from pipeline.camera_config import resolved
from pipeline.config import Line, load_line


def line_of(record: Path) -> Line | None:
    """Whose record it is, where that was told. Raises FaultsError."""
    return load_line(record) if record.suffix in (".yaml", ".yml") else None


def record_file(record: Path, line: Line | None) -> Path:
    """Of the line, or RECORD itself; of a link the file, as its other segments lie beside that."""
    if line is not None:
        return line.config.records.path
    return resolved(record) if record.is_symlink() else record


def images_folder(line: Line | None) -> Path | None:
    """Of kept pictures, where the line is known and keeps any."""
    return None if line is None or line.config.images is None else line.config.images.path
