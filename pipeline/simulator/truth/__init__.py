"""What really happened: the line's book, the controller's book and the wire tap's log, joined. Pure, but for reading them.

Nothing here takes the service's or the controller's word for anything that another book can tell.
"""

from pipeline.simulator.truth.books import Record, read_book, stream_book
from pipeline.simulator.truth.join import find_truth
from pipeline.simulator.truth.report import (
    TAP_LAG_NS,
    UNHEARD,
    WATCHDOG_NS,
    ControllerTruth,
    GateTruth,
    LabelTruth,
    LineTruth,
    TriggerTruth,
    Truth,
    Violation,
    ViolationKind,
    WireTruth,
    WireVerdict,
)

__all__ = [
    "TAP_LAG_NS",
    "UNHEARD",
    "WATCHDOG_NS",
    "ControllerTruth",
    "GateTruth",
    "LabelTruth",
    "LineTruth",
    "Record",
    "TriggerTruth",
    "Truth",
    "Violation",
    "ViolationKind",
    "WireTruth",
    "WireVerdict",
    "find_truth",
    "read_book",
    "stream_book",
]
