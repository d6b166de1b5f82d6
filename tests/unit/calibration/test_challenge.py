from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration.challenge import Showing, challenge_figures, parts_to_show
from calibration.intervals import share_of, upper_bound
from vision.types import Verdict

VERDICTS = st.sampled_from(list(Verdict))


def showings(kind: str, parts: int, times: int, judged: Verdict, *, is_defective: bool = True) -> list[Showing]:
    return [Showing(kind, f"{part}", is_defective, judged) for part in range(parts) for _ in range(times)]


def test_ten_parts_are_more_than_one_part_ten_times() -> None:
    (ten,) = challenge_figures(showings("scratch", 10, 1, Verdict.REJECT))
    (one,) = challenge_figures(showings("scratch", 1, 10, Verdict.REJECT))
    assert (ten.shown_count, ten.right_count) == (one.shown_count, one.right_count) == (10, 10)
    assert ten.wrong_at_most == pytest.approx(0.2589, abs=1e-4)
    assert one.wrong_at_most == pytest.approx(0.95)
    assert "up to 26% of such parts" in ten.words()
    assert "repeats of one part" in one.words()
    assert "repeats of one part" not in ten.words()


@given(st.lists(VERDICTS, min_size=1, max_size=40), st.booleans())
def test_with_one_showing_a_part_it_is_the_usual_interval(verdicts: list[Verdict], is_defective: bool) -> None:
    (kind,) = challenge_figures(
        [Showing("kind", str(part), is_defective, judged) for part, judged in enumerate(verdicts)]
    )
    usual = share_of(verdicts.count(Verdict.REJECT if is_defective else Verdict.PASS), len(verdicts))
    assert usual is not None
    assert (kind.right_share, kind.low, kind.high) == pytest.approx((usual.value, usual.low, usual.high))
    assert kind.unjudged_count == verdicts.count(Verdict.NO_DECISION)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("123"), VERDICTS), max_size=40))
def test_counts_add_up(given_showings: list[tuple[str, str, Verdict]]) -> None:
    kinds = challenge_figures([Showing(kind, part, True, judged) for kind, part, judged in given_showings])
    assert sum(kind.shown_count for kind in kinds) == len(given_showings)
    for kind in kinds:
        assert kind.shown_count == sum(part.shown_count for part in kind.parts)
        assert kind.right_count == sum(part.right_count for part in kind.parts)
        assert 0 <= kind.low <= kind.right_share <= kind.high <= 1
        assert kind.wrong_at_most >= 1 - kind.right_share - 1e-12


def test_the_interval_holds_however_alike_the_showings_of_a_part_are() -> None:
    """Parts whose own chances differ between not at all and altogether: true chance 0.8 in each."""
    generator = np.random.default_rng(0)
    for alike in (0.01, 1.0, 100.0):
        held = 0
        for _ in range(400):
            chances = generator.beta(0.8 * alike, 0.2 * alike, 12)
            drawn = generator.random((12, 3)) < chances[:, None]
            (kind,) = challenge_figures(
                [
                    Showing("kind", str(part), True, Verdict.REJECT if right else Verdict.PASS)
                    for part, its in enumerate(drawn)
                    for right in its
                ]
            )
            held += kind.low <= 0.8 <= kind.high
        assert held >= 0.95 * 400 - 3 * (400 * 0.95 * 0.05) ** 0.5


def test_a_part_that_is_right_now_and_then_is_no_proof() -> None:
    shown = [*showings("hole", 9, 2, Verdict.REJECT), *(Showing("hole", "9", True, judged) for judged in Verdict)]
    (kind,) = challenge_figures(shown)
    assert (kind.shown_count, kind.right_count) == (21, 19)
    assert kind.right_share == pytest.approx((9 + 1 / 3) / 10)
    assert kind.wrong_at_most == pytest.approx(upper_bound(1, 10))
    nine, ten = share_of(9, 10), share_of(10, 10)
    assert nine is not None
    assert ten is not None
    assert (kind.low, kind.high) == pytest.approx((nine.low, ten.high))


def test_good_parts_are_to_pass_and_kinds_keep_their_order() -> None:
    good, bad = challenge_figures(
        [*showings("golden", 3, 1, Verdict.PASS, is_defective=False), *showings("hole", 2, 1, Verdict.PASS)]
    )
    assert (good.kind, good.right_count, good.right_share) == ("golden", 3, 1.0)
    assert (bad.kind, bad.right_count) == ("hole", 0)
    assert bad.high == pytest.approx(0.8419, abs=1e-4)
    assert "golden: passed 3 of 3 times, 3 different parts" in good.words()
    assert "hole: detected 0 of 2 times" in bad.words()
    assert challenge_figures([]) == ()


def test_not_judged_is_not_right() -> None:
    for is_defective in (True, False):
        (kind,) = challenge_figures(showings("kind", 2, 1, Verdict.NO_DECISION, is_defective=is_defective))
        assert (kind.right_count, kind.unjudged_count) == (0, 2)
        assert "2 times not judged" in kind.words()


def test_a_kind_is_good_or_defective() -> None:
    with pytest.raises(ValueError, match="kind a: got good and defective parts"):
        challenge_figures([Showing("a", "1", True, Verdict.PASS), Showing("a", "2", False, Verdict.PASS)])


def test_so_many_parts_show_a_rate() -> None:
    assert parts_to_show(0.05) == 59
    (kind,) = challenge_figures(showings("kind", 59, 1, Verdict.REJECT))
    assert kind.wrong_at_most <= 0.05
    (kind,) = challenge_figures(showings("kind", 58, 1, Verdict.REJECT))
    assert kind.wrong_at_most > 0.05
