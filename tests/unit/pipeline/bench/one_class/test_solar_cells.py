from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from pipeline.bench.one_class.solar_cells import choose_part, solar_cells


def test_two_fifths_of_each_type_and_probability_are_to_choose_by() -> None:
    generator = np.random.default_rng(0)
    probability, is_mono = generator.choice([0.0, 1 / 3, 2 / 3, 1.0], 500), generator.random(500) < 0.4
    chosen = choose_part(probability, is_mono)
    for mono in (True, False):
        for value in np.unique(probability):
            members = (is_mono == mono) & (probability == value)
            assert chosen[members].sum() == round(0.4 * members.sum())
    np.testing.assert_array_equal(chosen, choose_part(probability, is_mono))


@pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="needs the extra demo (elpv-dataset)")
def test_the_two_parts_are_apart_and_all_is_both() -> None:
    choose, report, everything = (solar_cells("mono", part) for part in ("choose", "report", "all"))
    assert (len(everything.good), len(everything.defective)) == (588, 313)
    assert sorted([*choose.sources, *report.sources]) == everything.sources.tolist()
    assert len(choose.defective) + len(report.defective) == 313
    assert len(choose.good) == round(0.4 * 588)
    assert {picture.shape for picture in choose.good} == {(300, 300)}
