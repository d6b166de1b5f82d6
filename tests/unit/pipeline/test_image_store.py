"""The folder of kept pictures: what goes first, what never goes, and what a restart knows of it."""

from __future__ import annotations

import errno
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.image_names import image_names, image_ref, pictures_of, read_name
from pipeline.image_store import ImageStore, first_day_kept

BODY = bytes(1_000)
DAYS = ("2026-01-30", "2026-01-31")


def store_at(path: Path, pictures: int = 1_000_000) -> ImageStore:
    """With room for so many."""
    store = ImageStore(path, max_bytes=pictures * len(BODY), free_min_bytes=0)
    store.open()
    return store


def put(
    store: ImageStore, part_id: int, verdict: str, *, day: str = DAYS[1], session: str = "abc1", thumbnail: bool = False
) -> None:
    picture, small = image_names(part_id, verdict, "cam0", "png")
    files = [(picture, BODY)] + ([(small, BODY)] if thumbnail else [])
    store.write(f"{day}/{session}", files)


def kept(path: Path) -> list[str]:
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def test_a_picture_lies_where_its_image_ref_says(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    put(store, 48_211, "REJECT", thumbnail=True)
    ref = image_ref("2026-01-31T06:00:00.000000Z", "abc1", 48_211)
    assert ref == "2026-01-31/abc1/00048211"
    assert pictures_of(tmp_path, ref) == [tmp_path / "2026-01-31/abc1/00048211-REJECT-cam0.png"]
    assert kept(tmp_path) == [f"{ref}-REJECT-cam0.png", f"{ref}-REJECT-cam0~thumb.jpg"]
    assert pictures_of(tmp_path, image_ref("2026-01-31", "abc1", 4_821)) == []
    assert pictures_of(tmp_path, "../../etc") == []


@pytest.mark.parametrize("camera_id", ["cam0", "a-b.c_d", "PASS", "x.jpg", "12345678-PASS-y"])
@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_names_are_read_as_they_were_given(camera_id: str, kind: str) -> None:
    for is_thumbnail, name in enumerate(image_names(123_456_789, "NO_DECISION", camera_id, kind)):
        assert read_name(name) == (123_456_789, "NO_DECISION", camera_id, bool(is_thumbnail))


@pytest.mark.parametrize(
    "name", ["1-PASS-cam0.png", "00000001-pass-cam0.png", "00000001-PASS-cam0.bmp", "a", "00000001-PASS-.png"]
)
def test_other_names_are_not_ours(name: str) -> None:
    assert read_name(name) is None


def test_the_oldest_passes_go_first_then_the_oldest_others(tmp_path: Path) -> None:
    store = store_at(tmp_path, pictures=6)
    put(store, 1, "REJECT", day=DAYS[0])
    put(store, 2, "PASS", day=DAYS[0], thumbnail=True)
    put(store, 3, "NO_DECISION", day=DAYS[0])
    put(store, 1, "PASS", session="abc2")
    put(store, 2, "REJECT", session="abc2")
    gone = []
    for part_id in range(3, 9):
        before = set(kept(tmp_path))
        put(store, part_id, "REJECT", session="abc2")
        gone += sorted(before - set(kept(tmp_path)))
    assert gone == [
        "2026-01-30/abc1/00000002-PASS-cam0.png",
        "2026-01-30/abc1/00000002-PASS-cam0~thumb.jpg",
        "2026-01-31/abc2/00000001-PASS-cam0.png",
        "2026-01-30/abc1/00000001-REJECT-cam0.png",
        "2026-01-30/abc1/00000003-NO_DECISION-cam0.png",
        "2026-01-31/abc2/00000002-REJECT-cam0.png",
    ]
    assert store.kept_bytes == 6 * len(BODY)
    assert store.pruned_count == 5
    assert not (tmp_path / DAYS[0]).exists(), "an empty day"


def test_a_pass_that_comes_later_goes_before_older_rejects(tmp_path: Path) -> None:
    store = store_at(tmp_path, pictures=3)
    for part_id in (1, 2, 3, 4):
        put(store, part_id, "REJECT")
    put(store, 5, "PASS")
    put(store, 6, "REJECT")
    assert [name[-21:] for name in kept(tmp_path)] == [f"0000000{part}-REJECT-cam0.png"[-21:] for part in (3, 4, 6)]


def test_a_restart_counts_what_is_there(tmp_path: Path) -> None:
    before = store_at(tmp_path)
    for part_id in range(1, 6):
        put(before, part_id, "PASS", day=DAYS[0])
    unfinished = tmp_path / DAYS[0] / "abc1" / ".00000009-PASS-cam0.png.new"
    unfinished.write_bytes(BODY)
    store = store_at(tmp_path, pictures=3)
    while store.look():
        pass
    put(store, 6, "REJECT")
    assert [name.split("/")[-1][:8] for name in kept(tmp_path)] == ["00000004", "00000005", "00000006"]
    assert not unfinished.exists()
    assert store.kept_bytes == 3 * len(BODY)


def test_days_that_have_had_their_time_go_whole(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    for day in DAYS:
        for session in ("abc1", "abc2"):
            put(store, 1, "REJECT", day=day, session=session, thumbnail=True)
    foreign = tmp_path / DAYS[0] / "abc2" / "mine.txt"
    foreign.touch()
    assert [store.drop_before(DAYS[1]) for _ in range(3)] == [True, True, False]
    assert store.pruned_count == 2
    assert kept(tmp_path)[0] == str(foreign.relative_to(tmp_path))
    assert len(kept(tmp_path)) == 5
    assert not (tmp_path / DAYS[0] / "abc1").exists()
    assert store.kept_bytes == 4 * len(BODY)


@pytest.mark.parametrize(
    ("now", "keep_days", "gone"),
    [
        ("2026-01-31T00:00:30", 1.0, ["2026-01-29", "2026-01-30"]),  # the first rows of the 30th may go
        ("2026-01-30T23:59:30", 1.0, ["2026-01-29"]),
        ("2026-01-31T12:00:00", 0.25, ["2026-01-29", "2026-01-30"]),  # today's stay
        ("2026-02-06T12:00:00", 7.0, ["2026-01-29", "2026-01-30"]),
        ("2026-01-31T12:00:00", 1.5, ["2026-01-29", "2026-01-30"]),
        ("2026-01-31T11:59:00", 1.5, ["2026-01-29"]),
    ],
)
def test_a_day_of_pictures_goes_before_its_first_row(
    tmp_path: Path, now: str, keep_days: float, gone: list[str]
) -> None:
    store = store_at(tmp_path)
    days = ["2026-01-29", "2026-01-30", "2026-01-31"]
    for day in days:
        put(store, 1, "REJECT", day=day)
    first_kept = first_day_kept(datetime.fromisoformat(now).replace(tzinfo=timezone.utc), keep_days)
    while store.drop_before(first_kept):
        pass
    assert sorted(day.name for day in tmp_path.iterdir()) == [day for day in days if day not in gone]


def test_the_disks_answers_are_told_one_by_one(tmp_path: Path) -> None:
    before = store_at(tmp_path)
    for part_id in range(1, 11):
        put(before, part_id, "PASS")
    answers: list[int] = []
    store = ImageStore(tmp_path, max_bytes=2 * len(BODY), free_min_bytes=0, on_answer=lambda: answers.append(1))
    store.open()
    while store.look():
        pass
    assert len(answers) >= 10, "counting"
    answers.clear()
    put(store, 11, "REJECT")
    assert len(answers) >= 9, "making room"


def test_what_a_kill_left_unfinished_is_not_written_into(tmp_path: Path) -> None:
    """It may have another name, elsewhere."""
    store = store_at(tmp_path)
    put(store, 1, "PASS")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"whole")
    for part_id, make in ((2, Path.hardlink_to), (3, Path.symlink_to)):
        make(tmp_path / DAYS[1] / "abc1" / f".{part_id:08d}-PASS-cam0.png.new", elsewhere)
        put(store, part_id, "PASS")
    assert elsewhere.read_bytes() == b"whole"
    assert [name.split("/")[-1][:8] for name in kept(tmp_path) if name != "elsewhere"] == [
        f"{part_id:08d}" for part_id in (1, 2, 3)
    ]


def test_it_looks_at_the_past_in_slices(tmp_path: Path) -> None:
    before = store_at(tmp_path)
    for session in ("abc1", "abc2", "abc3"):
        put(before, 1, "PASS", session=session)
    store = store_at(tmp_path)
    seen = [store.kept_bytes]
    while store.look():
        seen.append(store.kept_bytes)
    assert seen == [0, 1_000, 2_000, 3_000]


def test_what_is_not_ours_is_never_touched(tmp_path: Path) -> None:
    path, elsewhere = tmp_path / "kept", tmp_path / "elsewhere"
    foreign = [
        path / "00000001-PASS-cam0.png",
        path / "notes" / "abc1" / "00000001-PASS-cam0.png",
        path / DAYS[0] / "00000001-PASS-cam0.png",
        path / DAYS[0] / "Mine" / "00000001-PASS-cam0.png",
        path / DAYS[0] / "abc1" / "picture.png",
        path / DAYS[0] / "abc1" / ".hidden.new",
        path / DAYS[0] / "abc1" / "deep" / "00000001-PASS-cam0.png",
        elsewhere / "abc1" / "00000001-PASS-cam0.png",
        elsewhere / "00000001-PASS-cam0.png",
    ]
    for file in foreign:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(BODY)
    (path / "2026-01-29").symlink_to(elsewhere, target_is_directory=True)
    (path / DAYS[0] / "abc0").symlink_to(elsewhere, target_is_directory=True)
    (path / DAYS[0] / "abc1" / "00000002-PASS-cam0.png").symlink_to(elsewhere / "00000001-PASS-cam0.png")
    store = store_at(path, pictures=1)
    for part_id in range(3, 6):
        put(store, part_id, "PASS", day=DAYS[0])
    assert all(file.read_bytes() == BODY for file in foreign)
    assert (path / DAYS[0] / "abc1" / "00000002-PASS-cam0.png").is_symlink()
    assert len(kept(path)) - 7 - 1 == 1, "of ours the newest is left"


def test_a_link_in_the_place_of_a_day_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    store = store_at(tmp_path / "kept")
    (tmp_path / "kept" / DAYS[1]).symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(OSError, match=r"Not a directory|symbolic links"):
        put(store, 1, "PASS")
    assert not list((tmp_path / "elsewhere").iterdir())


class Disk(NamedTuple):
    """Free space as the test says."""

    f_bavail: int
    f_frsize: int = 1


def test_the_floor_of_free_disk_takes_pictures_away_and_then_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ImageStore(tmp_path, max_bytes=1_000_000, free_min_bytes=5_000)
    store.open()
    monkeypatch.setattr(os, "fstatvfs", lambda _: Disk(100_000))
    for part_id in range(1, 5):
        put(store, part_id, "PASS")
    monkeypatch.setattr(os, "fstatvfs", lambda _: Disk(4_500))
    put(store, 5, "REJECT")
    assert [name.split("/")[-1][:8] for name in kept(tmp_path)] == ["00000003", "00000004", "00000005"]
    monkeypatch.setattr(os, "fstatvfs", lambda _: Disk(0))
    with pytest.raises(OSError, match="no picture left to delete") as error:
        put(store, 6, "REJECT")
    assert error.value.errno == errno.ENOSPC
    assert kept(tmp_path) == []
    monkeypatch.setattr(os, "fstatvfs", lambda _: Disk(100_000))
    put(store, 6, "REJECT")
    assert len(kept(tmp_path)) == 1


def test_a_folder_that_was_away_is_looked_at_anew(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    store = store_at(path, pictures=3)
    put(store, 1, "PASS")
    path.rename(tmp_path / "away")
    with pytest.raises(FileNotFoundError):
        put(store, 2, "PASS")
    store.forget()
    with pytest.raises(FileNotFoundError):
        put(store, 2, "PASS")
    (tmp_path / "away").rename(path)
    put(store, 2, "PASS")
    while store.look():
        pass
    assert store.kept_bytes == 2 * len(BODY)


def test_the_same_picture_told_twice_counts_once(tmp_path: Path) -> None:
    store = store_at(tmp_path)
    put(store, 1, "PASS")
    put(store, 1, "PASS")
    assert store.kept_bytes == len(BODY)
