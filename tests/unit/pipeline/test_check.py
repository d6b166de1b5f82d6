from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.camera_config import DeviceCamera
from pipeline.cameras import pylon
from pipeline.cli import check
from pipeline.frame_matching import FrameMatcher
from tests.in_process import lineside_here
from tests.service import lineside, write_line


def line_with(folder: Path, **recipe: Any) -> Path:
    line = write_line(folder, 1)
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **recipe}))
    return line


def test_every_rule_is_told_in_words(tmp_path: Path) -> None:
    zone = {"x_px": 1, "y_px": 2, "width_px": 30, "height_px": 20}
    rules = [
        {"class": "defective", "reject_at_score": 0.5},
        {"class": "defective", "reject_at_score": 0.25, "camera_id": "cam0", "zone": zone, "min_area_px": 40.0},
        {"class": "defective", "reject_at_score": 0.3, "min_width_px": 2.0, "reject_at_count": 3},
        {"class": "defective", "reject_at_score": 0.4, "min_height_px": 5.0, "reject_at_total_area_px": 90.5},
    ]
    required = [{"class": "functional", "found_at_score": 0.6, "count": 2, "zone": zone}]
    # A classifier finds one thing in a region: three need three.
    region = {"x_px": 0, "y_px": 0, "width_px": 32, "height_px": 24}
    views = [{"camera_id": "cam0", "regions": [{"name": name, **region} for name in "abc"]}]
    done = lineside("check", line_with(tmp_path, rules=rules, required=required, views=views))
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("reject")] == [
        "reject    defective at 0.5 or more",
        "reject    defective at 0.25 or more, seen by cam0, within 30x20 px at 1,2, at least 40 px of area",
        "reject    defective at 0.3 or more, at least 2 px wide, 3 together",
        "reject    defective at 0.4 or more, at least 5 px high, 90.5 px of area together",
        "reject    fewer than 2 functional at 0.6 or more, within 30x20 px at 1,2",
    ]


@pytest.mark.parametrize(
    ("recipe", "key", "text"),
    [
        ({"rules": [], "required": []}, "rules", "got no rule and nothing required"),
        ({"required": [{"class": "screw", "found_at_score": 0.5}]}, "required.0.class", "got 'screw'"),
        (
            {"rules": [{"class": "defective", "reject_at_score": 0.5, "camera_id": "cam7"}]},
            "rules.0.camera_id",
            "expected a camera of the recipe's views: cam0",
        ),
        (
            {
                "rules": [
                    {
                        "class": "defective",
                        "reject_at_score": 0.5,
                        "zone": {"x_px": 3, "y_px": 0, "width_px": 30, "height_px": 20},
                    }
                ]
            },
            "rules.0.zone.x_px",
            "got an end at 33, expected to end inside the 32 px of camera cam0",
        ),
        (
            {"rules": [{"class": "defective", "reject_at_score": 0.5, "reject_at_count": 0}]},
            "rules.0.reject_at_count",
            "got 0",
        ),
    ],
)
def test_a_rule_that_cannot_hold_is_named(tmp_path: Path, recipe: dict[str, Any], key: str, text: str) -> None:
    done = lineside("check", line_with(tmp_path, **recipe))
    assert done.returncode == 2, done.stdout
    assert done.stderr.startswith(f"{tmp_path / 'recipe.yaml'}: {key}: got ")
    assert text in done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_camera_needs_and_is_not_installed_is_named_with_the_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = {
        "camera_id": "cam0",
        "kind": "pylon",
        "serial": "1",
        "width_px": 32,
        "height_px": 32,
        "pixel_format": "Mono8",
    }
    line = write_line(tmp_path, 1, cameras=[camera])
    monkeypatch.setattr(pylon, "find_spec", lambda _: None)
    done = lineside_here("check", line)
    assert done.returncode == 1
    assert "camera cam0: pypylon is not installed: pip install 'lineside[pylon]'" in done.stderr
    assert "camera    cam0: pylon, 32x32 Mono8" in done.stdout, "the rest is told all the same"


def told_cameras(*names: str, **more: Any) -> list[dict[str, Any]]:
    shape = {"kind": "simulated", "width_px": 32, "height_px": 32, "pixel_format": "Mono8"}
    told = {**shape, "trigger_notices": {"pitch_us": 50_000}, **more}
    return [{**told, "camera_id": name, "address": f"{name}.sock"} for name in names]


