"""Writes a recorded window, frame by frame and part by part; see ``format``.

Memory stays the same however long it is. A window ends by itself at its limits, and when its disk fails; what is offered after
that is counted. An existing folder is never written to.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import zlib
from collections import Counter
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.calibration_store import CalibrationsInForce
from pipeline.clock import NS_PER_S, now_ns, utc_text
from pipeline.messages import ViewInspected
from pipeline.window.format import (
    CALIBRATIONS_NAME,
    DESCRIPTION_NAME,
    HEADER_BYTES,
    INDEX_NAME,
    MODEL_NAME,
    SCHEMA,
    EndedBy,
    Entry,
    FrameEntry,
    FrameFacts,
    FrameKey,
    LateEntry,
    LateView,
    LostEntry,
    PartEntry,
    ViewDefect,
    WindowCounts,
    WindowDescription,
    WindowEnd,
    WindowFacts,
    WindowLimits,
    chunk_name,
    pack_header,
    pack_line,
    padded_bytes,
)
from vision.package import CARD_NAME, load_package
from vision.package import MODEL_NAME as ONNX_NAME

CHUNK_BYTES = 64 << 20
_FREE_LOOKED_AT_BYTES = 8 << 20
_PADDING = bytes(64)


class CannotRecord(RuntimeError):
    """A window cannot be begun here."""


class _PartKey(msgspec.Struct):
    session_id: str
    part_id: int
    trigger_ns: int


_decode_part_key = msgspec.json.Decoder(_PartKey).decode


class WindowWriter:
    """One window. Not for several threads at once."""

    def __init__(
        self,
        folder: Path,
        facts: WindowFacts,
        limits: WindowLimits,
        model: Path,
        calibrations: CalibrationsInForce | None,
        *,
        settle_ns: int = 0,
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        """Begins the window now; ``model`` is the folder of the package that judges, ``calibrations`` are
        those that it judges with.

        Frames of triggers up to ``settle_ns`` after the window's end are still taken: a part's cameras see it one after the other.
        Raises CannotRecord where the folder is there already, the model is not the one of ``facts``, or the disk fails;
        FaultsError where the model package or a calibration cannot be used.
        """
        self.folder = folder
        self._limits = limits
        self._settle_ns = settle_ns
        self._chunk_bytes = chunk_bytes
        self._chunk: int | None = None
        self._chunk_number = 0
        self._chunk_offset = 0
        self._index: int | None = None
        self._size_bytes = 0
        self._free_looked_at_bytes = -_FREE_LOOKED_AT_BYTES
        self._counts = {"frame": 0, "part": 0, "late": 0}
        self._parts: set[int] = set()
        self._lates: set[tuple[int, FrameKey]] = set()
        """What is in it: a worker's successor tells again what it does not know to be told."""
        self._lost: Counter[str] = Counter()
        self._lost_told: Counter[str] = Counter()
        self._parts_lost: Counter[str] = Counter()
        self._parts_lost_told: Counter[str] = Counter()
        self._ended_by: EndedBy | None = None
        self._end_text = ""
        self._is_closed = False
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            raise CannotRecord(f"window {folder}: is there already; expected a folder that is not") from None
        except OSError as error:
            raise CannotRecord(f"window {folder}: cannot be made: {error.strerror}") from error
        is_begun = False
        try:
            self._keep_model(model, facts.model_sha256)
            if calibrations is not None:
                self._size_bytes += calibrations.copy_to(folder / CALIBRATIONS_NAME)
            self.began_ns = now_ns()
            self._end_ns = self.began_ns + int(limits.max_s * NS_PER_S)
            self._description = WindowDescription(SCHEMA, facts, limits, self.began_ns, utc_text(self.began_ns), None)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
            self._index = os.open(folder / INDEX_NAME, flags, 0o644)
            self._describe(self._description)
            is_begun = True
        except OSError as error:
            raise CannotRecord(f"window {folder}: {error.filename or folder}: {error.strerror}") from error
        finally:
            if not is_begun:
                self._close_files()
                # Made a moment ago, and nothing is in it but a copy of the model.
                shutil.rmtree(folder, ignore_errors=True)

    @property
    def ended_by(self) -> EndedBy | None:
        """None while frames are taken."""
        if self._ended_by is None and now_ns() >= self._end_ns:
            self._end("max_s", f"{self._limits.max_s:g} s are over", self._end_ns)
        return self._ended_by

    @property
    def end_ns(self) -> int:
        """When it ended, or will at the latest; its last frames may come ``settle_ns`` after that."""
        return self._end_ns

    @property
    def end_text(self) -> str:
        """Why it ended, for people."""
        return self._end_text

    @property
    def frame_count(self) -> int:
        return self._counts["frame"]

    @property
    def part_count(self) -> int:
        return self._counts["part"]

    @property
    def lost_count(self) -> int:
        return self._lost.total()

    @property
    def parts_lost_count(self) -> int:
        return self._parts_lost.total()

    def add_frame(self, frame: FrameFacts, pixels: npt.NDArray[np.uint8]) -> bool:
        """Keep a frame: ``pixels`` is uint8 (stride_bytes * height_px,), its slot's bytes, read in place.

        False where it is not kept: it is of a trigger outside the window, or the window has ended for want of room (counted).
        Raises ValueError where the pixels are not as many as the frame says.
        """
        if pixels.shape != (frame.size_bytes,) or pixels.dtype != np.uint8 or not pixels.flags.c_contiguous:
            raise ValueError(
                f"{frame.key}: got pixels {pixels.dtype} {pixels.shape}, expected uint8 ({frame.size_bytes},)"
            )
        if self._is_closed or not self._spans(frame.trigger_ns, self._settle_ns):
            return False
        needed = HEADER_BYTES + padded_bytes(frame.size_bytes)
        if self._ended_by in ("max_gib", "free_disk", "fault") or not self._has_room(needed):
            self.lose(1, self._ended_by or "fault")
            return False
        crc32 = zlib.crc32(pixels.data)
        try:
            entry = FrameEntry(frame, *self._append(frame, pixels, crc32, needed), crc32)
            self._write_line(entry)
        except OSError as error:
            self._fail(error)
            self.lose(1, "fault")
            return False
        self._counts["frame"] += 1
        return True

    def add_part(self, frames: tuple[FrameKey, ...], result_json: bytes) -> bool:
        """Keep what was decided on a part of this session; its frames may come before it or after it. False where it was
        triggered outside the window, is in it already, or the disk has failed.

        Raises msgspec.DecodeError where it is no result.
        """
        part = _decode_part_key(result_json)
        is_mine = part.session_id == self._description.facts.session_id
        if not is_mine or not self._spans(part.trigger_ns, 0) or part.part_id in self._parts:
            return False
        if not self._add("part", PartEntry(frames, msgspec.Raw(result_json))):
            return False
        self._parts.add(part.part_id)
        return True

    def add_late(self, part_id: int, arrived_ns: int, view: ViewInspected) -> bool:
        """Keep what an inspection said of a part after its decision. False where that is in the window already, or the disk has
        failed.
        """
        said = LateView(
            frame=FrameKey(view.camera_id, view.source, view.trigger_counter),
            verdict=view.verdict,
            reason=view.reason,
            score=view.score,
            part_mark=view.part_mark,
            defects=tuple(ViewDefect(found.class_name, found.score, found.box_px) for found in view.defects),
            inferred_ns=view.inferred_ns,
        )
        key = (part_id, said.frame)
        if key in self._lates or not self._add("late", LateEntry(part_id, arrived_ns, said)):
            return False
        self._lates.add(key)
        return True

    def lose(self, frames: int, why: str) -> None:
        """So many frames of this window are not in it."""
        self._lost[why] += frames

    def lose_parts(self, parts: int, why: str) -> None:
        """So many parts of this window, or late inspections, are not in it."""
        self._parts_lost[why] += parts

    def end(self) -> None:
        """Take no more parts that are triggered from now on; those before it may still be told."""
        if self.ended_by is None:
            self._end("told", "told to end", now_ns())

    def close(self) -> WindowEnd:
        """Put all of it on the disk and say how it ended. Where the disk fails it stays without an end, as if cut off."""
        self.end()
        assert self._ended_by is not None
        try:
            self._tell_lost()
            for descriptor in (self._chunk, self._index):
                if descriptor is not None:
                    os.fsync(descriptor)
        except OSError as error:
            self._fail(error)
        finally:
            self._close_files()
        self._is_closed = True
        counts = WindowCounts(
            frames=self._counts["frame"],
            parts=self._counts["part"],
            late_inspections=self._counts["late"],
            size_bytes=self._size_bytes,
            frames_lost=dict(sorted(self._lost.items())),
            parts_lost=dict(sorted(self._parts_lost.items())),
        )
        end = WindowEnd(self._end_ns, utc_text(self._end_ns), self._ended_by, self._end_text, counts)
        try:
            self._describe(msgspec.structs.replace(self._description, end=end))
        except OSError as error:
            self._fail(error)
            return msgspec.structs.replace(end, by=self._ended_by, text=self._end_text)
        return end

    def _keep_model(self, model: Path, sha256: str) -> None:
        package = load_package(model)
        kept = self.folder / MODEL_NAME
        kept.mkdir()
        shutil.copyfile(package.model_path, kept / ONNX_NAME)
        # Whole, also where the package's own card leaves out what the model's file says.
        (kept / CARD_NAME).write_text(package.card_text(), encoding="utf-8")
        self._size_bytes += sum(file.stat().st_size for file in kept.iterdir())
        found = hashlib.sha256((kept / ONNX_NAME).read_bytes()).hexdigest()
        if found != sha256:
            raise CannotRecord(
                f"window {self.folder}: the model package {model} holds {found}, and {sha256} is what judges; "
                "put that model back, or restart the service with the one that is there"
            )

    def _spans(self, trigger_ns: int, settle_ns: int) -> bool:
        return self.began_ns <= trigger_ns and (self.ended_by is None or trigger_ns < self._end_ns + settle_ns)

    def _has_room(self, needed: int) -> bool:
        if self._size_bytes + needed > self._limits.max_bytes:
            self._end("max_gib", f"{self._limits.max_bytes} bytes are full", now_ns())
            return False
        if self._size_bytes - self._free_looked_at_bytes >= _FREE_LOOKED_AT_BYTES:
            try:
                disk = os.statvfs(self.folder)
            except OSError as error:
                self._fail(error)
                return False
            free = disk.f_bavail * disk.f_frsize
            if free < self._limits.free_min_bytes:
                text = f"{free} bytes are free on the disk of {self.folder}, {self._limits.free_min_bytes} stay free"
                self._end("free_disk", text, now_ns())
                return False
            self._free_looked_at_bytes = self._size_bytes
        return True

    def _append(self, frame: FrameFacts, pixels: npt.NDArray[np.uint8], crc32: int, needed: int) -> tuple[int, int]:
        """Into the chunk; the chunk's number and the offset there."""
        if self._chunk is None or (self._chunk_offset and self._chunk_offset + needed > self._chunk_bytes):
            self._next_chunk()
        assert self._chunk is not None
        padding = _PADDING[: padded_bytes(frame.size_bytes) - frame.size_bytes]
        parts = [memoryview(pack_header(frame, crc32)), pixels.data, memoryview(padding)]
        _write_all(self._chunk, parts)
        offset = self._chunk_offset
        self._chunk_offset += needed
        self._size_bytes += needed
        return self._chunk_number, offset

    def _next_chunk(self) -> None:
        if self._chunk is not None:
            os.fdatasync(self._chunk)
            os.close(self._chunk)
            self._chunk = None
        self._chunk_number += 1
        self._chunk_offset = 0
        path = self.folder / chunk_name(self._chunk_number)
        self._chunk = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def _add(self, kind: str, entry: Entry) -> bool:
        if self._is_closed:
            return False
        if self._ended_by == "fault":
            self.lose_parts(1, "fault")
            return False
        try:
            self._write_line(entry)
        except OSError as error:
            self._fail(error)
            self.lose_parts(1, "fault")
            return False
        self._counts[kind] += 1
        return True

    def _write_line(self, entry: Entry) -> None:
        self._tell_lost()
        self._write_bytes(pack_line(entry))

    def _write_bytes(self, line: bytes) -> None:
        assert self._index is not None
        _write_all(self._index, [memoryview(line)])
        self._size_bytes += len(line)

    def _tell_lost(self) -> None:
        """With the next line: a window that is cut off knows too how much it lacks. Raises OSError."""
        if self._index is None or self._ended_by == "fault":
            return
        for why, frames in (self._lost - self._lost_told).items():
            self._lost_told[why] += frames
            self._write_bytes(pack_line(LostEntry(frames, why)))
        for why, parts in (self._parts_lost - self._parts_lost_told).items():
            self._parts_lost_told[why] += parts
            self._write_bytes(pack_line(LostEntry(0, why, parts)))

    def _end(self, by: EndedBy, text: str, moment_ns: int) -> None:
        if self._ended_by is None:
            self._ended_by, self._end_text, self._end_ns = by, text, min(moment_ns, self._end_ns)

    def _fail(self, error: OSError) -> None:
        """Whatever else had ended it: half a line may lie at the end of its index now, and nothing is written after that."""
        self._end("fault", "", now_ns())
        self._ended_by, self._end_text = "fault", f"the disk of {self.folder} failed: {error.strerror}"

    def _describe(self, description: WindowDescription) -> None:
        """Whole or not at all."""
        scratch = self.folder / f".{DESCRIPTION_NAME}.{os.getpid()}"
        with scratch.open("wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(description), indent=2))
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self.folder / DESCRIPTION_NAME)

    def _close_files(self) -> None:
        for descriptor in (self._chunk, self._index):
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._chunk = self._index = None


def _write_all(descriptor: int, parts: list[memoryview]) -> None:
    """Raises OSError."""
    left = [part for part in parts if part.nbytes]
    while left:
        written = os.writev(descriptor, left)
        while left and written >= left[0].nbytes:
            written -= left.pop(0).nbytes
        if left and written:
            left[0] = left[0][written:]
