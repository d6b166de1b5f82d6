"""libaravis through ctypes, as far as the camera of the tests is checked with it: a client that somebody else wrote."""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import POINTER, byref, c_bool, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint, c_uint64, c_void_p
from dataclasses import dataclass
from types import TracebackType
from typing import Any

SUCCESS = 0
"""ArvBufferStatus of a whole frame."""

_NO_PACKET_SOCKET = 1  # ArvGvStreamOption: the streaming socket alone, which behaves alike with and without privileges
_FIXED_BUFFER, _SOCKET_BUFFER_BYTES = 0, 4 << 20  # room for a reader that the box lets wait


class _GError(ctypes.Structure):
    _fields_ = (("domain", ctypes.c_uint32), ("code", c_int), ("message", c_char_p))


class AravisError(Exception):
    """What libaravis answered instead."""


@dataclass(frozen=True)
class Received:
    """One buffer as it came from the stream; timestamps in nanoseconds of the camera's clock."""

    status: int
    block_id: int
    timestamp_ns: int
    data: bytes
    chunks: dict[str, float]


def load() -> Any:
    """The library with its functions declared; None where it is not installed."""
    name = ctypes.util.find_library("aravis-0.8")
    if name is None:
        return None
    library: Any = ctypes.CDLL(name)
    for function, result, *arguments in _FUNCTIONS:
        declared = getattr(library, function)
        declared.restype, declared.argtypes = result, arguments
    return library


_ERROR = POINTER(POINTER(_GError))
_FUNCTIONS: tuple[tuple[Any, ...], ...] = (
    ("g_inet_address_new_from_string", c_void_p, c_char_p),
    ("g_object_unref", None, c_void_p),
    ("g_error_free", None, POINTER(_GError)),
    ("arv_gv_device_new", c_void_p, c_void_p, c_void_p, _ERROR),
    ("arv_gv_device_set_stream_options", None, c_void_p, c_int),
    ("arv_gv_device_auto_packet_size", c_uint, c_void_p, _ERROR),
    ("arv_gv_device_is_controller", c_bool, c_void_p),
    ("arv_device_get_integer_feature_value", c_int64, c_void_p, c_char_p, _ERROR),
    ("arv_device_set_integer_feature_value", None, c_void_p, c_char_p, c_int64, _ERROR),
    ("arv_device_get_float_feature_value", c_double, c_void_p, c_char_p, _ERROR),
    ("arv_device_set_float_feature_value", None, c_void_p, c_char_p, c_double, _ERROR),
    ("arv_device_get_boolean_feature_value", c_int, c_void_p, c_char_p, _ERROR),
    ("arv_device_set_boolean_feature_value", None, c_void_p, c_char_p, c_int, _ERROR),
    ("arv_device_get_string_feature_value", c_char_p, c_void_p, c_char_p, _ERROR),
    ("arv_device_set_string_feature_value", None, c_void_p, c_char_p, c_char_p, _ERROR),
    ("arv_device_execute_command", None, c_void_p, c_char_p, _ERROR),
    ("arv_device_read_register", c_int, c_void_p, c_uint64, POINTER(ctypes.c_uint32), _ERROR),
    ("arv_device_write_register", c_int, c_void_p, c_uint64, ctypes.c_uint32, _ERROR),
    ("arv_device_create_stream", c_void_p, c_void_p, c_void_p, c_void_p, _ERROR),
    ("arv_device_create_chunk_parser", c_void_p, c_void_p),
    ("arv_chunk_parser_get_integer_value", c_int64, c_void_p, c_void_p, c_char_p, _ERROR),
    ("arv_chunk_parser_get_float_value", c_double, c_void_p, c_void_p, c_char_p, _ERROR),
    ("arv_buffer_new_full", c_void_p, c_size_t, c_void_p, c_void_p, c_void_p),
    ("arv_buffer_get_status", c_int, c_void_p),
    ("arv_buffer_get_frame_id", c_uint64, c_void_p),
    ("arv_buffer_get_timestamp", c_uint64, c_void_p),
    ("arv_buffer_get_data", c_void_p, c_void_p, POINTER(c_size_t)),
    ("arv_stream_push_buffer", None, c_void_p, c_void_p),
    ("arv_stream_timeout_pop_buffer", c_void_p, c_void_p, c_uint64),
    ("arv_stream_get_info_uint64_by_name", c_uint64, c_void_p, c_char_p),
    ("arv_gv_stream_get_statistics", None, c_void_p, POINTER(c_uint64), POINTER(c_uint64)),
)


def _raise(library: Any, error: Any) -> None:
    if error:
        message = error.contents.message.decode()
        library.g_error_free(error)
        raise AravisError(message)


