"""Which parts are the most central."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibration.teaching.central import CENTRAL_SHARE, most_central, robust_strangeness
from tests.good_parts import LAYER_OF_MANY, LAYERS, Features, growth_of_memory, maps

COUNT = 60


def alike(count: int, odd: list[int], *, by: float, seed: int = 0) -> Features:
    """Those parts are odd at one place in one way."""
    features = maps(count, seed)
    features[odd, :, 1, 2] += np.float32(by) * np.random.default_rng(4).choice([-1, 1], features.shape[1])
    return features


@given(hnp.arrays(np.float64, st.integers(1, 80), elements=st.floats(-1e6, 1e6)))
def test_the_most_central_are_the_least_strange(strangeness: np.ndarray) -> None:
    is_central = most_central(strangeness)
    assert is_central.sum() == np.ceil(CENTRAL_SHARE * len(strangeness))
    if not is_central.all():
        assert strangeness[is_central].max() <= strangeness[~is_central].min()


@settings(max_examples=15, deadline=None)
@given(st.integers(1, COUNT // 5), st.integers(0, 1000))
def test_parts_that_are_odd_alike_are_the_strangest_however_many_and_wherever(count: int, seed: int) -> None:
    odd = np.random.default_rng(seed).permutation(COUNT)[:count].tolist()
    strange = robust_strangeness(alike(COUNT, odd, by=15.0, seed=seed), LAYERS)
    assert set(np.argsort(strange)[-count:].tolist()) == set(odd)


def test_the_order_of_parts_is_of_no_matter() -> None:
    features = alike(COUNT, [3, 8], by=3.0)
    order = np.random.default_rng(1).permutation(COUNT)
    np.testing.assert_allclose(
        robust_strangeness(features, LAYERS)[order], robust_strangeness(features[order], LAYERS), rtol=1e-6, atol=1e-6
    )


def test_how_odd_the_odd_ones_are_moves_none_of_the_others() -> None:
    odd = list(range(6))
    near, far = (robust_strangeness(alike(COUNT, odd, by=each), LAYERS)[6:] for each in (1e3, 1e5))
    np.testing.assert_allclose(near, far, rtol=0.02, atol=0.02)


def test_parts_are_read_in_blocks_as_if_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    features = maps(COUNT)
    in_blocks = robust_strangeness(features, LAYERS)
    monkeypatch.setattr("calibration.teaching.central.PARTS_AT_ONCE", 1000)
    np.testing.assert_allclose(robust_strangeness(features, LAYERS), in_blocks, rtol=1e-6, atol=1e-6)


def test_of_many_parts_some_tell_what_is_usual_and_all_are_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calibration.teaching.central._SAMPLE_PARTS", 40)
    odd = list(range(0, 200, 11))
    strange = robust_strangeness(alike(200, odd, by=8.0), LAYERS)
    assert np.isfinite(strange).all()
    assert set(np.argsort(strange)[-len(odd) :].tolist()) == set(odd)


def test_memory_does_not_grow_with_the_features(tmp_path: Path) -> None:
    assert growth_of_memory(tmp_path, 400, 2000, lambda features: robust_strangeness(features, LAYER_OF_MANY)) < 0.25


def test_parts_that_are_all_alike_are_equally_strange() -> None:
    strange = robust_strangeness(np.repeat(maps(1), 20, axis=0), LAYERS)
    assert np.ptp(strange) == 0.0
