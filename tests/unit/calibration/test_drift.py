"""The stated false-alarm rate against simulated quiet shifts, what is named after a change, and what an alarm may not rest on."""

from __future__ import annotations

from collections.abc import Mapping
from math import inf, nan, sqrt

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import binomtest, norm

from calibration.drift import (
    SIGNALS,
    ChartState,
    Diagnosis,
    Drift,
    DriftBaseline,
    DriftTest,
    Signal,
    State,
    alike_parts,
    cusum_of,
    diagnose,
    dump_state,
    false_alarm_chance,
    fit_drift,
    load_state,
    usual_tolerances,
)
from vision.reference_region import ReferenceRegion

Floats = npt.NDArray[np.float64]
MEANS: Mapping[Signal, float] = {
    "score": 0.1,
    "brightness": 120.0,
    "evenness": 0.95,
    "sharpness": 0.2,
    "position_x": 40.0,
    "position_y": 30.0,
}
SPREADS: Mapping[Signal, float] = {
    "score": 0.02,
    "brightness": 2.0,
    "evenness": 0.01,
    "sharpness": 0.01,
    "position_x": 0.5,
    "position_y": 0.5,
}


def alike(generator: np.random.Generator, count: int, likeness: float) -> Floats:
    """Normal, of variance 1, each part ``likeness`` like the one before."""
    start = [likeness * generator.normal()]
    steps = sqrt(1 - likeness**2) * generator.normal(size=count)
    return np.asarray(lfilter([1.0], [1.0, -likeness], steps, zi=start)[0], np.float64)


def quiet(generator: np.random.Generator, count: int) -> dict[Signal, Floats]:
    return {signal: generator.normal(MEANS[signal], SPREADS[signal], count) for signal in SIGNALS}


def a_baseline(seed: int = 0, **options: float) -> DriftBaseline:
    report = fit_drift(quiet(np.random.default_rng(seed), 400), shift_parts=10_000, **options)  # type: ignore[arg-type]
    assert report.baseline is not None
    return report.baseline


def run(
    test: DriftTest, state: State, values: Mapping[Signal, Floats]
) -> tuple[State, list[tuple[int, Drift]], Diagnosis | None]:
    """The state at the end, the alarms with their parts, and the diagnosis at the end."""
    alarms = []
    for part in range(len(next(iter(values.values())))):
        state, drifts = test.observe(state, {signal: float(its[part]) for signal, its in values.items()})
        alarms += [(part, drift) for drift in drifts]
    return state, alarms, diagnose(test.baseline, state)


def changed(seed: int, **changes: float) -> tuple[list[tuple[int, Drift]], Diagnosis | None]:
    """After 100 quiet parts, 300 with these signals moved by so many spreads."""
    generator = np.random.default_rng(seed)
    test = DriftTest(a_baseline())
    state, alarms, _ = run(test, test.start(), quiet(generator, 100))
    assert not alarms
    values = quiet(generator, 300)
    for signal, spreads in changes.items():
        values[signal] += spreads * SPREADS[signal]  # type: ignore[index]
    _, alarms, told = run(test, state, values)
    return alarms, told


@pytest.mark.parametrize(
    ("parts", "likeness", "shape"),
    [(300, 0.0, "normal"), (300, 0.0, "skewed"), (300, 0.0, "coarse"), (1_000, 0.5, "normal"), (5_000, 0.9, "normal")],
)
def test_quiet_shifts_raise_false_alarms_as_rarely_as_stated(parts: int, likeness: float, shape: str) -> None:
    """Each with a baseline of its own. The whole shift at once, by the definition of the chart, which is quicker."""
    generator = np.random.default_rng(1)
    shifts, rate, shift_parts = 200, 0.1, 4_000

    def drawn(count: int) -> Floats:
        values = alike(generator, count, likeness) if likeness else generator.normal(size=count)
        return {"normal": values, "skewed": np.exp(2 * values), "coarse": np.rint(values)}[shape]

    false_alarms = fitted = 0
    for _ in range(shifts):
        report = fit_drift(
            {"score": drawn(parts), "brightness": drawn(parts)}, shift_parts=shift_parts, false_alarm_rate=rate
        )
        if report.baseline is None:
            continue
        fitted += 1
        false_alarms += any(raises_at(report.baseline, number, drawn(shift_parts)) is not None for number in range(2))
    assert fitted > 0.8 * shifts
    assert binomtest(false_alarms, fitted, rate, alternative="greater").pvalue > 0.005
    if shape != "coarse":
        assert false_alarms > 0.03 * fitted  # as stated, and not just never


