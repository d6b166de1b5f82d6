"""Configuration: every fault at once with file and key path, and nothing but faults whatever is written."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.camera_config import DeviceCamera, FolderCamera
from pipeline.config import Line, load_line, load_model
from vision.faults import FaultsError
from vision.recipe import Recipe
from vision.types import PixelFormat

LINE: dict[str, Any] = {
    "topic_root": "acme/line1/aoi1",
    "recipe": "recipe.yaml",
    "cameras": [
        {
            "camera_id": "cam0",
            "kind": "folder",
            "folder": "images",
            "parts_per_min": 1200.0,
            "width_px": 32,
            "height_px": 32,
            "pixel_format": "Mono8",
        }
    ],
    "timing": {"deadline_us": 40_000, "guard_us": 3_000},
    "encoder": {"bits": 32, "reject_offset_pulses": 800},
    "mqtt": {"port": 1883},
    "records": {"path": "records/line.db"},
}
RECIPE: dict[str, Any] = {
    "recipe_id": "r",
    "recipe_version": "1",
    "model": "model",
    "views": [
        {
            "camera_id": "cam0",
            "regions": [{"name": "all", "x_px": 0, "y_px": 0, "width_px": 32, "height_px": 32}],
        }
    ],
    "rules": [{"class": "defective", "reject_at_score": 0.5}],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A line without a fault."""
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.PNG").write_bytes(b"")
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    (tmp_path / "line.yaml").write_text(yaml.safe_dump(LINE))
    return tmp_path


def faults_of(folder: Path, text: str | None = None) -> list[str]:
    """One line a fault, less the folder."""
    if text is not None:
        (folder / "line.yaml").write_text(text)
    with pytest.raises(FaultsError) as caught:
        load_line(folder / "line.yaml")
    return str(caught.value).replace(f"{folder}{os.sep}", "").splitlines()


def changed(path: str, value: Any) -> str:
    """The line's YAML with one key set, or removed where ``value`` is None."""
    line = copy.deepcopy(LINE)
    place: Any = line
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        place = place[part]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return yaml.safe_dump(line)


