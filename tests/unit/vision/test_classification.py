from __future__ import annotations

from math import inf, nan

import numpy as np
import pytest

from vision.decoders import DECODERS
from vision.decoders.bad_output import BadOutput

BOX_PX = (1.0, 2.0, 30.0, 40.0)


def test_every_class_is_a_finding_of_the_whole_region() -> None:
    findings = DECODERS["classification"](3, BOX_PX).decode(np.array([0.25, 0.5, 0.25], np.float32))
    assert findings.class_ids.tolist() == [0, 1, 2]
    assert findings.class_ids.dtype == np.int32
    assert findings.scores.tolist() == [0.25, 0.5, 0.25]
    assert findings.boxes_px.tolist() == [list(BOX_PX)] * 3


def test_findings_outlive_the_models_output() -> None:
    row = np.array([0.25, 0.75], np.float32)
    findings = DECODERS["classification"](2, BOX_PX).decode(row)
    row[...] = 0.0
    assert findings.scores.tolist() == [0.25, 0.75]


def test_rounding_beyond_a_probability_is_cut() -> None:
    row = np.array([-1e-6, 1.000001], np.float32)
    assert DECODERS["classification"](2, BOX_PX).decode(row).scores.tolist() == [0.0, 1.0]


@pytest.mark.parametrize(
    "row", [[nan, 0.5], [0.5, nan], [inf, 0.0], [-inf, 0.0], [2.5, -1.5], [1.1, 0.0], [0.5], [0.5, 0.25, 0.25]]
)
def test_what_is_no_probability_is_bad_output(row: list[float]) -> None:
    with pytest.raises(BadOutput, match="output row"):
        DECODERS["classification"](2, BOX_PX).decode(np.array(row, np.float32))
