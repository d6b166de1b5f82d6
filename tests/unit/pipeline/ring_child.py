"""A reader in a process of its own: borrows the slot of the first ticket, says so, and hangs in the middle of reading."""

from __future__ import annotations

import select
import sys

from pipeline.channel import Link
from pipeline.messages import FrameTicket, Release, RingOffer
from pipeline.ring import RingReader


def main() -> None:
    link = Link.from_descriptor(int(sys.argv[1]))
    reader: RingReader | None = None
    while True:
        select.select([link], [], [])
        received = link.receive()
        if received is None:
            continue
        message, descriptors = received
        if isinstance(message, RingOffer):
            reader = RingReader(message.camera_id, descriptors[0], message.slot_count, message.slot_bytes)
        elif isinstance(message, FrameTicket):
            assert reader is not None
            frame = reader.borrow(message.slot, message.generation)
            # Any message would do: it carries what was read.
            link.send(Release(int(frame.pixels[0, 0]), message.generation))


if __name__ == "__main__":
    main()
