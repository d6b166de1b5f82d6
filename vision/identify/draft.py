"""What is known of a model so far, and what is not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vision.faults import Fault
from vision.onnx_file import OnnxFile, TensorFacts

CARD = "card"


@dataclass(frozen=True, slots=True)
class Known:
    """A value of the card. ``key`` is dotted; ``source`` says where the value comes from."""

    key: str
    value: Any
    source: str


@dataclass(frozen=True, slots=True)
class Question:
    """A key of the card that must be set: ``why`` it is not known, and what can stand there."""

    key: str
    why: str
    choices: tuple[str, ...] = ()

    def fault(self, card_file: str) -> Fault:
        """The question as a fault of the card."""
        expected = f"one of {', '.join(self.choices)}" if self.choices else "a value"
        return Fault(card_file, self.key, "nothing", f"{expected}: {self.why}")


@dataclass(frozen=True, slots=True)
class Identification:
    """``known`` and ``questions`` together are the whole card; ``faults`` no key of the card can mend."""

    exporter: str
    known: tuple[Known, ...]
    questions: tuple[Question, ...]
    faults: tuple[Fault, ...]

    @property
    def is_complete(self) -> bool:
        return not self.questions and not self.faults

    def card(self) -> dict[str, Any]:
        """The known values as a card's nested mapping."""
        card: dict[str, Any] = {}
        for known in self.known:
            place = card
            *path, last = known.key.split(".", maxsplit=1 if known.key.startswith("outputs.") else -1)
            for part in path:
                place = place.setdefault(part, {})
                if not isinstance(place, dict):  # the card has something else there, which is its fault
                    break
            else:
                place[last] = known.value
        return card


class Draft:
    """Collects values and questions. What the card says holds; what it says is not asked."""

    def __init__(self, facts: OnnxFile, card: Mapping[str, Any], model_file: str, card_file: str) -> None:
        self.facts = facts
        self.exporter = "unknown"
        self.card_file = card_file
        self.model_file = model_file
        self._known: dict[str, Known] = {}
        self._questions: dict[str, Question] = {}
        self._faults: list[Fault] = []
        self._open: set[str] = set()
        for key, value in card.items():
            if "." in str(key):
                self.refuse(str(key), "an unknown key", "keys inside one another, without dots", of_card=True)
            else:
                self._take(str(key), value)

    def say(self, key: str, value: object, source: str) -> None:
        """A value that is known, unless the card has one."""
        self._known.setdefault(key, Known(key, value, source))
        self._questions.pop(key, None)

    def ask(self, key: str, why: str, choices: Sequence[str] = ()) -> None:
        """A value that is not known, unless the card has one."""
        if key not in self._known:
            self._questions.setdefault(key, Question(key, why, tuple(choices)))

    def refuse(self, key: str, got: str, expected: str, *, of_card: bool = False) -> None:
        """What cannot be: ``key`` of the model's file, or of the card."""
        fault = Fault(self.card_file if of_card else self.model_file, key, got or "''", expected)
        if fault not in self._faults:
            self._faults.append(fault)

    def value(self, key: str) -> Any:
        """The value known by now; None where there is none."""
        known = self._known.get(key)
        return None if known is None else known.value

    def given(self, key: str) -> Any:
        """What the card says of a key; None where it says nothing."""
        known = self._known.get(key)
        return known.value if known is not None and known.source == CARD else None

    def is_left_open(self, key: str) -> bool:
        """Whether the card has the key without a value: it is still to be answered."""
        return key in self._open

    def roles(self) -> dict[str, str]:
        """Role -> tensor, as the card gives them."""
        return {
            key.removeprefix("outputs."): known.value
            for key, known in self._known.items()
            if key.startswith("outputs.") and known.source == CARD
        }

    def output(self, name: str) -> TensorFacts | None:
        return next((tensor for tensor in self.facts.outputs if tensor.name == name), None)

    def finished(self) -> Identification:
        return Identification(
            self.exporter, tuple(self._known.values()), tuple(self._questions.values()), tuple(self._faults)
        )

    def _take(self, key: str, value: object) -> None:
        if value is None:
            self._open.add(key)
            return
        if key == "decoder" and isinstance(value, str):
            value = {"kind": value}
        if isinstance(value, Mapping) and key in ("input", "outputs", "decoder"):
            for inner, each in value.items():
                self._take(f"{key}.{inner}", each)
        else:
            self._known[key] = Known(key, value, CARD)
