"""The last challenge's outcome beside the record, as records keeps it."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pipeline.challenge import BEGAN
from pipeline.challenge_file import ChallengeFile
from pipeline.kept_challenge import KeptChallenge
from pipeline.messages import ChallengeOutcome, KindOutcome
from pipeline.payloads import ChallengePayload
from tests.supervised import supervised_at

OUTCOME = ChallengeOutcome(
    True,
    "all well",
    "Anna",
    "r1",
    1,
    "b",
    7,
    "r",
    "1",
    "m",
    "w",
    (KindOutcome("dent", "REJECT", 2, 1, 1, ("REJECT", "PASS")),),
)


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


def test_the_broker_is_told_once_and_again_when_it_is_on_disk(tmp_path: Path) -> None:
    with supervised_at(tmp_path, records={"path": "disk/records.db"}) as (supervised, _):
        kept = KeptChallenge(supervised)

        def heard(*, takes: bool = True) -> list[tuple[str, bool, bool]]:
            """Of what is told now: text, whether it is over, whether it is kept."""
            told: list[tuple[str, bool, bool]] = []

            def send(payload: bytes) -> bool:
                said = msgspec.json.decode(payload, type=ChallengePayload)
                told.append((said.text, said.is_over, said.is_kept))
                return takes

            kept.tell(send)
            return told

        assert heard() == []
        kept.take(msgspec.structs.replace(OUTCOME, passed=False, text=BEGAN))
        kept.keep()
        assert heard() == [(BEGAN, False, False)]
        kept.take(OUTCOME)
        assert heard(takes=False) == heard() == [("all well", True, False)]
        assert heard() == []
        (tmp_path / "disk").mkdir()
        kept.take(OUTCOME)
        kept.keep()
        assert heard() == [("all well", True, True)]
        kept.tell_again()
        assert heard() == [("all well", True, True)]
