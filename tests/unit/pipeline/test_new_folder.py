"""A folder that appears whole, and what killed processes left on the way to it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pipeline.new_folder import expect_free, scratch_folder
from vision.faults import FaultsError


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_a_scratch_folder_lies_beside_its_place_and_is_gone_at_the_end(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "out") as folder:
        assert folder.parent == tmp_path
        assert folder.name.startswith(".out.")
        (folder / "file").write_text("x")
    assert names(tmp_path) == []


def test_one_that_is_renamed_stays(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "out") as folder:
        (folder / "file").write_text("x")
        folder.rename(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["file"]


def test_it_is_gone_after_a_fault_too(tmp_path: Path) -> None:
    def write() -> None:
        with scratch_folder(tmp_path / "out") as folder:
            (folder / "inner").mkdir()
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write()
    assert names(tmp_path) == []


def test_two_at_once_are_two(tmp_path: Path) -> None:
    with scratch_folder(tmp_path / "out") as one, scratch_folder(tmp_path / "out") as other:
        assert one != other
        (one / "file").write_text("x")
        assert (one / "file").exists()
        assert other.is_dir()


def test_others_may_read_what_appears(tmp_path: Path) -> None:
    """As any folder that is made here."""
    (tmp_path / "plain").mkdir()
    with scratch_folder(tmp_path / "out") as folder:
        assert folder.stat().st_mode == (tmp_path / "plain").stat().st_mode


def hold(place: Path, told: Connection) -> None:
    with scratch_folder(place) as folder:
        (folder / "file").write_text("half")
        told.send(folder.name)
        signal.pause()


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """Not while it lives, and nothing but that."""
    others = [".out.deadbeef", ".out.00000000.draft.before", ".other.00000000.draft", "out.00000000.draft"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / ".out.00000000.draft").write_text("a file of somebody's")
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=hold, args=(tmp_path / "out", there))
    process.start()
    try:
        assert here.poll(60)
        left = here.recv()
        with scratch_folder(tmp_path / "out"):
            assert (tmp_path / left / "file").exists()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.join()
        process.close()
        here.close()
        there.close()
    assert left in names(tmp_path)
    with scratch_folder(tmp_path / "another"):
        assert left in names(tmp_path)
    with scratch_folder(tmp_path / "out"):
        pass
    assert names(tmp_path) == sorted([*others, ".out.00000000.draft"])


def test_a_place_that_is_free(tmp_path: Path) -> None:
    expect_free(tmp_path / "new")
    (tmp_path / "empty").mkdir()
    expect_free(tmp_path / "empty")
    assert names(tmp_path) == ["empty"]


@pytest.mark.parametrize("make", ["file", "full folder", "link", "no parent", "parent is a file"])
def test_a_place_that_is_not_free_is_named(tmp_path: Path, make: str) -> None:
    out = tmp_path / "out"
    if make == "file":
        out.write_text("mine")
    elif make == "full folder":
        out.mkdir()
        (out / "mine").write_text("mine")
    elif make == "link":
        (tmp_path / "empty").mkdir()
        out.symlink_to(tmp_path / "empty")
    elif make == "no parent":
        out = tmp_path / "nowhere" / "out"
    else:
        (tmp_path / "a").write_text("mine")
        out = tmp_path / "a" / "out"
    with pytest.raises(FaultsError, match="--out"):
        expect_free(out)
