"""The images worker: copies frames that are worth keeping, learns which part they are, and has them written as files.

It is not needed: whatever becomes of it or of its disk, verdicts and states are as ever, and what is not kept is counted. It gives
a slot back as soon as it has a copy; the copies wait in a room of bounded size, and a thread of its own does what takes time.
"""

from __future__ import annotations

import contextlib
import json
import select
import sys
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib import metadata
from math import prod

import cv2

from pipeline.channel import Link, PeerGone
from pipeline.clock import NS_PER_S, NS_PER_US, now_ns, seconds_until
from pipeline.image_room import HeldFrame, Room
from pipeline.image_writer import ImageWriter
from pipeline.keeping import LAST_WORDS_NS
from pipeline.messages import (
    Connect,
    FrameKey,
    ImageTicket,
    LateInspection,
    PartMade,
    Ready,
    RecordWindow,
    Release,
    RingOffer,
    Stop,
    WindowClosed,
    WindowSpan,
)
from pipeline.ring import RingReader, StaleGeneration
from pipeline.window.format import CameraFormat, FrameFacts, WindowFacts, WindowLimits
from pipeline.window.recorder import WindowRecorder
from pipeline.worker import Supervised, attach, settle
from vision.faults import FaultsError
from vision.package import load_package
from vision.types import Frame

_SLOW_NS = 2 * NS_PER_S
_LAST_JOIN_S = 0.2
_PARTS_AFTER_S_MAX = 10.0


@dataclass(slots=True)
class _Camera:
    """Where this camera's frames come from: None until its acquisition has offered its ring."""

    link: Link
    reader: RingReader | None = None


