"""``lineside calibrate challenge``: leads an operator through the challenge of a running line."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, TextIO

import msgspec
import typer
from rich.table import Table

from calibration.challenge import KindShown, Showing, challenge_figures
from pipeline.cli.console import console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.clock import NS_PER_S
from pipeline.config import load_line
from pipeline.config_sections import ChallengeKind
from pipeline.line_config import LineConfig
from pipeline.line_terminal import LineTerminal, NoAnswer
from pipeline.payloads import ChallengePayload, CommandPayload, StatePayload
from vision.types import Verdict

_HEARD_NS = NS_PER_S // 4
_OUTCOME_NS = 10 * NS_PER_S
_WORDS = {"PASS": "passed", "REJECT": "rejected"}

_decode_state = msgspec.json.Decoder(StatePayload).decode
_decode_challenge = msgspec.json.Decoder(ChallengePayload).decode


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
    out = words(json_file)
    if abandon:
        _abandon(line.config, who)
        return
    for number, text in enumerate(_steps(kinds), 1):
        print(f"{number}. {text}", file=out, flush=True)
    following = _Following(out, who)
    try:
        with LineTerminal(line.config, topics=["state", "challenge"], hear=following.hear) as terminal:
            try:
                reply = terminal.ask("start_challenge", following.command)
                outcome = following.until_over(terminal) if reply.ok else None
            except BaseException:
                # Ctrl-C too: nobody is left who would tell the operator what comes next.
                with contextlib.suppress(NoAnswer):
                    if following.is_under_way(terminal):
                        terminal.ask("abandon_challenge", who=who)
                raise
    except NoAnswer as error:
        raise fail(str(error)) from None
    if not reply.ok:
        raise fail(f"refused: {reply.text}")
    if outcome is None:
        waited = f"nobody said within {_OUTCOME_NS // NS_PER_S} s how it ended"
        raise fail(f"the challenge is over, and {waited}; `state` says {following.last_word}")
    show(console_for(json_file), _told(outcome))
    if not outcome.is_kept:
        print("lineside: this is not on disk yet, see the alarm challenge-not-kept", file=sys.stderr)
    try:
        write_json(json_file, _result(outcome))
    except typer.Exit:
        print(f"lineside: the challenge {'passed' if outcome.passed else 'failed'} all the same", file=sys.stderr)
        raise
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
    """What the line says of the challenge that ``command`` asks for, printed as it comes."""

    def __init__(self, out: TextIO, who: str) -> None:
        self._out = out
        self._who = who
        self._request_id = ""
        self._states: deque[StatePayload] = deque()
        self._challenge: ChallengePayload | None = None
        """Ours, as it was told last; None while it is another one."""
        self._has_begun = False
        self._is_off = False
        """The line has left it."""
        self.last_word = "nothing"

    def command(self, request_id: str, session_id: str, heartbeat_count: int) -> CommandPayload:
        """Asks for it."""
        self._request_id = request_id
        return CommandPayload(
            schema="lineside.command/1",
            request_id=request_id,
            session_id=session_id,
            heartbeat_count=heartbeat_count,
            who=self._who,
        )

    def hear(self, topic: str, payload: bytes) -> None:
        """What the broker keeps of the time before the challenge is heard first."""
        if topic == "state":
            self._states.append(_decode_state(payload))
        elif topic == "challenge":
            told = _decode_challenge(payload)
            self._challenge = told if told.request_id == self._request_id else None

    def is_under_way(self, terminal: LineTerminal) -> bool:
        """Ours, and not another operator's; known at once, or soon where it was asked for just now."""
        if self._request_id:
            terminal.turn_until(lambda: self._challenge is not None, NS_PER_S)
        return self._challenge is not None and not self._challenge.is_over

    def until_over(self, terminal: LineTerminal) -> ChallengePayload | None:
        """How it ended; None where the line goes on, and nobody says that for a while."""
        gives_up_ns: int | None = None
        while gives_up_ns is None or time.monotonic_ns() < gives_up_ns:
            terminal.turn_until(lambda: bool(self._states), _HEARD_NS)
            self._print_states()
            ended = self._challenge if self._challenge is not None and self._challenge.is_over else None
            # They come over two connections: what `state` said until then is printed first.
            if ended is not None and (self._is_off or not self._has_begun):
                return ended
            if ended is None and not self._is_off:
                gives_up_ns = None
            elif gives_up_ns is None:
                gives_up_ns = time.monotonic_ns() + _OUTCOME_NS
        return self._challenge if self._challenge is not None and self._challenge.is_over else None

    def _print_states(self) -> None:
        while self._states:
            state = self._states.popleft()
            word = f"{state.state}: {state.reason}"
            if state.state == "CHALLENGE" and word != self.last_word:
                print(state.reason, file=self._out, flush=True)
            self.last_word = word
            if state.state == "CHALLENGE":
                self._has_begun, self._is_off = True, False
            elif self._has_begun or state.state == "OFFLINE":
                self._is_off = True


def _told(outcome: ChallengePayload) -> Iterator[Table | str]:
    for figures in _figures(outcome):
        yield figures.words()
    yield f"{'passed' if outcome.passed else 'FAILED'}: {outcome.text}"


def _figures(outcome: ChallengePayload) -> tuple[KindShown, ...]:
    return challenge_figures(
        [
            Showing(kind.kind, str(number % kind.part_count + 1), kind.expected == "REJECT", Verdict(judged))
            for kind in outcome.kinds
            for number, judged in enumerate(kind.judged)
        ]
    )


def _result(outcome: ChallengePayload) -> dict[str, object]:
    return {
        "passed": outcome.passed,
        "text": outcome.text,
        "who": outcome.who,
        "ended_utc": outcome.ended_utc,
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
