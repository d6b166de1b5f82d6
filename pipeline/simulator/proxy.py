"""A faulty cable: forwards TCP connections to a server on loopback, and can be slow, half-open, broken or unplugged.

``python -m pipeline.simulator.proxy OPTIONS_JSON``. A stalled cable's near end still takes what is sent, as long as its
buffers last: so does a frozen server. The cable that acknowledges nothing is ``NetworkNamespace.cut``.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from collections import deque
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipeline.simulator.namespace import inside
from pipeline.simulator.process import Control, Options, SimulatorProcess, options_from_argv

ProxyMode = Literal["pass_through", "slow", "stall", "refuse"]

_NS_PER_S = 1_000_000_000
_NS_PER_MS = 1_000_000
_READ_BYTES = 65_536
_HELD_BYTES = 262_144
"""What one direction of a connection holds before it reads no more."""
_SLOW_CHUNK_S = 0.01
"""On a slow cable bytes travel in pieces of this length, so that the rate is even."""
_BACKLOG_COUNT = 128
_LINGER_NOT = struct.pack("ii", 1, 0)


class ProxyOptions(Options):
    """Where the cable ends and, with ``netns_path``, in which network namespace it begins (null: this one)."""

    target_host: str = "127.0.0.1"
    target_port: int = Field(ge=1, le=65535)
    netns_path: Path | None = None


class ProxyProcess(SimulatorProcess):
    """Handle of the cable. It begins at ``port`` on 127.0.0.1; connections pass through until told otherwise."""

    module = "pipeline.simulator.proxy"

    def __init__(self, options: ProxyOptions) -> None:
        super().__init__(options)

    @property
    def port(self) -> int:
        """Where it listens; the same after ``refuse``."""
        return int(self.ready["port"])

    def pass_through(self) -> None:
        """Back to normal: what was held flows on, a closed port is open again."""
        self.request("pass_through")

    def slow(self, delay_ms: float, bytes_per_s: float | None) -> None:
        """Each direction of each connection takes so long and carries so much (None: no limit), in order."""
        self.request("slow", delay_ms=delay_ms, bytes_per_s=bytes_per_s)

    def stall(self) -> None:
        """Half-open: nothing is read or forwarded, connections stay; new ones are taken by the kernel and hear nothing."""
        self.request("stall")

    def reset(self) -> None:
        """Breaks the present connections with RST on both sides; passes new ones through."""
        self.request("reset")

    def refuse(self) -> None:
        """Breaks the present connections with RST on both sides and refuses new ones."""
        self.request("refuse")

    def report(self) -> dict[str, Any]:
        """``mode``, ``connections`` now and ``accepted`` so far, ``bytes_to_target`` and ``bytes_from_target`` forwarded."""
        return super().report()


class _Direction:
    """What travels from one socket to another, with the time before which it may not arrive."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source = source
        self.sink = sink
        self.forwarded_bytes = 0
        self.source_ended = False
        self.is_over = False
        """The end of the stream was passed on too."""
        self._held: deque[tuple[int, memoryview]] = deque()
        self._held_bytes = 0
        self._last_due_ns = 0

    @property
    def wants_to_read(self) -> bool:
        return not self.source_ended and self._held_bytes < _HELD_BYTES

    def next_due_ns(self) -> int | None:
        """When there is something to write, None where there is nothing."""
        return self._held[0][0] if self._held else None

    def read(self, delay_ns: int, bytes_per_s: float | None) -> None:
        """Takes what the source has. Raises OSError."""
        size = _READ_BYTES if bytes_per_s is None else min(_READ_BYTES, max(1, int(bytes_per_s * _SLOW_CHUNK_S)))
        try:
            chunk = self.source.recv(size)
        except BlockingIOError:
            return
        if not chunk:
            self.source_ended = True
            self._end_if_done()
            return
        travel_ns = 0 if bytes_per_s is None else int(len(chunk) * _NS_PER_S / bytes_per_s)
        self._last_due_ns = max(time.monotonic_ns() + delay_ns, self._last_due_ns) + travel_ns
        self._held.append((self._last_due_ns, memoryview(chunk)))
        self._held_bytes += len(chunk)

    def write(self, now_ns: int) -> None:
        """Hands over what is due, as far as the sink takes it. Raises OSError."""
        while self._held and self._held[0][0] <= now_ns:
            due_ns, chunk = self._held.popleft()
            try:
                sent_bytes = self.sink.send(chunk)
            except BlockingIOError:
                sent_bytes = 0
            self._held_bytes -= sent_bytes
            self.forwarded_bytes += sent_bytes
            if sent_bytes < len(chunk):
                self._held.appendleft((due_ns, chunk[sent_bytes:]))
                return
        self._end_if_done()

    def hurry(self) -> None:
        """What is held has waited long enough."""
        self._last_due_ns = 0
        self._held = deque((0, chunk) for _, chunk in self._held)

    def _end_if_done(self) -> None:
        if self.source_ended and not self._held and not self.is_over:
            self.is_over = True
            self.sink.shutdown(socket.SHUT_WR)


class _Connection:
    """One client and its way to the target."""

    def __init__(self, client: socket.socket, target: socket.socket) -> None:
        self.client = client
        self.target = target
        self.to_target = _Direction(client, target)
        self.from_target = _Direction(target, client)
        self.is_connecting = True

    @property
    def directions(self) -> tuple[_Direction, _Direction]:
        return self.to_target, self.from_target

    @property
    def is_over(self) -> bool:
        return all(direction.is_over for direction in self.directions)

    def close(self) -> None:
        self.client.close()
        self.target.close()

    def reset(self) -> None:
        for side in (self.client, self.target):
            side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            side.close()


