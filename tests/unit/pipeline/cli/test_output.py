"""Files that a command makes: whole or not at all, and never over another one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NoReturn

import pytest

from pipeline.cli.output import write_new


def no_second_names(*_arguments: object, **_options: object) -> NoReturn:
    """As on FAT."""
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.fixture(params=["links", "no links"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    if request.param == "no links":
        monkeypatch.setattr(os, "link", no_second_names)
    return tmp_path


def test_a_new_file_is_whole_and_alone(folder: Path) -> None:
    write_new(folder / "new", "ä\n" * 10_000)
    assert (folder / "new").read_text(encoding="utf-8") == "ä\n" * 10_000
    assert [path.name for path in folder.iterdir()] == ["new"]


@pytest.mark.parametrize("is_link", [False, True])
def test_nothing_is_written_over(folder: Path, is_link: bool) -> None:
    """Nor where a link leads, which need not be there."""
    if is_link:
        (folder / "there").symlink_to(folder / "elsewhere")
    else:
        (folder / "there").write_text("old")
    with pytest.raises(FileExistsError):
        write_new(folder / "there", "new")
    assert [path.name for path in folder.iterdir()] == ["there"]
    assert is_link or (folder / "there").read_text() == "old"


def test_what_cannot_be_written_leaves_nothing(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_new(folder / "none" / "new", "text")
    assert [*folder.iterdir()] == []


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is full only for the second of the two."""
    monkeypatch.setattr(os, "link", no_second_names)

    def full(self: Path, *_arguments: object, **_options: object) -> object:
        """A file that is there, and takes nothing."""
        self.touch()
        return open("/dev/full", "w", encoding="utf-8", buffering=1)  # noqa: PTH123

    monkeypatch.setattr(Path, "write_text", lambda self, _text, **_options: self.touch())
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(OSError, match="No space left"):
        write_new(tmp_path / "new", "text\n")
    assert [*tmp_path.iterdir()] == []
