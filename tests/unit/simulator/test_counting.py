from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.simulator.counting import count_distance, is_in_window, wrap_count

widths = st.integers(8, 62)
positions = st.integers(-(2**70), 2**70)


@given(positions, widths)
def test_a_count_stays_within_its_width_and_repeats_each_lap(position: int, bits: int) -> None:
    count = wrap_count(position, bits)
    assert 0 <= count < 2**bits
    assert wrap_count(position + 2**bits, bits) == count
    assert wrap_count(count, bits) == count


@given(positions, widths, st.data())
def test_distance_survives_the_wrap(position: int, bits: int, data: st.DataObject) -> None:
    apart = data.draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    assert count_distance(wrap_count(position + apart, bits), wrap_count(position, bits), bits) == apart


@given(positions, widths, st.data())
def test_a_window_holds_what_is_near_also_across_the_wrap(position: int, bits: int, data: st.DataObject) -> None:
    half_width = data.draw(st.integers(0, 2 ** (bits - 1) - 1))
    apart = data.draw(st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1))
    count, centre = wrap_count(position + apart, bits), wrap_count(position, bits)
    assert is_in_window(count, centre, half_width, bits) == (abs(apart) <= half_width)


def test_neighbours_do_not_share_a_window() -> None:
    pitch, jitter = 500, 0.2
    nearest = int(pitch * (1 - 2 * jitter))
    assert not is_in_window(nearest, 0, pitch // 4, 32)
