"""The network interfaces of this box, for whoever looks for a camera behind one of them."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

_SIOCGIFFLAGS, _SIOCGIFADDR, _SIOCGIFNETMASK = 0x8913, 0x8915, 0x891B
_IFF_UP, _IFF_LOOPBACK, _IFF_RUNNING = 0x1, 0x8, 0x40
_IFREQ = struct.Struct("16s24x")
_FLAGS = struct.Struct("16xH")
_SOCKADDR = struct.Struct("16x4x4s")
_ROUTES = Path("/proc/net/route")
_LOOPBACK = ipaddress.IPv4Network("127.0.0.0/8")


@dataclass(frozen=True, slots=True)
class Interface:
    """``address``: its first, None where it has none."""

    name: str
    is_up: bool
    has_link: bool
    address: ipaddress.IPv4Interface | None

    def __str__(self) -> str:
        if not self.is_up:
            return f"{self.name} is down"
        if not self.has_link:
            return f"{self.name} has no link"
        return f"{self.name} {'has no IPv4 address' if self.address is None else self.address}"


def interfaces() -> list[Interface]:
    """All but loopback."""
    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = _IFREQ.pack(name.encode())
            try:
                (flags,) = _FLAGS.unpack_from(fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))
            except OSError:  # gone meanwhile
                continue
            if flags & _IFF_LOOPBACK:
                continue
            found.append(
                Interface(name, bool(flags & _IFF_UP), bool(flags & _IFF_RUNNING), _address(any_socket, request))
            )
    return found


def is_elsewhere(address: str) -> bool:
    """Whether it is an IPv4 address in no subnet of this box: only a gateway leads there, if anything does."""
    try:
        wanted = ipaddress.IPv4Address(address)
    except ValueError:  # what USB calls an address
        return False
    if wanted in _LOOPBACK:
        return False
    for line in _ROUTES.read_text().splitlines()[1:]:
        _, destination, gateway, _, _, _, _, mask, *_ = line.split()
        # The default route is no subnet, and these numbers have the machine's own order.
        network, mask_bits = (int.from_bytes(bytes.fromhex(each)[::-1], "big") for each in (destination, mask))
        if not int(gateway, 16) and mask_bits and int(wanted) & mask_bits == network:
            return False
    return True


def _address(any_socket: socket.socket, request: bytes) -> ipaddress.IPv4Interface | None:
    try:
        address, mask = (
            ipaddress.IPv4Address(_SOCKADDR.unpack_from(fcntl.ioctl(any_socket, number, request))[0])
            for number in (_SIOCGIFADDR, _SIOCGIFNETMASK)
        )
    except OSError:
        return None
    return ipaddress.IPv4Interface(f"{address}/{mask}")
