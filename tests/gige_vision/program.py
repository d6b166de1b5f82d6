"""The camera of the tests in a process of its own: killed and started again at will, in another network namespace where asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

_ROOT = Path(__file__).parents[2]


class CameraProgram:
    """`python -m tests.gige_vision_camera`, ready when this returns. Use as a context.

    Args:
        address: IPv4 address of the camera.
        options: Further words of its command line.
        inside: Words before the command, such as `nsenter -t PID -n` or `ip netns exec NAME`.

    Raises:
        RuntimeError: It did not become ready.
    """

    def __init__(self, address: str, options: Sequence[str] = (), inside: Sequence[str] = ()) -> None:
        command = [*inside, sys.executable, "-m", "tests.gige_vision_camera", "--address", address, *options]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=_ROOT,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
        if self._answer() != f"ready {address}":
            self.kill()
            raise RuntimeError(f"the camera at {address} did not become ready")

    def __enter__(self) -> CameraProgram:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.process.stdin.close()  # the end of its input ends it
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()

    def say(self, line: str) -> Any:
        """Carries out one command; what it answers.

        Raises:
            RuntimeError: It answered with an error, or not at all.
        """
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        word, _, rest = self._answer().partition(" ")
        if word != "ok":
            raise RuntimeError(f"{line}: {word} {rest}")
        return json.loads(rest) if rest else None

    def kill(self) -> None:
        """As if its plug were pulled: it says goodbye to nobody."""
        self.process.kill()
        self.process.wait()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()
