"""Moments, as people write them and as the record has them."""

from __future__ import annotations

import pytest

from pipeline.clock import asked_text


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ("2026-01-31", "2026-01-31T00:00:00.000000Z"),
        ("2026-01-31T06", "2026-01-31T06:00:00.000000Z"),
        ("2026-01-31T06:00Z", "2026-01-31T06:00:00.000000Z"),
        ("2026-01-31T06:00:07", "2026-01-31T06:00:07.000000Z"),
        ("2026-01-31T06:00:07Z", "2026-01-31T06:00:07.000000Z"),
        ("2026-01-31T06:00:07.7Z", "2026-01-31T06:00:07.700000Z"),
        ("2026-01-31T06:00:07.1234567", "2026-01-31T06:00:07.123456Z"),
        ("0001-01-01", "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_a_moment_has_one_text(asked: str, text: str) -> None:
    assert asked_text(asked) == text
    assert asked_text(text) == text


@pytest.mark.parametrize(
    "asked",
    [
        "",
        "2026",
        "2026-99-99",
        "2026-11-22T25:00",
        "\uff12026-01-31",
        "2026-01-31T06:00.5",
        "2026-01-31T06:00+01:00",
        "0000-01-01",
    ],
)
def test_no_moment(asked: str) -> None:
    with pytest.raises(ValueError, match="expected a moment"):
        asked_text(asked)
