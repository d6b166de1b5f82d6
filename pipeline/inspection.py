"""The inspection worker: borrows frames, runs the model once a part and place, tells signalling what it saw.

The views of a part that are taken at one place on the belt are batched, and wait for each other; those of another place come when
the part is there. Parts are not batched, since at line rates the next part is many inference times away. A part whose choice has
been made already is not inspected: after a jam the newest parts get the time, and those furthest down the belt before all others.
"""

from __future__ import annotations

import contextlib
import json
import select
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import nan

from pipeline.calibrated_line import calibration_warnings, open_calibrated
from pipeline.channel import Link, PeerGone
from pipeline.clock import NS_PER_US, now_ns, seconds_until
from pipeline.drift_baseline import baselines_of
from pipeline.drift_signals import DriftSignals
from pipeline.keeping import Keeping, Worth
from pipeline.line_inspector import unverified
from pipeline.messages import (
    Connect,
    FrameKey,
    FrameTicket,
    HandOn,
    HandOnAll,
    Ready,
    Release,
    RingOffer,
    Stop,
    ViewInspected,
)
from pipeline.ring import RingReader, StaleGeneration
from pipeline.rules import Matching, Timing
from pipeline.told_defects import told_defects, told_score
from pipeline.worker import Supervised, attach, refuse, settle
from vision.faults import FaultsError
from vision.inspector import Inspector
from vision.package import PackageUnreadable, load_package
from vision.preprocess import WrongFrame
from vision.runtime import InferenceError, RuntimeProviderError
from vision.types import Inspection, Reason, Verdict


@dataclass(slots=True)
class _Camera:
    """Where this camera's frames come from: None until its acquisition has offered its ring."""

    link: Link
    reader: RingReader | None = None
    unreleased: deque[Release | HandOn] = field(default_factory=deque)
    """Slots that its acquisition has not taken back yet: stopped, it reads nothing."""


@dataclass(slots=True)
class _Group:
    """Tickets of one part at one place on the belt, which wait for each other. ``useful_until_ns``: the latest choice on it."""

    place: int
    since_ns: int
    useful_until_ns: int
    tickets: dict[str, tuple[FrameTicket, int]] = field(default_factory=dict)
    inferred_ns: dict[str, int] = field(default_factory=dict)
    """By camera, when the model had run on these views."""
    scores: dict[str, float] = field(default_factory=dict)
    """By camera, of the frames that were looked at; NaN where one was not judged."""


