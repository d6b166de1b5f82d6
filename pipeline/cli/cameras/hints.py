"""What to look at when frames do not come as they should."""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.camera_config import AnyCamera, GenicamCamera
from pipeline.cli.cameras.figures import Figures
from pipeline.cli.cameras.grabbing import Books

_SLOWER_SHARE = 0.02
_UNEVEN_SHARE = 0.25
"""Of the median interval: where frames are told apart by time, half of it is a neighbour's."""


def why_silent(config: AnyCamera) -> str:
    """Why there may be no frame at all."""
    if not isinstance(config, GenicamCamera):
        return "is the source sending?"
    if config.trigger == "hardware":
        return (
            f"trigger: hardware on {config.trigger_source}: does a signal come there, with the level and edge that the camera "
            "expects? To see a picture without one, write trigger: free_running"
        )
    if config.trigger == "software":
        return "trigger: software: is the exposure longer than the time between two triggers?"
    return "trigger: free_running: does a firewall drop what the camera sends, or does another program stop it?"


def hints(config: AnyCamera, books: Books, figures: Figures) -> Iterator[str]:
    """One line for each trouble that the figures show."""
    if not books.stamps and not books.bad:
        yield f"no frame came: {why_silent(config)}"
    if books.refused_count:
        yield (
            f"{books.refused_count} refused: the box did not keep up, or ring_slots {config.ring_slots} are too few for a burst"
        )
    yield from _hints_of_bad(config, books)
    if books.missed_count:
        yield (
            f"{books.missed_count} missed: the camera counted frames of which nothing came: network or USB are overloaded, the "
            "camera's own memory is full, or a trigger came before the last picture was done (exposure, read-out)"
        )
    if books.packets.get("resent", 0):
        yield (
            f"{books.packets['resent']} packets had to be sent again: look at cable and switch, at the receive buffer "
            "(sysctl net.core.rmem_max) and the interface's ring (ethtool -g) before frames are lost"
        )
    if books.not_ready_count:
        yield (
            f"{books.not_ready_count} software triggers found the camera not ready: exposure and read-out take longer than "
            "the time between two; use a lower --rate or a shorter exposure_time_us"
        )
    if books.unanswered_count:
        yield f"{books.unanswered_count} software triggers brought no frame: use a lower --rate, and look at the losses"
    yield from _hints_of_times(config, figures)


def _hints_of_bad(config: AnyCamera, books: Books) -> Iterator[str]:
    if not books.bad:
        return
    if any("packet" in text for text in books.bad):
        is_gentle = isinstance(config, GenicamCamera)
        more = (
            ", a pause between packets (features: {GevSCPD: ...}) where several cameras share a port"
            if is_gentle
            else ""
        )
        yield (
            "frames came with packets missing: an MTU of 9000 on interface and switch (jumbo frames), the receive buffer "
            f"(sysctl net.core.rmem_max), cable and switch{more}"
        )
    if any("expected" in text for text in books.bad):
        yield "frames are not as configured: width_px, height_px and pixel_format; was the camera changed by another program?"


def _hints_of_times(config: AnyCamera, figures: Figures) -> Iterator[str]:
    wanted_hz: float | None = getattr(config, "frame_rate_hz", None)
    if wanted_hz is not None and figures.rate_hz is not None and figures.rate_hz < (1 - _SLOWER_SHARE) * wanted_hz:
        yield (
            f"{figures.rate_hz:.4g} frames/s instead of frame_rate_hz {wanted_hz:g}: a long exposure_time_us, a limit of the "
            "link (DeviceLinkThroughputLimit), or the sensor's own limit for this region"
        )
    if figures.interval_us and figures.jitter_us["p99"] > _UNEVEN_SHARE * figures.interval_us["p50"]:
        yield (
            f"uneven: intervals are up to {figures.jitter_us['p99'] / 1e3:.3g} ms off their median of "
            f"{figures.interval_us['p50'] / 1e3:.4g} ms: triggers that bounce, are doubled or come as the parts do; a camera "
            "without time stamps; or a busy box"
        )
