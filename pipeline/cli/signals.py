"""What a command does when it is told to end."""

from __future__ import annotations

import signal
from typing import NoReturn

_END_SIGNALS = (signal.SIGTERM, signal.SIGHUP)


def end_orderly_when_told() -> None:
    """Leave by way of every ``finally`` at SIGTERM and SIGHUP, as Ctrl-C does: what was started is stopped, not left running.

    A signal that is ignored, as under ``nohup``, stays ignored.
    """
    for number in _END_SIGNALS:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)


def _end(number: int, _frame: object) -> NoReturn:
    for each in _END_SIGNALS:
        # A second one would break off the stopping.
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(128 + number)
