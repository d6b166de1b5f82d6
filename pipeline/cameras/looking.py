"""What an open camera says of itself: its features, and what the driver found out. One line in VIEWS for a kind that has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from pipeline.cameras.device_features import Features


@dataclass(frozen=True, slots=True)
class Look:
    """``features`` can be read while it is open; ``facts``: what else there is to say, for people."""

    features: Features
    facts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Views:
    """``configured``: opened and set up as acquisition does it, from the camera's configuration, and not started;
    ``unchanged``: by address or serial, no feature is written; None where this kind opens a camera for itself alone. Both raise
    CameraUnavailable.
    """

    configured: Callable[[Any], AbstractContextManager[Look]]
    unchanged: Callable[[str | None, str | None], AbstractContextManager[Look]] | None


def _aravis() -> Views:
    from pipeline.cameras.aravis_look import configured, unchanged

    return Views(configured, unchanged)


def _pylon() -> Views:
    from pipeline.cameras.pylon_look import configured

    return Views(configured, None)


VIEWS: dict[str, Callable[[], Views]] = {
    "aravis": _aravis,
    "pylon": _pylon,
}
"""By kind; those that are missing have no features. Raises ImportError, whose text says how to install what is missing."""
