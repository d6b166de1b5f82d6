"""Where the ledger lies: in a file on tmpfs, so that it outlives every process of the service; a reboot empties it.

Whoever writes to a ledger holds a lock on its file: supervisor, signalling and acquisition through one open file. The file is
removed when all its parts are on record. What a session left that was killed whole is found by the next one on the same record.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
from pathlib import Path

from pipeline.config import Line
from pipeline.ledger import BadLedger, Ledger, LedgerHead
from pipeline.rules import Matching, Timing

SHARED_MEMORY = Path("/dev/shm")
_DESCRIPTOR_LINKS = Path("/proc/self/fd")


class LedgerFile:
    """A ledger's open file, locked. ``path`` is None for memory without a name, which dies with the processes."""

    def __init__(self, descriptor: int, path: Path | None) -> None:
        self.descriptor = descriptor
        self.path = path

    @classmethod
    def begin(cls, line: Line, session_id: str) -> tuple[LedgerFile, str]:
        """A session's ledger in a file, else in memory; then the text says why, and what is lost by it."""
        config, recipe = line.config, line.recipe
        head = LedgerHead(
            session_id=session_id,
            part_count=config.ledger_parts,
            deadline_ns=Timing.of(config).deadline_ns,
            encoder_bits=config.encoder.bits if config.encoder is not None else None,
            reject_offset_pulses=config.encoder.reject_offset_pulses if config.encoder is not None else 0,
            recipe_id=recipe.recipe_id,
            recipe_version=recipe.recipe_version,
            calibration_id=line.calibration_id,
            is_simulated=config.is_simulated,
            camera_count=len(config.cameras),
            matching=Matching.of(config),
        )
        try:
            return cls.create(config.records.path, head), ""
        except OSError as error:
            lost = "were every process of the service killed at once, parts not yet on record would be lost"
            return cls.in_memory(head), f"no ledger file in {SHARED_MEMORY} ({error.strerror}): {lost}"

    @classmethod
    def create(cls, record: Path, head: LedgerHead) -> LedgerFile:
        """A new ledger for a session on this record. Raises OSError where no file can be had; ``in_memory`` can, then."""
        descriptor = os.open(SHARED_MEMORY, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Ledger.format(descriptor, head)
            path = SHARED_MEMORY / f"{_prefix(record)}{head.session_id}.ledger"
            # It gets its name complete and locked. Without src_dir_fd Python would link the link itself.
            os.link(_DESCRIPTOR_LINKS / str(descriptor), path, src_dir_fd=descriptor, follow_symlinks=True)
        except OSError:
            os.close(descriptor)
            raise
        return cls(descriptor, path)

    @classmethod
    def in_memory(cls, head: LedgerHead) -> LedgerFile:
        """A ledger that outlives signalling, but not all processes."""
        return cls(Ledger.create(head), None)

    @classmethod
    def take(cls, path: Path) -> LedgerFile | None:
        """A ledger that another session left. None where there is none any more; BlockingIOError while somebody still writes
        to it; OSError where it cannot be opened, or is not a file of ours and ours alone.
        """
        try:
            descriptor = _open(path)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink == 0:
                os.close(descriptor)
                return None
        except OSError:
            os.close(descriptor)
            raise
        return cls(descriptor, path)

    def end(self) -> tuple[int, int]:
        """Close it; how many of its parts are not on record, and how many it has lost. Where all it holds are on record its file
        is removed. Raises BadLedger.
        """
        try:
            ledger = Ledger(self.descriptor)
            unrecorded_count, lost_count = ledger.unrecorded_count(), ledger.lost_count
            if not unrecorded_count:
                self.remove()
        finally:
            self.close()
        return unrecorded_count, lost_count

    def remove(self) -> None:
        """Its parts are all on record."""
        if self.path is not None:
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()

    def set_aside(self) -> Path:
        """Give it a name under which no later session takes it up, as it is damaged; returns that. Raises OSError."""
        assert self.path is not None
        self.path = self.path.rename(self.path.with_suffix(".damaged"))
        return self.path

    def close(self) -> None:
        os.close(self.descriptor)


def ledger_files(record: Path) -> list[Path]:
    """The ledgers of all sessions on this record that are there now, oldest first."""
    return sorted(SHARED_MEMORY.glob(f"{_prefix(record)}*.ledger"))


def runs_on_this_box(session_id: str) -> bool:
    """Whether a session's ledger is in this box's memory, so that it reads the same clocks. False too where it has no file."""
    try:
        names = [path.name for path in SHARED_MEMORY.iterdir()]
    except OSError:
        return False
    return any(name.startswith("lineside-") and name.endswith(f"-{session_id}.ledger") for name in names)


def halt_left(record: Path) -> str:
    """Why the newest session on this record was halted when it was killed; empty where it was not, or nothing can be read."""
    try:
        descriptor = _open(ledger_files(record)[-1])
    except (IndexError, OSError):
        return ""
    try:
        return Ledger(descriptor).halted
    except (BadLedger, OSError):
        return ""
    finally:
        os.close(descriptor)


def damaged_ledgers(record: Path) -> list[Path]:
    """The ledgers that sessions on this record have set aside, oldest first."""
    return sorted(SHARED_MEMORY.glob(f"{_prefix(record)}*.damaged"))


def session_of(path: Path) -> str:
    """The session whose ledger a file of ``ledger_files`` is."""
    return path.stem.rpartition("-")[2]


def _open(path: Path) -> int:
    """Raises OSError where it cannot be opened, or is not a file of ours and ours alone."""
    descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        os.close(descriptor)
        raise PermissionError(errno.EACCES, "not a file of this user with mode 600", str(path))
    return descriptor


def _prefix(record: Path) -> str:
    # Not where a link leads that has taken the record's place since: its ledgers are those of the name.
    place = hashlib.sha256(os.fsencode(record.absolute())).hexdigest()[:12]
    return f"lineside-{os.geteuid()}-{place}-"
