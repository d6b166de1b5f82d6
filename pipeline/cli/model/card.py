"""A card to start from: what is known with where from, and a line for each question."""

from __future__ import annotations

from typing import Any

import yaml

from vision.identify import Identification, Known, Question

_ORDER = ("name", "version", "task", "input", "outputs", "classes", "decoder", "thresholds", "sha256", "licence")
_INSIDE = ("input", "outputs", "decoder")
_HEAD = "# Lines without a value must be set before the model can be used; what follows a # tells where a value comes from.\n"


def card_with_questions(identification: Identification) -> str:
    """The text of ``model.yaml``. Keys that are asked stand there without a value."""
    rows: dict[str, Known | Question] = {known.key: known for known in identification.known}
    rows |= {question.key: question for question in identification.questions}
    top = {key.split(".")[0] for key in rows}
    lines = [_HEAD]
    for section in [*(key for key in _ORDER if key in top), *sorted(top - set(_ORDER))]:
        if section in _INSIDE:
            lines.append(f"{section}:\n")
            inside = [(key.split(".", 1)[1], row) for key, row in rows.items() if key.split(".")[0] == section]
            lines += [_indented(_entry(key, row)) for key, row in inside if key]
        else:
            lines.append(_entry(section, rows[section]))
    return "".join(lines)


def _entry(key: str, row: Known | Question) -> str:
    if isinstance(row, Question):
        choices = "".join(f"#   {_one_line(choice)}\n" for choice in row.choices)
        return f"# SET THIS: {_one_line(row.why)}\n{choices}{key}:\n"
    text = _dumped(key, row.value)
    first, rest = text.split("\n", 1)
    return f"{first}  # {_one_line(row.source)}\n{rest}"


def _dumped(key: str, value: Any) -> str:
    return yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=True, width=110)


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.splitlines())


def _one_line(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