class Device:
    """A camera opened by its address, in control of it. Use as a context.

    Raises:
        AravisError: It can not be opened.
    """

    def __init__(self, library: Any, address: str, interface: str) -> None:
        self._library = library
        ends = [library.g_inet_address_new_from_string(text.encode()) for text in (interface, address)]
        try:
            with self._checked() as error:
                self._device = library.arv_gv_device_new(*ends, error)
        finally:
            for end in ends:
                library.g_object_unref(end)
        library.arv_gv_device_set_stream_options(self._device, _NO_PACKET_SOCKET)

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._library.g_object_unref(self._device)

    @contextmanager
    def _checked(self) -> Iterator[Any]:
        error = POINTER(_GError)()
        yield byref(error)
        _raise(self._library, error)

    def get_integer(self, name: str) -> int:
        with self._checked() as error:
            return int(self._library.arv_device_get_integer_feature_value(self._device, name.encode(), error))

    def get_float(self, name: str) -> float:
        with self._checked() as error:
            return float(self._library.arv_device_get_float_feature_value(self._device, name.encode(), error))

    def get_text(self, name: str) -> str:
        """A string, or the entry of an enumeration."""
        with self._checked() as error:
            text = self._library.arv_device_get_string_feature_value(self._device, name.encode(), error)
        assert isinstance(text, bytes)
        return text.decode()

    def get_boolean(self, name: str) -> bool:
        with self._checked() as error:
            return bool(self._library.arv_device_get_boolean_feature_value(self._device, name.encode(), error))

    def set(self, name: str, value: bool | int | float | str) -> None:
        """Writes a feature as what the value is."""
        kind, given = {
            bool: ("boolean", value),
            int: ("integer", value),
            float: ("float", value),
            str: ("string", str(value).encode()),
        }[type(value)]
        with self._checked() as error:
            getattr(self._library, f"arv_device_set_{kind}_feature_value")(self._device, name.encode(), given, error)

    def execute(self, name: str) -> None:
        with self._checked() as error:
            self._library.arv_device_execute_command(self._device, name.encode(), error)

    def read_register(self, address: int) -> int:
        value = ctypes.c_uint32()
        with self._checked() as error:
            self._library.arv_device_read_register(self._device, address, byref(value), error)
        return value.value

    def write_register(self, address: int, value: int) -> None:
        with self._checked() as error:
            self._library.arv_device_write_register(self._device, address, value, error)

    def negotiate_packet_size(self) -> int:
        """Largest packet that comes through."""
        with self._checked() as error:
            return int(self._library.arv_gv_device_auto_packet_size(self._device, error))

    @property
    def is_controller(self) -> bool:
        return bool(self._library.arv_gv_device_is_controller(self._device))

    @contextmanager
    def streaming(self, buffers: int = 20, frame_retention_s: float = 0.2) -> Iterator[Stream]:
        """A stream with buffers of the camera's payload size, not started.

        Args:
            buffers: How many.
            frame_retention_s: How long the packets of a frame are waited for.
        """
        with self._checked() as error:
            handle = self._library.arv_device_create_stream(self._device, None, None, error)
        for name, value in (
            ("socket-buffer", c_int(_FIXED_BUFFER)),
            ("socket-buffer-size", c_int(_SOCKET_BUFFER_BYTES)),
            ("packet-request-ratio", c_double(2.0)),  # any packet may be asked for again
            ("frame-retention", c_uint(int(frame_retention_s * 1e6))),
        ):
            self._library.g_object_set(c_void_p(handle), name.encode(), value, None)
        stream = Stream(self._library, self._device, handle)
        try:
            size = self.get_integer("PayloadSize")
            for _ in range(buffers):
                self._library.arv_stream_push_buffer(handle, self._library.arv_buffer_new_full(size, None, None, None))
            yield stream
        finally:
            self._library.g_object_unref(stream.parser)
            self._library.g_object_unref(handle)


class Stream:
    """Frames of an opened camera."""

    def __init__(self, library: Any, device: int, handle: int) -> None:
        self._library, self._handle = library, handle
        self.parser = library.arv_device_create_chunk_parser(device)

    def next(self, timeout_s: float = 5.0, chunks: tuple[str, ...] = ()) -> Received:
        """The next buffer, whatever its status.

        Raises:
            AravisError: None came in time.
        """
        library = self._library
        buffer = library.arv_stream_timeout_pop_buffer(self._handle, int(timeout_s * 1e6))
        if not buffer:
            raise AravisError(f"no buffer in {timeout_s} s")
        size = c_size_t()
        data = library.arv_buffer_get_data(buffer, byref(size))
        received = Received(
            status=library.arv_buffer_get_status(buffer),
            block_id=library.arv_buffer_get_frame_id(buffer),
            timestamp_ns=library.arv_buffer_get_timestamp(buffer),
            data=ctypes.string_at(data, size.value),
            chunks={name: self._chunk(buffer, name) for name in chunks},
        )
        library.arv_stream_push_buffer(self._handle, buffer)
        return received

    def _chunk(self, buffer: int, name: str) -> float:
        error = POINTER(_GError)()
        kind = "float" if name == "ChunkExposureTime" else "integer"
        read = getattr(self._library, f"arv_chunk_parser_get_{kind}_value")
        value = read(self.parser, buffer, name.encode(), byref(error))
        _raise(self._library, error)
        assert isinstance(value, (int, float))
        return value

    def count(self, name: str) -> int:
        """A counter of the stream."""
        return int(self._library.arv_stream_get_info_uint64_by_name(self._handle, name.encode()))
