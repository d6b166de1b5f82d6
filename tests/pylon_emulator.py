"""The camera emulator of pylon at a test's command (PYLON_CAMEMU)."""

from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from pipeline.cameras.device_features import FeatureValue
from pipeline.cameras.pylon import Pylon, missing

_COUNT = "PYLON_CAMEMU"

if missing() is None:
    # Now, since what it opens stays open until the process ends, which is no test's leak. And it crashes while it is loaded where
    # warnings are errors.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        importlib.import_module("pypylon.pylon")


def expect_pypylon() -> None:
    """Skips the test, or the module, where it is not installed."""
    if (text := missing()) is not None:
        pytest.skip(text, allow_module_level=True)


class PylonEmulator:
    """An emulated camera of this process, until ``close``. It is the last of two: without any, pylon does not give back what an
    emulated camera held.
    """

    serial = "0815-0001"

    def __init__(self) -> None:
        self._before = os.environ.get(_COUNT)
        self.plug_in()

    @staticmethod
    def plays(folder: Path) -> dict[str, FeatureValue]:
        """The features that make a camera show the folder's images in the order of their names, over and over."""
        return {"ImageFilename": str(folder), "ImageFileMode": "On", "TestImageSelector": "Off"}

    def plug_in(self) -> None:
        os.environ[_COUNT] = "2"

    def unplug(self) -> None:
        """It is found no more; where it is open it goes on."""
        os.environ[_COUNT] = "1"

    @staticmethod
    def tell_removed(camera: Pylon) -> None:
        """What pylon calls when a camera is unplugged."""
        if camera._stream is not None:
            camera._stream._device._removal.OnCameraDeviceRemoved(None)

    @staticmethod
    def device_of(camera: Pylon) -> Any:
        """The camera object of pypylon."""
        assert camera._stream is not None
        return camera._stream._device._camera

    def close(self) -> None:
        if self._before is None:
            os.environ.pop(_COUNT, None)
        else:
            os.environ[_COUNT] = self._before
