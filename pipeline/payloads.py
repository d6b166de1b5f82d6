"""What goes out over MQTT: the shapes of the contract, and their JSON Schemas."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec

from pipeline.messages import ReviewSaid, ServiceState, Severity

VerdictName = Literal["PASS", "REJECT", "NO_DECISION"]
ReasonName = Literal[
    "OK", "DEFECT", "DEADLINE", "MISSED_FRAME", "BAD_FRAME", "OVERRUN", "FAULT", "NOT_RUNNING", "CHALLENGE"
]

VERDICT_BYTES_MAX = 256
AGE_US_MAX = 9_999_999
VALID_US_MIN = -999_999
"""Beyond these a verdict is so late that only its size matters."""
PART_KEY_MAX = 999_999_999
"""A longer one would not fit a verdict. It only has to differ among the parts between camera and gate."""


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """Base of all payloads."""


class VerdictPayload(Payload, frozen=True, kw_only=True):
    """Topic ``verdict``: the reject signal. Never over VERDICT_BYTES_MAX bytes: ``age_us`` stops at AGE_US_MAX,
    ``valid_us`` (negative past the deadline) at VALID_US_MIN.
    """

    schema: Literal["lineside.verdict/1"] = "lineside.verdict/1"
    session_id: str
    seq: int
    part_id: int
    verdict: VerdictName
    reason: ReasonName
    encoder_count: int | None
    reject_at_encoder_count: int | None
    part_key: int | None
    age_us: int
    valid_us: int


class HeartbeatPayload(Payload, frozen=True, kw_only=True):
    """Topic ``heartbeat``: sent by the loop that decides."""

    schema: Literal["lineside.heartbeat/1"] = "lineside.heartbeat/1"
    session_id: str
    count: int
    state: ServiceState
    triggers_seen: int
    last_part_id: int
    open_parts: int


class StatePayload(Payload, frozen=True, kw_only=True):
    """Topic ``state``, retained."""

    schema: Literal["lineside.state/1"] = "lineside.state/1"
    state: ServiceState
    session_id: str
    reason: str
    recipe_id: str
    model_sha256: str | None
    calibration_id: str | None
    version: str


class ViewResult(Payload, frozen=True, kw_only=True):
    """One camera's view of the part. ``part_mark`` is the number read from the judged pixels."""

    camera_id: str
    frame_id: int
    score: float | None
    part_mark: int | None


class DefectResult(Payload, frozen=True, kw_only=True, rename={"class_name": "class"}):
    """``box_px`` is x1, y1, x2, y2 in the frame, undistorted where a geometry is in force; ``box_mm`` and ``area_mm2`` are null
    without one.
    """

    class_name: str
    score: float
    camera_id: str
    box_px: tuple[float, float, float, float]
    box_mm: tuple[float, float, float, float] | None
    area_mm2: float | None


class TraceabilityKeys(Payload, frozen=True, kw_only=True):
    """What a part belongs to, each null where nobody has said it."""

    lot: str | None = None
    order: str | None = None
    serial: str | None = None
    shift: str | None = None


class ResultPayload(Payload, frozen=True, kw_only=True):
    """Topic ``result``: the full record of a part, after it is on disk. ``sent_ns``, ``age_us`` and ``valid_us`` are null
    where the verdict was not handed to the socket. ``context_sha256`` names the record's context: recipe, model, calibration,
    runtime; null where the part was decided before they were known, or its session was killed whole.
    """

    schema: Literal["lineside.result/1"] = "lineside.result/1"
    session_id: str
    seq: int
    part_id: int
    verdict: VerdictName
    reason: ReasonName
    encoder_count: int | None
    reject_at_encoder_count: int | None
    part_key: int | None
    age_us: int | None
    valid_us: int | None
    trigger_utc: str
    trigger_ns: int
    decided_ns: int
    sent_ns: int | None
    deadline_ns: int
    stages_us: dict[str, int]
    recipe_id: str
    recipe_version: str
    model_sha256: str | None
    calibration_id: str | None
    views: list[ViewResult]
    defects: list[DefectResult]
    is_simulated: bool
    is_challenge: bool
    image_ref: str | None
    traceability: TraceabilityKeys = TraceabilityKeys()
    context_sha256: str | None = None
    row_hash: str


class AlarmPayload(Payload, frozen=True, kw_only=True):
    """Topic ``alarm/<code>``, retained while raised; cleared by an empty retained message. ``since`` is RFC 3339."""

    schema: Literal["lineside.alarm/1"] = "lineside.alarm/1"
    code: str
    severity: Severity
    text: str
    since: str
    session_id: str


class StatsPayload(Payload, frozen=True, kw_only=True):
    """Topic ``stats``, every second: totals of the session and of the second just past. ``temperatures_c`` by sensor, as far as the
    platform tells; ``throttled`` is null where it does not. ``traceability`` is what parts triggered now get. ``yield_ratio`` is
    PASS among PASS and REJECT, without challenge parts.
    """

    schema: Literal["lineside.stats/1"] = "lineside.stats/1"
    session_id: str
    parts_triggered: int
    passed: int
    rejected: int
    no_decision: int
    late_verdicts: int
    late_inspections: int
    over_budget: int
    yield_ratio: float | None
    rate_per_min: float
    budget_us: int
    latency_us: dict[str, int]
    reasons: dict[str, int]
    temperatures_c: dict[str, float]
    throttled: bool | None
    traceability: TraceabilityKeys = TraceabilityKeys()


