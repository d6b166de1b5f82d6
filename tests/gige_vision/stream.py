"""The stream of the camera of the tests: a frame cut into GVSP packets, sent over a link that loses and disorders them as told."""

from __future__ import annotations

import random
import socket
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from tests.gige_vision.genicam import IMAGE_CHUNK_ID
from tests.gige_vision.registers import Status

Address = tuple[str, int]

IP_UDP_BYTES = 28
GVSP_HEADER_BYTES = 8
LEADER, TRAILER, PAYLOAD = 1, 2, 3
IMAGE, WITH_CHUNKS = 0x0001, 0x4000

# Linux' numbers, which the socket module lacks.
_IP_MTU_DISCOVER, _PMTUDISC_DONT, _PMTUDISC_DO = 10, 0, 2

_PACING_STEP_S = 0.0005


@dataclass(frozen=True)
class Frame:
    """One exposed picture on its way out. Timestamp in ticks of the camera's clock; `chunks` holds (identifier, data)."""

    block_id: int
    timestamp_ticks: int
    pixel_format: int
    width_px: int
    height_px: int
    image: bytes | memoryview
    chunks: Sequence[tuple[int, bytes]] | None = None


@dataclass(frozen=True)
class Packet:
    """One GVSP packet: 8 bytes of header, and its content as it lies in the frame."""

    block_id: int
    packet_id: int
    content: int
    data: bytes | memoryview

    @property
    def header(self) -> bytes:
        return struct.pack(">HHI", Status.SUCCESS, self.block_id, self.content << 24 | self.packet_id)

    @property
    def size_bytes(self) -> int:
        """Bytes on the wire above Ethernet."""
        return IP_UDP_BYTES + GVSP_HEADER_BYTES + len(self.data)


def packets_of(frame: Frame, packet_bytes: int) -> list[Packet]:
    """Leader, payload, trailer; no packet is longer than `packet_bytes` with its IP and UDP headers."""
    kind = IMAGE if frame.chunks is None else IMAGE | WITH_CHUNKS
    payload = memoryview(frame.image if frame.chunks is None else _chunk_layout(frame.image, frame.chunks))
    leader = struct.pack(
        ">HHQIIIIIHH", 0, kind, frame.timestamp_ticks, frame.pixel_format, frame.width_px, frame.height_px, 0, 0, 0, 0
    )
    trailer = struct.pack(">HHI", 0, kind, frame.height_px)
    if frame.chunks is not None:
        trailer += struct.pack(">II", len(payload), 0)
    step = packet_bytes - IP_UDP_BYTES - GVSP_HEADER_BYTES
    pieces = [payload[start : start + step] for start in range(0, len(payload), step)]
    return [
        Packet(frame.block_id, 0, LEADER, leader),
        *(Packet(frame.block_id, number, PAYLOAD, piece) for number, piece in enumerate(pieces, start=1)),
        Packet(frame.block_id, len(pieces) + 1, TRAILER, trailer),
    ]


def shortened(packets: list[Packet], share: float) -> list[Packet]:
    """Without the last of the payload, and no id missing: what a camera sends that ran out of memory."""
    leader, *payload, trailer = packets
    kept = payload[: int(len(payload) * share)]
    return [leader, *kept, replace(trailer, packet_id=len(kept) + 1)]


def chunked_bytes(image_bytes: int, chunk_lengths: Sequence[int]) -> int:
    """Size of a payload that carries chunks of these lengths behind its image."""
    return image_bytes + -image_bytes % 4 + 8 + sum(length + 8 for length in chunk_lengths)


def _chunk_layout(image: bytes | memoryview, chunks: Sequence[tuple[int, bytes]]) -> bytes:
    """Each chunk's data, then its identifier and length: a reader begins at the end."""
    parts = [image, bytes(-len(image) % 4)]
    parts.append(struct.pack(">II", IMAGE_CHUNK_ID, len(image) + -len(image) % 4))
    for identifier, data in chunks:
        parts += [data, struct.pack(">II", identifier, len(data))]
    return b"".join(parts)


@dataclass
class Fault:
    """What the link does to some packets of some frames.

    Attributes:
        action: lose | double | delay (sent after `by` later packets of its frame).
        part: Which packets: leader | payload | trailer | frame (all of it).
        packets: Their numbers (the leader is 0, payload begins at 1); none: every one of `part`.
        after: How many frames are left alone first.
        frames: How many frames are struck then; none: all of them.
        share: Part of the packets that it strikes, by chance.
        resent: It strikes packets that are sent again, too: they are lost for good.
    """

    action: Literal["lose", "double", "delay"]
    part: Literal["leader", "payload", "trailer", "frame"] = "payload"
    packets: frozenset[int] | None = None
    after: int = 0
    frames: int | None = None
    share: float = 1.0
    resent: bool = False
    by: int = 1
    struck: dict[int, set[int]] = field(default_factory=dict, init=False)

    def begin(self, block_id: int) -> bool:
        """Whether it strikes this next frame."""
        self.struck.pop(block_id, None)
        if self.after:
            self.after -= 1
            return False
        if self.frames is not None:
            self.frames -= 1
            if self.frames < 0:
                return False
        self.struck[block_id] = set()
        return True

    def strikes(self, packet: Packet, dice: random.Random) -> bool:
        """Whether it strikes this packet of a frame that it strikes; remembered."""
        is_struck = self._is_meant(packet, dice)
        if is_struck:
            self.struck[packet.block_id].add(packet.packet_id)
        return is_struck

    def strikes_again(self, packet: Packet) -> bool:
        """Whether a packet that is sent again is lost again."""
        return self.resent and packet.packet_id in self.struck.get(packet.block_id, ())

    def _is_meant(self, packet: Packet, dice: random.Random) -> bool:
        contents = {"leader": {LEADER}, "payload": {PAYLOAD}, "trailer": {TRAILER}}
        if self.part != "frame" and packet.content not in contents[self.part]:
            return False
        if self.packets is not None and packet.packet_id not in self.packets:
            return False
        return self.share >= 1.0 or dice.random() < self.share


