"""What goes over MQTT fits the schemas, and the verdict fits its 256 bytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import jsonschema
import msgspec
import pytest

from pipeline.config_sections import EncoderConfig, TimingConfig
from pipeline.payloads import (
    AGE_US_MAX,
    PART_KEY_MAX,
    PAYLOADS,
    VALID_US_MIN,
    VERDICT_BYTES_MAX,
    AlarmPayload,
    AnchorPayload,
    ChallengeKindResult,
    ChallengePayload,
    CommandPayload,
    CommandReplyPayload,
    DefectResult,
    HeartbeatPayload,
    Payload,
    ReasonName,
    RecordWindowPayload,
    ResultPayload,
    ReviewPayload,
    SetTraceabilityPayload,
    StatePayload,
    StatsPayload,
    TriggerPayload,
    VerdictName,
    VerdictPayload,
    ViewResult,
    encode,
    json_schema,
)
from pipeline.session import new_session_id
from vision.types import Reason, Verdict

VERDICT = VerdictPayload(
    session_id="68f0c1a2b3c4",
    seq=1,
    part_id=2,
    verdict="REJECT",
    reason="DEFECT",
    encoder_count=5,
    reject_at_encoder_count=805,
    part_key=None,
    age_us=9_000,
    valid_us=31_000,
)
RESULT = ResultPayload(
    **{name: getattr(VERDICT, name) for name in VERDICT.__struct_fields__ if name != "schema"},
    trigger_utc="2026-01-01T00:00:00.000001Z",
    trigger_ns=1,
    decided_ns=2,
    sent_ns=3,
    deadline_ns=4,
    stages_us={"grab": 1, "send": 2},
    recipe_id="r",
    recipe_version="1",
    model_sha256="0" * 64,
    calibration_id=None,
    views=[ViewResult(camera_id="cam0", frame_id=1, score=0.5, part_mark=2)],
    defects=[
        DefectResult(
            class_name="crack", score=0.9, camera_id="cam0", box_px=(0.0, 0.0, 4.0, 4.5), box_mm=None, area_mm2=None
        )
    ],
    is_simulated=True,
    is_challenge=False,
    image_ref=None,
    row_hash="f" * 64,
)
SAMPLES: dict[str, Payload] = {
    "verdict": VERDICT,
    "heartbeat": HeartbeatPayload(
        session_id="s", count=1, state="RUNNING", triggers_seen=1, last_part_id=1, open_parts=0
    ),
    "state": StatePayload(
        state="READY",
        session_id="s",
        reason="",
        recipe_id="r",
        model_sha256=None,
        calibration_id=None,
        version="0.1.0",
    ),
    "result": RESULT,
    "alarm": AlarmPayload(code="broker", severity="error", text="gone", since="2026-01-01T00:00:00Z", session_id="s"),
    "stats": StatsPayload(
        session_id="s",
        parts_triggered=2,
        passed=1,
        rejected=1,
        no_decision=0,
        late_verdicts=0,
        late_inspections=0,
        over_budget=0,
        yield_ratio=None,
        rate_per_min=1200.0,
        budget_us=5_000,
        latency_us={"p50": 1},
        reasons={"OK": 1},
        temperatures_c={"x86_pkg_temp-0": 51.0},
        throttled=None,
    ),
    "anchor": AnchorPayload(
        session_id="s", row_count=3, head="f" * 64, review_count=0, review_head="0" * 64, utc="2026-01-01T00:00:00Z"
    ),
    "challenge": ChallengePayload(
        session_id="s",
        request_id="r",
        who="Anna",
        is_over=True,
        is_kept=True,
        passed=False,
        text="1 of 2 parts of kind dent were not rejected",
        ended_utc="2026-01-01T00:00:00Z",
        recipe_id="r",
        recipe_version="1",
        model_sha256="0" * 64,
        kinds=[
            ChallengeKindResult(
                kind="dent", expected="REJECT", count=2, part_count=1, wrong_max=0, judged=["REJECT", "NO_DECISION"]
            )
        ],
    ),
    "trigger": TriggerPayload(
        schema="lineside.trigger/1", trigger_counter=2**32 - 1, encoder_count=5, part_key=7, age_us=1_200
    ),
    "command": CommandPayload(
        schema="lineside.command/1", request_id="r", session_id="s", heartbeat_count=3, who="Anna"
    ),
    "command_record_window": RecordWindowPayload(
        schema="lineside.command/1", request_id="r", session_id="s", heartbeat_count=3, who="Anna", duration_s=2.5
    ),
    "command_set_traceability": SetTraceabilityPayload(
        schema="lineside.command/1",
        request_id="r",
        session_id="s",
        heartbeat_count=3,
        who="Anna",
        lot="L-1",
        shift=None,
    ),
    "command_review": ReviewPayload(
        schema="lineside.command/1",
        request_id="r",
        session_id="s",
        heartbeat_count=3,
        who="Anna",
        part_id=7,
        said="good",
        note="a reflex",
    ),
    "command_reply": CommandReplyPayload(session_id="s", request_id=None, command="halt", ok=False, text="no"),
}


OPTIONAL = ("lot", "order", "serial", "shift", "note", "part_session_id")
"""Of what is sent to the service."""
OPTIONAL_OF_TRIGGERS = ("encoder_count", "part_key")


@pytest.mark.parametrize("topic", PAYLOADS)
def test_samples_fit_the_schema_and_less_or_other_does_not(topic: str) -> None:
    schema = json_schema(topic)
    jsonschema.Draft202012Validator.check_schema(schema)
    fits = jsonschema.Draft202012Validator(schema).is_valid
    sample = json.loads(encode(SAMPLES[topic]))
    assert fits(sample)
    assert fits({**sample, "one_day": "more"})  # readers ignore unknown keys
    is_command = topic in ("command_record_window", "command_set_traceability", "command_review")
    assert sample["schema"] == ("lineside.command/1" if is_command else f"lineside.{topic}/1")
    for key in sample:
        less = {name: value for name, value in sample.items() if name != key}
        optional = OPTIONAL if is_command else OPTIONAL_OF_TRIGGERS if topic == "trigger" else ()
        assert fits(less) == (key in optional), key
        assert not fits({**sample, key: [{}]}), key


@pytest.mark.parametrize("topic", PAYLOADS)
def test_payloads_read_back_equal(topic: str) -> None:
    assert msgspec.json.decode(encode(SAMPLES[topic]), type=PAYLOADS[topic]) == SAMPLES[topic]


def test_a_defect_names_its_class_as_the_contract_does() -> None:
    assert json.loads(encode(RESULT))["defects"][0]["class"] == "crack"


def test_names_are_those_of_vision() -> None:
    assert get_args(VerdictName) == tuple(verdict.value for verdict in Verdict)
    assert get_args(ReasonName) == tuple(reason.value for reason in Reason)


def limit(model: type[Any], field: str) -> int:
    (found,) = (rule.le for rule in model.model_fields[field].metadata if hasattr(rule, "le"))
    return int(found)


LONGEST_DEADLINE_US = limit(TimingConfig, "deadline_us")


@pytest.mark.parametrize(
    ("age_us", "valid_us"),
    [(at_us, LONGEST_DEADLINE_US - at_us) for at_us in (0, 999_999, 5_000_000, 9_999_999)]
    + [(AGE_US_MAX, VALID_US_MIN)],
)
@pytest.mark.parametrize(("part_key", "parts"), [(None, 10**9), (PART_KEY_MAX, 10**7)])
def test_the_longest_verdict_fits(age_us: int, valid_us: int, part_key: int | None, parts: int) -> None:
    """With the widest encoder, the longest deadline, late or not, in a session of so many parts."""
    widest = 2 ** limit(EncoderConfig, "bits") - 1
    verdict = msgspec.structs.replace(
        VERDICT,
        session_id=new_session_id(Path("no record")),
        seq=parts - 1,
        part_id=parts - 1,
        verdict=max(get_args(VerdictName), key=len),
        reason=max(get_args(ReasonName), key=len),
        encoder_count=widest,
        reject_at_encoder_count=widest,
        part_key=part_key,
        age_us=age_us,
        valid_us=valid_us,
    )
    assert len(encode(verdict)) <= VERDICT_BYTES_MAX
