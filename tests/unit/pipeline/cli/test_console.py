from __future__ import annotations

from pathlib import Path

import pytest
from rich.table import Table

from pipeline.cli.console import console_for, show

EVIL = "a\x1b]0;evil\x07\x1b[31mred\rb\x9bc\u202ed"


@pytest.fixture
def table() -> Table:
    made = Table("key", EVIL, box=None)
    made.add_row("name", EVIL)
    made.add_row("other", "value")
    return made


def test_a_strangers_text_cannot_rule_the_terminal(table: Table, capsys: pytest.CaptureFixture[str]) -> None:
    show(console_for(None, width=80), [EVIL, table])
    told = capsys.readouterr().out
    assert all(character.isprintable() for character in told.replace("\n", ""))
    assert "a?]0;evil" in told
    assert [line.split()[0] for line in told.splitlines()[1:]] == ["key", "name", "other"]


def test_a_strangers_text_cannot_begin_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show(console_for(Path("result.json")), ["fault     y\nruns      5.0 ms\r\n"])
    assert len(capsys.readouterr().out.splitlines()) == 1
