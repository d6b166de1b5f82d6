"""The suite ``record``: what it calls flat, and what it proves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.bench.record import RETENTIONS, Retention, month
from pipeline.record.files import sealed_files
from pipeline.record.verify import verify


def played(folder: Path, retention: Retention) -> dict[str, Any]:
    return month(folder, retention, scale=256, days=6, parts_per_min=400, progress=lambda _: None)


@pytest.mark.parametrize("retention", [Retention(keep_days=1.0), Retention(keep_max_gib=1.25)], ids=["age", "size"])
def test_under_retention_the_disk_stays_flat_and_what_went_is_proven(retention: Retention, tmp_path: Path) -> None:
    told = played(tmp_path / "month", retention)
    assert told["rows_written"] == 13_500
    # In so few days a segment more or less is a share of its own.
    assert abs(told["growth_share"]) < 0.1
    assert told["is_archive_proven"]
    record = tmp_path / "month" / "records.db"
    verified = verify(record)
    assert verified.findings == []
    assert verified.dropped_rows > 0
    assert verified.dropped_rows + verified.rows == 13_500
    assert min(sealed_files(record)) == told["segments_dropped"] + 1


def test_without_retention_it_is_not_called_flat(tmp_path: Path) -> None:
    told = played(tmp_path / "month", Retention())
    assert not told["is_flat"]
    assert told["segments_dropped"] == 0
    assert not told["is_archive_proven"]


def test_what_is_played_has_both_kinds_of_retention() -> None:
    assert {"by age", "by size"} == set(RETENTIONS)
