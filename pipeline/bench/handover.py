"""Suite ``handover``: does passing a frame to another process cost more when the frame is larger?

Two processes. The owner publishes a slot and sends its ticket; the reader borrows it, looks at its first and last pixel and
releases it. Frames of 1 MB and 20 MB take turns, and so does the named alternative: the pixels sent through a socket.
"""

from __future__ import annotations

import select
import socket
import subprocess
import sys

import numpy as np

from pipeline.bench.statistics import median_ratio, percentiles_us
from pipeline.channel import Link, PeerGone, link_pair
from pipeline.clock import NS_PER_US, now_ns
from pipeline.messages import FrameTicket, Release, RingOffer
from pipeline.ring import Ring, RingReader, SlotHeader
from vision.types import PixelFormat

_SHAPES = {"1MB": (1024, 1024), "20MB": (5120, 4096)}
_READER = 1


def handover(rounds: int = 1_000, copies: int = 30) -> dict[str, object]:
    """Round trips in us: ``rounds`` of each size through the ring, ``copies`` of each through a socket, interleaved."""
    ours, theirs = link_pair()
    copy_ours, copy_theirs = socket.socketpair()
    with theirs, copy_theirs:
        descriptors = (theirs.fileno(), copy_theirs.fileno())
        reader = subprocess.Popen(
            [sys.executable, "-m", "pipeline.bench.handover", *map(str, descriptors)], pass_fds=descriptors
        )
    link = Link(ours)
    rings = {name: Ring(name, 2, width * height) for name, (width, height) in _SHAPES.items()}
    ring_us: dict[str, list[float]] = {name: [] for name in _SHAPES}
    copy_us: dict[str, list[float]] = {name: [] for name in _SHAPES}
    try:
        for name, ring in rings.items():
            link.send(RingOffer(name, 1, ring.slot_count, ring.slot_bytes), (ring.descriptor,))
        every = max(1, rounds // max(1, copies))
        for turn in range(rounds):
            for name, ring in rings.items():
                ring_us[name].append(_through_ring(link, ring, name))
                if turn % every == 0:
                    copy_us[name].append(_through_socket(copy_ours, _SHAPES[name][0] * _SHAPES[name][1]))
    finally:
        link.close()
        copy_ours.close()
        reader.wait()
        for ring in rings.values():
            ring.close()
    return {
        "suite": "handover",
        "round_trip_us": {name: percentiles_us(values) for name, values in ring_us.items()},
        "copied_through_socket_us": {name: percentiles_us(values) for name, values in copy_us.items()},
        "ratio_20MB_to_1MB": median_ratio(ring_us["20MB"], ring_us["1MB"]),
        "ratio_copied_20MB_to_1MB": median_ratio(copy_us["20MB"], copy_us["1MB"]),
    }


def _through_ring(link: Link, ring: Ring, name: str) -> float:
    slot = ring.loan()
    assert slot is not None
    width, height = _SHAPES[name]
    start_ns = now_ns()
    header = SlotHeader(0, None, start_ns, start_ns, width, height, width, PixelFormat.MONO8)
    ring.publish(slot, header, reader=_READER)
    link.send(FrameTicket(name, 1, slot.index, slot.generation, 0, None, start_ns, start_ns))
    select.select([link], [], [])
    received = link.receive()
    elapsed_ns = now_ns() - start_ns
    assert received is not None
    release = received[0]
    assert isinstance(release, Release)
    ring.release(release.slot, release.generation, reader=_READER)
    return elapsed_ns / NS_PER_US


def _through_socket(connection: socket.socket, size: int) -> float:
    pixels = np.zeros(size, np.uint8)
    start_ns = now_ns()
    connection.sendall(size.to_bytes(8, "little"))
    connection.sendall(pixels.data)
    connection.recv(1)
    return (now_ns() - start_ns) / NS_PER_US


def _read(link: Link, copies: socket.socket) -> None:
    """The other process."""
    readers: dict[str, RingReader] = {}
    while True:
        ready, _, _ = select.select([link.fileno(), copies.fileno()], [], [])
        if copies.fileno() in ready:
            size = int.from_bytes(copies.recv(8), "little")
            target = memoryview(bytearray(size))
            got = 0
            while got < size:
                got += copies.recv_into(target[got:])
            if size:
                copies.send(b"x")
        if link.fileno() not in ready:
            continue
        try:
            received = link.receive()
        except PeerGone:
            return
        if received is None:
            continue
        message, descriptors = received
        if isinstance(message, RingOffer):
            readers[message.camera_id] = RingReader(
                message.camera_id, descriptors[0], message.slot_count, message.slot_bytes
            )
        elif isinstance(message, FrameTicket):
            pixels = readers[message.camera_id].borrow(message.slot, message.generation).pixels
            assert pixels[0, 0] == pixels[-1, -1]
            link.send(Release(message.slot, message.generation))


if __name__ == "__main__":
    _read(Link.from_descriptor(int(sys.argv[1])), socket.socket(fileno=int(sys.argv[2])))
