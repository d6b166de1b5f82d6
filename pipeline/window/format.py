"""A recorded window on disk: every frame of a span of time, what was said of the parts in it, and what said it.

A folder::

    window.json           which session, line, recipe, model and runtime, from when to when; how it ended, once it has
    model/                the model package
    calibrations/         those that were in force, as a station keeps them; not there without any
    frames-000001.bin     frames one after the other: a header each, then the pixels, row after row
    index.log             one line a frame, a part, a late inspection or a loss: CRC-32 of the rest, a space, JSON

Chunks and index are only ever appended to; a line of the index is written when what it tells of is in its chunk. So what was
complete at a kill is found again, and a window whose ``window.json`` names no end was cut off.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import msgspec

from vision.types import PixelFormat

SCHEMA = "lineside.window/1"
DESCRIPTION_NAME = "window.json"
INDEX_NAME = "index.log"
MODEL_NAME = "model"
CALIBRATIONS_NAME = "calibrations"
ALIGN_BYTES = 64
"""Headers begin, and pixels lie, at multiples of this in their chunk."""
HEADER_BYTES = 192
LINE_CRC_CHARACTERS = 8
NO_NS = -1

EndedBy: TypeAlias = Literal["told", "max_s", "max_gib", "free_disk", "fault"]

_MAGIC = b"LSFR"
_HEADER = struct.Struct("<4sHH32s8sQQQqqqqIIIIQI16s")
_NAME_BYTES = 8
"""Of a pixel format's name before the numbers; the rest of a longer one is behind them."""
_CRC = struct.Struct("<I")
_CRC_OFFSET = HEADER_BYTES - _CRC.size


def chunk_name(number: int) -> str:
    """From 1."""
    return f"frames-{number:06d}.bin"


class FrameKey(NamedTuple):
    """Names one frame of a session: ``source`` numbers the acquisition incarnation whose counter this is."""

    camera_id: str
    source: int
    trigger_counter: int

    def __str__(self) -> str:
        return f"camera {self.camera_id}, trigger {self.trigger_counter} of source {self.source}"


class FrameFacts(msgspec.Struct, frozen=True):
    """What is known of a frame beside its pixels. Times are CLOCK_MONOTONIC of the box that recorded.

    ``inferred_ns``: when the model had run on the batch that this frame was in, so that frames of one part with the same moment
    were judged together; None where that is not known, or the frame was not judged.
    """

    camera_id: str
    source: int
    trigger_counter: int
    frame_id: int
    encoder_count: int | None
    trigger_ns: int
    grabbed_ns: int
    inferred_ns: int | None
    width_px: int
    height_px: int
    stride_bytes: int
    pixel_format: PixelFormat

    @property
    def key(self) -> FrameKey:
        return FrameKey(self.camera_id, self.source, self.trigger_counter)

    @property
    def size_bytes(self) -> int:
        return self.stride_bytes * self.height_px


class FrameEntry(msgspec.Struct, frozen=True, tag="frame", tag_field="kind"):
    """A frame that is whole in chunk ``chunk`` (from 1), its header at ``offset``."""

    frame: FrameFacts
    chunk: int
    offset: int
    pixels_crc32: int


class PartEntry(msgspec.Struct, frozen=True, tag="part", tag_field="kind"):
    """A part's triggers, and its ``lineside.result/1`` as it was recorded."""

    frames: tuple[FrameKey, ...]
    result: msgspec.Raw


class ViewDefect(msgspec.Struct, frozen=True, rename={"class_name": "class"}):
    """A defect of one view, ``box_px`` x1, y1, x2, y2 in the frame."""

    class_name: str
    score: float
    box_px: tuple[float, float, float, float]


class LateView(msgspec.Struct, frozen=True):
    """What an inspection said of one view after the part's decision."""

    frame: FrameKey
    verdict: str
    reason: str
    score: float | None
    part_mark: int | None
    defects: tuple[ViewDefect, ...]
    inferred_ns: int


class LateEntry(msgspec.Struct, frozen=True, tag="late", tag_field="kind"):
    """A late inspection of part ``part_id``."""

    part_id: int
    arrived_ns: int
    view: LateView


class LostEntry(msgspec.Struct, frozen=True, tag="lost", tag_field="kind"):
    """So many frames of the window that were not kept, and why; or so many parts and late inspections."""

    frames: int
    why: str
    parts: int = 0


Entry: TypeAlias = FrameEntry | PartEntry | LateEntry | LostEntry


class CameraFormat(msgspec.Struct, frozen=True):
    camera_id: str
    width_px: int
    height_px: int
    pixel_format: PixelFormat


class WindowCounts(msgspec.Struct, frozen=True):
    """What a window holds; ``frames_lost`` and ``parts_lost`` (late inspections among them) by reason."""

    frames: int
    parts: int
    late_inspections: int
    size_bytes: int
    frames_lost: dict[str, int]
    parts_lost: dict[str, int] = {}