class Images:
    """The worker's loop."""

    def __init__(self, supervised: Supervised) -> None:
        config = supervised.line.config.images
        assert config is not None, "images is started only where it is configured"
        self._supervised = supervised
        self._config = config
        self._room = Room(config.memory_mib << 20)
        self._gate = threading.Condition()
        self._writer = ImageWriter(config, supervised.line.config.records.keep_days, self._room, self._gate)
        self.cameras: dict[str, _Camera] = {}
        self._records: Link | None = None
        self._unnamed_told = 0
        """Parts that this records could not tell."""
        self._recorder: WindowRecorder | None = None
        self._span_told: int | None = None
        self._recorded = Counter[str]()
        """Of the windows before this one."""
        self._dropped_told = 0
        self._stop_ns: int | None = None
        self.lost_thread = ""
        """Which of this process's threads has died, of something that nobody foresaw; it ends then."""

    def run(self) -> None:
        self._writer.start()
        while not (self._supervised.orphaned or self._has_ended() or self.lost_thread):
            self._wait()
            for message, descriptors in self._supervised.received():
                if isinstance(message, Connect):
                    self._connect(message, descriptors)
                elif isinstance(message, RecordWindow):
                    self._record(message)
                elif isinstance(message, Stop):
                    self._stop_ns = now_ns() + LAST_WORDS_NS
            with self._gate:
                for camera_id in list(self.cameras):
                    self._take_frames(camera_id)
                self._take_names()
                self._room.expire(now_ns())
                if self._room.named_count:
                    self._gate.notify()
            self._mind_threads()
            self._mind_recording()
            self._tell_faults()
            self._supervised.alive(self._counters())
        self._end()

    def _wait(self) -> None:
        reading = [self._supervised.fileno(), *(camera.link.fileno() for camera in self.cameras.values())]
        if self._records is not None:
            reading.append(self._records.fileno())
        select.select(reading, [], [], seconds_until(self._supervised.next_alive_ns))

    def _has_ended(self) -> bool:
        """After Stop, when all is written that has a name, or the time for it is over."""
        if self._stop_ns is None:
            return False
        with self._gate:
            is_done = self._records is None and not self._room.named_count and not self._writer.has_in_hand
            is_done = is_done and self._recorder is None
        return is_done or now_ns() >= self._stop_ns

    def _mind_threads(self) -> None:
        if self._writer.has_died:
            self.lost_thread = "image-writer"
        elif self._recorder is not None and self._recorder.has_died:
            self.lost_thread = "window-recorder"

    def _end(self) -> None:
        if self._recorder is not None:
            if not self._recorder.is_done:
                self._recorder.abandon()
            self._count_window(self._recorder)
        self._writer.end(_LAST_JOIN_S)
        with self._gate:
            self._room.drop_all()
            self._room.dropped_count += self._writer.has_in_hand
        self._lose_records()
        self._supervised.say_alive(self._counters())

    def _connect(self, message: Connect, descriptors: list[int]) -> None:
        link = Link.from_descriptor(descriptors[0])
        if message.peer == "records":
            # What the last one still said first.
            with self._gate:
                self._take_names()
            self._lose_records()
            self._records, self._unnamed_told = link, 0
        else:
            assert message.camera_id is not None
            self._lose(message.camera_id)
            self.cameras[message.camera_id] = _Camera(link)

    def _lose(self, camera_id: str) -> None:
        camera = self.cameras.pop(camera_id, None)
        if camera is not None:
            camera.link.close()

    def _lose_records(self) -> None:
        if self._records is not None:
            self._records.close()
            self._records = None

    def _take_frames(self, camera_id: str) -> None:
        camera = self.cameras[camera_id]
        try:
            if camera.reader is None and (received := camera.link.receive()) is not None:
                offer, descriptors = received
                assert isinstance(offer, RingOffer)
                camera.reader = RingReader(camera_id, descriptors[0], offer.slot_count, offer.slot_bytes)
            if camera.reader is not None:
                for message in camera.link.drain():
                    assert isinstance(message, ImageTicket)
                    self._take_frame(camera, camera.reader, message)
        except PeerGone:
            self._lose(camera_id)

    def _take_frame(self, camera: _Camera, reader: RingReader, ticket: ImageTicket) -> None:
        try:
            frame = reader.borrow(ticket.slot, ticket.generation)
            pixels = frame.pixels.copy()
            reader.check(ticket.slot, ticket.generation)
        except StaleGeneration as error:
            self._supervised.alarm("ring", "error", str(error), lasts_s=10.0)
            self._room.dropped_count += 1
            return
        if not ticket.window_only:
            key = FrameKey(ticket.camera_id, ticket.source, ticket.trigger_counter)
            self._room.enter(HeldFrame(key, pixels, frame.pixel_format, ticket.unless_passed, now_ns()))
        if self._recorder is not None:
            if ticket.window_frames_lost:
                self._recorder.lose_without_slot(ticket.window_frames_lost)
            self._recorder.frame(_facts(ticket, frame), pixels)
        # There are never more out than this link holds.
        camera.link.send(Release(ticket.slot, ticket.generation))

    def _take_names(self) -> None:
        if self._records is None:
            return
        try:
            for message in self._records.drain():
                if isinstance(message, PartMade):
                    self._room.name(message)
                    if self._recorder is not None:
                        if message.unnamed_count > self._unnamed_told:
                            self._recorder.lose_parts(message.unnamed_count - self._unnamed_told, "unnamed")
                        self._recorder.part(message)
                    self._unnamed_told = message.unnamed_count
                else:
                    assert isinstance(message, LateInspection)
                    if self._recorder is not None:
                        self._recorder.late(message)
        except PeerGone:
            self._lose_records()

    # --- windows -----------------------------------------------------------------------------------------------

    def _record(self, message: RecordWindow) -> None:
        line, session_id = self._supervised.line, self._supervised.configure.session_id
        config = line.config.recording
        if config is None or self._recorder is not None:
            return
        facts = WindowFacts(
            session_id=session_id,
            lineside_version=metadata.version("lineside"),
            line=json.loads(line.to_json()),
            model_sha256=message.model_sha256,
            fingerprint=json.loads(message.fingerprint_json),
            fingerprint_sha256=message.fingerprint_sha256,
            cameras=tuple(
                CameraFormat(camera.camera_id, camera.width_px, camera.height_px, camera.pixel_format)
                for camera in line.config.cameras
            ),
        )
        limits = WindowLimits(message.duration_s, int(config.max_gib * (1 << 30)), int(config.free_min_gib * (1 << 30)))
        moment = datetime.now(timezone.utc)
        self._recorder = WindowRecorder(
            config.path / f"{session_id}-{moment:%Y%m%dT%H%M%SZ}",
            facts,
            limits,
            line.recipe.model,
            line.calibrations,
            settle_ns=(line.config.timing.deadline_us + (line.config.assembly_limit_us or 0)) * NS_PER_US,
            # So long records may be behind, as far as that is waited for.
            parts_after_ns=int(min(line.config.records.acknowledged_within_s, _PARTS_AFTER_S_MAX) * NS_PER_S)
            + NS_PER_S,
            memory_bytes=config.memory_mib << 20,
        )
        self._span_told = None
        self._supervised.clear_alarm("recording-failed")
        text = f"every frame is recorded for {message.duration_s:g} s into {self._recorder.folder}"
        self._supervised.alarm("recording", "warning", text)
        self._recorder.start()

    def _mind_recording(self) -> None:
        recorder = self._recorder
        if recorder is None:
            return
        if self._stop_ns is not None and self._records is None:
            recorder.finish()
        if recorder.until_ns != self._span_told and recorder.until_ns is not None:
            self._span_told = recorder.until_ns
            self._supervised.post(WindowSpan(recorder.until_ns))
        if recorder.is_done:
            self._close_window(recorder)

    def _close_window(self, recorder: WindowRecorder) -> None:
        # Before the alarm goes, at which the next one may be asked for.
        self._supervised.post(WindowClosed())
        self._supervised.clear_alarm("recording")
        self._count_window(recorder)

    def _count_window(self, recorder: WindowRecorder) -> None:
        self._recorded += self._window_counters()
        self._recorder = None
        if recorder.fault:
            self._supervised.alarm("recording-failed", "warning", recorder.fault)

    def _window_counters(self) -> Counter[str]:
        recorder = self._recorder
        if recorder is None:
            return Counter()
        return Counter(
            window_frames=recorder.frame_count,
            window_parts=recorder.part_count,
            window_frames_lost=recorder.lost_count,
            window_parts_lost=recorder.parts_lost_count,
        )

    def _tell_faults(self) -> None:
        fault, busy_since_ns = self._writer.fault, self._writer.busy_since_ns
        if not fault and busy_since_ns is not None and now_ns() - busy_since_ns > _SLOW_NS:
            fault = f"images.path {self._config.path}: the disk has not answered for {_SLOW_NS // NS_PER_S} s"
        if fault:
            self._supervised.alarm("images", "warning", fault)
        else:
            self._supervised.clear_alarm("images")
        if self._room.dropped_count > self._dropped_told:
            self._dropped_told = self._room.dropped_count
            text = f"more pictures come than images.memory_mib {self._config.memory_mib} and the disk take, or nobody names them"
            self._supervised.alarm("images-dropped", "warning", text, lasts_s=10.0)

    def _counters(self) -> dict[str, int]:
        return {
            "images_kept": self._writer.kept_count,
            "images_dropped": self._room.dropped_count,
            "images_pruned": self._writer.pruned_count,
            **(self._recorded + self._window_counters()),
        }


