"""What is no sound record is said so, in one line, with status 2; nothing of it is destroyed, and nothing put beside it."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.bench.tampering import made_results
from pipeline.cli.records import records
from pipeline.record.faults import RecordDamaged, RecordFault
from pipeline.record.files import set_aside
from pipeline.record.segment import SCHEMA_VERSION
from pipeline.record.store import RecordStore
from pipeline.record.verify import verify

COMMANDS = ("verify", "stats", "show", "export")
NOBODY = 65534
Spoil = Callable[[Path], None]


def open_store(record: Path, session_id: str = "s0") -> RecordStore:
    return RecordStore(record, session_id, budget_us=5_000, deadline_us=40_000)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a record in three segments, as an orderly stop leaves it."""
    folder = tmp_path_factory.mktemp("sound") / "record"
    rows = list(made_results(300))
    store = open_store(folder / "records.db")
    store.commit(rows[:100], [])
    store.seal()
    store.commit(rows[100:200], [])
    store.seal()
    store.commit(rows[200:], [])
    store.end_run()
    store.close()
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    shutil.copytree(sound, tmp_path / "record")
    return tmp_path / "record"


def contents(folder: Path) -> dict[str, bytes | None]:
    """What every file holds; an index is SQLite's own scratch."""
    return {
        str(file.relative_to(folder)): file.read_bytes() if file.is_file() and not file.name.endswith("-shm") else None
        for file in folder.rglob("*")
    }


def ask(command: str, folder: Path, target: Path) -> tuple[int, str]:
    """Exit status, and what was said."""
    more = {"show": ["7"], "export": [str(target)]}.get(command, [])
    done = CliRunner().invoke(records, [command, str(folder / "records.db"), *more])
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return done.exit_code, done.output.replace("\n", " ")


def set_version(record: Path, version: int) -> None:
    with closing(sqlite3.connect(record)) as database:
        database.execute(f"PRAGMA user_version = {version}")


