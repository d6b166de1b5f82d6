"""Writes the JSON Schemas under docs/schemas/: configuration for editors, MQTT payloads for whoever reads them."""

from __future__ import annotations

import json
from pathlib import Path

from pipeline.schemas import all_schemas

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schemas"


def main() -> None:
    """Write every schema, replacing what is there."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, schema in all_schemas().items():
        (FOLDER / name).write_text(json.dumps(schema, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
