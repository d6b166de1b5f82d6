"""What is wrong is said in one line, with status 2; what is only absent is said by a running service that passes nothing."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.models import write_stub_package
from tests.service import Service, lineside, write_images, write_line
from tests.tap import Tap

UNUSED_PORT = 1


def edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = yaml.safe_load(file.read_text())
    change(content)
    file.write_text(yaml.safe_dump(content))


def wrong_type(folder: Path) -> str:
    edit(folder / "line.yaml", lambda line: line["timing"].update(deadline_us="soon"))
    return "line.yaml: timing.deadline_us: got 'soon', expected"


def unknown_key(folder: Path) -> str:
    edit(folder / "line.yaml", lambda line: line["cameras"][0].update(exposure=3))
    return "line.yaml: cameras.0.exposure: got an unknown key"


def missing_model(folder: Path) -> str:
    (folder / "model" / "model.onnx").unlink()
    return "model.onnx"


def hash_mismatch(folder: Path) -> str:
    with (folder / "model" / "model.onnx").open("ab") as model:
        model.write(b"\x00")
    return "model.yaml: sha256: got"


def wrong_input_size(folder: Path) -> str:
    edit(folder / "model" / "model.yaml", lambda card: card["input"].update(width_px=24))
    return "input"


def empty_folder(folder: Path) -> str:
    for image in (folder / "images").iterdir():
        image.unlink()
    return "line.yaml: cameras.0.folder: got"


def region_outside(folder: Path) -> str:
    edit(folder / "recipe.yaml", lambda recipe: recipe["views"][0]["regions"][0].update(x_px=10))
    return "views.0.regions.0.x_px: got"


def two_cameras_one_id(folder: Path) -> str:
    edit(folder / "line.yaml", lambda line: line["cameras"].append(dict(line["cameras"][0])))
    return "line.yaml: cameras: got camera_id cam0 more than once, expected"


def not_yaml(folder: Path) -> str:
    (folder / "line.yaml").write_text("topic_root: [unclosed")
    return "line.yaml: line "


def missing_secret(folder: Path) -> str:
    edit(folder / "line.yaml", lambda line: line["mqtt"].update(username="u", password_env="LINESIDE_NO_SUCH_SECRET"))
    return "line.yaml: mqtt.password_env: got LINESIDE_NO_SUCH_SECRET"


MALFORMED = [
    wrong_type,
    unknown_key,
    missing_model,
    hash_mismatch,
    wrong_input_size,
    empty_folder,
    region_outside,
    two_cameras_one_id,
    not_yaml,
    missing_secret,
]


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("spoil", MALFORMED, ids=lambda spoil: spoil.__name__)
def test_malformed_is_status_2_and_one_clear_line(tmp_path: Path, command: str, spoil: Callable[[Path], str]) -> None:
    line = write_line(tmp_path, UNUSED_PORT)
    expected = spoil(tmp_path)
    done = lineside(command, line)
    assert done.returncode == 2, done.stderr
    assert expected in done.stderr
    assert "expected" in done.stderr
    assert "Traceback" not in done.stderr


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    line = write_line(tmp_path, UNUSED_PORT)
    wrong_type(tmp_path)
    unknown_key(tmp_path)
    done = lineside("check", line)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 2


def test_a_missing_file_is_malformed(tmp_path: Path) -> None:
    done = lineside("run", tmp_path / "nothing.yaml")
    assert done.returncode == 2
    assert "nothing.yaml" in done.stderr


def test_unreachable_broker_is_said_and_nothing_passes(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        line = write_line(tmp_path, taken.getsockname()[1])
        with Service(line, "--parts", "20") as service:
            service.wait_for("ERROR broker")
            assert service.process.wait(timeout=60) == 0
            errors = service.errors
    assert "error: broker 127.0.0.1" in errors
    assert "Traceback" not in errors
    summary = yaml.safe_load(service.summary_file.read_text())
    assert summary["passed"] == 0
    assert summary["rejected"] == 0
    assert summary["no_decision"] == summary["parts_triggered"] >= 20
    assert summary["reasons"] == {"NOT_RUNNING": summary["parts_triggered"]}


def test_corrupt_and_foreign_images_are_bad_frames(tmp_path: Path, broker_port: int) -> None:
    write_images(tmp_path / "images", [40])
    (tmp_path / "images" / "001.png").write_bytes(b"not an image")
    write_images(tmp_path / "other", [40], size_px=48)
    (tmp_path / "other" / "000.png").rename(tmp_path / "images" / "002.png")
    (tmp_path / "images" / "003.png").write_bytes(b"")
    line = write_line(tmp_path, broker_port)
    with Service(line) as service:
        service.wait_for("RUNNING")
        with Tap(broker_port, "test/line") as tap:
            tap.wait_count("verdict", 40)
        summary = service.stop()
        errors = service.errors
    assert summary["reasons"]["BAD_FRAME"] >= 15
    assert summary["passed"] == summary["reasons"]["OK"] <= summary["parts_triggered"] // 4 + 1
    assert summary["rejected"] == 0
    assert "001.png" in errors
    assert "Traceback" not in errors


def test_two_services_on_one_record(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port)
    with Service(line) as service:
        service.wait_for("RUNNING")
        second = lineside("run", line)
        assert second.returncode == 1
        assert "another service" in second.stderr
        service.stop()


def test_stub_is_what_the_tests_think(tmp_path: Path) -> None:
    """The baseline of this file: unspoilt, everything is accepted."""
    write_stub_package(tmp_path / "model")
    line = write_line(tmp_path, UNUSED_PORT)
    done = lineside("check", line)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "name",
    [
        *("records.db", "link.db", "records.db-wal", "records.db.halt", "line.yaml", "recipe.yaml"),
        *("model/model.onnx", "images/000.png"),
    ],
)
def test_a_result_does_not_take_the_place_of_the_lines_own_files(tmp_path: Path, name: str) -> None:
    line = write_line(tmp_path, UNUSED_PORT)
    (tmp_path / "records.db").touch()
    (tmp_path / "link.db").symlink_to("records.db")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = lineside("run", line, "--parts", "1", "--json", tmp_path / name)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"--json: got {tmp_path / name}, expected a file that is none of the line's own\n"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
