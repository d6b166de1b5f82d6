"""A worker's place: what is said of a death, and when it is filled again."""

from __future__ import annotations

import signal

import pytest

from pipeline.config_sections import SupervisionConfig
from pipeline.places import Place


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (3, "ended with status 3"),
        (-signal.SIGKILL, "killed by SIGKILL"),
        (-signal.SIGRTMIN, "killed by SIGRTMIN"),
        (-37, "killed by signal 37"),
    ],
)
def test_every_death_has_words(status: int, cause: str) -> None:
    place = Place("records", None, print, status=status)
    assert place.plan_restart(SupervisionConfig()) == f"records {cause}; restarting"
