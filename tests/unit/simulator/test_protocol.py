from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.simulator.protocol import (
    FRAME_END_BYTES,
    HEADER_BYTES,
    LINE_EVENT_BYTES,
    DeviceMessage,
    LineEvent,
    LineEventKind,
    MessageKind,
    ProtocolError,
    check_frame_end,
    decode_header,
    decode_line_event,
    encode_frame_end,
    encode_header,
    encode_line_event,
)
from vision.types import PixelFormat

unsigned_32 = st.integers(0, 2**32 - 1)
unsigned_64 = st.integers(0, 2**64 - 1)
signed_64 = st.integers(-(2**63), 2**63 - 1)

messages = st.builds(
    DeviceMessage,
    kind=st.sampled_from(MessageKind),
    pixel_format=st.sampled_from(PixelFormat),
    trigger_counter=unsigned_64,
    encoder_count=signed_64,
    trigger_ns=signed_64,
    exposure_ns=signed_64,
    frame_id=unsigned_64,
    width=unsigned_32,
    height=unsigned_32,
    stride=unsigned_32,
    payload_bytes=unsigned_32,
)


@given(messages)
def test_a_header_of_64_bytes_says_what_was_put_into_it(message: DeviceMessage) -> None:
    header = encode_header(message)
    assert len(header) == HEADER_BYTES == 64
    assert decode_header(header) == message
    assert decode_header(memoryview(bytearray(header))) == message


@given(st.builds(LineEvent, st.sampled_from(LineEventKind), signed_64, signed_64))
def test_a_line_event_says_what_was_put_into_it(event: LineEvent) -> None:
    packet = encode_line_event(event)
    assert len(packet) == LINE_EVENT_BYTES == 24
    assert decode_line_event(packet) == event


HEADER = encode_header(DeviceMessage(MessageKind.TRIGGER, PixelFormat.MONO8, 1, 2, 3))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (HEADER[:-1], "got 63 bytes, expected 64"),
        (b"NOPE" + HEADER[4:], "out of step"),
        (HEADER[:4] + b"\x09\x00" + HEADER[6:], "got kind 9"),
        (HEADER[:6] + b"\x10\x00" + HEADER[8:], "got pixel format 16"),
    ],
)
def test_bytes_of_another_protocol_are_refused(header: bytes, words: str) -> None:
    with pytest.raises(ProtocolError, match=words):
        decode_header(header)


@pytest.mark.parametrize("packet", [b"", b"\x01" * 23, b"\x63" + b"\x00" * 23])
def test_line_events_of_another_protocol_are_refused(packet: bytes) -> None:
    with pytest.raises(ProtocolError, match="line event"):
        decode_line_event(packet)


@given(unsigned_64)
def test_a_frames_end_is_of_its_own_trigger(trigger_counter: int) -> None:
    end = encode_frame_end(trigger_counter)
    assert len(end) == FRAME_END_BYTES == 16
    check_frame_end(memoryview(bytearray(end)), trigger_counter)


@pytest.mark.parametrize("end", [encode_frame_end(2), b"x" * 16, encode_frame_end(1)[:15], b""])
def test_anything_else_behind_a_frame_means_that_it_is_torn(end: bytes) -> None:
    with pytest.raises(ProtocolError, match=r"camera frame of trigger 1: got .*; the frame is torn"):
        check_frame_end(end, 1)
