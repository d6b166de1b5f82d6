"""The steps of a calibration in their order: what each needs, what it builds on, and the command's own function that does it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from math import ceil
from pathlib import Path

from pydantic import BaseModel

from calibration.focus import TARGET_BLUR_PX
from calibration.intervals import parts_needed
from pipeline.calibrated_line import judged_by
from pipeline.calibration_file import CameraCalibration, DriftSection, ThresholdSection
from pipeline.challenge import judged_with
from pipeline.challenge_file import BadChallengeFile, ChallengeFile
from pipeline.cli.calibrate.answers import (
    Answers,
    BoardAnswers,
    DriftAnswers,
    GeometryAnswers,
    LightAnswers,
    RegistrationAnswers,
    RepeatabilityAnswers,
    ThresholdAnswers,
    TimingAnswers,
)
from pipeline.cli.calibrate.board import board
from pipeline.cli.calibrate.challenge import challenge
from pipeline.cli.calibrate.drift import drift
from pipeline.cli.calibrate.flat_field import flat_field
from pipeline.cli.calibrate.gates import BoardGate, FocusGate, Gate, LevelGate, any_fault, bright_fault, dark_fault
from pipeline.cli.calibrate.geometry import geometry
from pipeline.cli.calibrate.light import light
from pipeline.cli.calibrate.options import board_of, station_of
from pipeline.cli.calibrate.registration import registration
from pipeline.cli.calibrate.repeatability import repeatability
from pipeline.cli.calibrate.threshold import threshold
from pipeline.cli.calibrate.timing import timing
from pipeline.clock import NS_PER_S, wall_text
from pipeline.config import Line, load_line
from pipeline.drift_baseline import found_with

_BOARD = "board.svg"
_NS_PER_HOUR = 3_600 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Place:
    """Where a step is done: this camera of this line, with pictures and answers in ``folder``."""

    line: Line
    camera_id: str
    who: str
    folder: Path
    answers: Answers
    model_sha256: str

    def pictures(self, name: str) -> Path:
        """The folder of these pictures."""
        return self.folder / name

    def put_aside(self, name: str) -> Path:
        """Where what has this name is kept when something else takes its place; the folder is there."""
        aside = self.folder / "before" / f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S%f}" / name
        aside.parent.mkdir(parents=True, exist_ok=True)
        return aside


@dataclass(frozen=True, slots=True)
class Done:
    """What is in force of a step. ``at_utc``: to the second, ISO 8601, which sorts by time; empty where time says nothing;
    ``outdated``: what it was found under or with, and is not so any more; empty where all of it is.
    """

    by: str
    at_utc: str
    told: str
    pictures_sha256: str | None = None
    outdated: str = ""


@dataclass(frozen=True, slots=True)
class Shots:
    """Pictures that a step needs. ``what``: to put in front of the camera; ``is_needed``: without them the step cannot be."""

    folder: str
    what: str
    count: int
    gate: Callable[[Place, int], Gate]
    is_needed: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """One step. ``why``: what it is for; ``needs_line``: done at the running line; ``is_kept``: what comes of it lies somewhere
    else than in the answers; ``builds_on``: older than one of these, it is old;
    ``answers_used``: whose answers it is done with: with other ones it is old.
    """

    name: str
    title: str
    why: str
    run: Callable[[Place], None]
    done: Callable[[Place, CameraCalibration | None], Done | None]
    builds_on: tuple[str, ...] = ()
    shots: Callable[[Place], tuple[Shots, ...]] = field(default=lambda place: ())
    answers: type[BaseModel] | None = None
    answers_used: tuple[str, ...] = ()
    needs_line: bool = False
    is_kept: bool = True
    applies: Callable[[Line], bool] = field(default=lambda line: True)


def steps_of(line: Line) -> list[Step]:
    """Those that this line has."""
    return [step for step in _STEPS if step.applies(line)]


def _section(name: str) -> Callable[[Place, CameraCalibration | None], Done | None]:
    def done(place: Place, calibration: CameraCalibration | None) -> Done | None:
        section = getattr(calibration, name, None)
        if section is None:
            return None
        made = section.made
        pictures = f", from {made.pictures_count} pictures" if made.pictures_count else ""
        assert calibration is not None
        outdated = "what it was found under has changed" if name in (calibration.outdated or ()) else ""
        if not _is_of_this_model(place, calibration, section):
            outdated = "the model, or what it is shown or asked for, is another one now"
        return Done(made.by, made.at_utc, f"by {made.by}, {made.at_utc}{pictures}", made.pictures_sha256, outdated)

    return done


def _is_of_this_model(place: Place, calibration: CameraCalibration, section: object) -> bool:
    if isinstance(section, DriftSection):
        body = calibration.model_dump(mode="json", by_alias=True, exclude_none=True)
        return section.found_with == found_with(place.line.recipe, place.camera_id, place.model_sha256, body)
    if isinstance(section, ThresholdSection) and section.judged_by not in (
        None,
        judged_by(place.line, place.camera_id),
    ):
        return False
    return getattr(section, "model_sha256", None) in (None, place.model_sha256)


def _board_done(place: Place, calibration: CameraCalibration | None) -> Done | None:
    given, page = place.answers.board, place.pictures(_BOARD)
    if given is None or not page.exists():
        return None
    return Done("", "", f"{given.squares} squares of {given.square_mm:g} mm, {page}")


def _noted(name: str) -> Callable[[Place, CameraCalibration | None], Done | None]:
    def done(place: Place, calibration: CameraCalibration | None) -> Done | None:
        found = place.answers.done.get(name)
        return None if found is None else Done(found.by, found.at_utc, f"by {found.by}, {found.at_utc}")

    return done


def _challenge_done(place: Place, calibration: CameraCalibration | None) -> Done | None:
    """One that passed, and has not expired."""
    config = place.line.config
    try:
        outcome = ChallengeFile(config.records.path).read()
    except BadChallengeFile:
        return None
    if outcome is None or not outcome.passed or config.challenge_valid_hours is None:
        return None
    age_ns = time.time_ns() - outcome.ended_utc_ns
    if not 0 <= age_ns < config.challenge_valid_hours * _NS_PER_HOUR:
        return None
    at_utc = f"{wall_text(outcome.ended_utc_ns)[:19]}Z"
    is_of_this = outcome.model_sha256 == place.model_sha256 and outcome.judged_with == judged_with(
        load_line(place.line.file)
    )
    outdated = "" if is_of_this else "it was of another product, recipe, model, camera, calibration or plan"
    return Done(outcome.who, at_utc, f"by {outcome.who}, {at_utc}: {outcome.text}", outdated=outdated)


def _run_board(place: Place) -> None:
    page, given = place.pictures(_BOARD), place.answers.board or BoardAnswers()
    page.parent.mkdir(parents=True, exist_ok=True)
    if page.exists():
        page.rename(place.put_aside(_BOARD))
    board(page, given.squares, given.square_mm, given.marker_mm, given.dictionary, given.chessboard, given.a3)


def _run_geometry(place: Place) -> None:
    measured, given = place.answers.geometry, place.answers.board or BoardAnswers()
    assert measured is not None
    geometry(
        line_file=place.line.file,
        images=place.pictures("geometry/hand"),
        belt=place.pictures("geometry/belt"),
        across_mm=measured.across_mm,
        down_mm=measured.down_mm,
        who=place.who,
        camera_id=place.camera_id,
        squares=given.squares,
        square_mm=given.square_mm,
        marker_mm=given.marker_mm,
        dictionary=given.dictionary,
        chessboard=given.chessboard,
        thickness_mm=measured.thickness_mm,
        part_height_mm=measured.part_height_mm,
        part_tolerance_mm=measured.part_tolerance_mm,
        reading_mm=measured.reading_mm,
    )


def _run_flat_field(place: Place) -> None:
    flat_field(place.line.file, place.pictures("flat-field"), place.who, place.camera_id)


def _run_light(place: Place) -> None:
    given = place.answers.light
    assert given is not None
    has_no_geometry = station_of(place.line.file, place.camera_id, None).before.geometry is None
    light(
        line_file=place.line.file,
        images=place.pictures("light"),
        exposure_us=given.exposure_us,
        gain_db=given.gain_db,
        belt_mm_per_s=given.belt_mm_per_s,
        mm_per_px=given.mm_per_px if has_no_geometry and given.belt_mm_per_s > 0.0 else None,
        focus_target_px=TARGET_BLUR_PX if given.focus_target_px is None else given.focus_target_px,
        camera_id=place.camera_id,
    )


def _run_registration(place: Place) -> None:
    given = place.answers.registration or RegistrationAnswers()
    registration(
        line_file=place.line.file,
        images=place.pictures("registration"),
        who=place.who,
        template=given.template,
        search_px=given.search_px,
        camera_id=place.camera_id,
    )


def _run_threshold(place: Place) -> None:
    given, defective = place.answers.threshold or ThresholdAnswers(), place.pictures("threshold/defective")
    threshold(
        line_file=place.line.file,
        good=place.pictures("threshold/good"),
        who=place.who,
        defective=defective if defective.is_dir() else None,
        false_reject_max=given.false_reject_max,
        confidence=given.confidence,
        camera_id=place.camera_id,
    )


def _run_repeatability(place: Place) -> None:
    labels = place.pictures("repeatability/labels.csv")
    repeatability(
        line_file=place.line.file,
        images=place.pictures("repeatability"),
        who=place.who,
        labels=labels if labels.exists() else None,
        camera_id=place.camera_id,
    )


def _run_drift(place: Place) -> None:
    given = place.answers.drift
    assert given is not None
    drift(
        line_file=place.line.file,
        who=place.who,
        images=place.pictures("drift"),
        camera_id=place.camera_id,
        region=given.region,
        shift_parts=given.shift_parts,
        false_alarm_rate=given.false_alarm_rate,
    )


def _run_timing(place: Place) -> None:
    given = place.answers.timing
    assert given is not None
    measured = given.model_dump(exclude={"belt_runs"})
    timing(line_file=place.line.file, who=place.who, belt_run=given.belt_runs.split(), **measured)


def _run_challenge(place: Place) -> None:
    challenge(place.line.file, place.who)


def _board_gate(*, is_covering: bool) -> Callable[[Place, int], Gate]:
    def gate(place: Place, count: int) -> Gate:
        given = place.answers.board or BoardAnswers()
        held = board_of(
            given.squares, given.square_mm, given.marker_mm, given.dictionary, is_chessboard=given.chessboard
        )
        return BoardGate(held, count, is_covering=is_covering)

    return gate


def _level_gate(judge: Callable[[float, float], str]) -> Callable[[Place, int], Gate]:
    return lambda place, count: LevelGate(count, judge)


def _good_count(place: Place) -> int:
    """So many good parts, and some to spare: as many as the promise needs where none is rejected, and a quarter more."""
    given = place.answers.threshold or ThresholdAnswers()
    try:
        return ceil(1.25 * parts_needed(given.false_reject_max, given.confidence))
    except ValueError:
        return 1


def _parts_again(place: Place) -> tuple[Shots, ...]:
    """Of the parts that have pictures, or of as many as were said."""
    given = place.answers.repeatability or RepeatabilityAnswers()
    folder = place.pictures("repeatability")
    names = [each.name for each in sorted(folder.iterdir()) if each.is_dir()] if folder.is_dir() else []
    wanted = [f"part-{number}" for number in range(1, given.parts + 1)]
    what = "Put this part before the camera, take it away and put it there again, each time anew."
    return tuple(
        Shots(f"repeatability/{name}", f"{name}: {what}", given.times, _level_gate(any_fault))
        for name in sorted({*names, *wanted[len(names) :]})
    )


_STEPS = (
    Step(
        name="board",
        title="a board to print",
        why="Print the page at 100 %, glue it to something flat and stiff, and measure it: all millimetres come from it.",
        run=_run_board,
        done=_board_done,
        answers=BoardAnswers,
        answers_used=("board",),
    ),
    Step(
        name="light",
        title="exposure and focus",
        why="Bright enough, nothing white all over, edges sharp, and parts not smeared by the belt.",
        run=_run_light,
        done=_noted("light"),
        shots=lambda place: (
            Shots(
                "focus",
                "Lay a part with sharp edges in its place, turn the focus ring past the sharpest place and back, and fasten it.",
                0,
                lambda place, count: FocusGate(),
                is_needed=False,
            ),
            Shots("light", "Lay one part in its place, and do not move it.", 8, _level_gate(any_fault)),
        ),
        answers=LightAnswers,
        answers_used=("light",),
        is_kept=False,
    ),
    Step(
        name="geometry",
        title="the millimetres",
        why="Where pixels lie on the parts: sizes of defects are told in millimetres, and the lens's bending is taken out.",
        run=_run_geometry,
        done=_section("geometry"),
        builds_on=("board",),
        shots=lambda place: (
            Shots(
                "geometry/hand",
                "Hold the board into every corner, along every edge and into the middle, near and far, tilted to all sides.",
                20,
                _board_gate(is_covering=True),
            ),
            Shots(
                "geometry/belt",
                "Lay the board flat on the belt in the middle of the picture, then elsewhere, turned each time.",
                3,
                _board_gate(is_covering=False),
            ),
        ),
        answers=GeometryAnswers,
        answers_used=("board", "geometry"),
    ),
    Step(
        name="flat-field",
        title="even light",
        why="Dark corners, dust on the sensor and dead pixels are taken out of every picture.",
        run=_run_flat_field,
        done=_section("flat_field"),
        shots=lambda place: (
            Shots("flat-field/dark", "Put the cap on the lens and the light out.", 10, _level_gate(dark_fault)),
            Shots(
                "flat-field/bright",
                "Light on: lay a clean, plain, matt sheet under the camera that fills the picture; move it a little.",
                20,
                _level_gate(bright_fault),
            ),
        ),
    ),
    Step(
        name="registration",
        title="where the part lies",
        why="What is inspected follows the part; a part that lies too far off is not judged.",
        run=_run_registration,
        done=_section("registration"),
        builds_on=("geometry",),
        shots=lambda place: (
            Shots(
                "registration/still",
                "Lay one part exactly in its place, and do not move it.",
                15,
                _level_gate(any_fault),
            ),
            Shots("registration/parts", "Let good parts pass as they come in production.", 30, _level_gate(any_fault)),
            Shots("registration/empty", "Let the empty belt be seen.", 3, _level_gate(any_fault), is_needed=False),
        ),
        answers=RegistrationAnswers,
        answers_used=("registration",),
    ),
    Step(
        name="threshold",
        title="which scores reject",
        why="How many good parts may be rejected is promised from good parts that the model has never seen.",
        run=_run_threshold,
        done=_section("threshold"),
        builds_on=("geometry", "flat-field", "registration"),
        shots=lambda place: (
            Shots(
                "threshold/good",
                "Let good parts pass, each once, taken at random and not chosen.",
                _good_count(place),
                _level_gate(any_fault),
            ),
            Shots(
                "threshold/defective",
                "Let known-defective parts pass, each once.",
                30,
                _level_gate(any_fault),
                is_needed=False,
            ),
        ),
        answers=ThresholdAnswers,
        answers_used=("threshold",),
        applies=lambda line: any(rule.is_calibrated for rule in line.recipe.rules),
    ),
    Step(
        name="repeatability",
        title="the same parts again",
        why="How far scores and sizes of one part differ from time to time.",
        run=_run_repeatability,
        done=_section("repeatability"),
        builds_on=("geometry", "flat-field", "registration", "threshold"),
        shots=_parts_again,
        answers=RepeatabilityAnswers,
    ),
    Step(
        name="drift",
        title="what is usual",
        why="The running line says when light, sharpness, position or scores move away from what they are now.",
        run=_run_drift,
        done=_section("drift"),
        builds_on=("geometry", "flat-field", "registration"),
        shots=lambda place: (
            Shots("drift", "Let good parts pass as in production, one after the other.", 250, _level_gate(any_fault)),
        ),
        answers=DriftAnswers,
        answers_used=("drift",),
    ),
    Step(
        name="challenge",
        title="the challenge",
        why="Known parts through the running line show that it catches what it is there for. Without one nothing is judged.",
        run=_run_challenge,
        done=_challenge_done,
        builds_on=("geometry", "flat-field", "registration", "threshold"),
        needs_line=True,
        applies=lambda line: line.config.challenge_valid_hours is not None,
    ),
    Step(
        name="timing",
        title="belt and gate",
        why="When verdicts are there, how near the gate may be, and how wide its window has to be.",
        run=_run_timing,
        done=_section("timing"),
        answers=TimingAnswers,
        answers_used=("timing",),
        needs_line=True,
        applies=lambda line: line.config.encoder is not None,
    ),
)
