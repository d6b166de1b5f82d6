"""Notices of triggers as they come off the wire: read, and refused where they must be.

Pure: no sockets, and the caller says when they arrived.
"""

from __future__ import annotations

import msgspec

from pipeline.clock import NS_PER_US
from pipeline.frame_matching import ToldTrigger
from pipeline.payloads import TriggerPayload

NOTICE_BYTES_MAX = 1_024
_decode = msgspec.json.Decoder(TriggerPayload).decode


class BadNotice(ValueError):
    """A notice that is no trigger; the text says why."""


def told_trigger(payload: bytes, *, retain: bool, arrived_ns: int, age_max_us: int) -> ToldTrigger:
    """The trigger that a notice tells of. Its time is late by what the message took. Raises BadNotice."""
    if retain:
        raise BadNotice("retained notices are of parts long gone; publish them with retain off")
    if len(payload) > NOTICE_BYTES_MAX:
        raise BadNotice(f"got {len(payload)} bytes, expected at most {NOTICE_BYTES_MAX}")
    try:
        notice = _decode(payload)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadNotice(f"not a lineside.trigger/1: {error}") from error
    if notice.age_us > age_max_us:
        raise BadNotice(
            f"trigger {notice.trigger_counter} was sent {notice.age_us} us late, expected at most {age_max_us}"
        )
    trigger_ns = arrived_ns - notice.age_us * NS_PER_US
    return ToldTrigger(
        notice.trigger_counter, notice.encoder_count, notice.part_key, notice.age_us, trigger_ns, trigger_ns
    )
