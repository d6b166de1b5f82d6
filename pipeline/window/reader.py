"""Reads a recorded window and never writes to it; see ``format``.

Frames are looked at in place (the chunks are mapped), and each one's checksums are checked before it is given out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import mmap
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.config import Line
from pipeline.payloads import ResultPayload
from pipeline.window.format import (
    CALIBRATIONS_NAME,
    DESCRIPTION_NAME,
    HEADER_BYTES,
    INDEX_NAME,
    MODEL_NAME,
    SCHEMA,
    BadHeader,
    Entry,
    FrameEntry,
    FrameFacts,
    FrameKey,
    LateEntry,
    LostEntry,
    PartEntry,
    WindowCounts,
    WindowDescription,
    chunk_name,
    unpack_header,
    unpack_line,
)
from vision.faults import FaultsError
from vision.package import ModelPackage, load_package
from vision.types import Frame

_DESCRIPTION_BYTES_MAX = 16 << 20
_MAPPED_MAX = 16
"""Chunks at once."""
_FAMILY = SCHEMA.rpartition("/")[0] + "/"


class NotAWindow(RuntimeError):
    """The folder is no window that this version can read, or not a whole one. The text says what to do."""


class FrameDamaged(RuntimeError):
    """A frame is not as it was written."""


class _Schema(msgspec.Struct):
    schema: str


_decode_schema = msgspec.json.Decoder(_Schema).decode
_decode_description = msgspec.json.Decoder(WindowDescription).decode
_decode_result = msgspec.json.Decoder(ResultPayload).decode


class WindowReader:
    """A window as it lies on the disk: ``description``, ``frames`` by their keys, ``parts`` by their numbers."""

    def __init__(self, folder: Path) -> None:
        """Raises NotAWindow."""
        self.folder = folder
        self.description = _read_description(folder)
        self.frames: dict[FrameKey, FrameEntry] = {}
        self._parts: dict[int, PartEntry] = {}
        self._late: dict[int, list[LateEntry]] = {}
        self.frames_lost: dict[str, int] = {}
        """By reason; what the writer said before it ended."""
        self.parts_lost: dict[str, int] = {}
        """As ``frames_lost``; late inspections among them."""
        self.unread_bytes = 0
        """Of the index of a window that was cut off: from its first bad line on."""
        self._lines = Counter[str]()
        self._read_index()
        self.part_ids = tuple(sorted(self._parts))
        """Of every part, ascending."""
        self._check_counts()
        self._check_chunks()
        self._chunks: OrderedDict[int, npt.NDArray[np.uint8]] = OrderedDict()
        """Those mapped now, the one used last at the end."""

    @property
    def is_cut_off(self) -> bool:
        """Whether its writer ended without saying so: killed, or the power went."""
        return self.description.end is None

    @property
    def late_count(self) -> int:
        return sum(map(len, self._late.values()))

    def line(self) -> Line:
        """The line as it ran, with the window's own copy of its calibrations. Raises NotAWindow."""
        try:
            line = Line.from_json(msgspec.json.encode(self.description.facts.line).decode())
        except (ValueError, KeyError, TypeError) as error:  # pydantic's ValidationError is a ValueError
            first_line = str(error).splitlines()[0]
            raise NotAWindow(
                f"{self.folder / DESCRIPTION_NAME}: facts.line: got what is no line of this version of Lineside "
                f"({first_line}); replay it with version {self.description.facts.lineside_version}, which recorded it"
            ) from error
        config = line.config.model_copy(update={"calibrations": self.folder / CALIBRATIONS_NAME})
        return dataclasses.replace(line, config=config) if line.calibration_ids else line

    def model(self) -> ModelPackage:
        """The model package that judged. Raises NotAWindow where it is not that one any more."""
        folder, recorded = self.folder / MODEL_NAME, self.description.facts.model_sha256
        try:
            package = load_package(folder)
        except FaultsError as error:
            raise NotAWindow(
                f"window {self.folder}: its model cannot be used: {error}\nexpected the model {recorded}: copy the "
                "window again, or give the package with --model"
            ) from error
        if package.sha256 != recorded:
            raise NotAWindow(
                f"window {self.folder}: got the model {package.sha256} in {folder}, expected {recorded}, which judged: "
                "copy the window again, or name the package that you mean with --model"
            )
        return package

    def part(self, part_id: int) -> tuple[PartEntry, ResultPayload]:
        """A part's triggers, and what is on record of it. Raises NotAWindow where that is no result of this version."""
        entry = self._parts[part_id]
        try:
            return entry, _decode_result(entry.result)
        except msgspec.DecodeError as error:
            raise NotAWindow(f"window {self.folder}: part {part_id}: got what is no result: {error}") from error

    def late(self, part_id: int) -> list[LateEntry]:
        """What was said of the part after its decision."""
        return self._late.get(part_id, [])

    def frame(self, entry: FrameEntry) -> Frame:
        """The frame in place, read-only: ``pixels`` as in ``vision.types.Frame``, rows ``stride_bytes`` apart.

        Raises FrameDamaged, naming it; NotAWindow where its chunk cannot be read any more.
        """
        facts = entry.frame
        where = f"frame {facts.frame_id} ({facts.key}) in {chunk_name(entry.chunk)} at {entry.offset}"
        chunk = self._mapped(entry.chunk)
        start = entry.offset + HEADER_BYTES
        if not _is_possible(facts) or entry.offset < 0:
            raise FrameDamaged(f"{where}: is no image: {facts}")
        if start + facts.size_bytes > len(chunk):
            raise FrameDamaged(f"{where}: ends behind the chunk's {len(chunk)} bytes")
        try:
            written, crc32 = unpack_header(chunk[entry.offset : start].tobytes())
        except (BadHeader, ValueError) as error:
            raise FrameDamaged(f"{where}: {error}") from error
        if written != facts or crc32 != entry.pixels_crc32:
            raise FrameDamaged(f"{where}: the frame there is another one than the index says: {written.key}")
        pixels = chunk[start : start + facts.size_bytes]
        if zlib.crc32(pixels.data) != crc32:
            raise FrameDamaged(f"{where}: its pixels are not those that were recorded")
        return Frame(facts.camera_id, facts.frame_id, facts.pixel_format, _shaped(pixels, facts))

    def _read_index(self) -> None:
        file = self.folder / INDEX_NAME
        try:
            with file.open("rb") as lines:
                whole_bytes = 0
                for number, line in enumerate(lines, 1):
                    if not self._take(line, number):
                        self.unread_bytes = file.stat().st_size - whole_bytes
                        return
                    whole_bytes += len(line)
        except OSError as error:
            raise NotAWindow(f"{file}: {error.strerror}; expected the window's index: copy the window whole") from error

    @property
    def _may_break_off(self) -> bool:
        """Whether its index may end in what was not written to its end: its writer or its disk failed, or the power went."""
        end = self.description.end
        return end is None or end.by == "fault"

    def _take(self, line: bytes, number: int) -> bool:
        """False for the first bad line of a window that was cut off: nothing from there on is read."""
        where = f"{self.folder / INDEX_NAME}: line {number}"
        if not line.endswith(b"\n"):
            if self._may_break_off:
                return False
            raise NotAWindow(
                f"{where}: is half-written, and {DESCRIPTION_NAME} says that the "
                "window was ended in order: it was cut off since; copy it again"
            )
        try:
            entry: Entry = unpack_line(line[:-1])
            part_id = _part_id(entry) if isinstance(entry, PartEntry) else None
        except (ValueError, msgspec.DecodeError) as error:
            if self._may_break_off:
                return False
            raise NotAWindow(f"{where}: got what was not written so: {error}; copy the window again") from error
        if isinstance(entry, FrameEntry):
            self._lines["frames"] += 1
            self.frames.setdefault(entry.frame.key, entry)
        elif isinstance(entry, LateEntry):
            self._lines["late inspections"] += 1
            self._late.setdefault(entry.part_id, []).append(entry)
        elif isinstance(entry, LostEntry):
            for lost, count in ((self.frames_lost, entry.frames), (self.parts_lost, entry.parts)):
                if count:
                    lost[entry.why] = lost.get(entry.why, 0) + count
        else:
            assert part_id is not None
            self._lines["parts"] += 1
            # What a worker did not know to be told is told again by its successor.
            self._parts.setdefault(part_id, entry)
        return True

    def _mapped(self, number: int) -> npt.NDArray[np.uint8]:
        """A map keeps a descriptor, and a large window has more chunks than a process may have of these."""
        chunk = self._chunks.get(number)
        if chunk is None:
            file = self.folder / chunk_name(number)
            try:
                with file.open("rb") as opened:
                    size = file.stat().st_size
                    # The arrays keep the map alive; it goes with the last view of it.
                    mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if size else bytearray()
            except OSError as error:
                raise NotAWindow(f"{file}: {error.strerror}; copy the window whole") from error
            chunk = self._chunks[number] = np.frombuffer(mapped, np.uint8)
            if len(self._chunks) > _MAPPED_MAX:
                self._chunks.popitem(last=False)
        self._chunks.move_to_end(number)
        return chunk

    def _check_chunks(self) -> None:
        counts = Counter(entry.chunk for entry in self.frames.values())
        for number, count in sorted(counts.items()):
            file = self.folder / chunk_name(number)
            try:
                with file.open("rb"):
                    pass
            except OSError as error:
                raise NotAWindow(
                    f"{file}: {error.strerror}; expected the chunk with {count} of the window's frames: "
                    "copy the window whole"
                ) from error

    def _check_counts(self) -> None:
        end = self.description.end
        if end is None or end.by == "fault":
            return
        for what, got, expected in (
            *((what, self._lines[what], count) for what, count in _counted(end.counts)),
            ("lost frames", sum(self.frames_lost.values()), sum(end.counts.frames_lost.values())),
            ("lost parts", sum(self.parts_lost.values()), sum(end.counts.parts_lost.values())),
        ):
            if got < expected:
                raise NotAWindow(
                    f"{self.folder / INDEX_NAME}: got {got} {what}, expected the {expected} that {DESCRIPTION_NAME} "
                    "counts: the index is cut short; copy the window again"
                )

    def entries_of(self, part: PartEntry) -> Iterator[tuple[FrameKey, FrameEntry | None]]:
        """The part's triggers with their frames, None where there is none in the window."""
        for key in part.frames:
            yield key, self.frames.get(key)