@pytest.mark.parametrize(
    ("encoder", "by"),
    [
        (None, "part_key"),
        (
            {"reject_offset_pulses": 9, "match_pulses": 5},
            "encoder counts within 5 pulses of each other, or by part_key where a",
        ),
    ],
)
def test_what_joins_views_whose_triggers_are_told(tmp_path: Path, encoder: dict[str, int] | None, by: str) -> None:
    done = lineside("check", write_seen_line(tmp_path, told_cameras("cam0", "cam1"), encoder))
    assert done.returncode == 0, done.stderr
    assert f"parts     views of one part by {by}" in done.stdout


def test_times_of_told_triggers_join_nothing(tmp_path: Path) -> None:
    cameras = [*told_cameras("cam0"), *told_cameras("cam1", trigger_notices=None)]
    done = lineside("check", write_seen_line(tmp_path, cameras, None))
    assert done.returncode == 2, done.stdout
    assert "cameras.1.trigger_notices: got none, beside cameras that have them, expected trigger_notices" in done.stderr
    # Its own count joins them, and no key.
    done = lineside("check", write_seen_line(tmp_path, cameras, {"reject_offset_pulses": 9}))
    assert done.returncode == 0, done.stderr
    assert "part_key" not in done.stdout


def write_seen_line(folder: Path, cameras: list[dict[str, Any]], encoder: dict[str, int] | None) -> Path:
    """Each camera with a view."""
    file = write_line(folder, 1, cameras=cameras, encoder=encoder)
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    region = recipe["views"][0]["regions"]
    recipe["views"] = [{"camera_id": camera["camera_id"], "regions": region} for camera in cameras]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return file


def test_triggers_that_are_told_are_shown(tmp_path: Path) -> None:
    camera = {
        "camera_id": "cam0",
        "kind": "simulated",
        "address": "cam0.sock",
        "width_px": 32,
        "height_px": 32,
        "pixel_format": "Mono8",
        "trigger_notices": {"pitch_us": 50_000},
    }
    done = lineside("check", write_line(tmp_path, 1, cameras=[camera]))
    assert done.returncode == 0, done.stderr
    told = "triggers  cam0: told on test/line/trigger/cam0, frames matched by time, exposed within +-12500 us of the measured delay"
    assert told in done.stdout.splitlines()


def over_budget_of(folder: Path, timing: dict[str, int], *cameras: dict[str, Any]) -> str:
    done = lineside_here("check", write_line(folder, 1, cameras=list(cameras), timing=timing))
    # Of a camera that needs what is not installed here the rest is told all the same.
    return next((line for line in done.stderr.splitlines() if "over-budget" in line), "")


def test_a_budget_that_leaves_no_time_for_messages_is_told(tmp_path: Path) -> None:
    (camera,) = told_cameras("cam0", trigger_notices={"pitch_us": 200_000})
    assert over_budget_of(tmp_path, {"deadline_us": 200_000}, camera) == (
        "lineside: warning: frames that come no later than their triggers' messages wait for others that may be held up "
        "(cam0 20000 us), longer than timing.budget_us 5000: the alarm over-budget would stand; 25000 would do (docs/triggers.md)"
    )
    assert not over_budget_of(tmp_path, {"deadline_us": 200_000, "budget_us": 25_000}, camera)
    camera["trigger_notices"]["pitch_us"] = 39_000
    assert not over_budget_of(tmp_path, {"deadline_us": 200_000}, camera)


def test_a_budget_for_frames_that_messages_fire_fits_the_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "missing", lambda camera: None)
    (camera,) = told_cameras("cam0", trigger_notices={"pitch_us": 60_000})
    camera |= {"kind": "pylon", "address": "10.0.0.1", "trigger": "software"}
    warning = over_budget_of(tmp_path, {"deadline_us": 40_000}, camera)
    assert "(cam0 30000 us)" in warning
    assert "35000 would do with a deadline_us of more than 68000 (docs/triggers.md)" in warning
    assert not over_budget_of(tmp_path, {"deadline_us": 68_001, "budget_us": 35_000}, camera)
    warning = over_budget_of(tmp_path, {"deadline_us": 68_001}, camera)
    assert "35000 would do (docs/triggers.md)" in warning


@pytest.mark.parametrize("pitch_us", [10_000, 50_000, 400_000])
@pytest.mark.parametrize("trigger", ["hardware", "software"])
def test_frames_wait_for_messages_as_long_as_is_told(pitch_us: int, trigger: str) -> None:
    device = {"camera_id": "cam0", "width_px": 8, "height_px": 8, "pixel_format": "Mono8", "trigger": trigger}
    camera = DeviceCamera.model_validate({**device, "trigger_notices": {"pitch_us": pitch_us}})
    is_fired = trigger == "software"
    matcher = FrameMatcher(pitch_us * 1_000, "window", 10**8, 8, lag_max_ns=10**7, is_fired=is_fired)
    assert camera.settling_us * 1_000 == matcher._settling_ns
