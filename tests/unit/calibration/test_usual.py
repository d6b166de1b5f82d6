from __future__ import annotations

import pytest

from calibration.usual import Usual, refusals_of


def names(count: int) -> tuple[str, ...]:
    return tuple(f"{number}.png" for number in range(count))


@pytest.mark.parametrize(
    ("usual", "reasons"),
    [
        (Usual(200, (), (), 120.0), []),
        (Usual(200, names(10), names(10), 15.0), []),
        (Usual(200, names(11), (), 120.0), ["too many parts not found or not judged"]),
        (Usual(200, (), names(11), 235.0), ["too many parts rejected"]),
        (Usual(200, (), (), 14.9), ["a reference region too dark"]),
        (
            Usual(200, names(200), names(11), 240.0),
            [
                "too many parts not found or not judged",
                "too many parts rejected",
                "a reference region too bright",
            ],
        ),
    ],
)
def test_what_is_not_usual_is_refused(usual: Usual, reasons: list[str]) -> None:
    assert [refusal.reason for refusal in refusals_of(usual)] == reasons


def test_a_refusal_names_some_of_them() -> None:
    (refusal,) = refusals_of(Usual(20, names(4), (), 100.0))
    assert refusal.got == "4 of 20 (0.png, 1.png, 2.png, ...)"
