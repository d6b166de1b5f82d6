"""A broker of our own on loopback: mosquitto where there is one, else amqtt, under a process that outlives neither.

``python -m pipeline.simulator.broker OPTIONS_JSON`` starts the broker as its child, waits until it answers a CONNECT
and kills it at its own end, however that comes. It writes no files. amqtt speaks MQTT 3.1.1 only, and hands a QoS 1
subscriber everything at QoS 1.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import IO, Any, Literal

from pydantic import Field

from pipeline.simulator.mqtt_reader import BrokerAddress, ProtocolVersion
from pipeline.simulator.process import (
    Control,
    Options,
    SimulatorError,
    SimulatorProcess,
    die_with_parent,
    options_from_argv,
)

BrokerKind = Literal["mosquitto", "amqtt"]

_MOSQUITTO_FOLDERS = ("/usr/sbin", "/usr/local/sbin")
_ANSWER_TIMEOUT_S = 20.0
_PROBE_EVERY_S = 0.02
_CONNECT = b"\x10\x11\x00\x04MQTT\x04\x02\x00\x05\x00\x05probe"
_DISCONNECT = b"\xe0\x00"
_CONNACK_ACCEPTED = b"\x20\x02\x00\x00"
_AMQTT_ARGUMENT = "--amqtt-on-port"


class BrokerOptions(Options):
    """The broker. ``auto``: mosquitto where it is, else amqtt."""

    prefer: Literal["auto", "mosquitto", "amqtt"] = "auto"
    port: int | None = Field(default=None, ge=1, le=65535, description="null: a free one")


class BrokerProcess(SimulatorProcess):
    """Handle of the broker. ``kind``, ``host`` and ``port`` are there after ``start``."""

    module = "pipeline.simulator.broker"

    def __init__(self, options: BrokerOptions) -> None:
        super().__init__(options)

    @property
    def kind(self) -> BrokerKind:
        """Which broker it is."""
        kind: BrokerKind = self.ready["kind"]
        return kind

    @property
    def host(self) -> str:
        """Always loopback."""
        return "127.0.0.1"

    @property
    def port(self) -> int:
        """Where it listens; the same after ``restart``."""
        return int(self.ready["port"])

    @property
    def newest_protocol(self) -> ProtocolVersion:
        """The newest version of MQTT that it speaks."""
        return "5" if self.kind == "mosquitto" else "3.1.1"

    def address(self, protocol: ProtocolVersion | None = None) -> BrokerAddress:
        """For the other simulators' options, with this version of MQTT or the newest."""
        return BrokerAddress(host=self.host, port=self.port, protocol=protocol or self.newest_protocol)

    def halt(self) -> None:
        """Kills the broker at once; nothing listens on the port until ``restart``."""
        self.request("halt")

    def restart(self) -> None:
        """Kills the broker where it runs and starts it again on the same port, with nothing retained."""
        self.request("restart")

    def pause(self) -> None:
        """Stops the broker in its tracks (SIGSTOP): connections stay open and nothing is answered."""
        self.request("pause")

    def resume(self) -> None:
        """Lets a paused broker go on."""
        self.request("resume")


def start_broker(prefer: Literal["auto", "mosquitto", "amqtt"] = "auto", port: int | None = None) -> BrokerProcess:
    """Starts a broker on loopback. Raises SimulatorError where none can be had, saying what to install."""
    kind = _choose(prefer)
    return BrokerProcess(BrokerOptions(prefer=kind, port=port)).start()


def find_mosquitto() -> str | None:
    """The mosquitto program, also outside PATH where Debian puts it; None where there is none."""
    return shutil.which("mosquitto", path=os.pathsep.join([os.environ.get("PATH", ""), *_MOSQUITTO_FOLDERS]))


def _choose(prefer: Literal["auto", "mosquitto", "amqtt"]) -> BrokerKind:
    if prefer != "amqtt" and find_mosquitto() is not None:
        return "mosquitto"
    if prefer != "mosquitto" and importlib.util.find_spec("amqtt") is not None:
        return "amqtt"
    remedies = {"mosquitto": "apt-get install mosquitto", "amqtt": "pip install 'lineside[demo]'"}
    wanted = list(remedies) if prefer == "auto" else [prefer]
    remedy = " or ".join(remedies[kind] for kind in wanted)
    raise SimulatorError(f"no MQTT broker: looked for {' and '.join(wanted)}; try {remedy}")


