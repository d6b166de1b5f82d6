"""What records has to say to images: whose the frames are. Images may lag behind a burst of parts, and records waits for nobody."""

from __future__ import annotations

from collections import deque

import msgspec
from msgspec import structs

from pipeline.channel import Link, PeerGone, TooLong
from pipeline.messages import LateInspection, PartMade
from pipeline.payloads import ResultPayload, encode

WAITING_BYTES_MAX = 16 << 20
"""Of names that images has not taken yet: some ten thousand parts."""
_LATE_BYTES = 1_024
"""About what a late inspection takes."""

_decode = msgspec.json.Decoder(ResultPayload).decode


class Naming:
    """Names go out in order, as fast as the link takes them. Beyond ``WAITING_BYTES_MAX`` the oldest are lost, and counted.

    What waits for an images that is gone is forgotten with the frames that it had.
    """

    def __init__(self) -> None:
        self._link: Link | None = None
        self._waiting: deque[PartMade | LateInspection] = deque()
        self._waiting_bytes = 0
        self.lost_count = 0
        self._lost_before_link = 0

    @property
    def is_connected(self) -> bool:
        return self._link is not None

    @property
    def waiting_count(self) -> int:
        return len(self._waiting)

    def connect(self, link: Link) -> None:
        """Takes ownership of the link to a new images."""
        self.close()
        self._link = link
        self._lost_before_link = self.lost_count

    def close(self) -> None:
        if self._link is not None:
            self._link.close()
            self._link = None
        self._waiting.clear()
        self._waiting_bytes = 0

    def write_descriptors(self) -> list[int]:
        """What to wait for while something waits; then call ``turn``."""
        return [self._link.fileno()] if self._link is not None and self._waiting else []

    def say(self, message: PartMade | LateInspection) -> None:
        """To be sent with the next ``turn`` that can. Nothing where no images listens."""
        if self._link is None:
            return
        self._waiting.append(message)
        self._waiting_bytes += _size_bytes(message)
        while self._waiting_bytes > WAITING_BYTES_MAX:
            self._take_first()
            self.lost_count += 1

    def turn(self) -> None:
        """Send what the link takes now."""
        try:
            while self._link is not None and self._waiting:
                message = self._waiting[0]
                lost_count = self.lost_count - self._lost_before_link
                if lost_count and isinstance(message, PartMade):
                    message = structs.replace(message, unnamed_count=lost_count)
                if not _is_sent(self._link, message):
                    return
                self._take_first()
        except PeerGone:
            self.close()

    def _take_first(self) -> None:
        self._waiting_bytes -= _size_bytes(self._waiting.popleft())


def _is_sent(link: Link, message: PartMade | LateInspection) -> bool:
    try:
        return link.send(message)
    except TooLong:
        if not isinstance(message, PartMade):
            raise
        plain = structs.replace(_decode(message.result_json), defects=[])
        return link.send(structs.replace(message, result_json=encode(plain)))


def _size_bytes(message: PartMade | LateInspection) -> int:
    return len(message.result_json) if isinstance(message, PartMade) else _LATE_BYTES
