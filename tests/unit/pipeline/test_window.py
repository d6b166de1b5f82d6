"""A window is written as it comes, ends where it must, and is whole up to where its writer was killed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml

from pipeline.payloads import encode
from pipeline.window.format import (
    DESCRIPTION_NAME,
    INDEX_NAME,
    BadHeader,
    FrameFacts,
    WindowLimits,
    pack_header,
    unpack_header,
)
from pipeline.window.reader import NotAWindow, WindowReader
from pipeline.window.writer import CannotRecord, WindowWriter
from tests.windows import LIMITS, WindowLine, pictures, write_window_line
from vision.package import MODEL_NAME, load_package
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
        WindowWriter(tmp_path / "other", facts, LIMITS, tmp_path / "line" / "model", None)
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


def test_a_window_keeps_the_whole_card_of_a_model_whose_own_has_gaps(tmp_path: Path) -> None:
    config = write_window_line(tmp_path / "line")
    card_path = tmp_path / "line" / "model" / "model.yaml"
    card = yaml.safe_load(card_path.read_text())
    for key in ("name", "task", "outputs"):
        del card[key]
    card_path.write_text(yaml.safe_dump(card))
    line = WindowLine(config, tmp_path / "window")
    run(line, 1)
    line.close()
    kept = WindowReader(tmp_path / "window").model()
    assert kept.card == load_package(tmp_path / "line" / "model").card
    assert "task: classification" in kept.card_path.read_text()


# --- told twice, lost, broken off ----------------------------------------------------------------------------------


def test_what_is_told_twice_is_in_it_once(tmp_path: Path) -> None:
    """As by the successor of a signalling that was killed."""
    line = started(tmp_path)
    rng = np.random.default_rng(0)
    line.run(pictures(1, rng), "late")
    (result,) = line.window.results
    (late,) = line.late_told
    assert not line.writer.add_part((), encode(result))
    assert not line.writer.add_late(late.part_id, late.arrived_ns, late.view)
    line.close()
    reader = WindowReader(tmp_path / "window")
    assert (reader.part_ids, reader.late_count) == ((1,), 1)
    assert reader.description.end is not None
    assert (reader.description.end.counts.parts, reader.description.end.counts.late_inspections) == (1, 1)


def test_an_index_that_tells_a_part_twice_is_read(tmp_path: Path) -> None:
    line = started(tmp_path)
    run(line, 3)
    line.close()
    index = tmp_path / "window" / INDEX_NAME
    lines = index.read_bytes().splitlines(keepends=True)
    told = next(each for each in lines if b'"part"' in each)
    index.write_bytes(b"".join([*lines, told]))
    description = json.loads((tmp_path / "window" / DESCRIPTION_NAME).read_text())
    description["end"]["counts"]["parts"] = 4
    (tmp_path / "window" / DESCRIPTION_NAME).write_text(json.dumps(description))
    assert WindowReader(tmp_path / "window").part_ids == (1, 2, 3)


def test_what_is_lost_is_counted_and_missed(tmp_path: Path) -> None:
    line = started(tmp_path)
    run(line, 2)
    line.writer.lose(3, "slot")
    line.writer.lose_parts(2, "memory")
    line.close()
    reader = WindowReader(tmp_path / "window")
    assert reader.description.end is not None
    assert reader.frames_lost == reader.description.end.counts.frames_lost == {"slot": 3}
    assert reader.parts_lost == reader.description.end.counts.parts_lost == {"memory": 2}
    index = tmp_path / "window" / INDEX_NAME
    lines = index.read_bytes().splitlines(keepends=True)
    for less, what in ((lines[:-1], "lost parts"), ([*lines[:-2], lines[-1]], "lost frames")):
        index.write_bytes(b"".join(less))
        with pytest.raises(NotAWindow, match=what):
            WindowReader(tmp_path / "window")


def test_a_late_inspection_that_is_gone_is_missed(tmp_path: Path) -> None:
    line = started(tmp_path)
    line.run(pictures(1, np.random.default_rng(0)), "late")
    line.close()
    index = tmp_path / "window" / INDEX_NAME
    index.write_bytes(
        b"".join(each for each in index.read_bytes().splitlines(keepends=True) if b'"kind":"late"' not in each)
    )
    with pytest.raises(NotAWindow, match="got 0 late inspections, expected the 1"):
        WindowReader(tmp_path / "window")


@pytest.mark.parametrize("body", [b"{}", b'{"kind":"part","frames":[],"result":{}}'])
def test_a_window_that_was_cut_off_is_read_up_to_its_first_bad_line(tmp_path: Path, body: bytes) -> None:
    line = started(tmp_path)
    run(line, 6)
    line.close()
    description = json.loads((tmp_path / "window" / DESCRIPTION_NAME).read_text())
    spoiled = b"%08x %s\n" % (zlib.crc32(body), body)
    index = tmp_path / "window" / INDEX_NAME
    lines = index.read_bytes().splitlines(keepends=True)
    index.write_bytes(b"".join([*lines[:9], spoiled, *lines[10:]]))
    with pytest.raises(NotAWindow, match="line 10: got what was not written so"):
        WindowReader(tmp_path / "window")
    (tmp_path / "window" / DESCRIPTION_NAME).write_text(json.dumps(description | {"end": None}))
    reader = WindowReader(tmp_path / "window")
    assert reader.part_ids == (1, 2, 3)
    assert reader.unread_bytes == len(spoiled) + sum(map(len, lines[10:]))


def test_a_refused_window_leaves_nothing_behind(tmp_path: Path) -> None:
    line = started(tmp_path)
    line.close()
    with pytest.raises(CannotRecord):
        WindowWriter(
            tmp_path / "other",
            msgspec.structs.replace(line.facts, model_sha256="0"),
            LIMITS,
            tmp_path / "line" / "model",
            None,
        )
    assert not (tmp_path / "other").exists()


def test_a_disk_that_fails_at_the_end_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = started(tmp_path)
    run(line, 2)

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    line.writer.end()
    monkeypatch.setattr(Path, "replace", fails)
    end = line.writer.close()
    assert end.by == "fault"
    assert "No space left on device" in end.text
    assert WindowReader(tmp_path / "window").is_cut_off


def test_nothing_is_written_behind_half_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = started(tmp_path)
    run(line, 2)
    line.writer.lose(1, "slot")

    def half(descriptor: int, parts: list[memoryview]) -> int:
        os.write(descriptor, bytes(parts[0])[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "writev", half)
        run(line, 1)
    run(line, 3)
    assert line.writer.close().by == "fault"
    reader = WindowReader(tmp_path / "window")
    assert reader.part_ids == (1, 2)
    assert len(reader.frames) == 4


def test_more_chunks_than_descriptors(tmp_path: Path) -> None:
    line = started(tmp_path, chunk_bytes=1)
    run(line, 40)
    line.close()
    before = len(list(Path("/proc/self/fd").iterdir()))
    reader = WindowReader(tmp_path / "window")
    entries = list(reader.frames.values())
    assert len({entry.chunk for entry in entries}) == 80
    for entry in [*entries, *entries[:5]]:
        reader.frame(entry)
    assert len(list(Path("/proc/self/fd").iterdir())) - before < 30
