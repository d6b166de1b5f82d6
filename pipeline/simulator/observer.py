"""The wire tap: subscribes to what is told under the root and writes down what it hears, as a process of its own.

``python -m pipeline.simulator.observer OPTIONS_JSON``. It is ready when the broker has acknowledged the subscription.
Its log is a JSON-lines file: ``message`` with ``not_before_ns`` and ``arrival_ns`` (CLOCK_MONOTONIC; the message came
between them, and where the tap stood still they are far apart), ``topic`` (below the root), ``qos``, ``retained`` (the flag
on the wire; in MQTT 5 as it was published) and ``payload`` (parsed JSON, or text where it is none), and ``connected`` and
``disconnected`` with ``at_ns``: between them something may not have been heard.
"""

from __future__ import annotations

import json
import select
import time
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field

from pipeline.simulator.mqtt_reader import BrokerAddress, Message, MqttReader
from pipeline.simulator.process import Book, Control, Options, SimulatorProcess, options_from_argv

_IDLE_S = 0.02
"""Also how much too early ``not_before_ns`` may be while the tap runs."""
_TOPICS_KEPT = ("state", "stats", "heartbeat")


class ObserverOptions(Options):
    """The wire tap."""

    broker: BrokerAddress
    root: str = Field(min_length=1, description="topics below this are heard")
    log_path: Path
    topics: tuple[str, ...] = Field(default=("#",), min_length=1, description="which of them")
    client_id: str = "lineside-wire-tap"
    keeps_session: bool = Field(default=False, description="the broker keeps for it what comes while it is away")


class ObserverProcess(SimulatorProcess):
    """Handle of the wire tap."""

    module = "pipeline.simulator.observer"

    def __init__(self, options: ObserverOptions) -> None:
        super().__init__(options)

    def latest(self) -> dict[str, Any]:
        """For a live display: ``topics`` {topic: messages}, ``verdicts`` {verdict: count}, ``reasons`` {reason: count}.

        Also the last ``state``, ``stats`` and ``heartbeat`` payloads, null before the first.
        """
        return self.report()


class _Tap:
    def __init__(self, options: ObserverOptions) -> None:
        self._prefix = f"{options.root}/"
        self._log = Book(options.log_path)
        filters = [f"{options.root}/{topic}" for topic in options.topics]
        self._reader = MqttReader(
            options.broker, options.client_id, filters, qos=1, keeps_session=options.keeps_session
        )
        self._connects_logged = 0
        self._is_deaf = False
        self._topics: Counter[str] = Counter()
        self._verdicts: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._last: dict[str, Any] = dict.fromkeys(_TOPICS_KEPT)

    def run(self, control: Control) -> None:
        is_ready = False
        while not control.is_closed:
            readable: list[Any] = [control, *self._reader.readable]
            select.select(readable, self._reader.writable, [], _IDLE_S)
            now_ns = time.monotonic_ns()
            for message in self._reader.read(now_ns):
                self._write_down(message)
            if self._reader.connects > self._connects_logged and self._reader.is_subscribed:
                self._connects_logged = self._reader.connects
                self._log.write("connected", at_ns=now_ns)
                self._is_deaf = False
            elif is_ready and not self._is_deaf and not self._reader.is_subscribed:
                self._log.write("disconnected", at_ns=self._reader.empty_ns)
                self._is_deaf = True
            self._log.flush()
            if not is_ready and self._reader.is_subscribed:
                is_ready = True
                control.say("ready")
            for command in control.commands():
                control.say("reply", **self._obey(command))
        self._reader.close()
        self._log.close()

    def _obey(self, command: dict[str, Any]) -> dict[str, Any]:
        if command.get("command") != "report":
            return {"error": f"unknown command {command.get('command')!r}"}
        counted = {"topics": self._topics, "verdicts": self._verdicts, "reasons": self._reasons}
        return {**counted, **self._last, "cpu_s": time.process_time()}

    def _write_down(self, message: Message) -> None:
        topic = message.topic.removeprefix(self._prefix)
        payload = _parsed(message.payload)
        self._log.write(
            "message",
            not_before_ns=message.not_before_ns,
            arrival_ns=message.arrival_ns,
            topic=topic,
            qos=message.qos,
            retained=message.is_retained,
            bytes=len(message.payload),
            payload=payload,
        )
        self._topics[topic] += 1
        if topic in self._last:
            self._last[topic] = payload
        if topic == "verdict" and isinstance(payload, dict):
            self._verdicts[str(payload.get("verdict"))] += 1
            self._reasons[str(payload.get("reason"))] += 1


def _parsed(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        return payload.decode(errors="replace")


def main() -> None:
    """Runs the wire tap as a child process."""
    options = options_from_argv(ObserverOptions)
    _Tap(options).run(Control())


if __name__ == "__main__":
    main()
