"""Every JSON Schema of the project by file name, generated from the models that the code itself uses."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from pipeline.line_config import LineConfig
from pipeline.payloads import PAYLOADS, json_schema
from vision.package import ModelCard
from vision.recipe import Recipe


def all_schemas() -> dict[str, dict[str, Any]]:
    """``line``, ``recipe`` and ``model`` for editors, ``mqtt-<topic>`` for readers of the wire."""
    written: dict[str, type[BaseModel]] = {"line": LineConfig, "recipe": Recipe, "model": ModelCard}
    schemas = {f"{name}.schema.json": model.model_json_schema(by_alias=True) for name, model in written.items()}
    return {**schemas, **{f"mqtt-{topic}.schema.json": json_schema(topic) for topic in PAYLOADS}}
