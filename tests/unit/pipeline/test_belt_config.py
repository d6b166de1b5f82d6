"""Cameras along the belt in the configuration: what does not go together is named, what will run is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

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
