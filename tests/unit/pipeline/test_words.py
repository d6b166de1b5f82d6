"""Words that nobody reads are lost and counted, and hold nobody up."""

from __future__ import annotations

import fcntl
import os
import select
import socket
import subprocess
import sys
from pathlib import Path

from pipeline.words import Words


def test_a_reader_who_stands_still_holds_nobody_up() -> None:
    receiver, sender = os.pipe()
    with os.fdopen(receiver, "rb", buffering=0) as reading, os.fdopen(sender, "w") as writing:
        fcntl.fcntl(sender, fcntl.F_SETPIPE_SZ, 4_096)
        # Whoever shares the pipe with us sees no change.
        shared = os.dup(sender)
        words = Words(writing)
        for number in range(1_000):
            words.tell(f"line {number}")
        assert os.get_blocking(shared)
        os.close(shared)
        lines = reading.read(65_536).decode().splitlines()
        assert lines == [f"line {number}" for number in range(len(lines))]
        words.tell("again")
        words.tell("and again")
        text = reading.read(65_536).decode()
        assert text == f"lineside: note: {1_000 - len(lines)} lines were lost here\nagain\nand again\n"
        words.tell("x" * 100_000)
        assert len(reading.read(65_536)) <= select.PIPE_BUF


def test_who_inherits_it_does_not_wait_either() -> None:
    receiver, sender = os.pipe()
    with os.fdopen(receiver, "rb", buffering=0) as reading, os.fdopen(sender, "w") as writing:
        Words(writing)
        program = "import sys; sys.stderr.write('x' * 1_000_000)"
        subprocess.run([sys.executable, "-c", program], stderr=writing, timeout=60, check=False)
        assert reading.read(100) == b"x" * 100


def test_a_socket_a_full_device_and_nothing_at_all(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, theirs.makefile("w") as writing:
        words = Words(writing)
        for number in range(10_000):
            words.tell(f"line {number}")
        assert ours.recv(65_536).startswith(b"line 0\nline 1\n")
    with Path("/dev/full").open("w") as full:
        Words(full).tell("lost")
    with (tmp_path / "log").open("w") as file:
        file.write("before\n")
        words = Words(file)
        words.tell("a \ud800 word")
    assert (tmp_path / "log").read_text() == "before\na \\ud800 word\n"
    words.tell("closed meanwhile")
