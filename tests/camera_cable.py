"""A cable between the line and its cameras: two network namespaces of our own, joined by a pair of virtual interfaces."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import pytest

from pipeline.simulator.namespace import NamespaceUnavailable, NetworkNamespace, inside

HOST_ADDRESS, CAMERA_ADDRESS = "10.77.0.1", "10.77.0.2"
DEBIANS_CAMERA = "arv-fake-gv-camera-0.8"
_PREFIX_BITS = 24
_ANSWER_S = 60


class CameraCable:
    """What is run in ``at_the_line`` has the line's end of it, in ``at_the_camera`` the other one."""

    def __init__(self, line: NetworkNamespace, camera: NetworkNamespace, mtu_bytes: int) -> None:
        self._line = line
        self._camera = camera
        with inside(line.path):
            _ip("link", "add", "line0", "type", "veth", "peer", "name", "camera0")
            _ip("link", "set", "camera0", "netns", str(camera.pid))
            _ip("addr", "add", f"{HOST_ADDRESS}/{_PREFIX_BITS}", "dev", "line0")
            _ip("link", "set", "line0", "mtu", str(mtu_bytes), "up")
        with inside(camera.path):
            _ip("addr", "add", f"{CAMERA_ADDRESS}/{_PREFIX_BITS}", "dev", "camera0")
            _ip("link", "set", "camera0", "mtu", str(mtu_bytes), "up")

    @contextmanager
    def at_the_line(self) -> Iterator[None]:
        """Processes that are started meanwhile, and sockets that are made, have the line's network."""
        with inside(self._line.path):
            yield

    @contextmanager
    def at_the_camera(self) -> Iterator[None]:
        with inside(self._camera.path):
            yield

    def cut(self) -> None:
        with self.at_the_line():
            _ip("link", "set", "line0", "down")

    def mend(self) -> None:
        with self.at_the_line():
            _ip("link", "set", "line0", "up")

    def lose(self, share: float) -> None:
        """So large a share of the camera's packets of pixels is lost from now on, by chance. On the camera's side: libraries
        that read packets before the firewall does would see them on the line's.
        """
        rule = f"udp length > 500 numgen random mod {round(1 / share)} == 0 counter drop"
        with self.at_the_camera():
            _run("nft", "add table ip cable")
            _run("nft", "add chain ip cable out { type filter hook output priority 0; }")
            _run("nft", f"add rule ip cable out {rule}")

    @property
    def lost_packets(self) -> int:
        with self.at_the_camera():
            told = json.loads(_run("nft", "-j", "list chain ip cable out"))
        counters = [
            part["counter"]
            for each in told["nftables"]
            for part in each.get("rule", {}).get("expr", [])
            if "counter" in part
        ]
        return sum(counter["packets"] for counter in counters)


@contextmanager
def camera_cable(*, mtu_bytes: int = 9_000) -> Iterator[CameraCable]:
    """Skips the test where it cannot be laid."""
    for tool, package in (("ip", "iproute2"), ("nft", "nftables")):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not on PATH (Debian: {package})")
    with ExitStack() as stack:
        try:
            line = NetworkNamespace().start()
            stack.callback(line.stop)
            camera = NetworkNamespace().start()
            stack.callback(camera.stop)
        except NamespaceUnavailable as error:
            pytest.skip(str(error))
        yield CameraCable(line, camera, mtu_bytes)


class DebiansCamera:
    """The fake camera of Debian's aravis-tools, at the camera's end."""

    def __init__(self, cable: CameraCable, *arguments: str) -> None:
        if shutil.which(DEBIANS_CAMERA) is None:
            pytest.skip(f"{DEBIANS_CAMERA} is not on PATH (Debian: aravis-tools)")
        self._cable = cable
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> DebiansCamera:
        self.switch_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.switch_off()

    def switch_on(self) -> None:
        with self._cable.at_the_camera():
            self._process = subprocess.Popen(
                [DEBIANS_CAMERA, "-i", CAMERA_ADDRESS, *self._arguments], stdout=subprocess.DEVNULL
            )

    def switch_off(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


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


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_S, check=False)
    assert ran.returncode == 0, f"{' '.join(command)}: {ran.stderr}"
    return ran.stdout
