"""What the wire says while parts run: has the service recovered?"""

from __future__ import annotations

import json
from pathlib import Path

STREAK_PARTS = 10
"""So many parts judged in a row, in time, and the service counts as recovered, from the first of them on."""


class WireWatch:
    """Follows the wire tap's log from its present end."""

    def __init__(self, log: Path) -> None:
        self._file = log.open("rb")
        self._rest = b""
        self._streak = 0
        self._streak_from_ns = 0

    def close(self) -> None:
        self._file.close()

    def judged_since(self, moment_ns: int) -> int | None:
        """Arrival of the first of the latest ``STREAK_PARTS`` or more verdicts that were all PASS or REJECT, in time and
        heard after ``moment_ns``; None where there is no such streak yet.
        """
        chunk = self._rest + self._file.read()
        *lines, self._rest = chunk.split(b"\n")
        for line in lines:
            if b'"topic":"verdict"' in line:
                self._take(json.loads(line), moment_ns)
        if self._streak >= STREAK_PARTS and self._streak_from_ns > moment_ns:
            return self._streak_from_ns
        return None

    def _take(self, entry: dict[str, object], moment_ns: int) -> None:
        arrival_ns, verdict = entry["arrival_ns"], entry["payload"]
        assert isinstance(arrival_ns, int)
        assert isinstance(verdict, dict)
        if verdict["verdict"] == "NO_DECISION" or verdict["valid_us"] <= 0:
            self._streak = 0
            return
        if self._streak == 0 or self._streak_from_ns <= moment_ns:
            self._streak, self._streak_from_ns = 0, arrival_ns
        self._streak += 1
