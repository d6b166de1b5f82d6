"""The folder of kept pictures: writes under names of our own, keeps to a quota and to a floor of free disk.

What has to go is passes first, the oldest first, then the oldest others. It never touches a file that has no name of ours, and
never follows a link. It knows of each session's folder no more than sums, so that its memory grows with days and not with pictures.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from pipeline.image_names import is_date, is_session, is_unfinished, read_name, unfinished
from vision.types import Verdict

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


@dataclass(slots=True)
class _Sums:
    """Of one session's pictures of one day, thumbnails included."""

    passes_bytes: int = 0
    others_bytes: int = 0


@dataclass(frozen=True, slots=True)
class _Found:
    folder: str
    name: str
    size_bytes: int
    is_pass: bool
    is_thumbnail: bool


class ImageStore:
    """Not for several threads at once. Every method may raise OSError: what it was to do is then not done, or in part, and may be
    tried again.
    """

    def __init__(
        self, path: Path, *, max_bytes: int, free_min_bytes: int, on_answer: Callable[[], object] = lambda: None
    ) -> None:
        """``on_answer`` is called whenever the disk has done a little of what may take long."""
        self._path = path
        self._on_answer = on_answer
        self._max_bytes = max_bytes
        self._free_min_bytes = free_min_bytes
        self._sums: dict[str, _Sums] = {}
        self._unseen: deque[str] | None = None
        """Folders that are not looked into yet; None before there was a look at the whole."""
        self._victims: deque[_Found] = deque()
        self.pruned_count = 0
        """Pictures, without their thumbnails."""

    @property
    def kept_bytes(self) -> int:
        """As far as it has looked."""
        return sum(sums.passes_bytes + sums.others_bytes for sums in self._sums.values())

    def open(self) -> None:
        """Make the folder where there is none, and begin to look at what is there."""
        self._path.mkdir(parents=True, exist_ok=True)
        self._list_folders()

    def look(self) -> bool:
        """Look into one more folder of former days and sessions. False where all have been seen."""
        if self._unseen is None:
            self._list_folders()
        assert self._unseen is not None
        if not self._unseen:
            return False
        folder = self._unseen[0]
        self._count(folder)
        self._unseen.popleft()
        return True

    def write(self, folder: str, files: Sequence[tuple[str, bytes]]) -> None:
        """Put files, by name, into ``<date>/<session_id>``. What has to go for them goes first; where that is not enough it is
        ENOSPC.
        """
        if self._unseen is None:
            self._list_folders()
        with self._opened(folder, make=True) as descriptor:
            self._make_room(sum(len(body) for _, body in files), descriptor)
        # Anew: making room may have taken the folder away, empty as it was.
        with self._opened(folder, make=True) as descriptor:
            for name, body in files:
                before = _size_bytes(descriptor, name)
                _write_whole(descriptor, name, body)
                self._add(folder, name, len(body) - before)

    def drop_before(self, date: str) -> bool:
        """Delete the pictures of one session of an earlier day than this one. False where there are none any more."""
        folder = min(self._sums, default=date)
        if folder >= date:
            return False
        self._victims.clear()
        for found in self._count(folder):
            self._victims.append(found)
        while self._victims:
            self._delete_first()
        if folder in self._sums:
            self._remove_folder(folder)
        return True

    def forget(self) -> None:
        """Look at everything anew: the folder was away, and may be another one."""
        self._sums.clear()
        self._victims.clear()
        self._unseen = None

    def _list_folders(self) -> None:
        """Oldest first. Those that this process has begun are counted as they grow."""
        folders = []
        with _entries(self._path) as dates:
            for date in dates:
                self._on_answer()
                if is_date(date.name) and date.is_dir(follow_symlinks=False):
                    with self._opened(date.name) as descriptor, _entries(descriptor) as sessions:
                        folders += [
                            f"{date.name}/{session.name}"
                            for session in sessions
                            if is_session(session.name) and session.is_dir(follow_symlinks=False)
                        ]
        self._unseen = deque(sorted(folder for folder in folders if folder not in self._sums))

    def _count(self, folder: str) -> list[_Found]:
        """Our files in a folder, in order, which also makes its sums right; what a kill left unfinished is deleted."""
        found: list[_Found] = []
        try:
            with self._opened(folder) as descriptor, _entries(descriptor) as entries:
                for entry in entries:
                    self._on_answer()
                    if not entry.is_file(follow_symlinks=False):
                        continue
                    read = read_name(entry.name)
                    if read is not None:
                        size_bytes = entry.stat(follow_symlinks=False).st_size
                        is_pass = read.verdict is Verdict.PASS
                        found.append(_Found(folder, entry.name, size_bytes, is_pass, read.is_thumbnail))
                    elif is_unfinished(entry.name):
                        os.unlink(entry.name, dir_fd=descriptor)
        except FileNotFoundError:
            self._sums.pop(folder, None)
            return []
        self._sums[folder] = _Sums(
            sum(each.size_bytes for each in found if each.is_pass),
            sum(each.size_bytes for each in found if not each.is_pass),
        )
        return sorted(found, key=lambda each: each.name)

    def _make_room(self, size_bytes: int, descriptor: int) -> None:
        disk = os.fstatvfs(descriptor)
        short_bytes = self._free_min_bytes + size_bytes - disk.f_bavail * disk.f_frsize
        short_bytes = max(short_bytes, self.kept_bytes + size_bytes - self._max_bytes)
        if short_bytes <= 0:
            return
        # What goes is chosen among all that is there.
        while self.look():
            pass
        short_bytes = max(short_bytes, self.kept_bytes + size_bytes - self._max_bytes)
        while short_bytes > 0:
            freed_bytes = self._prune_one()
            if freed_bytes is None:
                floor = f"free_min_gib {self._free_min_bytes / (1 << 30):g}"
                text = f"{os.strerror(errno.ENOSPC)} above {floor}, and no picture left to delete"
                raise OSError(errno.ENOSPC, text)
            short_bytes -= freed_bytes

    def _prune_one(self) -> int | None:
        """What was freed; None where nothing of ours is left."""
        has_passes = any(sums.passes_bytes for sums in self._sums.values())
        if not self._victims or (has_passes and not self._victims[0].is_pass):
            self._victims = self._next_victims(passes=True) or self._next_victims(passes=False)
        return self._delete_first() if self._victims else None

    def _delete_first(self) -> int:
        """Of the victims; what was freed."""
        victim = self._victims[0]
        with contextlib.suppress(FileNotFoundError), self._opened(victim.folder) as descriptor:
            os.unlink(victim.name, dir_fd=descriptor)
        self._on_answer()
        self._victims.popleft()
        self._add(victim.folder, victim.name, -victim.size_bytes)
        self.pruned_count += not victim.is_thumbnail
        sums = self._sums[victim.folder]
        if not sums.passes_bytes and not sums.others_bytes:
            self._remove_folder(victim.folder)
        return victim.size_bytes

    def _next_victims(self, *, passes: bool) -> deque[_Found]:
        for folder in sorted(self._sums):
            sums = self._sums[folder]
            if sums.passes_bytes if passes else sums.others_bytes:
                victims = deque(each for each in self._count(folder) if each.is_pass is passes)
                if victims:
                    return victims
        return deque()

    def _remove_folder(self, folder: str) -> None:
        """Where it is empty: somebody else may keep something in it."""
        del self._sums[folder]
        date, _, session = folder.partition("/")
        with contextlib.suppress(OSError):
            with self._opened(date) as descriptor:
                os.rmdir(session, dir_fd=descriptor)
            (self._path / date).rmdir()

    def _add(self, folder: str, name: str, size_bytes: int) -> None:
        sums = self._sums.setdefault(folder, _Sums())
        read = read_name(name)
        assert read is not None
        if read.verdict is Verdict.PASS:
            sums.passes_bytes = max(0, sums.passes_bytes + size_bytes)
        else:
            sums.others_bytes = max(0, sums.others_bytes + size_bytes)

    @contextlib.contextmanager
    def _opened(self, folder: str, *, make: bool = False) -> Iterator[int]:
        """A folder below ours, by one descriptor after the other: a link on the way is an error."""
        descriptor = os.open(self._path, _FOLDER)
        try:
            for name in folder.split("/"):
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(name, 0o755, dir_fd=descriptor)
                inner = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = inner
            yield descriptor
        finally:
            os.close(descriptor)


def first_day_kept(now: datetime, keep_days: float) -> str:
    """Pictures of earlier days have to go where rows go after ``keep_days``: a whole day with the first of its rows, as each
    picture goes before its row. Those of the day of ``now``, UTC, stay.
    """
    return f"{min(now, now + timedelta(days=1 - keep_days)):%Y-%m-%d}"


def _entries(folder: Path | int) -> contextlib.AbstractContextManager[Iterator[os.DirEntry[str]]]:
    return os.scandir(folder)


def _size_bytes(descriptor: int, name: str) -> int:
    """0 where there is no such file."""
    try:
        return os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _write_whole(descriptor: int, name: str, body: bytes) -> None:
    """Nobody sees half of it."""
    temporary = unfinished(name)
    # What a kill left: written into, it would change under each other name that it may have.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=descriptor)
    try:
        with os.fdopen(os.open(temporary, _NEW_FILE, 0o644, dir_fd=descriptor), "wb") as file:
            file.write(body)
        os.rename(temporary, name, src_dir_fd=descriptor, dst_dir_fd=descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=descriptor)
        raise
