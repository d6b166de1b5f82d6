"""``lineside calibrate challenge``: leads an operator through the challenge of a running line."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO

import msgspec
import typer
from rich.table import Table

from calibration.challenge import KindShown, Showing, challenge_figures
from pipeline.challenge import BEGAN
from pipeline.challenge_file import BadChallengeFile, ChallengeFile
from pipeline.cli.console import console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.clock import NS_PER_S, wall_text
from pipeline.config import ChallengeKind, LineConfig, load_line
from pipeline.line_terminal import LineTerminal, NoAnswer
from pipeline.messages import ChallengeOutcome
from pipeline.payloads import StatePayload
from vision.types import Verdict

_HEARD_NS = NS_PER_S // 4
_OUTCOME_NS = 10 * NS_PER_S
_WORDS = {"PASS": "passed", "REJECT": "rejected"}

_decode_state = msgspec.json.Decoder(StatePayload).decode


def challenge(
    line_file: Annotated[Path, typer.Argument(metavar="LINE", help="The YAML file of the running line.")],
    who: Annotated[str, typer.Option("--as", metavar="WHO", help="Who does it; stands in `state` and in the outcome.")],
    abandon: Annotated[
        bool, typer.Option("--abandon", help="End one that was left behind; it has failed then.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Known parts through the running line: says what to put on it next, and at the end what the station caught.

    Every part is rejected meanwhile. Status 0 where the challenge passed, 1 where it failed or nobody answers.
    """
    check_json_target(json_file)
    line = load_line(line_file)
    kinds = line.config.challenge
    if not kinds:
        raise fail(f"{line.file}: challenge: got none, expected the kinds of known parts", 2)
    file = ChallengeFile(line.config.records.path)
    out = words(json_file)
    if abandon:
        _abandon(line.config, who)
        return
    for number, text in enumerate(_steps(kinds), 1):
        print(f"{number}. {text}", file=out, flush=True)
    began_utc_ns = time.time_ns()
    following = _Following(file, out)
    try:
        with LineTerminal(line.config, topics=["state"], hear=following.hear) as terminal:
            is_refused = False
            try:
                reply = terminal.ask("start_challenge", who=who)
                if is_refused := not reply.ok:
                    raise fail(f"refused: {reply.text}")
                outcome = following.until_over(terminal, began_utc_ns)
            except BaseException:
                # Ctrl-C too: nobody is left who would tell the operator what comes next.
                if not is_refused:
                    with contextlib.suppress(NoAnswer):
                        terminal.ask("abandon_challenge", who=who)
                raise
    except NoAnswer as error:
        raise fail(str(error)) from None
    if outcome is None:
        raise fail(f"the challenge is over, and its outcome is not at {file.path}; `state` says: {following.last_word}")
    show(console_for(json_file), _told(outcome))
    write_json(json_file, _result(outcome))
    if not outcome.passed:
        raise fail(f"the challenge failed: {outcome.text}")


def _abandon(config: LineConfig, who: str) -> None:
    try:
        with LineTerminal(config) as terminal:
            reply = terminal.ask("abandon_challenge", who=who)
    except NoAnswer as error:
        raise fail(str(error)) from None
    if not reply.ok:
        raise fail(f"refused: {reply.text}")
    print(reply.text)


def _steps(kinds: list[ChallengeKind]) -> Iterator[str]:
    for kind in kinds:
        times = "once" if kind.count == 1 else f"{kind.count} times"
        parts = (
            f"part of kind {kind.kind}"
            if kind.part_count == 1
            else f"{kind.part_count} parts of kind {kind.kind} in turn,"
        )
        yield f"{parts} {times}, to be {_WORDS[kind.expected]} each time"


class _Following:
    """What the line says of the challenge, printed as it comes."""

    def __init__(self, file: ChallengeFile, out: TextIO) -> None:
        self._file = file
        self._out = out
        self._heard: deque[StatePayload] = deque()
        self._is_under_way = False
        self.last_word = ""

    def hear(self, topic: str, payload: bytes) -> None:
        """What the broker keeps of the time before the challenge is heard first."""
        if topic == "state":
            self._heard.append(_decode_state(payload))

    def until_over(self, terminal: LineTerminal, began_utc_ns: int) -> ChallengeOutcome | None:
        """The outcome is what records has kept; None where the line went on, and records could not keep it for a while."""
        over_ns: int | None = None
        while over_ns is None or time.monotonic_ns() < over_ns + _OUTCOME_NS:
            terminal.turn_until(lambda: bool(self._heard), _HEARD_NS)
            while self._heard:
                state = self._heard.popleft()
                self._is_under_way = self._is_under_way or state.state == "CHALLENGE"
                if self._is_under_way and state.reason != self.last_word:
                    self.last_word = state.reason
                    if state.state == "CHALLENGE":
                        print(state.reason, file=self._out, flush=True)
                is_over = self._is_under_way and state.state in ("RUNNING", "READY", "HALTED", "OFFLINE")
                over_ns = time.monotonic_ns() if is_over else None
            # The disk may be quicker than the broker: what was said until then is printed first.
            has_ended = over_ns is not None or not self._is_under_way
            if has_ended and (outcome := self._kept(began_utc_ns)) is not None:
                return outcome
        return None

    def _kept(self, began_utc_ns: int) -> ChallengeOutcome | None:
        """Of this challenge, and not that it began."""
        try:
            outcome = self._file.read()
        except BadChallengeFile:
            return None
        is_ours = outcome is not None and outcome.ended_utc_ns >= began_utc_ns and outcome.text != BEGAN
        return outcome if is_ours else None


def _told(outcome: ChallengeOutcome) -> Iterator[Table | str]:
    for figures in _figures(outcome):
        yield figures.words()
    yield f"{'passed' if outcome.passed else 'FAILED'}: {outcome.text}"


def _figures(outcome: ChallengeOutcome) -> tuple[KindShown, ...]:
    return challenge_figures(
        [
            Showing(kind.kind, str(number % kind.part_count + 1), kind.expected == "REJECT", Verdict(judged))
            for kind in outcome.kinds
            for number, judged in enumerate(kind.judged)
        ]
    )


def _result(outcome: ChallengeOutcome) -> dict[str, object]:
    return {
        "passed": outcome.passed,
        "text": outcome.text,
        "who": outcome.who,
        "ended_utc": wall_text(outcome.ended_utc_ns),
        "recipe_id": outcome.recipe_id,
        "recipe_version": outcome.recipe_version,
        "model_sha256": outcome.model_sha256,
        "kinds": [
            {
                "kind": each.kind,
                "is_defective": each.is_defective,
                "shown": each.shown_count,
                "right": each.right_count,
                "unjudged": each.unjudged_count,
                "parts": len(each.parts),
                "right_interval": [each.low, each.high],
                "wrong_at_most": each.wrong_at_most,
                "confidence": each.confidence,
            }
            for each in _figures(outcome)
        ],
    }