class Link:
    """The way out of the camera: paces, loses, doubles and disorders packets, and keeps the last frames for resending.

    Attributes:
        speed_bits_per_s: None: as fast as the socket takes them.
        mtu_bytes: Longer packets (with IP and UDP headers) do not arrive; None: what the network interface says.
        is_silent: Nothing is sent.
        sent, lost, unsendable, resent, resend_refused: Counted packets.
    """

    def __init__(self, address: str, seed: int, kept_frames: int) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
        self._dice = random.Random(seed)
        self._kept: OrderedDict[int, list[Packet]] = OrderedDict()
        self._kept_frames = kept_frames
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self.speed_bits_per_s: float | None = 1e9
        self.mtu_bytes: int | None = None
        self.is_silent = False
        self.sent = self.lost = self.unsendable = self.resent = self.resend_refused = 0

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def close(self) -> None:
        self._socket.close()

    def forget(self) -> None:
        """No frame of before can be resent."""
        with self._lock:
            self._kept.clear()

    def add(self, fault: Fault) -> None:
        """From the next frame on."""
        with self._lock:
            self._faults.append(fault)

    def mend(self) -> None:
        """No more faults."""
        with self._lock:
            self._faults.clear()

    def let_fragment(self, is_allowed: bool) -> None:
        """The do-not-fragment bit of what is sent."""
        self._socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_DONT if is_allowed else _PMTUDISC_DO)

    def send_test(self, packet_bytes: int, to: Address) -> None:
        """One test packet of exactly this size with its IP and UDP headers."""
        self._send(Packet(0, 0, PAYLOAD, bytes(packet_bytes - IP_UDP_BYTES - GVSP_HEADER_BYTES)), to)

    def send_frame(self, packets: list[Packet], to: Address, packet_gap_s: float = 0.0) -> None:
        """Sends a frame, as far as the faults let it."""
        block_id = packets[0].block_id
        with self._lock:
            self._kept[block_id] = packets
            while len(self._kept) > self._kept_frames:
                self._kept.popitem(last=False)
            schedule = self._schedule(packets)
        due = time.monotonic()
        for packet in schedule:
            self._send(packet, to)
            due += packet_gap_s + (packet.size_bytes * 8 / self.speed_bits_per_s if self.speed_bits_per_s else 0.0)
            ahead_s = due - time.monotonic()
            if ahead_s > _PACING_STEP_S:
                time.sleep(ahead_s)

    def _schedule(self, packets: list[Packet]) -> Sequence[Packet]:
        striking = [fault for fault in self._faults if fault.begin(packets[0].block_id)]
        if not striking:
            return packets
        order: list[tuple[float, Packet]] = []
        for place, packet in enumerate(packets):
            actions = {fault.action: fault for fault in striking if fault.strikes(packet, self._dice)}
            if "lose" in actions:
                self.lost += 1
                continue
            at = place + actions["delay"].by + 0.5 if "delay" in actions else float(place)
            order += [(at, packet)] * (2 if "double" in actions else 1)
        return [packet for _, packet in sorted(order, key=lambda item: item[0])]

    def resend(self, block_id: int, first: int, last: int, to: Address) -> None:
        """Sends packets of a kept frame again, or says that they are no more."""
        with self._lock:
            packets = self._kept.get(block_id, [])[first : last + 1]
            lost = {packet.packet_id for packet in packets for fault in self._faults if fault.strikes_again(packet)}
        for packet in packets:
            if packet.packet_id in lost:
                self.lost += 1
            else:
                self._send(packet, to)
                self.resent += 1
        if not packets:
            self.resend_refused += 1
            self._send_raw([struct.pack(">HHI", Status.PACKET_UNAVAILABLE, block_id, PAYLOAD << 24 | first)], to)

    def _send(self, packet: Packet, to: Address) -> None:
        if self.mtu_bytes is not None and packet.size_bytes > self.mtu_bytes:
            self.unsendable += 1
            return
        self._send_raw([packet.header, packet.data], to)

    def _send_raw(self, parts: Sequence[bytes | memoryview], to: Address) -> None:
        if self.is_silent:
            return
        try:
            self._socket.sendmsg(parts, [], 0, to)
        except OSError:  # too long for the interface, no way there, link down: a packet that does not arrive
            self.unsendable += 1
        else:
            self.sent += 1
