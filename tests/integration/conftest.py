"""Brokers for the tests that run the whole service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pipeline.simulator.broker import BrokerError, start_broker


@pytest.fixture
def broker_port() -> Iterator[int]:
    """The port of a real mosquitto of this test's own."""
    try:
        broker = start_broker("mosquitto")
    except BrokerError as error:
        pytest.skip(str(error))
    with broker:
        yield broker.port
