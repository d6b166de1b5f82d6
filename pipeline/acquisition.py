"""The acquisition worker: one camera, its ring of slots, its triggers.

Owns the ring and lends slots to inspection, and those that inspection finds worth keeping to images, as far as its credit
goes; tells signalling of every trigger and of what became of its frame. A trigger is in the
camera's journal before anything else, so that it becomes a part even if this process and signalling die now.
"""

from __future__ import annotations

import select
from collections import OrderedDict, deque

from pipeline.camera_config import DeviceCamera
from pipeline.cameras import make_camera
from pipeline.cameras.base import Camera, CameraEvent, CameraUnavailable, Grabbed, StillConnecting, Triggered
from pipeline.channel import Link, PeerGone
from pipeline.clock import NS_PER_MS, NS_PER_S, now_ns, seconds_until
from pipeline.encoder import wrap
from pipeline.journal import Journal
from pipeline.machine import slot_bytes
from pipeline.messages import (
    CameraState,
    Connect,
    FrameStatus,
    FrameTicket,
    HandOn,
    ImageTicket,
    Ready,
    Reaped,
    Release,
    RingOffer,
    Stop,
    Stopped,
    Trigger,
)
from pipeline.noticed_camera import NoticedCamera
from pipeline.ring import Ring, StaleGeneration
from pipeline.rules import Timing
from pipeline.worker import Supervised, attach, map_ledger, refuse, settle

_TRIGGERS_AWAITED = 4_096
_RETRY_FIRST_NS = 50 * NS_PER_MS
_RETRY_MAX_NS = 1 * NS_PER_S
_TROUBLE_TOLD_NS = 1 * NS_PER_S
"""Between alarms, as their figures may change with each trigger."""


