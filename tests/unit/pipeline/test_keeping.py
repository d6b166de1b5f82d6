"""Which frames are worth keeping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.config_sections import ImagesConfig
from pipeline.keeping import Keeping, Worth
from vision.types import Inspection, Reason, Verdict

FAR_NS = 30_000_000
PASSED = Inspection(Verdict.PASS, Reason.OK, 0.1, (), 0.4)
BORDERLINE = Inspection(Verdict.PASS, Reason.OK, 0.46, (), 0.04)
REJECTED = Inspection(Verdict.REJECT, Reason.DEFECT, 0.9, (), -0.4)
BROKEN = Inspection(Verdict.NO_DECISION, Reason.FAULT, float("nan"), ())


def keeping(**changes: Any) -> Keeping:
    return Keeping(ImagesConfig.model_validate({"path": Path("x"), "every_nth_pass": None, **changes}))


@pytest.mark.parametrize(
    ("inspections", "is_whole", "left_ns", "worth"),
    [
        ([PASSED], True, FAR_NS, Worth.NOTHING),
        ([REJECTED], True, FAR_NS, Worth.ALWAYS),
        ([BROKEN], True, FAR_NS, Worth.ALWAYS),
        ([PASSED, REJECTED], True, FAR_NS, Worth.ALWAYS),
        ([PASSED], False, FAR_NS, Worth.ALWAYS),
        ([], False, -1, Worth.ALWAYS),
        ([PASSED], True, 1_000_000, Worth.UNLESS_PASSED),
        ([PASSED], True, -1_000_000, Worth.UNLESS_PASSED),
        ([BORDERLINE], True, FAR_NS, Worth.ALWAYS),
        ([PASSED, BORDERLINE], True, FAR_NS, Worth.ALWAYS),
    ],
)
def test_worth(inspections: list[Inspection], is_whole: bool, left_ns: int, worth: Worth) -> None:
    assert keeping().of_part(inspections, is_whole=is_whole, left_ns=left_ns) is worth


def test_without_a_margin_a_pass_is_a_pass() -> None:
    asked = keeping(borderline_margin=None)
    assert asked.of_part([BORDERLINE], is_whole=True, left_ns=FAR_NS) is Worth.NOTHING


def test_every_nth_of_the_passes() -> None:
    asked = keeping(every_nth_pass=3)
    worth = []
    for inspection in [PASSED, PASSED, REJECTED, PASSED, PASSED, PASSED, PASSED]:
        worth.append(asked.of_part([inspection], is_whole=True, left_ns=FAR_NS) is Worth.ALWAYS)
    assert worth == [False, False, True, True, False, False, True]


def test_nothing_is_kept_where_nothing_is_asked() -> None:
    assert Keeping(None).of_part([REJECTED], is_whole=True, left_ns=FAR_NS) is Worth.NOTHING


@pytest.mark.parametrize(
    ("inspection", "worth"), [(PASSED, Worth.UNLESS_PASSED), (REJECTED, Worth.ALWAYS), (BORDERLINE, Worth.ALWAYS)]
)
def test_what_other_places_may_still_reject_is_kept_unless_it_passes(inspection: Inspection, worth: Worth) -> None:
    assert keeping().of_part([inspection], is_whole=True, left_ns=FAR_NS, is_seen_elsewhere=True) is worth
