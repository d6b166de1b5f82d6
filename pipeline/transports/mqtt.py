"""One MQTT connection, driven by the caller's loop, which it never blocks.

Connecting (name lookup, TCP, TLS, CONNACK) happens in a thread of its own and ends by handing over a finished client.
After that there is no thread: ``publish`` writes to the socket at once or says that it could not.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns
from pipeline.config_sections import MqttConfig

_CONNECT_TIMEOUT_S = 3.0
_RETRY_FIRST_NS = 50 * NS_PER_MS
_RETRY_MAX_NS = 2 * NS_PER_S
_LASTING_NS = NS_PER_S
"""A connection that breaks sooner does not count as one that was up."""
_RETRY_UNLASTING_MAX_NS = 400 * NS_PER_MS
_MISC_INTERVAL_NS = 200 * NS_PER_MS
_CLOGGED_MAX_NS = 300 * NS_PER_MS
# Small, so that what a frozen broker has not taken is soon noticed and little is left in the kernel to arrive late.
_SEND_BUFFER_BYTES = 32_768
_LIVE_EXPIRY_S = 1
_PACKET_BYTES_MAX = 16_384
"""What the broker may send us, where it can be told so (MQTT 5): it throws away what is longer."""
_LINGER_NOT = struct.pack("ii", 1, 0)
_LINGER_BY_DEFAULT = struct.pack("ii", 0, 0)

_PROTOCOLS = {"5": MQTTProtocolVersion.MQTTv5, "3.1.1": MQTTProtocolVersion.MQTTv311}


@dataclass(frozen=True, slots=True)
class Will:
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Subscription:
    """At QoS 1. ``keeps_retain``: a retained message is known as such even when it comes live (MQTT 5 only)."""

    topic: str
    keeps_retain: bool = False


@dataclass(frozen=True, slots=True)
class Received:
    """A message that came. ``response_topic`` and ``correlation`` exist in MQTT 5 only."""

    topic: str
    payload: bytes
    retain: bool
    response_topic: str | None
    correlation: bytes | None


class MqttConnection:
    """A connection that keeps itself up. All methods belong to one thread.

    A broker that takes bytes and answers nothing is given up after two ``keep_alive_s``: one until a ping is sent, one for
    its answer. A cable that acknowledges nothing is given up after two seconds, one that takes nothing more sooner.

    The caller's loop selects on ``read_descriptors`` and ``write_descriptors``, wakes at ``next_turn_ns`` at the latest
    and then calls ``turn``.
    """

    def __init__(
        self,
        config: MqttConfig,
        *,
        client_id: str,
        will: Will | None = None,
        on_message: Callable[[Received], None] | None = None,
        subscriptions: tuple[Subscription, ...] = (),
    ) -> None:
        self._config = config
        self._client_id = client_id
        self._will = will
        self._on_message = on_message
        self._subscriptions = subscriptions
        self._protocols = ["5", "3.1.1"] if config.protocol == "auto" else [config.protocol]
        self._protocol_index = 0
        self._spoken_index: int | None = None
        """Of the version spoken last."""
        self._asks_newer_again = False
        self._client: paho.Client | None = None
        self._live_properties: Properties | None = None
        self._attempt: _Attempt | None = None
        self._retry_ns = _RETRY_FIRST_NS
        self._connected_ns = 0
        self._next_attempt_ns = 0
        self._next_misc_ns = 0
        self._clogged_since_ns: int | None = None
        self._is_last = False
        self.connects = 0
        self.last_error = ""

    @property
    def connected(self) -> bool:
        return self._client is not None

    @property
    def usable(self) -> bool:
        """Connected, and the socket has taken everything so far."""
        return self._client is not None and not self._client.want_write()

    @property
    def protocol(self) -> str:
        """The version spoken, or tried next."""
        return self._protocols[self._protocol_index]

    @property
    def broker(self) -> str:
        return f"{self._config.host}:{self._config.port}"

    def read_descriptors(self) -> list[int]:
        if self._client is not None:
            connection = self._client.socket()
            return [connection.fileno()] if connection is not None else []
        return [self._attempt.done_descriptor] if self._attempt is not None else []

    def write_descriptors(self) -> list[int]:
        if self._client is not None and self._client.want_write():
            return self.read_descriptors()
        return []

    def next_turn_ns(self) -> int:
        if self._client is not None:
            return self._next_misc_ns
        return now_ns() + NS_PER_S if self._is_last or self._attempt is not None else self._next_attempt_ns

    def turn(self) -> bool:
        """Do what is due, without blocking. True when a new connection has just come up."""
        now = now_ns()
        if self._client is None:
            return self._turn_unconnected(now)
        client = self._client
        failed = client.loop_read() not in (MQTTErrorCode.MQTT_ERR_SUCCESS, MQTTErrorCode.MQTT_ERR_AGAIN)
        if not failed and client.want_write():
            failed = client.loop_write() != MQTTErrorCode.MQTT_ERR_SUCCESS
        if failed:
            self._drop("the connection broke")
            return False
        if now >= self._next_misc_ns:
            self._next_misc_ns = now + _MISC_INTERVAL_NS
            if client.loop_misc() != MQTTErrorCode.MQTT_ERR_SUCCESS:
                self._drop(f"no answer to a ping within {self._config.keep_alive_s} s")
                return False
        if self._clogged_too_long(now):
            self._drop(f"took nothing for {_CLOGGED_MAX_NS / NS_PER_S:g} s")
        elif client.socket() is None:
            self._drop("the connection broke")
        return False

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 0,
        retain: bool = False,
        live: bool = False,
        correlation: bytes | None = None,
    ) -> bool:
        """Hand one message to the socket. False: not connected, or the socket took no more, and it will not be sent late.

        ``live``: of no use after a second; brokers that speak 5 drop it then.
        """
        client = self._client
        if client is None or client.want_write():
            return False
        properties = self._live_properties if live else None
        if correlation is not None and self.protocol == "5":
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.CorrelationData = correlation
        info = client.publish(topic, payload, qos, retain, properties)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._drop(paho.error_string(info.rc))
            return False
        return qos > 0 or not client.want_write()

    def publish_acknowledged(self, topic: str, payload: bytes) -> paho.MQTTMessageInfo | None:
        """Hand one message to the socket at QoS 1; its ``is_published`` tells when the broker has acknowledged it.

        It is never sent again: a connection that breaks before that takes the answer with it. None where it could not be
        handed over.
        """
        client = self._client
        if client is None or client.want_write():
            return None
        info = client.publish(topic, payload, 1)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            self._drop(paho.error_string(info.rc))
            return None
        return info

    def connect_no_more(self) -> None:
        """Whatever connection there is now is the last one: once dropped, or not up yet, it is left to a successor."""
        self._is_last = True
        self._abandon_attempt()

    def close(self) -> None:
        """Leave politely: the broker does not publish the will."""
        self._abandon_attempt()
        if self._client is not None:
            _leave(self._client)
            self._client = None

    def _abandon_attempt(self) -> None:
        if self._attempt is not None:
            self._attempt.abandon()
            self._attempt = None

    def _turn_unconnected(self, now: int) -> bool:
        if self._is_last:
            return False
        if self._attempt is None:
            if now >= self._next_attempt_ns:
                properties = _connect_properties() if self.protocol == "5" else None
                self._attempt = _Attempt(self._new_client(), self._config, properties)
            return False
        if not self._attempt.finished():
            return False
        attempt, self._attempt = self._attempt, None
        client = attempt.take()
        if client is None:
            self.last_error = attempt.error
            # Where nobody listens nothing was said against the version.
            if attempt.reached:
                self._protocol_index = (self._protocol_index + 1) % len(self._protocols)
            # Only once every version was refused is it worth waiting longer.
            if self._protocol_index == 0 or not attempt.reached:
                self._next_attempt_ns = now + self._retry_ns
                self._retry_ns = min(2 * self._retry_ns, _RETRY_MAX_NS)
            return False
        if self._spoken_index is not None and self._protocol_index > self._spoken_index and not self._asks_newer_again:
            # It spoke a newer version before: that one was perhaps asked for while nobody could answer. Once more.
            _leave(client)
            self._protocol_index = self._spoken_index
            self._asks_newer_again = True
            self._next_attempt_ns = now
            return False
        self._spoken_index = self._protocol_index
        self._asks_newer_again = False
        self._client = client
        self._live_properties = None
        if self.protocol == "5":
            self._live_properties = _live_properties()
        self._connected_ns = now
        self._next_misc_ns = now + _MISC_INTERVAL_NS
        self._clogged_since_ns = None
        self.connects += 1
        for subscription in self._subscriptions:
            if self.protocol == "5":
                options = SubscribeOptions(qos=1, retainAsPublished=subscription.keeps_retain)
                client.subscribe(subscription.topic, options=options)
            else:
                client.subscribe(subscription.topic, qos=1)
        return True

    def _clogged_too_long(self, now: int) -> bool:
        assert self._client is not None
        if not self._client.want_write():
            self._clogged_since_ns = None
        elif self._clogged_since_ns is None:
            self._clogged_since_ns = now
        elif now - self._clogged_since_ns > _CLOGGED_MAX_NS:
            return True
        return False

    def _drop(self, why: str) -> None:
        if self._client is not None:
            _discard(self._client)
        self._client = None
        now = now_ns()
        if now - self._connected_ns > _LASTING_NS:
            self._retry_ns = _RETRY_FIRST_NS
        else:
            # Mosquitto 2.0.11 does not say so, not even to a client of MQTT 5.
            why += f"; it did not last: does another station use the client id {self._client_id}?"
            self._retry_ns = max(self._retry_ns, min(2 * self._retry_ns, _RETRY_UNLASTING_MAX_NS))
        self.last_error = why
        self._next_attempt_ns = now + self._retry_ns

    def _new_client(self) -> paho.Client:
        config = self._config
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            clean_session=None if self.protocol == "5" else True,
            protocol=_PROTOCOLS[self.protocol],
            reconnect_on_failure=False,
        )
        client.connect_timeout = _CONNECT_TIMEOUT_S
        client.on_socket_open = _tune_socket
        if config.username is not None:
            password = os.environ[config.password_env] if config.password_env is not None else None
            client.username_pw_set(config.username, password)
        if self._will is not None:
            client.will_set(self._will.topic, self._will.payload, qos=1, retain=True)
        if self._on_message is not None:
            deliver = self._on_message
            client.on_message = lambda _client, _userdata, message: deliver(_received(message))
        return client


def _received(message: paho.MQTTMessage) -> Received:
    properties = message.properties
    return Received(
        message.topic,
        bytes(message.payload),
        message.retain,
        getattr(properties, "ResponseTopic", None),
        getattr(properties, "CorrelationData", None),
    )


def _live_properties() -> Properties:
    properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    properties.MessageExpiryInterval = _LIVE_EXPIRY_S
    packed = properties.pack()  # type: ignore[no-untyped-call]
    # paho packs them anew for each message: a third of the 73 us that publishing takes.
    object.__setattr__(properties, "pack", lambda: packed)
    return properties


def _connect_properties() -> Properties:
    properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    properties.MaximumPacketSize = _PACKET_BYTES_MAX
    return properties


def _tune_socket(_client: paho.Client, _userdata: object, connection: Any) -> None:
    # paho leaves Nagle on, which with a broker's delayed ACK stalls a burst for 40 ms now and then.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 2_000)
    # A connection given up takes what it has not delivered with it: the kernel would go on trying, and deliver it late.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)


def _leave(client: paho.Client) -> None:
    """Disconnect politely: the broker does not publish the will."""
    connection: Any = client.socket()
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_BY_DEFAULT)
    client.disconnect()
    client.loop_misc()
    _discard(client)


def _discard(client: paho.Client) -> None:
    connection = client.socket()
    if connection is not None:
        connection.close()


class _Attempt:
    """Connects in a thread; the descriptor becomes readable when it is over."""

    def __init__(self, client: paho.Client, config: MqttConfig, properties: Properties | None) -> None:
        self._client = client
        self._config = config
        self._properties = properties
        self._lock = threading.Lock()
        self._abandoned = False
        self._over = False
        self.error = ""
        self.reached = False
        """Somebody listens there, whatever it says."""
        self._accepted = False
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        client.on_connect = self._on_connect
        threading.Thread(target=self._run, name="mqtt-connect", daemon=True).start()

    @property
    def done_descriptor(self) -> int:
        return self._receiver.fileno()

    def finished(self) -> bool:
        with self._lock:
            return self._over

    def take(self) -> paho.Client | None:
        """The connected client, or None and ``error``."""
        self._receiver.close()
        if self._accepted:
            return self._client
        _discard(self._client)
        return None

    def abandon(self) -> None:
        with self._lock:
            self._abandoned = True
            over = self._over
        self._receiver.close()
        if over:
            _discard(self._client)

    def _on_connect(self, _c: object, _u: object, _f: object, reason: Any, _p: object) -> None:
        self._accepted = not reason.is_failure
        self.error = "" if self._accepted else f"refused by the broker: {reason}"

    def _load_authority(self, file: Path) -> None:
        try:
            self._client.tls_set(ca_certs=str(file))
        except OSError as error:  # ssl.SSLError is one too
            raise OSError(f"mqtt.tls_ca_file {file}: {error.strerror or error}") from error

    def _run(self) -> None:
        try:
            config = self._config
            if config.tls_ca_file is not None:
                # Read here, where a slow disk holds up nobody, and each time, as it may have been renewed.
                self._load_authority(config.tls_ca_file)
            self._client.connect(config.host, config.port, config.keep_alive_s, properties=self._properties)
            self.reached = True
            give_up_ns = now_ns() + int(_CONNECT_TIMEOUT_S * NS_PER_S)
            while not self._accepted and not self.error:
                result = self._client.loop(timeout=0.05)
                if result != MQTTErrorCode.MQTT_ERR_SUCCESS and not self._accepted:
                    self.error = f"closed by the broker: {paho.error_string(result)}"
                elif now_ns() >= give_up_ns and not self._accepted:
                    self.error = f"no answer to CONNECT within {_CONNECT_TIMEOUT_S:g} s"
        except (OSError, ValueError) as error:
            self.error = getattr(error, "strerror", None) or str(error)
        self._client.on_connect = (
            None  # no cycle: the client and its descriptors go with its last user, not at a collection
        )
        with self._lock:
            self._over = True
            abandoned = self._abandoned
        if abandoned:
            _discard(self._client)
        with contextlib.suppress(OSError):
            self._sender.send(b"x")
        self._sender.close()
