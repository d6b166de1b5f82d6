"""What an operator says at a calibration: kept beside the pictures, so that both together give the same result once more."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
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
    a3: bool = Field(default=False, description="a page of A3, not A4 (yes or no)")
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


class LightAnswers(Strict):
    """How the camera is set now, and how fast parts move."""

    exposure_us: Annotated[float, Field(ge=0.1)] = Field(
        description="what the camera exposes now, microseconds (with a strobe, its flash)"
    )
    gain_db: float = Field(default=0.0, description="what the camera amplifies by now, dB")
    belt_mm_per_s: _Millimetres = Field(
        default=0.0, description="the highest belt speed, mm/s; 0 where parts stand still for the picture"
    )
    mm_per_px: _Length | None = Field(
        default=None,
        description="about how large a pixel is on the part, mm, where parts move and no geometry is known",
    )
    focus_target_px: Annotated[float, Field(ge=0.1)] | None = None


class RegistrationAnswers(Strict):
    """What the part is found by."""

    template: str | None = Field(
        default=None, description="what the part is found by, X,Y,W,H in pixels; nothing: the part's own outline"
    )
    search_px: int = Field(default=40, description="how far the part is looked for, to all four sides, pixels")


class ThresholdAnswers(Strict):
    """What is wanted of the threshold."""

    false_reject_max: float = Field(default=0.01, description="share of good parts that may be rejected at most")
    confidence: float = Field(default=0.95, description="how sure that is to be")


class RepeatabilityAnswers(Strict):
    """How many parts are shown how often."""

    parts: Annotated[int, Field(ge=1, le=100)] = Field(default=5, description="how many different parts")
    times: Annotated[int, Field(ge=2, le=100)] = Field(default=5, description="how often each of them is shown")


class DriftAnswers(Strict):
    """Where light and sharpness are watched."""

    region: str = Field(description="something fixed with edges beside the part, X,Y,W,H in pixels")
    shift_parts: int = Field(default=10_000, description="parts a shift")
    false_alarm_rate: float = Field(default=0.01, description="share of quiet shifts that may have a false alarm")


class TimingAnswers(Strict):
    """Belt, gate and controller, measured."""

    belt_runs: str = Field(
        description="the belt moved by a measured distance, MM:TOLERANCE_MM:PULSES, several with spaces between"
    )
    gate_mm: _Length = Field(description="from the trigger to where the part's middle is at the gate, mm")
    gate_tolerance_mm: _Millimetres = Field(description="how closely that was measured, to either side, mm")
    speed_max_mm_s: _Length = Field(description="the highest belt speed, mm/s")
    part_length_mm: _Length = Field(description="a part's length along the belt, mm")
    pitch_mm: _Length = Field(description="from part to part, at the least, mm")
    controller_us: _Millimetres = Field(description="the controller's scan and the gate's time to act, microseconds")
    trigger_jitter_us: _Millimetres = Field(description="how late the trigger may be, microseconds")
    share: float = Field(default=0.001, description="share of parts that may be too late at most")


class Noted(Strict):
    """Who decided, or did, something that leaves nothing else behind, and when."""

    by: Annotated[str, Field(min_length=1, max_length=64)]
    at_utc: str


class Answers(Strict):
    """All of them, by step."""

    recipe_id: str | None = Field(default=None, description="the product that they are for")
    board: BoardAnswers | None = None
    geometry: GeometryAnswers | None = None
    light: LightAnswers | None = None
    registration: RegistrationAnswers | None = None
    threshold: ThresholdAnswers | None = None
    repeatability: RepeatabilityAnswers | None = None
    drift: DriftAnswers | None = None
    timing: TimingAnswers | None = None
    done: dict[str, Noted] = Field(default_factory=dict, description="steps that leave nothing else behind")
    skipped: dict[str, Noted] = Field(default_factory=dict, description="steps that somebody decided to do without")
    used: dict[str, str] = Field(
        default_factory=dict, description="by step, a hash of the answers that it was done with"
    )

    def digest(self, steps: Iterable[str]) -> str:
        """Of what was answered for these steps, or stands for an answer where nothing was."""
        given = {step: getattr(self, step) for step in steps}
        written = {step: None if each is None else each.model_dump(mode="json") for step, each in given.items()}
        return hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()[:16]


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
