from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from pipeline.bench.one_class import rendered
from pipeline.bench.one_class.rendered import HEIGHT_PX, KINDS, WIDTH_PX, render, rendered_parts


@pytest.mark.parametrize(("is_colour", "shape"), [(False, (HEIGHT_PX, WIDTH_PX)), (True, (HEIGHT_PX, WIDTH_PX, 3))])
def test_the_same_parts_at_every_call(is_colour: bool, shape: tuple[int, ...]) -> None:
    first, again = (
        rendered_parts(is_colour=is_colour, part="choose", good_count=3, defective_count=5) for _ in range(2)
    )
    assert first.masks is not None
    assert again.masks is not None
    for kind in ("good", "defective", "masks"):
        np.testing.assert_array_equal(getattr(first, kind), getattr(again, kind))
    assert {picture.shape for picture in (*first.good, *first.defective)} == {shape}
    assert {mask.shape for mask in first.masks} == {(HEIGHT_PX, WIDTH_PX)}


def test_the_two_parts_share_no_picture_and_all_is_both() -> None:
    choose, report, everything = (
        rendered_parts(is_colour=False, part=part, good_count=3, defective_count=5)
        for part in ("choose", "report", "all")
    )
    np.testing.assert_array_equal(everything.good, [*choose.good, *report.good])
    np.testing.assert_array_equal(everything.defective, [*choose.defective, *report.defective])
    assert all(not np.array_equal(a, b) for a, b in combinations(everything.good, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_is_where_the_defect_is_and_nowhere_else(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Against the same part without its defect, with the same grain and noise."""
    for seed in range(8):
        # Whatever the defect draws is drawn without it too, so that grain and noise are the same.
        flawed, mask = render(np.random.default_rng(seed), kind, is_colour=False)
        with monkeypatch.context() as patched:
            real = rendered._flawed
            patched.setattr(rendered, "_flawed", lambda surface, *rest, real=real: (real(surface, *rest), surface)[1])
            patched.setattr(rendered, "_LEAST_AREA_PX", 0)
            plain, none = render(np.random.default_rng(seed), kind, is_colour=False)
        assert not none.any()
        assert 6 <= mask.sum() < mask.size / 8
        difference = np.abs(flawed.astype(int) - plain.astype(int))
        assert difference[mask].mean() > 1.5
        assert difference[mask].min() >= 1
        assert difference[~mask].mean() < 0.25


def test_a_good_part_has_no_mask_and_parts_differ() -> None:
    pictures = [render(np.random.default_rng(seed), None, is_colour=False) for seed in range(4)]
    assert not any(mask.any() for _, mask in pictures)
    levels = np.array([picture.mean() for picture, _ in pictures])
    assert levels.std() > 1.0
