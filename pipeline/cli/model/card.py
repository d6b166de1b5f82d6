"""A card to start from: what is known with where from, and a line for each question."""

from __future__ import annotations

from typing import Any

import yaml

from vision.faults import one_line
from vision.identify import Identification, Known, Question

_ORDER = ("name", "version", "task", "input", "outputs", "classes", "decoder", "thresholds", "sha256", "licence")
_INSIDE = ("input", "outputs", "decoder")
_OTHER_ENDS_OF_LINES = set("\x85\u2028\u2029")
_HEAD = (
    "# Lines without a value must be set before the model can be used; a # tells where the value below it comes from.\n"
)


def card_with_questions(identification: Identification) -> str:
    """The text of ``model.yaml``. Keys that are asked stand there without a value."""
    rows: dict[str, Known | Question] = {known.key: known for known in identification.known}
    rows |= {question.key: question for question in identification.questions}
    top = {key.split(".")[0] for key in rows}
    lines = [_HEAD]
    for section in [*(key for key in _ORDER if key in top), *sorted(top - set(_ORDER))]:
        if section in _INSIDE and section not in rows:  # which a card may have, to its fault, as one value
            lines.append(f"{section}:\n")
            inside = [(key.split(".", 1)[1], row) for key, row in rows.items() if key.split(".")[0] == section]
            lines += [_indented(_entry(key, row)) for key, row in inside]
        else:
            lines.append(_entry(section, rows[section]))
    return "".join(lines)


def _entry(key: str, row: Known | Question) -> str:
    if isinstance(row, Question):
        choices = "".join(f"#   {one_line(choice)}\n" for choice in row.choices)
        return f"# SET THIS: {one_line(row.why)}\n{choices}{key}:\n"
    return f"# {one_line(row.source)}\n{_dumped(key, row.value)}"


def _dumped(key: str, value: Any) -> str:
    def dumped(allow_unicode: bool) -> str:
        return yaml.safe_dump({key: value}, sort_keys=False, allow_unicode=allow_unicode, width=110)

    text = dumped(True)
    # PyYAML writes Unicode's other ends of lines as they are, and reads them as white space.
    return dumped(False) if set(text) & _OTHER_ENDS_OF_LINES else text


def _indented(text: str) -> str:
    return "".join(f"  {line}\n" for line in text.removesuffix("\n").split("\n"))
