"""Recorded windows run again: bit for bit as recorded, or told in what they are not."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.replay import Replay, ReplayPlan
from pipeline.replay_figures import ReplayFigures
from pipeline.window.format import DESCRIPTION_NAME, HEADER_BYTES, INDEX_NAME, chunk_name
from pipeline.window.reader import NotAWindow, WindowReader
from tests.models import write_nan_package, write_stub_package
from tests.service import lineside
from tests.windows import CAMERAS, THRESHOLD, Course, RecordedWindow, WindowLine, pictures, recipe_of, write_window_line
from vision.faults import FaultsError
from vision.raw import decoded_pixels
from vision.raw_picture import raw_pixels
from vision.types import PixelFormat

PARTS = 140
CHUNK_BYTES = 1_000_000
COURSES: tuple[Course, ...] = get_args(Course)


def record(folder: Path, *, parts: int = PARTS, seed: int = 0) -> RecordedWindow:
    """Every course of a part, at levels about the threshold."""
    rng = np.random.default_rng(seed)
    line = WindowLine(write_window_line(folder / "line"), folder / "window", chunk_bytes=CHUNK_BYTES)
    for number in range(1, parts + 1):
        course = COURSES[number % len(COURSES)] if number % 2 else "together"
        line.run(pictures(number, rng), course)
    return line.close()


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> RecordedWindow:
    return record(tmp_path_factory.mktemp("replay"))


@pytest.fixture
def window(recorded: RecordedWindow, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(recorded.folder, tmp_path / "window"))


def figures_of(replay: Replay, processes: int = 1) -> ReplayFigures:
    figures = ReplayFigures()
    for outcome in replay.outcomes(processes):
        figures.add(outcome)
    return figures


def judged(recorded: RecordedWindow) -> list[Any]:
    return [result for result in recorded.results if result.reason in ("OK", "DEFECT")]


def recipe_file(folder: Path, threshold: float, **changes: Any) -> Path:
    file = folder / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe_of(threshold) | changes))
    return file


def described(window: Path, **changes: Any) -> None:
    file = window / DESCRIPTION_NAME
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


@pytest.mark.parametrize("processes", [1, 2])
def test_the_same_again_is_the_same_bit_for_bit(recorded: RecordedWindow, processes: int) -> None:
    replay = Replay(ReplayPlan(recorded.folder))
    assert replay.setting.is_same
    figures = figures_of(replay, processes).figures()
    reasons = Counter(result.reason for result in recorded.results)
    assert min(reasons[each] for each in ("OK", "DEFECT", "DEADLINE", "MISSED_FRAME", "NOT_RUNNING")) > 0
    assert figures["parts"] == PARTS
    assert figures["compared"] == figures["identical"] == len(judged(recorded)) > 20
    assert figures["from_record"] == {each: n for each, n in reasons.items() if each not in ("OK", "DEFECT")}
    assert recorded.late > 0
    assert figures["late_inspections"] == {"compared": recorded.late, "identical": recorded.late}
    assert figures["differing"] == figures["missing_frames"] == figures["damaged_frames"] == 0
    assert figures["score_difference"]["largest"] == 0.0
    assert sum(figures["flips"].values()) == 0


@pytest.mark.parametrize(
    ("top", "side"),
    [
        ("Mono10", "BayerRG8"),
        ("Mono12", "BayerGR8"),
        ("Mono10Packed", "BayerGB8"),
        ("Mono12Packed", "BayerBG8"),
        ("Mono10p", "YUV422_8"),
        ("Mono12p", "YUV422_8_UYVY"),
    ],
)
def test_a_window_of_raw_frames_is_the_same_bit_for_bit(top: str, side: str, tmp_path: Path) -> None:
    """What the camera sent is kept, padding between rows and all; and what it shows is judged as its picture is."""
    formats = {"top": PixelFormat(top), "side": PixelFormat(side)}
    line = WindowLine(write_window_line(tmp_path / "line", formats=formats), tmp_path / "window")
    plain = WindowLine(write_window_line(tmp_path / "plain"), tmp_path / "plain_window")
    rng = np.random.default_rng(3)
    sent: list[dict[str, Any]] = []
    for number in range(1, 13):
        seen = pictures(number, rng)
        sent.append({camera_id: raw_pixels(pixels, formats[camera_id]) for camera_id, pixels in seen.items()})
        line.run(sent[-1])
        # In colour, what a raw format leaves of the picture; of 10 and 12 bit nothing is lost.
        plain.run({camera_id: decoded_pixels(raw, formats[camera_id]) for camera_id, raw in sent[-1].items()})
    recorded, expected = line.close(), plain.close()
    assert [recorded.scores(result) for result in recorded.results] == [
        expected.scores(result) for result in expected.results
    ]
    assert {result.verdict for result in recorded.results} == {"PASS", "REJECT"}
    assert [view.part_mark for result in recorded.results for view in result.views if view.camera_id == "top"] == [
        *range(1, 13)
    ]
    reader = WindowReader(recorded.folder)
    for entry in reader.frames.values():
        frame = reader.frame(entry)
        assert frame.pixel_format is formats[frame.camera_id]
        assert np.array_equal(frame.pixels, sent[frame.frame_id - 1][frame.camera_id])
    figures = figures_of(Replay(ReplayPlan(recorded.folder))).figures()
    assert figures["compared"] == figures["identical"] == 12
    assert figures["score_difference"]["largest"] == 0.0


def test_parts_come_in_order(recorded: RecordedWindow) -> None:
    replay = Replay(ReplayPlan(recorded.folder))
    assert [outcome.part_id for outcome in replay.outcomes(2)] == list(range(1, PARTS + 1))


def test_what_the_model_says_of_parts_that_were_not_judged_stands_beside(recorded: RecordedWindow) -> None:
    figures = figures_of(Replay(ReplayPlan(recorded.folder))).figures()
    says = figures["from_record_model_says"]
    assert set(says["DEADLINE"]) == {"PASS", "REJECT"}
    assert set(says["MISSED_FRAME"]) <= {"NO_DECISION", "REJECT"}
    assert "NOT_RUNNING" not in says


def test_replay_writes_nothing_into_the_window(recorded: RecordedWindow) -> None:
    def state() -> dict[str, tuple[int, int]]:
        return {str(f): (f.stat().st_mtime_ns, f.stat().st_size) for f in sorted(recorded.folder.rglob("*"))}

    before = state()
    figures_of(Replay(ReplayPlan(recorded.folder)))
    assert state() == before


@settings(max_examples=12, deadline=None)
@given(threshold=st.floats(min_value=0.05, max_value=0.95))
def test_another_threshold_flips_the_parts_whose_recorded_score_says_so(
    recorded: RecordedWindow, tmp_path_factory: pytest.TempPathFactory, threshold: float
) -> None:
    file = recipe_file(tmp_path_factory.mktemp("recipe"), threshold)
    replay = Replay(ReplayPlan(recorded.folder, recipe=file))
    assert list(replay.setting.recipe) == ([] if threshold == THRESHOLD else ["rules.0.reject_at_score"])
    assert (replay.setting.model, replay.setting.runtime) == ({}, {})
    figures = figures_of(replay)
    expected = {}
    for result in judged(recorded):
        verdict = "REJECT" if max(recorded.scores(result)) >= threshold else "PASS"
        if verdict == "PASS" and len(result.views) < len(CAMERAS):
            verdict = "NO_DECISION"
        if verdict != result.verdict:
            expected[result.part_id] = (result.verdict, verdict)
    assert {o.part_id: (o.recorded_verdict, o.verdict) for o in figures.flipped} == expected
    assert figures.figures()["score_difference"]["largest"] == 0.0


def test_another_model(recorded: RecordedWindow, tmp_path: Path) -> None:
    """One that answers NaN for bright regions, and as the stub for others."""
    replay = Replay(ReplayPlan(recorded.folder, model=write_nan_package(tmp_path / "nan", only_when_bright=True)))
    assert list(replay.setting.model) == ["sha256"]
    assert (replay.setting.recipe, replay.setting.runtime) == ({}, {})
    figures = figures_of(replay).figures()
    flips = figures["flips"]
    rejected = sum(result.verdict == "REJECT" for result in judged(recorded))
    assert flips["reject_to_no_decision"] == rejected > 0
    assert flips["pass_to_reject"] == flips["reject_to_pass"] == 0
    assert figures["score_difference"]["unscored"] > 0
    assert len(figures["flipped_parts"]) == sum(flips.values())


def test_another_runtime_is_told(window: Path) -> None:
    description = json.loads((window / DESCRIPTION_NAME).read_text())
    description["facts"]["fingerprint"]["onnxruntime"] = "1.0.0"
    described(window, facts=description["facts"])
    with pytest.raises(NotAWindow, match="fingerprint"):
        Replay(ReplayPlan(window))
    description["facts"]["fingerprint_sha256"] = fingerprint_sha256(description["facts"]["fingerprint"])
    described(window, facts=description["facts"])
    replay = Replay(ReplayPlan(window))
    assert set(replay.setting.runtime) == {"onnxruntime"}
    assert replay.setting.runtime["onnxruntime"][0] == "1.0.0"
    assert not replay.setting.is_same


def fingerprint_sha256(fingerprint: dict[str, Any]) -> str:
    import hashlib

    return hashlib.sha256(json.dumps(fingerprint, sort_keys=True).encode()).hexdigest()


def test_a_changed_record_is_found(window: Path) -> None:
    """A score changed by its last bit, with the line's checksum made right."""
    from pipeline.window.format import PartEntry, pack_line, unpack_line

    lines = (window / INDEX_NAME).read_bytes().splitlines()
    for number, line in enumerate(lines):
        entry = unpack_line(line)
        if isinstance(entry, PartEntry):
            result = json.loads(bytes(entry.result))
            if result["verdict"] == "PASS":
                result["views"][1]["score"] = float(np.nextafter(result["views"][1]["score"], 1.0))
                changed = msgspec.structs.replace(entry, result=msgspec.Raw(json.dumps(result).encode()))
                lines[number] = pack_line(changed)[:-1]
                break
    (window / INDEX_NAME).write_bytes(b"".join(line + b"\n" for line in lines))
    figures = figures_of(Replay(ReplayPlan(window)))
    (differing,) = figures.differing
    assert differing.part_id == result["part_id"]
    (said,) = differing.differences
    assert said.startswith("camera side: score ")


