"""How far the watch on drift has come, in a small file beside the record: a restart does not make it forget."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from pipeline.whole_file import write_whole
from vision.plain_file import NotAPlainFile, read_plain_file

_BYTES_MAX = 1 << 20


class KeptState(msgspec.Struct, frozen=True):
    """Of one camera: ``calibration.drift.dump_state``, which holds for one calibration alone."""

    calibration_id: str
    state: msgspec.Raw


_decode = msgspec.json.Decoder(dict[str, KeptState]).decode


class DriftFile:
    """Of one record. Read and written by records, which may wait for a disk."""

    def __init__(self, record: Path) -> None:
        self.path = record.with_name(f"{record.name}.drift")

    def read(self) -> dict[str, KeptState]:
        """By camera. Of what cannot be read there is nothing: the watch begins anew, and takes as long as after a calibration."""
        try:
            return _decode(read_plain_file(self.path, max_bytes=_BYTES_MAX))
        except (OSError, NotAPlainFile, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return {}

    def write(self, states: Mapping[str, KeptState]) -> None:
        """The file is whole and on disk. Raises OSError."""
        write_whole(self.path, msgspec.json.encode(states))
