"""The watch on drift by itself: what counts, what is said, and what a restart goes on with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from calibration.drift import DriftBaseline, Signal, fit_drift
from pipeline.calibration_file import CalibrationStore, CameraCalibration, DriftSection, made_now
from pipeline.calibration_store import NEW
from pipeline.channel import Link, link_pair
from pipeline.drift_baseline import baselines_of, found_with
from pipeline.drift_file import DriftFile
from pipeline.drift_watch import DriftWatch
from pipeline.messages import FrameKey, FrameMeasured, PartRecord
from tests.supervised import Heard, supervised_at
from vision.faults import FaultsError

MODEL = "a" * 64
MEANS: Mapping[Signal, float] = {"brightness": 120.0, "sharpness": 0.2, "score": 0.1}
SPREADS: Mapping[Signal, float] = {"brightness": 2.0, "sharpness": 0.01, "score": 0.02}
QUIET_PARTS, MOVED_PARTS = 100, 60


def values(number: int, **shifted: float) -> dict[str, float]:
    """Of one part; ``shifted`` by so many standard deviations."""
    rng = np.random.default_rng(number)
    return {name: MEANS[name] + SPREADS[name] * (rng.normal() + shifted.get(name, 0.0)) for name in MEANS}


def baseline() -> DriftBaseline:
    parts = [values(number) for number in range(1_000_000, 1_000_400)]
    report = fit_drift({name: [part[name] for part in parts] for name in MEANS}, shift_parts=10_000)
    assert report.baseline is not None
    return report.baseline


BASELINE = baseline()


@dataclass
class Line:
    """A watch with inspection's end of its link."""

    watch: DriftWatch
    heard: Heard
    inspection: Link
    folder: Path
    count: int = 0

    def measure(self, told: dict[str, float]) -> FrameKey:
        self.count += 1
        key = FrameKey("cam0", 1, self.count)
        assert self.inspection.send(FrameMeasured(key, told))
        return key

    def part(self, told: dict[str, float], reason: str = "OK", *, is_decided_first: bool = False) -> None:
        if is_decided_first:
            self.watch.decided(record(FrameKey("cam0", 1, self.count + 1), reason))
        key = self.measure(told)
        self.watch.turn()
        if not is_decided_first:
            self.watch.decided(record(key, reason))

    def parts(self, count: int, *, reason: str = "OK", is_decided_first: bool = False, **shifted: float) -> None:
        for _ in range(count):
            self.part(values(self.count, **shifted), reason, is_decided_first=is_decided_first)

    @property
    def kept(self) -> DriftFile:
        return DriftFile(self.folder / "records.db")


def record(key: FrameKey, reason: str) -> PartRecord:
    return PartRecord(1, 1, "PASS", reason, None, None, 0, 0, 0, 0, 0, 0, (), (key,))


def keep(folder: Path, recipe_id: str = "stub") -> None:
    """A calibration of the stub line's camera, in force."""
    store = CalibrationStore(folder / "calibrations")
    before = store.current(recipe_id, "cam0")
    with supervised_at(folder, calibrations=None) as (supervised, _):
        recipe = supervised.line.recipe
    # Another time it was found at is another calibration.
    section = DriftSection(
        made=made_now("Anna" if before is None else "Berta", []),
        baseline=BASELINE,
        found_with=found_with(recipe, "cam0", MODEL, {}),
    )
    beginning = CameraCalibration(calibration_id=NEW, recipe_id=recipe_id, camera_id="cam0", width_px=32, height_px=32)
    store.keep((before or beginning).model_copy(update={"drift": section}))


@contextlib.contextmanager
def line_at(folder: Path, model: str = MODEL) -> Iterator[Line]:
    with supervised_at(folder, calibrations="calibrations") as (supervised, heard):
        watch = DriftWatch(supervised)
        watch.recall()
        watch.model_in_use(model)
        theirs, ours = (Link(end) for end in link_pair())
        watch.connect(theirs)
        line = Line(watch, heard, ours, folder)
        try:
            yield line
        finally:
            watch.close()
            line.inspection.close()


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    keep(tmp_path)
    with line_at(tmp_path) as made:
        yield made


