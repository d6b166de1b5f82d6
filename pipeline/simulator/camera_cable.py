"""A cable between a line and a GigE Vision camera: two network namespaces of our own, joined by virtual interfaces.

Whoever is started within ``at_the_line`` or ``at_the_camera`` has that end's network, and loopback, and nothing else.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator
from types import TracebackType

from pipeline.simulator.namespace import NamespaceUnavailable, NetworkNamespace, inside
from pipeline.simulator.process import SimulatorError, stop_with_parent

HOST_ADDRESS, CAMERA_ADDRESS = "10.77.0.1", "10.77.0.2"
FAKE_CAMERA = "arv-fake-gv-camera-0.8"
_PREFIX_BITS = 24
_ANSWER_S = 60.0


class CameraCable:
    """A context: raises NamespaceUnavailable where it cannot be laid."""

    def __init__(self, *, mtu_bytes: int = 9_000) -> None:
        self._mtu_bytes = mtu_bytes
        self._closing = contextlib.ExitStack()

    def __enter__(self) -> CameraCable:
        for tool, package in (("ip", "iproute2"), ("nft", "nftables")):
            if shutil.which(tool) is None:
                raise NamespaceUnavailable(f"no cable: {tool} is not on PATH; apt-get install {package}")
        with contextlib.ExitStack() as failing:
            self._line = failing.enter_context(NetworkNamespace())
            self._camera = failing.enter_context(NetworkNamespace())
            with self.at_the_line():
                _run("ip", "link", "add", "line0", "type", "veth", "peer", "name", "camera0")
                _run("ip", "link", "set", "camera0", "netns", str(self._camera.pid))
                _run("ip", "addr", "add", f"{HOST_ADDRESS}/{_PREFIX_BITS}", "dev", "line0")
                _run("ip", "link", "set", "line0", "mtu", str(self._mtu_bytes), "up")
            with self.at_the_camera():
                _run("ip", "addr", "add", f"{CAMERA_ADDRESS}/{_PREFIX_BITS}", "dev", "camera0")
                _run("ip", "link", "set", "camera0", "mtu", str(self._mtu_bytes), "up")
            self._closing = failing.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    @contextlib.contextmanager
    def at_the_line(self) -> Iterator[None]:
        """Processes that this thread starts meanwhile, and sockets that it makes, have the line's end."""
        with inside(self._line.path):
            yield

    @contextlib.contextmanager
    def at_the_camera(self) -> Iterator[None]:
        """The same for the camera's end."""
        with inside(self._camera.path):
            yield

    def cut(self) -> None:
        with self.at_the_line():
            _run("ip", "link", "set", "line0", "down")

    def mend(self) -> None:
        with self.at_the_line():
            _run("ip", "link", "set", "line0", "up")

    def lose(self, one_of: int) -> None:
        """One of so many of the camera's packets of pixels is lost from now on, by chance. At the camera's end: a program that
        reads packets before the firewall does would still get them at the line's.
        """
        with self.at_the_camera():
            _run("nft", "add table ip cable")
            _run("nft", "add chain ip cable out { type filter hook output priority 0; }")
            _run("nft", f"add rule ip cable out udp length > 500 numgen random mod {one_of} == 0 counter drop")

    @property
    def packets_lost(self) -> int:
        """Since ``lose``."""
        with self.at_the_camera():
            rules = json.loads(_run("nft", "-j", "list chain ip cable out"))["nftables"]
        parts = [part for each in rules for part in each.get("rule", {}).get("expr", [])]
        return sum(int(part["counter"]["packets"]) for part in parts if "counter" in part)


class FakeCamera:
    """The fake GigE Vision camera of Debian's aravis-tools, at the camera's end. A context: raises SimulatorError where it
    is not installed.
    """

    def __init__(self, cable: CameraCable, *arguments: str) -> None:
        self._cable = cable
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> FakeCamera:
        self.switch_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.switch_off()

    def switch_on(self) -> None:
        """It answers some time later."""
        program = shutil.which(FAKE_CAMERA)
        if program is None:
            raise SimulatorError(f"no camera: {FAKE_CAMERA} is not on PATH; apt-get install aravis-tools")
        with self._cable.at_the_camera():
            self._process = subprocess.Popen(
                [program, "-i", CAMERA_ADDRESS, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                preexec_fn=stop_with_parent,  # safe beside threads: one system call, no lock
            )

    def switch_off(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _run(*command: str) -> str:
    ran = subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_S, check=False)
    if ran.returncode != 0:
        raise NamespaceUnavailable(f"{' '.join(command)}: {ran.stderr.strip()}")
    return ran.stdout
