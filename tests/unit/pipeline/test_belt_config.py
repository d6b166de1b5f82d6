"""Cameras along the belt in the configuration: what does not go together is named, what will run is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.cli import check
from tests.in_process import lineside_here
from tests.service import lineside, write_line

ENCODER = {"bits": 20, "reject_offset_pulses": 5_000, "match_pulses": 20, "speed_max_pulses_per_s": 20_000.0}
CAMERA = {"kind": "simulated", "width_px": 32, "height_px": 32, "pixel_format": "Mono8"}


def write_belt_line(folder: Path, offsets: tuple[int, ...] = (0, 1_500), **changes: Any) -> Path:
    """A line of simulated cameras at these places."""
    cameras = [
        {**CAMERA, "camera_id": f"cam{index}", "address": f"cam{index}.sock", "belt_offset_pulses": offset}
        for index, offset in enumerate(offsets)
    ]
    line = {"cameras": cameras, "encoder": ENCODER, "assembly_limit_us": 1_000_000, **changes}
    file = write_line(folder, 1, **{key: value for key, value in line.items() if value is not None})
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    region = recipe["views"][0]["regions"]
    recipe["views"] = [{"camera_id": camera["camera_id"], "regions": region} for camera in line["cameras"]]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return file


def test_what_will_run_is_told(tmp_path: Path) -> None:
    done = lineside("check", write_belt_line(tmp_path))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "camera    cam1: simulated, 32x32 Mono8, 16 slots, 1500 pulses down the belt" in lines
    assert [line for line in lines if line.startswith("parts ")] == [
        "parts     views of one part by encoder counts within 20 pulses of each other, each camera's place taken off; "
        "parts lie more than 80 apart",
        "parts     from the first camera's trigger 1000000 us to the last one's, with which the deadline begins; "
        "belt at most 20000 pulses/s",
    ]
    assert "warning: several cameras" not in done.stderr


@pytest.mark.parametrize(
    ("changes", "key", "expected"),
    [
        ({"encoder": None, "assembly_limit_us": None}, "cameras.1.belt_offset_pulses", "an encoder"),
        ({"assembly_limit_us": None}, "assembly_limit_us", "how long a part waits"),
        ({"offsets": (700, 700)}, "assembly_limit_us", "none, as all cameras have the same"),
        ({"offsets": (0, 5_001)}, "cameras.1.belt_offset_pulses", "at most encoder.reject_offset_pulses 5000"),
        (
            {"encoder": {**ENCODER, "speed_max_pulses_per_s": None}},
            "encoder.speed_max_pulses_per_s",
            "the belt's highest speed",
        ),
        ({"assembly_limit_us": 75_000}, "assembly_limit_us", "more than the 75000 that the belt takes"),
        ({"assembly_limit_us": 26_214_400}, "assembly_limit_us", "less than 26214400"),
    ],
)
def test_what_does_not_go_together_is_named(tmp_path: Path, changes: dict[str, Any], key: str, expected: str) -> None:
    file = write_belt_line(tmp_path, **changes)
    done = lineside("check", file)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith(f"{file}: {key}: got ")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def told_belt(offsets: tuple[int, int] = (0, 1_500), **encoder: Any) -> dict[str, Any]:
    """Two cameras whose triggers are told, parts 50 ms and 1,000 pulses apart at the nearest."""
    cameras = [
        {
            **CAMERA,
            "camera_id": f"cam{index}",
            "address": f"cam{index}.sock",
            "belt_offset_pulses": offset,
            "trigger_notices": {"pitch_us": 50_000},
        }
        for index, offset in enumerate(offsets)
    ]
    is_along_the_belt = len(set(offsets)) > 1
    limit_us = 1_000_000 if is_along_the_belt else None
    return {"cameras": cameras, "encoder": {**ENCODER, **encoder}, "assembly_limit_us": limit_us}


@pytest.mark.parametrize(
    ("line", "most", "apart"),
    [
        (told_belt(match_pulses=250), 249, 1_000),
        # The belt moves 800 pulses in 40 ms.
        ({**told_belt(match_pulses=100), "view_wait_us": 40_000}, 99, 1_000),
        (told_belt((0, 0), match_pulses=500), 499, 1_000),
    ],
)
def test_parts_lie_further_apart_than_counts_of_one_part_may(
    tmp_path: Path, line: dict[str, Any], most: int, apart: int
) -> None:
    file, got = write_belt_line(tmp_path, **line), line["encoder"]["match_pulses"]
    done = lineside_here("check", file)
    assert done.returncode == 2, done.stdout
    assert done.stderr == (
        f"{file}: encoder.match_pulses: got {got}, expected at most {most}: with "
        f"{got} parts have to lie more than {apart} pulses apart, and by trigger_notices.pitch_us 50000 "
        f"and encoder.speed_max_pulses_per_s 20000 they lie 1000 apart\n"
    )
    line["encoder"]["match_pulses"] = most
    done = lineside_here("check", write_belt_line(tmp_path, **line))
    assert done.returncode == 0, done.stderr


def test_how_near_parts_are_is_not_guessed(tmp_path: Path) -> None:
    done = lineside_here("check", write_belt_line(tmp_path, encoder={**ENCODER, "match_pulses": 2_000}))
    assert done.returncode == 0, done.stderr
    place = told_belt((0, 0), match_pulses=2_000, speed_max_pulses_per_s=None)
    done = lineside_here("check", write_belt_line(tmp_path, **place))
    assert done.returncode == 0, done.stderr


def test_along_the_belt_a_part_is_no_bounce_of_the_one_before(tmp_path: Path) -> None:
    file = write_belt_line(tmp_path, **told_belt(), view_wait_us=50_000)
    done = lineside_here("check", file)
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith(f"{file}: view_wait_us: got 50000, expected less than trigger_notices.pitch_us 50000")


def test_one_photo_eye_is_at_one_place(tmp_path: Path) -> None:
    line = told_belt()
    for camera in line["cameras"]:
        camera["trigger_notices"]["topic"] = "trigger/eye1"
    done = lineside_here("check", write_belt_line(tmp_path, **line))
    assert done.returncode == 2, done.stdout
    fault = "cameras.1.belt_offset_pulses: got 1500, expected 0 as for cam0, or a topic of its own: one photo-eye"
    assert fault in done.stderr
    line = {**line, "assembly_limit_us": None}
    line["cameras"][1]["belt_offset_pulses"] = 0
    done = lineside_here("check", write_belt_line(tmp_path, **line))
    assert done.returncode == 0, done.stderr


def test_the_topic_of_another_camera_is_its_photo_eye(tmp_path: Path) -> None:
    line = told_belt()
    line["cameras"][1]["trigger_notices"]["topic"] = "trigger/cam0"
    done = lineside_here("check", write_belt_line(tmp_path, **line))
    assert done.returncode == 2, done.stdout
    assert "one photo-eye tells both on test/line/trigger/cam0" in done.stderr


def folder_camera(name: str, **more: Any) -> dict[str, Any]:
    return {**CAMERA, "kind": "folder", "camera_id": name, "folder": "images", "parts_per_min": 60, **more}


def test_a_camera_that_tells_no_count_cannot_be_elsewhere_on_the_belt(tmp_path: Path) -> None:
    cameras = [folder_camera("cam0"), folder_camera("cam1", belt_offset_pulses=100)]
    done = lineside("check", write_belt_line(tmp_path, cameras=cameras))
    assert done.returncode == 2, done.stdout
    assert "cameras.0.belt_offset_pulses: got 0, of a camera (kind folder) that tells no encoder count" in done.stderr


def test_views_wait_less_than_a_part_has(tmp_path: Path) -> None:
    cameras = [folder_camera("cam0"), folder_camera("cam1")]
    plain: dict[str, Any] = {"cameras": cameras, "encoder": None, "assembly_limit_us": None}
    done = lineside("check", write_belt_line(tmp_path, **plain, view_wait_us=10_000_000))
    assert done.returncode == 2, done.stdout
    assert "view_wait_us: got 10000000, expected less than timing.deadline_us less guard_us" in done.stderr


def test_cameras_that_cannot_be_matched_are_told(tmp_path: Path) -> None:
    cameras = [folder_camera("cam0"), folder_camera("cam1")]
    done = lineside("check", write_belt_line(tmp_path, cameras=cameras, encoder=None, assembly_limit_us=None))
    assert done.returncode == 0, done.stderr
    assert "parts     views of one part by triggers within 2000 us of each other" in done.stdout.splitlines()
    warning = next(line for line in done.stderr.splitlines() if "several cameras" in line)
    assert "no encoder count comes with the triggers of cam0 (folder), cam1 (folder)" in warning
    assert "every part is NO_DECISION" in warning


def vision_cameras(**more: Any) -> list[dict[str, Any]]:
    """Two that count the encoder's pulses themselves."""
    common = {**CAMERA, "kind": "aravis", "encoder_chunk": "ChunkEncoderValue", **more}
    return [{**common, "camera_id": f"cam{index}", "address": f"10.0.0.{index + 1}"} for index in range(2)]


