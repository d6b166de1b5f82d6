"""What a running line says of itself, for steps that are done at it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from pipeline.line_config import LineConfig
from pipeline.line_terminal import LineTerminal, NoAnswer
from pipeline.payloads import StatePayload

_decode_state = msgspec.json.Decoder(StatePayload).decode


def last_state(config: LineConfig, is_wanted: Callable[[StatePayload], bool], within_ns: int) -> StatePayload | None:
    """The first state that is wanted, or the last one heard; None where nothing is. The broker keeps the last word of a line.

    Raises NoAnswer where there is no broker.
    """
    heard: deque[StatePayload] = deque(maxlen=1)

    def hear(topic: str, payload: bytes) -> None:
        if topic == "state":
            heard.append(_decode_state(payload))

    with LineTerminal(config, topics=["state"], hear=hear) as terminal:
        terminal.turn_until(lambda: bool(heard) and is_wanted(heard[-1]), within_ns)
        if not heard and not terminal.is_connected:
            raise NoAnswer(f"broker {config.mqtt.host}:{config.mqtt.port}: {terminal.last_error}")
    return heard[-1] if heard else None
