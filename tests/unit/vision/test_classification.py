from __future__ import annotations

from math import inf, nan
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.models import geometry_of
from vision.decoders import TensorFormat, WrongOutput
from vision.decoders.base import BadOutput
from vision.decoders.classification import ClassificationDecoder, ClassificationSettings
from vision.types import Findings

BOX_PX = (1.0, 2.0, 30.0, 40.0)
CLASSES = ("a", "b", "c")


def decoder(class_count: int, activation: Literal["none", "softmax", "sigmoid"] = "none") -> ClassificationDecoder:
    return ClassificationDecoder(
        ClassificationSettings(activation=activation),
        CLASSES[:class_count],
        geometry_of(BOX_PX, 16, 16),
        {"scores": TensorFormat(np.dtype(np.float32), (class_count,))},
    )


def decoded(*scores: float, activation: Literal["none", "softmax", "sigmoid"] = "none") -> Findings:
    return decoder(len(scores), activation).decode({"scores": np.array(scores, np.float32)})


def test_every_class_is_a_finding_of_the_whole_region() -> None:
    findings = decoded(0.25, 0.5, 0.25)
    assert findings.class_ids.tolist() == [0, 1, 2]
    assert findings.class_ids.dtype == np.int32
    assert findings.scores.tolist() == [0.25, 0.5, 0.25]
    assert findings.boxes_px.tolist() == [list(BOX_PX)] * 3
    assert findings.areas_px.tolist() == [29 * 38] * 3


def test_findings_outlive_the_models_output() -> None:
    row = np.array([0.25, 0.75], np.float32)
    findings = decoder(2).decode({"scores": row})
    row[...] = 0.0
    assert findings.scores.tolist() == [0.25, 0.75]


def test_rounding_beyond_a_probability_is_cut() -> None:
    assert decoded(-1e-6, 1.000001).scores.tolist() == [0.0, 1.0]


@pytest.mark.parametrize("row", [[nan, 0.5], [0.5, nan], [inf, 0.0], [-inf, 0.0], [2.5, -1.5], [1.1, 0.0]])
def test_what_is_no_probability_is_bad_output(row: list[float]) -> None:
    with pytest.raises(BadOutput, match="scores"):
        decoded(*row)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("number", [nan, inf, -inf])
def test_a_logit_that_is_no_number_is_bad_output(activation: Literal["softmax", "sigmoid"], number: float) -> None:
    with pytest.raises(BadOutput, match="finite"):
        decoded(0.5, number, activation=activation)


LOGITS = st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=3)


@given(logits=LOGITS.filter(lambda logits: len(logits) > 1))
def test_softmax_is_its_formula(logits: list[float]) -> None:
    powers = np.exp(np.array(logits, np.float64) - max(logits))
    np.testing.assert_allclose(decoded(*logits, activation="softmax").scores, powers / powers.sum(), atol=1e-6)


def test_softmax_of_one_class_is_a_wrong_output() -> None:
    """It would be 1 whatever the logit."""
    with pytest.raises(WrongOutput, match="always 1") as caught:
        decoder(1, "softmax")
    assert caught.value.key == "decoder.activation"


@given(logits=LOGITS)
def test_sigmoid_is_its_formula(logits: list[float]) -> None:
    with np.errstate(over="ignore"):
        expected = 1 / (1 + np.exp(-np.array(logits, np.float64)))
    np.testing.assert_allclose(decoded(*logits, activation="sigmoid").scores, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "row_shape", "key"),
    [(np.float32, (3,), "classes"), (np.float32, (2, 1), "classes"), (np.int64, (2,), "outputs.scores")],
)
def test_a_tensor_that_does_not_fit_the_classes_is_refused(dtype: type, row_shape: tuple[int, ...], key: str) -> None:
    with pytest.raises(WrongOutput) as caught:
        ClassificationDecoder(
            ClassificationSettings(activation="none"),
            ("a", "b"),
            geometry_of(BOX_PX, 16, 16),
            {"scores": TensorFormat(np.dtype(dtype), row_shape)},
        )
    assert caught.value.key == key
