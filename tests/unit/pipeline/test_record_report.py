"""The record as a page: what it says against the rows that were put in, by a command that touches nothing else."""

from __future__ import annotations

import hashlib
import json
import random
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from pipeline.bench.tampering import made_results
from pipeline.cli.records import records
from pipeline.messages import GiveReview
from pipeline.payloads import DefectResult, ResultPayload, TraceabilityKeys
from pipeline.record.context import Context
from pipeline.record.reader import RecordedRow, count_late_words, read_rows
from pipeline.record.store import RecordStore
from pipeline.record.survey import PICTURES_MAX, RecordSurvey, TimeSpans
from pipeline.tally import latency_of
from tests.browser import browser
from tests.unit.pipeline.test_record_store import LATE
from tests.unit.pipeline.test_report import HOSTILE, Strict

ROWS = 400
BEGIN = datetime(2026, 1, 31, 6, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def results() -> list[ResultPayload]:
    """Two sessions with two hours between them, three seconds a part; every reject with a score of its own."""
    order = random.Random(4)
    made = []
    for number, result in enumerate(made_results(ROWS)):
        moment = BEGIN + timedelta(seconds=3 * number, hours=2 * (number >= 250))
        session, part = ("s0", number + 1) if number < 250 else ("s1", number - 249)
        defects = []
        if result.verdict == "REJECT":
            name = order.choice(["scratch", "scratch", "dent", HOSTILE])
            defects.append(
                DefectResult(
                    class_name=name,
                    score=0.5 + number / 1_000,
                    camera_id="cam0",
                    box_px=(4, 5, 20, 21),
                    box_mm=None,
                    area_mm2=None,
                )
            )
        made.append(
            msgspec.structs.replace(
                result,
                session_id=session,
                part_id=part,
                seq=part,
                trigger_utc=f"{moment:%Y-%m-%dT%H:%M:%S}.000000Z",
                defects=defects,
                image_ref=f"{moment:%Y-%m-%d}/{session}/{part:08d}" if defects else None,
            )
        )
    return made


@pytest.fixture
def record(tmp_path: Path, results: list[ResultPayload]) -> Path:
    path = tmp_path / "records.db"
    for session in ("s0", "s1"):
        store = RecordStore(path, session, budget_us=5_000, deadline_us=40_000)
        store.commit([result for result in results if result.session_id == session], [LATE] if session == "s0" else [])
        if session == "s0":
            store.seal()
        store.close()
    return path


def run(*arguments: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(records, [str(each) for each in arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.output


def page_of(folder: Path) -> tuple[Strict, str]:
    page = Strict((folder / "index.html").read_text(encoding="utf-8"))
    return page, " ".join(" ".join(page.text).replace("\u00a0", " ").split())


def test_the_page_says_what_the_rows_say(record: Path, results: list[ResultPayload], tmp_path: Path) -> None:
    status, told = run("stats", record, "--report", tmp_path / "report")
    assert (status, f"report in {tmp_path / 'report' / 'index.html'}" in told.replace("\n", "")) == (0, True)
    page, words = page_of(tmp_path / "report")
    rejected = sum(result.verdict == "REJECT" for result in results)
    passed = sum(result.verdict == "PASS" for result in results)
    assert f"Parts {ROWS} 2 sessions" in words
    assert f"PASS {passed} {100 * passed / (passed + rejected):.1f} % (95 %:" in words
    assert "Verified without an anchor: every row follows from the one before it." in words
    assert "Not proven, that none of this was done: rows cut off from the end" in words
    assert "the whole record" in words
    scratches = sum(result.defects[0].class_name == "scratch" for result in results if result.defects)
    assert f"scratch {scratches} " in words
    assert "cam0 PASS OK 1" in words
    assert "No gaps" in words
    assert "2:00:03 2026-01-31 06:12:27 2026-01-31 08:12:30" in words
    assert "No folder of kept pictures is known" in words
    worst = max((result for result in results if result.defects), key=lambda result: result.defects[0].score)
    assert f"{worst.part_id} {worst.session_id} {worst.trigger_utc[:19].replace('T', ' ')} DEFECT" in words
    slowest = max(latency_of(result) or 0 for result in results)
    assert f"{slowest:,}" in words
    assert page.all("script") == []
    assert len(page.all("img")) == 6


def test_known_parts_are_told_apart(results: list[ResultPayload], tmp_path: Path) -> None:
    """A third of the parts, passed ones among them, is a challenge's: rates and pictures are of the others."""
    path = tmp_path / "records.db"
    store = RecordStore(path, "s0", budget_us=5_000, deadline_us=40_000)
    of_production = [result for result in results[:240] if result.part_id % 3]
    known = [
        msgspec.structs.replace(result, verdict="REJECT", reason="CHALLENGE", is_challenge=True)
        for result in results[:240]
        if not result.part_id % 3
    ]
    store.commit(sorted(of_production + known, key=lambda result: result.part_id), [])
    store.close()
    status, told = run("stats", path, "--report", tmp_path / "report")
    assert status == 0
    assert f"of a challenge {len(known)}; yield" in " ".join(told.split())
    _, words = page_of(tmp_path / "report")
    passed, rejected = (sum(each.verdict == verdict for each in of_production) for verdict in ("PASS", "REJECT"))
    assert f"PASS {passed} {100 * passed / (passed + rejected):.1f} % (95 %:" in words
    assert f"REJECT, of a challenge {len(known)} known parts" in words
    assert f"challenge {len(known)} of the parts are challenge parts: not in yields, rates and scores" in words
    survey = RecordSurvey(5_000, PICTURES_MAX)
    for row in read_rows(path):
        survey.add(row)
    assert sum(sum(counts) for _, *counts in survey.over_time.spans()) == len(of_production)
    assert not any(result.is_challenge for result in [*survey.worst, *survey.last])


def test_only_the_parts_wanted(record: Path, tmp_path: Path) -> None:
    status, _ = run(
        "stats", record, "--session", "s1", "--until", "2026-01-31T08:13", "--report", tmp_path / "r", "--no-verify"
    )
    assert status == 0
    _, words = page_of(tmp_path / "r")
    assert "Parts 10 1 sessions" in words
    assert "session s1" in words
    assert "triggered before (UTC) 2026-01-31T08:13" in words
    assert "Not verified: nobody looked" in words
    assert "No inspection came after its part was decided." in words


def test_a_record_without_parts(record: Path, tmp_path: Path) -> None:
    assert run("stats", record, "--since", "2027-01-01", "--report", tmp_path / "r")[0] == 0
    assert "no parts" in page_of(tmp_path / "r")[1]


def test_state_of_proof(record: Path, tmp_path: Path) -> None:
    rows = list(read_rows(record))
    anchors = tmp_path / "anchors"
    report = tmp_path / "report"

    def told(last: int) -> str:
        anchors.write_text(json.dumps({"row_count": last, "head": rows[last - 1].result.row_hash}))
        assert run("stats", record, "--report", report, "--anchor", anchors)[0] == 0
        return page_of(report)[1]

    assert "Verified up to its last row against 1 anchors" in told(ROWS)
    assert f"proven by an anchor up to row 300 of {ROWS}" in told(300)
    with closing(sqlite3.connect(record, isolation_level=None)) as database:
        database.execute("DELETE FROM part WHERE id = ?", (ROWS,))
        database.execute("DELETE FROM part WHERE id = 320")
    assert "NOT as it was written" in run("stats", record, "--report", report)[1]
    words = told(ROWS)
    assert "NOT as it was written: 3 findings. Do not rely on these figures." in words
    assert "Row 320: missing" in words
    assert "Verdicts that are missing in the record" in words


def test_pictures_of_the_parts(record: Path, results: list[ResultPayload], tmp_path: Path) -> None:
    images = tmp_path / "images"
    with_defects = [result for result in results if result.defects]
    for result in with_defects[-4:]:
        assert result.image_ref is not None
        file = images / f"{result.image_ref}-REJECT-cam0.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.full((40, 60), 90, np.uint8))
        (file.parent / f"{result.part_id:08d}-REJECT-cam0~thumb.jpg").write_bytes(b"")
        (file.parent / f"{result.part_id:08d}9-REJECT-cam0.png").write_bytes(b"of another part")
    assert run("stats", record, "--report", tmp_path / "r", "--images", images)[0] == 0
    page, words = page_of(tmp_path / "r")
    # The last parts are the worst ones too, so each is there twice.
    pictures = [each for each in page.all("img") if (each["alt"] or "").startswith("Part ")]
    assert len(pictures) == 8
    assert len(page.all("rect")) == 8
    assert words.count("its picture was dropped, or pruned since") == 2 * (PICTURES_MAX - 4)


def test_a_folder_of_pictures_that_cannot_be_read(record: Path, results: list[ResultPayload], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for result in results:
        if result.image_ref is not None:
            (tmp_path / "images" / result.image_ref.partition("/")[0]).touch()
    assert run("stats", record, "--report", tmp_path / "r", "--images", tmp_path / "images")[0] == 0
    assert "its picture cannot be read: Not a directory" in page_of(tmp_path / "r")[1]


def test_a_ref_that_leads_out_of_the_folder(results: list[ResultPayload], tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "secret-REJECT-cam0.png").write_bytes(b"")
    rejected = next(result for result in results if result.defects)
    store = RecordStore(tmp_path / "records.db", "s0", budget_us=5_000, deadline_us=40_000)
    hostile = [
        msgspec.structs.replace(rejected, part_id=number, seq=number, session_id="s0", image_ref=ref)
        for number, ref in enumerate(["../secret", "2026-01-31/../secret", "/etc/passwd", HOSTILE, ""], 1)
    ]
    store.commit(hostile, [])
    store.close()
    assert run("stats", tmp_path / "records.db", "--report", tmp_path / "r", "--images", tmp_path / "images")[0] == 0
    page, words = page_of(tmp_path / "r")
    assert f"No pictures of these parts in {tmp_path / 'images'}: its picture was dropped, or pruned since." in words
    assert not any("Part" in (each["alt"] or "") for each in page.all("img"))


def test_rows_that_make_no_sense_are_shown_all_the_same(results: list[ResultPayload], tmp_path: Path) -> None:
    far = (2**62, -(2**62), 2**61)
    store = RecordStore(tmp_path / "records.db", "s0", budget_us=5_000, deadline_us=40_000)
    odd = [
        msgspec.structs.replace(
            results[number], session_id=HOSTILE, part_id=number + 1, trigger_utc=utc, recipe_id=HOSTILE
        )
        for number, utc in enumerate(
            ["", "never", "9999-99-99T00:00:00", "0001-01-01T00:00:00", "2026-01-31T06:00:00", "\u202e"]
        )
    ]
    odd.append(
        msgspec.structs.replace(
            odd[0], part_id=99, stages_us={"grab": 1, "unheard": 2}, deadline_ns=far[0], trigger_ns=far[1]
        )
    )
    store.commit(odd, [])
    store.close()
    assert run("stats", tmp_path / "records.db", "--report", tmp_path / "r")[0] == 0
    assert "6 parts have no readable time" in page_of(tmp_path / "r")[1]


def test_bad_usage(record: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    for arguments, words in (
        (["--report", tmp_path / "mine"], "with notes.txt in it, expected a new or empty folder"),
        (["--report", tmp_path / "a" / "b"], "expected a folder that is there"),
        (["--report", record], "expected a new or empty folder"),
        (["--images", tmp_path], "expected with --report"),
        (["--anchor", record], "expected with --report"),
        (["--report", tmp_path / "r", "--images", tmp_path / "none"], "--images: got"),
    ):
        status, told = run("stats", record, *map(str, arguments))
        assert status == 2
        assert words in told.replace("\n", " ")
    assert sorted(tmp_path.rglob("*")) == before


def test_an_unreadable_record_leaves_no_report(tmp_path: Path) -> None:
    (tmp_path / "records.db").write_text("noise " * 100)
    status, told = run("stats", tmp_path / "records.db", "--report", tmp_path / "r")
    assert status == 2
    assert "file is not a database" in told
    assert not (tmp_path / "r").exists()


def test_late_words_of_the_parts_wanted(record: Path) -> None:
    assert count_late_words(record, {"s0": (1, 250)}) == {("cam0", "PASS", "OK"): 1}
    assert count_late_words(record, {"s0": (LATE.part_id + 1, 250), "s1": (1, 150)}) == {}
    assert count_late_words(record, {}) == {}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3 * 365 * 86_400), min_size=1, max_size=400), st.integers(1, 10))
def test_spans_hold_every_part_whatever_their_width(moments: list[int], scale: int) -> None:
    spans = TimeSpans()
    for moment_s in moments:
        spans.add(moment_s // scale, "PASS")
    told = spans.spans()
    assert len(told) <= 120
    assert sum(passed for _, passed, _, _ in told) == len(moments)
    begins = [int(begin.timestamp()) for begin, *_ in told]
    assert begins == sorted({moment_s // scale // spans.width_s * spans.width_s for moment_s in moments})


def test_the_survey_keeps_few_parts_however_many_come(results: list[ResultPayload]) -> None:
    survey = RecordSurvey(budget_us=0, pictures_max=3)
    for lap in range(5):
        for row, result in enumerate(results):
            survey.add(RecordedRow(lap * ROWS + row + 1, Path("x"), result))
    rejects = [result for result in results if result.defects]
    assert [result.part_id for result in survey.last] == [result.part_id for result in rejects[-1:-4:-1]]
    assert {result.part_id for result in survey.worst} == {rejects[-1].part_id}
    assert survey.over_budget == 5 * sum(latency_of(result) is not None for result in results) > 0
    assert sum(int(counts.sum()) for counts in survey.scores.values()) <= 5 * ROWS


def test_what_parts_belong_to_were_judged_with_and_what_people_said(
    results: list[ResultPayload], tmp_path: Path
) -> None:
    recipe = {"rules": [{"class": HOSTILE, "reject_at_score": 0.75}, {"class": "odd", "reject_at_score": "high"}, 7]}
    body = json.dumps({"recipe": recipe, "recipe_sha256": "a" * 64, "fingerprint_sha256": HOSTILE, "version": "1.2.3"})
    context = Context(hashlib.sha256(body.encode()).hexdigest(), body)
    store = RecordStore(tmp_path / "records.db", "s0", budget_us=5_000, deadline_us=40_000)
    keyed = [
        msgspec.structs.replace(
            result,
            context_sha256=context.sha256,
            traceability=TraceabilityKeys(lot=["L1", HOSTILE][number >= 30], shift="early"),
        )
        for number, result in enumerate(results[:100])
    ]
    store.commit(keyed, [], context=context)
    rejected = [result.part_id for result in keyed if result.verdict == "REJECT"]
    for number, part_id in enumerate(rejected[:6]):
        said = GiveReview(part_id, None, "good" if number < 2 else "defective", HOSTILE)
        assert store.add_review(said, "Anna", f"r{number}") is not None
    store.close()
    assert run("stats", tmp_path / "records.db", "--report", tmp_path / "r")[0] == 0
    page, words = page_of(tmp_path / "r")
    assert "L1 - early 30" in words
    assert f"{context.sha256[:19]}… {'a' * 19}…" in words
    assert "1.2.3 100" in words
    assert "Reviews by people, of 6 parts" in words
    assert "overruled the person says the opposite 2 33.3 %" in words
    assert "false rejects of these: rejected, and good 2" in words
    assert "People's reviews: 6, proven by an anchor up to number 0." in words
    assert "thresholds of the recipes that judged them" in words
    assert page.all("script") == []
    assert run("stats", tmp_path / "records.db", "--report", tmp_path / "r", "--lot", "L1")[0] == 0
    words = page_of(tmp_path / "r")[1]
    assert "Parts 30 1 sessions" in words
    assert "lot L1" in words
    with closing(sqlite3.connect(tmp_path / "records.db", isolation_level=None)) as database:
        database.execute("UPDATE context SET body = '{}'")
    assert run("stats", tmp_path / "records.db", "--report", tmp_path / "r")[0] == 0
    assert "its context is not there as it was" in page_of(tmp_path / "r")[1]


def test_a_browser_shows_the_record(record: Path, tmp_path: Path) -> None:
    assert run("stats", record, "--report", tmp_path / "r")[0] == 0
    with browser(tmp_path / "profile") as seen:
        seen.open(tmp_path / "r" / "index.html")
        sizes = seen.value("[...document.images].map(i => [i.naturalWidth, i.clientWidth, i.clientHeight])")
        assert len(sizes) == 6
        assert all(min(size) > 100 for size in sizes)
        # Nothing sticks out of the page.
        assert seen.value("document.documentElement.scrollWidth <= window.innerWidth")
    assert all(told["request"]["url"].startswith(("file:", "data:")) for told in seen.told("Network.requestWillBeSent"))
    assert seen.told("Log.entryAdded") == seen.told("Runtime.exceptionThrown") == []
