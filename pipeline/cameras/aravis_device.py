"""One GigE Vision or USB3 Vision camera: found, opened, set up, started and closed. Everything here may block for seconds."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from ctypes import byref, c_uint32
from dataclasses import dataclass

from pipeline.camera_config import AravisCamera
from pipeline.cameras.aravis_library import (
    NOT_CONTROLLER,
    STREAM_CALLBACK,
    AravisError,
    AravisFeatures,
    AravisMissing,
    ControlLost,
    library,
)
from pipeline.cameras.asked_clock import Asked, ask, ask_features
from pipeline.cameras.base import CameraUnavailable
from pipeline.cameras.device_features import FeatureError, apply_features, switch_chunks_off
from pipeline.cameras.receive_buffer import enlarge_receive_buffer
from pipeline.clock import NS_PER_S
from vision.faults import one_line

_CONTROL_PORT = 3956
_IP_MTU = 14
"""Linux; Python has no name for it."""
_NO_PACKET_SOCKET = 1
_ROOM_FRAMES = 4
_ROOM_MIN_BYTES = 4 << 20
_LATCH_REGISTER, _LATCHED_HIGH, _LATCHED_LOW = 0x0944, 0x0948, 0x094C
_LATCH = 0x2
_SERIAL_FEATURES = ("DeviceSerialNumber", "DeviceID")


@dataclass(frozen=True, slots=True)
class FoundCamera:
    """A camera that answered. ``device_id``: by which the library opens it."""

    vendor: str
    model: str
    serial: str
    address: str
    protocol: str
    device_id: str


def find_cameras() -> list[FoundCamera]:
    """All GigE Vision and USB3 Vision cameras that answer now; asks by broadcast on every interface.

    Raises AravisMissing.
    """
    lib = library()
    lib.arv.arv_disable_interface(b"Fake")
    lib.arv.arv_update_device_list()

    def text(what: str, index: int) -> str:
        return (getattr(lib.arv, f"arv_get_device_{what}")(index) or b"").decode(errors="replace")

    told = ("vendor", "model", "serial_nbr", "address", "protocol", "id")
    return [FoundCamera(*(text(what, index) for what in told)) for index in range(lib.arv.arv_get_n_devices())]


def id_with_serial(serial: str) -> str:
    """By which the library opens it. Raises CameraUnavailable and AravisMissing."""
    cameras = find_cameras()
    found = next((each.device_id for each in cameras if each.serial == serial), None)
    if found is None:
        names = ", ".join(f"{each.serial} ({each.model} at {each.address})" for each in cameras) or "none at all"
        raise CameraUnavailable(one_line(f"no camera with serial {serial} was found, but {names}"))
    return found


def way_to(address: str) -> tuple[str, int]:
    """Our own address on the way to the camera, and the largest packet that fits. Raises CameraUnavailable."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, _CONTROL_PORT))
            return str(probe.getsockname()[0]), probe.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        except OSError as error:
            text = f"no way to {address}: {error.strerror}; is the cable plugged in and the interface up?"
            raise CameraUnavailable(text) from error


