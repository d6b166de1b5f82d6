"""libaravis 0.8 (LGPL-2.1) through ctypes: what the driver needs of it, with Python's exceptions for GLib's errors.

Through ctypes and not PyGObject, as a buffer has to be memory of ours. Nothing here keeps state but handles that the
caller closes. https://aravisproject.github.io/aravis/
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable, Sequence
from ctypes import (
    CFUNCTYPE,
    POINTER,
    byref,
    c_bool,
    c_char_p,
    c_double,
    c_int,
    c_int64,
    c_size_t,
    c_uint,
    c_uint32,
    c_uint64,
    c_void_p,
)
from functools import cache
from typing import Any, cast

from pipeline.cameras.device_features import FeatureError, FeatureKind, FeatureValue

INSTALL = "apt-get install libaravis-0.8-0"
STREAM_CALLBACK = CFUNCTYPE(None, c_void_p, c_int, c_void_p)
BUFFER_DONE = 3
SUCCESS = 0
STATUS_TEXTS = {
    1: "cleared",
    2: "timeout: packets of it never came",
    3: "packets of it are missing",
    4: "wrong packet id",
    5: "larger than the buffer",
    6: "filling",
    7: "given up",
    8: "its payload is not supported",
}
_LISTED_FEATURE = re.compile(r"<pFeature>\s*([A-Za-z0-9_]+)\s*</pFeature>")
IMAGE_PAYLOADS = frozenset({1, 4, 5})
"""Images, and images with chunks (of GigE Vision 1 and 2). A JPEG or a file is none."""
_LOST_CALLBACK = CFUNCTYPE(None, c_void_p, c_void_p)


class AravisMissing(ImportError):
    """libaravis is not installed; the text says how to."""


class AravisError(RuntimeError):
    """The device or the library says no; ``code`` is GLib's, the text the library's own."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


NOT_CONTROLLER = 7
"""ARV_DEVICE_ERROR_NOT_CONTROLLER: another program has the camera."""


class _GError(ctypes.Structure):
    _fields_ = (("domain", c_uint32), ("code", c_int), ("message", c_char_p))


