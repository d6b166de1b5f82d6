"""What an operator says at a calibration: kept beside the pictures, so that both together give the same result once more."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from pipeline.whole_file import write_whole
from vision.faults import Fault, FaultsError, faults_of
from vision.recipe import Strict
from vision.unique_keys import UniqueKeyLoader

FILE_NAME = "answers.yaml"

_Millimetres = Annotated[float, Field(ge=0.0)]
_Length = Annotated[float, Field(gt=0.0)]

# A field with a description is asked for in a terminal; the others can only be written into the file.


class BoardAnswers(Strict):
    """The board that is printed."""

    squares: Annotated[str, Field(pattern=r"^\d+x\d+$")] = Field(
        default="11x8", description="squares across and down, all of them, not corners"
    )
    square_mm: _Length = Field(default=22.0, description="a square's side as the page has it, mm")
    marker_mm: _Length | None = None
    dictionary: str = "DICT_5X5_100"
    chessboard: bool = False


class GeometryAnswers(Strict):
    """What was measured at the print, and the height of the parts."""

    across_mm: _Length = Field(description="all squares across, measured on the print, mm")
    down_mm: _Length = Field(description="all squares down, measured on the print, mm")
    reading_mm: Annotated[float, Field(ge=0.01)] = Field(
        default=0.5, description="how closely that was read, to either side, mm (calliper 0.05, ruler 0.5)"
    )
    thickness_mm: _Millimetres = Field(default=0.0, description="how thick board and card are together, mm")
    part_height_mm: _Millimetres = Field(default=0.0, description="how high above the belt is what you inspect, mm")
    part_tolerance_mm: _Millimetres = Field(default=0.0, description="by how much parts differ in that height, mm")


class Skipped(Strict):
    """A step that somebody decided to do without."""

    by: Annotated[str, Field(min_length=1, max_length=64)]
    at_utc: str


class Answers(Strict):
    """All of them, by step."""

    board: BoardAnswers | None = None
    geometry: GeometryAnswers | None = None
    skipped: dict[str, Skipped] = Field(default_factory=dict)


def read_answers(folder: Path) -> Answers:
    """None given where there is no file. Raises FaultsError."""
    file = folder / FILE_NAME
    try:
        written = yaml.load(file.read_text(encoding="utf-8"), Loader=UniqueKeyLoader)
        return Answers.model_validate({} if written is None else written)
    except FileNotFoundError:
        return Answers()
    except OSError as error:
        raise FaultsError([Fault(str(file), "", str(error.strerror), "a readable file")]) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        if isinstance(error, ValidationError):
            raise FaultsError(faults_of(str(file), error)) from error
        told = " ".join(str(error).split())
        raise FaultsError([Fault(str(file), "", f"text that is not YAML ({told})", "what was answered")]) from error


def write_answers(folder: Path, answers: Answers) -> None:
    """The file is whole and on disk, or as it was. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    content = answers.model_dump(mode="json", exclude_none=True, exclude_defaults=False)
    write_whole(folder / FILE_NAME, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())
