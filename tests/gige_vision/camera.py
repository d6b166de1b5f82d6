"""A GigE Vision camera for tests: sensor, triggers and clock between control channel and stream, at the test's command."""

from __future__ import annotations

import ipaddress
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from tests.gige_vision.control import CONTROL, PRIVILEGE_ADDRESS, Control
from tests.gige_vision.genicam import CHUNKS, Feature, Sensor, describe, features
from tests.gige_vision.registers import XML_ADDRESS, Refused, Registers, Status
from tests.gige_vision.stream import Frame, Link, chunked_bytes, packets_of, shortened

VENDOR, MODEL = "Lineside", "Test camera"

Picture = bytes | bytearray | memoryview
Pictures = Callable[[int], Picture]

CONCATENATION, WRITE_MEMORY, PACKET_RESEND = 1 << 0, 1 << 1, 1 << 2
SERIAL_NUMBER, USER_NAME = 1 << 30, 1 << 31
TIMESTAMP_RESET, TIMESTAMP_LATCH = 1, 2
FIRE_TEST, DO_NOT_FRAGMENT, PACKET_SIZE = 1 << 31, 1 << 30, 0xFFFF

_FRAME_START = "[1]"  # TriggerSelector's value
_WAITING_EXPOSURES = 8
_FASTEST_HZ = 1000.0
_LAST_BLOCK_ID = 0xFFFF


def pattern(number: int, size_bytes: int) -> bytes:
    """The picture of a frame where a test gives none: its number in 8 bytes, then a ramp that begins elsewhere each time."""
    picture = _ramp(size_bytes) + np.uint8(number * 7 & 0xFF)
    picture[:8] = np.frombuffer(struct.pack(">Q", number), np.uint8)[: size_bytes or 0]
    return picture.tobytes()


