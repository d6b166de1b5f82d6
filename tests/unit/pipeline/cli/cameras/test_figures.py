from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.camera_config import AravisCamera
from pipeline.cli.cameras.figures import Figures, Stamp, figures_of
from pipeline.cli.cameras.grabbing import Books
from pipeline.cli.cameras.hints import hints
from pipeline.clock import NS_PER_MS, NS_PER_US
from vision.types import PixelFormat

NOTHING = Figures(None, {}, {}, {})


def stamps_at(*moments_us: int, counters: tuple[int, ...] | None = None) -> list[Stamp]:
    """Frames exposed at these moments, each 250 us later in memory."""
    return [
        Stamp(counter, moment_us * NS_PER_US, (moment_us + 250) * NS_PER_US, None)
        for counter, moment_us in zip(counters or range(len(moments_us)), moments_us, strict=True)
    ]


def camera(**changes: object) -> AravisCamera:
    return AravisCamera.model_validate(
        {
            "camera_id": "cam0",
            "kind": "aravis",
            "address": "127.0.0.1",
            "width_px": 8,
            "height_px": 8,
            "pixel_format": PixelFormat.MONO8,
            **changes,
        }
    )


def test_even_frames_have_their_rate_and_no_jitter() -> None:
    figures = figures_of(stamps_at(0, 10_000, 20_000, 30_000))
    assert figures.rate_hz == pytest.approx(100.0)
    assert figures.interval_us == {"min": 10_000.0, "p50": 10_000.0, "max": 10_000.0}
    assert figures.jitter_us == {"p50": 0.0, "p99": 0.0, "max": 0.0}
    assert figures.to_memory_us == {"p50": 250.0, "p99": 250.0, "max": 250.0}


def test_jitter_is_told_against_the_median_interval() -> None:
    figures = figures_of(stamps_at(0, 10_000, 20_000, 30_000, 40_300, 50_000))
    assert figures.interval_us["p50"] == 10_000.0
    assert figures.jitter_us["p50"] == 0.0
    assert figures.jitter_us["max"] == 300.0


def test_a_lost_frame_is_no_long_interval_and_lowers_no_rate() -> None:
    """The camera went on; what was lost is told as lost."""
    figures = figures_of(stamps_at(0, 10_000, 30_000, 40_000, counters=(0, 1, 3, 4)))
    assert figures.rate_hz == pytest.approx(100.0)
    assert figures.interval_us["max"] == 10_000.0


@pytest.mark.parametrize("moments_us", [(), (5,), (7, 7)])
def test_too_little_says_nothing(moments_us: tuple[int, ...]) -> None:
    assert figures_of(stamps_at(*moments_us)).rate_hz is None


@given(st.lists(st.integers(1, 50_000), min_size=2, max_size=60))
def test_what_is_told_is_among_what_was_measured(intervals_us: list[int]) -> None:
    figures = figures_of(stamps_at(*np.cumsum([0, *intervals_us]).tolist()))
    assert figures.interval_us["min"] == min(intervals_us)
    assert figures.interval_us["max"] == max(intervals_us)
    median_us = float(np.median(intervals_us))
    off_us = [abs(each - median_us) for each in intervals_us]
    assert figures.jitter_us["max"] == max(off_us)
    for name in ("p50", "p99"):
        assert figures.jitter_us[name] in off_us
    assert figures.jitter_us["p50"] <= figures.jitter_us["p99"] <= figures.jitter_us["max"]
    assert figures.rate_hz == pytest.approx(1e6 * len(intervals_us) / sum(intervals_us))


def test_a_good_camera_needs_no_hint() -> None:
    stamps = stamps_at(*range(0, 100_000, 10_000))
    assert list(hints(camera(), Books(stamps=stamps), figures_of(stamps))) == []


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"trigger": "hardware", "trigger_source": "Line3"}, "hardware on Line3"),
        ({"trigger": "software"}, "software"),
        ({"trigger": "free_running"}, "free_running"),
    ],
)
def test_no_frame_at_all_leads_to_the_trigger(changes: dict[str, object], word: str) -> None:
    (hint,) = hints(camera(**changes), Books(), NOTHING)
    assert word in hint


def test_each_trouble_has_its_hint() -> None:
    books = Books(stamps=stamps_at(0), refused_count=3, missed_count=4, fired_count=20, not_ready_count=5)
    books.bad.update({"packets of it are missing": 2, "got a frame of 8x7 Mono8, expected 8x8 Mono8": 1})
    books.packets = {"resent": 7}
    told = "\n".join(hints(camera(), books, NOTHING))
    for words in (
        "3 refused",
        "ring_slots 16",
        "4 missed",
        "7 packets",
        "5 software triggers",
        "MTU of 9000",
        "width_px",
    ):
        assert words in told


def test_software_triggers_of_which_nothing_came_are_counted() -> None:
    books = Books(stamps=stamps_at(0, 1, 2), missed_count=1, fired_count=10, not_ready_count=2)
    assert books.unanswered_count == 4
    assert "4 software triggers brought no frame" in "\n".join(hints(camera(), books, NOTHING))


def test_a_camera_slower_than_it_was_asked_to_be_and_an_uneven_one_are_told() -> None:
    config = camera(trigger="free_running", frame_rate_hz=200)
    stamps = stamps_at(*range(0, 100_000, 10_000))
    (slow,) = hints(config, Books(stamps=stamps), figures_of(stamps))
    assert "100 frames/s instead of frame_rate_hz 200" in slow
    uneven = [
        Stamp(each.trigger_counter, each.exposure_ns + each.trigger_counter % 2 * 4 * NS_PER_MS, 0, None)
        for each in stamps
    ]
    (hint,) = hints(camera(), Books(stamps=uneven), figures_of(uneven))
    assert hint.startswith("uneven")
