"""``lineside records review``: what a person says of a part, put on record by the running service."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from msgspec import to_builtins

from pipeline.cli.output import JsonOption, check_json_target, fail, words, write_json
from pipeline.config import load_line
from pipeline.line_terminal import LineTerminal, NoAnswer
from pipeline.payloads import ReviewPayload


class Said(str, Enum):
    """What a person says of a part."""

    GOOD = "good"
    DEFECTIVE = "defective"
    UNCLEAR = "unclear"


def review(
    line_file: Annotated[Path, typer.Argument(metavar="LINE", help="The YAML file of the running line.")],
    part: Annotated[int, typer.Argument(metavar="PART", min=1, help="The part_id.")],
    who: Annotated[str, typer.Option("--as", metavar="WHO", help="Who says so.")],
    said: Annotated[Said, typer.Option(help="What the part is.")],
    note: Annotated[str, typer.Option(help="Why, in up to 500 characters.")] = "",
    session: Annotated[
        str | None, typer.Option("--session", metavar="ID", help="The part's; the newest that has such a part else.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Puts on record what a person says of a part, by the service that runs: it alone writes."""
    check_json_target(json_file)
    line = load_line(line_file)

    def make(request_id: str, session_id: str, heartbeat_count: int) -> ReviewPayload:
        return ReviewPayload(
            schema="lineside.command/1",
            request_id=request_id,
            session_id=session_id,
            heartbeat_count=heartbeat_count,
            who=who,
            part_id=part,
            part_session_id=session,
            said=said.value,
            note=note,
        )

    try:
        with LineTerminal(line.config) as terminal:
            reply = terminal.ask("review", make)
    except NoAnswer as error:
        raise fail(str(error)) from None
    if not reply.ok:
        raise fail(f"refused: {reply.text}")
    print(reply.text, file=words(json_file))
    write_json(json_file, to_builtins(reply))
