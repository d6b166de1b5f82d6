"""Reads MQTT without a thread: connects, subscribes, comes back after a loss. For the controller and the wire tap."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions
from pydantic import Field

from pipeline.simulator.process import Options

ProtocolVersion = Literal["3.1.1", "5"]

_RETRY_NS = 200_000_000
_KEEP_ALIVE_S = 5
_SESSION_S = 3_600


class BrokerAddress(Options):
    """Where the broker listens, and which version of MQTT to speak with it."""

    host: str = "127.0.0.1"
    port: int = Field(ge=1, le=65535)
    protocol: ProtocolVersion = "3.1.1"


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came over the wire.

    ``arrival_ns``: CLOCK_MONOTONIC when it was read, never before it was there. ``not_before_ns``: the last moment before
    that at which nothing was there to be read; the message came between the two, and they are far apart where the reader
    stood still or was behind. ``is_retained``: the flag as the broker sent it.
    """

    not_before_ns: int
    arrival_ns: int
    topic: str
    payload: bytes
    qos: int
    is_retained: bool


class MqttReader:
    """A subscriber. Wait on ``readable``, then call ``read``; call it twice a second at least, for the keep-alive.

    Attributes:
        is_subscribed: the broker has acknowledged the subscriptions of the present connection.
        connects: how often a connection was made.
        empty_ns: the last moment at which nothing was there to be read, and the connection had not ended.
    """

    def __init__(
        self, broker: BrokerAddress, client_id: str, filters: Sequence[str], qos: int, *, keeps_session: bool = False
    ) -> None:
        """``keeps_session``: no clean start; the broker keeps what comes while it is away, for an hour in MQTT 5."""
        self.is_subscribed = False
        self.connects = 0
        self._broker = broker
        self._filters = filters
        self._qos = qos
        self._keeps_session = keeps_session
        self._arrived: list[Message] = []
        self._retry_at_ns = 0
        self.empty_ns = time.monotonic_ns()
        self._is_version_5 = broker.protocol == "5"
        self._client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            clean_session=None if self._is_version_5 else not keeps_session,
            protocol=mqtt.MQTTv5 if self._is_version_5 else mqtt.MQTTv311,
        )
        self._client.on_connect = self._on_connect
        self._client.on_subscribe = self._on_subscribe
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_socket_open = _set_no_delay

    @property
    def readable(self) -> list[socket.socket]:
        """The socket to wait on; empty while there is no connection."""
        connection = self._client.socket()
        return [] if connection is None else [connection]  # type: ignore[list-item] # no TLS, no websocket here

    @property
    def writable(self) -> list[socket.socket]:
        """The socket to wait on for writing, while something waits to be sent."""
        return self.readable if self._client.want_write() else []

    def read(self, now_ns: int) -> list[Message]:
        """The messages that have arrived; connects where there is no connection. Does not wait."""
        if self._client.socket() is None:
            self._connect(now_ns)
        while self.readable:
            asked_ns = time.monotonic_ns()
            if not select.select(self.readable, [], [], 0)[0]:
                self.empty_ns = asked_ns
                break
            if self._client.loop_read() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                break
        if self._client.want_write():
            self._client.loop_write()
        self._client.loop_misc()
        arrived, self._arrived = self._arrived, []
        return arrived

    def close(self) -> None:
        """Disconnects."""
        self._client.disconnect()
        if self._client.want_write():
            self._client.loop_write()
        for connection in self.readable:
            connection.close()

    def _connect(self, now_ns: int) -> None:
        if now_ns < self._retry_at_ns:
            return
        self._retry_at_ns = now_ns + _RETRY_NS
        # Clean start in both versions, unless asked otherwise: what was said while we were away is not for acting on.
        clean_start = not self._keeps_session if self._is_version_5 else mqtt.MQTT_CLEAN_START_FIRST_ONLY
        properties = None
        if self._is_version_5 and self._keeps_session:
            properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
            properties.SessionExpiryInterval = _SESSION_S
        address = self._broker
        try:
            self._client.connect(
                address.host, address.port, _KEEP_ALIVE_S, clean_start=clean_start, properties=properties
            )
        except OSError:
            return  # no broker there just now: again in a moment

    def _on_connect(
        self, client: mqtt.Client, userdata: Any, flags: mqtt.ConnectFlags, reason: ReasonCode, properties: Any
    ) -> None:
        if reason.is_failure:
            return
        self.connects += 1
        if self._is_version_5:
            options = SubscribeOptions(qos=self._qos, retainAsPublished=True)
            client.subscribe([(each, options) for each in self._filters])
        else:
            client.subscribe([(each, self._qos) for each in self._filters])

    def _on_subscribe(self, client: mqtt.Client, userdata: Any, mid: int, reasons: Any, properties: Any) -> None:
        self.is_subscribed = True

    def _on_disconnect(
        self, client: mqtt.Client, userdata: Any, flags: Any, reason: ReasonCode, properties: Any
    ) -> None:
        self.is_subscribed = False

    def _on_message(self, client: mqtt.Client, userdata: Any, message: mqtt.MQTTMessage) -> None:
        arrival_ns = time.monotonic_ns()
        payload = bytes(message.payload)
        is_retained = bool(message.retain)
        self._arrived.append(Message(self.empty_ns, arrival_ns, message.topic, payload, message.qos, is_retained))


def _set_no_delay(client: mqtt.Client, userdata: Any, connection: Any) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
