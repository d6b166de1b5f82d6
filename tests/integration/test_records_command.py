"""``lineside records``: what an auditor sees of a record that a running service wrote."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from tests.chaos.books import read_rows
from tests.service import Service, lineside, write_line
from tests.tap import Tap

ROOT = "test/line"


def test_a_record_and_the_anchors_that_were_logged_elsewhere(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port)
    anchors = tmp_path / "anchors.jsonl"
    record = tmp_path / "records.db"
    with Tap(broker_port, ROOT) as tap:
        for _ in range(2):
            with Service(line) as service:
                service.wait_for("RUNNING")
                before = len(tap.bodies("anchor"))
                tap.wait_until(lambda before=before: len(tap.bodies("anchor")) >= before + 2)  # type: ignore[misc]
                # Also while the service writes.
                assert lineside("records", "verify", line).returncode == 0
                service.stop()
        count = len(read_rows(record))
        tap.wait_until(lambda: tap.bodies("anchor")[-1]["row_count"] == count)
        anchors.write_text("\n".join(json.dumps(body) for body in tap.bodies("anchor")))
    sound = lineside("records", "verify", record, "--anchor", anchors, "--json", "-")
    assert sound.returncode == 0, sound.stderr
    told = json.loads(sound.stdout)
    assert told["finding_count"] == 0
    assert told["rows"] == told["covered_rows"] == count
    assert len(told["sessions"]) == 2
    assert "NOT PROVEN" not in sound.stderr
    with closing(sqlite3.connect(record, isolation_level=None)) as database:
        database.execute("DELETE FROM part WHERE id = ?", (count,))
    unanchored = lineside("records", "verify", record)
    assert unanchored.returncode == 0
    assert "NOT PROVEN, as no anchor was given: that there were no rows cut off from the end" in unanchored.stdout
    with anchors.open() as piped:
        anchored = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", "records", "verify", str(record), "--anchor", "-"],
            stdin=piped,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert anchored.returncode == 1
    assert f"FOUND     row {count}: truncated: the record ends here; 1 more rows were anchored" in anchored.stdout


def test_a_report_of_what_the_service_wrote(tmp_path: Path, broker_port: int) -> None:
    line = write_line(tmp_path, broker_port, images={"path": "pictures", "free_min_gib": 0})
    with Tap(broker_port, ROOT) as tap, Service(line) as service:
        service.wait_for("RUNNING")
        tap.wait_until(lambda: len(list((tmp_path / "pictures").rglob("*-REJECT-*.png"))) >= 20)
        # Also while the service writes.
        assert lineside("records", "stats", line, "--report", tmp_path / "report").returncode == 0
        service.stop()
    made = lineside("records", "stats", line, "--report", tmp_path / "report", "--json", "-")
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    words = (tmp_path / "report" / "index.html").read_text(encoding="utf-8")
    assert f"{told['parts']:,}</span>" in words
    assert told["parts"] == len(read_rows(tmp_path / "records.db"))
    assert "budget 5,000" in words
    assert "Verified without an anchor" in words
    assert words.count(", cam0: defective ") == 2 * 9, (
        "the worst and the last parts, from the folder that the line names"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nosuch.db"], "record nosuch.db: got nothing, expected a file"),
        (["images"], "record images: got a folder, expected a file"),
        (["line.yaml"], "records.db: got nothing, expected a file"),
        (["images/000.png"], "cannot be read: file is not a database"),
        (["images/000.png", "--anchor", "nosuch"], "nosuch: No such file or directory"),
        (["images/000.png", "--anchor", "images/000.png"], "line 1: expected an anchor: got no text"),
    ],
)
def test_what_cannot_be_verified(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_line(tmp_path, 1)
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "records", "verify", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
