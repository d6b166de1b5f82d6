"""Room for a burst of packets in the kernel, for a socket that a library opened."""

from __future__ import annotations

import os
import socket
from pathlib import Path

_SO_RCVBUFFORCE = 33
"""Linux; Python has no name for it."""


def enlarge_receive_buffer(port: int, size_bytes: int) -> int:
    """Gives this process's UDP socket on ``port`` room for so many bytes, as far as the kernel permits.

    Beyond ``net.core.rmem_max`` it takes CAP_NET_ADMIN. Returns the bytes it now has for packets; 0 where there is no
    such socket.
    """
    for each in Path("/proc/self/fd").iterdir():
        try:
            if not str(each.readlink()).startswith("socket:"):
                continue
            found = socket.socket(fileno=os.dup(int(each.name)))
        except OSError:
            continue
        with found:
            if found.family == socket.AF_INET and found.type == socket.SOCK_DGRAM and found.getsockname()[1] == port:
                try:
                    found.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size_bytes)
                except PermissionError:
                    found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size_bytes)
                # The kernel doubles it for its own books.
                return found.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
    return 0
