"""Commands that concern the record: carried out once, on disk before they are answered."""

from __future__ import annotations

import msgspec

from pipeline.clock import now_ns, utc_text
from pipeline.messages import Command, GiveReview, SetTraceability
from pipeline.payloads import TraceabilityKeys
from pipeline.record.faults import RecordFault
from pipeline.record.reviews import agreement
from pipeline.record.store import RecordStore
from pipeline.traceability import KeyChange, RecipeKeys


def carry_out(store: RecordStore, command: Command) -> tuple[bool, str]:
    """Whether it is done, and in words. Told again, as it may be to a successor, it is not done again. Where the record cannot
    be written nothing has changed.
    """
    request = f"{command.session_id} {command.request_id}"
    parameters = command.parameters
    try:
        if isinstance(parameters, SetTraceability):
            done = _set_traceability(store, parameters, command.who, request)
        else:
            assert isinstance(parameters, GiveReview), f"cmd/{command.name} is not for records"
            done = _review(store, parameters, command.who, request)
    except RecordFault as error:
        return False, f"{error}; nothing was changed"
    if done[0]:
        try:
            store.sync()
        except RecordFault as error:
            return True, f"{done[1]}; not safe from a power cut yet: {error}"
    return done


def _set_traceability(store: RecordStore, parameters: SetTraceability, who: str, request: str) -> tuple[bool, str]:
    schedule = store.schedule
    if not schedule.has(request):
        keys = msgspec.structs.replace(schedule.now, **parameters.keys)
        recipe = schedule.recipe or RecipeKeys("", TraceabilityKeys())
        # Taken here: whatever is on record by now was triggered before.
        moment_ns = now_ns()
        store.change_keys(KeyChange(moment_ns, schedule.boot_id, utc_text(moment_ns), who, request, keys, recipe))
    return True, f"parts triggered from now on: {keys_text(store.schedule.now)}"


def _review(store: RecordStore, parameters: GiveReview, who: str, request: str) -> tuple[bool, str]:
    found = store.add_review(parameters, who, request)
    if found is None:
        session = parameters.part_session_id
        within = "" if session is None else f" of session {session!r}"
        return False, f"part_id: got {parameters.part_id}, no part{within} on record has that number"
    number, review = found
    said = f"part {review.part_id} of session {review.session_id} was {review.verdict}, {who} says {review.said}"
    return True, f"review {number} is on record: {said}: {agreement(review)}"


def keys_text(keys: TraceabilityKeys) -> str:
    """In words."""
    told = msgspec.structs.asdict(keys)
    return ", ".join(f"{key} {value if value is not None else '-'}" for key, value in told.items())