def warnings_of(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[str]:
    # Whether libaravis is installed here is nothing of the configuration's.
    monkeypatch.setattr(check, "missing", lambda camera: None)
    done = lineside_here("check", write_belt_line(folder, **{"assembly_limit_us": None, **changes}))
    assert done.returncode == 0, done.stderr
    return [line for line in done.stderr.splitlines() if line.startswith("lineside: warning: several cameras")]


@pytest.mark.parametrize("trigger", ["hardware", "free_running"])
def test_counts_that_join_nothing_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trigger: str) -> None:
    cameras = vision_cameras(trigger=trigger)
    (warning,) = warnings_of(tmp_path, monkeypatch, cameras=cameras, encoder=None)
    assert "without encoder: nothing joins views by the counts that cam0, cam1 tell (encoder_chunk)" in warning
    assert "triggered within view_wait_us 2000 us of each other" in warning
    assert not warnings_of(tmp_path, monkeypatch, cameras=cameras)


def test_counts_beside_part_keys_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cameras = vision_cameras(trigger_notices={"pitch_us": 50_000})
    (warning,) = warnings_of(tmp_path, monkeypatch, cameras=cameras, encoder=None)
    assert warning.endswith("nothing joins views by the counts that cam0, cam1 tell (encoder_chunk)")


@pytest.mark.parametrize(
    ("key", "value", "more"),
    [("address", "10.0.0.1", {}), ("serial", "22812345", {"serial": "22812345"})],
)
def test_a_device_is_one_camera(tmp_path: Path, key: str, value: str, more: dict[str, Any]) -> None:
    cameras = vision_cameras(**more)
    cameras[1]["kind"] = "pylon"
    if key == "address":
        cameras[1]["address"] = value
    file = write_belt_line(tmp_path, cameras=cameras, assembly_limit_us=None)
    done = lineside_here("check", file)
    assert done.returncode == 2, done.stdout
    fault = f"cameras.1.{key}: got {value}, expected another one than that of cam0: a device is one camera"
    assert done.stderr == f"{file}: {fault}\n"


def test_a_simulated_camera_is_one_camera(tmp_path: Path) -> None:
    line = told_belt()
    line["cameras"][1]["address"] = line["cameras"][0]["address"]
    done = lineside_here("check", write_belt_line(tmp_path, **line))
    assert done.returncode == 2, done.stdout
    assert "cameras.1.address: got cam0.sock, expected another one" in done.stderr