def test_paths_count_from_the_file_that_names_them(folder: Path) -> None:
    line = load_line(folder / "line.yaml")
    camera = line.config.cameras[0]
    assert isinstance(camera, FolderCamera)
    assert camera.folder == folder / "images"
    assert line.config.records.path == folder / "records" / "line.db"
    assert (line.file, line.recipe_file) == (folder / "line.yaml", folder / "recipe.yaml")
    assert line.recipe.model == folder / "model"


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("colour", "red", "line.yaml: colour: got an unknown key, expected only known keys (is it misspelt?)"),
        ("timing.guard_ms", 3, "line.yaml: timing.guard_ms: got an unknown key, expected only known keys"),
        ("cameras.0.gain", 3, "line.yaml: cameras.0.gain: got an unknown key, expected only known keys"),
        ("timing.deadline_us", "soon", "line.yaml: timing.deadline_us: got 'soon', expected a valid integer"),
        ("timing.deadline_us", 4.5, "line.yaml: timing.deadline_us: got 4.5, expected a valid integer"),
        ("timing.deadline_us", 10**7, "line.yaml: timing.deadline_us: got 10000000, expected less than or equal to"),
        ("mqtt.port", True, "line.yaml: mqtt.port: got True, expected a valid integer"),
        ("encoder.bits", 33, "line.yaml: encoder.bits: got 33, expected less than or equal to 32"),
        ("cameras.0.parts_per_min", 1e-300, "line.yaml: cameras.0.parts_per_min: got 1e-300, expected greater than"),
        ("cameras.0.kind", "webcam", "line.yaml: cameras.0.kind: got 'webcam', expected one of 'folder', 'simulated'"),
        ("topic_root", "a/#", "line.yaml: topic_root: got 'a/#', expected"),
        ("topic_root", "x" * 300, "line.yaml: topic_root: got"),
        ("topic_root", "a/b\n", "line.yaml: topic_root: got 'a/b\\n', expected"),
        ("topic_root", "a\x7f/b", "line.yaml: topic_root: got 'a\\x7f/b', expected"),
        ("topic_root", "$SYS/x", "line.yaml: topic_root: got '$SYS/x', expected"),
        ("topic_root", "$share/g/x", "line.yaml: topic_root: got '$share/g/x', expected"),
        ("mqtt.host", "bad host name..", "line.yaml: mqtt.host: got 'bad host name..', expected a host name or an IP"),
        ("mqtt.host", "bad host", "line.yaml: mqtt.host: got 'bad host', expected a host name or an IP"),
        ("mqtt.host", "a..b", "line.yaml: mqtt.host: got 'a..b', expected a host name or an IP"),
        ("mqtt.host", "broker\n", "line.yaml: mqtt.host: got 'broker\\n', expected a host name or an IP"),
        (
            "supervision",
            {"cpu_wakeup_latency_us": 2**33},
            "line.yaml: supervision.cpu_wakeup_latency_us: got 8589934592",
        ),
        (
            "records",
            {"path": "line.db", "acknowledged_within_s": "5"},
            "line.yaml: records.acknowledged_within_s: got '5', expected a valid number",
        ),
        ("ledger_parts", 131_073, "line.yaml: ledger_parts: got 131073, expected less than or equal to 131072"),
        ("cameras", [], "line.yaml: cameras: got [], expected"),
        ("records", None, "line.yaml: records: got nothing, expected a value"),
        ("timing.guard_us", 40_000, "got 40000, expected less than deadline_us 40000"),
        ("mqtt.password_env", "X", "got a password without a name, expected username as well"),
        ("recipe", "none.yaml", "none.yaml: got No such file or directory, expected a readable YAML file"),
        ("recipe", "images", "images: got Is a directory, expected a readable YAML file"),
        (
            "cameras.0.folder",
            "none",
            "line.yaml: cameras.0.folder: got none: No such file or directory, expected a folder",
        ),
        ("records.acknowledged_within_s", float("inf"), "got inf, expected a finite number"),
        ("supervision", {"back_off_max_s": float("nan")}, "got nan, expected a finite number"),
        ("supervision", {"silent_after_s": 0.1}, "got 0.1, expected greater than or equal to 1"),
        ("heartbeat_ms", 500, "got 500, expected less than or equal to 200"),
        ("mqtt.tls_ca_file", "none.pem", "line.yaml: mqtt.tls_ca_file: got none.pem: No such file"),
        ("mqtt.tls_ca_file", "recipe.yaml", "line.yaml: mqtt.tls_ca_file: got recipe.yaml: "),
        ("cameras.0.folder", "x" * 300, "File name too long, expected a folder that can be read"),
        ("cameras.0.folder", ".", "which holds no image, expected images (.png"),
        (
            "cameras.0.camera_id",
            "cam9",
            "line.yaml: cameras.0.camera_id: got cam9, expected a camera with a view in recipe",
        ),
    ],
)
def test_a_fault_is_named(folder: Path, path: str, value: Any, fault: str) -> None:
    found = faults_of(folder, changed(path, value))
    assert any(fault in line for line in found), found


@pytest.mark.parametrize(
    "host", ["localhost", "192.0.2.1", "2001:db8::1", "fe80::1%eth0", "br_1.plant.example.", "b\xfccher"]
)
def test_what_a_broker_may_be_called(folder: Path, host: str) -> None:
    (folder / "line.yaml").write_text(changed("mqtt.host", host))
    assert load_line(folder / "line.yaml").config.mqtt.host == host


