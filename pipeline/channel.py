"""Messages between processes over AF_UNIX seqpacket: whole messages, descriptors travel, a dead peer is EOF.

A link never blocks. A full peer is in ``send``'s return value, a dead one is ``PeerGone``.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

import msgspec

from pipeline.messages import AnyMessage, Message

MESSAGE_BYTES_MAX = 65_536
_DESCRIPTORS_MAX = 4
_BUFFER_BYTES = 1 << 20


class PeerGone(ConnectionError):
    """The process at the other end has closed the link or died."""


class TooLong(ValueError):
    """A message that no link carries."""


class Link:
    """One end of a connection between two workers, non-blocking."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        # The kernel caps this at net.core.wmem_max; the default of about 208 KiB holds some 250 tickets.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
        self._socket = connection
        self._encoder = msgspec.msgpack.Encoder()
        # Received into, since this is cheaper than a new object of that size for each message.
        self._buffer = memoryview(bytearray(MESSAGE_BYTES_MAX))
        self._decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(AnyMessage)

    @classmethod
    def from_descriptor(cls, descriptor: int) -> Link:
        """Takes ownership of a connected seqpacket socket's descriptor."""
        return cls(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, fileno=descriptor))

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: Message, descriptors: tuple[int, ...] = ()) -> bool:
        """Hand one message over. False: the peer's buffer is full and nothing was sent.

        Raises PeerGone where the peer is dead, TooLong where the message exceeds MESSAGE_BYTES_MAX.
        """
        packet = self._encoder.encode(message)
        if len(packet) > MESSAGE_BYTES_MAX:
            raise TooLong(
                f"{type(message).__name__} takes {len(packet)} bytes, the channel carries at most {MESSAGE_BYTES_MAX}"
            )
        try:
            if descriptors:
                socket.send_fds(self._socket, [packet], list(descriptors))
            else:
                self._socket.send(packet)
        except BlockingIOError:
            return False
        except OSError as error:
            raise PeerGone(str(error)) from error
        return True

    def receive(self) -> tuple[AnyMessage, list[int]] | None:
        """The next message and its descriptors (now owned by the caller); None when there is none yet.

        Raises PeerGone at EOF.
        """
        try:
            packet, descriptors, flags, _ = socket.recv_fds(self._socket, MESSAGE_BYTES_MAX, _DESCRIPTORS_MAX)
        except BlockingIOError:
            return None
        except OSError as error:
            raise PeerGone(str(error)) from error
        if not packet:
            raise PeerGone("end of file")
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            for descriptor in descriptors:
                os.close(descriptor)
            raise PeerGone("a truncated message")
        return self._decoder.decode(packet), descriptors

    def drain(self) -> Iterator[AnyMessage]:
        """All messages that are there now, for links that carry no descriptors. Raises PeerGone after the last."""
        while True:
            try:
                length = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                return
            except OSError as error:
                raise PeerGone(str(error)) from error
            if length == 0:
                raise PeerGone("end of file")
            yield self._decoder.decode(self._buffer[:length])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


def link_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, to be handed to two processes."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
