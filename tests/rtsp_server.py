"""A real RTSP server: GStreamer's, under the system's Python, which sends the pictures that the test gives it.

Debian: gir1.2-gst-rtsp-server-1.0, python3-gi, gstreamer1.0-plugins-base and gstreamer1.0-plugins-good.
"""

from __future__ import annotations

import functools
import os
import socket
import struct
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

_PYTHON = "/usr/bin/python3"
_SCRIPT = Path(__file__).with_name("rtsp_server_script.py")
USER = "inspector"


@functools.cache
def why_no_server() -> str:
    """Empty where there is one."""
    try:
        tried = subprocess.run(
            [_PYTHON, str(_SCRIPT), "--try"], check=False, timeout=60, capture_output=True, text=True
        )
    except FileNotFoundError:
        return f"no {_PYTHON}"
    if tried.returncode == 0:
        return ""
    return f"no GStreamer RTSP server for {_PYTHON} (apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi ...)"


def free_port() -> int:
    """One of the loopback's that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RtspServer:
    """Serves ``/cam`` until closed. Pictures that come before a client plays are lost, as with any live source."""

    def __init__(
        self,
        size_px: tuple[int, int],
        port: int,
        *,
        codec: str = "raw",
        password: str | None = None,
        method: str = "basic",
    ) -> None:
        """``codec``: raw, jpeg or h264; ``method``: of asking for the password, basic or digest."""
        self.port = port
        width_px, height_px = size_px
        arguments = [_PYTHON, str(_SCRIPT), str(port), str(width_px), str(height_px), codec]
        arguments += [] if password is None else [method, USER, password]
        environment = {**os.environ, "GST_DEBUG": "0"}
        self._process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"serving\n"

    def show(self, image: npt.NDArray[np.uint8]) -> None:
        """One frame, uint8: BGR (height, width, 3), or the bytes of what it is in H.264."""
        assert self._process.stdin is not None
        self._process.stdin.write(struct.pack("<I", image.nbytes) + image.tobytes())
        self._process.stdin.flush()

    def close(self) -> None:
        """As a camera that loses its power."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


def why_no_h264() -> str:
    """Empty where ``h264_of`` works."""
    try:
        told = subprocess.run(["ffmpeg", "-encoders"], check=False, timeout=60, capture_output=True, text=True)
    except FileNotFoundError:
        return "no ffmpeg (apt-get install ffmpeg)"
    return "" if "libx264" in told.stdout else "this ffmpeg has no libx264"


def h264_of(greys: list[npt.NDArray[np.uint8]], rate_hz: int) -> list[npt.NDArray[np.uint8]]:
    """Grey pictures (height, width) as H.264, the bytes of each; a whole picture each half second, no B-frames."""
    height_px, width_px = greys[0].shape
    raw = ["-f", "rawvideo", "-pix_fmt", "gray", "-s", f"{width_px}x{height_px}", "-r", str(rate_hz), "-i", "-"]
    wanted = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", str(rate_hz // 2), "-bf", "0", "-x264-params", "aud=1"]
    coded = subprocess.run(
        ["ffmpeg", "-v", "error", *raw, *wanted, "-f", "h264", "-"],
        input=b"".join(grey.tobytes() for grey in greys),
        check=True,
        timeout=60,
        capture_output=True,
    ).stdout
    delimiter = b"\0\0\0\1\x09"
    pictures = [np.frombuffer(delimiter + picture, np.uint8) for picture in coded.split(delimiter)[1:]]
    assert len(pictures) == len(greys)
    return pictures
