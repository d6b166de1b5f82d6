"""The model of a product, beside the fit that it is made of."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from calibration.teaching.backbone import FeatureShape
from calibration.teaching.fitting import ViewFit, cross_fit, nothing_learnt
from calibration.teaching.graph import MAP, SCORE, product_model, score_of
from tests import naive_teaching as naive
from tests.good_parts import features_of, pictures, run_model

Features = npt.NDArray[np.float32]

SHAPES = [
    FeatureShape(96, 96, 1, 10, True),
    FeatureShape(96, 128, 2, 10, False),
    FeatureShape(128, 96, 3, 7, True),
    FeatureShape(96, 96, 4, 4, False),
    FeatureShape(96, 160, 1, 2, True),
    FeatureShape(352, 320, 1, 10, True),
]
"""The last one is so large that windows are two features apart."""

PATCH_PX = 20

THRESHOLDS = (1.5, -0.5, 2.25)


@cache
def learnt(shape: FeatureShape, seed: int = 0) -> ViewFit:
    features = features_of(shape, seen(shape, seed))
    count = len(features)
    return cross_fit(features, shape.layers, np.arange(count) % 2, np.ones(count, np.bool_)).view


def seen(shape: FeatureShape, seed: int = 0) -> Features:
    """Other seeds: another product, upside down and darker."""
    image = pictures(shape, 12 if shape.width_px > 320 else 20, seed)
    return image if seed == 0 else np.ascontiguousarray(0.6 * image[:, :, :: -1 if seed % 2 else 1] - 0.1 * seed)


def with_patch(shape: FeatureShape, image: Features, left: float, top: float, by: float = 0.6) -> Features:
    """At a share of the width and height."""
    changed = image.copy()
    side = PATCH_PX * shape.shrink
    x, y = (
        round(share * (length - side)) for share, length in ((left, shape.input_width_px), (top, shape.input_height_px))
    )
    changed[..., y : y + side, x : x + side] += by
    return changed


def fresh(shape: FeatureShape) -> Features:
    """Three parts as good as those fitted on, and three with a patch."""
    image = pictures(shape, 6, seed=99)
    for number in range(3, 6):
        image[number] = with_patch(shape, image[number], 0.2 * number, 0.9 - 0.2 * number)
    return image


@pytest.mark.parametrize("shape", SHAPES)
def test_the_model_says_what_the_fit_says(shape: FeatureShape) -> None:
    """Scores, and the map: as large as the picture has room for, in its shape."""
    view, image = learnt(shape), fresh(shape)
    model = product_model(shape, [view], [1.5])
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    score, heat = run_model(model, image)
    features = features_of(shape, image)
    excess = view.excess(features)
    assert score.shape == (6,)
    assert score.dtype == heat.dtype == np.float32
    np.testing.assert_allclose(score, score_of(excess, 1.5), atol=2e-3)
    assert heat.shape == (6, 1, shape.height_px // 4, shape.width_px // 4)
    np.testing.assert_allclose(heat.max(axis=(1, 2, 3)), score, atol=1e-6)
    places = naive.anomaly_places(shape, view, features)
    expected = score_of(places - places.max(axis=(1, 2), keepdims=True) + excess[:, None, None], 1.5)
    np.testing.assert_allclose(heat[:, 0], expected, atol=5e-3)


@pytest.mark.parametrize("shape", SHAPES[:3])
def test_several_pictures_are_judged_as_one_by_one(shape: FeatureShape) -> None:
    model = product_model(shape, [learnt(shape)], [1.5])
    image = fresh(shape)
    together = run_model(model, image)
    for number in range(len(image)):
        for one, all_ in zip(run_model(model, image[[number]]), together, strict=True):
            np.testing.assert_allclose(one[0], all_[number], atol=1e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("left", "top"), [(0.0, 0.0), (0.5, 0.5), (1.0, 0.3), (0.25, 1.0)])
def test_the_map_is_hottest_where_a_patch_was_changed(shape: FeatureShape, left: float, top: float) -> None:
    image = with_patch(shape, pictures(shape, 2, seed=50), left, top)
    score, heat = run_model(product_model(shape, [learnt(shape)], [1.5]), image)
    assert (score > 0.9).all()
    for each in heat[:, 0]:
        row, column = np.unravel_index(int(each.argmax()), each.shape)
        # In pixels of the shape; windows are 24 to 32 of them wide, and twice that where they are two features apart.
        y, x = 4 * (int(row) + 0.5), 4 * (int(column) + 0.5)
        margin_px = 12 * shape.layers[0].step
        left_px, top_px = left * (shape.width_px - PATCH_PX), top * (shape.height_px - PATCH_PX)
        assert left_px - margin_px <= x <= left_px + PATCH_PX + margin_px
        assert top_px - margin_px <= y <= top_px + PATCH_PX + margin_px


@pytest.mark.parametrize("view_count", [2, 3])
def test_each_row_is_judged_by_its_own_view_whatever_it_is_like(view_count: int) -> None:
    shape = SHAPES[1]
    views = [learnt(shape, seed) for seed in range(view_count)]
    limits = THRESHOLDS[:view_count]
    model = product_model(shape, views, limits)
    onnx.checker.check_model(onnx.load_from_string(model), full_check=True)
    in_place = np.concatenate([seen(shape, seed)[:1] for seed in range(view_count)])
    for image in (in_place, np.roll(in_place, 1, axis=0)):
        score, heat = run_model(model, image)
        assert len(score) == view_count
        for number, (view, limit) in enumerate(zip(views, limits, strict=True)):
            alone = run_model(product_model(shape, [view], [limit]), image[[number]])
            np.testing.assert_allclose(score[number], alone[0][0], atol=2e-3)
            np.testing.assert_allclose(heat[number], alone[1][0], atol=2e-3)
    # Good parts of one view are strange where another is to be seen.
    assert (run_model(model, in_place)[0] < 0.7).all()
    assert (run_model(model, np.roll(in_place, 1, axis=0))[0] > 0.9).all()


def test_the_threshold_is_where_the_score_is_a_half() -> None:
    shape = SHAPES[0]
    image = fresh(shape)
    excess = learnt(shape).excess(features_of(shape, image))
    for number, each in enumerate(excess):
        score, _ = run_model(product_model(shape, [learnt(shape)], [float(each)]), image[[number]])
        assert score[0] == pytest.approx(0.5, abs=1e-3)


@pytest.mark.parametrize("limit", [-1e6, -50.0, 50.0, 1e6])
def test_far_from_the_threshold_scores_are_numbers_within_0_and_1(limit: float) -> None:
    shape = SHAPES[0]
    model = product_model(shape, [learnt(shape)], [limit])
    blank = [np.full((1, 1, 96, 96), level, np.float32) for level in (-1.0, 1.0)]
    noise = np.random.default_rng(0).choice([-1.0, 1.0], (1, 1, 96, 96)).astype(np.float32)
    for found in run_model(model, np.concatenate([*blank, noise, fresh(shape)])):
        assert np.isfinite(found).all()
        assert ((found >= 0) & (found <= 1)).all()
        if abs(limit) == 1e6:
            # Not cut off: what is stranger still can be told from it.
            assert ((found > 0.99999) if limit < 0 else (found < 0.00001)).all()
            assert ((found > 0) & (found < 1)).all()


def test_the_more_a_patch_stands_out_the_higher_the_score() -> None:
    shape = SHAPES[0]
    part = pictures(shape, 1, seed=50)
    image = np.concatenate([with_patch(shape, part, 0.5, 0.5, by) for by in (0.1, 0.2, 0.4, 0.8)])
    excess = learnt(shape).excess(features_of(shape, image))
    assert (np.diff(excess) > 0).all()
    score, _ = run_model(product_model(shape, [learnt(shape)], [float(excess[1])]), image)
    assert (np.diff(score) >= 0).all()
    assert score[0] < 0.5 < score[2]


def test_pictures_that_were_all_alike_make_a_model_that_gives_numbers() -> None:
    shape = SHAPES[0]
    image = np.repeat(pictures(shape, 1), 20, axis=0)
    view = cross_fit(features_of(shape, image), shape.layers, np.arange(20) % 2, np.ones(20, np.bool_)).view
    score, heat = run_model(product_model(shape, [view], [1.0]), np.concatenate([image[:1], fresh(shape)]))
    assert np.isfinite(score).all()
    assert np.isfinite(heat).all()
    assert (score[1:] > 0.99).all()


def test_a_model_is_the_same_to_the_byte_again() -> None:
    shape = SHAPES[0]
    one, other = (product_model(shape, [learnt(shape)], [1.5]) for _ in range(2))
    assert one == other


def test_a_model_of_nothing_learnt_is_as_large_as_any() -> None:
    """What is measured before anything is fitted costs what will run."""
    shape = SHAPES[0]
    models = [
        onnx.load_from_string(product_model(shape, [view], [0.0]))
        for view in (learnt(shape), nothing_learnt(shape.layers, shape.grid))
    ]
    one, other = ([(node.op_type, list(node.output)) for node in model.graph.node] for model in models)
    assert one == other
    first, second = ([(each.name, list(each.dims)) for each in model.graph.initializer] for model in models)
    assert first == second
    assert [each.name for each in models[0].graph.output] == [SCORE, MAP]


def test_each_view_has_its_threshold() -> None:
    shape = SHAPES[0]
    with pytest.raises(ValueError, match="argument 2 is"):
        product_model(shape, [learnt(shape)], [])


@given(hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e9, 1e9)), st.floats(-1e9, 1e9))
def test_scores_rise_with_excess_from_0_to_1_and_are_a_half_at_the_threshold(
    excess: npt.NDArray[np.float64], threshold: float
) -> None:
    score = score_of(np.sort(excess), threshold)
    assert ((score >= 0) & (score <= 1)).all()
    assert (np.diff(score) >= 0).all()
    assert score_of(threshold, threshold) == 0.5
    assert score_of(threshold + 2.0, threshold) == pytest.approx(0.75, abs=1e-6)
    assert score_of(threshold - 2.0, threshold) == pytest.approx(0.25, abs=1e-6)