class Acquisition:
    """The worker's loop. One camera's death or absence is this process's alone."""

    def __init__(self, supervised: Supervised, camera: Camera, ring: Ring, journal: Journal, camera_id: str) -> None:
        self._supervised = supervised
        self._camera = camera
        self._noticed = camera if isinstance(camera, NoticedCamera) else None
        self._tell_trouble_ns = 0
        self._tell_refusal_ns = 0
        self._ring = ring
        self._journal = journal
        self._camera_id = camera_id
        self._source = supervised.configure.incarnation
        self._inspection: Link | None = None
        self._reader = ("inspection", 0)
        self._lent: dict[int, FrameTicket] = {}
        """By slot, what inspection was told of the frames that it holds."""
        self._images: Link | None = None
        self._keeper = ("images", 0)
        self._credit = supervised.line.config.image_slots
        self._window_frames_lost = 0
        """Since the last ticket to images."""
        """So many slots images may hold; the ring has them beside the camera's own."""
        self._signalling: Link | None = None
        self._trigger_counter = journal.last()
        """Goes on where the predecessor was killed."""
        self._number_of: OrderedDict[int, int] = OrderedDict()
        """Ours for the device's trigger_counter, which starts again when the device does."""
        self._unsent: deque[Trigger | FrameStatus | CameraState] = deque()
        encoder = supervised.line.config.encoder
        self._encoder_bits = None if encoder is None else encoder.bits
        timing = Timing.of(supervised.line.config)
        self._patience_ns = (timing.deadline_ns - timing.guard_ns) // 2
        self._overdue: dict[int, tuple[int, int]] = {}
        """slot: (when signalling is told that its frame was grabbed, trigger_counter), oldest first."""
        self._is_open = False
        self._next_open_ns = 0
        self._retry_ns = _RETRY_FIRST_NS
        self._stopping = False
        self.counters = {
            "triggers": 0,
            "frames_grabbed": 0,
            "frames_refused": 0,
            "frames_bad": 0,
            "frames_missed": 0,
            "frames_without_trigger": 0,
            "triggers_lost": 0,
            "images_dropped": 0,
            "window_frames_lost": 0,
        }
        self._state: CameraState | None = None
        """As told last."""
        self._told_stopped = False

    def run(self) -> None:
        self._supervised.post(Ready())
        while not self._supervised.orphaned:
            self._wait()
            self.turn()
        self._camera.close()

    def turn(self) -> None:
        """Do what there is to do now; waits for nothing."""
        for message, descriptors in self._supervised.received():
            if isinstance(message, Connect):
                self._connect(message, descriptors)
            elif isinstance(message, Reaped):
                self._reclaim(message)
            elif isinstance(message, Stop):
                self._stop()
        self._take_releases()
        self._tell_overdue()
        if not self._stopping and not self._supervised.orphaned:
            self._open_if_due()
            self._poll_camera()
            self._tell_of_notices()
        self._send_notices()
        self._supervised.alive(self.counters)

    def _wait(self) -> None:
        reading: list[int] = [self._supervised.fileno()]
        writing: list[int] = []
        if self._inspection is not None:
            reading.append(self._inspection.fileno())
        if self._images is not None:
            reading.append(self._images.fileno())
        if self._signalling is not None:
            reading.append(self._signalling.fileno())
            if self._unsent:
                writing.append(self._signalling.fileno())
        wake_ns = self._supervised.next_alive_ns
        if self._overdue:
            wake_ns = min(wake_ns, next(iter(self._overdue.values()))[0])
        if not self._stopping:
            if not self._is_open:
                wake_ns = min(wake_ns, self._next_open_ns)
            else:
                descriptor, due_ns = self._camera.fileno(), self._camera.due_ns()
                if descriptor is not None:
                    reading.append(descriptor)
                if due_ns is not None:
                    wake_ns = min(wake_ns, due_ns)
        select.select(reading, writing, [], seconds_until(wake_ns))

    def _connect(self, message: Connect, descriptors: list[int]) -> None:
        link = Link.from_descriptor(descriptors[0])
        offer = RingOffer(self._camera_id, self._source, self._ring.slot_count, self._ring.slot_bytes)
        if message.peer == "inspection":
            self._leave_inspection()
            self._inspection = link
            self._reader = ("inspection", message.incarnation)
            self._to_inspection(offer, (self._ring.descriptor,))
        elif message.peer == "images":
            self._leave_images()
            self._images = link
            self._keeper = ("images", message.incarnation)
            self._to_images(offer, (self._ring.descriptor,))
        else:
            self._lose_signalling()
            self._signalling = link
            # The first word on a link: signalling then looks into the journal for what was read before.
            if self._state is not None:
                self._unsent.append(self._state)

    def _leave_inspection(self) -> None:
        """Its slots stay lent until the supervisor has reaped it."""
        if self._inspection is not None:
            self._inspection.close()
            self._inspection = None

    def _leave_images(self) -> None:
        """As with inspection."""
        if self._images is not None:
            self._images.close()
            self._images = None

    def _reclaim(self, reaped: Reaped) -> None:
        reader = (reaped.role, reaped.incarnation)
        if reader == self._reader:
            self._leave_inspection()
            # What it died over is worth a look.
            for slot in self._ring.held(reader):
                self._hand_on(HandOn(slot, self._lent[slot].generation, unless_passed=True))
        elif reader == self._keeper:
            self._leave_images()
        self._ring.reclaim(reader)

    def _to_inspection(self, message: RingOffer | FrameTicket, descriptors: tuple[int, ...] = ()) -> bool:
        if self._inspection is None:
            return False
        try:
            return self._inspection.send(message, descriptors)
        except PeerGone:
            self._leave_inspection()
            return False

    def _to_images(self, message: RingOffer | ImageTicket, descriptors: tuple[int, ...] = ()) -> bool:
        if self._images is None:
            return False
        try:
            return self._images.send(message, descriptors)
        except PeerGone:
            self._leave_images()
            return False

    def _hand_on(self, message: HandOn) -> None:
        """From inspection to images, or the slot is free. Raises StaleGeneration where inspection does not hold it."""
        slot, generation = message.slot, message.generation
        self._ring.hand_on(slot, generation, reader=self._reader, to=self._keeper)
        lent = self._lent[slot]
        ticket = ImageTicket(
            self._camera_id,
            self._source,
            slot,
            generation,
            lent.trigger_counter,
            message.unless_passed,
            message.window_only,
            lent.encoder_count,
            lent.trigger_ns,
            lent.grabbed_ns,
            message.inferred_ns,
            self._window_frames_lost,
        )
        if len(self._ring.held(self._keeper)) <= self._credit and self._to_images(ticket):
            self._window_frames_lost = 0
            return
        self._ring.release(slot, generation, reader=self._keeper)
        if self._credit > 0:
            self.counters["images_dropped"] += not message.window_only
            self.counters["window_frames_lost"] += message.is_recorded
            self._window_frames_lost += message.is_recorded

    def _take_releases(self) -> None:
        if self._inspection is not None:
            try:
                for message in self._inspection.drain():
                    assert isinstance(message, Release | HandOn)
                    try:
                        if isinstance(message, HandOn):
                            self._hand_on(message)
                        else:
                            self._ring.release(message.slot, message.generation, reader=self._reader)
                        self._overdue.pop(message.slot, None)
                    except StaleGeneration as error:
                        self._supervised.alarm("ring", "error", f"camera {self._camera_id}: {error}")
            except PeerGone:
                self._leave_inspection()
        if self._images is not None:
            try:
                for message in self._images.drain():
                    assert isinstance(message, Release)
                    try:
                        self._ring.release(message.slot, message.generation, reader=self._keeper)
                    except StaleGeneration as error:
                        self._supervised.alarm("ring", "error", f"camera {self._camera_id}: {error}")
            except PeerGone:
                self._leave_images()
        if self._signalling is not None:
            try:
                for _ in self._signalling.drain():
                    pass
            except PeerGone:
                self._lose_signalling()

    def _open_if_due(self) -> None:
        if self._is_open or now_ns() < self._next_open_ns:
            return
        try:
            self._camera.open()
        except CameraUnavailable as error:
            text = str(error)
            if isinstance(error, StillConnecting) and self._state is not None:
                text = self._state.text  # why it was lost says more
            self._camera_gone(text)
            self._retry_ns = min(2 * self._retry_ns, _RETRY_MAX_NS)
            return
        self._is_open = True
        self._retry_ns = _RETRY_FIRST_NS
        if self._noticed is None:
            self._tell_camera_state(CameraState(self._camera_id, True, "connected"))
        self._supervised.clear_alarm(f"camera-{self._camera_id}")

    def _camera_gone(self, text: str) -> None:
        self._is_open = False
        self._number_of.clear()
        for slot in self._camera.close():
            self._ring.take_back(slot)
        self._next_open_ns = now_ns() + self._retry_ns
        self._supervised.clear_alarm(f"triggers-{self._camera_id}")
        self._tell_camera_state(CameraState(self._camera_id, False, text))
        self._supervised.alarm(f"camera-{self._camera_id}", "error", text)

    def _tell_camera_state(self, state: CameraState) -> None:
        if state != self._state:
            self._state = state
            if self._signalling is not None:
                self._unsent.append(state)

    def _tell_of_notices(self) -> None:
        """Whether it is known whose the frames are, where the camera does not say so itself."""
        noticed = self._noticed
        if noticed is None or not self._is_open:
            return
        text, is_measuring = noticed.not_ready()
        self._tell_camera_state(CameraState(self._camera_id, not text, text or "connected", is_measuring))
        self.counters.update(noticed.counters)
        now = now_ns()
        if not (trouble := noticed.trouble()):
            self._supervised.clear_alarm(f"triggers-{self._camera_id}")
        elif now >= self._tell_trouble_ns:
            self._tell_trouble_ns = now + _TROUBLE_TOLD_NS
            self._supervised.alarm(f"triggers-{self._camera_id}", "error", trouble)
        if noticed.refusal and now >= self._tell_refusal_ns:
            self._tell_refusal_ns = now + _TROUBLE_TOLD_NS
            self._supervised.alarm(f"notices-{self._camera_id}", "warning", noticed.refusal, lasts_s=10.0)
            noticed.refusal = ""

    def _poll_camera(self) -> None:
        if not self._is_open:
            return
        while (slot := self._ring.loan()) is not None:
            self._camera.queue(slot)
        try:
            events = self._camera.poll()
        except CameraUnavailable as error:
            self._camera_gone(str(error))
            return
        for event in events:
            self._handle(event)

    def _handle(self, event: CameraEvent) -> None:
        if isinstance(event, Triggered):
            self._trigger(event)
            return
        counter = self._number_of.pop(event.trigger_counter, None)
        if counter is None:
            # A frame of no trigger that we saw belongs to no part.
            self.counters["frames_without_trigger"] += 1
            if isinstance(event, Grabbed):
                self._ring.take_back(event.slot)
            return
        if isinstance(event, Grabbed):
            self.counters["frames_grabbed"] += 1
            if self._lend(event, counter):
                self._overdue.pop(event.slot.index, None)
                self._overdue[event.slot.index] = (event.trigger_ns + self._patience_ns, counter)
            else:
                self._notice(FrameStatus(self._camera_id, self._source, counter, "GRABBED"))
            return
        self._notice(FrameStatus(self._camera_id, self._source, counter, event.outcome))
        if event.outcome == "REFUSED":
            self.counters["frames_refused"] += 1
        elif event.outcome == "BAD":
            self.counters["frames_bad"] += 1
            self._supervised.alarm(
                f"bad-frame-{self._camera_id}", "warning", f"camera {self._camera_id}: {event.text}", lasts_s=10.0
            )
        else:
            self.counters["frames_missed"] += 1

    def _trigger(self, event: Triggered) -> None:
        if event.trigger_counter in self._number_of:
            return
        counter = self._trigger_counter + 1
        count = self._in_the_controllers_domain(event.encoder_count)
        notice = Trigger(self._camera_id, self._source, counter, count, event.trigger_ns, event.part_key)
        if not self._journal.write(notice):
            self.counters["triggers_lost"] += 1
            text = f"camera {self._camera_id}: {self.counters['triggers_lost']} triggers lost, signalling was away too long"
            self._supervised.alarm(f"triggers-lost-{self._camera_id}", "error", text)
            return
        # There is room again: signalling takes them down.
        self._supervised.clear_alarm(f"triggers-lost-{self._camera_id}")
        self._trigger_counter = counter
        self.counters["triggers"] += 1
        self._number_of[event.trigger_counter] = counter
        if len(self._number_of) > _TRIGGERS_AWAITED:
            self._number_of.popitem(last=False)
        self._notice(notice)

    def _in_the_controllers_domain(self, encoder_count: int | None) -> int | None:
        """A device's own count may be wider than the controller's, or have a sign."""
        if encoder_count is None or self._encoder_bits is None:
            return encoder_count
        return wrap(encoder_count, self._encoder_bits)

    def _tell_overdue(self) -> None:
        """Signalling need only know of a frame whose inspection does not come: why the part's time ran out. Told for every
        frame, it would wake up and take a core just when inspection begins.
        """
        now = now_ns()
        for slot, (due_ns, counter) in list(self._overdue.items()):
            if due_ns > now:
                return
            del self._overdue[slot]
            self._notice(FrameStatus(self._camera_id, self._source, counter, "GRABBED"))

    def _lend(self, event: Grabbed, counter: int) -> bool:
        """Pass the frame on. False without an inspection to take it: the part's time runs out."""
        slot, header = event.slot, event.header
        self._ring.publish(slot, header, reader=self._reader)
        ticket = FrameTicket(
            self._camera_id,
            self._source,
            slot.index,
            slot.generation,
            counter,
            self._in_the_controllers_domain(header.encoder_count),
            event.trigger_ns,
            header.grabbed_ns,
        )
        self._lent[slot.index] = ticket
        if self._to_inspection(ticket):
            return True
        self._hand_on(HandOn(slot.index, slot.generation, unless_passed=True))
        return False

    def _notice(self, notice: Trigger | FrameStatus) -> None:
        if self._signalling is not None:
            self._unsent.append(notice)
            self._send_notices()

    def _send_notices(self) -> None:
        if self._signalling is not None:
            try:
                while self._unsent and self._signalling.send(self._unsent[0]):
                    self._unsent.popleft()
            except PeerGone:
                self._lose_signalling()
        if self._stopping and not self._unsent and not self._told_stopped:
            self._told_stopped = True
            self._supervised.post(Stopped())

    def _lose_signalling(self) -> None:
        if self._signalling is not None:
            self._signalling.close()
            self._signalling = None
        self._unsent.clear()

    def _stop(self) -> None:
        """No more triggers; frames that are out are still returned and notices still sent."""
        self._stopping = True
        if self._is_open:
            for slot in self._camera.close():
                self._ring.take_back(slot)


def main() -> None:
    """Run this worker; started by the supervisor."""
    supervised = attach("acquisition", dies_with_supervisor=True)
    camera_id = supervised.configure.camera_id
    cameras = supervised.line.config.cameras
    config = next(camera for camera in cameras if camera.camera_id == camera_id)
    _, ledger = map_ledger(supervised)
    journal = ledger.journals[cameras.index(config)]
    frame_bytes = slot_bytes(config)
    slot_count = config.ring_slots + supervised.line.config.image_slots
    try:
        ring = Ring(config.camera_id, slot_count, frame_bytes)
    except OSError as error:
        text = f"camera {camera_id}: no memory for {slot_count} slots of {frame_bytes} bytes: {error.strerror}"
        refuse(supervised, text, malformed=False)
    camera = make_camera(config)
    if isinstance(config, DeviceCamera) and config.trigger_notices is not None:
        camera = NoticedCamera(camera, config, supervised.line.config, cameras.index(config))
    acquisition = Acquisition(supervised, camera, ring, journal, config.camera_id)
    settle(supervised)
    acquisition.run()


if __name__ == "__main__":
    main()