class AravisDevice:
    """An open device with its stream, not yet started. ``payload_bytes``: what a frame takes, chunks included;
    ``receive_buffer_bytes``: how much of it the kernel keeps until it is read, None for USB.

    ``clock_asked``: a moment by the device's clock and by the box's; None where it can not be asked.
    """

    def __init__(self, config: AravisCamera, on_stream: STREAM_CALLBACK, on_lost: Callable[[], None]) -> None:  # type: ignore[valid-type]
        """``on_stream`` has to live until ``close`` is done. Raises CameraUnavailable."""
        self._config = config
        self._name = f"camera {config.camera_id}"
        try:
            self.lib = library()
        except AravisMissing as error:
            raise CameraUnavailable(f"{self._name}: {error}") from error
        self.handle = self._opened()
        self.stream: int | None = None
        self._lost = ControlLost(self.lib, self.handle, on_lost)
        self.is_gige = self.lib.is_gige(self.handle)
        self.features = AravisFeatures(self.lib, self.handle)
        try:
            self._expect_serial()
            self._stop_quietly()
            apply_features(config, self.features)
            self._enable_chunks()
            self._tells_ready = self._choose_status()
            if self.is_gige:
                self._choose_packet_size()
            self.clock_asked = self.ask_clock()
            self.payload_bytes = int(self.features.get("PayloadSize"))
            self.stream = self._streaming(on_stream)
            self.receive_buffer_bytes = self._make_room() if self.is_gige else None
        except (AravisError, FeatureError) as error:
            self.close()
            raise CameraUnavailable(f"{self._name}: {self._where()}: {error}") from error
        except CameraUnavailable:
            self.close()
            raise

    def ask_clock(self) -> Asked | None:
        """None where it can not be asked, or no answer came. For any thread."""
        if not self.is_gige:
            return ask_features(self.features, NS_PER_S)
        try:
            frequency_hz = self.lib.checked("arv_gv_device_get_timestamp_tick_frequency", self.handle)
            return ask(self._latch, lambda: self._latched_ns(frequency_hz)) if frequency_hz else None
        except AravisError:
            return None

    def start(self) -> None:
        """Raises CameraUnavailable."""
        try:
            self.features.execute("AcquisitionStart")
        except FeatureError as error:
            raise CameraUnavailable(f"{self._name}: {self._where()} does not start: {error}") from error

    def is_ready_for_trigger(self) -> bool:
        """Whether a software trigger would not be lost; True of a camera that does not tell. Raises CameraUnavailable."""
        try:
            return not self._tells_ready or bool(self.features.get("AcquisitionStatus"))
        except FeatureError as error:
            raise CameraUnavailable(f"{self._name}: {self._where()}: {error}") from error

    def trigger(self) -> None:
        """Raises CameraUnavailable."""
        try:
            self.features.execute("TriggerSoftware")
        except FeatureError as error:
            raise CameraUnavailable(f"{self._name}: {self._where()}: {error}") from error

    def end_stream(self) -> None:
        """After this nothing writes into a buffer any more."""
        # Its last reference: the library's thread ends with it.
        self.lib.unref(self.stream)
        self.stream = None

    def close(self) -> None:
        """Safe to call twice."""
        if not self.handle:
            return
        self._stop_quietly()
        self._lost.end()
        self.end_stream()
        self.lib.unref(self.handle)
        self.handle = 0

    def stream_count(self, name: str) -> int:
        """A counter of the stream's own, such as n_resent_packets; 0 where it has none of that name."""
        if self.stream is None:
            return 0
        return int(self.lib.arv.arv_stream_get_info_uint64_by_name(self.stream, name.encode()))

    def _where(self) -> str:
        config = self._config
        return config.address if config.address is not None else f"serial {config.serial}"

    def _opened(self) -> int:
        address, serial = self._config.address, self._config.serial
        try:
            if address is not None:
                handle = self.lib.open_address(address, way_to(address)[0])
            else:
                assert serial is not None
                handle = self.lib.checked("arv_open_device", id_with_serial(serial).encode())
        except CameraUnavailable as error:
            raise CameraUnavailable(f"{self._name}: {error}") from error
        except AravisError as error:
            if error.code == NOT_CONTROLLER:
                raise self._in_use() from error
            what = (
                "no camera answers at" if "enicam" not in str(error) else "no description can be read of the camera at"
            )
            raise CameraUnavailable(f"{self._name}: {what} {self._where()} ({error})") from error
        if not handle:
            raise CameraUnavailable(f"{self._name}: no camera answers at {self._where()}")
        if self.lib.is_gige(handle) and not self.lib.arv.arv_gv_device_is_controller(handle):
            self.lib.unref(handle)
            raise self._in_use()
        return int(handle)

    def _in_use(self) -> CameraUnavailable:
        text = f"{self._where()} is in use by another program, which has to end first"
        return CameraUnavailable(f"{self._name}: {text}")

    def _expect_serial(self) -> None:
        wanted = self._config.serial
        if wanted is None or self._config.address is None:
            return
        for name in _SERIAL_FEATURES:
            if self.features.kind(name) is not None:
                found = str(self.features.get(name))
                if found != wanted:
                    text = f"the camera at {self._config.address} has serial {found}, expected {wanted}"
                    raise CameraUnavailable(one_line(f"{self._name}: {text}"))
                return
        raise CameraUnavailable(
            f"{self._name}: the camera at {self._where()} does not tell its serial, expected {wanted}"
        )

    def _enable_chunks(self) -> None:
        """Those of the configuration; a camera may have kept those of another."""
        if not self._config.chunks:
            switch_chunks_off(self.features)
        for chunk in self._config.chunks:
            for feature in (chunk, "ChunkModeActive", "ChunkSelector", "ChunkEnable"):
                if self.lib.kind(self.handle, feature) is None:
                    raise CameraUnavailable(f"{self._name}: {chunk}: the camera has no feature {feature}")
            self.features.set("ChunkModeActive", True)
            choices = self.features.choices("ChunkSelector")
            name = chunk.removeprefix("Chunk")
            if name not in choices:
                expected = ", ".join(f"Chunk{choice}" for choice in choices)
                raise CameraUnavailable(f"{self._name}: got the chunk {chunk}, expected one of {expected}")
            self.features.set("ChunkSelector", name)
            self.features.set("ChunkEnable", True)

    def _choose_status(self) -> bool:
        """Whether the camera says when it waits for a trigger."""
        if self.features.kind("AcquisitionStatus") is None:
            return False
        if self.features.kind("AcquisitionStatusSelector") is not None:
            if "FrameTriggerWait" not in self.features.choices("AcquisitionStatusSelector"):
                return False
            self.features.set("AcquisitionStatusSelector", "FrameTriggerWait")
        return True

    def _choose_packet_size(self) -> None:
        wanted = self._config.packet_size_bytes
        mtu_bytes = way_to(self._config.address)[1] if self._config.address is not None else None
        if wanted is not None and mtu_bytes is not None and wanted > mtu_bytes:
            text = f"expected at most {mtu_bytes}, the MTU of the interface; ip link set NAME mtu {max(9000, wanted)}"
            raise CameraUnavailable(f"{self._name}: packet_size_bytes: got {wanted}, {text}")
        before = self.lib.checked("arv_gv_device_get_packet_size", self.handle)
        # Tries packets of several sizes, and leaves the largest that arrived; or all as it was, where a camera sends none.
        largest = self.lib.checked("arv_gv_device_auto_packet_size", self.handle)
        if wanted is not None and before != largest < wanted:
            text = (
                f"expected at most {largest}, the largest that arrives; does every switch on the way take jumbo frames?"
            )
            raise CameraUnavailable(f"{self._name}: packet_size_bytes: got {wanted}, {text}")
        chosen = wanted or min(largest, mtu_bytes or largest)
        if chosen == largest:
            return
        try:
            self.lib.checked("arv_gv_device_set_packet_size", self.handle, chosen)
        except AravisError as error:
            text = f"expected what the camera takes; {largest} arrives ({error})"
            raise CameraUnavailable(f"{self._name}: packet_size_bytes: got {chosen}, {text}") from error

    def _latch(self) -> None:
        self.lib.checked("arv_device_write_register", self.handle, _LATCH_REGISTER, _LATCH)

    def _latched_ns(self, frequency_hz: int) -> int:
        ticks = self._register(_LATCHED_HIGH) << 32 | self._register(_LATCHED_LOW)
        return ticks * NS_PER_S // frequency_hz

    def _register(self, address: int) -> int:
        value = c_uint32()
        self.lib.checked("arv_device_read_register", self.handle, address, byref(value))
        return value.value

    def _streaming(self, on_stream: STREAM_CALLBACK) -> int:  # type: ignore[valid-type]
        if self.is_gige:
            # A packet socket, which root would get, is set up after the stream begins and misses frames that come at once;
            # and what was tested as root is what runs without privileges.
            self.lib.arv.arv_gv_device_set_stream_options(self.handle, _NO_PACKET_SOCKET)
        stream = int(self.lib.checked("arv_device_create_stream", self.handle, on_stream, None))
        if self.is_gige:
            config = self._config
            self.lib.set_property(stream, "packet-resend", int(config.packet_resend))
            self.lib.set_property(stream, "packet-timeout", config.packet_timeout_us)
            self.lib.set_property(stream, "frame-retention", config.frame_retention_us)
        return stream

    def _make_room(self) -> int:
        """For whole frames, as the thread that takes the packets may have to wait for a core."""
        wanted = max(_ROOM_MIN_BYTES, _ROOM_FRAMES * self.payload_bytes)
        return enlarge_receive_buffer(self.lib.arv.arv_gv_stream_get_port(self.stream), wanted)

    def _stop_quietly(self) -> None:
        with contextlib.suppress(FeatureError):
            self.features.execute("AcquisitionStop")
