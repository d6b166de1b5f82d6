"""The watch on drift, in records: every part of production against what was usual when the line was calibrated.

What counts: each frame that inspection has looked at, whatever its part's verdict, with what could be told of it. A part that was
not found has light and sharpness but no position and no score; one that was not judged has no score. What does not: parts of a
challenge, which are known to be bad, and parts of a line that was not running (``NOT_RUNNING``), at which somebody works. Of a
part that inspection has not seen there is nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TypeVar, cast

import msgspec

from calibration.drift import Cause, DriftTest, Signal, diagnose, dump_state, load_state
from pipeline.channel import Link, PeerGone
from pipeline.clock import NS_PER_S, now_ns
from pipeline.drift_baseline import UNCOUNTED_REASONS, CameraBaseline, baselines_of, found_with
from pipeline.drift_file import DriftFile, KeptState
from pipeline.messages import FrameKey, FrameMeasured, PartRecord
from pipeline.worker import Supervised
from vision.faults import FaultsError

_KEPT_EVERY_NS = 10 * NS_PER_S
_WAITING_MAX = 4_096
"""Frames whose parts, and parts whose frames, have still to be told."""
Waiting = TypeVar("Waiting")


class _Camera:
    def __init__(self, calibrated: CameraBaseline) -> None:
        self.calibrated = calibrated
        self.test = DriftTest(calibrated.baseline)
        self.state = self.test.start()
        self.cause: Cause | None = None

    def observe(self, values: Mapping[Signal, float]) -> bool:
        """Whether something else is to be said now."""
        self.state, drifts = self.test.observe(self.state, values)
        if drifts or self.cause is None:
            return bool(drifts)
        told = diagnose(self.calibrated.baseline, self.state)
        return told is not None and told.cause != self.cause

    def text(self) -> str:
        """What has moved and what to do about it, empty where nothing has."""
        told = diagnose(self.calibrated.baseline, self.state)
        self.cause = None if told is None else told.cause
        return "" if told is None else told.text


class DriftWatch:
    """Raises the alarm ``drift``. Costs next to nothing where no camera has a baseline."""

    def __init__(self, supervised: Supervised) -> None:
        line = supervised.line
        self._supervised = supervised
        self._file = DriftFile(line.config.records.path)
        self._inspection: Link | None = None
        self._texts: dict[str, str] = {}
        """By camera, what is said of it now."""
        self._cameras: dict[str, _Camera] = {}
        self._measured: OrderedDict[FrameKey, Mapping[Signal, float]] = OrderedDict()
        self._decided: OrderedDict[FrameKey, bool] = OrderedDict()
        """Frames of parts that were told before them, and whether they count."""
        self._is_recalled = False
        self._is_changed = False
        self._keep_at_ns = 0
        try:
            self._cameras = {camera_id: _Camera(each) for camera_id, each in baselines_of(line).items()}
        except (FaultsError, OSError) as error:
            self._texts[""] = f"drift is not watched: {error}"
        self._say()

    def recall(self) -> None:
        """Go on where a predecessor has stopped; once the record's place is there."""
        if self._is_recalled:
            return
        self._is_recalled = True
        if not self._cameras:
            return
        for camera_id, kept in self._file.read().items():
            camera = self._cameras.get(camera_id)
            if camera is None or kept.calibration_id != camera.calibrated.calibration_id:
                continue
            try:
                camera.state = load_state(bytes(kept.state), camera.calibrated.baseline)
            except ValueError:
                # Of another version: begun anew.
                continue
            self._texts[camera_id] = camera.text()
        self._say()

    def model_in_use(self, model_sha256: str) -> None:
        """A baseline that was found with something else is not watched, and that is said."""
        line = self._supervised.line
        for camera_id, camera in list(self._cameras.items()):
            calibrated = camera.calibrated
            if found_with(line.recipe, camera_id, model_sha256, calibrated.calibration) != calibrated.found_with:
                del self._cameras[camera_id]
                why = "was calibrated with another model, other regions, or another geometry, light or registration"
                self._texts[camera_id] = f"drift is not watched: it {why}; run lineside calibrate drift"
        self._say()

    def connect(self, inspection: Link) -> None:
        """The one that measures from now on."""
        self._lose_inspection()
        self._inspection = inspection

    def read_descriptors(self) -> list[int]:
        return [] if self._inspection is None else [self._inspection.fileno()]

    def turn(self) -> None:
        """To be called at every turn of the loop."""
        if self._inspection is not None:
            try:
                for message in self._inspection.drain():
                    assert isinstance(message, FrameMeasured)
                    self._take(message)
            except PeerGone:
                self._lose_inspection()
        if self._is_changed and self._is_recalled and now_ns() >= self._keep_at_ns:
            self._keep()

    def decided(self, part: PartRecord) -> None:
        """A part's verdict is out. Told again it counts no second time: what was measured of it is used up."""
        if not self._cameras:
            return
        counts = part.reason not in UNCOUNTED_REASONS
        for key in part.frames:
            values = self._measured.pop(key, None)
            if values is None:
                _await(self._decided, key, counts)
            elif counts:
                self._observe(key.camera_id, values)

    def close(self) -> None:
        if self._is_changed and self._is_recalled:
            self._keep()
        self._lose_inspection()

    def _take(self, message: FrameMeasured) -> None:
        values = cast("Mapping[Signal, float]", message.values)
        counts = self._decided.pop(message.frame, None)
        if counts is None:
            _await(self._measured, message.frame, values)
        elif counts:
            self._observe(message.frame.camera_id, values)

    def _observe(self, camera_id: str, values: Mapping[Signal, float]) -> None:
        camera = self._cameras.get(camera_id)
        if camera is None:
            return
        self._is_changed = True
        if camera.observe(values):
            self._texts[camera_id] = camera.text()
            self._say()
            self._keep_at_ns = 0

    def _say(self) -> None:
        told = [f"camera {camera_id}: {text}" if camera_id else text for camera_id, text in self._texts.items() if text]
        if told:
            self._supervised.alarm("drift", "warning", "; ".join(told))
        else:
            self._supervised.clear_alarm("drift")

    def _keep(self) -> None:
        """Where the disk does not take it, later: all that is lost with it is what it has seen since it was kept last."""
        self._keep_at_ns = now_ns() + _KEPT_EVERY_NS
        try:
            self._file.write(
                {
                    camera_id: KeptState(camera.calibrated.calibration_id, msgspec.Raw(dump_state(camera.state)))
                    for camera_id, camera in self._cameras.items()
                }
            )
        except OSError:
            return
        self._is_changed = False

    def _lose_inspection(self) -> None:
        if self._inspection is not None:
            self._inspection.close()
            self._inspection = None


def _await(waiting: OrderedDict[FrameKey, Waiting], key: FrameKey, what: Waiting) -> None:
    """The oldest gives way: what it waits for never came."""
    waiting[key] = what
    if len(waiting) > _WAITING_MAX:
        waiting.popitem(last=False)
