"""How the last challenge ended, in a small file beside the record: one that passed holds over restarts, one that did not too."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pipeline.messages import ChallengeOutcome
from pipeline.whole_file import write_whole
from vision.plain_file import NotAPlainFile, read_plain_file

_BYTES_MAX = 32_768
"""It goes to workers in one message."""
_MOMENTS_END_NS = 1 << 62
"""In the year 2116: what can be told as a moment, and sent as a number."""


class BadChallengeFile(Exception):
    """What is there cannot be read as the outcome of a challenge; the text says why."""


class ChallengeFile:
    """Of one record. Read by the supervisor at its start, written by records, which may wait for a disk."""

    def __init__(self, record: Path) -> None:
        self.path = record.with_name(f"{record.name}.challenge")

    def read(self) -> ChallengeOutcome | None:
        """None where there was none. Raises BadChallengeFile."""
        try:
            outcome = msgspec.json.decode(read_plain_file(self.path, max_bytes=_BYTES_MAX), type=ChallengeOutcome)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except NotAPlainFile as error:
            raise BadChallengeFile(f"challenge file {self.path} cannot be read ({error})") from error
        except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadChallengeFile(f"challenge file {self.path} cannot be read ({error})") from error
        for moment_ns in (outcome.ended_utc_ns, outcome.ended_boot_ns):
            if not 0 <= moment_ns < _MOMENTS_END_NS:
                raise BadChallengeFile(f"challenge file {self.path} cannot be read (no moment: {moment_ns})")
        return outcome

    def write(self, outcome: ChallengeOutcome) -> None:
        """The file is whole and on disk. Raises OSError."""
        write_whole(self.path, msgspec.json.encode(outcome))
