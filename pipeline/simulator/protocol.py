"""Protocols of the simulated hardware: what the camera sends its driver, what the line's sensors send the controller.

**Camera.** The device listens on an AF_UNIX SOCK_STREAM path and only sends. One driver at a time connects; it may go
and come back at any moment, and the device goes on with its ``trigger_counter``. A driver gets frames only of triggers
that it was sent. Each message is a ``DeviceMessage``, 64 bytes, little-endian; behind a FRAME follow ``payload_bytes``
of pixels, row by row, ``stride`` bytes a row, and the frame's end: 16 bytes, ``b"LSCE"``, four zeros, and the
``trigger_counter`` again (u64). A frame without its end is torn: none of its pixels can be trusted.

==================  ====  ========================================================================================
field               type  meaning
==================  ====  ========================================================================================
magic               4s    ``b"LSC2"``
kind                u16   1 TRIGGER (sent at the trigger, at once), 2 FRAME, 3 MISSED (a trigger without a frame)
pixel_format        u16   1 Mono8, 2 BGR8, 3 RGB8, and the raw ones from 4 on in ``PixelFormat``'s order
trigger_counter     u64   triggers the device has seen since it was switched on, the first is 1
encoder_count       i64   latched at the trigger, in the controller's count domain
trigger_ns          i64   the trigger, CLOCK_MONOTONIC
exposure_ns         i64   start of the exposure, CLOCK_MONOTONIC; 0 in TRIGGER and MISSED
frame_id            u64   frames the device has exposed, the first is 1; 0 in TRIGGER and MISSED
width, height       u32   pixels; 0 in TRIGGER and MISSED
stride              u32   bytes from row to row
payload_bytes       u32   bytes of pixels that follow; 0 in TRIGGER and MISSED
==================  ====  ========================================================================================

**Line to controller.** AF_UNIX SOCK_SEQPACKET, the controller listens: one ``LineEvent`` a packet, 24 bytes,
little-endian. No part numbers: a controller does not know them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum

from vision.types import PixelFormat

HEADER = struct.Struct("<4sHHQqqqQIIII")
HEADER_BYTES = HEADER.size
LINE_EVENT = struct.Struct("<B7xqq")
LINE_EVENT_BYTES = LINE_EVENT.size

FRAME_END = struct.Struct("<4s4xQ")
FRAME_END_BYTES = FRAME_END.size

_MAGIC = b"LSC2"
_END_MAGIC = b"LSCE"
_CODE_OF_FORMAT = {pixel_format: code for code, pixel_format in enumerate(PixelFormat, 1)}
_FORMAT_OF_CODE = {code: pixel_format for pixel_format, code in _CODE_OF_FORMAT.items()}


class MessageKind(IntEnum):
    """What a camera says."""

    TRIGGER = 1
    FRAME = 2
    MISSED = 3


_KIND_OF_CODE = {int(kind): kind for kind in MessageKind}


class ProtocolError(ValueError):
    """Bytes that are not this protocol's."""


@dataclass(frozen=True, slots=True)
class DeviceMessage:
    """One header from the camera, fields as in the module's table."""

    kind: MessageKind
    pixel_format: PixelFormat
    trigger_counter: int
    encoder_count: int
    trigger_ns: int
    exposure_ns: int = 0
    frame_id: int = 0
    width: int = 0
    height: int = 0
    stride: int = 0
    payload_bytes: int = 0


def encode_header(message: DeviceMessage) -> bytes:
    """The 64 bytes of a message."""
    return HEADER.pack(
        _MAGIC,
        message.kind,
        _CODE_OF_FORMAT[message.pixel_format],
        message.trigger_counter,
        message.encoder_count,
        message.trigger_ns,
        message.exposure_ns,
        message.frame_id,
        message.width,
        message.height,
        message.stride,
        message.payload_bytes,
    )


def decode_header(header: bytes | bytearray | memoryview) -> DeviceMessage:
    """The message in 64 bytes. Raises ProtocolError where they are none of this protocol's."""
    if len(header) != HEADER_BYTES:
        raise ProtocolError(f"camera header: got {len(header)} bytes, expected {HEADER_BYTES}")
    magic, kind, pixel_format, *numbers = HEADER.unpack(header)
    if magic != _MAGIC:
        raise ProtocolError(f"camera header: got magic {magic!r}, expected {_MAGIC!r}; the stream is out of step")
    if kind not in _KIND_OF_CODE:
        raise ProtocolError(f"camera header: got kind {kind}, expected one of {sorted(_KIND_OF_CODE)}")
    if pixel_format not in _FORMAT_OF_CODE:
        expected = sorted(_FORMAT_OF_CODE)
        raise ProtocolError(f"camera header: got pixel format {pixel_format}, expected one of {expected}")
    return DeviceMessage(_KIND_OF_CODE[kind], _FORMAT_OF_CODE[pixel_format], *numbers)


def encode_frame_end(trigger_counter: int) -> bytes:
    """The 16 bytes behind a frame's pixels."""
    return FRAME_END.pack(_END_MAGIC, trigger_counter)


def check_frame_end(end: bytes | bytearray | memoryview, trigger_counter: int) -> None:
    """Raises ProtocolError where these 16 bytes are not the end of that trigger's frame."""
    if bytes(end) != encode_frame_end(trigger_counter):
        raise ProtocolError(
            f"camera frame of trigger {trigger_counter}: got {bytes(end)!r} behind its pixels, expected its end; the frame is torn"
        )


class LineEventKind(IntEnum):
    """What the line's sensors say to the controller."""

    SENSOR = 1
    """A part at the trigger station."""
    GATE = 2
    """A part at the gate: let it pass or push it out, now."""
    BELT_STOPPED = 3
    """Or it runs back."""
    BELT_STARTED = 4
    LAST_VIEW = 5
    """A part at the last camera, where that is not at the trigger station; its count is as it was at that."""


_LINE_EVENT_KIND_OF_CODE = {int(kind): kind for kind in LineEventKind}


@dataclass(frozen=True, slots=True)
class LineEvent:
    """One sensor event. ``encoder_count``: latched at the event, in the controller's count domain."""

    kind: LineEventKind
    encoder_count: int
    event_ns: int
    """CLOCK_MONOTONIC."""


def encode_line_event(event: LineEvent) -> bytes:
    """The 24 bytes of a sensor event."""
    return LINE_EVENT.pack(event.kind, event.encoder_count, event.event_ns)


def decode_line_event(packet: bytes) -> LineEvent:
    """The event in a packet. Raises ProtocolError where it is none."""
    if len(packet) != LINE_EVENT_BYTES:
        raise ProtocolError(f"line event: got {len(packet)} bytes, expected {LINE_EVENT_BYTES}")
    kind, encoder_count, event_ns = LINE_EVENT.unpack(packet)
    if kind not in _LINE_EVENT_KIND_OF_CODE:
        raise ProtocolError(f"line event: got kind {kind}, expected one of {sorted(_LINE_EVENT_KIND_OF_CODE)}")
    return LineEvent(_LINE_EVENT_KIND_OF_CODE[kind], encoder_count, event_ns)
