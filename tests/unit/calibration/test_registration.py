"""Good set-ups come to a section that finds the parts; each kind of bad one is refused with its reason."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from calibration.registration import (
    PARTS_MIN,
    REPEATS_MIN,
    RegistrationReport,
    calibrate_registration,
)
from calibration.spread import spread_of
from pipeline.simulator.part_scene import Look, PartScene
from vision.preprocess import FrameFormat
from vision.recipe import Region
from vision.registration import PartLocator, TemplateRegion, read_template
from vision.types import PixelFormat

Pixels = npt.NDArray[np.uint8]
FORMAT = FrameFormat(360, 300, PixelFormat.MONO8)
SCENE = PartScene(360, 300)
REFERENCE = SCENE.frame(Look(), seed=0)
REPEATS = [SCENE.frame(Look(2.3, -1.7), seed) for seed in range(1, REPEATS_MIN + 1)]
PLACES = np.random.default_rng(7).normal((1.5, 0.0), (3.0, 1.5), (PARTS_MIN, 2))
PARTS = [SCENE.frame(Look(float(dx), float(dy)), seed) for seed, (dx, dy) in enumerate(PLACES, 100)]
EMPTY = [SCENE.frame(Look(has_part=False), seed) for seed in (1_000, 1_001)]
TEMPLATE = TemplateRegion(x_px=120, y_px=90, width_px=128, height_px=120)
REGION = Region(name="print", x_px=110, y_px=100, width_px=120, height_px=60)


def calibrated(
    template: TemplateRegion = TEMPLATE, reference: Pixels = REFERENCE, **changes: Any
) -> RegistrationReport:
    given: dict[str, Any] = {"repeats": REPEATS, "parts": PARTS, "empty": EMPTY, "regions": [REGION]}
    return calibrate_registration(reference, template, FORMAT, **(given | changes))


@pytest.fixture(scope="module")
def report() -> RegistrationReport:
    return calibrated()


def reasons(report: RegistrationReport) -> list[str]:
    assert (report.registration is None) == bool(report.refusals)
    assert (report.template_file is None) == bool(report.refusals)
    return [refusal.reason for refusal in report.refusals]


def test_a_good_set_up_gives_a_section_that_finds_the_parts(report: RegistrationReport) -> None:
    assert reasons(report) == []
    assert report.registration is not None
    assert report.template_file is not None
    section = report.registration.section
    assert section.levels > 0
    assert section.template_sha256 == hashlib.sha256(report.template_file).hexdigest()
    registration = read_template(report.template_file, section, file="template.png")
    locator = PartLocator("top", registration, FORMAT)
    for seed, (dx, dy) in enumerate([(0.0, 0.0), (4.4, 3.1), (-5.5, -2.9)], 500):
        position = locator.locate(SCENE.frame(Look(dx, dy), seed))
        locator.check(position)
        assert position.shift_x_px == pytest.approx(dx, abs=0.3)
        assert position.shift_y_px == pytest.approx(dy, abs=0.3)
    for seed in range(600, 610):
        assert not locator.locate(SCENE.frame(Look(has_part=False), seed)).is_found


def test_the_report_tells_how_well_the_place_is_repeated_and_how_far_parts_lie_apart(
    report: RegistrationReport,
) -> None:
    assert report.repeats_x is not None
    assert report.parts_x is not None
    assert report.parts_y is not None
    assert report.repeats_x.count == REPEATS_MIN
    assert report.repeats_x.mean_px == pytest.approx(2.3, abs=0.3)
    assert 0.0 < report.repeats_x.spread_low_px < report.repeats_x.spread_px < report.repeats_x.spread_high_px < 0.2
    for spread, axis in ((report.parts_x, 0), (report.parts_y, 1)):
        truth = spread_of(PLACES[:, axis])
        assert spread.mean_px == pytest.approx(truth.mean_px, abs=0.2)
        assert spread.spread_px == pytest.approx(truth.spread_px, abs=0.2)
        assert spread.mean_low_px < spread.mean_px < spread.mean_high_px
    assert report.registration is not None
    section = report.registration.section
    assert section.tolerance_x_px > section.tolerance_y_px > report.parts_y.farthest_px
    assert report.good_score_low is not None
    assert report.other_score is not None
    assert report.other_score < section.min_score < report.good_score_low
    assert len(report.positions) == len(PARTS)


def test_with_no_picture_of_the_empty_belt_the_report_says_so() -> None:
    report = calibrated(empty=[])
    assert reasons(report) == []
    assert any("empty belt" in note for note in report.notes)


def drawn(step_px: int, *, across: bool, down: bool) -> Pixels:
    """Bars, or a chessboard, over the whole picture, but for its noise."""
    y, x = np.mgrid[0:300, 0:360]
    light = (x // step_px % 2) * across ^ (y // step_px % 2) * down
    rng = np.random.default_rng(0)
    noisy: Pixels = np.clip(60 + 120 * light + rng.normal(0, 2, light.shape), 0, 255).astype(np.uint8)
    return noisy


@pytest.mark.parametrize(
    ("changes", "reason", "words"),
    [
        (
            {"template": TemplateRegion(x_px=110, y_px=40, width_px=128, height_px=60)},
            "weak in one direction",
            "place left and right rests on .* Nearly all its edges run left and right",
        ),
        (
            {"template": TemplateRegion(x_px=60, y_px=90, width_px=32, height_px=124)},
            "weak in one direction",
            "place up and down rests on",
        ),
        (
            {"template": TemplateRegion(x_px=44, y_px=44, width_px=32, height_px=32)},
            "too few edges",
            "bring more light",
        ),
        (
            {"reference": drawn(12, across=True, down=True)},
            "not the only place",
            r"a place (24|12|0) px to the .* that is \d+% like the template.*The pattern repeats itself",
        ),
        ({"reference": drawn(30, across=True, down=False)}, "weak in one direction", "up and down"),
        ({"template": TemplateRegion(x_px=20, y_px=90, width_px=128, height_px=120)}, "template too near the edge", ""),
        ({"repeats": REPEATS[:-3]}, "too few repeats", "Take 3 more without touching"),
        ({"parts": PARTS[:-2]}, "too few parts", "Let 2 more good parts pass"),
        ({"parts": [*PARTS, EMPTY[0]]}, "part not found", r"in 1 of 21 pictures \(number 21\)"),
        ({"parts": [*PARTS, SCENE.frame(Look(55.0, 0.0), 1)]}, "part not found", r"number 21"),
        ({"repeats": [*REPEATS, EMPTY[0]]}, "repeat not found", r"number 11"),
        (
            {"repeats": [SCENE.frame(Look(0.9 * (at % 3), 0.0), at) for at in range(REPEATS_MIN)]},
            "not repeatable",
            "to either side over 10 pictures of one part",
        ),
        (
            {"parts": [SCENE.frame(Look(12.0 * (-1) ** at, 0.0), at) for at in range(PARTS_MIN)]},
            "parts too far off",
            "parts that lie up to 5. px off to either side .*expected at most 39 px",
        ),
        (
            {"regions": [REGION, Region(name="edge", x_px=4, y_px=100, width_px=20, height_px=20)]},
            "no room for the regions",
            "expected at most 4 px",
        ),
        ({"parts": [*PARTS, np.zeros((300, 361), np.uint8)]}, "another size", r"picture 31 of uint8 \(300, 361\)"),
        (
            {"tolerance_px": (6.0, 30.0)},
            "tolerance too tight",
            "parts that lie up to .* px off to either side .*expected at most 6.0 px, the tolerance",
        ),
        (
            {"tolerance_px": (30.0, 39.5)},
            "parts too far off",
            "a tolerance of 39.5 px up and down, expected at most 39 px",
        ),
        (
            {
                "tolerance_px": (38.0, 38.0),
                "regions": [Region(name="edge", x_px=30, y_px=100, width_px=20, height_px=20)],
            },
            "no room for the regions",
            "a tolerance of 38.0 px to either side, expected at most 30 px",
        ),
        ({"empty": [REFERENCE]}, "unsure score", "other places that score up to 1.00"),
    ],
)
def test_a_wrong_set_up_is_refused_with_its_reason(changes: dict[str, Any], reason: str, words: str) -> None:
    report = calibrated(**changes)
    assert reasons(report) == [reason]
    assert re.search(words, str(report.refusals[0])), str(report.refusals[0])


def test_a_camera_in_colour_is_calibrated_as_a_grey_one(report: RegistrationReport) -> None:
    def coloured(pictures: list[Pixels]) -> list[Pixels]:
        return [np.repeat(each[:, :, None], 3, axis=2) for each in pictures]

    in_colour = calibrate_registration(
        coloured([REFERENCE])[0],
        TEMPLATE,
        replace(FORMAT, pixel_format=PixelFormat.BGR8),
        repeats=coloured(REPEATS),
        parts=coloured(PARTS),
        empty=coloured(EMPTY),
        regions=[REGION],
    )
    assert in_colour.registration is not None
    assert report.registration is not None
    assert in_colour.registration.section == report.registration.section
    assert in_colour.positions == report.positions


def test_the_tolerance_that_is_asked_for_is_kept() -> None:
    report = calibrated(tolerance_px=(35.5, 30.0))
    assert reasons(report) == []
    assert report.registration is not None
    section = report.registration.section
    assert (section.tolerance_x_px, section.tolerance_y_px) == (35.5, 30.0)


def test_the_search_is_rounded_up() -> None:
    report = calibrated(search_x_px=25, search_y_px=17)
    assert report.registration is not None
    section = report.registration.section
    assert (section.search_x_px, section.search_y_px) == (32, 24)
