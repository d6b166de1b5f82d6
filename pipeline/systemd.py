"""What systemd is told: that the service is warm, its state, that it stops, and that the deciding loop turns.

The protocol is one datagram of lines to the socket that NOTIFY_SOCKET names (sd_notify(3)), a dozen lines here: no package is
worth its updates for that, and none of those at hand promises not to block. Where the variable is absent nothing is sent.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping

from pipeline.clock import NS_PER_US, now_ns

_STATUS_CHARACTERS_MAX = 200


class Notifier:
    """Sends to the service manager, never blocking; what it does not take is lost."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        name = environment.get("NOTIFY_SOCKET", "")
        # A name that begins with @ is an abstract one. Others (vsock:) are of no use inside one machine.
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self._socket: socket.socket | None = None
        if name.startswith(("/", "@")):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def send(self, *lines: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto("\n".join(lines).encode(), self._address)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class ServiceNotifier(Notifier):
    """The supervisor's: states and what they mean to a service manager."""

    _is_ready = False

    def state(self, state: str, reason: str) -> None:
        """READY=1 the first time that the service is warm, STATUS= each time."""
        lines = [f"STATUS={' '.join(f'{state} {reason}'.split())[:_STATUS_CHARACTERS_MAX]}"]
        if state == "READY" and not self._is_ready:
            self._is_ready = True
            lines.insert(0, "READY=1")
        elif state == "OFFLINE":
            lines.insert(0, "STOPPING=1")
        self.send(*lines)

    def stopping(self) -> None:
        self.send("STOPPING=1")


class Watchdog(Notifier):
    """Signalling's: WATCHDOG=1 at a third of WATCHDOG_USEC, sent by the loop that decides. When that loop stands still, and the
    supervisor does not replace it, systemd starts the service again.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ, service_pid: int | None = None) -> None:
        """``service_pid``: the supervisor's, whom WATCHDOG_PID names; by default this process's parent."""
        super().__init__(environment)
        usec, pid = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
        meant = not pid or pid == str(os.getppid() if service_pid is None else service_pid)
        self._interval_ns = int(usec) * NS_PER_US // 3 if usec.isdigit() and meant else 0
        self._next_ns = 0

    def turned(self) -> None:
        """To be called at every turn of the loop."""
        if self._interval_ns and now_ns() >= self._next_ns:
            self._next_ns = now_ns() + self._interval_ns
            self.send("WATCHDOG=1")
