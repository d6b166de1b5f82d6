"""A cable with a camera at its end, where this machine can have one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pytest

from pipeline.simulator.camera_cable import CAMERA_ADDRESS, FAKE_CAMERA, CameraCable, FakeCamera
from pipeline.simulator.namespace import NamespaceUnavailable

_ANSWER_S = 60


@contextmanager
def camera_cable() -> Iterator[CameraCable]:
    """Skips the test where it cannot be laid."""
    cable = CameraCable()
    try:
        cable.__enter__()
    except NamespaceUnavailable as error:
        pytest.skip(str(error))
    try:
        yield cable
    finally:
        cable.__exit__(None, None, None)


def debians_camera(cable: CameraCable, *arguments: str) -> FakeCamera:
    """Skips the test where it is not installed."""
    if shutil.which(FAKE_CAMERA) is None:
        pytest.skip(f"{FAKE_CAMERA} is not on PATH (Debian: aravis-tools)")
    return FakeCamera(cable, *arguments)


class OurCamera:
    """The tests' own camera as a program (see tests.gige_vision_camera), at the camera's end."""

    def __init__(self, cable: CameraCable, *arguments: str) -> None:
        command = [sys.executable, "-m", "tests.gige_vision_camera", "--address", CAMERA_ADDRESS, *arguments]
        with cable.at_the_camera():
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            )
        assert self._answer().startswith("ready")

    def __enter__(self) -> OurCamera:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=_ANSWER_S)

    def tell(self, command: str) -> Any:
        """Carries out a command; what it answers, as JSON where it says more than ok."""
        pipe = self._process.stdin
        assert pipe is not None
        pipe.write(command + "\n")
        pipe.flush()
        answer = self._answer()
        assert answer.startswith("ok"), answer
        return json.loads(answer[3:]) if len(answer) > 3 else None

    def _answer(self) -> str:
        pipe: IO[str] | None = self._process.stdout
        assert pipe is not None
        return pipe.readline().strip()
