"""The halt beside the record, as records keeps it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.halt_file import HaltFile
from pipeline.kept_halt import KeptHalt
from pipeline.messages import Halt
from tests.supervised import supervised_at


@pytest.mark.parametrize(
    ("told", "resumed", "kept", "reason"),
    [
        ("", False, "cmd/halt", "cmd/halt"),
        ("a rule", False, "cmd/halt", "a rule"),
        ("", True, "cmd/halt", ""),
        ("", False, "", ""),
    ],
)
def test_what_is_kept_counts_until_an_operator_resumes(
    tmp_path: Path, told: str, resumed: bool, kept: str, reason: str
) -> None:
    with supervised_at(tmp_path, halt=Halt(told, 1, resumed)) as (supervised, _):
        HaltFile(supervised.line.config.records.path).write(kept)
        halt = KeptHalt(supervised)
        halt.recall()
        assert halt.reason == reason
        halt.keep()
        assert HaltFile(supervised.line.config.records.path).read() == reason


def test_what_the_disk_does_not_take_is_said_and_tried_again(tmp_path: Path) -> None:
    with supervised_at(tmp_path, records={"path": "disk/records.db"}) as (supervised, heard):
        halt = KeptHalt(supervised)
        halt.take(Halt("cmd/halt"))
        text = heard.alarms()["halt-not-kept"]
        assert text is not None
        assert text.endswith("No such file or directory; were the service started now, it would come up running")
        (tmp_path / "disk").mkdir()
        # Told anew it does not wait for its turn.
        halt.take(Halt("cmd/halt"))
        assert heard.alarms() == {"halt-not-kept": None}
        assert HaltFile(supervised.line.config.records.path).read() == "cmd/halt"
