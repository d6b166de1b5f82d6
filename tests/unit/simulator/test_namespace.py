"""A network namespace of our own: what is inside sees nothing of outside but through the proxy."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from pipeline.simulator.namespace import NamespaceUnavailable, NetworkNamespace, inside
from pipeline.simulator.proxy import ProxyOptions, ProxyProcess

PATIENCE_S = 30.0
SILENCE_S = 0.3
CALL = """
import socket, sys
with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=float(sys.argv[2])) as connection:
    print(connection.recv(100).decode())
"""


@pytest.fixture
def namespace() -> Iterator[NetworkNamespace]:
    try:
        started = NetworkNamespace().start()
    except NamespaceUnavailable as error:
        pytest.skip(str(error))
    with started:
        yield started


def command_inside(namespace: NetworkNamespace, port: int, timeout_s: float = PATIENCE_S) -> list[str]:
    return [*namespace.command_prefix, sys.executable, "-c", CALL, str(port), str(timeout_s)]


def call_fails(namespace: NetworkNamespace, port: int, timeout_s: float = PATIENCE_S) -> str:
    """What a client inside says when it gets no connection."""
    done = subprocess.run(command_inside(namespace, port, timeout_s), capture_output=True, text=True, check=False)
    assert done.returncode != 0
    return done.stderr


def test_proxy_is_the_only_way_out(namespace: NetworkNamespace) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert "refused" in call_fails(namespace, port)
        with ProxyProcess(ProxyOptions(target_port=port, netns_path=namespace.path)) as proxy:
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_S)
            with subprocess.Popen(command_inside(namespace, proxy.port), stdout=subprocess.PIPE, text=True) as caller:
                # nsenter becomes the command: the process id is the one that was spawned.
                assert psutil.Process(caller.pid).children() == []
                end, _ = server.accept()
                with end:
                    end.sendall(b"good morning")
                assert caller.communicate(timeout=PATIENCE_S)[0] == "good morning\n"
            proxy.refuse()
            assert "refused" in call_fails(namespace, proxy.port)
            proxy.pass_through()
            server.settimeout(PATIENCE_S)
            with inside(namespace.path):
                client = socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_S)
            with client, server.accept()[0] as end:
                end.sendall(b"again")
                assert client.recv(5) == b"again"


def test_cut_and_mended(namespace: NetworkNamespace) -> None:
    with inside(namespace.path):
        server = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname(), timeout=PATIENCE_S)
    end, _ = server.accept()
    with server, client, end:
        end.settimeout(PATIENCE_S)
        namespace.cut()
        client.sendall(b"held")  # the kernel keeps it and tries again
        call_fails(namespace, server.getsockname()[1], timeout_s=SILENCE_S)
        end.setblocking(False)
        with pytest.raises(BlockingIOError):
            end.recv(4)
        end.settimeout(PATIENCE_S)
        namespace.mend()
        assert end.recv(4) == b"held"
        with inside(namespace.path), socket.create_connection(server.getsockname(), timeout=PATIENCE_S) as second:
            with server.accept()[0] as second_end:
                second_end.sendall(b"new")
            assert second.recv(3) == b"new"


def test_this_process_stays_where_it_was(namespace: NetworkNamespace) -> None:
    before = Path("/proc/self/ns/net").readlink()
    with inside(namespace.path):
        assert Path("/proc/thread-self/ns/net").readlink() != before
    assert Path("/proc/thread-self/ns/net").readlink() == before


def test_nothing_is_left_when_the_parent_is_killed(namespace: NetworkNamespace) -> None:
    script = (
        "from pipeline.simulator.namespace import NetworkNamespace\n"
        "namespace = NetworkNamespace().start()\n"
        "print(namespace.pid, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        holder = psutil.Process(int(parent.stdout.readline()))
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert holder.wait(PATIENCE_S) is None


def test_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(NamespaceUnavailable, match="nsenter is not on PATH"):
        NetworkNamespace().start()


def test_who_may_not_is_told_what_is_needed() -> None:
    script = (
        "import ctypes, os\n"
        "ctypes.CDLL(None).prctl(24, 21, 0, 0, 0)  # drops CAP_SYS_ADMIN; fails for who has it not\n"
        "from pipeline.simulator.namespace import NamespaceUnavailable, NetworkNamespace\n"
        "try:\n"
        "    NetworkNamespace().start()\n"
        "except NamespaceUnavailable as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "Operation not permitted; needs root" in done.stdout, done.stderr
