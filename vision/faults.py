"""Faults in what an engineer wrote: one line each, all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

_LONGEST_QUOTE = 80


def one_line(text: str) -> str:
    """``text`` fit to be printed in a line: what a stranger wrote can neither begin a line of its own nor rule a terminal."""
    return "".join(character if character.isprintable() else " " if character.isspace() else "?" for character in text)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. ``key`` is the dotted path inside ``file``, empty where the fault is the file itself. ``str()`` is one line."""

    file: str
    key: str
    got: str
    expected: str

    def __str__(self) -> str:
        where = f"{self.file}: {self.key}" if self.key else self.file
        return one_line(f"{where}: got {self.got}, expected {self.expected}")


class FaultsError(ValueError):
    """Several faults found together; ``str()`` is one line per fault."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        if not faults:
            raise ValueError("a FaultsError needs at least one fault")
        self.faults = tuple(faults)
        super().__init__("\n".join(str(fault) for fault in self.faults))


def quote(value: object) -> str:
    """``repr`` of a value, cut to a length that fits on a line."""
    text = repr(value)
    return text if len(text) <= _LONGEST_QUOTE else text[: _LONGEST_QUOTE - 3] + "..."


def disagreement(key: str, got: str, expected: str) -> PydanticCustomError:
    """To be raised by a model's validator where values that are right by themselves do not go together."""
    return PydanticCustomError(
        "disagreement", "got {got}, expected {expected}", {"key": key, "got": got, "expected": expected}
    )


def faults_of(file: str, error: ValidationError) -> list[Fault]:
    """Pydantic's findings as faults of ``file``."""
    faults = []
    for finding in error.errors(include_url=False):
        key = ".".join(str(part) for part in finding["loc"])
        kind = finding["type"]
        if kind == "disagreement":
            where = finding["ctx"]
            key = ".".join(filter(None, (key, where["key"])))
            got, expected = where["got"], where["expected"]
        elif kind == "missing":
            got, expected = "nothing", "a value"
        elif kind in ("union_tag_invalid", "union_tag_not_found"):
            where = finding["ctx"]
            key = ".".join(filter(None, (key, where["discriminator"].strip("'"))))
            got = quote(where["tag"]) if "tag" in where else "nothing"
            expected = f"one of {where['expected_tags']}" if "tag" in where else "a value"
        elif kind == "extra_forbidden":
            got, expected = "an unknown key", "only known keys (is it misspelt?)"
        else:
            got = quote(finding["input"])
            expected = finding["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
        faults.append(Fault(file, key, got, expected))
    return faults
