"""Good parts in their order, from pictures or a recorded window, looked at as the line looks at them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import nan
from pathlib import Path

import numpy as np
import numpy.typing as npt

from calibration.drift import SIGNALS, Signal
from pipeline.cli.calibrate.options import Station, check_size, pictures_in
from pipeline.cli.output import fail
from pipeline.drift_baseline import UNCOUNTED_REASONS
from pipeline.drift_signals import signal_values
from pipeline.window.reader import FrameDamaged, NotAWindow, WindowReader
from vision.faults import Fault, FaultsError
from vision.frame_signals import FrameSignals, SignalReader
from vision.inspector import Inspector
from vision.preprocess import WrongFrame
from vision.registration import PartPosition
from vision.types import Frame, Verdict

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Seen:
    """One frame; ``score`` NaN where it was not judged, ``position`` None without a registration."""

    name: str
    signals: FrameSignals
    score: float
    position: PartPosition | None


@dataclass(slots=True)
class GoodParts:
    """All of them. ``first``: the first one's pixels."""

    seen: list[Seen] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    unjudged: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    first: Pixels | None = None

    def tile_shares(self) -> list[float]:
        """The region's, over all parts that are not in the dark."""
        shares: list[float] = np.mean([each.signals.tile_shares for each in self.seen], axis=0).tolist()
        return shares

    def values(self, tile_shares: list[float]) -> dict[Signal, list[float]]:
        """By signal, in the parts' order; without positions where there is no registration."""
        rows = [signal_values(each.signals, tile_shares, each.score, each.position) for each in self.seen]
        has_position = any(each.position is not None for each in self.seen)
        watched = [signal for signal in SIGNALS if has_position or not signal.startswith("position")]
        return {signal: [row[signal] for row in rows] for signal in watched}


def look_at(
    pictures: Iterable[tuple[str, Pixels, bytes]], station: Station, inspector: Inspector, reader: SignalReader
) -> GoodParts:
    """Each picture as inspection looks at a frame. Raises FaultsError, InferenceError."""
    parts, first_name = GoodParts(), dict[bytes, str]()
    for name, pixels, digest in pictures:
        check_size(name, pixels, station.frame_format.pixel_format, station)
        if (other := first_name.setdefault(digest, name)) != name:
            expected = "another picture: copies tell nothing of how parts differ"
            raise FaultsError([Fault(name, "", f"the same picture as {other}", expected)])
        if parts.first is None:
            parts.first = pixels.copy()
        score = _judged(name, Frame(station.camera_id, 0, station.frame_format.pixel_format, pixels), inspector, parts)
        parts.seen.append(Seen(name, reader.read(pixels), score, inspector.position(station.camera_id)))
        parts.digests.append(digest)
    return parts


def _judged(name: str, frame: Frame, inspector: Inspector, parts: GoodParts) -> float:
    inspector.begin()
    try:
        inspector.load(frame)
    except WrongFrame:
        parts.unjudged.append(name)
        return nan
    inspector.infer()
    inspection = inspector.judge(frame.camera_id)
    if inspection.verdict is Verdict.NO_DECISION:
        parts.unjudged.append(name)
    elif inspection.verdict is Verdict.REJECT:
        parts.rejected.append(name)
    return inspection.score


def pictures_of(folder: Path, station: Station) -> Iterator[tuple[str, Pixels, bytes]]:
    """Of a folder, by the files' names. Raises FaultsError."""
    for name, pixels, digest in pictures_in(folder, station.frame_format.pixel_format):
        yield f"{folder}/{name}", pixels, digest


def pictures_of_window(folder: Path, station: Station) -> Iterator[tuple[str, Pixels, bytes]]:
    """Of the parts of a recorded window that are production's, in their order. Ends the command where it is no window."""
    try:
        window = WindowReader(folder)
        for part_id in window.part_ids:
            entry, result = window.part(part_id)
            for key, frame_entry in window.entries_of(entry):
                if (
                    frame_entry is not None
                    and key.camera_id == station.camera_id
                    and result.reason not in UNCOUNTED_REASONS
                ):
                    frame, expected = window.frame(frame_entry), station.frame_format.pixel_format
                    if frame.pixel_format is not expected:
                        got = f"frames of {frame.pixel_format.value}"
                        raise FaultsError([Fault(str(folder), f"camera {key.camera_id}", got, expected.value)])
                    yield f"{folder}: part {part_id}", frame.pixels, hashlib.sha256(frame.pixels.tobytes()).digest()
    except (NotAWindow, FrameDamaged) as error:
        raise fail(str(error), 2) from None