def test_whole_seconds_need_no_point(folder: Path) -> None:
    (folder / "line.yaml").write_text(changed("records", {"path": "line.db", "acknowledged_within_s": 5}))
    assert load_line(folder / "line.yaml").config.records.acknowledged_within_s == 5.0


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("line.yaml", "a file of its own, not this file"),
        ("records/../line.yaml", "a file of its own, not this file"),
        ("link.yaml", "a file of its own, not this file"),
        ("recipe.yaml", "a file of its own, not the recipe"),
        ("camera.sock", "a file of its own, not cameras.1.address"),
        ("model/model.onnx", "a file in another folder than the model package's"),
        ("images/a.PNG", "a file in another folder than cameras.0.folder"),
        ("images/new.db", "a file in another folder than cameras.0.folder"),
    ],
)
def test_a_record_takes_the_place_of_nothing_else(folder: Path, path: str, expected: str) -> None:
    (folder / "link.yaml").symlink_to("line.yaml")
    simulated = {key: LINE["cameras"][0][key] for key in ("width_px", "height_px", "pixel_format")}
    simulated |= {"camera_id": "cam1", "kind": "simulated", "address": "camera.sock"}
    view = {**RECIPE["views"][0], "camera_id": "cam1"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "views": [*RECIPE["views"], view]}))
    line = {**LINE, "cameras": [*LINE["cameras"], simulated], "records": {"path": path}}
    (fault,) = faults_of(folder, yaml.safe_dump(line))
    assert fault.startswith("line.yaml: records.path: got ")
    assert fault.endswith(f", expected {expected}")


@pytest.mark.parametrize(
    ("images", "key", "expected"),
    [
        ({"path": "images"}, "path", "a folder outside of cameras.0.folder"),
        ({"path": "images/kept"}, "path", "a folder outside of cameras.0.folder"),
        ({"path": "model/kept"}, "path", "a folder outside of the model package's"),
        ({"path": "records/line.db"}, "path", "a folder of its own, not the record"),
        ({"path": "recipe.yaml"}, "path", "a folder"),
        ({"path": "x" * 300}, "path", "a folder"),
        ({"path": "kept", "memory_mib": 1}, "memory_mib", "room for a frame of camera cam0, 2 MiB"),
        ({"path": "kept", "memory_mib": 65_536}, "memory_mib", "no more than this machine's"),
        ({"path": "kept", "ring_slots": 0}, "ring_slots", "greater than or equal to 1"),
        ({"path": "kept", "format": "gif"}, "format", "'png' or 'jpeg'"),
        ({}, "path", "a value"),
    ],
)
def test_faults_of_images(folder: Path, images: dict[str, Any], key: str, expected: str) -> None:
    camera = {**LINE["cameras"][0], "width_px": 1_024, "height_px": 1_025}
    faults = faults_of(folder, yaml.safe_dump({**LINE, "cameras": [camera], "images": images}))
    told = [fault for fault in faults if fault.startswith(f"line.yaml: images.{key}: got ")]
    assert any(expected in fault for fault in told), faults


def test_what_waits_has_room_for_the_largest_frame_of_all_cameras(folder: Path) -> None:
    """Which need not be one of the largest ring."""
    first = LINE["cameras"][0]
    many = {**first, "camera_id": "many", "width_px": 512, "height_px": 512, "ring_slots": 64}
    large = {**first, "camera_id": "large", "width_px": 2_048, "height_px": 1_024, "ring_slots": 2}
    small = {"path": "kept", "memory_mib": 1}
    line = {**LINE, "cameras": [many, large], "images": small, "recording": {"path": "windows", "memory_mib": 1}}
    faults = faults_of(folder, yaml.safe_dump(line))
    for key in ("images", "recording"):
        expected = f"line.yaml: {key}.memory_mib: got 1, expected room for a frame of camera large, 2 MiB"
        assert expected in faults


def test_what_waits_has_to_fit_beside_everything_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.config_places.memory_bytes", lambda: 900 << 20)
    images, recording = {"path": "kept", "memory_mib": 500}, {"path": "windows", "memory_mib": 500}
    (folder / "line.yaml").write_text(yaml.safe_dump({**LINE, "images": images}))
    load_line(folder / "line.yaml")
    both = yaml.safe_dump({**LINE, "images": images, "recording": recording})
    (fault,) = (fault for fault in faults_of(folder, both) if "memory_mib" in fault)
    assert fault.startswith(
        "line.yaml: recording.memory_mib: got 500, expected no more than this machine's 900 MiB leave"
    )
    assert "leave beside the rings' and images' 5" in fault


