"""A camera whose triggers the line controller tells over MQTT, around the camera that delivers the frames.

The camera's own word on triggers is left aside: each notice is a trigger, and ``frame_matching`` says whose each frame is.
"""

from __future__ import annotations

import contextlib
import select
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from pipeline.assembly import LATE_NS
from pipeline.camera_config import DeviceCamera
from pipeline.cameras.base import Camera, CameraEvent, CameraUnavailable, Fires, Grabbed, NotGrabbed, Triggered
from pipeline.clock import NS_PER_US, now_ns
from pipeline.frame_matching import FrameMatcher, Matched, Missed, Outcome, TakenFrame, ToldTrigger, Unclaimed
from pipeline.line_config import LineConfig
from pipeline.lone_run import LoneRun
from pipeline.ring import Slot
from pipeline.transports.mqtt import MqttConnection, Received, Subscription
from pipeline.trigger_inbox import BadNotice, told_trigger

_NUMBERS_REMEMBERED = 256
_LATE_SHARE = 10
"""So large a part of the deadline, one in ten, may be gone before the notice says that it has begun."""
_LATE_IN_A_ROW = 5
_FRAMES_ALONE = 10


class NoticedCamera:
    """See ``pipeline.cameras.base.Camera``. ``config`` has ``trigger_notices``; ``index`` is its place in the line,
    ``clock`` what tells when triggers come, in ns.

    What ``camera`` reports as trigger_counter is its number of the frame; to match by ``counter`` it has to be the device's own
    count of triggers. ``trigger_counter`` is counted here, over ``close`` and ``open``. A frame that no trigger claims goes back
    to the camera as an empty slot.
    """

    def __init__(
        self,
        camera: Camera,
        config: DeviceCamera,
        line: LineConfig,
        index: int,
        *,
        clock: Callable[[], int] = now_ns,
    ) -> None:
        notices = config.trigger_notices
        assert notices is not None
        self._camera = camera
        self._clock = clock
        self._fires: Fires | None = None
        if config.trigger == "software":
            assert isinstance(camera, Fires), f"a camera of kind {type(camera).__name__} can be fired"
            self._fires = camera
        self._name = f"camera {config.camera_id}"
        self._mqtt_config = line.mqtt
        self._client_id = f"{line.mqtt.client_id}-t{index}"
        self._topic = notices.topic_of(line.topic_root, config.camera_id)
        self._age_max_us = notices.age_max_us
        # Those that wait for a trigger leave the camera half of its slots.
        frames_max = max(1, config.ring_slots // 2)
        age_max_ns = notices.age_max_us * NS_PER_US
        is_fired = self._fires is not None
        pitch_ns = notices.pitch_us * NS_PER_US
        late_max_ns = line.timing.deadline_us * NS_PER_US // _LATE_SHARE
        self._late_max_ns = min(late_max_ns, LATE_NS) if line.is_along_the_belt else late_max_ns
        self._matcher = FrameMatcher(
            pitch_ns, notices.match, age_max_ns, frames_max, lag_max_ns=self._late_max_ns, is_fired=is_fired
        )
        self._encoder_bits = None if line.encoder is None else line.encoder.bits
        self._has_others = len(line.cameras) > 1
        self._keys_join = line.keys_join
        self._last_part_key: int | None = None
        self._mqtt: MqttConnection | None = None
        self._waker: select.epoll | None = None
        self._watched: set[int] = set()
        self._arrived: deque[tuple[Received, int]] = deque()
        self._trigger_counter = 0
        self._counter_of: dict[ToldTrigger, int] = {}
        self._own_ns: OrderedDict[int, int] = OrderedDict()
        """By the camera's number, when it says that it was triggered."""
        self._event_of: dict[TakenFrame, Grabbed | NotGrabbed] = {}
        self._lost: CameraUnavailable | None = None
        self._late_in_a_row = 0
        self._late_text = ""
        self._triggers_alone, self._frames_alone = LoneRun(), LoneRun()
        self.refusal = ""
        """What was wrong with the notice that was refused last; for whoever tells it to take away."""
        self.counters = {"notices_refused": 0, "notices_doubled": 0, "frames_unclaimed": 0}

    def not_ready(self) -> tuple[str, bool]:
        """Why its parts cannot be judged, empty where they can; and whether that is no more than a measurement under way."""
        if self._mqtt is None or not self._mqtt.connected:
            error = self._mqtt.last_error if self._mqtt is not None else ""
            return f"{self._name}: no notices of triggers, {self._broker_text(error or 'connecting')}", not error
        if not self._matcher.is_measured:
            trouble = self._alone_text() or self._matcher.trouble()
            is_under_way = not (trouble or self._matcher.steps_lost)
            return f"{self._name}: {self._matcher.words()}{f'; {trouble}' if trouble else ''}", is_under_way
        return "", False

    def trouble(self) -> str:
        """What is to be mended; empty where nothing is."""
        if self._mqtt is not None and not self._mqtt.connected and self._mqtt.last_error:
            return f"{self._name}: no notices of triggers, {self._broker_text(self._mqtt.last_error)}; trying again"
        if self._matcher.steps_lost:
            return (
                f"{self._name}: triggers and frames do not fit each other any more: one side has counted anew, or has seen an "
                f"edge that the other has not, or messages are late; {self._matcher.words()}"
            )
        if not self._matcher.is_measured:
            trouble = self._alone_text() or self._matcher.trouble()
            return trouble and f"{self._name}: {trouble}; measuring on"
        if self._late_in_a_row >= _LATE_IN_A_ROW:
            return (
                f"{self._name}: {self._late_text}, as did {self._late_in_a_row - 1} before it; permitted are "
                f"{self._late_max_ns // NS_PER_US} us, then parts are MISSED_FRAME; age_us has to say how old they are"
            )
        alone = self._alone_text()
        return alone and f"{self._name}: {alone}"

    def _alone_text(self) -> str:
        """What comes without what should come with it."""
        if count := self._triggers_alone.odd_count:
            return f"{count} triggers in a row had no frame; does the signal reach the camera, and does it wait for it?"
        unclaimed = self._matcher.frames_alone
        if count := max(self._frames_alone.odd_count, unclaimed if unclaimed >= _FRAMES_ALONE else 0):
            return (
                f"{count} frames in a row were of no trigger that was told; does the controller publish to {self._topic}, with a "
                "counter that goes on, and may this box read it?"
            )
        return ""

    def open(self) -> None:
        self._camera.open()
        self._lost = None
        self._late_in_a_row = 0
        self._triggers_alone, self._frames_alone = LoneRun(), LoneRun()
        self._matcher.start(self._clock())
        self._waker = select.epoll()
        self._mqtt = MqttConnection(
            self._mqtt_config,
            client_id=self._client_id,
            on_message=lambda message: self._arrived.append((message, self._clock())),
            subscriptions=(Subscription(self._topic, keeps_retain=True),),
        )

    def close(self) -> list[Slot]:
        unfilled = self._camera.close()
        unfilled += [event.slot for event in self._event_of.values() if isinstance(event, Grabbed)]
        self._matcher.drop_all()
        self._event_of.clear()
        self._counter_of.clear()
        self._own_ns.clear()
        self._arrived.clear()
        if self._mqtt is not None:
            self._mqtt.close()
            self._mqtt = None
        if self._waker is not None:
            self._waker.close()
            self._waker = None
            self._watched.clear()
        return unfilled

    def queue(self, slot: Slot) -> None:
        self._camera.queue(slot)

    def fileno(self) -> int | None:
        """One descriptor for the camera's and the broker's."""
        if self._waker is None or self._mqtt is None:
            return None
        reading, own = set(self._mqtt.read_descriptors()), self._camera.fileno()
        if own is not None:
            reading.add(own)
        writing = set(self._mqtt.write_descriptors())
        for descriptor in self._watched - reading - writing:
            with contextlib.suppress(OSError):
                self._waker.unregister(descriptor)
        for descriptor in reading | writing:
            events = select.EPOLLIN * (descriptor in reading) | select.EPOLLOUT * (descriptor in writing)
            # A number says nothing: the kernel forgets a descriptor that is closed, and a new one may have its number.
            try:
                self._waker.modify(descriptor, events)
            except FileNotFoundError:
                self._waker.register(descriptor, events)
        self._watched = reading | writing
        return self._waker.fileno()

    def due_ns(self) -> int | None:
        if self._mqtt is None:
            return None
        dues = (self._mqtt.next_turn_ns(), self._camera.due_ns(), self._matcher.next_due_ns())
        return min(due_ns for due_ns in dues if due_ns is not None)

    def poll(self) -> Sequence[CameraEvent]:
        if self._mqtt is None:
            return ()
        events: list[CameraEvent] = []
        try:
            if self._lost is not None:
                raise self._lost
            self._mqtt.turn()
            while self._arrived:
                events += self._take_notice(*self._arrived.popleft())
            for event in self._camera.poll():
                events += self._take(event)
        except CameraUnavailable as error:
            if not events:
                raise
            # What came before the loss is still true.
            self._lost = error
        events += self._told(self._matcher.tick(self._clock()))
        return events

    def _take_notice(self, message: Received, arrived_ns: int) -> list[CameraEvent]:
        try:
            trigger = told_trigger(
                message.payload, retain=message.retain, arrived_ns=arrived_ns, age_max_us=self._age_max_us
            )
            if self._matcher.is_told_again(trigger):
                self.counters["notices_doubled"] += 1
                return []
            self._expect_of_use(trigger)
        except BadNotice as error:
            self.counters["notices_refused"] += 1
            self.refusal = f"{self._name}: {self.counters['notices_refused']} notices refused, the last one: {error}"
            return []
        has_picture = True
        if self._fires is not None:
            trigger = replace(trigger, at_ns=self._clock())
            has_picture = self._fire(self._fires)
        self._triggers_alone.add(trigger.at_ns)
        self._frames_alone.end()
        self._trigger_counter += 1
        self._counter_of[trigger] = self._trigger_counter
        outcomes = (self._matcher.trigger if has_picture else self._matcher.no_picture)(trigger, arrived_ns)
        triggered = Triggered(self._trigger_counter, trigger.encoder_count, trigger.trigger_ns, trigger.part_key)
        return [triggered, *self._told(outcomes)]

    def _expect_of_use(self, trigger: ToldTrigger) -> None:
        count, bits = trigger.encoder_count, self._encoder_bits
        if count is not None and bits is not None and count >> bits:
            raise BadNotice(
                f"encoder_count: got {count}, expected less than {1 << bits}, as encoder.bits {bits} has it"
            )
        has_count = bits is not None and count is not None
        has_key = self._keys_join and trigger.part_key is not None
        if self._has_others and not (has_count or has_key):
            ways = ("encoder_count" if bits is not None else "", "part_key" if self._keys_join else "")
            needed = " or ".join(filter(None, ways))
            raise BadNotice(f"expected {needed}: nothing else says which views of the other cameras are of its part")
        if self._has_others and not has_count and trigger.part_key == self._last_part_key:
            raise BadNotice(f"part_key: got {trigger.part_key} again, expected another one for each part")
        self._last_part_key = trigger.part_key

    def _fire(self, camera: Fires) -> bool:
        try:
            return camera.fire()
        except CameraUnavailable as error:
            self._lost = error
            return False

    def _take(self, event: CameraEvent) -> list[CameraEvent]:
        number = event.trigger_counter
        if isinstance(event, Triggered):
            self._own_ns[number] = event.trigger_ns
            if len(self._own_ns) > _NUMBERS_REMEMBERED:
                self._own_ns.popitem(last=False)
            return []
        own_ns = self._own_ns.pop(number, None)
        if isinstance(event, Grabbed):
            frame = TakenFrame(number, event.header.exposure_ns)
        elif event.outcome == "MISSED" or own_ns is None:
            # There is no frame; its number is missing in what comes, and that is enough.
            return []
        else:
            frame = TakenFrame(number, own_ns)
        self._event_of[frame] = event
        self._frames_alone.add(frame.exposure_ns)
        self._triggers_alone.end()
        return self._told(self._matcher.frame(frame, self._clock()))

    def _told(self, outcomes: Iterable[Outcome]) -> list[CameraEvent]:
        events: list[CameraEvent] = []
        for outcome in outcomes:
            event = None if isinstance(outcome, Missed) else self._event_of.pop(outcome.frame)
            if isinstance(outcome, Unclaimed):
                self.counters["frames_unclaimed"] += 1
                if isinstance(event, Grabbed):
                    self._camera.queue(event.slot)
                continue
            counter = self._counter_of.pop(outcome.trigger)
            if isinstance(outcome, Matched) and (late_ns := self._late_ns(outcome)) > self._late_max_ns:
                # Its deadline counts from a moment that was told too late to be kept.
                self._late_in_a_row += 1
                text = self._late_text = f"the notice of its trigger came {late_ns // NS_PER_US} us late"
                if isinstance(event, Grabbed):
                    self._camera.queue(event.slot)
                events.append(NotGrabbed(counter, "MISSED", text))
            elif isinstance(outcome, Matched) and event is not None:
                self._late_in_a_row = 0
                events.append(_as_told(event, counter, outcome.trigger))
            else:
                events.append(NotGrabbed(counter, "MISSED", "no frame of the camera was surely this trigger's"))
        return events

    def _late_ns(self, matched: Matched) -> int:
        """How much later than its frame says the trigger was told, at least; nothing is known of one that fired the camera.

        No frame is exposed before its trigger, whatever it has become used to.
        """
        return matched.trigger.at_ns + max(0, self._matcher.delay_ns) - matched.frame.exposure_ns

    def _broker_text(self, error: str) -> str:
        return f"broker {self._mqtt_config.host}:{self._mqtt_config.port}: {error}"


def _as_told(event: Grabbed | NotGrabbed, counter: int, trigger: ToldTrigger) -> Grabbed | NotGrabbed:
    """What the camera said of its frame, as the told trigger's."""
    if isinstance(event, NotGrabbed):
        return replace(event, trigger_counter=counter)
    header = replace(event.header, encoder_count=trigger.encoder_count)
    return replace(event, trigger_counter=counter, trigger_ns=trigger.trigger_ns, header=header)
