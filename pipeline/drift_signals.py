"""What inspection tells of each frame for the watch on drift: light and sharpness, the part's position, its score.

Read when the verdict on the part is out, and told to records: no verdict waits for it. Where records does not take it, it is
lost: the part does not count.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, nan

import numpy as np
import numpy.typing as npt

from calibration.drift import Signal
from pipeline.channel import Link, PeerGone
from pipeline.drift_baseline import CameraBaseline
from pipeline.line_config import LineConfig
from pipeline.line_inspector import frame_formats
from pipeline.messages import FrameKey, FrameMeasured
from vision.faults import Fault, FaultsError
from vision.frame_signals import FrameSignals, SignalReader, evenness
from vision.registration import PartPosition


class DriftSignals:
    """Of the cameras that have a baseline."""

    def __init__(self, config: LineConfig, baselines: Mapping[str, CameraBaseline]) -> None:
        """Raises FaultsError where a region that is to be read does not lie in its camera's frame."""
        self._records: Link | None = None
        self._cameras: dict[str, tuple[SignalReader, list[float]] | None] = {}
        formats = frame_formats(config)
        for camera_id, each in baselines.items():
            region = each.baseline.region
            try:
                reader = None if region is None else SignalReader(camera_id, region, formats[camera_id])
            except ValueError as error:
                key = f"{each.calibration_id}: drift.baseline.region"
                raise FaultsError([Fault(f"camera {camera_id}", key, str(error), "drift calibrated again")]) from error
            self._cameras[camera_id] = None if reader is None or region is None else (reader, region.tile_shares)

    def connect(self, records: Link) -> None:
        """To this one from now on."""
        self.close()
        self._records = records

    def wants(self, camera_id: str) -> bool:
        """Whether anybody is to be told of this camera's frames."""
        return self._records is not None and camera_id in self._cameras

    def tell(self, key: FrameKey, pixels: npt.NDArray[np.uint8], score: float, position: PartPosition | None) -> None:
        """Read a frame's signals and tell them. ``score``: NaN where the view was not judged. Raises WrongFrame."""
        camera = self._cameras[key.camera_id]
        values = signal_values(None, [], score, position)
        if camera is not None:
            reader, shares = camera
            values = signal_values(reader.read(pixels), shares, score, position)
        try:
            if self._records is not None:
                self._records.send(
                    FrameMeasured(key, {name: value for name, value in values.items() if isfinite(value)})
                )
        except PeerGone:
            self.close()

    def close(self) -> None:
        if self._records is not None:
            self._records.close()
            self._records = None


def signal_values(
    read: FrameSignals | None, calibrated: list[float], score: float, position: PartPosition | None
) -> dict[Signal, float]:
    """One frame's signals, NaN where there is none; ``calibrated``: the region's ``tile_shares`` then.

    A part beyond its tolerance has a position as well, since that is the one that moved; one that was not found has none.
    """
    is_found = position is not None and position.is_found
    values: dict[Signal, float] = {
        "brightness": nan if read is None else read.brightness,
        "evenness": nan if read is None else evenness(read.tile_shares, calibrated),
        "sharpness": nan if read is None else read.sharpness,
        "position_x": position.shift_x_px if position is not None and is_found else nan,
        "position_y": position.shift_y_px if position is not None and is_found else nan,
        "score": score,
    }
    return values