def test_images_take_slots_of_their_own(folder: Path) -> None:
    assert load_line(folder / "line.yaml").config.image_slots == 0
    (folder / "line.yaml").write_text(yaml.safe_dump({**LINE, "images": {"path": "kept", "ring_slots": 5}}))
    line = Line.from_json(load_line(folder / "line.yaml").to_json())
    assert line.config.image_slots == 5
    assert line.config.images is not None
    assert line.config.images.path == folder / "kept"


def test_a_record_in_a_loop_of_links(folder: Path) -> None:
    (folder / "loop").symlink_to("loop")
    for path in ("loop", "loop/line.db"):
        (fault,) = faults_of(folder, changed("records.path", path))
        assert fault.startswith(
            f"line.yaml: records.path: got {path}: Too many levels of symbolic links, expected a file"
        )


@pytest.mark.parametrize("size", [201, 300])
def test_a_record_whose_companions_could_have_no_name(folder: Path, size: int) -> None:
    (fault,) = faults_of(folder, changed("records.path", "ä" * (size // 2) + "x" * (size % 2)))
    assert fault.startswith(f"line.yaml: records.path: got a name of {size} bytes, 'ä")
    assert fault.endswith("expected at most 200")
    (folder / "line.yaml").write_text(changed("records.path", "ä" * 100))
    load_line(folder / "line.yaml")


def test_a_record_in_a_folder_of_too_long_a_name(folder: Path) -> None:
    (fault,) = faults_of(folder, changed("records.path", f"{'x' * 300}/line.db"))
    assert fault.endswith("/line.db: File name too long, expected a file that can be opened")


@pytest.mark.parametrize("path", ["recipe", "cameras.0.folder", "mqtt.tls_ca_file"])
def test_other_files_in_a_loop_of_links(folder: Path, path: str) -> None:
    (folder / "loop").symlink_to("loop")
    (fault,) = faults_of(folder, changed(path, "loop"))
    assert "Too many levels of symbolic links" in fault


def test_a_line_that_no_worker_can_be_told(folder: Path) -> None:
    region = RECIPE["views"][0]["regions"][0]
    regions = [{**region, "name": f"region {number}"} for number in range(1_000)]
    (folder / "recipe.yaml").write_text(
        yaml.safe_dump({**RECIPE, "views": [{"camera_id": "cam0", "regions": regions}]})
    )
    (fault,) = faults_of(folder)
    assert "bytes, recipe and all paths included, expected at most 60000" in fault


NOTICED = {
    **{key: LINE["cameras"][0][key] for key in ("camera_id", "width_px", "height_px", "pixel_format")},
    "kind": "simulated",
    "address": "camera.sock",
}


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"trigger_notices": {}}, "cameras.0.trigger_notices.pitch_us: got nothing, expected a value"),
        ({"trigger_notices": {"pitch_us": 99}}, "cameras.0.trigger_notices.pitch_us: got 99, expected greater than"),
        (
            {"trigger_notices": {"pitch_us": 50_000, "topic": "verdict"}},
            "cameras.0.trigger_notices.topic: got 'verdict'",
        ),
        ({"trigger_notices": {"pitch_us": 50_000, "topic": "trigger/+"}}, "cameras.0.trigger_notices.topic: got"),
        ({"trigger_notices": {"pitch_us": 50_000, "match": "luck"}}, "expected 'counter' or 'window'"),
        ({"trigger": "software"}, "cameras.0.trigger: got 'software', expected 'hardware'"),
    ],
)
def test_faults_of_triggers_that_are_told(folder: Path, change: dict[str, Any], fault: str) -> None:
    (told,) = faults_of(folder, yaml.safe_dump({**LINE, "cameras": [{**NOTICED, **change}]}))
    assert fault in told


