from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.bench import decode as suite


@pytest.mark.parametrize("above", [50, 1_000, 8_400])
def test_so_many_candidates_are_above_the_threshold(above: int) -> None:
    tensor = suite.predictions(above)
    assert tensor.shape == (84, 8_400)
    assert (tensor[4:].max(axis=0) > 0.25).sum() == above
    assert tensor[4:].min() >= 0.0
    assert tensor[4:].max() <= 1.0


def test_every_chain_is_timed_on_one_thread_and_the_threads_are_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "_ABOVE", (50,))
    threads = cv2.getNumThreads()
    result: dict[str, Any] = suite.decode(rounds=3)
    assert cv2.getNumThreads() == threads
    (case,) = result["cases"].values()
    assert case["candidates_above"] == 50
    assert case["findings"] > 0
    for name in ("decoder", "opencv", "numpy", "opencv_checked", "numpy_checked"):
        assert case[f"{name}_us"]["count"] == 3
    assert case["times_as_fast_as_the_better"]["ratio"] > 0


def test_a_rival_that_finds_something_else_ends_the_suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suite, "_ABOVE", (50,))
    honest = suite._numpy

    def less(tensor: suite.Floats) -> suite.Found:
        class_ids, scores, boxes = honest(tensor)
        return class_ids[1:], scores[1:], boxes[1:]

    monkeypatch.setattr(suite, "_numpy", less)
    with pytest.raises(suite.DifferentFindings, match="numpy: got"):
        suite.decode(rounds=1)


def test_what_is_no_probability_is_seen_by_the_check() -> None:
    tensor = suite.predictions(50)
    suite._checked(tensor)
    tensor[30, 400] = np.nan
    with pytest.raises(ValueError, match="probabilities"):
        suite._checked(tensor)