def half_written(record: Path) -> None:
    record.write_bytes(record.read_bytes()[: record.stat().st_size // 2])


def half_written_segment(record: Path) -> None:
    half_written(record.with_name("records-000002.db"))


def older(record: Path) -> None:
    set_version(record, 2)


def newer(record: Path) -> None:
    set_version(record, 99)


def a_directory(record: Path) -> None:
    record.unlink()
    record.mkdir()
    (record / "mine.txt").write_text("mine")


def a_pipe(record: Path) -> None:
    record.unlink()
    os.mkfifo(record)


def empty(record: Path) -> None:
    record.write_bytes(b"")


def text(record: Path) -> None:
    record.write_text("part,verdict\n1,PASS\n" * 1_000)


def anothers_database(record: Path) -> None:
    record.unlink()
    with closing(sqlite3.connect(record)) as database:
        database.execute("CREATE TABLE mine (id INTEGER PRIMARY KEY)")
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def two_of_a_number(record: Path) -> None:
    shutil.copyfile(record.with_name("records-000001.db"), record.with_name("records-0000001.db"))


def a_segment_under_anothers_name(record: Path) -> None:
    shutil.copyfile(record.with_name("records-000001.db"), record.with_name("records-000002.db"))


def missing_segment(record: Path) -> None:
    record.with_name("records-000002.db").unlink()


def nothing(record: Path) -> None:
    for file in record.parent.iterdir():
        file.unlink()


BAD: dict[Spoil, str] = {
    half_written: "cannot be read: database disk image is malformed; keep it as it is: `sqlite3 FILE .recover` shows",
    half_written_segment: "records-000002.db: cannot be read: database disk image is malformed",
    older: f"is of version 2, expected version {SCHEMA_VERSION}; read it with an older Lineside",
    newer: f"is of version 99, expected version {SCHEMA_VERSION}; read it with a newer Lineside",
    a_directory: "got a folder, expected a file",
    a_pipe: "got a pipe, socket or device, expected a file",
    empty: "is empty, expected a record of Lineside",
    text: "cannot be read: file is not a database; expected the SQLite file of a record",
    anothers_database: "the file is no record of Lineside",
    two_of_a_number: "got records-0000001.db and records-000001.db for segment 1, expected one",
    a_segment_under_anothers_name: "holds segment 1, expected records-000001.db as its name",
    missing_segment: "records-000002.db is missing, expected it between rows 100 and 201; put it back",
    nothing: "got nothing, expected a file",
}
FOUND_BY_VERIFY: dict[Spoil, str] = {
    a_segment_under_anothers_name: "root: records-000002.db begins with a row that was there already",
    missing_segment: "missing: 100 rows are missing before records.db",
}
"""To read on is what it is for: status 1, as with everything that it finds."""


@pytest.mark.parametrize("spoil", BAD, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("command", COMMANDS)
def test_bad_input_is_said_and_left_as_it_is(command: str, spoil: Spoil, folder: Path, tmp_path: Path) -> None:
    spoil(folder / "records.db")
    before = contents(folder)
    target = tmp_path / "out.csv"
    status, said = ask(command, folder, target)
    found = FOUND_BY_VERIFY.get(spoil) if command == "verify" else None
    assert (found or BAD[spoil]) in said
    assert status == (1 if found is not None else 2)
    assert str(folder) in said
    assert contents(folder) == before
    assert not target.exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_a_sound_record_is_left_as_it_is_too(command: str, folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    assert ask(command, folder, tmp_path / "out.csv")[0] == 0
    assert contents(folder) == before


@pytest.mark.parametrize("command", ["verify", "stats", "show"])
@pytest.mark.parametrize("name", ["records.db", "records-000001.db", "anchors.jsonl", "line.yaml"])
def test_a_result_takes_the_place_of_results_alone(command: str, name: str, folder: Path) -> None:
    (folder / "anchors.jsonl").write_text('{"row_count": 1, "head": "0"}\n')
    (folder / "line.yaml").write_text("schema: lineside.line/1\n")
    before = contents(folder)
    more = ["7"] if command == "show" else []
    asked = [command, str(folder / "records.db"), *more, "--json"]
    done = CliRunner().invoke(records, [*asked, str(folder / name)])
    assert (done.exit_code, "something other than a result" in done.output) == (2, True)
    assert contents(folder) == before
    for _ in range(2):
        assert CliRunner().invoke(records, [*asked, str(folder / "result.json")]).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show", str(2**63)), "less than or equal to 9007199254740991"),
        (("show", "0"), "greater than or equal to 1"),
        (("stats", "--since", "2026-99-99"), "--since: got '2026-99-99', expected a moment that there is"),
        (("stats", "--until", "now"), "--until: got 'now', expected a moment as 2026-01-31"),
    ],
)
def test_no_such_part_or_moment(arguments: tuple[str, ...], words: str, folder: Path) -> None:
    command, *more = arguments
    done = CliRunner().invoke(records, [command, str(folder / "records.db"), *more])
    assert done.exit_code == 2
    assert words in " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize("command", COMMANDS)
def test_a_link_to_a_record_is_the_whole_of_it(command: str, folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "elsewhere" / "records.db"
    link.parent.mkdir()
    link.symlink_to(folder / "records.db")
    status, said = ask(command, link.parent, tmp_path / "out.csv")
    assert status == 0
    assert {"verify": "300", "stats": "300 parts", "show": "part      7", "export": "300 parts"}[command] in said


@pytest.mark.parametrize("command", COMMANDS)
def test_the_log_that_a_kill_left_over_is_read_and_left(command: str, tmp_path: Path) -> None:
    writing, folder = tmp_path / "writing", tmp_path / "record"
    with closing(open_store(writing / "records.db")) as store:
        store.commit(list(made_results(50)), [])
        shutil.copytree(writing, folder)
    before = contents(folder)
    assert len(before["records.db-wal"] or b"") > 50_000
    status, said = ask(command, folder, tmp_path / "out.csv")
    assert status == 0, said
    assert verify(folder / "records.db").rows == 50
    assert contents(folder) == before


@pytest.mark.parametrize("command", COMMANDS)
def test_a_log_that_belongs_to_another_file_changes_nothing(command: str, folder: Path, tmp_path: Path) -> None:
    (folder / "records.db-wal").write_bytes(b"another's" * 1_000)
    before = contents(folder)
    assert ask(command, folder, tmp_path / "out.csv")[0] == 0
    after = contents(folder)
    after.pop("records.db-shm", None)
    assert after == before


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Where any user may look; pytest's own folders are their owner's alone."""
    with tempfile.TemporaryDirectory(prefix="lineside-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_permission(command: str, folder: Path, open_folder: Path) -> None:
    """As another user, since the tests may run as root, whom no permission stops."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user for a while")
    folder = Path(shutil.move(folder, open_folder / "record"))
    # Everything that is needed is imported before.
    assert ask(command, folder, open_folder / "before.csv")[0] == 0
    (folder / "records.db").chmod(0o600)
    before = contents(folder)
    os.seteuid(NOBODY)
    try:
        status, said = ask(command, folder, open_folder / "out.csv")
    finally:
        os.seteuid(0)
    assert status == 2, said
    assert "cannot be read: permission denied; ask as the user that the service runs as" in said
    assert contents(folder) == before


# --- the service ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (older, f"is of version 2, this service writes version {SCHEMA_VERSION}; move the file away"),
        (newer, f"is of version 99, this service writes version {SCHEMA_VERSION}; move the file away"),
        (a_directory, "got a folder, expected a file; name another under records.path"),
        (a_pipe, "got a pipe, socket or device, expected a file; name another under records.path"),
        (text, "the file is no record of Lineside; move it away or name another under records.path"),
        (anothers_database, "the file is no record of Lineside"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_service_does_not_begin_on_it(spoil: Spoil, words: str, folder: Path) -> None:
    spoil(folder / "records.db")
    before = contents(folder)
    with pytest.raises(RecordFault, match=words):
        open_store(folder / "records.db", "s1")
    assert contents(folder) == before


def test_a_service_sets_a_half_written_one_aside_as_it_is(folder: Path) -> None:
    record = folder / "records.db"
    half_written(record)
    before = contents(folder)
    with pytest.raises(RecordDamaged):
        open_store(record, "s1")
    assert contents(folder) == before
    aside = set_aside(record, "s1")
    assert aside.read_bytes() == before["records.db"]
    with closing(open_store(record, "s1")) as store:
        assert store.head()[0] == 200  # the sealed ones stand


@pytest.mark.parametrize("spoil", [missing_segment, two_of_a_number, a_segment_under_anothers_name])
def test_a_service_goes_on_behind_what_it_does_not_need(spoil: Spoil, folder: Path) -> None:
    record = folder / "records.db"
    spoil(record)
    before = contents(folder)
    with closing(open_store(record, "s1")) as store:
        store.commit(list(made_results(310))[300:], [])
        assert store.head()[0] == 310
        store.end_run()
    after = contents(folder)
    assert {name: after[name] for name in before if name != "records.db"} == {
        name: body for name, body in before.items() if name != "records.db"
    }
