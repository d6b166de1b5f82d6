from __future__ import annotations

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cli.model.card import card_with_questions
from vision.identify import Identification, Known, Question

LONG = (
    "This model was trained on parts of one supplier only and has never seen oil, water or fingerprints on them. " * 3
)
SCALARS = (
    st.text(max_size=300) | st.integers() | st.booleans() | st.sampled_from([LONG, "First.\n\nSecond.\n", "# a: b"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
)
KEYS = ["name", "limitations", "accuracy", "classes", "input.name", "input.mean", "outputs.scores", "decoder.boxes"]


def begun(values: dict[str, Any], questions: list[Question] | None = None) -> dict[str, Any]:
    known = tuple(Known(key, value, "metadata names\n\x1b[31m") for key, value in values.items())
    text = card_with_questions(Identification("nobody", known, tuple(questions or ()), ()))
    read: dict[str, Any] = yaml.safe_load(text)
    return read


@given(values=st.dictionaries(st.sampled_from(KEYS), VALUES, min_size=1))
def test_a_card_that_is_begun_says_what_is_known(values: dict[str, Any]) -> None:
    expected = Identification("nobody", tuple(Known(*each, "") for each in values.items()), (), ()).card()
    assert begun(values) == expected


def test_what_is_asked_has_no_value() -> None:
    question = Question("input.scale", "nothing says it\nx: 1", ("1.0\ny: 2",))
    assert begun({"name": LONG, "input.name": "x"}, [question]) == {"name": LONG, "input": {"name": "x", "scale": None}}


@pytest.mark.parametrize("section", ["input", "outputs", "decoder"])
def test_a_section_that_is_one_value_stays_one(section: str) -> None:
    assert begun({section: 5}) == {section: 5}