def _ramp(size_bytes: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    if size_bytes not in _RAMPS:
        _RAMPS[size_bytes] = (np.arange(size_bytes) % 251).astype(np.uint8)
    return _RAMPS[size_bytes]


_RAMPS: dict[int, np.ndarray[tuple[int], np.dtype[np.uint8]]] = {}


class DeviceClock:
    """The camera's clock: begins at `offset_s` when the camera is switched on and runs `drift_ppm` too fast."""

    def __init__(self, ticks_per_s: int, offset_s: float, drift_ppm: float) -> None:
        self.ticks_per_s = ticks_per_s
        self._ppm = drift_ppm
        self._base_ticks = int(offset_s * ticks_per_s)
        self._base_ns = time.monotonic_ns()

    def ticks(self, monotonic_ns: int) -> int:
        """What it shows at this moment of the box's monotonic clock."""
        elapsed_s = (monotonic_ns - self._base_ns) / 1e9
        return self._base_ticks + int(elapsed_s * (1 + self._ppm / 1e6) * self.ticks_per_s)

    def set_drift(self, ppm: float) -> None:
        """Runs at another pace from now on."""
        now_ns = time.monotonic_ns()
        self._base_ticks, self._base_ns, self._ppm = self.ticks(now_ns), now_ns, ppm

    def reset(self) -> None:
        self._base_ticks, self._base_ns = 0, time.monotonic_ns()


@dataclass(frozen=True)
class Exposure:
    """One picture taken: what the camera knows of it, and the box's monotonic clock when its exposure began."""

    block_id: int
    number: int
    trigger_count: int
    encoder_count: int
    exposed_ns: int
    picture: Picture | None = None


@dataclass(frozen=True)
class SentFrame:
    """One frame that went out (what the link made of it is another thing)."""

    block_id: int
    number: int
    trigger_count: int
    encoder_count: int
    exposed_ns: int
    timestamp_ticks: int


class GigEVisionCamera:
    """A camera that speaks GVCP and GVSP at one address, in threads of this process.

    The line's side is played by `trigger`, the fitter's by `power_off` and `power_on`, the cable's by `link`. Use as a context.

    Args:
        address: IPv4 address of this machine, its port 3956 free.
        pictures: Picture of frame number 0, 1 ...: raw bytes of the pixel format chosen, at least as many as a frame has.
        resend: Whether it sends lost packets again, and says so.
        kept_frames: Of how many of the last frames it can.
        clock_offset_s, drift_ppm, ticks_per_s: Its clock.
        seed: Of what happens by chance.
        on_frame: Called with each frame that went out, from the camera's thread.

    Attributes:
        link: The way out: speed, MTU, faults, counters of packets.
        first_block_id: Block id of the first frame after each AcquisitionStart.
        triggers_missed: Triggers that came while the sensor was busy.
        cut_short: How much of the pixels is sent, with packet ids that have no gap.
        frames_skipped: Exposures that found no room to wait for the link.
        sent: The last frames that went out.
    """

    def __init__(
        self,
        address: str = "127.0.0.1",
        *,
        width_px: int = 640,
        height_px: int = 512,
        serial_number: str = "LS0001",
        user_id: str = "",
        pictures: Pictures | None = None,
        sensor: Sensor | None = None,
        resend: bool = True,
        kept_frames: int = 16,
        clock_offset_s: float = 1000.0,
        drift_ppm: float = 0.0,
        ticks_per_s: int = 1_000_000_000,
        seed: int = 1,
        on_frame: Callable[[SentFrame], None] | None = None,
    ) -> None:
        self.address = address
        self.pictures = pictures
        self.first_block_id = 1
        self.triggers_missed = self.frames_skipped = 0
        self.cut_short = 1.0
        self.sent: deque[SentFrame] = deque(maxlen=100_000)
        self._serial_number, self._user_id = serial_number, user_id
        sensor = sensor or Sensor()
        self._features = features(sensor, width_px, height_px)
        self._xml = describe(self._features, VENDOR, MODEL, has_chunks=sensor.has_chunks)
        self._clock_begin = (ticks_per_s, clock_offset_s, drift_ppm)
        self._on_frame = on_frame
        self.control = Control(address, self._resend, self._on_control_lost)
        self.control.resend_enabled = resend
        try:
            self.link = Link(address, seed, kept_frames)
        except OSError:
            self.control.close()
            raise
        self._change = threading.Condition(self.control.lock)
        self._is_closing = False
        self._is_frozen = False
        self._is_on = True
        self._number = 0
        self._run_number = 0
        self._encoder_count = 0
        self._reset()
        self._thread = threading.Thread(target=self._run, name="gvsp")

    def __enter__(self) -> GigEVisionCamera:
        self.control.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._change:
            self._is_closing = True
            self._change.notify_all()
        self._thread.join()
        self.control.close()
        self.link.close()

    # What a test does to it.

    def trigger(self, encoder_count: int | None = None, picture: Picture | None = None) -> int:
        """An edge at Line1: counted where that is the trigger's source, an exposure where the camera waits for it.

        Args:
            encoder_count: What the encoder input counts at this moment; none: as before.
            picture: What lies before the lens; none: what `pictures` shows.

        Returns:
            The camera's trigger counter after it.
        """
        with self._change:
            if encoder_count is not None:
                self._encoder_count = encoder_count
            if self._is_on and not self._is_frozen:
                self._take_trigger("Line1", picture)
            return self._trigger_count

    def freeze(self) -> None:
        """Hangs: answers nothing, sends nothing, sees no trigger."""
        with self._change:
            self._is_frozen = True
            self._set_silence()

    def thaw(self) -> None:
        """Goes on where it hung."""
        with self._change:
            self._is_frozen = False
            self._set_silence()
            self._change.notify_all()

    def power_off(self) -> None:
        """Silence, and everything that was set is forgotten."""
        with self._change:
            self._is_on = False
            self._set_silence()
            self._reset()

    def power_on(self) -> None:
        """As new: registers as they were first, block ids and clock from the beginning, nobody in control."""
        with self._change:
            self._clock = DeviceClock(*self._clock_begin)
            self._is_on = True
            self._set_silence()

    def hold_elsewhere(self, privilege: int = CONTROL) -> None:
        """Another program has the camera (control.CONTROL or control.EXCLUSIVE)."""
        self.control.hold_elsewhere(privilege)

    def release(self) -> None:
        """The other program lets go of it."""
        self.control.hold_elsewhere(0)

    def set_drift(self, ppm: float) -> None:
        """Its clock runs at another pace from now on."""
        with self._change:
            self._clock.set_drift(ppm)

    def set_rate(self, hz: float) -> None:
        """Frames per second when it runs free."""
        with self._change:
            self._registers["AcquisitionFrameRate"] = hz
            self._registers["AcquisitionFrameRateEnable"] = 1
            self._change.notify_all()

    def set_resend(self, is_on: bool) -> None:
        """Whether it sends lost packets again from now on; a client reads of it when it opens the camera."""
        with self._change:
            self.control.resend_enabled = is_on
            self._registers["Capabilities"] = self._capabilities()

    def set_encoder(self, count: int) -> None:
        """What the encoder input counts now."""
        with self._change:
            self._encoder_count = count

    def go_on_at(self, block_id: int) -> None:
        """The next frame gets this number."""
        with self._change:
            self._block_id = block_id

    def set_height(self, height_px: int) -> None:
        """Frames become so high, behind the client's back."""
        with self._change:
            self._registers["Height"] = height_px

    @property
    def is_acquiring(self) -> bool:
        return self._is_acquiring

    @property
    def waits_for_trigger(self) -> bool:
        """Whether a trigger now would become a frame."""
        with self._change:
            return self._can_expose()

    def state(self) -> dict[str, object]:
        """Counters and state by name, plain data."""
        with self._change:
            return {
                "is_on": self._is_on,
                "is_frozen": self._is_frozen,
                "is_acquiring": self._is_acquiring,
                "is_controlled": bool(self.control.privilege),
                "trigger_count": self._trigger_count,
                "triggers_missed": self.triggers_missed,
                "frames_skipped": self.frames_skipped,
                "frames_sent": self._number_sent,
                "next_block_id": self._block_id,
                "packet_bytes": self._registers["SCPS"] & PACKET_SIZE,
                "packets_sent": self.link.sent,
                "packets_lost": self.link.lost,
                "packets_unsendable": self.link.unsendable,
                "packets_resent": self.link.resent,
                "resends_refused": self.link.resend_refused,
            }

    def reset_clock(self) -> None:
        """As time synchronisation would, or whoever has control."""
        with self._change:
            self._clock.reset()

    # Power, registers.

    def _set_silence(self) -> None:
        self.control.is_silent = self.link.is_silent = self._is_frozen or not self._is_on

    def _reset(self) -> None:
        self._clock = DeviceClock(*self._clock_begin)
        self._is_acquiring = False
        self._waiting: deque[Exposure] = deque()
        self._trigger_count = 0
        self._number_sent = 0
        self._ready_ns = 0
        self._frames_left: int | None = None
        self._block_id = self.first_block_id
        self.link.forget()
        self._registers = self._fresh_registers()
        self.control.registers = self._registers
        self.control.forget()

    def _fresh_registers(self) -> Registers:
        ip = int(ipaddress.IPv4Address(self.address))
        bootstrap = {
            0x000: ("Version", 0x00010002),
            0x004: ("DeviceMode", 0x80000001),
            0x008: ("MacHigh", 0x0200),
            0x00C: ("MacLow", ip),  # locally administered, and another one for each address
            0x010: ("SupportedIPConfiguration", 0x5),
            0x014: ("CurrentIPConfiguration", 0x5),
            0x024: ("CurrentIPAddress", ip),
            0x034: ("CurrentSubnetMask", 0xFFFFFF00),
            0x600: ("NetworkInterfaces", 1),
            0x904: ("StreamChannels", 1),
            0x934: ("Capabilities", self._capabilities()),
            PRIVILEGE_ADDRESS: ("CCP", 0),
            0xD00: ("SCP", 0),
            0xD04: ("SCPS", 1500 | DO_NOT_FRAGMENT),
            0xD18: ("SCDA", 0),
            0xD1C: ("SCSP", self.link.port),
        }
        registers = Registers(self._features, bootstrap, self._xml)
        for name, text in (
            ("DeviceVendorName", VENDOR),
            ("DeviceModelName", MODEL),
            ("DeviceVersion", "1"),
            ("DeviceSerialNumber", self._serial_number),
            ("DeviceUserID", self._user_id),
        ):
            registers.set_text(name, text)
        url = f"Local:lineside_test_camera.xml;{XML_ADDRESS:X};{len(self._xml):X}"
        registers.put(0x200, url.encode())
        registers["GevTimestampTickFrequency"] = self._clock.ticks_per_s
        registers.is_locked = lambda: self._is_acquiring
        registers.on_read = {
            "PayloadSize": self._payload_bytes,
            "AcquisitionStatus": self._can_expose,
            "AcquisitionStatus[1]": lambda: self._is_acquiring,
            "CounterValue": lambda: self._trigger_count,
            "EncoderValue": lambda: self._encoder_count,
            "CCP": lambda: self.control.privilege,
        }
        registers.on_write = {
            "DeviceReset": lambda _: self._reset(),
            "TimestampLatch": self._control_timestamp,
            "AcquisitionStart": lambda _: self._start(),
            "AcquisitionStop": lambda _: self._stop(),
            "TriggerMode": self._refuse_acquisition_trigger,
            f"TriggerSoftware{_FRAME_START}": lambda _: self._take_trigger("Software", None),
            "CounterReset": lambda _: self._reset_counter(),
            "EncoderReset": lambda _: self._reset_encoder(),
            "SCP": self._open_channel,
            "SCPS": self._set_packets,
            "SCDA": lambda _: None,
        }
        return registers

    def _capabilities(self) -> int:
        resend = PACKET_RESEND if self.control.resend_enabled else 0
        return CONCATENATION | WRITE_MEMORY | SERIAL_NUMBER | USER_NAME | resend

    def _feature(self, name: str) -> Feature:
        return next(feature for feature in self._features if feature.name == name)

    def _image_bytes(self) -> int:
        bits = self._registers["PixelFormat"] >> 16 & 0xFF
        return self._registers["Width"] * self._registers["Height"] * bits // 8

    def _enabled_chunks(self) -> list[str]:
        return [name for n, name in enumerate(CHUNKS) if self._registers[f"ChunkEnable[{n}]" if n else "ChunkEnable"]]

    def _payload_bytes(self) -> int:
        if not self._registers["ChunkModeActive"]:
            return self._image_bytes()
        return chunked_bytes(self._image_bytes(), [CHUNKS[name][1] for name in self._enabled_chunks()])

    def _control_timestamp(self, bits: int) -> None:
        if bits & TIMESTAMP_RESET:
            self._clock.reset()
        if bits & TIMESTAMP_LATCH:
            self._registers["TimestampLatchValue"] = self._clock.ticks(time.monotonic_ns())

    def _reset_counter(self) -> None:
        self._trigger_count = 0

    def _reset_encoder(self) -> None:
        self._encoder_count = 0

    def _refuse_acquisition_trigger(self, mode: int) -> None:
        if mode:  # whole acquisitions can not be triggered with this camera
            raise Refused(Status.INVALID_PARAMETER)

    def _open_channel(self, port: int) -> None:
        if not port & 0xFFFF:
            self._stop()

    def _set_packets(self, bits: int) -> int:
        size, allowed = bits & PACKET_SIZE, self._feature("GevSCPSPacketSize")
        assert allowed.minimum is not None
        assert allowed.maximum is not None
        if not allowed.minimum <= size <= allowed.maximum or size % 4:
            raise Refused(Status.INVALID_PARAMETER)
        if self._is_acquiring and size != self._registers["SCPS"] & PACKET_SIZE:
            raise Refused(Status.WRITE_PROTECT)
        self.link.let_fragment(not bits & DO_NOT_FRAGMENT)
        if bits & FIRE_TEST:
            self.link.send_test(size, self._destination())
        return bits & ~FIRE_TEST

    def _destination(self) -> tuple[str, int]:
        return str(ipaddress.IPv4Address(self._registers["SCDA"])), self._registers["SCP"] & 0xFFFF

    def _on_control_lost(self) -> None:
        self._stop()
        self._registers["SCP"] = 0

    def _resend(self, block_id: int, first: int, last: int, host: str) -> None:
        to = self._destination()
        if host == to[0]:
            self.link.resend(block_id, first, last, to)

    # Acquisition.

    def _start(self) -> None:
        if self._is_acquiring:
            return
        mode = self._registers["AcquisitionMode"]
        self._frames_left = {0: None, 1: 1, 2: self._registers["AcquisitionFrameCount"]}[mode]
        self._block_id = self.first_block_id
        self._ready_ns = 0
        self._waiting.clear()
        self.link.forget()
        self._run_number += 1
        self._is_acquiring = True
        self._change.notify_all()

    def _stop(self) -> None:
        self._is_acquiring = False
        self._waiting.clear()
        self._change.notify_all()

    def _is_triggered(self) -> bool:
        return bool(self._registers[f"TriggerMode{_FRAME_START}"])

    def _can_expose(self) -> bool:
        return self._is_acquiring and self._is_triggered() and time.monotonic_ns() >= self._ready_ns

    def _take_trigger(self, source: str, picture: Picture | None) -> None:
        chosen = self._feature("TriggerSource").choices[source]
        if self._registers[f"TriggerSource{_FRAME_START}"] != chosen:
            return
        self._trigger_count = self._trigger_count + 1 & 0xFFFFFFFF
        if self._can_expose():
            self._expose(picture)
        elif self._is_acquiring and self._is_triggered():
            self.triggers_missed += 1

    def _expose(self, picture: Picture | None) -> None:
        began_ns = time.monotonic_ns()
        busy_ns = int(max(self._exposure_us() * 1e3, 1e9 / self._rate_hz()))
        if not self._is_triggered() and began_ns - self._ready_ns < busy_ns:
            began_ns = self._ready_ns  # the sensor kept its pace while the last frame was sent
        self._ready_ns = began_ns + busy_ns
        exposure = Exposure(
            self._next_block_id(), self._number, self._trigger_count, self._encoder_count, began_ns, picture
        )
        if len(self._waiting) < _WAITING_EXPOSURES:
            self._waiting.append(exposure)
        else:
            self.frames_skipped += 1
        self._number += 1
        self._change.notify_all()

    def _exposure_us(self) -> float:
        return self._registers.real("ExposureTime")

    def _rate_hz(self) -> float:
        if self._registers["AcquisitionFrameRateEnable"] and not self._is_triggered():
            return self._registers.real("AcquisitionFrameRate")
        return _FASTEST_HZ

    def _next_block_id(self) -> int:
        block_id = self._block_id
        self._block_id = block_id + 1 if block_id < _LAST_BLOCK_ID else 1
        return block_id

    def _run(self) -> None:
        while True:
            with self._change:
                exposure = self._wait_for_exposure()
                if exposure is None:
                    return
                run_number, exposure_ns = self._run_number, int(self._exposure_us() * 1e3)
            _sleep_until(exposure.exposed_ns + exposure_ns)
            self._send(exposure, run_number)

    def _wait_for_exposure(self) -> Exposure | None:
        while not self._is_closing:
            if self._waiting:
                return self._waiting.popleft()
            timeout_s = None
            if self._is_acquiring and not self._is_triggered() and not self._is_frozen:
                timeout_s = (self._ready_ns - time.monotonic_ns()) / 1e9
                if timeout_s <= 0:
                    self._expose(None)
                    continue
            self._change.wait(timeout_s)
        return None

    def _send(self, exposure: Exposure, run_number: int) -> None:
        image_bytes = self._image_bytes()
        picture = exposure.picture
        if picture is None:
            picture = pattern(exposure.number, image_bytes) if self.pictures is None else self.pictures(exposure.number)
        if len(picture) < image_bytes:
            raise ValueError(f"picture {exposure.number}: got {len(picture)} bytes, expected {image_bytes}")
        with self._change:
            if not self._is_acquiring or run_number != self._run_number:
                return
            registers = self._registers
            ticks = self._clock.ticks(exposure.exposed_ns)
            frame = Frame(
                block_id=exposure.block_id,
                timestamp_ticks=ticks,
                pixel_format=registers["PixelFormat"],
                width_px=registers["Width"],
                height_px=registers["Height"],
                image=memoryview(picture)[:image_bytes],
                chunks=self._chunks(exposure, ticks) if registers["ChunkModeActive"] else None,
            )
            packets = packets_of(frame, registers["SCPS"] & PACKET_SIZE)
            if self.cut_short < 1.0:
                packets = shortened(packets, self.cut_short)
            to, gap_s = self._destination(), registers["GevSCPD"] / self._clock.ticks_per_s
            told = SentFrame(
                exposure.block_id,
                exposure.number,
                exposure.trigger_count,
                exposure.encoder_count,
                exposure.exposed_ns,
                ticks,
            )
        if to[1]:
            self.link.send_frame(packets, to, gap_s)
        with self._change:
            self.sent.append(told)
            self._number_sent += 1
            if self._frames_left is not None and run_number == self._run_number:
                self._frames_left -= 1
                if self._frames_left <= 0:
                    self._stop()
        if self._on_frame is not None:
            self._on_frame(told)

    def _chunks(self, exposure: Exposure, ticks: int) -> list[tuple[int, bytes]]:
        values = {
            "FrameID": exposure.block_id,
            "Timestamp": ticks,
            "CounterValue": exposure.trigger_count,
            "EncoderValue": exposure.encoder_count & 0xFFFFFFFF,
        }
        chunks = []
        for name in self._enabled_chunks():
            identifier, length = CHUNKS[name]
            data = (
                struct.pack(">d", self._exposure_us())
                if name == "ExposureTime"
                else values[name].to_bytes(length, "big")
            )
            chunks.append((identifier, data))
        return chunks


def _sleep_until(monotonic_ns: int) -> None:
    left_s = (monotonic_ns - time.monotonic_ns()) / 1e9
    if left_s > 0:
        time.sleep(left_s)
