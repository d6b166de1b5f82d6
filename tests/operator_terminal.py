"""An operator's terminal for tests: sends commands as a controller or a shell would, and hears the answers."""

from __future__ import annotations

import itertools
import json
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.tap import Tap


class Operator:
    """Reads the heartbeat through ``tap`` and publishes below ``root``/cmd."""

    def __init__(
        self, port: int, root: str, tap: Tap, *, protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311
    ) -> None:
        self._root = root
        self._tap = tap
        self._protocol = protocol
        self._numbers = itertools.count(1)
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self._client.connect("127.0.0.1", port)

    def __enter__(self) -> Operator:
        self._client.loop_start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def command(self, **changes: Any) -> dict[str, Any]:
        """A command's payload as of the last heartbeat; ``changes`` replace keys."""
        self._tap.wait_until(lambda: bool(self._tap.bodies("heartbeat")))
        beat = self._tap.bodies("heartbeat")[-1]
        payload = {
            "schema": "lineside.command/1",
            "request_id": f"r{next(self._numbers)}",
            "session_id": beat["session_id"],
            "heartbeat_count": beat["count"],
            "who": "Anna",
        }
        return {**payload, **changes}

    def publish(
        self,
        name: str,
        payload: dict[str, Any] | bytes,
        *,
        retain: bool = False,
        response_topic: str | None = None,
        correlation: bytes | None = None,
    ) -> None:
        properties = None
        if self._protocol is MQTTProtocolVersion.MQTTv5 and response_topic is not None:
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.ResponseTopic = response_topic
            properties.CorrelationData = correlation
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        sent = self._client.publish(f"{self._root}/cmd/{name}", content, 1, retain, properties)
        sent.wait_for_publish(30)

    def ask(self, name: str, **changes: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        payload = self.command(**changes)
        return self.answer(name, payload)

    def answer(self, name: str, payload: dict[str, Any] | bytes, *, retain: bool = False) -> dict[str, Any]:
        """Publish and return the next answer on ``cmd/<name>/reply``."""
        topic = f"cmd/{name}/reply"
        before = len(self._tap.bodies(topic))
        self.publish(name, payload, retain=retain)
        self._tap.wait_until(lambda: len(self._tap.bodies(topic)) > before)
        reply: dict[str, Any] = self._tap.bodies(topic)[before]
        return reply
