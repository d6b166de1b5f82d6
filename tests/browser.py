"""A real browser that looks at a page: what it asked the network for, what it complained of, what it shows."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """Speaks the DevTools protocol through two pipes. ``events`` is all that was told so far."""

    def __init__(self, requests: int, answers: int) -> None:
        self._requests = requests
        self._answers = os.fdopen(answers, "rb")
        self._pending = b""
        self._number = 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """What it answers."""
        self._number += 1
        asked = {"id": self._number, "method": method, "params": parameters, **self._session}
        os.write(self._requests, json.dumps(asked).encode() + b"\0")
        while True:
            told = self._next()
            if told.get("id") == self._number:
                assert "error" not in told, told
                return dict(told["result"])
            self.events.append(told)

    def open(self, page: Path) -> None:
        """Load it, and wait until it is."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")
        self.events.clear()
        self.ask("Page.navigate", url=page.resolve().as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self._next())

    def value(self, expression: str) -> Any:
        """Of JavaScript, evaluated in the page."""
        return self.ask("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def picture(self) -> bytes:
        """The whole page as PNG."""
        shot = self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    def told(self, method: str) -> list[dict[str, Any]]:
        return [event["params"] for event in self.events if event.get("method") == method]

    def close(self) -> None:
        os.close(self._requests)
        self._answers.close()

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._pending:
            part = os.read(self._answers.fileno(), 1 << 20)
            assert part, "the browser is gone"
            self._pending += part
        message, _, self._pending = self._pending.partition(b"\0")
        return dict(json.loads(message))


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Skips the test where there is none. Nothing but files can be reached from it."""
    program = next(filter(None, map(shutil.which, _NAMES)), None)
    if program is None:
        pytest.skip(f"no browser on PATH, looked for {', '.join(_NAMES)}")
    their_requests, requests = os.pipe()
    answers, their_answers = os.pipe()
    # It reads from descriptor 3 and writes to 4.
    script = f'exec 3<&{their_requests} 4>&{their_answers}; exec "$@"'
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--proxy-server=127.0.0.1:9",
        "--window-size=1100,1400",
        "--remote-debugging-pipe",
        f"--user-data-dir={profile}",
    ]
    process = subprocess.Popen(
        ["/bin/bash", "-c", script, "browser", program, *options],
        pass_fds=(their_requests, their_answers),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(their_requests)
    os.close(their_answers)
    seen = Browser(requests, answers)
    try:
        yield seen
    finally:
        started = psutil.Process(process.pid).children(recursive=True)
        seen.close()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        psutil.wait_procs(started, timeout=30)
