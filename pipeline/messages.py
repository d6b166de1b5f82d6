"""Everything that travels between the processes of the service: small, flat, typed.

Pixels never do; a ``FrameTicket`` says where they lie. Times are CLOCK_MONOTONIC in nanoseconds.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

SERVICE_STATES = ("PREOPERATIONAL", "READY", "RUNNING", "CHALLENGE", "HALTED", "ERROR", "OFFLINE")
ServiceState: TypeAlias = Literal["PREOPERATIONAL", "READY", "RUNNING", "CHALLENGE", "HALTED", "ERROR", "OFFLINE"]
Role: TypeAlias = Literal["acquisition", "inspection", "signalling", "records", "images"]
UrgentRole: TypeAlias = Literal["acquisition", "inspection", "signalling", "records"]
CommandName: TypeAlias = Literal[
    "halt",
    "resume",
    "confirm_line_clear",
    "start_challenge",
    "abandon_challenge",
    "record_window",
    "set_traceability",
    "review",
]
ReviewSaid: TypeAlias = Literal["good", "defective", "unclear"]
WINDOW_COUNTERS = ("window_frames", "window_parts", "window_frames_lost", "window_parts_lost")
"""Of a run: what is in its recorded windows, and what had no room on its way there (late inspections count as parts)."""
IMAGE_COUNTERS = ("images_kept", "images_dropped", "images_pruned", "images_unnamed")
"""Of a run: frames kept as files; frames that were worth keeping, or might have been, and are not; files that made room; and parts,
or late inspections for a window, of which images was not told.
"""
Severity: TypeAlias = Literal["warning", "error"]
FrameOutcome: TypeAlias = Literal["GRABBED", "REFUSED", "BAD", "MISSED"]


class Message(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Base of all messages; the class name is the tag on the wire."""


# --- acquisition -> signalling ---------------------------------------------------------------------------------


class Trigger(Message, frozen=True):
    """A trigger was observed. ``source`` numbers the acquisition incarnation whose counter this is. ``part_key``: the
    controller's number of the part, never negative, None where it gave none.
    """

    camera_id: str
    source: int
    trigger_counter: int
    encoder_count: int | None
    trigger_ns: int
    part_key: int | None = None


class FrameStatus(Message, frozen=True):
    """What became of a trigger's frame: in memory, refused for want of a free slot, unusable, or never seen."""

    camera_id: str
    source: int
    trigger_counter: int
    outcome: FrameOutcome


class CameraState(Message, frozen=True):
    """``connected``: its triggers and frames can be used; otherwise ``text`` says why not. ``is_measuring``: nothing is wrong, it
    only takes its time.
    """

    camera_id: str
    connected: bool
    text: str
    is_measuring: bool = False


# --- acquisition <-> inspection --------------------------------------------------------------------------------


class RingOffer(Message, frozen=True):
    """Comes with the ring's descriptor; sent once to every new reader."""

    camera_id: str
    source: int
    slot_count: int
    slot_bytes: int


class FrameTicket(Message, frozen=True):
    """Lends a published slot to the reader at the other end of the link."""

    camera_id: str
    source: int
    slot: int
    generation: int
    trigger_counter: int
    encoder_count: int | None
    trigger_ns: int
    grabbed_ns: int


class Release(Message, frozen=True):
    slot: int
    generation: int


class HandOn(Message, frozen=True):
    """In the place of a ``Release``: the frame is worth keeping, so that acquisition may lend the slot to images.
    ``unless_passed``: only where its part does not pass; ``window_only``: not as a picture, but a window is being recorded.
    ``is_recorded``: a window is being recorded. ``inferred_ns``: when the model had run on its batch; None where it did not.
    """

    slot: int
    generation: int
    unless_passed: bool
    window_only: bool = False
    inferred_ns: int | None = None
    is_recorded: bool = False


# --- acquisition <-> images ------------------------------------------------------------------------------------


class ImageTicket(Message, frozen=True):
    """Lends a slot whose frame is worth keeping; images answers with ``Release``, as soon as it has a copy.
    ``window_frames_lost``: so many frames of a window had no slot to wait in since the ticket before.
    """

    camera_id: str
    source: int
    slot: int
    generation: int
    trigger_counter: int
    unless_passed: bool
    window_only: bool
    encoder_count: int | None
    trigger_ns: int
    grabbed_ns: int
    inferred_ns: int | None
    window_frames_lost: int = 0


# --- inspection -> signalling -> records -> images -------------------------------------------------------------


class DefectFound(Message, frozen=True):
    class_name: str
    score: float
    box_px: tuple[float, float, float, float]
    box_mm: tuple[float, float, float, float] | None = None
    area_mm2: float | None = None


class ViewInspected(Message, frozen=True):
    """The judgement on one view, with the moment at which each stage ended. ``handed_on``: its frame is for images to keep."""

    camera_id: str
    source: int
    trigger_counter: int
    frame_id: int
    part_mark: int | None
    verdict: str
    reason: str
    score: float | None
    defects: tuple[DefectFound, ...]
    grabbed_ns: int
    received_ns: int
    preprocessed_ns: int
    inferred_ns: int
    judged_ns: int
    handed_on: bool


