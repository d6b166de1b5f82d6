"""The faulty cable: what either end of it sees in each mode."""

from __future__ import annotations

import hashlib
import random
import select
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from pipeline.simulator.process import SimulatorError
from pipeline.simulator.proxy import ProxyOptions, ProxyProcess

PATIENCE_S = 30.0
SILENCE_S = 0.3


@dataclass
class Cable:
    """The proxy, and the server at its end."""

    proxy: ProxyProcess
    server: socket.socket

    def call(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.proxy.port), timeout=PATIENCE_S)

    def connect(self) -> tuple[socket.socket, socket.socket]:
        """A client and the server's end of its connection."""
        client = self.call()
        end, _ = self.server.accept()
        end.settimeout(PATIENCE_S)
        return client, end


@pytest.fixture
def cable() -> Iterator[Cable]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(PATIENCE_S)
        with ProxyProcess(ProxyOptions(target_port=server.getsockname()[1])) as proxy:
            yield Cable(proxy, server)


def receive(connection: socket.socket, count: int) -> bytes:
    received = bytearray()
    while len(received) < count:
        chunk = connection.recv(count - len(received))
        assert chunk, f"the connection ended after {len(received)} of {count} bytes"
        received += chunk
    return bytes(received)


def is_silent(connection: socket.socket) -> bool:
    return not select.select([connection], [], [], SILENCE_S)[0]


def test_passes_both_ways_and_counts(cable: Cable) -> None:
    client, end = cable.connect()
    with client, end:
        client.sendall(b"there")
        assert receive(end, 5) == b"there"
        end.sendall(b"and back")
        assert receive(client, 8) == b"and back"
        report = cable.proxy.report()
        assert report["mode"] == "pass_through"
        assert (report["connections"], report["accepted"]) == (1, 1)
        assert (report["bytes_to_target"], report["bytes_from_target"]) == (5, 8)


def test_much_arrives_whole_and_a_slow_reader_holds_the_writer_back(cable: Cable) -> None:
    content = random.Random(1).randbytes(20_000_000)
    client, end = cable.connect()
    with client, end:
        writer = threading.Thread(target=client.sendall, args=(content,))
        writer.start()
        # Nobody reads: what is on the way is bounded by the proxy's and the kernel's buffers, not by the content.
        writer.join(SILENCE_S)
        assert writer.is_alive()
        assert hashlib.sha256(receive(end, len(content))).digest() == hashlib.sha256(content).digest()
        writer.join()


def test_half_close_is_passed_on_and_the_other_direction_lives(cable: Cable) -> None:
    client, end = cable.connect()
    with client, end:
        client.sendall(b"last words")
        client.shutdown(socket.SHUT_WR)
        assert receive(end, 10) == b"last words"
        assert end.recv(1) == b""
        end.sendall(b"answer")
        assert receive(client, 6) == b"answer"
        end.close()
        assert client.recv(1) == b""
        client.close()
        assert cable.proxy.report()["connections"] == 0


def test_reset_at_one_end_is_a_reset_at_the_other(cable: Cable) -> None:
    client, end = cable.connect()
    with client, end:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        client.close()
        with pytest.raises(ConnectionResetError):
            end.recv(1)


def test_slow_delays_each_direction_and_keeps_order(cable: Cable) -> None:
    client, end = cable.connect()
    with client, end:
        cable.proxy.slow(150.0, None)
        begin_s = time.monotonic()
        for number in range(10):
            client.sendall(bytes([number]))
        assert receive(end, 10) == bytes(range(10))
        assert time.monotonic() - begin_s >= 0.15
        end.sendall(b"x")
        assert receive(client, 1) == b"x"
        assert time.monotonic() - begin_s >= 0.3


def test_slow_limits_the_rate_until_it_passes_through_again(cable: Cable) -> None:
    client, end = cable.connect()
    with client, end:
        cable.proxy.slow(0.0, 100_000.0)
        begin_s = time.monotonic()
        client.sendall(bytes(50_000))
        receive(end, 50_000)
        assert time.monotonic() - begin_s >= 0.45
        cable.proxy.slow(3_600_000.0, 10.0)
        client.sendall(b"in an hour")
        assert is_silent(end)
        cable.proxy.pass_through()
        assert receive(end, 10) == b"in an hour"
    with pytest.raises(SimulatorError, match="bytes_per_s: got 0"):
        cable.proxy.slow(0.0, 0.0)


def test_stalled_cable_takes_calls_and_says_nothing_until_it_goes_on(cable: Cable) -> None:
    client, end = cable.connect()
    with client, end:
        cable.proxy.stall()
        client.sendall(b"held")
        end.sendall(b"back")
        with cable.call() as second:
            second.sendall(b"hello?")
            assert is_silent(client)
            assert is_silent(end)
            assert is_silent(second)
            assert is_silent(cable.server)
            assert cable.proxy.report()["mode"] == "stall"
            cable.proxy.pass_through()
            assert receive(end, 4) == b"held"
            assert receive(client, 4) == b"back"
            with cable.server.accept()[0] as second_end:
                assert receive(second_end, 6) == b"hello?"


def test_reset_breaks_both_sides_and_welcomes_new_calls(cable: Cable) -> None:
    client, end = cable.connect()
    with client, end:
        cable.proxy.stall()
        with cable.call() as waiting:
            cable.proxy.reset()
            for broken in (client, end, waiting):
                with pytest.raises(ConnectionResetError):
                    broken.recv(1)
        while True:  # the one that was waiting may have reached the server on its way out
            again, end_again = cable.connect()
            with again, end_again:
                again.sendall(b"new")
                if select.select([end_again], [], [], PATIENCE_S)[0] and _peek(end_again) == b"new":
                    break


def _peek(connection: socket.socket) -> bytes:
    try:
        return connection.recv(3)
    except ConnectionResetError:
        return b""


def test_refused_port_stays_its_own_and_opens_again(cable: Cable) -> None:
    client, end = cable.connect()
    with client, end:
        cable.proxy.refuse()
        for broken in (client, end):
            with pytest.raises(ConnectionResetError):
                broken.recv(1)
    port = cable.proxy.port
    with pytest.raises(ConnectionRefusedError):
        cable.call()
    with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
        stranger.bind(("127.0.0.1", port))
    assert cable.proxy.report() == {**cable.proxy.report(), "mode": "refuse", "connections": 0}
    cable.proxy.pass_through()
    assert cable.proxy.port == port
    client, end = cable.connect()
    with client, end:
        client.sendall(b"new")
        assert receive(end, 3) == b"new"


def test_no_server_at_the_end_breaks_the_call(cable: Cable) -> None:
    cable.server.close()
    # It may be reset before connect has returned.
    with pytest.raises(ConnectionResetError), cable.call() as client:
        client.recv(1)
    assert cable.proxy.report()["connections"] == 0


def test_unknown_command_is_refused(cable: Cable) -> None:
    with pytest.raises(SimulatorError, match="unknown command 'gnaw'"):
        cable.proxy.request("gnaw")
