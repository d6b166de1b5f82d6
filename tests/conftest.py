"""What every test gets: the guard against things left behind, and a folder that socket paths fit into."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

import vision  # noqa: F401 - turns onnxruntime's telemetry off, whose sockets would be taken for leaks

# How long a test takes on a busy machine says nothing of what it tests.
settings.register_profile("lineside", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("lineside")

pytest_plugins = ["tests.leak_guard"]


@pytest.fixture
def tmp_socket_dir() -> Iterator[Path]:
    """A folder of its own with a short path: an AF_UNIX address holds 108 bytes, and tmp_path is often longer."""
    with tempfile.TemporaryDirectory(prefix="ls-", dir="/tmp") as folder:
        yield Path(folder)