def test_a_part_that_was_recovered_without_its_views_is_not_compared(window: Path) -> None:
    """As the successor of a signalling that was killed between verdict and record tells it."""
    from pipeline.window.format import PartEntry, pack_line, unpack_line

    recovered = Counter[str]()
    lines = (window / INDEX_NAME).read_bytes().splitlines()
    for number, line in enumerate(lines):
        entry = unpack_line(line)
        if isinstance(entry, PartEntry):
            result = json.loads(bytes(entry.result))
            if result["reason"] in ("OK", "DEFECT") and recovered[result["reason"]] < 2:
                recovered[result["reason"]] += 1
                result |= {"views": [], "defects": []}
                changed = msgspec.structs.replace(entry, result=msgspec.Raw(json.dumps(result).encode()))
                lines[number] = pack_line(changed)[:-1]
    (window / INDEX_NAME).write_bytes(b"".join(line + b"\n" for line in lines))
    figures = figures_of(Replay(ReplayPlan(window))).figures()
    assert figures["from_record"]["RECOVERED"] == recovered.total() == 4
    assert sum(figures["from_record_model_says"]["RECOVERED"].values()) == 4
    assert figures["differing"] == 0
    assert figures["compared"] == figures["identical"] > 10


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["header", "pixels"])
def test_a_flipped_byte_of_a_frame_is_found(window: Path, place: str) -> None:
    reader = WindowReader(window)
    entry = list(reader.frames.values())[7]
    offset = entry.offset + (40 if place == "header" else HEADER_BYTES + entry.frame.size_bytes // 2)
    with (window / chunk_name(entry.chunk)).open("r+b") as chunk:
        chunk.seek(offset)
        byte = chunk.read(1)
        chunk.seek(offset)
        chunk.write(bytes([byte[0] ^ 1]))
    figures = figures_of(Replay(ReplayPlan(window)))
    (damaged,) = figures.damaged
    assert damaged.startswith(f"frame {entry.frame.frame_id} (camera {entry.frame.camera_id}, trigger ")
    assert figures.figures()["parts_incomplete"] == 1
    done = lineside("replay", window, "--processes", "1")
    assert done.returncode == 1
    assert "DAMAGED   frame" in done.stdout


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 1.0])
def test_cut_off(recorded: RecordedWindow, window: Path, share: float) -> None:
    """As after a kill: no end, the index cut anywhere, its frames whole."""
    described(window, end=None)
    index = (window / INDEX_NAME).read_bytes()
    kept = index[: int(len(index) * share)]
    (window / INDEX_NAME).write_bytes(kept)
    replay = Replay(ReplayPlan(window))
    assert replay.reader.is_cut_off
    whole = kept.count(b"\n")
    assert len(replay.reader.frames) + len(replay.reader.part_ids) + replay.reader.late_count == whole
    figures = figures_of(replay).figures()
    assert figures["differing"] == figures["damaged_frames"] == 0
    assert figures["compared"] == figures["identical"]


