"""The challenge: known parts in a stated order, and what comes of how they were judged."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.challenge import ChallengeRun, Moment, Product
from pipeline.challenge_file import BadChallengeFile, ChallengeFile
from pipeline.config_sections import ChallengeKind
from pipeline.messages import ChallengeOutcome
from vision.types import Verdict

KINDS = [
    ChallengeKind(kind="scratch", expected="REJECT", count=3),
    ChallengeKind(kind="good", expected="PASS", count=4, wrong_max=1),
]
WRONG = {"PASS": [Verdict.REJECT, Verdict.NO_DECISION], "REJECT": [Verdict.PASS, Verdict.NO_DECISION]}
EXPECTED = [Verdict(kind.expected) for kind in KINDS for _ in range(kind.count)]


def ended(run: ChallengeRun) -> ChallengeOutcome:
    return run.outcome(Product("r", "1", "m", "w"), Moment(1, "b", 2))


def run_of(judged: list[Verdict]) -> ChallengeRun:
    run = ChallengeRun(KINDS, "Anna", "r1")
    for part_id, verdict in enumerate(judged, 17):
        run.opened(part_id)
        run.decided(part_id, verdict)
    return run


def test_the_operator_is_told_what_comes_next() -> None:
    run = ChallengeRun(KINDS, "Anna", "r1")
    told = [run.progress()]
    for part_id in range(7):
        run.opened(part_id)
        run.decided(part_id, Verdict.PASS)
        told.append(run.progress())
    assert told[0] == "challenge by Anna: part 1 of 3 of kind scratch, which is to be rejected"
    assert told[3] == "challenge by Anna: part 1 of 4 of kind good, which is to be passed"
    assert told[6] == "challenge by Anna: part 4 of 4 of kind good, which is to be passed"
    assert run.is_complete


@given(st.data())
def test_it_passes_where_no_kind_has_more_wrong_parts_than_it_may(data: st.DataObject) -> None:
    wrong = [data.draw(st.booleans()) for _ in EXPECTED]
    judged = [
        data.draw(st.sampled_from(WRONG[expected.value])) if is_wrong else expected
        for expected, is_wrong in zip(EXPECTED, wrong, strict=True)
    ]
    outcome = ended(run_of(judged))
    assert outcome.passed == (sum(wrong[:3]) == 0 and sum(wrong[3:]) <= 1)
    assert [kind.wrong_count for kind in outcome.kinds] == [sum(wrong[:3]), sum(wrong[3:])]
    for kind in outcome.kinds:
        assert (kind.kind in outcome.text) == (kind.wrong_count > kind.wrong_max)


@given(st.permutations(range(7)))
def test_parts_belong_to_kinds_in_the_order_of_their_triggers(order: list[int]) -> None:
    """A part may be decided after the one behind it."""
    run = ChallengeRun(KINDS, "Anna", "r1")
    for part_id in range(9):
        run.opened(part_id)
    for part_id in order:
        assert not run.is_complete
        run.decided(8, Verdict.REJECT)
        run.decided(part_id, EXPECTED[part_id])
    assert run.is_complete, "a part beyond the last that is decided before them does not stand for any"
    assert ended(run).passed


@pytest.mark.parametrize("count", range(7))
def test_one_that_is_left_early_has_failed(count: int) -> None:
    run = run_of(EXPECTED[:count])
    assert not run.is_complete
    outcome = ended(run)
    assert not outcome.passed
    assert f"only {max(0, count - 3)} of 4 parts of kind good came" in outcome.text


def test_parts_are_shown_in_turn() -> None:
    run = ChallengeRun([ChallengeKind(kind="dent", expected="REJECT", count=5, part_count=2)], "Anna", "r1")
    told = []
    for part_id in range(5):
        told.append(run.progress())
        run.opened(part_id)
        run.decided(part_id, Verdict.REJECT)
    assert ["number 1 of your 2" in text for text in told] == [True, False, True, False, True]


def test_parts_beyond_the_last_count_for_nothing() -> None:
    assert ended(run_of([*EXPECTED, Verdict.REJECT, Verdict.REJECT])).passed


def test_the_outcome_is_kept_whole(tmp_path: Path) -> None:
    file = ChallengeFile(tmp_path / "records.db")
    assert file.read() is None
    outcome = ended(run_of(EXPECTED))
    file.write(outcome)
    assert file.read() == outcome
    assert [path.name for path in tmp_path.iterdir()] == ["records.db.challenge"]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    file = ChallengeFile(tmp_path / "records.db")
    os.mkfifo(file.path)
    with pytest.raises(BadChallengeFile, match="a pipe"):
        file.read()
    file.path.unlink()
    file.path.symlink_to("/dev/zero")
    with pytest.raises(BadChallengeFile, match="a link"):
        file.read()


@pytest.mark.parametrize("moment", [b'1%s,"b",2', b'1,"b",2%s', b'-1%s,"b",2', b'1,"b",-2%s'])
def test_a_moment_beyond_all_clocks_is_none(tmp_path: Path, moment: bytes) -> None:
    file = ChallengeFile(tmp_path / "records.db")
    file.write(ended(run_of(EXPECTED)))
    written = file.path.read_bytes()
    file.path.write_bytes(written.replace(b'1,"b",2', moment % (b"0" * 19)))
    assert file.path.read_bytes() != written
    with pytest.raises(BadChallengeFile):
        file.read()


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'["ChallengeOutcome",true]', b"\xff\xfe", b"[" * 100_000])
def test_a_file_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    file = ChallengeFile(tmp_path / "records.db")
    file.path.write_bytes(content)
    with pytest.raises(BadChallengeFile, match=r"records\.db\.challenge cannot be read"):
        file.read()
