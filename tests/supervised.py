"""What a worker is to the classes it consists of: its configuration, and somebody who hears its alarms."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.channel import Link, link_pair
from pipeline.config import load_line
from pipeline.messages import Alarm, Configure, Halt
from pipeline.worker import Supervised
from tests.service import write_line


class Heard:
    """The supervisor's end."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def alarms(self) -> dict[str, str | None]:
        """Since it was asked last, the newest text by code; None where one was taken back."""
        alarms = [message for message in self._link.drain() if isinstance(message, Alarm)]
        return {alarm.code: alarm.text if alarm.raised else None for alarm in alarms}


@contextlib.contextmanager
def supervised_at(
    folder: Path, *, session_id: str = "s", halt: Halt | None = None, has_lock: bool = True, **changes: object
) -> Iterator[tuple[Supervised, Heard]]:
    """Records on a line in this folder; ``changes`` as for ``write_line``."""
    theirs, ours = (Link(end) for end in link_pair())
    line = load_line(write_line(folder, 1, **changes))
    configure = Configure("records", 1, session_id, "", None, 0, halt or Halt(), has_lock)
    try:
        yield Supervised(theirs, configure, line), Heard(ours)
    finally:
        for link in (theirs, ours):
            link.close()
