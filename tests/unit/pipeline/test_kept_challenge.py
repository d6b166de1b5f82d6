"""The last challenge's outcome beside the record, as records keeps it."""

from __future__ import annotations

from pathlib import Path

from pipeline.challenge_file import ChallengeFile
from pipeline.kept_challenge import KeptChallenge
from pipeline.messages import ChallengeOutcome
from tests.supervised import supervised_at

OUTCOME = ChallengeOutcome(True, "all well", "Anna", 1, "b", 7, "r", "1", "m", "w", ())


def test_signalling_can_be_told_what_is_on_disk(tmp_path: Path) -> None:
    with supervised_at(tmp_path) as (supervised, heard):
        kept = KeptChallenge(supervised)
        assert not kept.keep(), "there is nothing to keep"
        kept.take(OUTCOME)
        assert kept.keep()
        assert (kept.tried_boot_ns, kept.trouble) == (7, "")
        assert ChallengeFile(supervised.line.config.records.path).read() == OUTCOME
        assert not kept.keep()
        assert heard.alarms() == {}


def test_what_the_disk_does_not_take_is_said_and_tried_again(tmp_path: Path) -> None:
    with supervised_at(tmp_path, records={"path": "disk/records.db"}) as (supervised, heard):
        kept = KeptChallenge(supervised)
        kept.take(OUTCOME)
        assert kept.keep()
        assert kept.tried_boot_ns == 7
        assert kept.trouble.endswith("records.db.challenge: No such file or directory")
        text = heard.alarms()["challenge-not-kept"]
        assert text == f"{kept.trouble}; were the service started now, it would not know of this"
        assert not kept.keep(), "not at every turn"
        (tmp_path / "disk").mkdir()
        # Told anew it does not wait for its turn.
        kept.take(OUTCOME)
        assert kept.keep()
        assert kept.trouble == ""
        assert heard.alarms() == {"challenge-not-kept": None}
        assert ChallengeFile(supervised.line.config.records.path).read() == OUTCOME