def test_frames_behind_the_end_of_their_chunk_are_damaged(window: Path) -> None:
    """A power cut keeps the index and not the pixels."""
    described(window, end=None)
    last = max(WindowReader(window).frames.values(), key=lambda entry: (entry.chunk, entry.offset))
    with (window / chunk_name(last.chunk)).open("r+b") as chunk:
        chunk.truncate(last.offset + HEADER_BYTES + 10)
    (damaged,) = figures_of(Replay(ReplayPlan(window))).damaged
    assert f"frame {last.frame.frame_id}" in damaged


# --- bad input -----------------------------------------------------------------------------------------------------


def refused(window: Path, *arguments: str | Path) -> str:
    done = lineside("replay", window, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def test_not_a_window(window: Path, tmp_path: Path) -> None:
    assert "got no folder" in refused(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    assert "is no recorded window: window.json: No such file" in refused(tmp_path / "empty")
    described(window, schema="lineside.window/2")
    assert "is of version lineside.window/2, expected lineside.window/1" in refused(window)
    described(window, schema="lineside.result/1")
    with pytest.raises(NotAWindow, match=r"got schema 'lineside\.result/1'"):
        WindowReader(window)
    (window / DESCRIPTION_NAME).write_text('{"schema": "lineside.window/1"')
    with pytest.raises(NotAWindow, match="copy the window again"):
        WindowReader(window)


def test_another_pixel_format(window: Path) -> None:
    description = json.loads((window / DESCRIPTION_NAME).read_text())
    description["facts"]["line"]["config"]["cameras"][1]["pixel_format"] = "RGB8"
    description["facts"]["cameras"][1]["pixel_format"] = "RGB8"
    described(window, facts=description["facts"])
    told = refused(window)
    assert (
        "frames of another format than their cameras': frame 1 (camera side, trigger 1 of source 1): got BGR8" in told
    )
    assert "expected RGB8 160x100" in told


def test_a_missing_chunk(window: Path) -> None:
    assert (window / chunk_name(3)).exists()
    (window / chunk_name(2)).unlink()
    assert "frames-000002.bin: No such file or directory; expected the chunk with" in refused(window)


def test_a_half_written_index_of_a_window_that_had_ended(window: Path) -> None:
    index = window / INDEX_NAME
    whole = index.read_bytes()
    index.write_bytes(whole[:-20])
    with pytest.raises(NotAWindow, match=r"line \d+: is half-written"):
        WindowReader(window)
    lines = whole.splitlines(keepends=True)
    index.write_bytes(b"".join(lines[:-9]))
    with pytest.raises(NotAWindow, match=r"got \d+ (frames|parts), expected the \d+ that window.json counts"):
        WindowReader(window)
    index.write_bytes(b"".join([*lines[:4], lines[4].replace(b"1", b"2", 1), *lines[5:]]))
    with pytest.raises(NotAWindow, match="line 5: got what was not written so"):
        WindowReader(window)
    index.unlink()
    with pytest.raises(NotAWindow, match="expected the window's index"):
        WindowReader(window)


def test_a_model_that_did_not_judge(window: Path) -> None:
    shutil.rmtree(window / "model")
    with pytest.raises(NotAWindow, match="its model cannot be used"):
        Replay(ReplayPlan(window))
    write_nan_package(window / "model")
    with pytest.raises(NotAWindow, match=r"got the model .* expected .*, which judged"):
        Replay(ReplayPlan(window))
    other = write_stub_package(window.parent / "other")
    assert Replay(ReplayPlan(window, model=other)).setting.is_same


def test_a_recipe_of_other_cameras(recorded: RecordedWindow, tmp_path: Path) -> None:
    views = recipe_of(0.5)["views"]
    file = recipe_file(tmp_path, 0.5, views=views[:1])
    with pytest.raises(FaultsError, match=r"views: got none of camera side, expected a view of each"):
        Replay(ReplayPlan(recorded.folder, recipe=file))
    views[1]["camera_id"] = "rear"
    recipe_file(tmp_path, 0.5, views=views)
    told = refused(recorded.folder, "--recipe", file)
    assert f"{file}: views.1.camera_id: got 'rear', expected one of the line's cameras: side, top" in told


# --- the command ---------------------------------------------------------------------------------------------------


def test_the_command(recorded: RecordedWindow, tmp_path: Path) -> None:
    done = lineside("replay", recorded.folder, "--json", tmp_path / "r.json", "--processes", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["must_be_identical"]
    assert result["identical"] == result["compared"] == len(judged(recorded))
    assert result["processes"] == 2
    assert "bit for bit" in done.stdout
    file = recipe_file(tmp_path, 0.42)
    done = lineside("replay", recorded.folder, "--recipe", file, "--json", "-")
    assert done.returncode == 0
    result = json.loads(done.stdout)
    assert result["differs"]["recipe"] == {"rules.0.reject_at_score": {"recorded": 0.5, "replayed": 0.42}}
    assert result["flips"]["pass_to_reject"] == len(result["flipped_parts"]) > 0
    assert "OTHER     recipe: rules.0.reject_at_score: recorded 0.5, now 0.42" in done.stderr


def test_nothing_is_written_into_the_window(window: Path) -> None:
    before = (window / DESCRIPTION_NAME).read_bytes()
    for target in (window / DESCRIPTION_NAME, window / "model" / "new.json", window.parent / "." / "window" / "x.json"):
        assert f"--json: got {target}, expected a place outside" in refused(window, "--json", target)
    assert "--report: got" in refused(window, "--report", window / "page")
    assert (window / DESCRIPTION_NAME).read_bytes() == before
    assert not (window / "page").exists()


def test_parts_that_lack_frames_are_told_of(window: Path, tmp_path: Path) -> None:
    """Their frames' lines are not readable any more."""
    lines = (window / INDEX_NAME).read_bytes().splitlines(keepends=True)
    frames = [number for number, line in enumerate(lines) if b'"kind":"frame"' in line]
    kept = [line for number, line in enumerate(lines) if number not in frames[:8]]
    (window / INDEX_NAME).write_bytes(b"".join([*kept, b"what was never written so\n"]))
    described(window, end=None)
    done = lineside("replay", window, "--report", tmp_path / "page", "--json", tmp_path / "r.json", "--processes", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "r.json").read_text())
    assert result["unread_bytes"] == 26
    incomplete = result["parts_incomplete"]
    assert incomplete > 0
    assert f"NOT ALL   {incomplete} of {PARTS} parts were not compared" in done.stdout
    assert f"the {result['compared']} parts compared must be as recorded" in done.stdout
    html = (tmp_path / "page" / "index.html").read_text()
    assert f"{incomplete:,} of {PARTS:,} parts lack frames" in html


@pytest.mark.parametrize("option", ["--duration", "--record-s"])
@pytest.mark.parametrize("seconds", ["nan", "inf"])
def test_seconds_that_are_no_number(tmp_path: Path, option: str, seconds: str) -> None:
    done = lineside("run", write_window_line(tmp_path), option, seconds)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert option in done.stderr


def test_check_says_where_windows_go(tmp_path: Path) -> None:
    line = write_window_line(tmp_path, images={"path": "kept"}, recording={"path": "windows", "max_s": 7.0})
    done = lineside("check", line)
    assert done.returncode == 0, done.stderr
    assert f"recording {tmp_path / 'windows'}, at most 7 s and" in done.stdout


# --- the page ------------------------------------------------------------------------------------------------------


def test_the_page_shows_every_flip_with_its_pictures(recorded: RecordedWindow, tmp_path: Path) -> None:
    file = recipe_file(tmp_path, 0.42)
    done = lineside("replay", recorded.folder, "--recipe", file, "--report", tmp_path / "page", "--json", "-")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    html = (tmp_path / "page" / "index.html").read_text()
    flips = sum(result["flips"].values())
    assert f"{flips:,} of {result['compared']:,} verdicts flip" in html
    for each in result["flipped_parts"]:
        assert f"Part {each['part_id']}: {each['recorded']} to {each['replayed']}" in html
    assert html.count("data:image/jpeg") == sum(len(each["views"]) for each in result["flipped_parts"])
    assert "rules.0.reject_at_score" in html
    again = lineside("replay", recorded.folder, "--report", tmp_path / "page")
    assert again.returncode == 0
    assert "came out the same, bit for bit" in (tmp_path / "page" / "index.html").read_text()


def test_a_folder_that_is_not_for_reports(recorded: RecordedWindow, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("kept")
    told = refused(recorded.folder, "--report", tmp_path)
    assert "expected a new or empty folder" in told
    assert (tmp_path / "mine").read_text() == "kept"
