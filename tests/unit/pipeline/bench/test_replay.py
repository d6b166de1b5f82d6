"""What the suite ``replay`` says of its own result."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.bench.replay import faults_of


def result(window: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    told = {"must_be_identical": True, "compared": 9, "identical": 9, "differing": 0, "damaged_frames": 0}
    tried = {"checked": True, "must_flip": 3, "flipped": 3, "flipped_as_they_must": 3}
    return {"window": told | window, "another_threshold": tried | other}


def test_all_as_it_must_be() -> None:
    assert faults_of(result({}, {})) == []
    assert faults_of(result({}, {"checked": False, "why_not": "more than one rule"})) == []


@pytest.mark.parametrize(
    ("window", "other", "expected"),
    [
        ({"differing": 1}, {"checked": False, "why_not": "parts differ"}, ["1 parts differ", "was not tried"]),
        (
            {"differing": 1, "must_be_identical": False},
            {"checked": False, "why_not": "parts differ"},
            ["was not tried"],
        ),
        ({"damaged_frames": 2}, {}, ["2 frames are damaged"]),
        ({}, {"must_flip": 0, "flipped": 0, "flipped_as_they_must": 0}, ["nothing was shown"]),
        ({}, {"flipped": 4}, ["4 parts flip, of these 3 of the 3 that must"]),
        ({}, {"flipped_as_they_must": 2}, ["3 parts flip, of these 2 of the 3 that must"]),
    ],
)
def test_what_is_not(window: dict[str, Any], other: dict[str, Any], expected: list[str]) -> None:
    faults = faults_of(result(window, other))
    assert len(faults) == len(expected)
    for fault, part in zip(faults, expected, strict=True):
        assert part in fault
