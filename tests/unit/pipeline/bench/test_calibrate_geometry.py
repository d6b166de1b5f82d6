from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from calibration.geometry.report import GeometryReport
from pipeline.bench import calibrate_geometry as suite
from pipeline.bench.board_setups import random_setup, wrong_setups
from pipeline.bench.calibrate_geometry import calibrated
from vision.camera_geometry import mm_from_undistorted

SEED = 11
"""A small one: 640x480 px."""


@cache
def report() -> GeometryReport:
    return calibrated(random_setup(SEED))


def result(**changed: Any) -> dict[str, Any]:
    share = {"count": 50, "total": 50, "share": 1.0, "low": 0.9, "high": 1.0}
    return {
        "setups": 50,
        "refused_right_setups": [],
        "field_share_of_error": {"setups_within": share},
        "stated_error": {"places_covered": share, "setups_covered_everywhere": share},
        "wrong_setups": {"blurred": ["blur: it is"]},
        **changed,
    }


def test_a_set_up_is_measured_against_its_truth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "calibrated", lambda _: report())
    told = suite.measure(SEED)
    assert told["refusals"] == []
    assert 0 < told["rms_share_of_field"] < told["max_share_of_field"] < suite.ERROR_MAX_SHARE
    assert told["is_covered"]
    assert len(told["places_covered"]) == 5


def test_a_geometry_that_errs_is_seen_to_err(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "calibrated", lambda _: report())
    monkeypatch.setattr(suite, "mm_from_undistorted", lambda *given: 1.01 * mm_from_undistorted(*given))
    told = suite.measure(SEED)
    assert told["max_share_of_field"] > suite.ERROR_MAX_SHARE
    assert not told["is_covered"]
    assert not any(told["places_covered"][corner] for corner in ("upper left", "lower right"))


def test_a_shift_and_a_turn_are_no_error_but_a_scale_is() -> None:
    true = np.random.default_rng(0).uniform(-50, 50, (30, 2))
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    moved = true @ turn.T + [5.0, -7.0]
    assert suite._less_shift_and_turn(moved, true, 25).max() < 1e-9
    assert suite._less_shift_and_turn(1.1 * moved, true, 25).max() > 2.0


def test_set_ups_are_the_same_each_time_and_differ_by_seed() -> None:
    one, again, other = random_setup(3), random_setup(3), random_setup(5)
    assert one.lens == again.lens != other.lens
    assert one.measured == again.measured
    assert np.array_equal(one.hand_poses[4].rotation, again.hand_poses[4].rotation)
    assert len(wrong_setups()) >= 6


def test_a_promise_that_holds_is_no_fault() -> None:
    assert suite.faults_of(result()) == []


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"refused_right_setups": [{"seed": 4, "refusals": ["coverage"]}]}, "set-up 4 was refused: coverage"),
        ({"field_share_of_error": {"setups_within": {"count": 49}}}, "49 of 50 set-ups within 0.1%"),
        ({"wrong_setups": {"blurred": []}}, "not refused: blurred"),
        (
            {
                "stated_error": {
                    "places_covered": {"count": 200, "total": 250, "share": 0.8},
                    "setups_covered_everywhere": {"count": 0, "total": 0, "share": None},
                }
            },
            "places_covered: 200 of 250",
        ),
    ],
)
def test_a_promise_that_breaks_is_told(changed: dict[str, Any], told: str) -> None:
    assert told in "; ".join(suite.faults_of(result(**changed)))
