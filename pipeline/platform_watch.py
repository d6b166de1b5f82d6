"""The process that reads the platform's health, seen from records: started, listened to, never waited for."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from pipeline.clock import NS_PER_S, now_ns
from pipeline.platform_health import Reading
from pipeline.worker import Supervised

_SOURCE_ROOT = Path(__file__).resolve().parents[1]
_REPORT_BYTES_MAX = 65_536
_SILENT_INTERVALS = 4
_SILENT_AT_LEAST_NS = 10 * NS_PER_S
_RESTART_NS = 60 * NS_PER_S
_LAST_WAIT_S = 0.2
_QUIET_READINGS = 4
"""Before ``throttled`` is taken back: throttling comes and goes."""
_decode_reading = msgspec.json.Decoder(Reading).decode


class PlatformWatch:
    """``temperatures_c`` by sensor and ``throttled`` are the latest reading; empty and None where there is none, or no fresh one.

    Raises the alarms ``temperature``, ``throttled`` and, where what it hears is no reading, ``platform``, each with the text of its
    first moment.
    """

    def __init__(self, supervised: Supervised, *, root: Path = Path("/")) -> None:
        config = supervised.line.config.degraded
        self._supervised = supervised
        self._root = root
        self._interval_s = config.platform_interval_s
        self._temperature_max_c = config.temperature_max_c
        self._process: subprocess.Popen[bytes] | None = None
        self._receiver = -1
        self._pending = b""
        self._heard_ns = 0
        self._start_at_ns = 0
        self._quiet_readings = 0
        self._texts: dict[str, str] = {}
        self.temperatures_c: dict[str, float] = {}
        self.throttled: bool | None = None

    def read_descriptors(self) -> list[int]:
        return [self._receiver] if self._receiver >= 0 else []

    def turn(self) -> None:
        """To be called at every turn of the loop, and costs next to nothing where nothing has come."""
        now = now_ns()
        if self._interval_s is None:
            return
        if self._receiver < 0:
            if now >= self._start_at_ns:
                self._start(self._interval_s, now)
            return
        try:
            received = os.read(self._receiver, _REPORT_BYTES_MAX)
        except BlockingIOError:
            silent_ns = max(int(_SILENT_INTERVALS * self._interval_s * NS_PER_S), _SILENT_AT_LEAST_NS)
            if now - self._heard_ns > silent_ns:
                self._give_up(now)
            return
        if not received:
            self._give_up(now)
            return
        self._heard_ns = now
        *lines, self._pending = (self._pending + received).split(b"\n")
        if not lines:
            return
        try:
            self._take(_decode_reading(lines[-1]))
        except msgspec.DecodeError as error:
            self._give_up(now)
            self._warn(
                "platform", f"the process that reads temperatures said what is no reading: {error}; it is started again"
            )

    def close(self) -> None:
        """Kill it; a process that its driver does not let die is left to the kernel."""
        if self._receiver >= 0:
            os.close(self._receiver)
            self._receiver = -1
        if self._process is not None:
            self._process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LAST_WAIT_S)

    def _start(self, interval_s: float, now: int) -> None:
        if self._process is not None:
            status = self._process.poll()
            if status == 0:
                # It found nothing to read.
                self._interval_s = None
            if status == 0 or status is None:
                return
        try:
            receiver, sender = os.pipe2(os.O_CLOEXEC)
        except OSError:
            self._start_at_ns = now + _RESTART_NS
            return
        os.set_blocking(receiver, False)
        try:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "pipeline.platform_health",
                    str(interval_s),
                    str(self._temperature_max_c),
                    str(self._root),
                ],
                stdin=subprocess.DEVNULL,
                stdout=sender,
                cwd=_SOURCE_ROOT,
            )
        except OSError:
            # The box has no process or memory to spare; its temperature can wait.
            os.close(receiver)
            self._start_at_ns = now + _RESTART_NS
            return
        finally:
            os.close(sender)
        self._receiver = receiver
        self._pending = b""
        self._heard_ns = now

    def _give_up(self, now: int) -> None:
        """It ended, or hangs in a reading: what it said is old news."""
        assert self._process is not None
        self._process.kill()
        os.close(self._receiver)
        self._receiver = -1
        self._start_at_ns = now + _RESTART_NS
        self.temperatures_c, self.throttled = {}, None
        for code in ("temperature", "throttled"):
            self._take_back(code)

    def _take(self, reading: Reading) -> None:
        self._take_back("platform")
        slowed = reading.throttled
        self.temperatures_c = reading.temperatures_c
        self.throttled = None if slowed is None else bool(slowed)
        if reading.too_hot:
            self._warn("temperature", "; ".join(reading.too_hot))
        else:
            self._take_back("temperature")
        if slowed:
            self._quiet_readings = 0
            self._warn("throttled", f"the platform slows itself down: {'; '.join(slowed)}")
        else:
            self._quiet_readings += 1
            if self._quiet_readings >= _QUIET_READINGS:
                self._take_back("throttled")

    def _warn(self, code: str, text: str) -> None:
        """In the words of its first moment, since figures change at every reading."""
        self._supervised.alarm(code, "warning", self._texts.setdefault(code, text))

    def _take_back(self, code: str) -> None:
        if self._texts.pop(code, None) is not None:
            self._supervised.clear_alarm(code)