def raises_at(baseline: DriftBaseline, number: int, values: Floats) -> int | None:
    """The part at which a chart first reaches its limit; None where it never does. A reference, of whole blocks."""
    chart, size = baseline.signals[number], baseline.block_parts
    grid = np.array(chart.grid)
    ranks = np.searchsorted(grid, values, "left") + np.searchsorted(grid, values, "right")
    scores = norm.ppf((ranks + 1) / (2 * len(grid) + 2))
    blocks = scores[: len(scores) // size * size].reshape(-1, size).mean(axis=1)
    excess = (blocks - chart.block_mean) / chart.block_spread
    first = []
    for direction in (1, -1):
        sums = np.concatenate([[0.0], np.cumsum(direction * excess - baseline.allowance)])
        heights = sums - np.minimum.accumulate(sums)
        if (heights >= baseline.limit).any():
            first.append(int(np.argmax(heights >= baseline.limit)) * size - 1)
    return min(first, default=None)


@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_the_test_is_the_chart_of_its_definition(shift: float) -> None:
    for seed in range(5):
        generator = np.random.default_rng(seed)
        baseline = a_baseline(seed, false_alarm_rate=0.5)
        test = DriftTest(baseline)
        values = quiet(generator, 1_500)
        values["brightness"] -= shift * SPREADS["brightness"]
        state, alarms, _ = run(test, test.start(), values)
        for number, chart in enumerate(baseline.signals):
            raised = [part for part, drift in alarms if drift.signal == chart.signal and drift.is_raised]
            assert (raised[0] if raised else None) == raises_at(baseline, number, values[chart.signal])
        assert state.keys() == set(SIGNALS)


@pytest.mark.parametrize("blocks_count", [20, 30, 100])
def test_the_chance_of_a_false_alarm_is_that_of_simulated_charts(blocks_count: int) -> None:
    generator = np.random.default_rng(0)
    charts, shift_blocks = 4_000, 400
    allowance, limit = cusum_of(blocks_count, shift_blocks, 0.1)
    assert false_alarm_chance(blocks_count, shift_blocks, allowance, limit) == pytest.approx(0.1, abs=1e-3)
    blocks = generator.normal(size=(charts, blocks_count))
    means, spreads = blocks.mean(axis=1), blocks.std(axis=1, ddof=1)
    up, down, raised = np.zeros(charts), np.zeros(charts), np.zeros(charts, bool)
    for _ in range(shift_blocks):
        excess = (generator.normal(size=charts) - means) / spreads
        up, down = np.maximum(0, up + excess - allowance), np.maximum(0, down - excess - allowance)
        raised |= (up >= limit) | (down >= limit)
    assert binomtest(int(raised.sum()), charts, 0.1).pvalue > 1e-4


@given(
    blocks_count=st.integers(20, 500),
    shift_blocks=st.floats(10, 1e6),
    rate=st.floats(1e-4, 0.2),
    more=st.floats(1.1, 10),
)
def test_limits_rise_with_what_is_asked_of_them(
    blocks_count: int, shift_blocks: float, rate: float, more: float
) -> None:
    allowance, limit = cusum_of(blocks_count, shift_blocks, rate)
    assert cusum_of(blocks_count, shift_blocks * more, rate)[1] >= limit - 0.01
    assert cusum_of(blocks_count, shift_blocks, rate / more)[1] >= limit - 0.01
    assert cusum_of(4 * blocks_count, shift_blocks, rate)[0] < allowance


@pytest.mark.parametrize(
    ("changes", "cause", "first"),
    [
        ({"brightness": -6.0}, "light", ["brightness"]),
        ({"brightness": 6.0}, "light", ["brightness"]),
        ({"brightness": -58.0}, "dead_strobe", ["brightness"]),
        ({"brightness": -6.0, "sharpness": -5.0}, "dirty_window", ["brightness", "sharpness"]),
        ({"evenness": -5.0, "score": 3.0}, "dirty_window", ["evenness", "score"]),
        ({"sharpness": -5.0}, "focus", ["sharpness"]),
        ({"sharpness": -5.0, "score": 2.0}, "focus", ["sharpness", "score"]),
        ({"position_x": 8.0, "score": 3.0, "sharpness": -3.0}, "position", ["position_x", "score", "sharpness"]),
        ({"score": 3.0}, "bad_lot", ["score"]),
        ({"score": -3.0}, "unclear", ["score"]),
        ({"brightness": -6.0, "sharpness": 6.0}, "unclear", ["brightness", "sharpness"]),
    ],
)
def test_what_moved_is_named_and_why(changes: dict[str, float], cause: str, first: list[str]) -> None:
    for seed in range(3):
        alarms, told = changed(seed, **changes)
        assert told is not None
        assert told.cause == cause
        assert {signal for signal, _ in told.moved} == set(first)
        for part, drift in alarms:
            assert part < 80
            assert drift.is_raised
            assert drift.direction == (1 if changes[drift.signal] > 0 else -1)
            assert drift.before == pytest.approx(MEANS[drift.signal], rel=0.05)
            expected = MEANS[drift.signal] + changes[drift.signal] * SPREADS[drift.signal]
            assert abs(drift.now - expected) < 0.6 * abs(changes[drift.signal]) * SPREADS[drift.signal]
        for signal in first:
            assert signal in told.text


def test_a_bad_lot_is_not_called_while_the_light_is_in_doubt() -> None:
    baseline = a_baseline()
    doubt = ChartState(up=0.6 * baseline.limit, up_count=10, up_values=1220.0, last=122.0)
    state: dict[Signal, ChartState] = {**DriftTest(baseline).start(), "score": ChartState(raised=1, last=0.2)}
    told = diagnose(baseline, state)
    assert told is not None
    assert told.cause == "bad_lot"
    told = diagnose(baseline, {**state, "brightness": doubt})
    assert told is not None
    assert told.cause == "unclear"
    assert diagnose(baseline, DriftTest(baseline).start()) is None


def test_the_light_is_gone_whatever_is_noticed_first() -> None:
    baseline = a_baseline()
    state: dict[Signal, ChartState] = {**DriftTest(baseline).start(), "score": ChartState(raised=1, last=0.2)}
    told = diagnose(baseline, {**state, "brightness": ChartState(last=3.0)})
    assert told is not None
    assert (told.cause, told.moved) == ("dead_strobe", (("score", 1), ("brightness", -1)))
    assert "brightness 119.9 -> 3 (-97%)" in told.text


def test_one_wild_part_is_no_drift() -> None:
    test = DriftTest(a_baseline())
    generator = np.random.default_rng(3)
    state, alarms, _ = run(test, test.start(), quiet(generator, 200))
    state, wild = test.observe(state, {"score": 1.0, "brightness": 0.0, "position_x": 1e9})
    _, after, _ = run(test, state, quiet(generator, 200))
    assert not alarms
    assert not wild
    assert not after


def test_a_change_within_tolerance_raises_nothing() -> None:
    generator = np.random.default_rng(0)
    values = {"brightness": generator.normal(120.0, 0.1, 400)}
    test_of: dict[float, DriftTest] = {}
    for tolerance in (0.0, 2.0):
        report = fit_drift(values, shift_parts=10_000, tolerances={"brightness": tolerance})  # type: ignore[arg-type]
        assert report.baseline is not None
        test_of[tolerance] = DriftTest(report.baseline)
    for change, tolerance, is_told in ((1.0, 0.0, True), (1.0, 2.0, False), (3.0, 2.0, True), (-3.0, 2.0, True)):
        test = test_of[tolerance]
        _, alarms, _ = run(test, test.start(), {"brightness": generator.normal(120.0 + change, 0.1, 500)})
        assert bool(alarms) is is_told


def test_usual_tolerances() -> None:
    assert usual_tolerances(MEANS) == pytest.approx(
        {"score": 0.01, "brightness": 2.4, "evenness": 0.02, "sharpness": 0.008, "position_x": 0.25, "position_y": 0.25}
    )


def test_an_alarm_is_raised_once_and_taken_back() -> None:
    test = DriftTest(a_baseline())
    generator = np.random.default_rng(0)
    low = quiet(generator, 5_000)
    low["brightness"] -= 8.0
    state, alarms, told = run(test, test.start(), low)
    assert [drift.is_raised for _, drift in alarms] == [True]
    assert told is not None
    state, alarms, told = run(test, state, quiet(generator, 1_000))
    assert [(drift.signal, drift.is_raised, drift.direction) for _, drift in alarms] == [("brightness", False, -1)]
    assert alarms[0][0] < 500  # however long it stood
    assert told is None


def test_a_restarted_process_goes_on_where_it_was() -> None:
    baseline = a_baseline()
    generator = np.random.default_rng(0)
    values = quiet(generator, 300)
    values["position_y"] += 2.0
    whole, expected, _ = run(DriftTest(baseline), DriftTest(baseline).start(), values)
    state: State = DriftTest(baseline).start()
    found: list[Drift] = []
    for start in range(0, 300, 7):
        restarted = DriftTest(DriftBaseline.model_validate_json(baseline.model_dump_json()))
        some = {name: its[start : start + 7] for name, its in values.items()}
        state, alarms, _ = run(restarted, load_state(dump_state(state), baseline), some)
        found += [drift for _, drift in alarms]
    assert found == [drift for _, drift in expected]
    assert state == whole


@pytest.mark.parametrize(
    "kept", [b"", b"[]", b"{}", b'{"score": [1]}', b'{"brightness": [0, 0, 0, NaN, 0, 0, 0, 0, 0, null, 0]}']
)
def test_what_is_no_state_is_refused(kept: bytes) -> None:
    with pytest.raises(ValueError, match=r"validation error|state: got"):
        load_state(kept, a_baseline())


def test_parts_without_a_value_are_left_out() -> None:
    test = DriftTest(a_baseline())
    state = test.start()
    for _ in range(100):
        state, drifts = test.observe(state, {"brightness": 120.0, "score": nan, "sharpness": inf})
        assert not drifts
    assert state["score"] == state["position_x"] == state["sharpness"] == ChartState()
    assert state["brightness"] != ChartState()


def test_a_state_of_other_signals_is_refused() -> None:
    test = DriftTest(a_baseline())
    with pytest.raises(ValueError, match="state: got charts of"):
        test.observe({"score": ChartState()}, {})


def test_too_few_parts_are_told_with_how_many_are_missing() -> None:
    generator = np.random.default_rng(0)
    report = fit_drift({"score": generator.random(150)}, shift_parts=1_000)
    assert report.baseline is None
    (refusal,) = report.refusals
    assert "150 values of score" in refusal.got
    assert "200" in refusal.expected
    assert "Let 50 more good parts pass" in refusal.advice
    # So alike that 400 are not enough.
    report = fit_drift({"score": generator.random(400), "brightness": alike(generator, 400, 0.9)}, shift_parts=1_000)
    assert report.baseline is None
    assert report.alike_parts["brightness"] > 5
    assert "brightness is alike over about" in report.refusals[0].advice
    report = fit_drift({"score": [nan] * 400}, shift_parts=1_000)
    assert "0 values of score" in report.refusals[0].got


def test_rarer_false_alarms_need_a_longer_baseline() -> None:
    values = {"score": np.random.default_rng(0).random(400).tolist()}
    report = fit_drift({"score": values["score"][:200]}, shift_parts=500_000, false_alarm_rate=1e-4)
    assert report.baseline is None
    needed = int(report.refusals[0].expected.split()[0])
    assert 200 < needed < 400
    assert (
        fit_drift({"score": values["score"][:needed]}, shift_parts=500_000, false_alarm_rate=1e-4).baseline is not None
    )


def test_a_signal_that_never_changes_does_not_raise_by_itself() -> None:
    report = fit_drift({"score": [0.0] * 300}, shift_parts=1_000, tolerances={"score": 0.05})
    assert report.baseline is not None
    test = DriftTest(report.baseline)
    state, alarms, _ = run(test, test.start(), {"score": np.where(np.arange(1_000) % 100 == 99, 0.01, 0.0)})
    assert not alarms
    _, alarms, _ = run(test, state, {"score": np.full(100, 0.5)})
    assert alarms


@pytest.mark.parametrize(("likeness", "truth"), [(0.0, 1.0), (0.5, 3.0), (0.8, 9.0), (0.9, 19.0)])
def test_how_far_parts_are_alike(likeness: float, truth: float) -> None:
    """The time of a first-order autoregression is (1 + likeness) / (1 - likeness)."""
    generator = np.random.default_rng(0)
    found = [alike_parts(alike(generator, 4_000, likeness)) for _ in range(10)]
    assert 0.9 * truth <= np.median(found) <= 1.8 * truth


def test_the_spread_of_blocks_is_that_of_long_sums() -> None:
    """The variance of a mean of many parts, times their number, is 16.4 for normal scores of an autoregression of 0.9, by a
    simulation of eight million parts; blocks of any length show less of it by themselves.
    """
    generator = np.random.default_rng(0)
    found = []
    for _ in range(40):
        baseline = fit_drift({"score": alike(generator, 20_000, 0.9)}, shift_parts=10_000).baseline
        assert baseline is not None
        found.append(baseline.signals[0].block_spread ** 2 * baseline.block_parts)
    assert 16.0 < np.mean(found) < 18.0


@given(st.lists(st.floats(-1e6, 1e6), min_size=200, max_size=400), st.integers(1, 100_000))
@settings(deadline=None, max_examples=50)
def test_any_values_give_a_baseline_or_a_refusal(values: list[float], shift_parts: int) -> None:
    place = {"name": "patch", "x_px": 0, "y_px": 0, "width_px": 64, "height_px": 64}
    region = ReferenceRegion(**place, tile_shares=[1.0] * 9)  # type: ignore[arg-type]
    report = fit_drift({"score": values}, shift_parts=shift_parts, region=region)
    assert (report.baseline is None) == bool(report.refusals)
    if report.baseline is not None:
        assert report.baseline.signals[0].grid == sorted(report.baseline.signals[0].grid)
        assert DriftBaseline.model_validate_json(report.baseline.model_dump_json()) == report.baseline


@pytest.mark.parametrize("rate", [0.0, 1.0, nan])
def test_no_rate_is_0_or_1(rate: float) -> None:
    with pytest.raises(ValueError, match="false_alarm_rate: got"):
        fit_drift({"score": [0.1] * 300}, shift_parts=1_000, false_alarm_rate=rate)


def test_values_are_finite_and_as_many_of_each() -> None:
    with pytest.raises(ValueError, match="values: got"):
        fit_drift({"score": [0.1] * 300, "brightness": [0.1] * 299}, shift_parts=1_000)
    with pytest.raises(ValueError, match="values: got"):
        fit_drift({"score": [float("inf")] * 300}, shift_parts=1_000)
    with pytest.raises(ValueError, match="values: got"):
        fit_drift({}, shift_parts=1_000)


def test_scores_that_are_mostly_one_value_are_not_watched() -> None:
    generator = np.random.default_rng(5)
    score = np.where(generator.random(600) < 0.97, 0.0, generator.uniform(0.3, 0.6, 600))
    brightness = generator.normal(100.0, 1.0, 600)
    report = fit_drift({"score": score, "brightness": brightness}, shift_parts=1_000, false_alarm_rate=0.05)
    assert report.baseline is not None
    assert [each.signal for each in report.baseline.signals] == ["brightness"]
    assert not report.watches_score
    assert report.same_score_share == pytest.approx(np.mean(score == 0.0))
    both = fit_drift({"score": brightness / 200, "brightness": brightness}, shift_parts=1_000, false_alarm_rate=0.05)
    assert both.baseline is not None
    assert both.watches_score
    assert len(both.baseline.signals) == 2
