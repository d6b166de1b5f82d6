"""Run by the system's Python: PORT WIDTH HEIGHT CODEC [METHOD USER PASSWORD].

Pictures come on standard input, each after its length.
"""

import sys
import threading
from typing import Any

import gi  # type: ignore[import-not-found,unused-ignore]

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
gi.require_version("GstRtsp", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # type: ignore[import-not-found,unused-ignore]  # noqa: E402

ELEMENTS = ("appsrc", "videoconvert", "rtpvrawpay", "jpegenc", "rtpjpegpay", "rtph264pay")
CODECS = {
    "raw": ("video/x-raw,format=BGR", "videoconvert ! video/x-raw,format=UYVY ! rtpvrawpay"),
    "jpeg": ("video/x-raw,format=BGR", "videoconvert ! video/x-raw,format=I420 ! jpegenc quality=95 ! rtpjpegpay"),
    "h264": ("video/x-h264,stream-format=byte-stream,alignment=au", "rtph264pay config-interval=1"),
}
"""What a picture comes as, and what becomes of it."""


def main() -> None:
    """Serve until standard input ends."""
    Gst.init(None)
    if sys.argv[1:] == ["--try"]:
        sys.exit(0 if all(Gst.ElementFactory.find(name) for name in ELEMENTS) else 1)
    port, width, height, codec, *credentials = sys.argv[1:]
    server = GstRtspServer.RTSPServer.new()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory.new()
    factory.set_shared(True)
    given, sent = CODECS[codec]
    factory.set_launch(
        "( appsrc name=pictures is-live=true format=time do-timestamp=true "
        f"caps={given},width={width},height={height},framerate=50/1 ! {sent} name=pay0 pt=96 )"
    )
    if credentials:
        method, user, password = credentials
        auth = GstRtspServer.RTSPAuth.new()
        token = GstRtspServer.RTSPToken.new()
        token.set_string("media.factory.role", "user")
        if method == "digest":
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(user, password, token)
        else:
            auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        server.set_auth(auth)
        role = Gst.Structure.new_from_string(
            "user, media.factory.access=(boolean)true, media.factory.construct=(boolean)true"
        )
        factory.add_role_from_structure(role)
    sources: list[Any] = []
    factory.connect(
        "media-configure", lambda _, media: sources.append(media.get_element().get_child_by_name("pictures"))
    )
    server.get_mount_points().add_factory("/cam", factory)
    server.attach(None)
    loop = GLib.MainLoop()

    def pictures() -> None:
        while len(length := sys.stdin.buffer.read(4)) == 4:
            picture = sys.stdin.buffer.read(int.from_bytes(length, "little"))
            if sources:
                sources[-1].emit("push-buffer", Gst.Buffer.new_wrapped(picture))
        loop.quit()

    threading.Thread(target=pictures, daemon=True).start()
    print("serving", flush=True)
    loop.run()


main()
