"""The suite has teeth: in a scratch copy of the source with one deliberate defect it fails, and says what it saw."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.scratch_source import ROOT, copy_source

# By this time a defect must have been seen. It bounds how long faults are dealt, not how fast the machine is.
SECONDS = 20


@dataclass(frozen=True)
class Defect:
    """One line of the source, replaced; the faults that bring it to light; the column in which it must show."""

    name: str
    file: str
    right: str
    wrong: str
    kinds: tuple[str, ...]
    faults: int
    column: str
    calm_s: int = 2


DEFECTS = [
    Defect(
        "verdict sent on two paths",
        "pipeline/signalling.py",
        "                self._send_verdict(output)\n",
        "                self._send_verdict(output)\n"
        "                if output.verdict is Verdict.NO_DECISION:\n"
        "                    self._send_verdict(output)\n",
        ("frame_lost", "camera_silent"),
        4,
        "other_violations",
    ),
    Defect(
        "slot freed while its reader lives",
        "pipeline/acquisition.py",
        "            del self._overdue[slot]\n",
        "            del self._overdue[slot]\n"
        "            self._ring.release(slot, self._ring._generations[slot], reader=self._reader)\n",
        ("inspection_frozen", "no_free_slot"),
        8,
        "other_violations",
    ),
    Defect(
        "ledger not replayed",
        "pipeline/signalling.py",
        "signalling.recover(ledger.entries())",
        "signalling.recover([])",
        ("signalling_killed",),
        3,
        "records_missing",
        # Acquisition tells a new signalling the triggers of the last 30 s again, which hides it until then.
        calm_s=33,
    ),
]


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return copy_source(tmp_path)


def run_chaos(source: Path, *arguments: str, json_file: Path) -> tuple[int, dict[str, Any], str]:
    """Status, result and words of a run of the suite with that source."""
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "bench", "chaos", "--json", str(json_file), *arguments],
        cwd=source,
        env={**os.environ, "PYTHONPATH": str(source)},
        capture_output=True,
        text=True,
        check=False,
    )
    words = done.stdout + done.stderr
    assert json_file.exists(), words
    result: dict[str, Any] = json.loads(json_file.read_text())
    return done.returncode, result, words


def arguments(kinds: tuple[str, ...], faults: int, calm_s: int = 2) -> list[str]:
    return [
        *(word for kind in kinds for word in ("--kind", kind)),
        *("--faults", str(faults), "--seconds", str(SECONDS), "--calm", str(calm_s), "--rate", "3000"),
        *("--deadline-us", "100000", "--gate-pulses", "1600"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name.replace(" ", "-"))
def test_defect_is_caught(defect: Defect, scratch: Path) -> None:
    file = scratch / defect.file
    text = file.read_text()
    assert text.count(defect.right) == 1, f"{defect.file} has changed: the defect cannot be planted any more"
    file.write_text(text.replace(defect.right, defect.wrong))
    status, result, words = run_chaos(
        scratch, *arguments(defect.kinds, defect.faults, defect.calm_s), json_file=scratch / "chaos.json"
    )
    assert status == 1, words
    assert result["totals"][defect.column] > 0, words


@pytest.mark.slow
def test_controller_that_fails_open_is_caught(scratch: Path) -> None:
    """A controller that lets parts pass when it hears nothing."""
    kinds = ("broker_killed", "signalling_killed")
    status, result, words = run_chaos(
        scratch, *arguments(kinds, 4), "--controller", "fails_open", json_file=scratch / "chaos.json"
    )
    assert status == 1, words
    assert result["totals"]["unjudged_passed"] > 0, words


@pytest.mark.slow
def test_guard_off_by_one_is_caught(scratch: Path) -> None:
    """A nanosecond is too short for a run to meet by chance; the exploration of the state machine meets it for certain."""
    file = scratch / "pipeline" / "rules.py"
    text = file.read_text()
    right = "return trigger_ns + self.deadline_ns - self.guard_ns"
    assert text.count(right) == 1
    file.write_text(text.replace(right, right + " + 1"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "tests/unit/pipeline/test_deadline.py"],
        cwd=scratch,
        env={**os.environ, "PYTHONPATH": str(scratch)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
