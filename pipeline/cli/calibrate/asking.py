"""Questions to an operator at a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

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
    """Each field that has a description, with what was said before as the default, until it can be. Raises NobodyThere."""
    given: dict[str, Any] = {} if before is None else before.model_dump()
    while True:
        for name, field in model.model_fields.items():
            if field.description:
                given[name] = _ask_field(field, given.get(name, field.get_default()))
        try:
            return model.model_validate(given)
        except ValidationError as error:
            _tell(error)


def _ask_field(field: FieldInfo, default: Any) -> Any:
    # A field without a default is pydantic's own marker of one: it has no text that anybody could mean.
    has_default = isinstance(default, str | int | float) or (default is None and not field.is_required())
    shown = {True: "yes", False: "no", None: "nothing"}[default] if isinstance(default, bool | None) else default
    is_text = field.annotation in (str, str | None)
    limited: Any = Annotated[field.annotation, field]
    expected = TypeAdapter[Any](limited, config=ConfigDict(strict=True, allow_inf_nan=False))
    while True:
        answer = ask(f"  {field.description}{f' [{shown}]' if has_default else ''}: ")
        if not answer and has_default:
            return default
        try:
            return expected.validate_python(answer if is_text else _read(answer))
        except ValidationError as error:
            _tell(error)


def _read(answer: str) -> object:
    """A number or yes and no; else the text as it is."""
    try:
        return yaml.safe_load(answer)
    except yaml.YAMLError:
        return answer


def _tell(error: ValidationError) -> None:
    for fault in faults_of("", error):
        print(one_line(f"  got {fault.got}, expected {fault.expected}"))
