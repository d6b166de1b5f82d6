"""The alarms that stand, and which of them the broker has not heard of. Pure."""

from __future__ import annotations

from collections.abc import Callable

from pipeline.clock import utc_text
from pipeline.messages import Alarm
from pipeline.payloads import AlarmPayload, encode


class StandingAlarms:
    """By code. Each is told once, and all of them again on a new connection."""

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._standing: dict[str, AlarmPayload] = {}
        self._untold: set[str] = set()
        """Codes of which the broker has not heard how they stand, as it was away or took no more."""

    def take(self, alarm: Alarm, now_ns: int) -> None:
        """One was raised, or taken back; with another text it stands since it was raised first."""
        known = self._standing.get(alarm.code)
        if not alarm.raised:
            if known is not None:
                del self._standing[alarm.code]
                self._untold.add(alarm.code)
            return
        self._standing[alarm.code] = AlarmPayload(
            code=alarm.code,
            severity=alarm.severity,
            text=alarm.text,
            since=known.since if known is not None else utc_text(now_ns),
            session_id=self._session_id,
        )
        self._untold.add(alarm.code)

    def found_retained(self, code: str) -> None:
        """The broker keeps this one; of an earlier run, where it does not stand, and nobody took it back."""
        if code not in self._standing:
            self._untold.add(code)

    def tell_again(self) -> None:
        """All of them: the broker may have forgotten."""
        self._untold |= self._standing.keys()

    def tell(self, send: Callable[[str, bytes], bool]) -> None:
        """``send`` hands over a code's payload, empty where it stands no more, or says that it could not: then later."""
        for code in sorted(self._untold):
            alarm = self._standing.get(code)
            if not send(code, encode(alarm) if alarm is not None else b""):
                return
            self._untold.remove(code)
