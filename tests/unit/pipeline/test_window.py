"""A window is written as it comes, ends where it must, and is whole up to where its writer was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest

from pipeline.window_format import DESCRIPTION_NAME, BadHeader, FrameFacts, WindowLimits, pack_header, unpack_header
from pipeline.window_reader import WindowReader
from pipeline.window_writer import CannotRecord, WindowWriter
from tests.windows import LIMITS, WindowLine, pictures, write_window_line
from vision.package import MODEL_NAME
from vision.types import PixelFormat

FACTS = FrameFacts(
    camera_id="c" * 32,
    source=3,
    trigger_counter=2**40,
    frame_id=7,
    encoder_count=None,
    trigger_ns=123,
    grabbed_ns=456,
    inferred_ns=None,
    width_px=20,
    height_px=10,
    stride_bytes=64,
    pixel_format=PixelFormat.RGB8,
)


def started(folder: Path, *, limits: WindowLimits = LIMITS, chunk_bytes: int = 1 << 20) -> WindowLine:
    return WindowLine(write_window_line(folder / "line"), folder / "window", limits=limits, chunk_bytes=chunk_bytes)


def run(line: WindowLine, parts: int) -> None:
    rng = np.random.default_rng(0)
    for number in range(1, parts + 1):
        line.run(pictures(number, rng))


@pytest.mark.parametrize("encoder_count", [None, -5, 0, 2**31])
@pytest.mark.parametrize("inferred_ns", [None, 0, 2**62])
def test_a_header_says_what_was_put_into_it(encoder_count: int | None, inferred_ns: int | None) -> None:
    facts = msgspec.structs.replace(FACTS, encoder_count=encoder_count, inferred_ns=inferred_ns)
    header = pack_header(facts, 2**32 - 1)
    assert unpack_header(header) == (facts, 2**32 - 1)
    for offset in range(len(header)):
        spoiled = bytearray(header)
        spoiled[offset] ^= 4
        with pytest.raises(BadHeader):
            unpack_header(bytes(spoiled))


def test_frames_come_back_as_they_lay_in_their_slots(tmp_path: Path) -> None:
    line = started(tmp_path, chunk_bytes=300_000)
    run(line, 12)
    line.close()
    reader = WindowReader(tmp_path / "window")
    rng = np.random.default_rng(0)
    shown = {number: pictures(number, rng) for number in range(1, 13)}
    assert len(reader.frames) == 24
    assert len({entry.chunk for entry in reader.frames.values()}) > 1
    for key, entry in reader.frames.items():
        frame = reader.frame(entry)
        assert np.array_equal(frame.pixels, shown[key.trigger_counter][key.camera_id])
        assert not frame.pixels.flags.writeable
        assert (frame.camera_id, frame.frame_id) == (key.camera_id, key.trigger_counter)
    end = reader.description.end
    assert end is not None
    assert (end.by, end.counts.frames, end.counts.parts, end.counts.frames_lost) == ("told", 24, 12, {})
    files = [file for file in (tmp_path / "window").rglob("*") if file.is_file() and file.name != DESCRIPTION_NAME]
    assert sum(file.stat().st_size for file in files) == end.counts.size_bytes


def test_what_is_there_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "window").mkdir()
    with pytest.raises(CannotRecord, match="is there already"):
        started(tmp_path)
    assert list((tmp_path / "window").iterdir()) == []


def test_a_model_that_is_not_the_one_that_judges(tmp_path: Path) -> None:
    line = started(tmp_path)
    facts = msgspec.structs.replace(line.facts, model_sha256="0" * 64)
    with pytest.raises(CannotRecord, match="and 0000000000"):
        WindowWriter(tmp_path / "other", facts, LIMITS, tmp_path / "line" / "model")
    line.close()


def test_ends_when_it_is_full(tmp_path: Path) -> None:
    line = started(tmp_path, limits=WindowLimits(max_s=3_600, max_bytes=400_000, free_min_bytes=0))
    run(line, 12)
    line.close()
    reader = WindowReader(tmp_path / "window")
    end = reader.description.end
    assert end is not None
    assert end.by == "max_gib"
    assert 300_000 < end.counts.size_bytes < 410_000
    assert 0 < len(reader.frames) < 24
    assert reader.frames_lost == end.counts.frames_lost
    assert sum(reader.frames_lost.values()) + len(reader.frames) <= 24


def test_ends_where_others_need_the_disk(tmp_path: Path) -> None:
    line = started(tmp_path, limits=WindowLimits(max_s=3_600, max_bytes=1 << 30, free_min_bytes=1 << 60))
    run(line, 3)
    assert line.writer.ended_by == "free_disk"
    line.close()
    reader = WindowReader(tmp_path / "window")
    assert not reader.frames
    assert reader.frames_lost["free_disk"] > 0


def test_ends_in_time(tmp_path: Path) -> None:
    line = started(tmp_path, limits=WindowLimits(max_s=1e-6, max_bytes=1 << 30, free_min_bytes=0))
    assert line.writer.ended_by == "max_s"
    run(line, 3)
    line.close()
    reader = WindowReader(tmp_path / "window")
    # The first part's trigger is a microsecond after the begin: behind the end.
    assert not reader.frames
    assert not reader.part_ids


def test_parts_of_other_sessions_or_from_before_are_left_out(tmp_path: Path) -> None:
    line = started(tmp_path)
    run(line, 1)
    (result,) = line.window.results
    other = msgspec.structs.replace(result, session_id="other", part_id=2)
    early = msgspec.structs.replace(result, trigger_ns=line.writer.began_ns - 1, part_id=3)
    assert not line.writer.add_part((), msgspec.json.encode(other))
    assert not line.writer.add_part((), msgspec.json.encode(early))
    assert not line.writer.add_frame(
        msgspec.structs.replace(FACTS, trigger_ns=line.writer.began_ns - 1), np.zeros(640, np.uint8)
    )
    with pytest.raises(ValueError, match="expected uint8"):
        line.writer.add_frame(FACTS, np.zeros(5, np.uint8))
    line.close()
    assert WindowReader(tmp_path / "window").part_ids == (1,)


_KILLED = """
import sys
from pathlib import Path
import numpy as np
from tests.unit.pipeline.test_window import started
from tests.windows import pictures

line = started(Path(sys.argv[1]))
rng = np.random.default_rng(0)
for number in range(1, 1_000_000):
    line.run(pictures(number, rng))
    print(number, flush=True)
"""


def test_killed_at_any_moment_all_that_was_whole_is_there(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", _KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for told in process.stdout:
            if int(told) == 25:
                process.send_signal(signal.SIGKILL)
                break
        last = max([25, *(int(told) for told in process.stdout if told.endswith("\n"))])
    reader = WindowReader(tmp_path / "window")
    assert reader.is_cut_off
    assert len(reader.part_ids) in (last, last + 1)
    assert len(reader.frames) >= 2 * last
    for entry in reader.frames.values():
        reader.frame(entry)
    assert (tmp_path / "window" / "model" / MODEL_NAME).is_file()
