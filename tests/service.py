"""Helpers for tests that run the real service."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
import psutil
import yaml

from pipeline.ledger_file import ledger_files
from pipeline.rehearsal import RehearsalRun
from tests.models import write_stub_package

WORDS_TIMEOUT_S = 60.0
ROLES = ("acquisition", "inspection", "signalling", "records", "images")


def lineside(*arguments: str | Path, timeout_s: float = 100.0) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def write_images(folder: Path, greys: list[int], *, size_px: int = 32) -> None:
    """Plain images; the stub model takes those brighter than 127 for defective."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, grey in enumerate(greys):
        assert cv2.imwrite(str(folder / f"{index:03d}.png"), np.full((size_px, size_px), grey, np.uint8))


def write_line(folder: Path, port: int, **changes: Any) -> Path:
    """A complete line over a folder of good and bad images, with the stub model; ``changes`` replace top-level keys."""
    write_stub_package(folder / "model")
    if not (folder / "images").exists():
        write_images(folder / "images", [40, 40, 200])
    recipe = {
        "recipe_id": "stub",
        "recipe_version": "1",
        "model": "model",
        "views": [
            {
                "camera_id": "cam0",
                "regions": [{"name": "all", "x_px": 0, "y_px": 0, "width_px": 32, "height_px": 32}],
            }
        ],
        "rules": [{"class": "defective", "reject_at_score": 0.5}],
    }
    camera = {
        "camera_id": "cam0",
        "kind": "folder",
        "folder": "images",
        "width_px": 32,
        "height_px": 32,
        "pixel_format": "Mono8",
        "parts_per_min": 1200,
    }
    line: dict[str, Any] = {
        "topic_root": "test/line",
        "recipe": "recipe.yaml",
        "cameras": [camera],
        "timing": {"deadline_us": 200_000},
        "mqtt": {"port": port},
        "records": {"path": "records.db"},
        "runtime": {"on_unverified": "warn"},
    }
    line.update(changes)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    file = folder / "line.yaml"
    file.write_text(yaml.safe_dump(line))
    return file


class Service:
    """``lineside run`` in a process of its own."""

    def __init__(self, line: Path, *arguments: str) -> None:
        self.line = line
        self._arguments = arguments
        self.summary_file = line.parent / "summary.json"
        self.words = ""
        self.errors_file = line.parent / "stderr.txt"

    def __enter__(self) -> Service:
        with self.errors_file.open("wb") as errors:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "pipeline.cli",
                    "run",
                    str(self.line),
                    "--json",
                    str(self.summary_file),
                    *self._arguments,
                ],
                stdout=subprocess.PIPE,
                stderr=errors,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        for worker in self.orphans():
            worker.wait(timeout=10)
        # Where parts could not be recorded to the end, the next start would close them; there is none.
        for left in ledger_files(self._record):
            left.unlink()

    @property
    def _record(self) -> Path:
        path: str = yaml.safe_load(self.line.read_text())["records"]["path"]
        return (self.line.parent / path).resolve()

    @property
    def errors(self) -> str:
        return self.errors_file.read_text()

    def wait_for(self, word: str, *, timeout_s: float = WORDS_TIMEOUT_S) -> None:
        """Read what the service prints until a line from here on begins with ``word``."""
        assert self.process.stdout is not None
        give_up_s = time.monotonic() + timeout_s
        pending = ""
        while True:
            left_s = give_up_s - time.monotonic()
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, left_s))
            chunk = os.read(self.process.stdout.fileno(), 4096).decode() if ready else ""
            if not chunk:
                raise AssertionError(f"no {word!r} from the service; it said {self.words!r} and {self.errors!r}")
            self.words += chunk
            pending += chunk
            *lines, pending = pending.split("\n")
            if any(line.startswith(word) for line in lines):
                return

    def orphans(self) -> list[psutil.Process]:
        """Workers of any service of this Python that lost their parent."""
        return [
            process
            for process in psutil.process_iter(["ppid"])  # None of one that has ended meanwhile
            if process.info["ppid"] == 1 and any(f"pipeline.{role}" in _command_line(process) for role in ROLES)
        ]

    def stop(self) -> dict[str, Any]:
        """SIGTERM, and the summary it leaves."""
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(timeout=30)
        assert status == 0, f"status {status}: {self.errors}"
        summary: dict[str, Any] = json.loads(self.summary_file.read_text())
        return summary


def workers_of(supervisor_pid: int) -> dict[str, psutil.Process]:
    """Living worker processes by role (of one camera)."""
    found = {}
    for child in psutil.Process(supervisor_pid).children():
        for role in ROLES:
            if f"pipeline.{role}" in _command_line(child):
                found[role] = child
    return found


def let_parts_come(run: RehearsalRun, count: int) -> None:
    """Wait until the belt has sent so many more."""
    target = run.line.report()["parts_sent"] + count
    while run.line.report()["parts_sent"] < target:
        time.sleep(0.01)  # polls the belt's own count; nothing is assumed to be done by then


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []
