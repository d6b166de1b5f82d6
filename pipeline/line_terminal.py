"""A terminal at a running line, over the broker: sends commands, waits for their answers, and hears what the line says."""

from __future__ import annotations

import secrets
import select
from collections.abc import Callable, Sequence
from types import TracebackType

import msgspec

from pipeline.clock import NS_PER_S, now_ns, seconds_until
from pipeline.line_config import LineConfig
from pipeline.messages import CommandName
from pipeline.payloads import CommandPayload, CommandReplyPayload, HeartbeatPayload, encode
from pipeline.transports.mqtt import MqttConnection, Received, Subscription

_CONNECT_NS = 5 * NS_PER_S
_HEARTBEAT_NS = 3 * NS_PER_S
_ANSWER_NS = 10 * NS_PER_S
_COMMANDS_HEARD = ("start_challenge", "abandon_challenge", "review")
"""Whose answers are subscribed to when the connection is made."""

_decode_heartbeat = msgspec.json.Decoder(HeartbeatPayload).decode
_decode_reply = msgspec.json.Decoder(CommandReplyPayload).decode


class NoAnswer(RuntimeError):
    """Nobody is there, or nobody answers; the text says which, and what to do."""


class LineTerminal:
    """One connection of its own. ``topics``, below the line's root, are handed to ``hear`` as (topic, payload) as they come."""

    def __init__(
        self, config: LineConfig, *, topics: Sequence[str] = (), hear: Callable[[str, bytes], None] | None = None
    ) -> None:
        self._root = config.topic_root
        self._hear = hear
        self._heartbeats: list[HeartbeatPayload] = []
        self._last_heartbeat: HeartbeatPayload | None = None
        self.heartbeat_ns = 0
        """When the last one came; 0 before the first."""
        self._replies: dict[str, CommandReplyPayload] = {}
        replies = [f"cmd/{name}/reply" for name in _COMMANDS_HEARD]
        self._connection = MqttConnection(
            config.mqtt,
            client_id=f"lineside-c{secrets.token_hex(5)}",
            on_message=self._take,
            subscriptions=tuple(Subscription(f"{self._root}/{topic}") for topic in ("heartbeat", *replies, *topics)),
        )

    def __enter__(self) -> LineTerminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.close()

    @property
    def is_connected(self) -> bool:
        return self._connection.connected

    @property
    def last_error(self) -> str:
        """Why there was no connection last."""
        return self._connection.last_error or "no connection"

    @property
    def session_id(self) -> str | None:
        """By the last heartbeat; None before the first."""
        return None if self._last_heartbeat is None else self._last_heartbeat.session_id

    @property
    def state(self) -> str | None:
        """By the last heartbeat; None before the first."""
        return None if self._last_heartbeat is None else self._last_heartbeat.state

    def heartbeat(self) -> HeartbeatPayload:
        """The next one. Raises NoAnswer where there is no broker, or none comes."""
        broker = self._connection.broker
        if not self.turn_until(lambda: self._connection.connected, _CONNECT_NS):
            raise NoAnswer(f"broker {broker}: {self.last_error}")
        self._heartbeats.clear()  # an old one would not be accepted
        if not self.turn_until(lambda: bool(self._heartbeats), _HEARTBEAT_NS):
            topic = f"{self._root}/heartbeat"
            raise NoAnswer(f"no heartbeat at {topic} on broker {broker}: is the line running? (lineside run)")
        return self._heartbeats[-1]

    def ask(
        self, name: CommandName, make: Callable[[str, str, int], CommandPayload] | None = None, *, who: str = ""
    ) -> CommandReplyPayload:
        """Send a command and return its answer.

        ``make`` gets the request_id, the session_id and the heartbeat_count that the command has to name; without it the command
        has no keys but those, and ``who``. Raises NoAnswer.
        """
        heard, request_id = self.heartbeat(), secrets.token_hex(8)
        if make is None:
            payload = CommandPayload(
                schema="lineside.command/1",
                request_id=request_id,
                session_id=heard.session_id,
                heartbeat_count=heard.count,
                who=who,
            )
        else:
            payload = make(request_id, heard.session_id, heard.count)
        self._connection.publish(f"{self._root}/cmd/{name}", encode(payload), qos=1)
        if not self.turn_until(lambda: request_id in self._replies, _ANSWER_NS):
            text = "look into the record whether it was taken, and send it again"
            raise NoAnswer(f"cmd/{name}: no answer within {_ANSWER_NS // NS_PER_S} s; {text}")
        return self._replies.pop(request_id)

    def turn_until(self, done: Callable[[], bool], within_ns: int) -> bool:
        """Hear what comes, until ``done`` or the time is up; whether it is done."""
        give_up_ns = now_ns() + within_ns
        connection = self._connection
        while not done() and now_ns() < give_up_ns:
            wake_ns = min(give_up_ns, connection.next_turn_ns())
            select.select(connection.read_descriptors(), connection.write_descriptors(), [], seconds_until(wake_ns))
            connection.turn()
        return done()

    def _take(self, message: Received) -> None:
        topic = message.topic.removeprefix(f"{self._root}/")
        try:
            if topic == "heartbeat":
                self._last_heartbeat = _decode_heartbeat(message.payload)
                self._heartbeats[:] = [self._last_heartbeat]
                self.heartbeat_ns = now_ns()
            elif topic.startswith("cmd/"):
                reply = _decode_reply(message.payload)
                if reply.request_id is not None:
                    self._replies[reply.request_id] = reply
            elif self._hear is not None:
                self._hear(topic, message.payload)
        except msgspec.DecodeError:
            return  # whatever else is published there is nothing to us
