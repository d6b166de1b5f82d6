"""What a part was judged with, whole and by its hash: recipe, model, calibration, runtime, program, line.

Each row names its context by hash, and so the record's chain commits to it. A segment holds the contexts of all its rows.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from pipeline.config import Line
from pipeline.messages import ModelInUse


@dataclass(frozen=True, slots=True)
class Context:
    """``body`` is canonical JSON, ``sha256`` its hash in hexadecimal."""

    sha256: str
    body: str


def context_of(line: Line, model: ModelInUse, version: str) -> Context:
    """The context of what this model judges on this line. ``version`` is Lineside's."""
    recipe = line.recipe.model_dump(mode="json", by_alias=True)
    body = _canonical(
        {
            "schema": "lineside.context/1",
            "recipe": recipe,
            "recipe_sha256": _sha256(_canonical(recipe)),
            "model_sha256": model.model_sha256,
            "calibration_id": line.calibration_id,
            "calibration_ids": line.calibration_ids,
            "fingerprint": json.loads(model.fingerprint_json),
            "fingerprint_sha256": model.fingerprint_sha256,
            "version": version,
            "line_sha256": _sha256(_canonical(line.config.model_dump(mode="json"))),
        }
    )
    return Context(_sha256(body), body)


def _canonical(content: dict[str, Any]) -> str:
    """One text for one content: keys in order, nothing between them."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