class FrameKey(Message, frozen=True):
    """Names one trigger, and so its frame, for the length of a session. ``source`` numbers the acquisition incarnation."""

    camera_id: str
    source: int
    trigger_counter: int


class FrameMeasured(Message, frozen=True):
    """inspection -> records: what of a frame is watched for drift, by signal (``calibration.drift``), as far as it has it."""

    frame: FrameKey
    values: dict[str, float]


class PartRecord(Message, frozen=True):
    """One part's final verdict. ``sent_ns`` is None where it was not handed to the socket; ``frames`` are those of the triggers
    that were known to be the part's when it was decided.
    """

    part_id: int
    seq: int
    verdict: str
    reason: str
    encoder_count: int | None
    reject_at_encoder_count: int | None
    trigger_ns: int
    decided_ns: int
    sent_ns: int | None
    deadline_ns: int
    age_us: int | None
    valid_us: int | None
    views: tuple[ViewInspected, ...]
    frames: tuple[FrameKey, ...]
    part_key: int | None = None


class LateInspection(Message, frozen=True):
    """What an inspection said after the choice; on record, and in a window that is being recorded, nothing more."""

    part_id: int
    arrived_ns: int
    view: ViewInspected


class Recorded(Message, frozen=True):
    """records -> signalling: this many more messages, in the order they came, are on disk."""

    count: int


class RecordHealth(Message, frozen=True):
    """records -> signalling: whether verdicts can be committed now, and why the line is halted as far as is kept beside them.
    ``challenge_boot_ns``: ``ended_boot_ns`` of the outcome of a challenge that was written beside them last, None for none;
    ``challenge_text``: why that failed, empty where it is on disk.
    """

    healthy: bool
    text: str
    halted: str
    challenge_boot_ns: int | None = None
    challenge_text: str = ""


class EndOfParts(Message, frozen=True):
    """signalling -> records: nothing more will come; commit and report."""


class PartMade(Message, frozen=True):
    """records -> images: which part these frames are. ``result_json`` is a ``lineside.result/1`` with an empty ``row_hash``, and
    without its defects where it were too long with them. ``unnamed_count``: so many parts and late inspections could not be
    told before it since the two are connected.
    """

    frames: tuple[FrameKey, ...]
    result_json: bytes
    unnamed_count: int = 0


# --- commands: records -> supervisor -> signalling, and back ---------------------------------------------------


class SetTraceability(Message, frozen=True):
    """What a command says of lot, order, serial and shift: None clears, what is not named stays."""

    keys: dict[str, str | None]


class GiveReview(Message, frozen=True):
    """What a person says of a part. ``part_session_id`` None: of the newest session that has such a part."""

    part_id: int
    part_session_id: str | None
    said: ReviewSaid
    note: str


class StartWindow(Message, frozen=True):
    """For how long every frame is to be recorded."""

    duration_s: float


class Command(Message, frozen=True):
    """An operator's command, well-formed. ``heartbeat_count`` is the last that its sender saw; the answer goes to ``reply_topic``
    with ``correlation``. ``parameters`` are those of the commands that have any.
    """

    name: CommandName
    request_id: str
    session_id: str
    heartbeat_count: int
    who: str
    reply_topic: str
    correlation: bytes | None
    parameters: StartWindow | SetTraceability | GiveReview | None = None


class Admitted(Message, frozen=True):
    """signalling -> supervisor -> records: the command is of this session and was fresh at ``admitted_ns``; it is for records to
    carry out.
    """

    command: Command
    admitted_ns: int


class CommandReply(Message, frozen=True):
    """``name`` is as it was written and ``request_id`` None where the command could not be read."""

    name: str
    request_id: str | None
    ok: bool
    text: str
    reply_topic: str
    correlation: bytes | None


class Halt(Message, frozen=True):
    """signalling -> supervisor, to be kept for its successor: why the line is halted, empty where it is not, from which
    ``seq`` on the line rules count, and whether an operator has resumed in this session, so that what was kept before counts no
    more. supervisor -> records, which keeps the reason for the next start.
    """

    reason: str = ""
    rules_from_seq: int = 1
    resumed: bool = False


class LineClear(Message, frozen=True):
    """signalling -> supervisor: the operator has confirmed that the line is clear."""


class KindOutcome(Message, frozen=True):
    """Of one kind: ``judged``, in the order in which they came, is what the verdicts would have been in production; ``count`` of
    them, where all came. ``part_count`` parts were shown in turn.
    """

    kind: str
    expected: Literal["PASS", "REJECT"]
    count: int
    part_count: int
    wrong_max: int
    judged: tuple[str, ...]

    @property
    def wrong_count(self) -> int:
        return sum(verdict != self.expected for verdict in self.judged)


