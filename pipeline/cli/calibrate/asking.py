"""Questions to an operator at a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from vision.faults import faults_of, one_line

_Model = TypeVar("_Model", bound=BaseModel)


class NobodyThere(RuntimeError):
    """The terminal was closed."""


def ask(text: str) -> str:
    """One line from the operator, without spaces around. Raises NobodyThere."""
    try:
        return input(one_line(text)).strip()
    except EOFError:
        raise NobodyThere from None


def choose(text: str, choices: Mapping[str, str], default: str) -> str:
    """One of ``choices`` (a letter: what it does); Enter is ``default``. Raises NobodyThere."""
    told = ", ".join(f"[{letter}] {words}" for letter, words in choices.items())
    while True:
        answer = ask(f"{text} {told} (Enter: {default}) > ").lower()[:1] or default
        if answer in choices:
            return answer


def ask_all(model: type[_Model], before: BaseModel | None) -> _Model:
    """Each field that has a description, with what was said before as the default, until all of it can be. Raises NobodyThere."""
    given: dict[str, Any] = {} if before is None else before.model_dump()
    asked = {name for name, field in model.model_fields.items() if field.description}
    while True:
        for name, field in model.model_fields.items():
            if name in asked:
                is_text = field.annotation in (str, str | None)
                _ask_field(name, str(field.description), given, field.get_default(), is_text=is_text)
        try:
            return model.model_validate(given)
        except ValidationError as error:
            for fault in faults_of("", error):
                print(f"  {fault.key}: got {fault.got}, expected {fault.expected}")
            asked = {str(finding["loc"][0]) for finding in error.errors() if finding["loc"]} or asked
            given = {name: value for name, value in given.items() if name not in asked}


def _ask_field(name: str, description: str, given: dict[str, Any], default: Any, *, is_text: bool) -> None:
    default = given.get(name, default)
    # A field without a default is pydantic's own marker of one: it has no text that anybody could mean.
    has_default = isinstance(default, str | int | float)
    answer = ask(f"  {description}{f' [{default}]' if has_default else ''}: ")
    if answer:
        try:
            given[name] = answer if is_text else yaml.safe_load(answer)
        except yaml.YAMLError:
            given[name] = answer
    elif has_default:
        given[name] = default