class WindowLimits(msgspec.Struct, frozen=True):
    """Where a window ends by itself: seconds, bytes on disk, bytes that others keep free on that disk."""

    max_s: float
    max_bytes: int
    free_min_bytes: int


class WindowFacts(msgspec.Struct, frozen=True):
    """What was running. ``line`` is ``Line.to_json``'s object; ``fingerprint`` that of the runtime."""

    session_id: str
    lineside_version: str
    line: dict[str, Any]
    model_sha256: str
    fingerprint: dict[str, str | int]
    fingerprint_sha256: str
    cameras: tuple[CameraFormat, ...]


class WindowEnd(msgspec.Struct, frozen=True):
    """How a window ended. Triggers from ``began_ns`` to before ``ns`` are in it."""

    ns: int
    utc: str
    by: EndedBy
    text: str
    counts: WindowCounts


class WindowDescription(msgspec.Struct, frozen=True):
    """``window.json``. ``end`` is None until the window has ended in order."""

    schema: str
    facts: WindowFacts
    limits: WindowLimits
    began_ns: int
    began_utc: str
    end: WindowEnd | None


class BadHeader(ValueError):
    """These bytes are no frame's header."""


def pack_header(frame: FrameFacts, pixels_crc32: int) -> bytes:
    """A frame's header, HEADER_BYTES long, with a checksum of its own at its end."""
    name = frame.pixel_format.value.encode("ascii")
    packed = _HEADER.pack(
        _MAGIC,
        1,
        HEADER_BYTES,
        frame.camera_id.encode("ascii"),
        name[:_NAME_BYTES],
        frame.source,
        frame.trigger_counter,
        frame.frame_id,
        frame.trigger_ns,
        frame.grabbed_ns,
        NO_NS if frame.inferred_ns is None else frame.inferred_ns,
        frame.encoder_count if frame.encoder_count is not None else 0,
        frame.encoder_count is not None,
        frame.width_px,
        frame.height_px,
        frame.stride_bytes,
        frame.size_bytes,
        pixels_crc32,
        name[_NAME_BYTES:],
    )
    packed = packed.ljust(_CRC_OFFSET, b"\0")
    return packed + _CRC.pack(zlib.crc32(packed))


def unpack_header(header: bytes) -> tuple[FrameFacts, int]:
    """The frame and the checksum of its pixels. Raises BadHeader."""
    if len(header) != HEADER_BYTES:
        raise BadHeader(f"got {len(header)} bytes, expected {HEADER_BYTES}")
    (crc32,) = _CRC.unpack_from(header, _CRC_OFFSET)
    if crc32 != zlib.crc32(header[:_CRC_OFFSET]):
        raise BadHeader("the header's checksum is not that of its bytes")
    (
        magic,
        version,
        _,
        camera_id,
        name,
        source,
        trigger_counter,
        frame_id,
        trigger_ns,
        grabbed_ns,
        inferred_ns,
        encoder_count,
        has_encoder,
        width_px,
        height_px,
        stride_bytes,
        _,
        pixels_crc32,
        rest_of_name,
    ) = _HEADER.unpack_from(header)
    if magic != _MAGIC or version != 1:
        raise BadHeader(f"got {magic!r} of version {version}, expected {_MAGIC!r} of version 1")
    frame = FrameFacts(
        camera_id=camera_id.rstrip(b"\0").decode("ascii"),
        source=source,
        trigger_counter=trigger_counter,
        frame_id=frame_id,
        encoder_count=encoder_count if has_encoder else None,
        trigger_ns=trigger_ns,
        grabbed_ns=grabbed_ns,
        inferred_ns=None if inferred_ns == NO_NS else inferred_ns,
        width_px=width_px,
        height_px=height_px,
        stride_bytes=stride_bytes,
        pixel_format=PixelFormat((name.rstrip(b"\0") + rest_of_name.rstrip(b"\0")).decode("ascii")),
    )
    return frame, pixels_crc32


def padded_bytes(size_bytes: int) -> int:
    """What a frame's pixels take in a chunk."""
    return -(-size_bytes // ALIGN_BYTES) * ALIGN_BYTES


_encode_entry = msgspec.json.Encoder().encode
_decode_entry: Callable[[bytes], Entry] = msgspec.json.Decoder(Entry).decode


def pack_line(entry: Entry) -> bytes:
    """A line of the index."""
    body = _encode_entry(entry)
    return b"%08x %s\n" % (zlib.crc32(body), body)


def unpack_line(line: bytes) -> Entry:
    """The entry of a line without its end. Raises ValueError where it is not as it was written."""
    crc32, body = line[:LINE_CRC_CHARACTERS], line[LINE_CRC_CHARACTERS + 1 :]
    if crc32 != b"%08x" % zlib.crc32(body):
        raise ValueError("its checksum is not that of its text")
    return _decode_entry(body)