def test_a_fired_frame_is_in_time_for_its_part(folder: Path) -> None:
    camera = {
        **{key: LINE["cameras"][0][key] for key in ("camera_id", "width_px", "height_px", "pixel_format")},
        "kind": "aravis",
        "address": "10.0.0.9",
        "trigger": "software",
        "trigger_notices": {"pitch_us": 64_000},
    }
    timing = {"deadline_us": 40_000, "guard_us": 3_000}
    (told,) = faults_of(folder, yaml.safe_dump({**LINE, "timing": timing, "cameras": [camera]}))
    assert (
        "cameras.0.trigger_notices.pitch_us: got 64000, expected less than 64000: a frame that a notice fired" in told
    )
    camera["trigger_notices"] = {"pitch_us": 63_000}
    (folder / "line.yaml").write_text(yaml.safe_dump({**LINE, "timing": timing, "cameras": [camera]}))
    load_line(folder / "line.yaml")


def test_a_camera_at_its_own_pace_has_no_triggers_to_be_told() -> None:
    device = {"camera_id": "cam0", "width_px": 8, "height_px": 8, "pixel_format": "Mono8", "trigger": "free_running"}
    assert DeviceCamera.model_validate(device).trigger_notices is None
    with pytest.raises(ValidationError, match="none for a camera that is free_running"):
        DeviceCamera.model_validate({**device, "trigger_notices": {"pitch_us": 50_000}})


def test_a_folder_has_no_triggers_to_be_told(folder: Path) -> None:
    camera = {**LINE["cameras"][0], "trigger_notices": {"pitch_us": 50_000}}
    (told,) = faults_of(folder, yaml.safe_dump({**LINE, "cameras": [camera]}))
    assert "cameras.0.trigger_notices: got an unknown key" in told


def test_two_cameras_with_one_id(folder: Path) -> None:
    (fault,) = faults_of(folder, changed("cameras", LINE["cameras"] * 2))
    assert "camera_id cam0 more than once" in fault


def test_all_faults_of_both_files_come_at_once(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "rules": 7, "views": 3}))
    line = yaml.safe_load(changed("timing.deadline_us", "soon"))
    line["cameras"][0]["width_px"] = -1
    line["colour"] = "red"
    del line["records"]
    keys = {fault.split(": got")[0] for fault in faults_of(folder, yaml.safe_dump(line))}
    assert keys == {
        "line.yaml: timing.deadline_us",
        "line.yaml: cameras.0.width_px",
        "line.yaml: colour",
        "line.yaml: records",
        "recipe.yaml: rules",
        "recipe.yaml: views",
    }


def test_faults_between_the_files_come_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINE_PASSWORD", raising=False)
    view = {**RECIPE["views"][0], "camera_id": "cam7"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "views": [view]}))
    (folder / "images" / "a.PNG").unlink()
    faults = faults_of(folder, changed("mqtt", {"username": "u", "password_env": "LINE_PASSWORD"}))
    assert [fault.split(": got")[0] for fault in faults] == [
        "line.yaml: mqtt.password_env",
        "recipe.yaml: views.0.camera_id",
        "line.yaml: cameras.0.camera_id",
        "line.yaml: cameras.0.folder",
    ]
    monkeypatch.setenv("LINE_PASSWORD", "")
    assert len(faults_of(folder)) == 3


# --- YAML ----------------------------------------------------------------------------------------------------------


def test_a_key_that_stands_twice(folder: Path) -> None:
    text = (folder / "line.yaml").read_text() + "topic_root: other\n"
    (fault,) = faults_of(folder, text)
    assert fault.startswith(f"line.yaml: line {len(text.splitlines())}, column 1: got key 'topic_root' stands twice")


def test_a_merge_may_be_overridden(folder: Path) -> None:
    text = changed("cameras", ["CAMERAS"]).replace(
        "- CAMERAS",
        "- &camera {camera_id: cam0, kind: folder, folder: images, parts_per_min: 60.0, width_px: 32, height_px: 32,"
        " pixel_format: Mono8}\n- {camera_id: cam1, <<: *camera, width_px: 64}",
    )
    view = RECIPE["views"][0]
    views = [view, {**view, "camera_id": "cam1"}]
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "views": views}))
    (folder / "line.yaml").write_text(text)
    cameras = load_line(folder / "line.yaml").config.cameras
    assert [(camera.camera_id, camera.width_px) for camera in cameras] == [("cam0", 32), ("cam1", 64)]
    (fault,) = faults_of(folder, text.replace("width_px: 64", "width_px: 64, width_px: 65"))
    assert "key 'width_px' stands twice" in fault


