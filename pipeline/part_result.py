"""From a part as signalling tells it to the result that goes on record. Pure."""

from __future__ import annotations

from pipeline.clock import utc_text
from pipeline.config import Line
from pipeline.image_names import image_ref
from pipeline.line_config import LineConfig
from pipeline.messages import PartRecord, ViewInspected
from pipeline.payloads import DefectResult, ResultPayload, TraceabilityKeys, ViewResult
from pipeline.tally import stages_us

_SEEN_ALL_THE_SAME = ("DEADLINE", "FAULT")
"""Reasons of parts that have no inspection, or none in time, but most likely frames."""
_OTHERS_SEEN = ("MISSED_FRAME", "BAD_FRAME", "OVERRUN")
"""Reasons of parts of which one view has no frame that could be judged: another one may have."""


def part_result(
    part: PartRecord,
    line: Line,
    session_id: str,
    *,
    model_sha256: str | None,
    context_sha256: str | None,
    traceability: TraceabilityKeys,
) -> ResultPayload:
    """The part's result on this line, not hashed yet. What it was judged with is None where that is not known."""
    trigger_utc = utc_text(part.trigger_ns)
    return ResultPayload(
        session_id=session_id,
        seq=part.seq,
        part_id=part.part_id,
        verdict=part.verdict,  # type: ignore[arg-type]
        reason=part.reason,  # type: ignore[arg-type]
        encoder_count=part.encoder_count,
        reject_at_encoder_count=part.reject_at_encoder_count,
        part_key=part.part_key,
        age_us=part.age_us,
        valid_us=part.valid_us,
        trigger_utc=trigger_utc,
        trigger_ns=part.trigger_ns,
        decided_ns=part.decided_ns,
        sent_ns=part.sent_ns,
        deadline_ns=part.deadline_ns,
        stages_us=_stages_us(part, line.config),
        recipe_id=line.recipe.recipe_id,
        recipe_version=line.recipe.recipe_version,
        model_sha256=model_sha256,
        calibration_id=line.calibration_id,
        views=[
            ViewResult(camera_id=v.camera_id, frame_id=v.frame_id, score=v.score, part_mark=v.part_mark)
            for v in part.views
        ],
        defects=[
            DefectResult(
                class_name=defect.class_name,
                score=defect.score,
                camera_id=view.camera_id,
                box_px=defect.box_px,
                box_mm=defect.box_mm,
                area_mm2=defect.area_mm2,
            )
            for view in part.views
            for defect in view.defects
        ],
        is_simulated=line.config.is_simulated,
        is_challenge=part.reason == "CHALLENGE",
        image_ref=(
            image_ref(trigger_utc, session_id, part.part_id)
            if line.config.images is not None and _may_have_pictures(part, line.config)
            else None
        ),
        traceability=traceability,
        context_sha256=context_sha256,
        row_hash="",
    )


def _may_have_pictures(part: PartRecord, config: LineConfig) -> bool:
    """Whether any was meant to be kept; how many there are is not known here."""
    if not part.frames:
        return False
    if config.is_along_the_belt and part.views and part.verdict != "PASS":
        # Each of its frames was kept unless it passed, as no place knows what another one says.
        return True
    if part.reason == "CHALLENGE" and len(part.views) == len(config.cameras):
        # Whoever judged it, and kept its frames or let them go, did not know that it would be rejected all the same.
        return any(view.handed_on for view in part.views)
    # Of a part that was decided before signalling's successor told it, nothing is left but that it is a reject.
    is_kept = part.verdict == "REJECT" or any(view.handed_on for view in part.views)
    is_seen = part.reason in _SEEN_ALL_THE_SAME or (part.reason in _OTHERS_SEEN and len(part.frames) > 1)
    return is_kept or is_seen


def _stages_us(part: PartRecord, config: LineConfig) -> dict[str, int]:
    """Of the view that was judged last, of those furthest down the belt; empty where one was missing, since then nothing was
    waited for.
    """
    if len(part.views) < len(config.cameras):
        return {}
    last_pulses = max(camera.belt_offset_pulses for camera in config.cameras)
    last = {camera.camera_id for camera in config.cameras if camera.belt_offset_pulses == last_pulses}
    views = [view for view in part.views if view.camera_id in last] or part.views
    view: ViewInspected = max(views, key=lambda view: view.judged_ns)
    moments = (view.grabbed_ns, view.received_ns, view.preprocessed_ns, view.inferred_ns, view.judged_ns)
    return stages_us(part.trigger_ns, moments, part.decided_ns, part.sent_ns)
