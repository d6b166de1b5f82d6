"""What is written into a device and read back, on a device that is a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pipeline.camera_config import AravisCamera
from pipeline.cameras.base import CameraUnavailable
from pipeline.cameras.device_features import FeatureError, FeatureKind, FeatureValue, apply_features


class Table:
    """``written`` is the order in which features were."""

    def __init__(self) -> None:
        self.values: dict[str, FeatureValue] = {
            "PixelFormat": "Mono12",
            "Width": 2048,
            "Height": 1088,
            "OffsetX": 512,
            "OffsetY": 0,
            "TriggerSelector": "AcquisitionStart",
            "TriggerMode": "Off",
            "TriggerSource": "Line2",
            "ExposureTime": 10_000.0,
            "Gain": 0.0,
            "AcquisitionFrameRateEnable": False,
            "AcquisitionFrameRate": 30.0,
            "BalanceRatioSelector": "Red",
            "BalanceRatio": 1.0,
            "GainAuto": "Continuous",
            "UserSetLoad": True,
        }
        self.entries = {
            "PixelFormat": ["Mono8", "Mono12"],
            "TriggerSelector": ["AcquisitionStart", "FrameStart"],
            "TriggerMode": ["Off", "On"],
            "TriggerSource": ["Software", "Line1", "Line2"],
            "BalanceRatioSelector": ["Red", "Blue"],
            "GainAuto": ["Off", "Continuous"],
        }
        self.limits = {"Width": (16, 2048), "Height": (16, 1088), "OffsetX": (0, 1024), "ExposureTime": (20.0, 1e6)}
        self.refused: dict[str, str] = {}
        self.step = {"ExposureTime": 5.0}
        self.written: list[str] = []
        self.executed: list[str] = []

    def names(self) -> Sequence[str]:
        return sorted(self.values)

    def kind(self, name: str) -> FeatureKind | None:
        if name == "UserSetLoad":
            return "command"
        if name in self.entries:
            return "enumeration"
        value = self.values.get(name)
        kinds: dict[type, FeatureKind] = {bool: "boolean", int: "integer", float: "float", str: "string"}
        return None if value is None else kinds[type(value)]

    def get(self, name: str) -> FeatureValue:
        return self.values[name]

    def set(self, name: str, value: FeatureValue) -> None:
        if name in self.refused:
            raise FeatureError(self.refused[name])
        self.written.append(name)
        step = self.step.get(name)
        if step is not None and isinstance(value, float):
            value = round(value / step) * step
        self.values[name] = value

    def execute(self, name: str) -> None:
        self.executed.append(name)

    def bounds(self, name: str) -> tuple[float, float]:
        return self.limits.get(name, (0, 100_000))

    def choices(self, name: str) -> Sequence[str]:
        return self.entries[name]


def config(**changes: Any) -> AravisCamera:
    base = {"address": "192.168.1.2", "width_px": 640, "height_px": 480, "pixel_format": "Mono8"}
    return AravisCamera.model_validate({"camera_id": "top", "kind": "aravis", **base, **changes})


def refusal(device: Table, **changes: Any) -> str:
    with pytest.raises(CameraUnavailable) as caught:
        apply_features(config(**changes), device)
    text = str(caught.value)
    assert text.startswith("camera top: ")
    return text


def test_what_is_configured_is_in_the_device() -> None:
    device = Table()
    apply_features(
        config(exposure_time_us=200.0, gain_db=6.0, features={"GainAuto": "Off", "UserSetLoad": True}), device
    )
    for name, value in {
        "PixelFormat": "Mono8",
        "Width": 640,
        "Height": 480,
        "OffsetX": 0,
        "TriggerSelector": "FrameStart",
        "TriggerMode": "On",
        "TriggerSource": "Line1",
        "ExposureTime": 200.0,
        "Gain": 6.0,
        "GainAuto": "Off",
    }.items():
        assert device.values[name] == value
    assert device.executed == ["UserSetLoad"]
    # A region that was moved stands in the way of a larger one.
    assert device.written.index("OffsetX") < device.written.index("Width")


def test_features_are_written_in_the_order_of_the_file() -> None:
    device = Table()
    apply_features(config(features={"BalanceRatioSelector": "Blue", "BalanceRatio": 1.4}), device)
    assert device.written[-2:] == ["BalanceRatioSelector", "BalanceRatio"]


def test_free_running_needs_no_trigger_features() -> None:
    device = Table()
    for name in ("TriggerSelector", "TriggerMode", "TriggerSource"):
        del device.values[name]
        device.entries.pop(name)
    apply_features(config(trigger="free_running", frame_rate_hz=100.0), device)
    assert device.values["AcquisitionFrameRate"] == 100.0
    assert device.values["AcquisitionFrameRateEnable"] is True
    assert "the camera has no feature TriggerMode" in refusal(device)


def test_names_from_before_the_standard_are_found() -> None:
    device = Table()
    device.values["ExposureTimeAbs"] = device.values.pop("ExposureTime")
    apply_features(config(exposure_time_us=300.0), device)
    assert device.values["ExposureTimeAbs"] == 300.0
    del device.values["ExposureTimeAbs"]
    assert "exposure_time_us: the camera has no feature ExposureTime or ExposureTimeAbs" in refusal(
        device, exposure_time_us=300.0
    )


def test_a_rounded_value_is_the_same_and_another_one_is_told() -> None:
    device = Table()
    apply_features(config(exposure_time_us=1001.0), device)
    assert device.values["ExposureTime"] == 1000.0
    text = refusal(device, exposure_time_us=23.0)
    assert "exposure_time_us: wrote 23 to ExposureTime, read back 25" in text


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"pixel_format": "RGB8"}, "pixel_format: got RGB8, expected one of Mono8, Mono12 (PixelFormat)"),
        ({"width_px": 4096}, "width_px: got 4096, expected 16 to 2048 (Width)"),
        ({"exposure_time_us": 5e6}, "exposure_time_us: got 5000000, expected 20 to 1000000 (ExposureTime)"),
        ({"trigger_source": "Line7"}, "trigger_source: got Line7, expected one of Software, Line1, Line2"),
        ({"features": {"GainAtuo": "Off"}}, "features.GainAtuo: the camera has no feature GainAtuo; it has GainAuto"),
        ({"features": {"GainAuto": 3}}, "features.GainAuto: got 3, expected one of Off, Continuous"),
        ({"features": {"BalanceRatio": "much"}}, "features.BalanceRatio: got much, expected a number"),
        ({"features": {"OffsetX": 1.5}}, "features.OffsetX: got 1.5, expected a whole number"),
        ({"features": {"AcquisitionFrameRateEnable": 1}}, "got 1, expected true or false"),
        ({"features": {"UserSetLoad": 1}}, "expected true: it is a command"),
    ],
)
def test_what_the_device_can_not_take_is_told(changes: dict[str, Any], told: str) -> None:
    assert told in refusal(Table(), **changes)


@pytest.mark.parametrize(
    ("features", "told"),
    [
        ({"TriggerMode": "Off"}, "trigger: wrote On to TriggerMode, but at the end it is Off"),
        ({"ExposureTime": 5000.0}, "exposure_time_us: wrote 200 to ExposureTime, but at the end it is 5000"),
        ({"Width": 32}, "width_px: wrote 640 to Width, but at the end it is 32"),
        ({"UserSetLoad": True}, "trigger: wrote On to TriggerMode, but at the end it is Off"),
    ],
)
def test_what_is_undone_by_something_later_is_told(features: dict[str, Any], told: str) -> None:
    device = Table()

    def load(name: str) -> None:
        device.values["TriggerMode"] = "Off"

    device.execute = load  # type: ignore[method-assign]
    assert told in refusal(device, exposure_time_us=200.0, features=features)


def test_one_feature_of_several_entries_may_be_written_for_each() -> None:
    device = Table()
    features = {"BalanceRatioSelector": "Red", "BalanceRatio": 1.1}
    apply_features(config(features=features), device)
    assert device.values["BalanceRatio"] == 1.1


def test_all_faults_are_told_at_once() -> None:
    device = Table()
    device.refused["Gain"] = "access denied"
    text = refusal(device, width_px=4096, gain_db=1.0, features={"Nonsense": 1})
    assert "width_px" in text
    assert "gain_db: the camera refused 1 for Gain: access denied" in text
    assert "features.Nonsense" in text
