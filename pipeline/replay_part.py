"""One recorded part run again: its frames through the same inspector, what comes out beside what is on record.

Judged are the very batches that the line judged: frames of a part with one ``inferred_ns`` together; where that is not known,
the views that the result holds together.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from pipeline.part_verdict import part_verdict
from pipeline.payloads import ResultPayload
from pipeline.told_defects import told_defects, told_score
from pipeline.window.format import FrameEntry, FrameKey, LateView, ViewDefect
from pipeline.window.reader import FrameDamaged, WindowReader
from vision.inspector import Inspector
from vision.judge import FAULT
from vision.preprocess import WrongFrame
from vision.runtime import InferenceError
from vision.types import Frame, Inspection, Reason, Verdict

_JUDGED = (Reason.OK.value, Reason.DEFECT.value)
RECOVERED = "RECOVERED"
"""A verdict that was decided, but whose views died with the signalling that decided it: its successor told the rest."""
_BAD_FRAME = Inspection(Verdict.NO_DECISION, Reason.BAD_FRAME, float("nan"), ())


@dataclass(frozen=True, slots=True)
class ViewWord:
    """What was said of one frame. ``score`` is None where nothing could be judged, ``defects`` where the record leaves them out."""

    verdict: str
    reason: str
    score: float | None
    part_mark: int | None
    defects: tuple[ViewDefect, ...] | None


@dataclass(frozen=True, slots=True)
class ViewOutcome:
    """One frame. ``recorded`` is None where the line never judged it, or said of it that it could not."""

    frame: FrameKey
    frame_id: int
    is_late: bool
    recorded: ViewWord | None
    replayed: ViewWord


@dataclass(frozen=True, slots=True)
class PartOutcome:
    """One part. ``verdict`` and ``reason`` are what the frames come to now, None where there are none to judge, or not all.

    ``from_record``: why its verdict is the record's, with nothing to compare: its reason, or RECOVERED where no view is on record.

    ``differences``: in what the replay says other than the record; what it says of parts that the line did not judge in time is
    beside the record and no difference.
    """

    part_id: int
    recorded_verdict: str
    recorded_reason: str
    from_record: str | None
    verdict: str | None
    reason: str | None
    views: tuple[ViewOutcome, ...]
    differences: tuple[str, ...]
    missing: tuple[FrameKey, ...]
    damaged: tuple[str, ...]

    @property
    def is_judged(self) -> bool:
        """Whether its verdict came from its frames, so that there is something to compare; else it is the record's."""
        return self.from_record is None

    @property
    def is_compared(self) -> bool:
        return self.is_judged and self.verdict is not None

    @property
    def is_flipped(self) -> bool:
        return self.is_compared and self.verdict != self.recorded_verdict


class PartReplayer:
    """Runs parts of one window through one inspector. Not for several threads at once."""

    def __init__(self, reader: WindowReader, inspector: Inspector, cameras: Sequence[str]) -> None:
        """``cameras``: whose views every part needs, in the line's order."""
        self._reader = reader
        self._inspector = inspector
        self._cameras = cameras

    def replay(self, part_id: int) -> PartOutcome:
        """Raises NotAWindow where the part's result cannot be read."""
        part, result = self._reader.part(part_id)
        recorded = _recorded(result)
        late = {
            entry.view.frame: entry.view
            for entry in self._reader.late(part_id)
            if entry.view.frame.camera_id not in recorded  # else told a second time
        }
        keys = list(dict.fromkeys([*part.frames, *late]))
        entries: dict[FrameKey, FrameEntry] = {}
        missing: list[FrameKey] = []
        for key in keys:
            entry = self._reader.frames.get(key)
            if entry is not None and key.camera_id in self._cameras:
                entries[key] = entry
            elif key in late or key.camera_id in recorded:
                missing.append(key)
        frames: dict[FrameKey, Frame] = {}
        damaged: list[str] = []
        for key, entry in entries.items():
            try:
                frames[key] = self._reader.frame(entry)
            except FrameDamaged as error:
                damaged.append(str(error))
        views: list[ViewOutcome] = []
        if not (missing or damaged):
            words = self._judge(frames, _batches(entries, recorded, late))
            views = [
                ViewOutcome(
                    frame=key,
                    frame_id=frame.frame_id,
                    is_late=key in late,
                    recorded=_late_word(late[key]) if key in late else recorded.get(key.camera_id),
                    replayed=words[key],
                )
                for key, frame in frames.items()
            ]
        verdict, reason = self._verdict(result, recorded, views)
        outcome = (
            result.part_id,
            result.verdict,
            result.reason,
            _from_record(result),
            verdict,
            reason,
            tuple(views),
        )
        differences = tuple(_differences(result, verdict, reason, views))
        return PartOutcome(*outcome, differences, tuple(missing), tuple(damaged))

    def _judge(
        self, frames: Mapping[FrameKey, Frame], batches: Sequence[Sequence[FrameKey]]
    ) -> dict[FrameKey, ViewWord]:
        words: dict[FrameKey, ViewWord] = {}
        for batch in batches:
            self._inspector.begin()
            loaded: dict[FrameKey, int | None] = {}
            for key in batch:
                try:
                    self._inspector.load(frames[key])
                    loaded[key] = self._inspector.read_mark(frames[key])
                except WrongFrame:
                    words[key] = _word(_BAD_FRAME, None)
            if not loaded:
                continue
            try:
                self._inspector.infer()
            except InferenceError:
                words |= {key: _word(FAULT, None) for key in loaded}
                continue
            for key, mark in loaded.items():
                words[key] = _word(self._inspector.judge(key.camera_id), mark)
        return words

    def _verdict(
        self, result: ResultPayload, recorded: Mapping[str, ViewWord | None], views: Sequence[ViewOutcome]
    ) -> tuple[str | None, str | None]:
        """By the line's own rule. Of a part that the line judged, on what it had in time; of another one, on every frame."""
        if not views:
            return None, None
        seen = {view.frame.camera_id for view in views}
        if _from_record(result) is not None:
            said = {view.frame.camera_id: view.replayed for view in views}
        else:
            said = {
                view.frame.camera_id: view.replayed if view.recorded is not None else _NOT_JUDGED
                for view in views
                if not view.is_late and view.frame.camera_id in recorded
            }

        def missing(camera_id: str) -> Reason:
            return Reason.DEADLINE if camera_id in seen else Reason.MISSED_FRAME

        verdict, reason = part_verdict(self._cameras, said, missing)
        return verdict.value, reason.value


