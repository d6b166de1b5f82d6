"""What inspection tells of frames for the watch on drift."""

from __future__ import annotations

import select
import threading
from collections.abc import Mapping
from math import isnan, nan
from pathlib import Path

import numpy as np
import pytest

from calibration.drift import DriftBaseline, SignalBaseline
from pipeline.channel import Link, link_pair
from pipeline.clock import now_ns
from pipeline.config import Line, load_line
from pipeline.drift_baseline import CameraBaseline
from pipeline.drift_signals import DriftSignals, signal_values
from pipeline.inspection import InspectionWorker
from pipeline.line_inspector import frame_formats, open_inspector
from pipeline.messages import (
    AnyMessage,
    Configure,
    Connect,
    FrameKey,
    FrameMeasured,
    FrameTicket,
    Halt,
    RingOffer,
    Stop,
)
from pipeline.ring import Ring, SlotHeader
from pipeline.worker import Supervised
from tests.service import write_line
from vision.faults import FaultsError
from vision.frame_signals import FrameSignals
from vision.package import load_package
from vision.preprocess import WrongFrame
from vision.reference_region import ReferenceRegion
from vision.registration import PartPosition
from vision.types import PixelFormat

KEY = FrameKey("cam0", 1, 7)
SEEN = FrameSignals(100.0, 0.2, np.array([0.5, *[1.0] * 8]))


def baseline_with(region: Mapping[str, int] | None) -> dict[str, CameraBaseline]:
    """Of camera cam0."""
    given = None if region is None else ReferenceRegion(name="patch", tile_shares=[1.0] * 9, **region)
    one = SignalBaseline(signal="score", grid=[0.1, 0.2], mean=0.1, block_mean=0.0, block_spread=1.0, tolerance=0.0)
    baseline = DriftBaseline(
        false_alarm_rate=0.01,
        shift_parts=100,
        baseline_parts=200,
        block_parts=10,
        allowance=0.5,
        limit=5.0,
        signals=[one],
        region=given,
    )
    return {"cam0": CameraBaseline("0" * 16, baseline, "0" * 64, {})}


PATCH = {"x_px": 4, "y_px": 4, "width_px": 20, "height_px": 20}


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return load_line(write_line(tmp_path, 1))


@pytest.mark.parametrize(
    ("position", "told"),
    [
        (None, (nan, nan)),
        # Beyond its tolerance or not: it is where it is.
        (PartPosition(12.5, -3.0, 0.8, True, (12, -3)), (12.5, -3.0)),
        (PartPosition(12.5, -3.0, 0.2, False, (12, -3)), (nan, nan)),
    ],
)
def test_a_position_is_told_where_the_part_was_found(position: PartPosition | None, told: tuple[float, float]) -> None:
    values = signal_values(SEEN, [1.0] * 9, 0.3, position)
    assert np.array_equal((values["position_x"], values["position_y"]), told, equal_nan=True)
    assert (values["brightness"], values["evenness"], values["sharpness"]) == (100.0, 0.5, 0.2)
    assert values["score"] == 0.3


def test_without_a_region_there_is_no_light() -> None:
    values = signal_values(None, [], nan, None)
    assert all(isnan(value) for value in values.values())


def test_a_frame_is_told_as_far_as_there_is_something_to_tell(line: Line) -> None:
    signals = DriftSignals(line.config, baseline_with(PATCH))
    assert not signals.wants("cam0")
    theirs, ours = (Link(end) for end in link_pair())
    signals.connect(theirs)
    assert signals.wants("cam0")
    assert not signals.wants("cam1")
    signals.tell(KEY, np.full((32, 32), 80, np.uint8), nan, None)
    (message,) = ours.drain()
    assert isinstance(message, FrameMeasured)
    assert message.frame == KEY
    assert message.values == {"brightness": 80.0, "evenness": 1.0, "sharpness": 0.0}
    # In the dark nothing is sharp or even.
    signals.tell(KEY, np.zeros((32, 32), np.uint8), 0.5, None)
    (message,) = ours.drain()
    assert isinstance(message, FrameMeasured)
    assert message.values == {"brightness": 0.0, "score": 0.5}
    with pytest.raises(WrongFrame):
        signals.tell(KEY, np.zeros((16, 16), np.uint8), 0.5, None)
    ours.close()
    # A records that is gone costs its words alone.
    signals.tell(KEY, np.zeros((32, 32), np.uint8), 0.5, None)
    assert not signals.wants("cam0")
    signals.close()


def test_a_region_outside_the_frame_is_refused(line: Line) -> None:
    with pytest.raises(FaultsError, match="drift calibrated again"):
        DriftSignals(line.config, baseline_with(PATCH | {"x_px": 20}))


def test_the_verdict_is_told_before_anything_is_read(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the frame is still lent while it is read."""
    package = load_package(line.recipe.model)
    shape = (line.config.cameras[0].height_px, line.config.cameras[0].width_px)
    inspector, _ = open_inspector(line.recipe, package, line.config.runtime, frame_formats(line.config))
    drift = DriftSignals(line.config, baseline_with(PATCH))
    order: list[str] = []
    tell = drift.tell

    def told(key: FrameKey, pixels: object, score: float, position: object) -> None:
        order.append(f"measured, {len([*signalling.drain()])} told before it")
        assert ring.free_count == 1
        tell(key, pixels, score, position)  # type: ignore[arg-type]

    monkeypatch.setattr(drift, "tell", told)
    ours, theirs = (Link(end) for end in link_pair())
    # The camera last: from then on parts may come.
    ends = {peer: link_pair() for peer in ("signalling", "records", "acquisition")}
    signalling, records, camera = (Link(ends[peer][0]) for peer in ends)
    worker = InspectionWorker(
        Supervised(theirs, Configure("inspection", 1, "s", "", None, 0, Halt(), True), line), inspector, drift
    )
    thread = threading.Thread(target=worker.run)
    thread.start()
    ring = Ring("cam0", 2, shape[0] * shape[1])
    for peer, (_, other) in ends.items():
        with other:
            camera_id = "cam0" if peer == "acquisition" else None
            assert ours.send(Connect(peer, 1, camera_id), (other.fileno(),))  # type: ignore[arg-type]
    assert camera.send(RingOffer("cam0", 1, 2, shape[0] * shape[1]), (ring.descriptor,))
    slot = ring.loan()
    assert slot is not None
    ring.publish(slot, SlotHeader(1, None, 0, 0, shape[1], shape[0], shape[1], PixelFormat.MONO8), reader=1)
    assert camera.send(FrameTicket("cam0", 1, slot.index, slot.generation, 7, None, now_ns() + 10**10, now_ns()))
    ready, _, _ = select.select([records], [], [], 30)
    assert ready
    messages: list[AnyMessage] = list(records.drain())
    assert ours.send(Stop())
    thread.join()
    assert order == ["measured, 1 told before it"]
    (message,) = messages
    assert isinstance(message, FrameMeasured)
    assert message.frame == KEY
    assert message.values["score"] == pytest.approx(0.0, abs=0.01)
    assert message.values["brightness"] == 0.0
    ring.close()
    drift.close()
    for link in (ours, theirs, camera, signalling, records, *(held.link for held in worker._cameras.values())):
        link.close()
    assert worker._signalling is not None
    worker._signalling.close()
