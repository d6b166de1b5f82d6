"""A package takes its place in one step, on file systems that cannot exchange folders, too."""

from __future__ import annotations

import ctypes
import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.new_folder import scratch_folder
from pipeline.teaching.package_writer import publish


def write(folder: Path, text: str) -> None:
    (folder / "taught").mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_text(text)
    (folder / "taught" / "parts.json").write_text(text)


def texts(folder: Path) -> set[str]:
    return {file.read_text() for file in folder.rglob("*") if file.is_file()}


def names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def replace(out: Path, text: str) -> None:
    with scratch_folder(out) as draft:
        write(draft, text)
        publish(draft, out, is_replacing=(out / "model.onnx").exists())


def test_what_came_there_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    out = tmp_path / "plate"
    with scratch_folder(out) as draft:
        write(draft, "new")
        write(out, "another one's")
        with pytest.raises(OSError, match="not empty"):
            publish(draft, out)
    assert names(tmp_path) == ["plate"]
    assert texts(out) == {"another one's"}


@pytest.mark.parametrize("before", ["nothing", "an empty folder", "a package"])
def test_it_takes_the_place_of_what_is_there(tmp_path: Path, before: str) -> None:
    out = tmp_path / "plate"
    if before != "nothing":
        out.mkdir()
    if before == "a package":
        write(out, "old")
        (out / "verification.json").write_text("old")
    replace(out, "new")
    assert names(tmp_path) == ["plate"]
    assert names(out) == ["model.onnx", "taught"]
    assert texts(out) == {"new"}


def cannot_exchange(monkeypatch: pytest.MonkeyPatch, code: int | None) -> None:
    """As the kernel refuses it; or, without a code, in a C library that does not know it."""

    def refused(*_: object) -> int:
        assert code is not None
        ctypes.set_errno(code)
        return -1

    library = SimpleNamespace() if code is None else SimpleNamespace(renameat2=refused)
    monkeypatch.setattr("pipeline.teaching.package_writer.ctypes.CDLL", lambda *_, **__: library)


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOSYS, None])
def test_where_folders_cannot_be_exchanged_one_is_moved_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int | None
) -> None:
    cannot_exchange(monkeypatch, code)
    write(tmp_path / "plate", "old")
    replace(tmp_path / "plate", "new")
    assert names(tmp_path) == ["plate"]
    assert texts(tmp_path / "plate") == {"new"}


def test_what_cannot_be_moved_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cannot_exchange(monkeypatch, errno.EACCES)
    write(tmp_path / "plate", "old")
    with pytest.raises(PermissionError, match="plate"):
        replace(tmp_path / "plate", "new")
    assert names(tmp_path) == ["plate"]
    assert texts(tmp_path / "plate") == {"old"}


def test_a_package_that_cannot_follow_comes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old one was moved aside, and the new one cannot be moved into its place."""
    cannot_exchange(monkeypatch, errno.EINVAL)
    write(tmp_path / "plate", "old")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name.endswith(".draft"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="Input/output error"):
        replace(tmp_path / "plate", "new")
    assert names(tmp_path) == ["plate"]
    assert texts(tmp_path / "plate") == {"old"}