@pytest.mark.parametrize(
    "text",
    [
        "",
        "- a",
        "a: [",
        "a: 2020-13-45",
        "a: 2001-01-01T25:00:00Z",
        "a: !!timestamp x",
        "a: !!int x",
        'a: !!int ""',
        "a: !!float x",
        "a: !!bool x",
        "a: 0x_",
        "a: " + "1" * 5_000,
        "a: !!python/object:os.system {}",
        "? [a, b]\n: c",
        "a: &a [*a]\nrecipe: *a",
        "a: &a {b: *a}",
        "[" * 5_000,
        "a: \x00",
        "2020-01-01: x",
        "1: x\n.nan: y\ntrue: z",
        'recipe: "a\\0b"',
        'recipe: "\\ud800"',
        'records: {path: "\\ud800"}',
        '"\\udfff": x',
    ],
    ids=lambda text: repr(text[:24]),
)
def test_whatever_is_written_is_at_most_a_fault(folder: Path, text: str) -> None:
    assert all(fault.startswith("line.yaml") for fault in faults_of(folder, text))


def test_bytes_that_are_no_text(folder: Path) -> None:
    (folder / "line.yaml").write_bytes(b"\xff\xfe\x00")
    (fault,) = faults_of(folder)
    assert "expected a readable YAML file" in fault


def test_a_model_is_loaded_alone(folder: Path) -> None:
    assert load_model(folder / "recipe.yaml", Recipe).recipe_id == "r"


# --- at random -----------------------------------------------------------------------------------------------------

