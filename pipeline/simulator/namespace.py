"""A network namespace with nothing in it but its own loopback: what runs inside can be cut off from everything.

``python -m pipeline.simulator.namespace OPTIONS_JSON`` makes the namespace and holds it. The kernel frees it with the last
process and socket inside; nothing is left to clean up, however the parent ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import select
import shutil
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from pipeline.simulator.process import Control, Options, SimulatorError, SimulatorProcess, options_from_argv

_CLONE_NEWNET = 0x40000000
_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 0x1
_IFREQ = struct.Struct("16sh22x")
"""The kernel's ``struct ifreq``, holding an interface's name and flags."""
_OWN_NETWORK = Path("/proc/self/ns/net")


class NamespaceUnavailable(SimulatorError):
    """No network namespace can be made here; the text says what is needed."""


class NamespaceOptions(Options):
    """Nothing to choose."""


class NetworkNamespace(SimulatorProcess):
    """Handle of the process that holds the namespace; loopback is up after ``start``."""

    module = "pipeline.simulator.namespace"

    def __init__(self) -> None:
        super().__init__(NamespaceOptions())
        self._nsenter = ""

    def start(self) -> NetworkNamespace:
        """Makes the namespace. Raises NamespaceUnavailable where that is not permitted or a tool is missing."""
        nsenter = shutil.which("nsenter")
        if nsenter is None:
            raise NamespaceUnavailable("no network namespace: nsenter is not on PATH; apt-get install util-linux")
        self._nsenter = nsenter
        super().start()
        refusal = self.ready["refusal"]
        if refusal is not None:
            self.stop()
            raise NamespaceUnavailable(f"no network namespace: {refusal}; needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN)")
        return self

    @property
    def path(self) -> Path:
        """The namespace's file, there as long as the process that holds it."""
        return Path(f"/proc/{self.pid}/ns/net")

    @property
    def command_prefix(self) -> list[str]:
        """To put before a command so that it runs inside, under the process id that it is spawned with."""
        return [self._nsenter, f"--net={self.path}", "--"]

    def cut(self) -> None:
        """Takes loopback down inside: what is sent vanishes, nothing is acknowledged, no connection comes about."""
        self.request("cut")

    def mend(self) -> None:
        """Takes loopback up again; connections that were not given up meanwhile go on."""
        self.request("mend")


@contextlib.contextmanager
def inside(network: Path) -> Iterator[None]:
    """Sockets that this thread makes meanwhile belong to that namespace, and stay its own. Raises OSError."""
    own = os.open(_OWN_NETWORK, os.O_RDONLY | os.O_CLOEXEC)
    try:
        other = os.open(network, os.O_RDONLY | os.O_CLOEXEC)
        try:
            _enter(other)
        finally:
            os.close(other)
        try:
            yield
        finally:
            _enter(own)
    finally:
        os.close(own)


def _enter(network_descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12
    if libc.setns(network_descriptor, _CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")


def _leave_for_a_new_network() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"unshare: {os.strerror(number)}")


def _set_loopback(*, up: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        name, flags = _IFREQ.unpack(fcntl.ioctl(any_socket, _SIOCGIFFLAGS, _IFREQ.pack(b"lo", 0)))
        flags = flags | _IFF_UP if up else flags & ~_IFF_UP
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, _IFREQ.pack(name, flags))


def main() -> None:
    """Makes and holds the namespace, as a child process."""
    options_from_argv(NamespaceOptions)
    control = Control()
    try:
        _leave_for_a_new_network()
        _set_loopback(up=True)
    except OSError as error:
        control.say("ready", refusal=error.strerror)
        return
    control.say("ready", refusal=None)
    while not control.is_closed:
        select.select([control], [], [])
        for command in control.commands():
            name = command.get("command")
            if name in ("cut", "mend"):
                _set_loopback(up=name == "mend")
                control.say("reply")
            else:
                control.say("reply", error=f"unknown command {name!r}")


if __name__ == "__main__":
    main()
