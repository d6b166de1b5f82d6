"""What goes on record of a part."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import msgspec
import pytest

from pipeline.config import Line, load_line
from pipeline.messages import DefectFound, FrameKey, PartRecord, ViewInspected
from pipeline.part_result import part_result
from pipeline.payloads import ResultPayload, TraceabilityKeys
from tests.service import write_line

US = 1_000
VIEW = ViewInspected(
    "cam0", 1, 1, 7, 42, "PASS", "OK", 0.1, (), 10 * US, 11 * US, 12 * US, 13 * US, 14 * US, handed_on=False
)
PART = PartRecord(3, 4, "PASS", "OK", 500, 1_300, 1 * US, 15 * US, 16 * US, 99 * US, 15, 83, (VIEW,), (), 77)


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return load_line(write_line(tmp_path, 1, images={"path": "kept"}))


def result_of(part: PartRecord, line: Line) -> ResultPayload:
    return part_result(
        part,
        line,
        "s",
        model_sha256="m" * 64,
        context_sha256="c" * 64,
        traceability=TraceabilityKeys(lot="L"),
    )


def test_it_says_what_the_part_and_the_line_say(line: Line) -> None:
    result = result_of(PART, line)
    assert (result.session_id, result.part_id, result.seq, result.verdict, result.reason) == ("s", 3, 4, "PASS", "OK")
    assert (result.encoder_count, result.reject_at_encoder_count, result.part_key) == (500, 1_300, 77)
    assert (result.recipe_id, result.recipe_version, result.is_simulated) == ("stub", "1", False)
    assert (result.model_sha256, result.context_sha256) == ("m" * 64, "c" * 64)
    assert result.traceability == TraceabilityKeys(lot="L")
    assert [(view.camera_id, view.frame_id, view.score, view.part_mark) for view in result.views] == [
        ("cam0", 7, 0.1, 42)
    ]
    assert result.row_hash == ""


def test_defects_are_those_of_all_views(line: Line) -> None:
    found = DefectFound("crack", 0.9, (1.0, 2.0, 3.0, 4.0))
    views = tuple(msgspec.structs.replace(VIEW, camera_id=f"cam{n}", defects=(found,) * n) for n in range(3))
    result = result_of(msgspec.structs.replace(PART, verdict="REJECT", reason="DEFECT", views=views), line)
    assert [(defect.camera_id, defect.class_name, defect.score, defect.box_px) for defect in result.defects] == [
        (camera_id, "crack", 0.9, (1.0, 2.0, 3.0, 4.0)) for camera_id in ("cam1", "cam2", "cam2")
    ]


def test_stages_are_those_of_the_view_judged_last_and_none_where_one_is_missing(line: Line) -> None:
    later = msgspec.structs.replace(VIEW, inferred_ns=20 * US, judged_ns=21 * US)
    part = msgspec.structs.replace(PART, views=(later, VIEW), decided_ns=22 * US, sent_ns=23 * US)
    assert result_of(part, line).stages_us == {
        "grab": 9,
        "handover": 1,
        "preprocess": 1,
        "inference": 8,
        "judge": 1,
        "decide": 1,
        "send": 1,
    }
    assert result_of(msgspec.structs.replace(part, views=()), line).stages_us == {}


@pytest.mark.parametrize(
    ("verdict", "reason", "frame_count", "has_pictures"),
    [
        ("REJECT", "DEFECT", 1, True),  # of a signalling that is gone
        ("REJECT", "CHALLENGE", 1, True),
        ("PASS", "OK", 2, False),
        ("NO_DECISION", "DEADLINE", 1, True),
        ("NO_DECISION", "MISSED_FRAME", 1, False),
        ("NO_DECISION", "MISSED_FRAME", 2, True),
        ("NO_DECISION", "OVERRUN", 2, True),
        ("NO_DECISION", "BAD_FRAME", 2, True),
        ("NO_DECISION", "NOT_RUNNING", 2, False),
        ("NO_DECISION", "FAULT", 0, False),
    ],
)
def test_a_part_none_of_whose_views_came_in_time_may_have_pictures(
    line: Line, verdict: str, reason: str, frame_count: int, has_pictures: bool
) -> None:
    frames = tuple(FrameKey(f"cam{camera}", 1, 1) for camera in range(frame_count))
    part = msgspec.structs.replace(PART, verdict=verdict, reason=reason, views=(), frames=frames)
    assert (result_of(part, line).image_ref is not None) == has_pictures


def test_a_pass_has_pictures_where_a_view_was_handed_on_and_the_line_keeps_any(line: Line, tmp_path: Path) -> None:
    view = msgspec.structs.replace(VIEW, handed_on=True)
    part = msgspec.structs.replace(PART, views=(view,), frames=(FrameKey("cam0", 1, 1),))
    result = result_of(part, line)
    assert result.image_ref == f"{result.trigger_utc[:10]}/s/00000003"
    assert result_of(part, load_line(write_line(tmp_path, 1))).image_ref is None


@pytest.mark.parametrize("handed_on", [True, False])
def test_a_challenge_part_has_pictures_where_what_judged_it_kept_any(line: Line, handed_on: bool) -> None:
    """One that would have passed is rejected, and no frame of it is kept for that."""
    view = msgspec.structs.replace(VIEW, handed_on=handed_on)
    frames = (FrameKey("cam0", 1, 1),)
    part = msgspec.structs.replace(PART, verdict="REJECT", reason="CHALLENGE", views=(view,), frames=frames)
    assert (result_of(part, line).image_ref is not None) == handed_on


@pytest.mark.parametrize(
    ("verdict", "reason", "has_pictures"), [("NO_DECISION", "MISSED_FRAME", True), ("PASS", "OK", False)]
)
def test_along_the_belt_a_view_of_what_did_not_pass_was_kept(
    line: Line, verdict: str, reason: str, has_pictures: bool
) -> None:
    """No place knows what another one says."""
    along = along_the_belt(line)
    part = msgspec.structs.replace(PART, verdict=verdict, reason=reason, frames=(FrameKey("cam0", 1, 1),))
    assert (result_of(part, along).image_ref is not None) == has_pictures


def test_along_the_belt_stages_are_those_of_the_last_camera(line: Line) -> None:
    """The first camera's frame was there long before the part's trigger; that its inspection was waited for is part of deciding."""
    upstream = msgspec.structs.replace(VIEW, grabbed_ns=-50 * US, judged_ns=17 * US)
    downstream = msgspec.structs.replace(VIEW, camera_id="cam1")
    part = msgspec.structs.replace(PART, views=(upstream, downstream), decided_ns=18 * US, sent_ns=19 * US)
    stages = result_of(part, along_the_belt(line)).stages_us
    assert stages["grab"] == 9
    assert min(stages.values()) >= 0


def along_the_belt(line: Line) -> Line:
    """With a second camera further down."""
    first = line.config.cameras[0]
    cameras = [first, first.model_copy(update={"camera_id": "cam1", "belt_offset_pulses": 100})]
    return dataclasses.replace(line, config=line.config.model_copy(update={"cameras": cameras}))
