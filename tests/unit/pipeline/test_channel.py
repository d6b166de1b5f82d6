"""Links between workers: whole messages, descriptors that travel, peers that are full, dead or talk too long."""

from __future__ import annotations

import contextlib
import os
import select
import socket
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.channel import MESSAGE_BYTES_MAX, Link, PeerGone, TooLong, link_pair
from pipeline.messages import Alarm, AnyMessage, Message, Release, Stop

# msgpack carries whole numbers of 64 bits.
st.register_type_strategy(int, st.integers(-(2**63), 2**64 - 1))
st.register_type_strategy(float, st.floats(allow_nan=False))


@contextlib.contextmanager
def links() -> Iterator[tuple[Link, Link]]:
    one, other = (Link(end) for end in link_pair())
    try:
        yield one, other
    finally:
        one.close()
        other.close()


def built(kind: type[Message]) -> st.SearchStrategy[Message]:
    fields = {name: st.from_type(hint) for name, hint in get_type_hints(kind).items() if name in kind.__struct_fields__}
    return st.builds(kind, **fields)


@pytest.mark.parametrize("kind", get_args(AnyMessage), ids=lambda kind: kind.__name__)
def test_every_message_arrives_as_it_was_sent(kind: type[Message]) -> None:
    with links() as (one, other):

        @given(message=built(kind))
        @settings(max_examples=20, derandomize=True, database=None, deadline=None)
        def check(message: Message) -> None:
            assert one.send(message)
            received = other.receive()
            assert received == (message, [])

        check()


def test_order_is_kept_and_nothing_there_is_none() -> None:
    with links() as (one, other):
        sent = [Release(index, 7) for index in range(50)]
        assert all(one.send(message) for message in sent)
        assert list(other.drain()) == sent
        assert other.receive() is None


def test_descriptors_travel() -> None:
    with links() as (one, other):
        memory = os.memfd_create("lineside-test-channel", os.MFD_CLOEXEC)
        os.write(memory, b"pixels")
        assert one.send(Stop(), (memory, memory))
        os.close(memory)
        received = other.receive()
        assert received is not None
        message, descriptors = received
        assert message == Stop()
        assert [os.pread(descriptor, 6, 0) for descriptor in descriptors] == [b"pixels", b"pixels"]
        for descriptor in descriptors:
            os.close(descriptor)


def test_a_drained_link_keeps_no_descriptor() -> None:
    with links() as (one, other):
        memory = os.memfd_create("lineside-test-channel", os.MFD_CLOEXEC)
        one.send(Stop(), (memory,))
        os.close(memory)
        assert list(other.drain()) == [Stop()]  # the leak guard would find the descriptor


def test_a_full_peer_is_told_and_loses_nothing() -> None:
    with links() as (one, other):
        sent = 0
        while one.send(Release(sent, 1)):
            sent += 1
        assert sent > 100
        assert not one.send(Release(sent, 1))
        assert other.receive() == (Release(0, 1), [])
        # The kernel calls a link writable again only when most of what it holds has been read.
        assert list(other.drain()) == [Release(index, 1) for index in range(1, sent)]
        assert select.select([], [one], [], 60)[1]
        assert one.send(Release(sent, 1))
        assert list(other.drain()) == [Release(sent, 1)]


def test_a_dead_peer_is_gone_for_both_directions() -> None:
    with links() as (one, other):
        other.close()
        with pytest.raises(PeerGone):
            one.send(Stop())
        with pytest.raises(PeerGone):
            one.receive()


def test_last_words_are_heard_before_the_end() -> None:
    with links() as (one, other):
        one.send(Release(1, 1))
        one.close()
        heard = other.drain()
        assert next(heard) == Release(1, 1)
        with pytest.raises(PeerGone):
            next(heard)


def test_the_longest_message_travels_a_longer_one_is_refused() -> None:
    with links() as (one, other):
        frame = len(msgspec.msgpack.encode(Alarm("c", "error", "x" * 60_000, True))) - 60_000
        spare = MESSAGE_BYTES_MAX - frame
        longest = Alarm("c", "error", "x" * spare, True)
        assert one.send(longest)
        assert other.receive() == (longest, [])
        with pytest.raises(TooLong, match=f"Alarm takes {MESSAGE_BYTES_MAX + 1} bytes"):
            one.send(Alarm("c", "error", "x" * (spare + 1), True))
        assert other.receive() is None


@pytest.mark.parametrize(
    "packet", [b"x" * (MESSAGE_BYTES_MAX + 1), b"\x91\xa4Stop"], ids=["too long", "too many descriptors"]
)
def test_a_truncated_message_ends_the_link(packet: bytes) -> None:
    raw, end = link_pair()
    link = Link(end)
    before = _descriptor_count()
    spare: list[Any] = [] if len(packet) > 100 else [raw.fileno()] * 5
    socket.send_fds(raw, [packet], spare)
    with pytest.raises(PeerGone, match="truncated"):
        link.receive()
    assert _descriptor_count() == before
    link.close()
    raw.close()


def _descriptor_count() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counted, not walked
