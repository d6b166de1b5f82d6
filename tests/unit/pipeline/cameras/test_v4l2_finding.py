from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

import pytest

from pipeline.cameras import v4l2_finding
from pipeline.cameras.finding import find

CAPTURE, METADATA, HAS_OWN = 0x1, 0x800000, 0x80000000
# As the kernel tells it of each: driver, card, bus, capabilities of all its devices, and of this one.
KERNEL = {
    "video0": (b"uvcvideo", b"HD Camera", b"usb-0000:00:14.0-2", HAS_OWN | CAPTURE | METADATA, HAS_OWN | CAPTURE),
    "video1": (b"uvcvideo", b"HD Camera", b"usb-0000:00:14.0-2", HAS_OWN | CAPTURE | METADATA, HAS_OWN | METADATA),
    "video10": (b"old", b"Grabber", b"PCI:0", CAPTURE, 0),
    "video2": None,
}


@pytest.fixture
def devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No such device is here: files in their place, and answers as videodev2.h lays them out."""
    for name in (*KERNEL, "video-notes"):
        (tmp_path / name).touch()
    (tmp_path / "v4l" / "by-id").mkdir(parents=True)
    (tmp_path / "v4l" / "by-id" / "usb-Maker_HD_Camera_0815-video-index0").symlink_to(tmp_path / "video0")

    def ioctl(descriptor: int, number: int, argument: bytes) -> bytes:
        assert number == 0x80685600
        assert len(argument) == 104
        told = KERNEL[Path(f"/proc/self/fd/{descriptor}").readlink().name]
        if told is None:
            raise OSError(errno.ENOTTY, "no video device")
        driver, card, bus, all_can, this_can = told
        return struct.pack("<16s32s32s6I", driver, card, bus, 0x060100, all_can, this_can, 0, 0, 0)

    monkeypatch.setattr(v4l2_finding, "_DEVICES", tmp_path)
    monkeypatch.setattr(fcntl, "ioctl", ioctl)
    return tmp_path


def test_devices_that_deliver_pictures_are_found_by_the_name_that_lasts(devices: Path) -> None:
    found, not_looked = find(["v4l2"])
    assert not_looked == {}
    assert [(each.model, each.address, each.keys) for each in found] == [
        ("HD Camera", "usb-0000:00:14.0-2", {"device": f"{devices}/v4l/by-id/usb-Maker_HD_Camera_0815-video-index0"}),
        ("Grabber", "PCI:0", {"device": f"{devices}/video10"}),
    ]


def test_one_that_may_not_be_opened_is_told(devices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, flags: int) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    found, not_looked = find(["v4l2"])
    assert found == []
    assert "is this user in the group video?" in not_looked["v4l2"]
    assert "video0" in not_looked["v4l2"]


def test_where_there_is_no_device_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(v4l2_finding, "_DEVICES", tmp_path)
    assert find(["v4l2"]) == ([], {})
