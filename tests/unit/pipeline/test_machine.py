"""Rings beyond memory are refused by name before anything is allocated."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline import machine
from pipeline.config import load_line
from pipeline.ring import Ring
from tests.service import write_line
from vision.faults import FaultsError

MIB = 1 << 20


@pytest.fixture
def small_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine of 2 GiB with 1 GiB free, in a group of 1.5 GiB inside one without a limit."""
    (tmp_path / "meminfo").write_text("MemTotal:  2097152 kB\nMemFree: 1 kB\nMemAvailable:  1048576 kB\n")
    (tmp_path / "own").write_text("1:name=x:/y\n0::/outer/inner\n")
    groups = tmp_path / "groups" / "outer" / "inner"
    groups.mkdir(parents=True)
    (groups / "memory.max").write_text(f"{1536 * MIB}\n")
    (groups.parent / "memory.max").write_text("max\n")
    for name, path in (("_MEMINFO", "meminfo"), ("_OWN_CGROUP", "own"), ("_CGROUPS", "groups")):
        monkeypatch.setattr(machine, name, tmp_path / path)
    return tmp_path


def test_the_least_limit_counts(small_machine: Path) -> None:
    assert (machine.memory_bytes(), machine.free_bytes()) == (1536 * MIB, 1024 * MIB)
    (small_machine / "groups" / "outer" / "memory.max").write_text(f"{512 * MIB}\n")
    assert (machine.memory_bytes(), machine.free_bytes()) == (512 * MIB, 512 * MIB)


def test_a_real_machine_has_memory() -> None:
    assert 0 < machine.free_bytes() <= machine.memory_bytes()


def line_of(folder: Path, *slots: int) -> Path:
    """One camera of 1 MiB frames for each number of slots."""
    file = write_line(folder, 1)
    line = yaml.safe_load(file.read_text())
    camera = line["cameras"][0]
    line["cameras"] = [
        {**camera, "camera_id": f"cam{index}", "width_px": 1024, "height_px": 1024, "ring_slots": count}
        for index, count in enumerate(slots)
    ]
    file.write_text(yaml.safe_dump(line))
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    recipe["views"] = [{**recipe["views"][0], "camera_id": f"cam{index}"} for index in range(len(slots))]
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    return file


def test_rings_beyond_the_machine_are_a_fault_of_the_largest(small_machine: Path) -> None:
    with pytest.raises(FaultsError) as caught:
        load_line(line_of(small_machine, 512, 1024))
    (fault,) = caught.value.faults
    assert fault.key == "cameras.1.ring_slots"
    assert fault.got == "1024 slots, 1028 MiB at this frame size, all cameras 1542 MiB"
    assert fault.expected == "slots of all cameras within this machine's 1536 MiB of memory"


def test_rings_beyond_what_is_free_are_refused_at_the_start(small_machine: Path) -> None:
    line = load_line(line_of(small_machine, 512, 512))
    with pytest.raises(machine.NoRoom, match="take 1028 MiB of memory, 1024 MiB are free"):
        machine.expect_room(line.config.cameras)
    machine.expect_room(line.config.cameras[:1])


def test_what_is_reckoned_is_what_a_ring_takes(small_machine: Path) -> None:
    camera = load_line(line_of(small_machine, 2)).config.cameras[0]
    ring = Ring("x", camera.ring_slots, machine.slot_bytes(camera))
    assert Path(f"/proc/self/fd/{ring.descriptor}").stat().st_size == machine.rings_bytes([camera])
    ring.close()