class InspectionWorker:
    """The worker's loop."""

    def __init__(self, supervised: Supervised, inspector: Inspector, drift: DriftSignals) -> None:
        config = supervised.line.config
        self._supervised = supervised
        self._inspector = inspector
        self._drift = drift
        self._places = {camera.camera_id: camera.belt_offset_pulses for camera in config.cameras}
        self._camera_counts = Counter(self._places.values())
        """By place on the belt."""
        self._last_place = max(self._camera_counts)
        self._timing = Timing.of(config)
        self._matching = Matching.of(config)
        self._keeping = {place: Keeping(config.images) for place in self._camera_counts}
        """By place, so that each keeps the same of the passes."""
        self._view_wait_ns = config.view_wait_us * NS_PER_US
        self._cameras: dict[str, _Camera] = {}
        self._signalling: Link | None = None
        self._unsent: deque[ViewInspected] = deque(maxlen=1_024)
        self._groups: deque[_Group] = deque()
        self._counters = {"inspected": 0, "skipped_late": 0, "faults": 0}
        self._hand_on_all_until_ns = 0
        """While a window is recorded."""
        self._stopping = False

    def run(self) -> None:
        while not (self._stopping or self._supervised.orphaned):
            self._wait()
            for camera_id in list(self._cameras):
                self._take_tickets(camera_id)
            self._inspect_groups()
            self._send()
            self._send_releases()
            for message, descriptors in self._supervised.received():
                if isinstance(message, Connect):
                    self._connect(message, descriptors)
                elif isinstance(message, HandOnAll):
                    self._hand_on_all_until_ns = message.until_ns
                elif isinstance(message, Stop):
                    self._stopping = True
            self._supervised.alive(self._counters)

    def _wait(self) -> None:
        reading = [self._supervised.fileno(), *(camera.link.fileno() for camera in self._cameras.values())]
        writing: list[int] = []
        if self._signalling is not None and self._unsent:
            writing.append(self._signalling.fileno())
        writing += [camera.link.fileno() for camera in self._cameras.values() if camera.unreleased]
        wake_ns = self._supervised.next_alive_ns
        if self._groups:
            wake_ns = min(wake_ns, min(group.since_ns for group in self._groups) + self._view_wait_ns)
        select.select(reading, writing, [], seconds_until(wake_ns))

    def _connect(self, message: Connect, descriptors: list[int]) -> None:
        link = Link.from_descriptor(descriptors[0])
        if message.peer == "signalling":
            if self._signalling is not None:
                self._signalling.close()
            self._signalling = link
            # A successor has closed what these were about.
            self._unsent.clear()
        elif message.peer == "records":
            self._drift.connect(link)
        else:
            assert message.camera_id is not None
            self._lose(message.camera_id)
            self._cameras[message.camera_id] = _Camera(link)

    def _lose(self, camera_id: str) -> None:
        """The camera's process is gone, and its ring with it."""
        camera = self._cameras.pop(camera_id, None)
        if camera is not None:
            camera.link.close()
            for group in self._groups:
                group.tickets.pop(camera_id, None)
            self._groups = deque(group for group in self._groups if group.tickets)

    def _take_tickets(self, camera_id: str) -> None:
        camera = self._cameras[camera_id]
        try:
            if camera.reader is None:
                self._take_ring(camera_id, camera)
            if camera.reader is not None:
                for message in camera.link.drain():
                    assert isinstance(message, FrameTicket)
                    self._group(message, now_ns())
        except PeerGone:
            self._lose(camera_id)

    def _take_ring(self, camera_id: str, camera: _Camera) -> None:
        """The first message from an acquisition, and the only one with a descriptor."""
        received = camera.link.receive()
        if received is not None:
            offer, descriptors = received
            assert isinstance(offer, RingOffer)
            camera.reader = RingReader(camera_id, descriptors[0], offer.slot_count, offer.slot_bytes)

    def _group(self, ticket: FrameTicket, received_ns: int) -> None:
        place = self._places[ticket.camera_id]
        for group in self._groups:
            other, _ = next(iter(group.tickets.values()))
            if (
                group.place == place
                and ticket.camera_id not in group.tickets
                and self._matching.same_part(
                    other.encoder_count, other.trigger_ns, ticket.encoder_count, ticket.trigger_ns
                )
            ):
                group.tickets[ticket.camera_id] = (ticket, received_ns)
                group.useful_until_ns = min(group.useful_until_ns, self._useful_until_ns(ticket))
                return
        tickets = {ticket.camera_id: (ticket, received_ns)}
        self._groups.append(_Group(place, received_ns, self._useful_until_ns(ticket), tickets))

    def _useful_until_ns(self, ticket: FrameTicket) -> int:
        """Until the choice on its part. A part that has not come to the last camera waits for that no longer than its limit."""
        choice_ns = self._timing.choice_ns(ticket.trigger_ns)
        return (
            choice_ns if self._places[ticket.camera_id] == self._last_place else choice_ns + self._matching.assembly_ns
        )

    def _inspect_groups(self) -> None:
        waiting: deque[_Group] = deque()
        if len(self._camera_counts) > 1:
            self._groups = deque(sorted(self._groups, key=lambda group: group.useful_until_ns))
        while self._groups:
            group = self._groups.popleft()
            full = len(group.tickets) == self._camera_counts[group.place]
            if full or now_ns() >= group.since_ns + self._view_wait_ns:
                worth = self._inspect(group)
                # What was seen goes first; that a slot is free again can wait for it, and so can the watch on drift.
                self._send()
                self._measure(group)
                for camera_id, (ticket, _) in group.tickets.items():
                    inferred_ns = group.inferred_ns.get(camera_id)
                    self._cameras[camera_id].unreleased.append(self._done_with(ticket, worth, inferred_ns))
                self._send_releases()
            else:
                waiting.append(group)
        self._groups = waiting

    def _inspect(self, group: _Group) -> Worth:
        """One part: every view that is there, in one batch. What its frames are worth."""
        self._inspector.begin()
        loaded: list[tuple[FrameTicket, int, int, int | None, int]] = []
        for camera_id, (ticket, received_ns) in group.tickets.items():
            reader = self._cameras[camera_id].reader
            assert reader is not None
            if now_ns() >= self._useful_until_ns(ticket):
                self._counters["skipped_late"] += 1
                continue
            try:
                frame = reader.borrow(ticket.slot, ticket.generation)
                self._inspector.load(frame)
                mark = self._inspector.read_mark(frame)
                # The owner never lends a slot again before our release; were it so, what was read is not this part's.
                reader.check(ticket.slot, ticket.generation)
            except WrongFrame as error:
                group.scores[camera_id] = nan
                self._refuse(ticket, received_ns, Reason.BAD_FRAME, str(error))
            except StaleGeneration as error:
                self._refuse(ticket, received_ns, Reason.FAULT, str(error))
            else:
                loaded.append((ticket, received_ns, frame.frame_id, mark, now_ns()))
        if not loaded:
            return self._worth(group, [])
        try:
            self._inspector.infer()
        except InferenceError as error:
            for ticket, received_ns, *_ in loaded:
                self._refuse(ticket, received_ns, Reason.FAULT, str(error))
            return self._worth(group, [])
        inferred_ns = now_ns()
        inspections = [self._inspector.judge(ticket.camera_id) for ticket, *_ in loaded]
        worth = self._worth(group, inspections)
        handed_on = worth is Worth.ALWAYS
        for (ticket, received_ns, frame_id, mark, preprocessed_ns), inspection in zip(loaded, inspections, strict=True):
            if inspection.verdict is Verdict.NO_DECISION:
                self._counters["faults"] += 1
                self._supervised.alarm(
                    "inference", "error", "the model's output is not finite or of the wrong shape", lasts_s=10.0
                )
            self._counters["inspected"] += 1
            times = (received_ns, preprocessed_ns, inferred_ns)
            group.inferred_ns[ticket.camera_id] = inferred_ns
            group.scores[ticket.camera_id] = inspection.score
            self._unsent.append(_view_inspected(ticket, frame_id, mark, inspection, times, handed_on=handed_on))
        return worth

    def _measure(self, group: _Group) -> None:
        """Tell records what is watched for drift of the frames that were looked at."""
        for camera_id, score in group.scores.items():
            reader = self._cameras[camera_id].reader
            if reader is None or not self._drift.wants(camera_id):
                continue
            ticket, _ = group.tickets[camera_id]
            key = FrameKey(camera_id, ticket.source, ticket.trigger_counter)
            # What is no frame has been told already.
            with contextlib.suppress(WrongFrame, StaleGeneration):
                frame = reader.borrow(ticket.slot, ticket.generation)
                self._drift.tell(key, frame.pixels, score, self._inspector.position(camera_id))

    def _worth(self, group: _Group, inspections: Sequence[Inspection]) -> Worth:
        is_whole = len(inspections) == self._camera_counts[group.place]
        left_ns = group.useful_until_ns - now_ns()
        has_others = len(self._camera_counts) > 1
        return self._keeping[group.place].of_part(
            inspections, is_whole=is_whole, left_ns=left_ns, is_seen_elsewhere=has_others
        )

    def _done_with(self, ticket: FrameTicket, worth: Worth, inferred_ns: int | None) -> Release | HandOn:
        is_recorded = now_ns() < self._hand_on_all_until_ns
        if worth is Worth.NOTHING and not is_recorded:
            return Release(ticket.slot, ticket.generation)
        return HandOn(
            ticket.slot,
            ticket.generation,
            unless_passed=worth is Worth.UNLESS_PASSED,
            window_only=worth is Worth.NOTHING,
            inferred_ns=inferred_ns,
            is_recorded=is_recorded,
        )

    def _send_releases(self) -> None:
        for camera in self._cameras.values():
            try:
                while camera.unreleased and camera.link.send(camera.unreleased[0]):
                    camera.unreleased.popleft()
            except PeerGone:
                # Seen again, and dealt with, when tickets are taken next.
                camera.unreleased.clear()

    def _refuse(self, ticket: FrameTicket, received_ns: int, reason: Reason, text: str) -> None:
        self._counters["faults"] += 1
        self._supervised.alarm("inference" if reason is Reason.FAULT else "bad-frame", "error", text, lasts_s=10.0)
        inspection = Inspection(Verdict.NO_DECISION, reason, float("nan"), ())
        now = now_ns()
        handed_on = self._supervised.line.config.images is not None
        self._unsent.append(_view_inspected(ticket, 0, None, inspection, (received_ns, now, now), handed_on=handed_on))

    def _send(self) -> None:
        if self._signalling is None:
            self._unsent.clear()
            return
        try:
            while self._unsent and self._signalling.send(self._unsent[0]):
                self._unsent.popleft()
        except PeerGone:
            self._signalling.close()
            self._signalling = None


