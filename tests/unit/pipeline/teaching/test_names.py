"""Names that may be told and kept."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.teaching.names import oddity


@pytest.mark.parametrize("name", ["", "plätte [1] %d", "部品", "a\N{NO-BREAK SPACE}b", "\N{RIGHT-TO-LEFT OVERRIDE}x"])
def test_sound_names(name: str) -> None:
    assert oddity(name) == ""


@pytest.mark.parametrize("name", ["a\0", "\x1b[2J", "a\tb", "\x7f", "\x85"])
def test_control_characters(name: str) -> None:
    assert oddity(name) == "control characters"


@given(st.binary(max_size=20))
def test_what_is_sound_can_be_written_and_has_no_line_of_its_own(content: bytes) -> None:
    name = content.decode("utf-8", "surrogateescape")
    if oddity(name):
        return
    assert json.loads(json.dumps(name, ensure_ascii=False).encode()) == name
    assert all(ord(character) >= 0x20 for character in name)


def test_bytes_that_are_no_utf_8() -> None:
    assert oddity(b"\xff".decode("utf-8", "surrogateescape")) == "bytes that are no UTF-8"