class _Proxy:
    """The loop and its connections."""

    def __init__(self, options: ProxyOptions) -> None:
        self._options = options
        # Never listens: it keeps the port ours while the port is closed.
        self._place = self._bind(0)
        self._port: int = self._place.getsockname()[1]
        self._listener: socket.socket | None = None
        self._listen()
        self._connections: list[_Connection] = []
        self._mode: ProxyMode = "pass_through"
        self._delay_ns = 0
        self._bytes_per_s: float | None = None
        self._accepted_count = 0
        self._bytes_to_target = 0
        self._bytes_from_target = 0

    def run(self, control: Control) -> None:
        control.say("ready", port=self._port)
        while not control.is_closed:
            readable, writable = self._wait(control)
            if control in readable:
                for command in control.commands():
                    control.say("reply", **self._obey(command))
                continue  # what was found ready before may be closed by now
            if self._listener in readable:
                self._accept()
            for connection in list(self._connections):
                self._forward(connection, readable, writable)

    def _wait(self, control: Control) -> tuple[set[Any], set[Any]]:
        reading: list[Any] = [control]
        writing: list[socket.socket] = []
        wait_s: float | None = None
        if self._mode != "stall":
            if self._listener is not None:
                reading.append(self._listener)
            now_ns = time.monotonic_ns()
            for connection in self._connections:
                if connection.is_connecting:
                    writing.append(connection.target)
                    continue
                for direction in connection.directions:
                    if direction.wants_to_read:
                        reading.append(direction.source)
                    due_ns = direction.next_due_ns()
                    if due_ns is None:
                        continue
                    if due_ns <= now_ns:
                        writing.append(direction.sink)
                    else:
                        left_s = (due_ns - now_ns) / _NS_PER_S
                        wait_s = left_s if wait_s is None else min(wait_s, left_s)
        readable, writable, _ = select.select(reading, writing, [], wait_s)
        return set(readable), set(writable)

    def _forward(self, connection: _Connection, readable: set[Any], writable: set[Any]) -> None:
        try:
            if connection.is_connecting:
                if connection.target in writable:
                    _raise_error_of(connection.target)
                    connection.is_connecting = False
                return
            for direction in connection.directions:
                if direction.source in readable and direction.wants_to_read:
                    direction.read(self._delay_ns, self._bytes_per_s)
                direction.write(time.monotonic_ns())
        except OSError:
            self._forget(connection)
            connection.reset()  # what one side broke is broken for the other
            return
        if connection.is_over:
            self._forget(connection)
            connection.close()

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            client, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # it has gone again
        target = socket.socket()
        for side in (client, target):
            side.setblocking(False)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._accepted_count += 1
        connection = _Connection(client, target)
        try:
            target.connect((self._options.target_host, self._options.target_port))
        except BlockingIOError:
            pass  # on its way
        except OSError:
            connection.reset()
            return
        self._connections.append(connection)

    def _forget(self, connection: _Connection) -> None:
        self._connections.remove(connection)
        self._bytes_to_target += connection.to_target.forwarded_bytes
        self._bytes_from_target += connection.from_target.forwarded_bytes

    # --- commands ----------------------------------------------------------------------------------------------

    def _obey(self, command: dict[str, Any]) -> dict[str, Any]:
        name = command.get("command")
        try:
            if name in ("pass_through", "reset"):
                self._set_speed(0.0, None)
                if name == "reset":
                    self._break_all()
                self._listen()
                self._mode = "pass_through"
            elif name == "slow":
                if command["bytes_per_s"] is not None and command["bytes_per_s"] <= 0:
                    return {
                        "error": f"bytes_per_s: got {command['bytes_per_s']}, expected more than 0, or null; see stall"
                    }
                self._set_speed(command["delay_ms"], command["bytes_per_s"])
                self._listen()
                self._mode = "slow"
            elif name == "stall":
                self._listen()
                self._mode = "stall"
            elif name == "refuse":
                self._break_all()
                self._close_listener()
                self._mode = "refuse"
            elif name != "report":
                return {"error": f"unknown command {name!r}"}
        except OSError as error:
            return {"error": f"port {self._port}: {error.strerror}"}
        return self._report()

    def _report(self) -> dict[str, Any]:
        to_target = sum(connection.to_target.forwarded_bytes for connection in self._connections)
        from_target = sum(connection.from_target.forwarded_bytes for connection in self._connections)
        return {
            "mode": self._mode,
            "connections": len(self._connections),
            "accepted": self._accepted_count,
            "bytes_to_target": self._bytes_to_target + to_target,
            "bytes_from_target": self._bytes_from_target + from_target,
        }

    def _set_speed(self, delay_ms: float, bytes_per_s: float | None) -> None:
        self._delay_ns = int(delay_ms * _NS_PER_MS)
        self._bytes_per_s = bytes_per_s
        for connection in self._connections:
            for direction in connection.directions:
                direction.hurry()

    def _break_all(self) -> None:
        """Those that wait to be accepted too."""
        while self._listener is not None and select.select([self._listener], [], [], 0)[0]:
            self._accept()
        for connection in list(self._connections):
            self._forget(connection)
            connection.reset()

    def _listen(self) -> None:
        if self._listener is None:
            listener = self._bind(self._port)
            listener.listen(_BACKLOG_COUNT)
            self._listener = listener

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    def _bind(self, port: int) -> socket.socket:
        path = self._options.netns_path
        with contextlib.nullcontext() if path is None else inside(path):
            bound = socket.socket()
        bound.setblocking(False)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
        return bound


def _raise_error_of(connection: socket.socket) -> None:
    number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if number:
        raise OSError(number, "connect")


def main() -> None:
    """Runs the cable, as a child process."""
    options = options_from_argv(ProxyOptions)
    _Proxy(options).run(Control())


if __name__ == "__main__":
    main()
