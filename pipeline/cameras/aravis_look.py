"""A look at a camera through libaravis: as a line's configuration sets it up, or as it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.camera_config import AravisCamera
from pipeline.cameras.aravis_device import AravisDevice, id_with_serial, way_to
from pipeline.cameras.aravis_library import (
    STREAM_CALLBACK,
    AravisError,
    AravisFeatures,
    AravisMissing,
    Library,
    library,
)
from pipeline.cameras.base import CameraUnavailable
from pipeline.cameras.looking import Look
from pipeline.clock import NS_PER_S

_ACCESS_DENIED = 17
"""ARV_DEVICE_ERROR_PROTOCOL_ERROR_ACCESS_DENIED: another program lets nobody even read."""


@contextmanager
def configured(config: AravisCamera) -> Iterator[Look]:
    """Opened and set up as acquisition does it, and not started. Raises CameraUnavailable."""
    on_stream = STREAM_CALLBACK(lambda _user, _kind, _buffer: None)  # lives until the device is closed
    device = AravisDevice(config, on_stream, lambda: None)
    try:
        facts = {"frame": f"{device.payload_bytes} bytes"}
        if device.is_gige:
            packet_bytes = device.lib.checked("arv_gv_device_get_packet_size", device.handle)
            facts["packets"] = f"{packet_bytes} bytes each, {_chosen(config)}"
            facts["kernel"] = f"keeps {device.receive_buffer_bytes} bytes of a burst of packets"
            facts["clock"] = (
                "cannot be asked; time stamps are put in place by when frames come"
                if device.clock_asked is None
                else f"{device.clock_asked.device_ns / NS_PER_S:.6f} s by the camera's own"
            )
        yield Look(device.features, facts)
    except AravisError as error:
        raise CameraUnavailable(f"camera {config.camera_id}: {error}") from error
    finally:
        device.close()


@contextmanager
def unchanged(address: str | None, serial: str | None) -> Iterator[Look]:
    """By one of the two. Of a camera that another program has it is only read; else nobody else gets it meanwhile.

    Raises CameraUnavailable.
    """
    try:
        lib = library()
    except AravisMissing as error:
        raise CameraUnavailable(str(error)) from error
    handle = _opened(lib, address, serial)
    try:
        is_ours = not lib.is_gige(handle) or lib.arv.arv_gv_device_is_controller(handle)
        yield Look(
            AravisFeatures(lib, handle), {"in use": "no" if is_ours else "by another program; nothing was changed"}
        )
    finally:
        lib.unref(handle)


def _opened(lib: Library, address: str | None, serial: str | None) -> int:
    where = address or f"serial {serial}"
    try:
        if address is not None:
            handle = lib.open_address(address, way_to(address)[0])
        else:
            assert serial is not None
            handle = int(lib.checked("arv_open_device", id_with_serial(serial).encode()) or 0)
    except AravisError as error:
        if error.code == _ACCESS_DENIED:
            text = f"{where} is in use by another program, which lets nobody else read it"
        else:
            text = f"no camera answers at {where} ({error})"
        raise CameraUnavailable(text) from error
    if not handle:
        raise CameraUnavailable(f"no camera answers at {where}")
    return handle


def _chosen(config: AravisCamera) -> str:
    return "the largest that arrive" if config.packet_size_bytes is None else "as configured"