class _Keeper:
    """Starts, stops and restarts the broker, its child."""

    def __init__(self, options: BrokerOptions) -> None:
        self._kind = _choose(options.prefer)
        self._child: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - as long as the process
        self._port = options.port or self._hold_a_port()
        self._start(self._port)

    def run(self, control: Control) -> None:
        control.say("ready", kind=self._kind, port=self._port)
        while not control.is_closed:
            select.select([control], [], [])
            for command in control.commands():
                control.say("reply", **self._obey(str(command.get("command"))))
        self.halt()

    def halt(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def _obey(self, command: str) -> dict[str, Any]:
        if command == "restart":
            self.halt()
            try:
                self._start(self._port)
            except SimulatorError as error:
                return {"error": str(error)}
        elif command == "halt":
            self.halt()
        elif command in ("pause", "resume"):
            if self._child is None:
                return {"error": "the broker does not run"}
            self._child.send_signal(signal.SIGSTOP if command == "pause" else signal.SIGCONT)
        elif command != "report":
            return {"error": f"unknown command {command!r}"}
        return {"kind": self._kind, "port": self._port, "pid": None if self._child is None else self._child.pid}

    def _hold_a_port(self) -> int:
        """A free one. It is bound as long as this process lives, so that nobody else is given it while the broker does not run;
        only a listener with SO_REUSEADDR, as both brokers are, can be bound to it as well.
        """
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        port: int = self._held.getsockname()[1]
        return port

    def _start(self, port: int) -> None:
        # The child writes from here on: without going back, a retry would begin with a hole of zeros.
        self._errors.seek(0)
        self._errors.truncate()
        spawn = _spawn_mosquitto if self._kind == "mosquitto" else _spawn_amqtt
        self._child = spawn(port, self._errors)
        until_s = time.monotonic() + _ANSWER_TIMEOUT_S
        # A stranger on the port would answer too: it must be the child that listens.
        while not (_listens(self._child.pid, port) and _answers(port)):
            if self._child.poll() is not None:
                status, self._child = self._child.returncode, None
                raise SimulatorError(f"{self._kind} on port {port} ended with status {status}: {self._last_line()}")
            if time.monotonic() > until_s:
                self.halt()
                raise SimulatorError(f"{self._kind} on port {port} gave no answer within {_ANSWER_TIMEOUT_S:.0f} s")
            select.select([], [], [], _PROBE_EVERY_S)

    def _last_line(self) -> str:
        """Of what the broker said before it ended."""
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it did not say why"


def _spawn_mosquitto(port: int, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    program = find_mosquitto()
    assert program is not None
    lines = [
        f"listener {port} 127.0.0.1",
        "allow_anonymous true",
        "persistence false",
        "set_tcp_nodelay true",
        "max_queued_messages 0",
        "log_dest stderr",
        "log_type error",
        # Started by root it would become another user, and end where that is not permitted.
        "user root",
    ]
    # The configuration lives in memory: nothing is left behind, whoever is killed.
    configuration = os.memfd_create("mosquitto.conf", 0)
    try:
        os.write(configuration, "\n".join([*lines, ""]).encode())
        path = f"/proc/self/fd/{configuration}"
        return _spawn([program, "-c", path], errors, pass_fds=(configuration,))
    finally:
        os.close(configuration)


def _spawn_amqtt(port: int, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    return _spawn([sys.executable, "-m", BrokerProcess.module, _AMQTT_ARGUMENT, str(port)], errors)


def _spawn(arguments: list[str], errors: IO[bytes], pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        pass_fds=pass_fds,
        preexec_fn=die_with_parent,  # safe: this process has one thread
    )


def _listens(pid: int, port: int) -> bool:
    """Whether the process has a socket that listens on the port."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = "0A"
    ours = f":{port:04X}"
    inodes = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(ours) and row[3] == listening}
    try:
        return any(str(link.readlink()) in inodes for link in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        return False  # the process, or a file of it, has just gone: asked again in a moment


def _answers(port: int) -> bool:
    """Whether whoever listens on the port accepts an MQTT connection."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as connection:
            connection.sendall(_CONNECT)
            answer = connection.recv(4)
            connection.sendall(_DISCONNECT)
    except OSError:
        return False
    return answer == _CONNACK_ACCEPTED


async def _serve_amqtt(port: int) -> None:
    from amqtt.broker import Broker

    plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
    listeners = {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}
    await Broker({"listeners": listeners, "plugins": plugins}).start()
    await asyncio.Event().wait()  # until killed


def main() -> None:
    """Runs the broker's keeper, or amqtt under it, as a child process."""
    if sys.argv[1:2] == [_AMQTT_ARGUMENT]:
        logging.disable(logging.CRITICAL)
        asyncio.run(_serve_amqtt(int(sys.argv[2])))
        return
    options = options_from_argv(BrokerOptions)
    control = Control()
    try:
        keeper = _Keeper(options)
    except SimulatorError as error:
        sys.exit(f"broker simulator: {error}")
    keeper.run(control)


if __name__ == "__main__":
    main()