_ERROR = POINTER(POINTER(_GError))
# name: (result, arguments); those that end in _ERROR are called by ``_checked``.
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arv_buffer_get_data": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "arv_buffer_get_frame_id": (c_uint64, (c_void_p,)),
    "arv_buffer_get_image_height": (c_int, (c_void_p,)),
    "arv_buffer_get_image_padding": (None, (c_void_p, POINTER(c_int), POINTER(c_int))),
    "arv_buffer_get_image_pixel_format": (c_uint32, (c_void_p,)),
    "arv_buffer_get_image_width": (c_int, (c_void_p,)),
    "arv_buffer_get_payload_type": (c_int, (c_void_p,)),
    "arv_buffer_get_status": (c_int, (c_void_p,)),
    "arv_buffer_get_system_timestamp": (c_uint64, (c_void_p,)),
    "arv_buffer_get_timestamp": (c_uint64, (c_void_p,)),
    "arv_buffer_has_chunks": (c_bool, (c_void_p, _ERROR)),
    "arv_buffer_new_full": (c_void_p, (c_size_t, c_void_p, c_void_p, c_void_p)),
    "arv_buffer_get_user_data": (c_void_p, (c_void_p,)),
    "arv_chunk_parser_get_integer_value": (c_int64, (c_void_p, c_void_p, c_char_p, _ERROR)),
    "arv_device_create_chunk_parser": (c_void_p, (c_void_p,)),
    "arv_device_create_stream": (c_void_p, (c_void_p, STREAM_CALLBACK, c_void_p, _ERROR)),
    "arv_device_dup_available_enumeration_feature_values_as_strings": (
        POINTER(c_char_p),
        (c_void_p, c_char_p, POINTER(c_uint), _ERROR),
    ),
    "arv_device_execute_command": (None, (c_void_p, c_char_p, _ERROR)),
    "arv_device_get_boolean_feature_value": (c_bool, (c_void_p, c_char_p, _ERROR)),
    "arv_device_get_feature": (c_void_p, (c_void_p, c_char_p)),
    "arv_device_get_float_feature_bounds": (None, (c_void_p, c_char_p, POINTER(c_double), POINTER(c_double), _ERROR)),
    "arv_device_get_float_feature_value": (c_double, (c_void_p, c_char_p, _ERROR)),
    "arv_device_get_genicam_xml": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "arv_device_get_integer_feature_bounds": (None, (c_void_p, c_char_p, POINTER(c_int64), POINTER(c_int64), _ERROR)),
    "arv_device_get_integer_feature_value": (c_int64, (c_void_p, c_char_p, _ERROR)),
    "arv_device_get_string_feature_value": (c_char_p, (c_void_p, c_char_p, _ERROR)),
    "arv_device_is_feature_available": (c_bool, (c_void_p, c_char_p, _ERROR)),
    "arv_device_read_register": (c_bool, (c_void_p, c_uint64, POINTER(c_uint32), _ERROR)),
    "arv_device_set_boolean_feature_value": (None, (c_void_p, c_char_p, c_bool, _ERROR)),
    "arv_device_set_float_feature_value": (None, (c_void_p, c_char_p, c_double, _ERROR)),
    "arv_device_set_integer_feature_value": (None, (c_void_p, c_char_p, c_int64, _ERROR)),
    "arv_device_set_string_feature_value": (None, (c_void_p, c_char_p, c_char_p, _ERROR)),
    "arv_device_write_register": (c_bool, (c_void_p, c_uint64, c_uint32, _ERROR)),
    "arv_disable_interface": (None, (c_char_p,)),
    "arv_enable_interface": (None, (c_char_p,)),
    "arv_get_device_address": (c_char_p, (c_uint,)),
    "arv_get_device_id": (c_char_p, (c_uint,)),
    "arv_get_device_model": (c_char_p, (c_uint,)),
    "arv_get_device_protocol": (c_char_p, (c_uint,)),
    "arv_get_device_serial_nbr": (c_char_p, (c_uint,)),
    "arv_get_device_vendor": (c_char_p, (c_uint,)),
    "arv_get_n_devices": (c_uint, ()),
    "arv_gv_device_auto_packet_size": (c_uint, (c_void_p, _ERROR)),
    "arv_gv_device_get_packet_size": (c_uint, (c_void_p, _ERROR)),
    "arv_gv_device_get_timestamp_tick_frequency": (c_uint64, (c_void_p, _ERROR)),
    "arv_gv_device_get_type": (c_size_t, ()),
    "arv_gv_device_is_controller": (c_bool, (c_void_p,)),
    "arv_gv_device_new": (c_void_p, (c_void_p, c_void_p, _ERROR)),
    "arv_gv_device_set_packet_size": (None, (c_void_p, c_int, _ERROR)),
    "arv_gv_device_set_stream_options": (None, (c_void_p, c_int)),
    "arv_gv_stream_get_port": (ctypes.c_uint16, (c_void_p,)),
    "arv_open_device": (c_void_p, (c_char_p, _ERROR)),
    "arv_stream_get_info_uint64_by_name": (c_uint64, (c_void_p, c_char_p)),
    "arv_stream_push_buffer": (None, (c_void_p, c_void_p)),
    "arv_stream_try_pop_buffer": (c_void_p, (c_void_p,)),
    "arv_update_device_list": (None, ()),
}
_GLIB = {
    "g_error_free": (None, (POINTER(_GError),)),
    "g_free": (None, (c_void_p,)),
}
_GOBJECT: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "g_object_unref": (None, (c_void_p,)),
    "g_object_set": (None, None),  # type: ignore[dict-item]  # variadic
    "g_signal_connect_data": (ctypes.c_ulong, (c_void_p, c_char_p, _LOST_CALLBACK, c_void_p, c_void_p, c_int)),
    "g_signal_handler_disconnect": (None, (c_void_p, ctypes.c_ulong)),
    "g_type_check_instance_is_a": (c_int, (c_void_p, c_size_t)),
}
_GIO = {"g_inet_address_new_from_string": (c_void_p, (c_char_p,))}
_KIND_TYPES: tuple[tuple[str, FeatureKind], ...] = (
    # In this order: an enumeration is an integer and a string, too.
    ("arv_gc_enumeration_get_type", "enumeration"),
    ("arv_gc_boolean_get_type", "boolean"),
    ("arv_gc_command_get_type", "command"),
    ("arv_gc_integer_get_type", "integer"),
    ("arv_gc_float_get_type", "float"),
    ("arv_gc_string_get_type", "string"),
)


class ControlLost:
    """Calls ``tell`` from a thread of the library's once the camera no longer answers, until ``end``."""

    def __init__(self, lib: Library, device: int, tell: Callable[[], None]) -> None:
        self._lib = lib
        self._device = device
        # It has to live as long as it may be called.
        self._callback = _LOST_CALLBACK(lambda _device, _data: tell())
        self._handler = lib.gobject.g_signal_connect_data(device, b"control-lost", self._callback, None, None, 0)

    def end(self) -> None:
        self._lib.gobject.g_signal_handler_disconnect(self._device, self._handler)