def _from_record(result: ResultPayload) -> str | None:
    if result.reason not in _JUDGED:
        return result.reason
    return None if result.views else RECOVERED


_NOT_JUDGED = ViewWord(Verdict.NO_DECISION.value, Reason.FAULT.value, None, None, ())
"""A view that the line could not judge, whatever the model would say of it."""


def _batches(
    entries: Mapping[FrameKey, FrameEntry], recorded: Mapping[str, ViewWord | None], late: Mapping[FrameKey, LateView]
) -> list[list[FrameKey]]:
    batches: dict[Hashable, list[FrameKey]] = {}
    for key, entry in entries.items():
        inferred_ns = entry.frame.inferred_ns
        if inferred_ns is None and key in late:
            inferred_ns = late[key].inferred_ns
        batch = key.camera_id in recorded if inferred_ns is None else (inferred_ns,)
        batches.setdefault(batch, []).append(key)
    return list(batches.values())


def _recorded(result: ResultPayload) -> dict[str, ViewWord | None]:
    """By camera; None for a view on record that could not be judged. A view passed unless it has a defect."""
    words: dict[str, ViewWord | None] = {}
    for view in result.views:
        if view.score is None:
            words[view.camera_id] = None
            continue
        defects = tuple(
            ViewDefect(defect.class_name, defect.score, defect.box_px)
            for defect in result.defects
            if defect.camera_id == view.camera_id
        )
        if result.reason == Reason.DEFECT.value and not result.defects:
            words[view.camera_id] = ViewWord("", "", view.score, view.part_mark, None)
            continue
        said = (Verdict.REJECT, Reason.DEFECT) if defects else (Verdict.PASS, Reason.OK)
        words[view.camera_id] = ViewWord(said[0].value, said[1].value, view.score, view.part_mark, defects)
    return words


def _late_word(view: LateView) -> ViewWord | None:
    if view.score is None:
        return None
    return ViewWord(view.verdict, view.reason, view.score, view.part_mark, view.defects)


def _word(inspection: Inspection, mark: int | None) -> ViewWord:
    defects = tuple(
        ViewDefect(found.class_name, found.score, found.box_px) for found in told_defects(inspection.defects)
    )
    score = told_score(inspection.score)
    return ViewWord(inspection.verdict.value, inspection.reason.value, score, mark, defects)


def _differences(
    result: ResultPayload, verdict: str | None, reason: str | None, views: Sequence[ViewOutcome]
) -> list[str]:
    found = []
    if _from_record(result) is None and verdict is not None and (verdict, reason) != (result.verdict, result.reason):
        found.append(f"{verdict} ({reason}), on record {result.verdict} ({result.reason})")
    for view in views:
        before, after = view.recorded, view.replayed
        if before is None or _bits(before) == _bits(after):
            continue
        where = f"camera {view.frame.camera_id}{' (late)' if view.is_late else ''}"
        if _bits(before.score) != _bits(after.score):
            found.append(f"{where}: score {after.score!r}, on record {before.score!r}")
        if before.part_mark != after.part_mark:
            found.append(f"{where}: part mark {after.part_mark}, on record {before.part_mark}")
        if before.defects is None:
            continue
        if _bits(before.defects) != _bits(after.defects):
            found.append(f"{where}: defects {_told(after)}; on record {_told(before)}")
        if (before.verdict, before.reason) != (after.verdict, after.reason):
            found.append(f"{where}: {after.verdict} ({after.reason}), on record {before.verdict} ({before.reason})")
    return found


_bits = msgspec.msgpack.Encoder().encode
"""Equal bytes are equal numbers to the last bit, the sign of a zero included."""


def _told(word: ViewWord) -> str:
    return (
        ", ".join(f"{defect.class_name} {defect.score!r} at {list(defect.box_px)}" for defect in word.defects or ())
        or "none"
    )