def _view_inspected(
    ticket: FrameTicket,
    frame_id: int,
    mark: int | None,
    inspection: Inspection,
    times: tuple[int, int, int],
    *,
    handed_on: bool,
) -> ViewInspected:
    received_ns, preprocessed_ns, inferred_ns = times
    return ViewInspected(
        camera_id=ticket.camera_id,
        source=ticket.source,
        trigger_counter=ticket.trigger_counter,
        frame_id=frame_id,
        part_mark=mark,
        verdict=inspection.verdict.value,
        reason=inspection.reason.value,
        score=told_score(inspection.score),
        defects=told_defects(inspection.defects),
        grabbed_ns=ticket.grabbed_ns,
        received_ns=received_ns,
        preprocessed_ns=preprocessed_ns,
        inferred_ns=inferred_ns,
        judged_ns=now_ns(),
        handed_on=handed_on,
    )


def main() -> None:
    """Run this worker; started by the supervisor."""
    supervised = attach("inspection", dies_with_supervisor=True)
    try:
        line = supervised.line
        package = load_package(line.recipe.model)
        inspector, session = open_calibrated(
            line, package, tell=lambda text: supervised.alarm("engine-build", "warning", text)
        )
        supervised.clear_alarm("engine-build")
        warning = unverified(line, package, session)
        uncalibrated = calibration_warnings(line)
        drift = DriftSignals(line.config, baselines_of(line))
    except FaultsError as error:
        refuse(supervised, str(error), malformed=not isinstance(error, PackageUnreadable))
    except (RuntimeProviderError, InferenceError) as error:
        refuse(supervised, str(error), malformed=False)
    if warning and line.config.runtime.on_unverified == "refuse":
        refuse(supervised, warning, malformed=False)
    worker = InspectionWorker(supervised, inspector, drift)
    settle(supervised)
    if warning:
        supervised.alarm("runtime-unverified", "warning", warning)
    if session.passed_over:
        text = f"the model runs on {session.provider_words}; not {'; not '.join(session.passed_over)}"
        supervised.alarm("provider-passed-over", "warning", text)
    if uncalibrated:
        supervised.alarm("calibration", "warning", "; ".join(uncalibrated))
    supervised.post(
        Ready(
            model_sha256=str(session.fingerprint["model_sha256"]),
            fingerprint_sha256=session.fingerprint_sha256,
            text=f"{session.provider_words}, {session.batch_rows} rows",
            fingerprint_json=json.dumps(session.fingerprint, sort_keys=True),
        )
    )
    worker.run()


if __name__ == "__main__":
    main()
