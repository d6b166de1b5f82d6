"""Sends a command to a running line, as an operator's terminal does, and waits for the answer."""

from __future__ import annotations

import secrets
import select
from collections.abc import Callable

import msgspec

from pipeline.clock import NS_PER_S, now_ns, seconds_until
from pipeline.config import LineConfig
from pipeline.messages import CommandName
from pipeline.payloads import CommandPayload, CommandReplyPayload, HeartbeatPayload, encode
from pipeline.transports.mqtt import MqttConnection, Received, Subscription

_CONNECT_NS = 5 * NS_PER_S
_HEARTBEAT_NS = 3 * NS_PER_S
_ANSWER_NS = 10 * NS_PER_S

_decode_heartbeat = msgspec.json.Decoder(HeartbeatPayload).decode
_decode_reply = msgspec.json.Decoder(CommandReplyPayload).decode


class NoAnswer(RuntimeError):
    """Nobody is there, or nobody answers; the text says which, and what to do."""


def send_command(
    config: LineConfig, name: CommandName, make: Callable[[str, str, int], CommandPayload]
) -> CommandReplyPayload:
    """``make`` gets the request_id, the session_id and the heartbeat_count that the command has to name. Raises NoAnswer."""
    request_id = secrets.token_hex(8)
    heartbeats: list[HeartbeatPayload] = []
    replies: list[CommandReplyPayload] = []
    topics = {f"{config.topic_root}/heartbeat": heartbeats, f"{config.topic_root}/cmd/{name}/reply": replies}

    def take(message: Received) -> None:
        try:
            if topics.get(message.topic) is heartbeats:
                heartbeats[:] = [_decode_heartbeat(message.payload)]
            elif (reply := _decode_reply(message.payload)).request_id == request_id:
                replies.append(reply)
        except msgspec.DecodeError:
            return  # whatever else is published there is no answer

    connection = MqttConnection(
        config.mqtt,
        client_id=f"lineside-c{secrets.token_hex(5)}",
        on_message=take,
        subscriptions=tuple(Subscription(topic) for topic in topics),
    )
    try:
        if not _turn_until(connection, lambda: connection.connected, _CONNECT_NS):
            raise NoAnswer(f"broker {connection.broker}: {connection.last_error or 'no connection'}")
        if not _turn_until(connection, lambda: bool(heartbeats), _HEARTBEAT_NS):
            topic = f"{config.topic_root}/heartbeat"
            raise NoAnswer(
                f"no heartbeat at {topic} on broker {connection.broker}: is the line running? (lineside run)"
            )
        payload = encode(make(request_id, heartbeats[0].session_id, heartbeats[0].count))
        connection.publish(f"{config.topic_root}/cmd/{name}", payload, qos=1)
        if not _turn_until(connection, lambda: bool(replies), _ANSWER_NS):
            text = "look into the record whether it was taken, and send it again"
            raise NoAnswer(f"cmd/{name}: no answer within {_ANSWER_NS // NS_PER_S} s; {text}")
        return replies[0]
    finally:
        connection.close()


def _turn_until(connection: MqttConnection, done: Callable[[], bool], within_ns: int) -> bool:
    give_up_ns = now_ns() + within_ns
    while not done() and now_ns() < give_up_ns:
        wake_ns = min(give_up_ns, connection.next_turn_ns())
        select.select(connection.read_descriptors(), connection.write_descriptors(), [], seconds_until(wake_ns))
        connection.turn()
    return done()
