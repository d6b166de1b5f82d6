"""Brokers for the tests that run the whole service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.simulator.broker import find_mosquitto, start_broker


@pytest.fixture
def broker_port() -> Iterator[int]:
    """The port of a real mosquitto of this test's own."""
    if find_mosquitto() is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    with start_broker("mosquitto") as broker:
        yield broker.port
