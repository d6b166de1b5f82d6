"""``lineside bench record-kills``, short: nothing is missing; and with a record that promises too early it says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.models import write_stub_package
from tests.scratch_source import ROOT, copy_source

KILLS = 6


def run_kills(source: Path, folder: Path) -> tuple[int, dict[str, Any], str]:
    """Status, result and words of the suite with that source."""
    file = folder / "kills.json"
    model = write_stub_package(folder / "model")
    arguments = ["--kills", str(KILLS), "--rate", "3000", "--seed", "5", "--model", str(model), "--json", str(file)]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "bench", "record-kills", *arguments],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    words = done.stdout + done.stderr
    assert file.exists(), words
    return done.returncode, json.loads(file.read_text()), words


@pytest.mark.slow
def test_every_verdict_is_on_record_once_and_told(tmp_path: Path) -> None:
    status, result, words = run_kills(ROOT, tmp_path)
    assert status == 0, words
    assert not any(result["broken_promises"].values())
    assert result["kills"] == KILLS
    assert result["rows"] >= result["verdicts_sent"] > KILLS * 30
    assert sum(result["told"].values()) == result["rows"] + result["redeliveries"]["raw"]
    assert result["recovery_ms"]["max"] > 0
    assert result["verified"]["anchors"] > 0


@pytest.mark.slow
def test_acknowledging_before_the_commit_is_caught(tmp_path: Path) -> None:
    """A part that signalling forgets when it is handed over, not when it is on disk."""
    source = copy_source(tmp_path / "source")
    file = source / "pipeline" / "records.py"
    text = file.read_text()
    for right, wrong in (
        ("                self._batch.add(message)\n", "                self._signalling.send(Recorded(1))\n"),
        ("        if self._signalling is not None and count:\n", "        if False:\n"),
    ):
        assert text.count(right) == 1, "records.py has changed: the defect cannot be planted any more"
        text = text.replace(right, right + wrong if "add" in right else wrong)
    file.write_text(text)
    status, result, words = run_kills(source, tmp_path)
    assert status == 1, words
    assert result["broken_promises"]["verdicts_not_on_record"] > 0, words
