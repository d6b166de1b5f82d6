"""What the extra ``evaluate`` brings along, looked for before anything of it is imported."""

from __future__ import annotations

import importlib.util

_NEEDED = {"PIL": "pillow", "sklearn": "scikit-learn"}


def missing_libraries() -> list[str]:
    """Their names; empty where all are there."""
    return [name for module, name in _NEEDED.items() if importlib.util.find_spec(module) is None]