class ChallengeOutcome(Message, frozen=True):
    """signalling -> supervisor, to be kept for its successor; supervisor -> records, which keeps it for the next start: how the
    last challenge ended, and which product it was for. One that is asked for has failed until it ends, and begins when that is
    on disk. ``request_id``: of the command that asked for it. ``judged_with``: a hash of
    recipe, cameras, calibrations and plan, word for word. ``ended_boot_ns``: since the box's start ``boot_id``, sleep included.
    """

    passed: bool
    text: str
    who: str
    request_id: str
    ended_utc_ns: int
    boot_id: str
    ended_boot_ns: int
    recipe_id: str
    recipe_version: str
    model_sha256: str
    judged_with: str
    kinds: tuple[KindOutcome, ...]


# --- supervisor <-> worker -------------------------------------------------------------------------------------


class Configure(Message, frozen=True):
    """The first message a worker gets; ``camera_id`` is set for acquisition.

    ``line_json`` is the line as the supervisor read it (``Line.to_json``): whoever edits the files meanwhile changes the next run,
    not what a restarted worker does in this one. ``halt`` and ``session_started_ns`` are for signalling: what its predecessor
    held, and where the count of heartbeats goes on. ``halt`` is for records, too, and so is ``has_lock``: whether the supervisor
    holds the record's lock, or leaves it to records to get it.
    """

    role: Role
    incarnation: int
    session_id: str
    line_json: str
    camera_id: str | None
    session_started_ns: int
    halt: Halt
    has_lock: bool
    challenge: ChallengeOutcome | None = None
    """The last one, for signalling and records; None where none is known."""


class Connect(Message, frozen=True):
    """Comes with one end of a fresh link to ``peer``'s incarnation."""

    peer: Role
    incarnation: int
    camera_id: str | None


class LedgerOffer(Message, frozen=True):
    """Comes with the descriptor of the ledger to signalling and acquisition; ``path`` is its file, None where it has no name."""

    path: str | None


class Reaped(Message, frozen=True):
    """That incarnation is dead and waited for: nothing of it can touch memory any more."""

    role: Role
    incarnation: int
    camera_id: str | None


class Permission(Message, frozen=True):
    """supervisor -> signalling: the state that the supervisor allows, and why. ``line_clearance``: what is asked of the
    operator before anything is judged, empty where nothing is.
    """

    state: ServiceState
    reason: str
    line_clearance: str = ""


class Stop(Message, frozen=True):
    """Finish what is in flight, then exit."""


class Stopped(Message, frozen=True):
    """acquisition -> supervisor: the camera is stopped and every notice of it is with signalling."""


class Ready(Message, frozen=True):
    """The worker is warm. ``model_sha256`` and the runtime fingerprint, as JSON and by its hash, come from inspection."""

    model_sha256: str | None = None
    fingerprint_sha256: str | None = None
    fingerprint_json: str | None = None
    text: str = ""


class Alive(Message, frozen=True):
    """The worker's loop turned. ``counters`` are totals since the worker's start."""

    counters: dict[str, int]


class Fatal(Message, frozen=True):
    """The worker cannot run as configured; a restart would not help. ``malformed``: what was written is wrong, rather than
    this machine unable.
    """

    text: str
    malformed: bool


class StateChanged(Message, frozen=True):
    """signalling -> supervisor: the state as published."""

    state: ServiceState
    reason: str


class Alarm(Message, frozen=True):
    """Raised or cleared; any worker -> supervisor -> records -> broker. ``code`` becomes the topic's last level."""

    code: str
    severity: Severity
    text: str
    raised: bool


class ModelInUse(Message, frozen=True):
    """supervisor -> signalling, records: what the results were made with."""

    model_sha256: str
    fingerprint_sha256: str
    fingerprint_json: str


class HandOnAll(Message, frozen=True):
    """supervisor -> inspection: until then every frame is handed on, since a window is being recorded."""

    until_ns: int


class RecordWindow(Message, frozen=True):
    """supervisor -> images: write a window of so many seconds, from now on."""

    duration_s: float
    model_sha256: str
    fingerprint_json: str
    fingerprint_sha256: str


class WindowSpan(Message, frozen=True):
    """images -> supervisor: a window has begun, or its end is another one; frames that come until then are wanted."""

    until_ns: int


class WindowClosed(Message, frozen=True):
    """images -> supervisor: the window is closed, or there is none; another one may begin."""


class Summary(Message, frozen=True):
    """records -> supervisor at the end: the contract's counts and latencies as JSON text. Not ``is_final`` where the disk did not
    take the newest parts yet.
    """

    json_text: str
    is_final: bool


AnyMessage: TypeAlias = (
    Trigger
    | FrameStatus
    | CameraState
    | RingOffer
    | FrameTicket
    | Release
    | HandOn
    | ImageTicket
    | ViewInspected
    | FrameKey
    | FrameMeasured
    | PartRecord
    | LateInspection
    | Recorded
    | RecordHealth
    | EndOfParts
    | PartMade
    | Command
    | Admitted
    | CommandReply
    | Halt
    | ChallengeOutcome
    | LineClear
    | Configure
    | Connect
    | LedgerOffer
    | Reaped
    | Permission
    | Stop
    | Stopped
    | Ready
    | Alive
    | Fatal
    | StateChanged
    | Alarm
    | ModelInUse
    | HandOnAll
    | RecordWindow
    | WindowSpan
    | WindowClosed
    | Summary
)