@pytest.mark.parametrize("is_decided_first", [False, True])
def test_what_moves_is_said_and_taken_back(line: Line, is_decided_first: bool) -> None:
    """Whichever is told first, the verdict or what was measured."""
    line.parts(QUIET_PARTS, is_decided_first=is_decided_first)
    assert line.heard.alarms() == {}
    line.parts(MOVED_PARTS, brightness=-6.0, is_decided_first=is_decided_first)
    text = line.heard.alarms()["drift"]
    assert text is not None
    assert text.startswith("camera cam0: The light is not what it was: look at the lamp")
    assert "brightness 119.9 -> 10" in text
    line.parts(600, is_decided_first=is_decided_first)
    assert line.heard.alarms() == {"drift": None}


def test_the_text_follows_the_cause(line: Line) -> None:
    line.parts(MOVED_PARTS, brightness=-6.0)
    assert "The light is not" in str(line.heard.alarms()["drift"])
    line.parts(MOVED_PARTS, brightness=-6.0, sharpness=-6.0)
    assert "dirty or misted" in str(line.heard.alarms()["drift"])


@pytest.mark.parametrize("reason", ["CHALLENGE", "NOT_RUNNING"])
@pytest.mark.parametrize("is_decided_first", [False, True])
def test_parts_that_are_not_productions_do_not_count(line: Line, reason: str, is_decided_first: bool) -> None:
    line.parts(200, brightness=-20.0, reason=reason, is_decided_first=is_decided_first)
    assert line.heard.alarms() == {}
    assert line.kept.read() == {}


def test_a_part_that_was_not_judged_counts_with_its_light(line: Line) -> None:
    for _ in range(MOVED_PARTS):
        line.part({"brightness": 5.0}, reason="BAD_FRAME")
    assert "The light is gone" in str(line.heard.alarms()["drift"])


def test_a_part_told_twice_counts_once(line: Line) -> None:
    """What a predecessor of records did not acknowledge is told again; what was measured is not."""
    for _ in range(5):
        key = line.measure(values(0, brightness=-20.0))
        line.watch.turn()
        for _ in range(50):
            line.watch.decided(record(key, "OK"))
    assert line.heard.alarms() == {}


def test_what_waits_for_its_other_half_is_bounded(line: Line) -> None:
    for _ in range(5_000):
        line.measure(values(0))
        line.watch.turn()
    for number in range(5_000):
        line.watch.decided(record(FrameKey("cam0", 2, number), "OK"))
    assert len(line.watch._measured) == len(line.watch._decided) == 4_096


def test_a_restart_goes_on(tmp_path: Path) -> None:
    keep(tmp_path)
    with line_at(tmp_path) as line:
        line.parts(MOVED_PARTS, brightness=-6.0)
        assert "The light is not" in str(line.heard.alarms()["drift"])
    with line_at(tmp_path) as again:
        assert "The light is not" in str(again.heard.alarms()["drift"])
        again.parts(600)
        assert again.heard.alarms() == {"drift": None}


def test_a_killed_one_goes_on_from_what_was_kept_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0]
    monkeypatch.setattr("pipeline.drift_watch.now_ns", lambda: clock[0])
    keep(tmp_path)
    with line_at(tmp_path) as line:
        line.parts(5)
        first = line.kept.read()
        line.parts(5)
        assert line.kept.read() == first
        clock[0] += 10_000_000_000
        line.watch.turn()
        assert line.kept.read() != first
        line.parts(MOVED_PARTS, brightness=-6.0)
        # An alarm is kept at once, or as soon as it may be.
        line.watch.turn()
        killed = line.kept.path.read_bytes()
    assert b'"raised":-1' in killed or b",-1]" in killed


def test_another_calibration_begins_anew(tmp_path: Path) -> None:
    keep(tmp_path)
    with line_at(tmp_path) as line:
        line.parts(MOVED_PARTS, brightness=-6.0)
        assert line.heard.alarms()
    keep(tmp_path)
    with line_at(tmp_path) as line:
        assert line.heard.alarms() == {}
        line.parts(5, brightness=-6.0)
        assert line.heard.alarms() == {}


