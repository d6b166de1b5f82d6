"""Questions at a terminal."""

from __future__ import annotations

import pytest

from pipeline.cli.calibrate.answers import (
    Answers,
    BoardAnswers,
    GeometryAnswers,
    Noted,
    RegistrationAnswers,
    read_answers,
    write_answers,
)
from pipeline.cli.calibrate.asking import NobodyThere, ask_all, choose


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is typed, line by line; after it the terminal is closed."""
    lines: list[str] = []

    def give(_: str) -> str:
        if not lines:
            raise EOFError
        return lines.pop(0)

    monkeypatch.setattr("builtins.input", give)
    return lines


def test_what_cannot_be_is_asked_again(typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    typed += ["wide", "-3", "242.3", "176", "", "", "12", "0.1"]
    found = ask_all(GeometryAnswers, None)
    assert found == GeometryAnswers(across_mm=242.3, down_mm=176.0, part_height_mm=12.0, part_tolerance_mm=0.1)
    told = capsys.readouterr().out
    assert "got 'wide', expected a valid number" in told
    assert "got -3, expected greater than 0" in told


def test_enter_takes_what_was_said_before(typed: list[str]) -> None:
    before = BoardAnswers(squares="9x7", square_mm=20.0, a3=True, chessboard=True)
    typed += ["", "", ""]
    assert ask_all(BoardAnswers, before) == before
    typed += ["", "25", "no"]
    assert ask_all(BoardAnswers, before) == before.model_copy(update={"square_mm": 25.0, "a3": False})


def test_a_text_stays_one(typed: list[str]) -> None:
    typed += ["120,90,128,120", ""]
    assert ask_all(RegistrationAnswers, None).template == "120,90,128,120"
    typed += ["", ""]
    assert ask_all(RegistrationAnswers, None).template is None


def test_a_choice_is_one_of_those_told(typed: list[str]) -> None:
    choices = {"d": "do it", "q": "stop"}
    typed += ["x", "Quit"]
    assert choose("", choices, "d") == "q"
    typed += [""]
    assert choose("", choices, "d") == "d"
    with pytest.raises(NobodyThere):
        choose("", choices, "d")


def test_answers_are_as_they_were(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("answers") / "new"
    assert read_answers(folder) == Answers()
    answers = Answers(
        board=BoardAnswers(marker_mm=16.0),
        geometry=GeometryAnswers(across_mm=242.3, down_mm=176.1),
        skipped={"light": Noted(by="Zoë", at_utc="2026-11-22T06:00:00Z")},
    )
    write_answers(folder, answers)
    assert read_answers(folder) == answers
    assert [each.name for each in folder.iterdir()] == ["answers.yaml"]
