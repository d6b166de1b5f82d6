"""What a page is made of: plain data. Texts are plain text, never HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

Mood: TypeAlias = Literal["good", "warning", "bad", "neutral"]


def plain(text: str, max_chars: int = 60) -> str:
    """Short, and without control, invisible and direction-changing characters: for text that somebody else made up."""
    short = text if len(text) <= max_chars else f"{text[: max_chars - 1]}…"
    return "".join(each if each.isprintable() else _REPLACEMENT for each in short)


@dataclass(frozen=True, slots=True)
class Fact:
    """One figure, large, with what it is and a smaller word about it."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Figures in a row."""

    kind: ClassVar[str] = "facts"
    facts: Sequence[Fact]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something to be seen first; the title says the mood in words, since colour alone says nothing to many."""

    kind: ClassVar[str] = "notice"
    mood: Mood
    title: str
    lines: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Words:
    """A paragraph."""

    kind: ClassVar[str] = "words"
    text: str


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts, as many as there are columns; the first of a row names it. ``number_columns`` are set to the right."""

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    number_columns: frozenset[int] = frozenset()
    note: str = ""


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing. ``src`` is a data URI of SVG, ``alt`` says in words what is to be seen."""

    kind: ClassVar[str] = "plot"
    src: str
    alt: str
    caption: str


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle over a picture, in pixels of the frame. ``second`` ones (another model's, say) are dashed and blue."""

    box_px: tuple[float, float, float, float]
    label: str
    style: Literal["first", "second"] = "first"


@dataclass(frozen=True, slots=True)
class Picture:
    """``src`` is a data URI of PNG or JPEG, or None where there is no picture: ``caption`` and ``lines`` then say why.

    ``width_px`` and ``height_px`` are the frame's, which the boxes are measured in, not those of the smaller picture shown.
    """

    kind: ClassVar[str] = "picture"
    src: str | None
    width_px: int
    height_px: int
    alt: str
    caption: str
    lines: Sequence[str] = ()
    boxes: Sequence[Box] = ()


@dataclass(frozen=True, slots=True)
class Gallery:
    """Pictures side by side."""

    kind: ClassVar[str] = "gallery"
    pictures: Sequence[Picture]


Block: TypeAlias = Facts | Notice | Words | Table | Plot | Picture | Gallery


@dataclass(frozen=True, slots=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Page:
    """A whole report. ``blocks`` stand before the first heading; ``made_by`` is the page's last line."""

    title: str
    subtitle: str
    blocks: Sequence[Block]
    sections: Sequence[Section]
    made_by: str
