"""Commands on their way through the supervisor: each carried out once, each answered, never too many under way. Pure.

The supervisor lives as long as the session; records and signalling may be replaced between a command and its answer. So it is here
that a command told twice (MQTT's QoS 1 may do that) is recognised, by its ``request_id``, and gets the same answer again.
"""

from __future__ import annotations

from collections import OrderedDict

import msgspec

from pipeline.messages import Admitted, Command, CommandReply

UNDER_WAY_MAX = 16
REMEMBERED_MAX = 512
"""More than can come while any of them is still fresh enough to be carried out (see ``commands`` and ``line_watch``)."""


class CommandRelay:
    """Says of each command where it goes now."""

    def __init__(self) -> None:
        self._under_way: dict[str, Command] = {}
        self._admitted: dict[str, Admitted] = {}
        """Of these, the ones that signalling has passed on to records."""
        self._answered: OrderedDict[str, tuple[Command, CommandReply]] = OrderedDict()

    def take(self, command: Command, *, signalling_lives: bool) -> Command | CommandReply | None:
        """The command itself: on to signalling. An answer: back to records. None: told twice, and its answer is on its way."""
        request_id = command.request_id
        known = self._under_way.get(request_id)
        if known is None and request_id in self._answered:
            known, answer = self._answered[request_id]
            if _same(known, command):
                return msgspec.structs.replace(answer, reply_topic=command.reply_topic, correlation=command.correlation)
        if known is not None:
            if _same(known, command):
                return None
            return _refusal(
                command,
                f"request_id {request_id!r} was used before, for {known.name}: each command needs one of its own",
            )
        if not signalling_lives:
            return _refusal(command, "signalling is starting; try again in a moment")
        if len(self._under_way) >= UNDER_WAY_MAX:
            return _refusal(command, f"{UNDER_WAY_MAX} commands are waiting already; try again in a moment")
        self._under_way[request_id] = command
        return command

    def admitted(self, admitted: Admitted) -> None:
        """It is for records to answer now."""
        if admitted.command.request_id in self._under_way:
            self._admitted[admitted.command.request_id] = admitted

    def waiting_for_records(self) -> list[Admitted]:
        """What a successor of records has to be told."""
        return list(self._admitted.values())

    def answered(self, reply: CommandReply) -> Command | None:
        """The answer of signalling, or of records; returns the command that it answers, for the books."""
        assert reply.request_id is not None
        self._admitted.pop(reply.request_id, None)
        command = self._under_way.pop(reply.request_id, None)
        if command is not None:
            self._answered[reply.request_id] = (command, reply)
            if len(self._answered) > REMEMBERED_MAX:
                self._answered.popitem(last=False)
        return command

    def signalling_died(self) -> list[CommandReply]:
        """Answers to all that was under way to it; what it has passed on, records will answer."""
        text = "signalling died before it answered; `state` tells whether it was carried out"
        at_signalling = [command for request_id, command in self._under_way.items() if request_id not in self._admitted]
        replies = [_refusal(command, text) for command in at_signalling]
        for reply in replies:
            self.answered(reply)
        return replies


def _same(one: Command, other: Command) -> bool:
    """Alike but for where the answer goes."""
    return msgspec.structs.replace(one, reply_topic="", correlation=None) == msgspec.structs.replace(
        other, reply_topic="", correlation=None
    )


def _refusal(command: Command, text: str) -> CommandReply:
    return CommandReply(command.name, command.request_id, False, text, command.reply_topic, command.correlation)
