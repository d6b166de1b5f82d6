"""A line controller of a test: tells triggers over MQTT."""

from __future__ import annotations

import json
from types import TracebackType
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion


class TriggerTeller:
    """Publishes at QoS 1 and waits for the broker to have it."""

    def __init__(self, port: int, topic: str) -> None:
        self._topic = topic
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def __enter__(self) -> TriggerTeller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        del self._client  # paho closes its own pair of sockets only with the client

    def tell(self, trigger_counter: int, *, age_us: int = 0, **more: Any) -> None:
        notice = {"schema": "lineside.trigger/1", "trigger_counter": trigger_counter, "age_us": age_us, **more}
        self.publish(json.dumps(notice))

    def publish(self, payload: str | bytes, *, retain: bool = False) -> None:
        """Whatever it is."""
        self._client.publish(self._topic, payload, qos=1, retain=retain).wait_for_publish(60)
