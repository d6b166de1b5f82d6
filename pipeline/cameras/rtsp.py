"""A camera in the network that speaks RTSP, read through OpenCV's FFmpeg."""

from __future__ import annotations

import os
from urllib.parse import quote, urlsplit, urlunsplit

import cv2

from pipeline.camera_config import RtspCamera
from pipeline.cameras.base import CameraUnavailable
from pipeline.cameras.opencv import Capture, OpenCapture, open_capture
from pipeline.cameras.opencv_stream import StreamCamera
from pipeline.clock import MS_PER_S, NS_PER_MS, NS_PER_S, now_ns

_RATE_MIN_HZ, _RATE_MAX_HZ = 0.1, 10_000.0
_PERIOD_UNKNOWN_NS = 40 * NS_PER_MS
_CATCH_UP_MAX_NS = NS_PER_S
"""A stream that is twice as fast as it says seems never to be caught up with."""


class RtspStream(StreamCamera):
    """See ``pipeline.cameras.base.Camera``. Over TCP alone: of what UDP loses, FFmpeg makes up pictures and says nothing."""

    def __init__(self, config: RtspCamera, capture: OpenCapture = open_capture) -> None:
        self._rtsp = config
        self._open_capture = capture
        super().__init__(config, self._opened)

    def _opened(self) -> Capture:
        settings = {
            cv2.CAP_PROP_OPEN_TIMEOUT_MSEC: int(self._rtsp.open_timeout_s * MS_PER_S),
            cv2.CAP_PROP_READ_TIMEOUT_MSEC: int(self._rtsp.frame_timeout_s * MS_PER_S),
            cv2.CAP_PROP_N_THREADS: 1,  # each more would hold back a frame
        }
        capture = self._open_capture(self._address(), cv2.CAP_FFMPEG, settings, "rtsp_transport;tcp")
        if not capture.isOpened():
            raise CameraUnavailable(
                f"no stream from {_shown(self._rtsp.url)} within {self._rtsp.open_timeout_s:g} s: is it reachable, "
                "and are path, user name and password right?"
            )
        if not _catch_up(capture):
            capture.release()
            raise CameraUnavailable(f"the stream from {_shown(self._rtsp.url)} ended as it began")
        return capture

    def _address(self) -> str:
        """With the password. Raises CameraUnavailable where the environment has it no more."""
        if self._rtsp.password_env is None:
            return self._rtsp.url
        password = os.environ.get(self._rtsp.password_env)
        if password is None:
            raise CameraUnavailable(f"password_env: {self._rtsp.password_env} is not set")
        parts = urlsplit(self._rtsp.url)
        user, _, host = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}:{quote(password, safe='')}@{host}"))


def _catch_up(capture: Capture) -> bool:
    """Leave out the frames that FFmpeg kept while it looked what stream this is: they are up to seconds old. False where the
    stream ends.
    """
    rate_hz = capture.get(cv2.CAP_PROP_FPS)
    period_ns = int(NS_PER_S / rate_hz) if _RATE_MIN_HZ <= rate_hz <= _RATE_MAX_HZ else _PERIOD_UNKNOWN_NS
    before_ns = now_ns()
    give_up_ns = before_ns + _CATCH_UP_MAX_NS
    while before_ns < give_up_ns:
        if not capture.grab():
            return False
        after_ns = now_ns()
        if after_ns - before_ns >= period_ns // 2:
            break  # this one had to be waited for
        before_ns = after_ns
    return True


def _shown(url: str) -> str:
    """Where it leads, without the user, and without the query: some cameras take a password there."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