class AnchorPayload(Payload, frozen=True, kw_only=True):
    """Topic ``anchor``, retained, every second: the record's rows so far, over all sessions, and the last one's ``row_hash``; and
    the same of the operators' reviews, which are a chain of their own.
    """

    schema: Literal["lineside.anchor/1"] = "lineside.anchor/1"
    session_id: str
    row_count: int
    head: str
    review_count: int
    review_head: str
    utc: str


class ChallengeKindResult(Payload, frozen=True, kw_only=True):
    """Known parts of one kind: ``judged``, in the order in which they came, is what the verdicts would have been in production;
    ``count`` of them where all came. ``part_count`` parts were shown in turn.
    """

    kind: str
    expected: Literal["PASS", "REJECT"]
    count: int
    part_count: int
    wrong_max: int
    judged: list[VerdictName]


class ChallengePayload(Payload, frozen=True, kw_only=True):
    """Topic ``challenge``, retained: the last challenge. Until it ``is_over`` it has failed, and for good where it is cut off;
    until then ``ended_utc`` is when it was asked for, by the command ``request_id``. ``is_kept``: it holds over restarts.
    """

    schema: Literal["lineside.challenge/1"] = "lineside.challenge/1"
    session_id: str
    request_id: str
    who: str
    is_over: bool
    is_kept: bool
    passed: bool
    text: str
    ended_utc: str
    recipe_id: str
    recipe_version: str
    model_sha256: str
    kinds: list[ChallengeKindResult]


Word = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]

COUNT_MAX = 2**53 - 1
"""What every JSON reader and writer keeps exact."""


class CommandPayload(Payload, frozen=True, kw_only=True):
    """Topic ``cmd/<name>``, to the service. ``session_id`` and ``heartbeat_count`` are those of the last heartbeat that the
    sender saw, ``request_id`` is the sender's own and new for each command, ``who`` is for the books.
    """

    schema: Literal["lineside.command/1"]
    request_id: Word
    session_id: Word
    heartbeat_count: Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]
    who: Word


class RecordWindowPayload(CommandPayload, frozen=True, kw_only=True):
    """Topic ``cmd/record_window``: for so long every frame is recorded, no longer than ``recording.max_s``."""

    duration_s: Annotated[float, msgspec.Meta(gt=0, le=86_400)]


class SetTraceabilityPayload(CommandPayload, frozen=True, kw_only=True):
    """Topic ``cmd/set_traceability``: any of the four, at least one; null clears it, what is not named stays."""

    lot: Word | msgspec.UnsetType | None = msgspec.UNSET
    order: Word | msgspec.UnsetType | None = msgspec.UNSET
    serial: Word | msgspec.UnsetType | None = msgspec.UNSET
    shift: Word | msgspec.UnsetType | None = msgspec.UNSET


class ReviewPayload(CommandPayload, frozen=True, kw_only=True):
    """Topic ``cmd/review``: what a person says of a part. ``part_session_id`` null: of the newest session with such a part."""

    part_id: Annotated[int, msgspec.Meta(ge=1, le=COUNT_MAX)]
    part_session_id: Word | None = None
    said: ReviewSaid
    note: Annotated[str, msgspec.Meta(max_length=500)] = ""


class TriggerPayload(Payload, frozen=True, kw_only=True):
    """Topic ``trigger/<camera_id>``, to the service: a trigger, as the line controller latched it. ``trigger_counter`` rises by one
    with each and goes from 4,294,967,295 to 0. ``age_us``: from the trigger to the sending.
    """

    schema: Literal["lineside.trigger/1"]
    trigger_counter: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
    encoder_count: Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)] | None = None
    part_key: Annotated[int, msgspec.Meta(ge=0, le=PART_KEY_MAX)] | None = None
    age_us: Annotated[int, msgspec.Meta(ge=0, le=COUNT_MAX)]


class CommandReplyPayload(Payload, frozen=True, kw_only=True):
    """Topic ``cmd/<name>/reply``, or the command's response topic (MQTT 5). ``request_id`` is null where it could not be read."""

    schema: Literal["lineside.command_reply/1"] = "lineside.command_reply/1"
    session_id: str
    request_id: str | None
    command: str
    ok: bool
    text: str


PAYLOADS: dict[str, type[Payload]] = {
    "verdict": VerdictPayload,
    "heartbeat": HeartbeatPayload,
    "state": StatePayload,
    "result": ResultPayload,
    "alarm": AlarmPayload,
    "stats": StatsPayload,
    "anchor": AnchorPayload,
    "challenge": ChallengePayload,
    "trigger": TriggerPayload,
    "command": CommandPayload,
    "command_record_window": RecordWindowPayload,
    "command_set_traceability": SetTraceabilityPayload,
    "command_review": ReviewPayload,
    "command_reply": CommandReplyPayload,
}
"""By topic (``alarm`` stands for ``alarm/<code>``, ``trigger`` for ``trigger/<camera_id>``, ``command`` for ``cmd/<name>``
without parameters, ``command_NAME`` for the one of that name, ``command_reply`` for ``cmd/<name>/reply``).
"""

encode = msgspec.json.Encoder().encode


def json_schema(topic: str) -> dict[str, Any]:
    """The JSON Schema of a topic's payload. Of what the service sends every field is always present; unknown ones are to be
    ignored.
    """
    (reference,), components = msgspec.json.schema_components([PAYLOADS[topic]], ref_template="#/$defs/{name}")
    is_sent_to_us = issubclass(PAYLOADS[topic], (CommandPayload, TriggerPayload))
    for component in components.values():
        if not is_sent_to_us and component.get("type") == "object" and "properties" in component:
            component["required"] = list(component["properties"])
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **reference, "$defs": components}