JUNK = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from([2**70, -(2**70), 0, -1, "..", "", "/", "cam0", "recipe.yaml", "x" * 5_000, float("nan")]),
        st.dates(),
        st.binary(max_size=4),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=4,
)
AT_RANDOM = settings(
    max_examples=150,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a tree."""
    keys = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def load(folder: Path) -> Line | None:
    try:
        return load_line(folder / "line.yaml")
    except FaultsError:
        return None


@given(data=st.data())
@AT_RANDOM
def test_mutated_values_are_at_most_faults(folder: Path, data: st.DataObject) -> None:
    for name, content in (("line.yaml", LINE), ("recipe.yaml", RECIPE)):
        mutated = copy.deepcopy(content)
        for _ in range(data.draw(st.integers(0, 2))):
            container, key = data.draw(st.sampled_from(places(mutated)))
            what = data.draw(st.sampled_from(["set", "remove", "add"]))
            if what == "remove":
                container.pop(key)
            elif what == "add" and isinstance(container, dict):
                container[data.draw(st.text(max_size=8))] = data.draw(JUNK)
            else:
                container[key] = data.draw(JUNK)
        (folder / name).write_text(yaml.safe_dump(mutated, allow_unicode=True), encoding="utf-8")
    load(folder)


@given(at=st.integers(0, 10_000), length=st.integers(0, 6), text=st.text(max_size=6), data=st.data())
@AT_RANDOM
def test_mutated_text_is_at_most_a_fault(folder: Path, at: int, length: int, text: str, data: st.DataObject) -> None:
    written = yaml.safe_dump(LINE)
    at %= len(written)
    odd = data.draw(
        st.sampled_from([text, "&a", "*a", "!!int ", "!!", "<<: ", "? ", ": ", "[", "{", "\t", "---\n", "%"])
    )
    (folder / "line.yaml").write_text(written[:at] + odd + written[at + length :], encoding="utf-8")
    load(folder)


@pytest.mark.parametrize("written", ["off", "'off'", "changeover", "always"])
def test_line_clearance_off_is_a_word(folder: Path, written: str) -> None:
    """YAML 1.1 takes a bare off for false."""
    text = (folder / "line.yaml").read_text() + f"line_clearance: {written}\n"
    (folder / "line.yaml").write_text(text)
    line = load_line(folder / "line.yaml")
    assert line.config.line_clearance == written.strip("'")
    assert Line.from_json(line.to_json()) == line


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("line_clearance", True, "line_clearance: got True"),
        ("line_rules", {"reject_rate": {"window_parts": 10}}, "max_share: got neither max_share nor min_share"),
        (
            "line_rules",
            {"reject_rate": {"window_parts": 10, "max_share": 0.1, "min_share": 0.2}},
            "line_rules.reject_rate.min_share: got 0.2, expected less than max_share 0.1",
        ),
        ("line_rules", {"consecutive_rejects": {"count": 0}}, "line_rules.consecutive_rejects.count: got 0"),
        ("line_rules", {"consecutive_rejects": {"count": 3, "action": "halt"}}, "consecutive_rejects.action: got"),
        ("degraded", {"headroom_used": 1.0}, "degraded.headroom_used: got 1.0"),
    ],
)
def test_faults_of_the_line_rules(folder: Path, key: str, value: Any, fault: str) -> None:
    (found,) = faults_of(folder, changed(key, value))
    assert fault in found


def test_faults_of_what_parts_belong_to(folder: Path) -> None:
    keys = {"lot": "a\tb", "order": 7, "serial": "", "shift": "x" * 65, "batch": "B"}
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**RECIPE, "traceability": keys}))
    with pytest.raises(FaultsError) as caught:
        load_line(folder / "line.yaml")
    told = str(caught.value)
    for words in (
        "traceability.lot: got 'a\\tb', expected printable characters",
        "traceability.order: got 7",
        "traceability.serial: got ''",
        "traceability.shift: got ",
        "traceability.batch: got ",
    ):
        assert words in told


@pytest.mark.parametrize(
    ("pixel_format", "width_px", "height_px", "fault"),
    [
        ("Mono10p", 30, 32, "cameras.0.width_px: got 30, expected a multiple of 4, as Mono10p has it"),
        ("Mono10Packed", 31, 32, "cameras.0.width_px: got 31, expected a multiple of 2, as Mono10Packed has it"),
        ("Mono12Packed", 31, 32, "cameras.0.width_px: got 31, expected a multiple of 2, as Mono12Packed has it"),
        ("Mono12p", 31, 32, "cameras.0.width_px: got 31, expected a multiple of 2, as Mono12p has it"),
        ("BayerGB8", 31, 32, "cameras.0.width_px: got 31, expected a multiple of 2, as BayerGB8 has it"),
        ("BayerGB8", 32, 31, "cameras.0.height_px: got 31, expected a multiple of 2, as BayerGB8 has it"),
        ("YUV422_8", 31, 32, "cameras.0.width_px: got 31, expected a multiple of 2, as YUV422_8 has it"),
    ],
)
def test_a_size_that_a_pixel_format_does_not_have(
    folder: Path, pixel_format: str, width_px: int, height_px: int, fault: str
) -> None:
    line = copy.deepcopy(LINE)
    line["cameras"][0] |= {"pixel_format": pixel_format, "width_px": width_px, "height_px": height_px}
    assert faults_of(folder, yaml.safe_dump(line)) == [f"line.yaml: {fault}"]


@pytest.mark.parametrize("pixel_format", list(PixelFormat))
def test_every_pixel_format_is_known_by_its_name(folder: Path, pixel_format: PixelFormat) -> None:
    (folder / "line.yaml").write_text(changed("cameras.0.pixel_format", pixel_format.value))
    (camera,) = load_line(folder / "line.yaml").config.cameras
    assert camera.pixel_format is pixel_format


def test_an_unknown_pixel_format_is_told_with_those_that_are_known(folder: Path) -> None:
    (fault,) = faults_of(folder, changed("cameras.0.pixel_format", "Mono16"))
    assert "pixel_format: got 'Mono16', expected 'Mono8'" in fault
    assert "YUV422_8_UYVY" in fault
