"""Frame numbers that wrap, against numbers that do not."""

from __future__ import annotations

import random

from pipeline.cameras.frame_numbers import FrameNumbers

GIGE = 65_535


def wrapped(number: int) -> int:
    """As GigE Vision 1 numbers frame ``number``: 1 to 65,535 and then 1 again."""
    return number % GIGE + 1


def test_every_frame_is_counted_once_whether_it_came_or_not() -> None:
    chance = random.Random(5)
    numbers = FrameNumbers(GIGE)
    came = lost = number = 0
    begin = chance.randrange(GIGE)
    assert numbers.next(wrapped(begin)) == (0, 0)
    for _ in range(200_000):
        gap = chance.choice([0, 0, 0, 1, chance.randrange(1_001)])
        number += gap + 1
        assert numbers.next(wrapped(begin + number)) == (number, gap)
        came, lost = came + 1, lost + gap
    assert came + lost == number


def test_a_double_and_one_out_of_order_are_no_new_frames() -> None:
    numbers = FrameNumbers(GIGE)
    assert numbers.next(65_534) == (0, 0)
    assert numbers.next(1) == (2, 1)
    assert numbers.next(1) is None
    assert numbers.next(65_535) is None
    assert numbers.next(2) == (3, 0)


def test_numbers_that_are_far_off_are_a_device_that_counts_anew() -> None:
    numbers = FrameNumbers(GIGE)
    assert numbers.next(40_000) == (0, 0)
    for number in (1, 39_000, 41_002):
        assert numbers.next(number) is None
    assert numbers.next(41_001) == (1_001, 1_000)


def test_numbers_of_64_bit_go_on() -> None:
    numbers = FrameNumbers(GIGE)
    assert numbers.next(65_534) == (0, 0)
    assert numbers.next(65_535) == (1, 0)
    assert numbers.next(65_536) == (2, 0)
    assert numbers.next(65_540) == (6, 3)
