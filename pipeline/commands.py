"""Commands as they come off the wire: read, checked, refused where they must be, at most so many a second.

Pure: no sockets, and the caller gives the time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import msgspec

from pipeline.clock import NS_PER_S
from pipeline.messages import Command, CommandName, CommandReply, GiveReview, SetTraceability, StartWindow
from pipeline.payloads import (
    CommandPayload,
    CommandReplyPayload,
    RecordWindowPayload,
    ReviewPayload,
    SetTraceabilityPayload,
    encode,
)

COMMANDS: tuple[CommandName, ...] = get_args(CommandName)
COMMAND_BYTES_MAX = 4_096
COMMANDS_PER_S = 10
COMMANDS_AT_ONCE = 20
CORRELATION_BYTES_MAX = 256
_NAME_LENGTH_MAX = 64
_TOPIC_LENGTH_MAX = 256
_TOPIC_LEVELS_MAX = 32

_PAYLOADS: dict[str, type[CommandPayload]] = {
    "record_window": RecordWindowPayload,
    "set_traceability": SetTraceabilityPayload,
    "review": ReviewPayload,
}
"""Of the commands that have parameters."""
_decode = {name: msgspec.json.Decoder(_PAYLOADS.get(name, CommandPayload)).decode for name in COMMANDS}
TRACEABILITY_KEYS = ("lot", "order", "serial", "shift")


class _Echo(msgspec.Struct):
    """What an answer needs of a payload that is otherwise wrong."""

    request_id: str | None = None


_decode_echo = msgspec.json.Decoder(_Echo).decode


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message on ``cmd/<name>``. ``response_topic`` and ``correlation`` come with MQTT 5 only."""

    name: str
    payload: bytes
    retain: bool
    response_topic: str | None = None
    correlation: bytes | None = None


class CommandInbox:
    """Makes of each message a command to pass on, or the answer that refuses it."""

    def __init__(self, topic_root: str) -> None:
        self._root = topic_root
        self._allowance_ns = COMMANDS_AT_ONCE * NS_PER_S // COMMANDS_PER_S
        self._since_ns: int | None = None

    def take(self, arrived: Arrived, now_ns: int) -> Command | CommandReply:
        """See the class's text. Whether the command is of this session, and fresh, is signalling's to say."""
        name = arrived.name[:_NAME_LENGTH_MAX]
        own_reply_topic = f"{self._root}/cmd/{name}/reply"
        reply_topic = arrived.response_topic or own_reply_topic
        correlation = arrived.correlation

        def refused(text: str, request_id: str | None = None) -> CommandReply:
            return CommandReply(name, request_id, False, text, reply_topic, correlation)

        if fault := self._topic_fault(arrived):
            reply_topic = own_reply_topic
        if correlation is not None and len(correlation) > CORRELATION_BYTES_MAX:
            fault = f"correlation data: got {len(correlation)} bytes, expected at most {CORRELATION_BYTES_MAX}"
            correlation = None
        if fault:
            return refused(fault)
        if not self._within_rate(now_ns):
            # Not even read: whoever floods is answered as cheaply as can be.
            return refused(f"too many commands: at most {COMMANDS_PER_S} a second are taken; try again in a moment")
        if len(arrived.payload) > COMMAND_BYTES_MAX:
            return refused(f"got {len(arrived.payload)} bytes, expected at most {COMMAND_BYTES_MAX}")
        request_id = _request_id(arrived.payload)
        if arrived.name not in COMMANDS:
            return refused(f"no such command: got {name!r}, expected one of {', '.join(COMMANDS)}", request_id)
        if arrived.retain:
            return refused("retained commands are never carried out; publish it with retain off", request_id)
        try:
            payload = _decode[arrived.name](arrived.payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            return refused(f"not a lineside.command/1: {error}", request_id)
        for key in payload.__struct_fields__:
            word = getattr(payload, key)
            if isinstance(word, str) and not word.isprintable():
                return refused(f"{key}: got {word!r}, expected printable characters", request_id)
        parameters = _parameters(payload)
        if parameters == SetTraceability({}):
            return refused(f"got no key to set, expected at least one of {', '.join(TRACEABILITY_KEYS)}", request_id)
        return Command(
            name=arrived.name,
            request_id=payload.request_id,
            session_id=payload.session_id,
            heartbeat_count=payload.heartbeat_count,
            who=payload.who,
            reply_topic=reply_topic,
            correlation=correlation,
            parameters=parameters,
        )

    def _topic_fault(self, arrived: Arrived) -> str:
        """A response topic must not let anyone speak in the service's own name, nor break its connection."""
        topic = arrived.response_topic
        if not topic:
            return ""
        if len(topic) > _TOPIC_LENGTH_MAX or topic.count("/") >= _TOPIC_LEVELS_MAX or topic[0] == "$":
            return f"response topic: expected {_TOPIC_LENGTH_MAX} characters at most, {_TOPIC_LEVELS_MAX} levels, no $ in front"
        if "+" in topic or "#" in topic or "\0" in topic:
            return f"response topic: got {topic!r}, expected one without wildcards"
        own = f"{self._root}/"
        if topic.startswith(own) and not topic.startswith(f"{own}cmd/{arrived.name}/reply"):
            return (
                f"response topic: got {topic!r}, expected one outside {self._root}, or below cmd/{arrived.name}/reply"
            )
        return ""

    def _within_rate(self, now_ns: int) -> bool:
        """A bucket that fills with time: each command takes its share of a second out of it."""
        full_ns = COMMANDS_AT_ONCE * NS_PER_S // COMMANDS_PER_S
        if self._since_ns is not None:
            self._allowance_ns = min(full_ns, self._allowance_ns + now_ns - self._since_ns)
        self._since_ns = now_ns
        price_ns = NS_PER_S // COMMANDS_PER_S
        if self._allowance_ns < price_ns:
            return False
        self._allowance_ns -= price_ns
        return True


def _parameters(payload: CommandPayload) -> StartWindow | SetTraceability | GiveReview | None:
    if isinstance(payload, RecordWindowPayload):
        return StartWindow(payload.duration_s)
    if isinstance(payload, SetTraceabilityPayload):
        said = {key: getattr(payload, key) for key in TRACEABILITY_KEYS}
        return SetTraceability({key: value for key, value in said.items() if value is not msgspec.UNSET})
    if isinstance(payload, ReviewPayload):
        return GiveReview(payload.part_id, payload.part_session_id, payload.said, payload.note)
    return None


def reply_payload(reply: CommandReply, session_id: str) -> bytes:
    """The answer as it goes out."""
    return encode(
        CommandReplyPayload(
            session_id=session_id, request_id=reply.request_id, command=reply.name, ok=reply.ok, text=reply.text
        )
    )


def _request_id(payload: bytes) -> str | None:
    try:
        found = _decode_echo(payload).request_id
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return None if found is None else found[:64]
