"""The line's cameras: a trigger reaches all at its place; each exposes, reads out and sends, or fails as it is told."""

from __future__ import annotations

import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from pipeline.simulator.belt import Agenda
from pipeline.simulator.camera import CameraOptions, SimulatedCamera
from pipeline.simulator.counting import wrap_count
from pipeline.simulator.images import ImageSet, as_sent, mark_strip
from pipeline.simulator.line_faults import FaultKind, FaultOptions
from pipeline.simulator.picture_code import stamp_code
from pipeline.simulator.process import Book
from pipeline.simulator.protocol import DeviceMessage, MessageKind

_GARBAGE_BYTES_MORE = 4096
"""Behind a torn frame, beyond the bytes that its header still promises."""


@dataclass(frozen=True, slots=True)
class _Exposure:
    """A picture being taken."""

    camera: SimulatedCamera
    part_number: int
    image_index: int
    trigger: DeviceMessage
    connection_number: int | None
    """The driver's that was sent the trigger; None where none was."""
    unplugged_count: int
    faults: dict[FaultKind, FaultOptions]


class LineCameras:
    """All the cameras of a line.

    Attributes:
        frames_under_way: pictures being taken.
    """

    def __init__(
        self,
        options: list[CameraOptions],
        images: ImageSet,
        agenda: Agenda,
        book: Book,
        counts: Counter[str],
        encoder_bits: int,
        latched: Callable[[int], int] = lambda count: count,
    ) -> None:
        """Counts ``triggers_sent``, ``triggers_unobserved`` and ``frames_sent`` in ``counts``. ``latched``: what a camera makes of
        the count.
        """
        self.frames_under_way = 0
        self._cameras = [SimulatedCamera(camera, book) for camera in options]
        self._images = images
        self._agenda = agenda
        self._book = book
        self._counts = counts
        self._encoder_bits = encoder_bits
        self._latched = latched
        self._silent_until_ns = dict.fromkeys((camera.camera_id for camera in options), 0)
        self._plugged_in_ns = dict.fromkeys((camera.camera_id for camera in options), 0)

    @property
    def frames_dropped(self) -> int:
        """Frames that found a camera's queue full."""
        return sum(camera.frames_dropped for camera in self._cameras)

    @property
    def readable(self) -> list[socket.socket]:
        """Sockets to wait on until they can be read."""
        return [each for camera in self._cameras for each in camera.readable]

    @property
    def writable(self) -> list[socket.socket]:
        """Sockets to wait on until they can be written."""
        return [each for camera in self._cameras for each in camera.writable]

    def serve(self) -> None:
        """Lets drivers come and go and sends what waits; returns at once."""
        for camera in self._cameras:
            camera.serve(time.monotonic_ns())

    def close(self, now_ns: int) -> None:
        """Hangs up on every driver."""
        for camera in self._cameras:
            camera.close(now_ns)

    def trigger(
        self,
        part_number: int,
        count: int,
        image_index: int,
        faults: list[FaultOptions],
        place_pulses: int = 0,
        camera_id: str | None = None,
    ) -> None:
        """One trigger, now, to every camera at this place on the belt, or to ``camera_id`` alone."""
        self._counts["triggers_sent"] += 1
        for camera in self._cameras:
            if camera.options.belt_offset_pulses != place_pulses or camera_id not in (None, camera.options.camera_id):
                continue
            self._trigger_one(camera, part_number, self._latched(count), image_index, faults)

    def _trigger_one(
        self, camera: SimulatedCamera, part_number: int, count: int, image_index: int, faults: list[FaultOptions]
    ) -> None:
        camera_id = camera.options.camera_id
        here = {fault.kind: fault for fault in faults if fault.camera_id in (None, camera_id)}
        if "missing_trigger" not in here:
            trigger_ns = time.monotonic_ns()
            if "silent_camera" in here:
                self._silent_until_ns[camera_id] = trigger_ns + here["silent_camera"].time_ns
            if "unplugged_camera" in here:
                self._unplug(camera, trigger_ns, here["unplugged_camera"].time_ns)
            self._trigger(camera, part_number, count, image_index, here, trigger_ns)

    def _trigger(
        self,
        camera: SimulatedCamera,
        part_number: int,
        count: int,
        image_index: int,
        faults: dict[FaultKind, FaultOptions],
        trigger_ns: int,
    ) -> None:
        is_silent = trigger_ns < self._silent_until_ns[camera.options.camera_id]
        is_behind_garbage = camera.is_torn
        camera.trigger_counter += camera.is_plugged_in
        message = DeviceMessage(
            MessageKind.TRIGGER, self._images.geometry.pixel_format, camera.trigger_counter, count, trigger_ns
        )
        is_sent = not is_silent and camera.send(message, (), trigger_ns)
        self._counts["triggers_unobserved"] += not is_sent
        self._book.write(
            "trigger",
            camera_id=camera.options.camera_id,
            part_number=part_number,
            trigger_number=self._counts["triggers_sent"],
            trigger_counter=camera.trigger_counter if camera.is_plugged_in else None,
            encoder_count=count,
            part_count=wrap_count(count - camera.options.belt_offset_pulses, self._encoder_bits),
            trigger_ns=trigger_ns,
            connected=camera.is_connected,
            silent=is_silent,
            sent=is_sent,
            behind_garbage=is_behind_garbage,
        )
        if not camera.is_plugged_in or "lost_frame" in faults:
            return
        # Counted from the moment of emission, as a device would: a late trigger has a late frame.
        frame_ns = trigger_ns + round((camera.options.exposure_us + camera.options.readout_us) * 1e3)
        if "late_frame" in faults:
            frame_ns += faults["late_frame"].time_ns
        self.frames_under_way += 1
        connection_number = camera.connection_number if is_sent else None
        exposure = _Exposure(
            camera, part_number, image_index, message, connection_number, camera.unplugged_count, faults
        )
        self._agenda.at_moment(frame_ns, partial(self._read_out, exposure))

    def _read_out(self, exposure: _Exposure, due_ns: int) -> None:
        self.frames_under_way -= 1
        if exposure.camera.unplugged_count != exposure.unplugged_count:
            return  # it went with the device
        if "missed_frame" in exposure.faults:
            trigger = exposure.trigger
            message = DeviceMessage(
                MessageKind.MISSED,
                trigger.pixel_format,
                trigger.trigger_counter,
                trigger.encoder_count,
                trigger.trigger_ns,
            )
            self._send(exposure, message, (), None)
            return
        message, pixels = self._frame(exposure)
        if "torn_frame" in exposure.faults:
            whole = b"".join(pixels)
            half = whole[: len(whole) // 2]
            chance = random.Random(exposure.part_number)
            garbage = chance.randbytes(len(whole) - len(half) + _GARBAGE_BYTES_MORE)
            self._send(exposure, message, (memoryview(half),), garbage)
            return
        self._send(exposure, message, pixels, None)
        if "doubled_frame" in exposure.faults:
            self._send(exposure, message, pixels, None)

    def _frame(self, exposure: _Exposure) -> tuple[DeviceMessage, tuple[memoryview, ...]]:
        """The header and the pixels that go with it."""
        camera, trigger, faults = exposure.camera, exposure.trigger, exposure.faults
        geometry = self._images.geometry
        camera.frame_counter += 1
        stride = geometry.pixel_format.row_bytes(geometry.frame_width_px)
        picture = self._images.sent[exposure.image_index]
        if "odd_picture" in faults:
            code = faults["odd_picture"].code
            assert code is not None
            coded = stamp_code(self._images.pictures[exposure.image_index], code)
            picture = as_sent(coded, geometry.pixel_format)
        pixels: tuple[memoryview, ...] = (
            picture.reshape(-1).data,
            memoryview(mark_strip(geometry, exposure.part_number)),
        )
        height = geometry.frame_height_px
        rows_sent = height
        if "wrong_size_frame" in faults or "incomplete_frame" in faults:
            rows_sent = geometry.picture_height_px // 2
            pixels = (pixels[0][: rows_sent * stride],)
        message = DeviceMessage(
            MessageKind.FRAME,
            geometry.pixel_format,
            trigger.trigger_counter,
            trigger.encoder_count,
            trigger.trigger_ns,
            exposure_ns=trigger.trigger_ns,
            frame_id=camera.frame_counter,
            width=geometry.frame_width_px,
            height=height if "incomplete_frame" in faults else rows_sent,
            stride=stride,
            payload_bytes=rows_sent * stride,
        )
        return message, pixels

    def _send(
        self, exposure: _Exposure, message: DeviceMessage, pixels: tuple[memoryview, ...], garbage: bytes | None
    ) -> None:
        camera = exposure.camera
        now_ns = time.monotonic_ns()
        # A frame belongs to the driver that saw its trigger: one that connects meanwhile gets none of the old frames.
        is_listening = camera.is_connected and camera.connection_number == exposure.connection_number
        is_silent = now_ns < self._silent_until_ns[camera.options.camera_id]
        is_sent = is_listening and not is_silent and camera.send(message, pixels, now_ns, garbage=garbage)
        self._counts["frames_sent"] += is_sent and message.kind is MessageKind.FRAME
        self._book.write(
            "frame",
            camera_id=camera.options.camera_id,
            part_number=exposure.part_number,
            kind=message.kind.name,
            trigger_counter=message.trigger_counter,
            frame_id=message.frame_id,
            frame_ns=now_ns,
            sent=is_sent,
            dropped=is_listening and not is_silent and not is_sent,
            faults=sorted(exposure.faults),
        )

    def _unplug(self, camera: SimulatedCamera, now_ns: int, for_ns: int) -> None:
        camera.unplug(now_ns)
        camera_id = camera.options.camera_id
        self._plugged_in_ns[camera_id] = max(self._plugged_in_ns[camera_id], now_ns + for_ns)
        self._agenda.at_moment(now_ns + for_ns, partial(self._plug_in, camera))

    def _plug_in(self, camera: SimulatedCamera, due_ns: int) -> None:
        if due_ns >= self._plugged_in_ns[camera.options.camera_id]:
            camera.plug_in(time.monotonic_ns())
