"""An MQTT subscriber for tests: everything under a topic, in order of arrival."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion


@dataclass(frozen=True)
class Heard:
    """One message. ``body`` is None for an empty payload."""

    topic: str
    payload: bytes
    retain: bool

    @property
    def body(self) -> Any:
        return json.loads(self.payload) if self.payload else None


class Tap:
    """Subscribes ``root``/# and keeps what comes."""

    def __init__(self, port: int, root: str, *, protocol: MQTTProtocolVersion = MQTTProtocolVersion.MQTTv311) -> None:
        self._root = root
        self._news = threading.Condition(threading.RLock())
        self.heard: list[Heard] = []
        self._subscribed = threading.Event()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, protocol=protocol)
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: self._subscribed.set()
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._client.subscribe(f"{root}/#", qos=1)

    def __enter__(self) -> Tap:
        assert self._subscribed.wait(60)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        del self._client  # paho closes its own pair of sockets only with the client

    def bodies(self, topic: str) -> list[Any]:
        """The JSON objects heard under ``root``/``topic`` so far."""
        with self._news:
            return [heard.body for heard in self.heard if heard.topic == f"{self._root}/{topic}"]

    def wait_until(self, condition: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
        """Wait for messages until ``condition`` holds. One that looks at a topic's last message waits for the first, too."""

        def holds() -> bool:
            try:
                return condition()
            except IndexError:
                return False

        with self._news:
            assert self._news.wait_for(holds, timeout_s), f"not within {timeout_s} s; heard {len(self.heard)}"

    def wait_count(self, topic: str, count: int) -> None:
        """Wait until ``count`` messages more than now have come under ``topic``."""
        target = len(self.bodies(topic)) + count
        self.wait_until(lambda: len(self.bodies(topic)) >= target)

    def _on_message(self, _client: paho.Client, _userdata: object, message: paho.MQTTMessage) -> None:
        with self._news:
            self.heard.append(Heard(message.topic, bytes(message.payload), message.retain))
            self._news.notify_all()