def _facts(ticket: ImageTicket, frame: Frame) -> FrameFacts:
    """Of the copy, whose rows lie close together."""
    height_px, row_bytes = len(frame.pixels), prod(frame.pixels.shape[1:])
    return FrameFacts(
        camera_id=ticket.camera_id,
        source=ticket.source,
        trigger_counter=ticket.trigger_counter,
        frame_id=frame.frame_id,
        encoder_count=ticket.encoder_count,
        trigger_ns=ticket.trigger_ns,
        grabbed_ns=ticket.grabbed_ns,
        inferred_ns=ticket.inferred_ns,
        width_px=frame.pixel_format.width_px(row_bytes),
        height_px=height_px,
        stride_bytes=row_bytes,
        pixel_format=frame.pixel_format,
    )


def main() -> None:
    """Run this worker; started by the supervisor."""
    supervised = attach("images", dies_with_supervisor=True)
    cv2.setNumThreads(1)
    images = Images(supervised)
    if supervised.line.config.recording is not None:
        # What reads a model takes a third of a second to import: not while a window begins and parts go by.
        with contextlib.suppress(FaultsError):
            load_package(supervised.line.recipe.model)
    settle(supervised)
    supervised.post(Ready())
    images.run()
    if images.lost_thread:
        # Its traceback is in the log. Another process begins anew.
        sys.exit(f"lineside images: its thread {images.lost_thread} died")


if __name__ == "__main__":
    main()
