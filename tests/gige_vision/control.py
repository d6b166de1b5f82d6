"""The control channel of the camera of the tests: GVCP commands answered over UDP."""

from __future__ import annotations

import ipaddress
import select
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import IntEnum

from tests.gige_vision.registers import Refused, Registers, Status

GVCP_PORT = 3956
DISCOVERY_BYTES = 0xF8
MEMORY_BYTES_MAX = 536

PRIVILEGE_ADDRESS = 0xA00
EXCLUSIVE, CONTROL = 0x1, 0x2

Address = tuple[str, int]

_KEY, _ACK_WANTED = 0x42, 0x01


class Command(IntEnum):
    """Commands by their number; the acknowledgement's is one more."""

    DISCOVERY = 0x0002
    PACKET_RESEND = 0x0040
    READREG = 0x0080
    WRITEREG = 0x0082
    READMEM = 0x0084
    WRITEMEM = 0x0086


class Control:
    """Answers commands at one address, and knows who controls the camera.

    Args:
        address: IPv4 address of the camera; broadcast discovery is answered from it, too.
        resend: Called with block, first and last packet, and the asking host.
        on_lost: Called when the controlling client gave control up or fell silent.

    Attributes:
        is_silent: Commands are read and thrown away.
        lock: Held while a command is carried out.
        resend_enabled: Whether resend requests are honoured; a client that reads it from the capabilities is told the same.
    """

    def __init__(self, address: str, resend: Callable[[int, int, int, str], None], on_lost: Callable[[], None]) -> None:
        self._sockets = [_bound(address, is_shared=False)]
        interface = ipaddress.ip_interface(f"{address}/24")
        for broadcast in ("255.255.255.255", str(interface.network.broadcast_address)):
            with suppress(OSError):
                self._sockets.append(_bound(broadcast, is_shared=True))
        self.lock = threading.RLock()
        self.is_silent = False
        self.resend_enabled = True
        self.registers: Registers | None = None
        self._resend = resend
        self._on_lost = on_lost
        self._controller: Address | None = None
        self._privilege = 0
        self._held_elsewhere = 0
        self._heard = 0.0
        self._last: tuple[Address, bytes, bytes] | None = None
        self._wake_read, self._wake_write = socket.socketpair()
        self._thread = threading.Thread(target=self._run, name="gvcp")

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._wake_write.send(b"x")
        self._thread.join()
        for one in (*self._sockets, self._wake_read, self._wake_write):
            one.close()

    @property
    def privilege(self) -> int:
        """The control channel privilege register."""
        return self._held_elsewhere or self._privilege

    @property
    def controller(self) -> Address | None:
        return self._controller

    def hold_elsewhere(self, privilege: int) -> None:
        """Another program, which nothing is seen of, holds the camera: CONTROL or EXCLUSIVE; 0: no longer."""
        with self.lock:
            self._held_elsewhere = privilege
            self._forget_controller()

    def forget(self) -> None:
        """Nobody controls it, as after power on."""
        with self.lock:
            self._forget_controller()
            self._last = None

    def _forget_controller(self) -> None:
        if self._controller is not None:
            self._controller, self._privilege = None, 0
            self._on_lost()

    def write_privilege(self, value: int, client: Address) -> None:
        """What writing the privilege register does."""
        if self._held_elsewhere or (self._controller not in (None, client)):
            raise Refused(Status.ACCESS_DENIED)
        if value & (CONTROL | EXCLUSIVE):
            self._controller, self._privilege = client, value & (CONTROL | EXCLUSIVE)
        else:
            self._forget_controller()

    def _run(self) -> None:
        watched = [*self._sockets, self._wake_read]
        while True:
            ready, _, _ = select.select(watched, [], [], 0.1)
            if self._wake_read in ready:
                return
            for one in ready:
                request, client = one.recvfrom(2048)
                if not self.is_silent:
                    with self.lock:
                        answer = self._answer(request, client)
                    if answer:
                        with suppress(OSError):
                            self._sockets[0].sendto(answer, client)
            with self.lock:
                self._watch_heartbeat()

    def _watch_heartbeat(self) -> None:
        assert self.registers is not None
        timeout_s = self.registers["GevHeartbeatTimeout"] / 1000
        if self._controller is not None and time.monotonic() > self._heard + timeout_s:
            self._forget_controller()

    def _answer(self, request: bytes, client: Address) -> bytes | None:
        if len(request) < 8:
            return None
        key, flags, command, length, request_id = struct.unpack_from(">BBHHH", request)
        body = request[8 : 8 + length]
        if key != _KEY or len(body) != length:
            return None
        if client == self._controller:
            self._heard = time.monotonic()
        if self._last is not None and self._last[:2] == (client, request):
            return self._last[2]  # its acknowledgement was lost: it is not carried out twice
        status, content = Status.SUCCESS, b""
        try:
            content = self._carry_out(command, body, client)
        except Refused as refused:
            status = refused.status
            content = struct.pack(">HH", 0, refused.index) if command in (Command.WRITEREG, Command.WRITEMEM) else b""
        except struct.error:
            status = Status.INVALID_PARAMETER
        if command == Command.PACKET_RESEND or not flags & _ACK_WANTED:
            return None
        answer = struct.pack(">HHHH", status, command + 1, len(content), request_id) + content
        if command in (Command.WRITEREG, Command.WRITEMEM):
            self._last = (client, request, answer)
        return answer

    def _carry_out(self, command: int, body: bytes, client: Address) -> bytes:
        registers = self.registers
        assert registers is not None
        if command == Command.DISCOVERY:
            return registers.read(0, DISCOVERY_BYTES)
        if command == Command.PACKET_RESEND:
            _, block_id, first, last = struct.unpack_from(">HHII", body)
            if self.resend_enabled:
                self._resend(block_id, first & 0xFFFFFF, last & 0xFFFFFF, client[0])
            return b""
        if self.privilege & EXCLUSIVE and client != self._controller:
            raise Refused(Status.ACCESS_DENIED)
        if command == Command.READREG:
            return b"".join(registers.read(address, 4) for (address,) in struct.iter_unpack(">I", body))
        if command == Command.READMEM:
            address, count = struct.unpack(">II", body)
            if count > MEMORY_BYTES_MAX:
                raise Refused(Status.INVALID_PARAMETER)
            return body[:4] + registers.read(address, count)
        if command == Command.WRITEREG:
            pairs = list(struct.iter_unpack(">I4s", body))
            for index, (address, raw) in enumerate(pairs):
                try:
                    self._write(address, raw, client)
                except Refused as refused:
                    raise Refused(refused.status, index) from None
            return struct.pack(">HH", 0, len(pairs))
        if command == Command.WRITEMEM:
            (address,) = struct.unpack_from(">I", body)
            self._write(address, body[4:], client)
            return struct.pack(">HH", 0, len(body) - 4)
        raise Refused(Status.NOT_IMPLEMENTED)

    def _write(self, address: int, raw: bytes, client: Address) -> None:
        assert self.registers is not None
        if address == PRIVILEGE_ADDRESS:
            self.write_privilege(int.from_bytes(raw, "big"), client)
            self._heard = time.monotonic()
            return
        if client != self._controller:
            raise Refused(Status.ACCESS_DENIED)
        self.registers.write(address, raw)


def _bound(address: str, *, is_shared: bool) -> socket.socket:
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        if is_shared:  # several cameras may listen for the same broadcasts
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        one.bind((address, GVCP_PORT))
    except OSError:
        one.close()
        raise
    return one