class Library:
    """The functions, and the few that need more than a call."""

    def __init__(self) -> None:
        """Raises AravisMissing."""
        try:
            self.arv = _bound(ctypes.CDLL("libaravis-0.8.so.0"), _SIGNATURES)
            self.gobject = _bound(ctypes.CDLL("libgobject-2.0.so.0"), _GOBJECT)
            self.gio = _bound(ctypes.CDLL("libgio-2.0.so.0"), _GIO)
            self.glib = _bound(ctypes.CDLL("libglib-2.0.so.0"), _GLIB)
        except (OSError, AttributeError) as error:
            raise AravisMissing(f"libaravis 0.8 is not installed ({error}): {INSTALL}") from error
        self._kinds: list[tuple[int, FeatureKind]] = []
        for name, kind in _KIND_TYPES:
            type_of = getattr(self.arv, name)
            type_of.restype, type_of.argtypes = c_size_t, ()
            self._kinds.append((type_of(), kind))

    def checked(self, name: str, *arguments: Any) -> Any:
        """Call a function that takes a GError. Raises AravisError."""
        # A pointer of its own for every call: GLib does not write into one that is set.
        error = POINTER(_GError)()
        result = getattr(self.arv, name)(*arguments, byref(error))
        if bool(error):
            text, code = error.contents.message.decode(errors="replace"), int(error.contents.code)
            self.glib.g_error_free(error)
            raise AravisError(text, code)
        return result

    def open_address(self, address: str, interface: str) -> int:
        """A GigE Vision camera by its address, from ours: nothing is broadcast. Raises AravisError."""
        local = self.gio.g_inet_address_new_from_string(interface.encode())
        remote = self.gio.g_inet_address_new_from_string(address.encode())
        try:
            return cast(int, self.checked("arv_gv_device_new", local, remote))
        finally:
            self.unref(local)
            self.unref(remote)

    def unref(self, handle: int | None) -> None:
        if handle:
            self.gobject.g_object_unref(handle)

    def is_gige(self, device: int) -> bool:
        return bool(self.gobject.g_type_check_instance_is_a(device, self.arv.arv_gv_device_get_type()))

    def set_property(self, handle: int, name: str, value: int) -> None:
        """An unsigned one of 32 bit, or an enumeration."""
        # Variadic: ctypes would pass a bare number as 32 bit.
        self.gobject.g_object_set(c_void_p(handle), c_char_p(name.encode()), c_uint32(value), c_void_p(None))

    def kind(self, device: int, name: str) -> FeatureKind | None:
        node = self.arv.arv_device_get_feature(device, name.encode())
        if not node:
            return None
        is_a = self.gobject.g_type_check_instance_is_a
        return next((kind for type_id, kind in self._kinds if is_a(node, type_id)), None)


@cache
def library() -> Library:
    """libaravis, loaded once. Raises AravisMissing."""
    return Library()


def _bound(loaded: ctypes.CDLL, signatures: dict[str, tuple[Any, Any]]) -> ctypes.CDLL:
    for name, (result, arguments) in signatures.items():
        function = getattr(loaded, name)
        function.restype = result
        if arguments is not None:
            function.argtypes = arguments
    return loaded


class AravisFeatures:
    """See ``pipeline.cameras.device_features.Features``. ``device`` has to stay open."""

    def __init__(self, lib: Library, device: int) -> None:
        self._lib = lib
        self._device = device

    def names(self) -> Sequence[str]:
        """From the description that the device carries (GenICam XML)."""
        size = c_size_t()
        text = self._lib.arv.arv_device_get_genicam_xml(self._device, byref(size))
        described = ctypes.string_at(text, size.value).decode(errors="replace") if text else ""
        return sorted(set(_LISTED_FEATURE.findall(described)))

    def kind(self, name: str) -> FeatureKind | None:
        kind = self._lib.kind(self._device, name)
        if kind is None:
            return None
        try:
            is_available = self._lib.checked("arv_device_is_feature_available", self._device, name.encode())
        except AravisError:
            return None
        return kind if is_available else None

    def get(self, name: str) -> FeatureValue:
        kind = self.kind(name)
        if kind is None or kind == "command":
            raise FeatureError("it has no value")
        word = "string" if kind == "enumeration" else kind
        value = self._call(f"arv_device_get_{word}_feature_value", name)
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        if value is None:
            raise FeatureError("it has no value now")
        return cast(FeatureValue, value)

    def set(self, name: str, value: FeatureValue) -> None:
        kind = self.kind(name)
        if kind == "integer":
            self._call("arv_device_set_integer_feature_value", name, int(value))
        elif kind == "float":
            self._call("arv_device_set_float_feature_value", name, float(value))
        elif kind == "boolean":
            self._call("arv_device_set_boolean_feature_value", name, bool(value))
        else:
            self._call("arv_device_set_string_feature_value", name, str(value).encode())

    def execute(self, name: str) -> None:
        self._call("arv_device_execute_command", name)

    def bounds(self, name: str) -> tuple[float, float]:
        low: c_int64 | c_double
        high: c_int64 | c_double
        if self.kind(name) == "integer":
            low, high = c_int64(), c_int64()
            self._call("arv_device_get_integer_feature_bounds", name, byref(low), byref(high))
        else:
            low, high = c_double(), c_double()
            self._call("arv_device_get_float_feature_bounds", name, byref(low), byref(high))
        return low.value, high.value

    def choices(self, name: str) -> Sequence[str]:
        count = c_uint()
        found = self._call("arv_device_dup_available_enumeration_feature_values_as_strings", name, byref(count))
        try:
            return [found[index].decode() for index in range(count.value)]
        finally:
            # The strings are the library's, the array is ours.
            self._lib.glib.g_free(ctypes.cast(found, c_void_p))

    def _call(self, function: str, name: str, *arguments: Any) -> Any:
        try:
            return self._lib.checked(function, self._device, name.encode(), *arguments)
        except AravisError as error:
            raise FeatureError(str(error)) from error
