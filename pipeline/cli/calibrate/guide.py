"""``lineside calibrate guide``: all steps of a calibration one after the other, by an operator or unattended from a folder."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from pipeline.calibrated_timing import differences
from pipeline.calibration_file import CameraCalibration, made_now
from pipeline.calibration_store import as_name
from pipeline.cli.calibrate.answers import FILE_NAME, Answers, Noted, read_answers, write_answers
from pipeline.cli.calibrate.asking import NobodyThere, ask_all, choose
from pipeline.cli.calibrate.grabbing import CannotGrab, GrabbingCamera
from pipeline.cli.calibrate.options import CameraOption, LineArgument, Station, WhoOption, station_of
from pipeline.cli.calibrate.report import report
from pipeline.cli.calibrate.running import last_state
from pipeline.cli.calibrate.steps import Done, Place, Shots, Step, steps_of
from pipeline.cli.calibrate.taking import pictures_of, take_pictures
from pipeline.cli.console import console_for
from pipeline.cli.output import Failed, JsonOption, check_json_target, fail, spare_inputs, words, write_json
from pipeline.cli.report import ReportOption, check_report_folder
from pipeline.clock import NS_PER_S
from pipeline.config import Line, load_line
from pipeline.line_terminal import NoAnswer
from pipeline.payloads import StatePayload
from vision.faults import Fault, FaultsError, one_line
from vision.package import load_package

_STOPPED = 130
_DAY_S = 86_400.0
_HEARD_NS = 2 * NS_PER_S


def guide(
    line_file: LineArgument,
    who: WhoOption,
    images: Annotated[
        Path | None,
        typer.Option(
            "--images", metavar="DIR", help="Unattended: a folder with answers.yaml and each step's pictures."
        ),
    ] = None,
    pictures: Annotated[
        Path | None,
        typer.Option(
            "--pictures", metavar="DIR", help="Where pictures taken here go; without it beside the line's file."
        ),
    ] = None,
    camera_id: CameraOption = None,
    from_step: Annotated[
        str | None, typer.Option("--from", metavar="STEP", help="Do this step and all after it again.")
    ] = None,
    line_wait_s: Annotated[
        float, typer.Option(min=0.0, max=_DAY_S, help="Unattended: so long for somebody to start the line.")
    ] = 0.0,
    report_folder: ReportOption = None,
    json_file: JsonOption = None,
) -> None:
    """Bring a camera to a state that can be proved, from the printed board to the challenge. What is done is kept: begun again,
    it goes on where it stopped.

    Status 0 where every step that the line needs is done or was skipped by somebody; 1 otherwise.
    """
    check_json_target(json_file)
    check_report_folder(report_folder)
    if images is not None and pictures is not None:
        raise fail("--images and --pictures: give one of them", 2)
    if images is not None and not images.is_dir():
        raise fail(f"--images: got {images}, expected a folder with answers.yaml and each step's pictures", 2)
    if images is None and not sys.stdin.isatty():
        raise fail("--images: got none and no terminal to ask at, expected a folder of pictures", 2)
    spare_inputs({"--json": json_file, "--report": report_folder}, images)
    station = station_of(line_file, camera_id, who)
    steps = steps_of(station.line)
    names = [step.name for step in steps]
    if from_step is not None and from_step not in names:
        raise fail(f"--from: got {from_step}, expected one of {', '.join(names)}", 2)
    recipe_id = station.before.recipe_id
    folder = images or pictures or station.line.file.parent / f"pictures-{as_name(recipe_id)}-{station.camera_id}"
    place = Place(
        station.line, station.camera_id, who, folder, _answers_for(recipe_id, folder), _model_sha256(station.line)
    )
    walk = _Walk(station, steps, place, from_step, json_file)
    try:
        outcomes = walk.unattended(line_wait_s) if images is not None else walk.led()
    except (KeyboardInterrupt, NobodyThere):
        raise fail("stopped. What is done is kept: the same command goes on from here.", _STOPPED) from None
    except OSError as error:
        raise fail(f"{error.filename or folder}: {error.strerror}") from None
    walk.tell_outcomes(outcomes)
    calibration = walk.in_force()
    result: dict[str, object] = {
        "calibration_id": None if calibration is None else calibration.calibration_id,
        "camera_id": station.camera_id,
        "recipe_id": station.before.recipe_id,
        "steps": [dataclasses.asdict(outcome) for outcome in outcomes],
    }
    write_json(json_file, result)
    if report_folder is not None:
        report(line_file, report_folder)
    open_steps = [outcome.step for outcome in outcomes if not outcome.is_settled]
    if open_steps:
        raise fail(f"not ready: {', '.join(open_steps)}")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a step ended. ``told``: by whom, or why not."""

    step: str
    status: str
    told: str

    @property
    def is_settled(self) -> bool:
        return self.status in ("done", "in force", "skipped")


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where a step stands: ``old_because`` says what makes it old, empty where nothing does."""

    done: Done | None
    old_because: str
    skipped: Noted | None

    @property
    def is_settled(self) -> bool:
        return self.is_in_force or (self.done is None and self.skipped is not None)

    @property
    def is_in_force(self) -> bool:
        return self.done is not None and not self.old_because

    def status(self) -> str:
        if self.done is not None:
            return "in force" if self.is_in_force else "old"
        return "open" if self.skipped is None else "skipped"

    def words(self) -> str:
        """By whom and when."""
        if self.done is not None:
            old = f"; OLD: {self.old_because}" if self.old_because else ""
            return f"{self.done.told}{old}"
        return f"by {self.skipped.by}, {self.skipped.at_utc}" if self.skipped else "not done yet"


def _answers_for(recipe_id: str, folder: Path) -> Answers:
    """What was answered for this product. Raises FaultsError where it was for another one."""
    answers = read_answers(folder)
    if answers.recipe_id not in (None, recipe_id):
        expected = f"{recipe_id}, the line's product: another folder (--images, --pictures)"
        raise FaultsError([Fault(str(folder / FILE_NAME), "recipe_id", str(answers.recipe_id), expected)])
    return answers.model_copy(update={"recipe_id": recipe_id})


def _model_sha256(line: Line) -> str:
    """Empty where there is no model yet: the first steps need none."""
    try:
        return load_package(line.recipe.model).sha256
    except FaultsError:
        return ""


class _Walk:
    """Through all steps of one camera."""

    def __init__(
        self, station: Station, steps: list[Step], place: Place, from_step: str | None, json_file: Path | None
    ) -> None:
        self._station, self._steps, self._place = station, steps, place
        names = [step.name for step in steps]
        self._first = 0 if from_step is None else names.index(from_step)
        self._is_repeating = from_step is not None
        self._out = words(json_file)
        self._console = console_for(json_file)

    def in_force(self) -> CameraCalibration | None:
        """As the store has it now. Raises FaultsError, OSError."""
        return self._station.store.current(self._station.before.recipe_id, self._station.camera_id)

    def unattended(self, line_wait_s: float) -> list[Outcome]:
        """Every step that has its pictures."""
        outcomes: list[Outcome] = []
        for number, step in enumerate(self._steps):
            self._tell_title(number, step)
            unready = {outcome.step for outcome in outcomes if not outcome.is_settled}
            outcome = self._without_operator(number, step, unready, line_wait_s)
            self._tell(f"{outcome.status}: {outcome.told}")
            outcomes.append(outcome)
        return outcomes

    def led(self) -> list[Outcome]:
        """The operator decides of each step."""
        outcomes: list[Outcome] = []
        self._tell(
            f"Camera {self._station.camera_id}, product {self._station.before.recipe_id}. Pictures: {self._place.folder}"
        )
        self._tell("Ctrl-C stops at any place; what is done is kept.")
        for number, step in enumerate(self._steps):
            standing = self._standing(step)
            self._tell_title(number, step)
            self._tell(f"{standing.status()}: {standing.words()}")
            is_asked_for = self._is_repeating and number >= self._first
            if standing.is_settled and not is_asked_for:
                outcomes.append(Outcome(step.name, standing.status(), standing.words()))
                continue
            if (outcome := self._with_operator(step, standing)) is None:
                return [*outcomes, *map(self._as_it_stands, self._steps[number:])]
            outcomes.append(outcome)
        return outcomes

    def tell_outcomes(self, outcomes: list[Outcome]) -> None:
        """The end of it, in one look."""
        self._tell("")
        for number, outcome in enumerate(outcomes, 1):
            self._tell(f"{number:2}. {outcome.step:14} {outcome.status:9} {outcome.told}")
        calibration = self.in_force()
        if calibration is not None and calibration.timing is not None:
            for fault in differences(load_line(self._station.line.file), calibration.timing.figures):
                self._tell(f"NOT AS CALIBRATED: {fault}")

    def _without_operator(self, number: int, step: Step, unready: set[str], line_wait_s: float) -> Outcome:
        standing = self._standing(step)
        if standing.done is None and standing.skipped is not None:
            return Outcome(step.name, "skipped", standing.words())
        is_repeated = self._is_repeating and number >= self._first
        missing = [
            shots
            for shots in step.shots(self._place)
            if shots.is_needed and not pictures_of(self._place.pictures(shots.folder))
        ]
        is_noted = self._is_repeating and not step.is_kept
        if standing.is_in_force and not is_repeated and (missing or is_noted or self._is_of_these(step, standing)):
            return Outcome(step.name, standing.status(), standing.words())
        if self._is_repeating and not is_repeated:
            return Outcome(step.name, "not done", f"{standing.words()}: begin with it (--from {step.name})")
        if waits_for := [name for name in step.builds_on if name in unready]:
            return Outcome(step.name, "not done", f"it builds on {', '.join(waits_for)}")
        if missing:
            wanted = "; ".join(f"{self._place.pictures(shots.folder)}: {shots.what}" for shots in missing)
            return Outcome(step.name, "not done", f"no pictures in {wanted}")
        if step.answers is not None and self._answers(step) is None:
            file = self._place.folder / "answers.yaml"
            keys = ", ".join(name for name, each in step.answers.model_fields.items() if each.description)
            return Outcome(step.name, "not done", f"{file}: {step.name}: got nothing, expected {keys}")
        if step.needs_line and (told := self._waited_for_line(line_wait_s)):
            return Outcome(step.name, "not done", told)
        return self._run(step)

    def _as_it_stands(self, step: Step) -> Outcome:
        standing = self._standing(step)
        return Outcome(step.name, standing.status() if standing.is_settled else "not done", standing.words())

    def _with_operator(self, step: Step, standing: _Standing) -> Outcome | None:
        """None where the operator stops."""
        self._tell(step.why)
        for shots in step.shots(self._place):
            self._tell(f"  {shots.folder}: {shots.what}")
        choices = {"d": "do it", "s": "keep it as it is" if standing.is_in_force else "skip it", "q": "stop here"}
        while True:
            match choose("", choices, "d"):
                case "q":
                    return None
                case "s":
                    outcome = self._skipped(step, standing)
                    self._tell(f"{outcome.status}: {outcome.told}")
                    return outcome
            try:
                if step.answers is not None:
                    self._answer({step.name: ask_all(step.answers, self._answers(step))})
                for shots in step.shots(self._place):
                    self._take(shots)
            except CannotGrab as error:
                self._tell(f"no pictures: {error}")
                continue
            if step.needs_line:
                self._tell("This is done at the running line: start it in another terminal, or start it again.")
                if told := self._waited_for_line(_DAY_S):
                    self._tell(told)
                    continue
            outcome = self._run(step)
            if outcome.is_settled:
                self._tell(f"{outcome.status}: {outcome.told}")
                return outcome
            self._tell("Nothing was changed.")

    def _run(self, step: Step) -> Outcome:
        try:
            step.run(self._place)
        except Failed as error:
            return Outcome(step.name, "refused", error.text)
        except FaultsError as error:
            print(error, file=sys.stderr)
            return Outcome(step.name, "refused", one_line(str(error)))
        answers = self._place.answers
        if step.name in answers.skipped:
            self._answer({"skipped": {name: each for name, each in answers.skipped.items() if name != step.name}})
        if not step.is_kept:
            self._answer({"done": {**answers.done, step.name: self._noted()}})
        if step.answers_used:
            self._answer({"used": {**answers.used, step.name: answers.digest(step.answers_used)}})
        return Outcome(step.name, "done", self._standing(step).words())

    def _skipped(self, step: Step, standing: _Standing) -> Outcome:
        if standing.done is not None:
            return Outcome(step.name, standing.status(), standing.words())
        self._answer({"skipped": {**self._place.answers.skipped, step.name: self._noted()}})
        return Outcome(step.name, "skipped", self._standing(step).words())

    def _noted(self) -> Noted:
        return Noted(by=self._place.who, at_utc=f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}")

    def _take(self, shots: Shots) -> None:
        """Raises CannotGrab."""
        folder, takes_new = self._place.pictures(shots.folder), False
        if kept := pictures_of(folder):
            choices = {"g": "go on with them", "n": "take new ones"}
            takes_new = choose(f"{len(kept)} pictures are in {folder}:", choices, "g") == "n"
        self._tell(shots.what)
        gate = shots.gate(self._place, shots.count)
        with GrabbingCamera(self._station.line, self._station.camera_id) as camera:
            if takes_new:
                aside = self._place.put_aside(shots.folder)
                folder.rename(aside)
                self._tell(f"those that were there are in {aside} now")
            pixel_format = self._station.frame_format.pixel_format
            take_pictures(camera, folder, gate, shots.count, pixel_format, self._console)

    def _waited_for_line(self, within_s: float) -> str:
        """Why the line cannot be used; empty where it runs, with what is in force now."""
        line = load_line(self._station.line.file)

        def is_up(said: StatePayload) -> bool:
            return said.state in ("READY", "RUNNING") and said.calibration_id == line.calibration_id

        def heard(within_ns: int) -> tuple[StatePayload | None, str]:
            try:
                return last_state(line.config, is_up, within_ns), ""
            except NoAnswer as error:
                return None, str(error)

        said, trouble = heard(_HEARD_NS)
        if (said is None or not is_up(said)) and within_s > 0.0:
            wanted = f"the line to run with calibration {line.calibration_id}: lineside run {line.file}"
            self._tell(f"waiting for {wanted}{f' ({trouble})' if trouble else ''}")
            said, trouble = heard(int(within_s * NS_PER_S))
        if trouble:
            return trouble
        if said is None or said.state not in ("READY", "RUNNING"):
            told = "it says nothing" if said is None else f"it says {said.state} {said.reason}".rstrip()
            return f"the line does not run ({told}): start it (lineside run {line.file}) and begin this again"
        if not is_up(said):
            return f"the line runs with calibration {said.calibration_id}, not {line.calibration_id}: start it again"
        return ""

    def _standing(self, step: Step) -> _Standing:
        calibration = self.in_force()
        done = step.done(self._place, calibration)
        old_because = "" if done is None else done.outdated
        if done is not None and self._has_other_answers(step):
            old_because = "what was answered is not what it was done with"
        for earlier in self._steps:
            if done is not None and earlier.name in step.builds_on:
                before = earlier.done(self._place, calibration)
                if before is not None and before.at_utc > done.at_utc:
                    old_because = f"{earlier.name} was repeated after it"
        return _Standing(done, old_because, self._place.answers.skipped.get(step.name))

    def _has_other_answers(self, step: Step) -> bool:
        """Of a step that was done by its own command nobody has said here what it was done with."""
        answers = self._place.answers
        is_answered = any(getattr(answers, name) is not None for name in step.answers_used)
        return is_answered and answers.used.get(step.name) != answers.digest(step.answers_used)

    def _is_of_these(self, step: Step, standing: _Standing) -> bool:
        """Whether what is in force was made from the pictures that are there: then there is nothing to do."""
        if standing.done is None or not step.shots(self._place) or not step.is_kept:
            return standing.done is not None and step.is_kept
        files = [file for shots in step.shots(self._place) for file in pictures_of(self._place.pictures(shots.folder))]
        digests = [hashlib.sha256(file.read_bytes()).digest() for file in files]
        return made_now(self._place.who, digests).pictures_sha256 == standing.done.pictures_sha256

    def _answers(self, step: Step) -> BaseModel | None:
        found: BaseModel | None = getattr(self._place.answers, step.name.replace("-", "_"), None)
        return found

    def _answer(self, changes: dict[str, object]) -> None:
        """Kept at once: nothing that was said is asked for again."""
        named = {name.replace("-", "_"): value for name, value in changes.items()}
        answers: Answers = self._place.answers.model_copy(update=named)
        write_answers(self._place.folder, answers)
        self._place = dataclasses.replace(self._place, answers=answers)

    def _tell_title(self, number: int, step: Step) -> None:
        self._tell("")
        self._tell(f"== {number + 1} of {len(self._steps)}: {step.name}, {step.title}")

    def _tell(self, text: str) -> None:
        print(one_line(text), file=self._out, flush=True)
