"""The thread that encodes and writes, so that the loop goes on taking frames while the disk stands still."""

from __future__ import annotations

import errno
import threading
from datetime import datetime, timezone

from pipeline.clock import NS_PER_S, now_ns
from pipeline.config_sections import ImagesConfig
from pipeline.image_encoder import CannotEncode, encode_image, encode_thumbnail
from pipeline.image_names import image_names
from pipeline.image_room import NamedFrame, Room
from pipeline.image_store import ImageStore, first_day_kept

_IDLE_S = 0.5
_RETRY_S = 0.5
_DROPPING_LOOKED_AT_NS = 60 * NS_PER_S
_GIB = 1 << 30


class ImageWriter:
    """Takes what is named out of ``room``, which is touched under ``gate`` alone; what fails goes back and is tried again."""

    def __init__(self, config: ImagesConfig, keep_days: float | None, room: Room, gate: threading.Condition) -> None:
        self._config = config
        self._keep_days = keep_days
        """So long the rows are kept; pictures go before them."""
        self._next_drop_ns = 0
        self._room = room
        self._gate = gate
        self._store = ImageStore(
            config.path,
            max_bytes=int(config.max_gib * _GIB),
            free_min_bytes=int(config.free_min_gib * _GIB),
            on_answer=self._answered,
        )
        self._is_open = False
        self._is_looking = True
        self._ending = threading.Event()
        # A daemon: one that hangs in the kernel must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="image-writer", daemon=True)
        self.kept_count = 0
        self.has_in_hand = False
        self.busy_since_ns: int | None = None
        """Since when it has waited for the disk; None where it does not."""
        self.fault = ""
        """Why pictures cannot be written; empty where they can."""

    @property
    def pruned_count(self) -> int:
        return self._store.pruned_count

    @property
    def has_died(self) -> bool:
        """Whether, once started, it ended before it was told to."""
        return not self._thread.is_alive() and not self._ending.is_set()

    def start(self) -> None:
        self._thread.start()

    def end(self, patience_s: float) -> None:
        """What it has in hand is finished, if that takes no longer."""
        self._ending.set()
        with self._gate:
            self._gate.notify()
        self._thread.join(patience_s)

    def _run(self) -> None:
        while not self._ending.is_set():
            with self._gate:
                named = self._room.take()
                if named is None and not self._is_looking and now_ns() < self._next_drop_ns:
                    self._gate.wait(_IDLE_S)
                    continue
                self.has_in_hand = named is not None
                self.busy_since_ns = now_ns()
            self._work(named)

    def _work(self, named: NamedFrame | None) -> None:
        """Write one frame, if there is one, and look at a little more of what was there before."""
        fault = ""
        is_kept = is_lost = False
        try:
            if not self._is_open:
                self._store.open()
                self._is_open = True
            if named is not None:
                self._write(named)
                is_kept = True
            if self._is_looking:
                self._is_looking = self._store.look()
            self._drop_old()
        except CannotEncode as error:
            fault, is_lost = f"a picture could not be encoded: {error}", True
        except OSError as error:
            fault = (
                f"images.path {self._config.path}: {error.strerror}; pictures wait in memory, the oldest are dropped"
            )
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ESTALE):
                self._store.forget()
                self._is_looking = True
        with self._gate:
            self.fault = fault
            self.has_in_hand, self.busy_since_ns = False, None
            self.kept_count += is_kept
            if named is not None and (is_kept or is_lost):
                self._room.written(named)
                self._room.dropped_count += is_lost
            elif named is not None:
                self._room.put_back(named)
        if fault and not is_lost:
            self._ending.wait(_RETRY_S)

    def _drop_old(self) -> None:
        """One session's pictures at a time."""
        now = now_ns()
        if now >= self._next_drop_ns and not self._is_looking:
            is_more = False
            if self._keep_days is not None:
                is_more = self._store.drop_before(first_day_kept(datetime.now(timezone.utc), self._keep_days))
            if not is_more:
                self._next_drop_ns = now + _DROPPING_LOOKED_AT_NS

    def _answered(self) -> None:
        """A large folder takes its time; a disk that goes on answering does not stand still."""
        self.busy_since_ns = now_ns()

    def _write(self, named: NamedFrame) -> None:
        config, frame, part = self._config, named.frame, named.part
        camera_id = frame.key.camera_id
        picture_name, thumbnail_name = image_names(part.part_id, part.verdict, camera_id, config.format)
        self.busy_since_ns = None  # not with the disk
        picture = encode_image(frame.pixels, frame.pixel_format, config.format, config.jpeg_quality)
        files = [(picture_name, picture)]
        if config.thumbnail_px is not None:
            words = f"{part.part_id} {part.verdict}" + ("" if part.verdict == "PASS" else f" {part.reason}")
            defects = [defect for defect in part.defects if defect.camera_id == camera_id]
            small = encode_thumbnail(
                frame.pixels, frame.pixel_format, config.thumbnail_px, part.verdict, words, defects
            )
            files.append((thumbnail_name, small))
        self.busy_since_ns = now_ns()
        self._store.write(named.image_ref.rpartition("/")[0], files)