@pytest.mark.parametrize("content", [b"", b"{", b'{"cam0": 5}', b'{"cam0": {"calibration_id": "%s", "state": {}}}'])
def test_what_was_kept_and_cannot_be_read_is_nothing(tmp_path: Path, content: bytes) -> None:
    keep(tmp_path)
    current = CalibrationStore(tmp_path / "calibrations").current("stub", "cam0")
    assert current is not None
    file = DriftFile(tmp_path / "records.db").path
    file.write_bytes(content.replace(b"%s", current.calibration_id.encode()))
    with line_at(tmp_path) as line:
        assert line.heard.alarms() == {}
        line.parts(MOVED_PARTS, brightness=-6.0)
        assert "drift" in line.heard.alarms()


def test_a_disk_that_fails_costs_what_is_kept_and_no_more(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: DriftFile, states: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DriftFile, "write", fails)
    line.parts(MOVED_PARTS, brightness=-6.0)
    assert "drift" in line.heard.alarms()
    monkeypatch.undo()
    line.watch.close()
    assert "cam0" in line.kept.read()


def test_a_baseline_of_another_model_is_not_watched(tmp_path: Path) -> None:
    keep(tmp_path)
    with line_at(tmp_path, model="b" * 64) as line:
        assert "camera cam0: drift is not watched: it was calibrated with another model" in str(
            line.heard.alarms()["drift"]
        )
        line.parts(MOVED_PARTS, brightness=-6.0)
        assert line.heard.alarms() == {}


def test_a_calibration_that_is_gone_is_said(tmp_path: Path) -> None:
    keep(tmp_path)
    with supervised_at(tmp_path, calibrations="calibrations") as (supervised, heard):
        for file in (tmp_path / "calibrations").rglob("*.yaml"):
            file.unlink()
        watch = DriftWatch(supervised)
        assert "drift is not watched: " in str(heard.alarms()["drift"])
        watch.close()
        with pytest.raises(FaultsError, match="no such file"):
            baselines_of(supervised.line)


def test_an_inspection_that_dies_is_no_end(line: Line) -> None:
    line.inspection.close()
    line.watch.turn()
    assert line.watch.read_descriptors() == []
    theirs, line.inspection = (Link(end) for end in link_pair())
    line.watch.connect(theirs)
    line.parts(MOVED_PARTS, brightness=-6.0)
    assert "drift" in line.heard.alarms()


def test_without_a_baseline_there_is_no_watch(tmp_path: Path) -> None:
    with supervised_at(tmp_path) as (supervised, heard):
        watch = DriftWatch(supervised)
        watch.recall()
        watch.model_in_use(MODEL)
        watch.decided(record(FrameKey("cam0", 1, 1), "OK"))
        watch.turn()
        watch.close()
        assert heard.alarms() == {}
        assert not list(tmp_path.glob("*.drift"))


def test_a_baseline_depends_on_what_shapes_its_signals(tmp_path: Path) -> None:
    with supervised_at(tmp_path) as (supervised, _):
        recipe = supervised.line.recipe
    moved = recipe.views[0].model_copy(
        update={"regions": [recipe.views[0].regions[0].model_copy(update={"x_px": 1, "width_px": 31})]}
    )
    rules = [recipe.rules[0].model_copy(update={"reject_at_score": 0.7})]
    registered = {"registration": {"made": {"by": "Anna"}, "registration": {"min_score": 0.4}}}
    usual = found_with(recipe, "cam0", MODEL, {})
    assert found_with(recipe.model_copy(update={"rules": rules}), "cam0", MODEL, {"threshold": {"x": 1}}) == usual
    others = {
        found_with(recipe, "cam0", "b" * 64, {}),
        found_with(recipe.model_copy(update={"views": [moved]}), "cam0", MODEL, {}),
        found_with(recipe, "cam0", MODEL, registered),
        usual,
    }
    assert len(others) == 4
    registered["registration"]["made"] = {"by": "Berta"}
    assert found_with(recipe, "cam0", MODEL, registered) in others