def _counted(counts: WindowCounts) -> tuple[tuple[str, int], ...]:
    return ("frames", counts.frames), ("parts", counts.parts), ("late inspections", counts.late_inspections)


class _PartId(msgspec.Struct):
    part_id: int


_decode_part_id = msgspec.json.Decoder(_PartId).decode


def _part_id(entry: PartEntry) -> int:
    return _decode_part_id(entry.result).part_id


def _read_description(folder: Path) -> WindowDescription:
    file = folder / DESCRIPTION_NAME
    if not folder.is_dir():
        raise NotAWindow(f"window {folder}: got no folder, expected the folder of a recorded window")
    try:
        with file.open("rb") as opened:
            written = opened.read(_DESCRIPTION_BYTES_MAX)
    except OSError as error:
        raise NotAWindow(
            f"window {folder}: is no recorded window: {DESCRIPTION_NAME}: {error.strerror}; expected a folder that "
            "the recording mode of lineside run has made"
        ) from error
    try:
        schema = _decode_schema(written).schema
        if schema != SCHEMA:
            if schema.startswith(_FAMILY):
                raise NotAWindow(
                    f"window {folder}: is of version {schema}, expected {SCHEMA}: replay it with the "
                    "version of Lineside that recorded it"
                )
            raise NotAWindow(f"window {folder}: {DESCRIPTION_NAME}: got schema {schema!r}, expected {SCHEMA!r}")
        description = _decode_description(written)
    except msgspec.DecodeError as error:
        raise NotAWindow(f"{file}: got what is no description of a window: {error}; copy the window again") from error
    facts = description.facts
    fingerprint_sha256 = hashlib.sha256(json.dumps(facts.fingerprint, sort_keys=True).encode()).hexdigest()
    if fingerprint_sha256 != facts.fingerprint_sha256:
        raise NotAWindow(
            f"{file}: facts.fingerprint: got one of {fingerprint_sha256}, expected {facts.fingerprint_sha256}, under "
            "which the parts were judged: it was changed; copy the window again"
        )
    return description


def _shaped(pixels: npt.NDArray[np.uint8], facts: FrameFacts) -> npt.NDArray[np.uint8]:
    rows = pixels.reshape(facts.height_px, facts.stride_bytes)[:, : facts.pixel_format.row_bytes(facts.width_px)]
    return rows.reshape(facts.pixel_format.shape(facts.width_px, facts.height_px))


def _is_possible(facts: FrameFacts) -> bool:
    is_image = facts.width_px > 0 and facts.height_px > 0 and facts.width_px % facts.pixel_format.width_step_px == 0
    return is_image and facts.stride_bytes >= facts.pixel_format.row_bytes(facts.width_px)
