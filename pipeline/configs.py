"""Where the shipped configuration lies: beside the packages in a checkout, inside this one in an installed wheel."""

from __future__ import annotations

from pathlib import Path


def configs_folder() -> Path:
    """The folder ``configs``."""
    here = Path(__file__).resolve().parent
    checkout = here.parent / "configs"
    return checkout if (checkout / "models").is_dir() else here / "configs"
