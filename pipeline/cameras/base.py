"""What acquisition asks of a camera.

The camera owns no memory: it is given empty slots and fills them in the order given. Kinds with a thread or a driver of
their own signal through ``fileno``; kinds that only follow the clock say when through ``due_ns``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from pipeline.ring import Slot, SlotHeader


class CameraUnavailable(ConnectionError):
    """The camera cannot be reached or went away; the text says which and why. Opening again may help."""


class StillConnecting(CameraUnavailable):
    """The camera has not answered yet and is being waited for: opening again goes on with that."""


@dataclass(frozen=True, slots=True)
class Triggered:
    """A trigger happened. ``trigger_counter`` is the device's, unique between ``open`` and ``close`` only.
    ``encoder_count`` is None where the camera latches none, ``part_key`` where no controller has named the part; times are
    CLOCK_MONOTONIC.
    """

    trigger_counter: int
    encoder_count: int | None
    trigger_ns: int
    part_key: int | None = None


@dataclass(frozen=True, slots=True)
class Grabbed:
    """The trigger's frame lies complete in ``slot``, the oldest one that was queued; after a frame that could not be used, it
    may be a younger one.
    """

    trigger_counter: int
    trigger_ns: int
    slot: Slot
    header: SlotHeader


@dataclass(frozen=True, slots=True)
class NotGrabbed:
    """The trigger has no usable frame: no slot was queued, the frame is unusable, or the device lost it."""

    trigger_counter: int
    outcome: Literal["REFUSED", "BAD", "MISSED"]
    text: str


CameraEvent: TypeAlias = Triggered | Grabbed | NotGrabbed


class Camera(Protocol):
    """One camera. No method blocks longer than its device needs to answer."""

    def open(self) -> None:
        """Connect and start. Raises CameraUnavailable."""

    def close(self) -> list[Slot]:
        """Stop, and give back the slots that were queued and not filled. Safe to call twice."""

    def queue(self, slot: Slot) -> None:
        """Give an empty slot to be filled."""

    def fileno(self) -> int | None:
        """Readable when ``poll`` has something to do; None where only the clock says so."""

    def due_ns(self) -> int | None:
        """When ``poll`` has something to do by the clock."""

    def poll(self) -> Sequence[CameraEvent]:
        """All that has happened, in order: a trigger comes before its frame. Raises CameraUnavailable where the camera
        went away; what it returned before stays true.
        """


@runtime_checkable
class Fires(Protocol):
    """A camera that takes a picture when it is told to: what ``trigger: software`` needs."""

    def fire(self) -> bool:
        """Take one now, as the device allows; does not wait for it. False: there will be none. True: it is asked for; where
        no frame comes of it the device was not ready.

        Raises CameraUnavailable.
        """


@runtime_checkable
class CountsPackets(Protocol):
    """A camera whose frames come in packets, of which some may have to be sent again."""

    def packet_counts(self) -> Mapping[str, int]:
        """Since it was opened, by name: received, missing, resent; empty where it is not open."""
