"""The distance from good parts, beside numpy's covariance."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.teaching.gaussian import Gaussian, Moments, Shared, gaussian_of, shared_of
from tests import naive_teaching as naive

Floats = npt.NDArray[np.float64]


def looks(part_count: int, *, place_count: int = 3, size: int = 4, seed: int = 0, per_place: bool = False) -> Floats:
    """Features that vary together, about a mean of their own at each place; ``per_place``: and together in another way there."""
    rng, at = np.random.default_rng(seed), np.random.default_rng(77)
    mixed = at.normal(0, 1, (place_count if per_place else 1, size, size)) + np.eye(size)
    noise = rng.normal(0, 1, (part_count, place_count, size, 1))
    return np.asarray(at.normal(5, 3, (place_count, size)) + (mixed @ noise)[..., 0], np.float64)


def moments_of(parts: Floats, origin: Floats | None = None) -> Moments:
    moments = Moments.none(parts.mean(axis=(0, 1)) if origin is None else origin, parts.shape[1])
    moments.add(parts)
    return moments


def fit(parts: Floats, separate_count: float = 1.0) -> tuple[Gaussian, Shared]:
    moments = moments_of(parts)
    left = parts - moments.origin
    scatter = np.einsum("npf,npg->pfg", left, left)
    shared = shared_of(moments, separate_count)
    return gaussian_of(moments, scatter, slice(0, parts.shape[1]), shared), shared


def covariance_of(gaussian: Gaussian) -> Floats:
    """What the whitening stands for: (places, features, features)."""
    return np.asarray(np.linalg.inv(gaussian.whitening.transpose(0, 2, 1) @ gaussian.whitening), np.float64)


@given(st.integers(1, 30), st.lists(st.integers(0, 3), min_size=30, max_size=30), st.integers(0, 1000))
def test_moments_add_up_however_parts_are_dealt(part_count: int, dealt: list[int], seed: int) -> None:
    parts = looks(part_count, seed=seed)
    origin = parts[0].mean(axis=0)
    whole = moments_of(parts, origin)
    none = Moments.none(origin, parts.shape[1])
    sets = [Moments.none(origin, parts.shape[1]) for _ in range(4)]
    for part, which in zip(parts, dealt, strict=False):
        sets[which].add(part[None])
    together = none.with_all_of(*sets)
    assert together.count == whole.count == part_count
    np.testing.assert_allclose(together.total, whole.total, atol=1e-9)
    np.testing.assert_allclose(together.scatter, whole.scatter, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(whole.mean + origin, parts.mean(axis=0), atol=1e-9)
    assert none.count == 0
    assert not none.total.any()


@given(st.integers(2, 60), st.integers(1, 5), st.integers(2, 6), st.floats(0.2, 50), st.integers(0, 1000))
def test_a_fit_is_the_shrunk_covariance_of_each_place(
    part_count: int, place_count: int, size: int, separate_count: float, seed: int
) -> None:
    parts = looks(part_count, place_count=place_count, size=size, seed=seed)
    gaussian, _ = fit(parts, separate_count)
    np.testing.assert_allclose(gaussian.centre, parts.mean(axis=0), atol=1e-9)
    expected = naive.covariances(parts, separate_count)
    np.testing.assert_allclose(covariance_of(gaussian), expected, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(np.triu(gaussian.whitening, 1), 0, atol=1e-12)
    others = looks(5, place_count=place_count, size=size, seed=seed + 1)
    np.testing.assert_allclose(
        gaussian.strangeness(others), naive.strangeness(others, parts, separate_count), rtol=1e-6, atol=1e-6
    )


def test_of_many_parts_it_is_the_plain_covariance() -> None:
    """What is left of shrinking is the 1 % of the covariance of all places, with the weight of so many parts as there are features
    twice.
    """
    parts = looks(20_000, per_place=True)
    gaussian, shared = fit(parts)
    assert shared.shrinkage == pytest.approx(0.01)
    for place, found in enumerate(covariance_of(gaussian)):
        np.testing.assert_allclose(found, np.cov(parts[:, place], rowvar=False), rtol=0.01, atol=0.02)
    whitened = np.einsum("pfg,npg->npf", gaussian.whitening, parts - gaussian.centre)
    for place in range(parts.shape[1]):
        np.testing.assert_allclose(np.cov(whitened[:, place], rowvar=False), np.eye(4), atol=0.05)


def test_a_usual_window_is_about_nought_strange() -> None:
    gaussian, _ = fit(looks(2_000, size=12))
    usual = np.exp(gaussian.strangeness(looks(2_000, size=12, seed=1)))
    assert usual.mean() == pytest.approx(1.0, abs=0.03)


def test_the_further_off_in_any_direction_the_stranger() -> None:
    parts = looks(50)
    gaussian, _ = fit(parts)
    direction = np.random.default_rng(4).normal(0, 1, parts.shape[1:])
    far = gaussian.centre + np.array([0.0, 1e-3, 1.0, 10.0, 1e6])[:, None, None] * direction
    strange = gaussian.strangeness(far)
    assert (np.diff(strange, axis=0) > 0).all()
    assert np.isfinite(strange).all()


@pytest.mark.parametrize("separate_count", [1.0, 40.0])
def test_a_spherical_covariance_is_taken_to_be_one(separate_count: float) -> None:
    """Parts on the axes, as far on each side: no correlation at all, so that all of it may be shrunk away."""
    size = 5
    parts = np.concatenate([np.eye(size), -np.eye(size)])[:, None, :] * 3.0
    _, shared = fit(parts, separate_count)
    assert shared.shrinkage == 1.0
    np.testing.assert_allclose(shared.correlation, np.eye(size), atol=1e-12)


def test_the_more_parts_the_less_is_shrunk() -> None:
    rng = np.random.default_rng(2)
    mixed = rng.normal(0, 1, (6, 6))
    found = []
    for count in (4, 16, 64, 256, 100_000):
        _, shared = fit((rng.normal(0, 1, (count, 1, 6)) @ mixed).reshape(count, 1, 6))
        found.append(shared.shrinkage)
    assert (np.diff(found) < 0).all()
    assert found[0] > 0.15
    assert found[-1] == 0.01


def test_each_place_is_as_all_places_are_where_parts_are_few_and_itself_where_they_are_many() -> None:
    def share_of_own(part_count: int) -> float:
        parts = looks(part_count, place_count=2, size=6, per_place=True)
        gaussian, shared = fit(parts)
        own = np.array([np.cov(parts[:, place], rowvar=False) for place in range(2)])
        of_all = shared.correlation * np.outer(shared.spread, shared.spread)
        left = covariance_of(gaussian) - of_all
        along = own - of_all
        return float((left * along).sum() / np.square(along).sum())

    # n - 1 parts against twice the number of features.
    assert share_of_own(3) == pytest.approx(2 / (2 + 12), rel=1e-6)
    assert share_of_own(13) == pytest.approx(12 / (12 + 12), rel=1e-6)
    assert share_of_own(1_201) == pytest.approx(1_200 / (1_200 + 12), rel=1e-6)


@pytest.mark.parametrize(
    "case", ["a feature always the same", "fewer parts than features", "all alike", "two features alike", "two parts"]
)
def test_what_tells_little_gives_numbers_all_the_same(case: str) -> None:
    parts = looks(10, size=24) if case == "fewer parts than features" else looks(30)
    if case == "a feature always the same":
        parts[..., 1] = 4.0
    elif case == "all alike":
        parts[:] = parts[0]
    elif case == "two features alike":
        parts[..., 2] = parts[..., 1]
    elif case == "two parts":
        parts = parts[:2]
    gaussian, shared = fit(parts, 7.0)
    assert 0.01 <= shared.shrinkage <= 1.0
    assert (shared.spread > 0).all()
    for part in (parts, parts + 100.0, parts * 1e3):
        assert np.isfinite(gaussian.strangeness(part)).all()
    assert (gaussian.strangeness(parts + 100.0) > gaussian.strangeness(parts).max(axis=0)).all()


def test_one_part_tells_no_spread() -> None:
    with pytest.raises(ValueError, match="got 1 parts, expected two or more"):
        shared_of(moments_of(looks(1)), 1.0)
