"""The shipped JSON Schemas are those of the code, and the shipped configuration fits them."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from pipeline.schemas import all_schemas

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "docs" / "schemas"


def test_shipped_schemas_are_current() -> None:
    shipped = {file.name: json.loads(file.read_text()) for file in SHIPPED.iterdir()}
    assert shipped == all_schemas(), "run: python scripts/write_schemas.py"


@pytest.mark.parametrize(
    ("kind", "pattern"), [("line", "lines/*.yaml"), ("recipe", "recipes/*.yaml"), ("model", "models/*/model.yaml")]
)
def test_shipped_configuration_fits_its_schema(kind: str, pattern: str) -> None:
    schema = json.loads((SHIPPED / f"{kind}.schema.json").read_text())
    files = sorted((ROOT / "configs").glob(pattern))
    assert files, f"no {pattern} is shipped"
    for file in files:
        jsonschema.validate(yaml.safe_load(file.read_text()), schema)
