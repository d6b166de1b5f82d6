"""A halt is kept over the end of the service, and whatever happens to its file ends none."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.halt_file import HaltFile


def test_kept_and_removed(tmp_path: Path) -> None:
    record = tmp_path / "line.db"
    assert HaltFile(record).read() == ""
    for reason in ("cmd/halt by Änna; send cmd/resume", "another"):
        HaltFile(record).write(reason)
        assert HaltFile(record).read() == reason
    assert [file.name for file in tmp_path.iterdir()] == ["line.db.halt"]
    HaltFile(record).write("")
    HaltFile(record).write("")
    assert HaltFile(record).read() == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"{}", b'{"reason": 7}', b"\xff\xfe", b'{"reason": "\xff"}'])
def test_what_cannot_be_read_is_a_halt(tmp_path: Path, content: bytes) -> None:
    file = HaltFile(tmp_path / "line.db")
    file.path.write_bytes(content)
    assert file.read().startswith(f"halt file {file.path} cannot be read")
    assert file.read().endswith("send cmd/resume")
    file.write("")
    assert file.read() == ""


def test_a_folder_in_its_place_or_none_at_all(tmp_path: Path) -> None:
    file = HaltFile(tmp_path / "line.db")
    file.path.mkdir()
    assert "got a folder, expected a plain file" in file.read()
    with pytest.raises(OSError, match="directory"):
        file.write("")
    (tmp_path / "file").write_text("")
    nowhere = HaltFile(tmp_path / "file" / "line.db")
    assert nowhere.read() == ""
    with pytest.raises(OSError, match="Not a directory"):
        nowhere.write("a")
