"""Software triggers for pylon's emulated camera with a folder of real images: what was fired is grabbed, nothing is silently lost.

The emulator takes some 95 pictures a second, whatever it is asked for. So at 200 a second it is not ready for every second one,
and says nothing of those it was told to take all the same: hence the asking.
"""

from __future__ import annotations

import select
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from elpv_dataset.utils import load_dataset

from pipeline.camera_config import PylonCamera
from pipeline.cameras.base import CameraUnavailable, Grabbed
from pipeline.cameras.pylon import Pylon
from pipeline.cameras.software_trigger import Fired
from pipeline.clock import NS_PER_S, now_ns, seconds_until
from pipeline.ring import Slot
from tests.pylon_emulator import PylonEmulator, expect_pypylon
from tests.waiting import PATIENCE_S
from vision.types import PixelFormat

expect_pypylon()

pytestmark = pytest.mark.slow
PICTURES = 40
SIDE_PX = 300
TRIGGERS = 200


@pytest.fixture
def pictures(tmp_path: Path) -> list[npt.NDArray[np.uint8]]:
    """Solar cells, as files in ``tmp_path``/images."""
    found = [np.asarray(each, np.uint8) for each in load_dataset()[0][:PICTURES]]
    (tmp_path / "images").mkdir()
    for number, each in enumerate(found):
        assert cv2.imwrite(str(tmp_path / "images" / f"{number:03d}.png"), each)
    return found


@pytest.fixture
def emulator() -> Iterator[PylonEmulator]:
    made = PylonEmulator()
    yield made
    made.close()


class Station:
    """Fires at a rate, and compares each frame with the next picture."""

    def __init__(self, folder: Path, pictures: list[npt.NDArray[np.uint8]], timeout_us: int) -> None:
        self._pictures = pictures
        self.fired: list[Fired] = []
        self.grabbed = self.wrong = self.others = 0
        self._camera = Pylon(
            PylonCamera(
                camera_id="cam0",
                kind="pylon",
                serial=PylonEmulator.serial,
                width_px=SIDE_PX,
                height_px=SIDE_PX,
                pixel_format=PixelFormat.MONO8,
                trigger="software",
                trigger_ready_timeout_us=timeout_us,
                features=PylonEmulator.plays(folder),
            )
        )
        while True:
            try:
                self._camera.open()
                break
            except CameraUnavailable as error:
                if "connecting" not in str(error):
                    raise
        for index in range(8):
            self._camera.queue(Slot(index, 1, np.zeros(SIDE_PX * SIDE_PX, np.uint8)))
        self._camera.poll()

    def play(self, rate_hz: int) -> None:
        """The last frame is here ``took_s`` after the first trigger."""
        try:
            begin_ns = now_ns()
            for number in range(TRIGGERS):
                due_ns = begin_ns + number * NS_PER_S // rate_hz
                while now_ns() < due_ns:
                    self._take(seconds_until(due_ns))
                self._camera.fire(number)
            while len(self.fired) < TRIGGERS or self.grabbed + self.others < self.count_fired:
                assert now_ns() < begin_ns + int(2 * PATIENCE_S * NS_PER_S)
                self._take(1.0)
            self.took_s = (now_ns() - begin_ns) / NS_PER_S
        finally:
            self._camera.close()
        assert [each.number for each in self.fired] == list(range(TRIGGERS))

    @property
    def count_fired(self) -> int:
        return sum(each.fired_ns is not None for each in self.fired)

    def _take(self, patience_s: float) -> None:
        select.select([self._camera.fileno()], [], [], patience_s)  # type: ignore[type-var]
        for event in self._camera.poll():
            if isinstance(event, Grabbed):
                expected = self._pictures[self.grabbed % PICTURES]
                self.wrong += not (event.slot.pixels == expected.reshape(-1)).all()
                self.grabbed += 1
                self._camera.queue(event.slot)
            elif hasattr(event, "outcome"):
                self.others += 1
        self.fired += self._camera.fired()


@pytest.mark.parametrize("rate_hz", [20, 200])
def test_every_trigger_is_a_frame_where_the_camera_is_waited_for(
    rate_hz: int, tmp_path: Path, pictures: list[npt.NDArray[np.uint8]], emulator: PylonEmulator
) -> None:
    station = Station(tmp_path / "images", pictures, int(PATIENCE_S * 1e6))
    station.play(rate_hz)
    print(
        f"asked {TRIGGERS} at {rate_hz}/s: fired {station.count_fired}, grabbed {station.grabbed}, wrong {station.wrong}, "
        f"took {station.took_s:.1f} s"
    )
    assert station.count_fired == station.grabbed == TRIGGERS
    assert (station.wrong, station.others) == (0, 0)


def test_triggers_that_come_faster_than_the_camera_takes_pictures_are_told(
    tmp_path: Path, pictures: list[npt.NDArray[np.uint8]], emulator: PylonEmulator
) -> None:
    station = Station(tmp_path / "images", pictures, 10_000)
    station.play(200)
    not_ready = TRIGGERS - station.count_fired
    print(
        f"asked {TRIGGERS} at 200/s: fired {station.count_fired}, grabbed {station.grabbed}, told not ready {not_ready}"
    )
    assert station.grabbed == station.count_fired > 0
    assert not_ready > 0
    assert all("not ready" in each.text for each in station.fired if each.fired_ns is None)
    assert (station.wrong, station.others) == (0, 0)
