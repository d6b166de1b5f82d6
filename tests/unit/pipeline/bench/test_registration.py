from __future__ import annotations

from typing import Any

import cv2
import pytest

from pipeline.bench import registration as suite


def test_every_method_is_timed_beside_the_preprocessing_and_held_against_the_truth(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suite, "_LOOKS", {name: suite._LOOKS[name] for name in ("as calibrated", "30 % covered")})
    threads = cv2.getNumThreads()
    result: dict[str, Any] = suite.registration(rounds=2, parts=4)
    assert cv2.getNumThreads() == threads
    for case in result["times"].values():
        for name in ("edges", "grey", "phase", "preprocess"):
            assert case[f"{name}_us"]["count"] == 2
        assert case["ratio_edges_to_preprocess"]["ratio"] > 0
    errors = result["errors"]
    assert errors["as calibrated"]["edges"]["right"] == errors["30 % covered"]["edges"]["right"] == 4
    assert errors["as calibrated"]["grey"]["right"] == errors["as calibrated"]["phase"]["right"] == 4
    assert errors["as calibrated"]["edges"]["error_of_right_px"]["max"] < 0.5
    assert errors["empty belt"]["edges"]["score_max"] < 0.3 < errors["30 % covered"]["edges"]["score_min"]
