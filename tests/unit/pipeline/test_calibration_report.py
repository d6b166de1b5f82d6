"""What calibrations found, as blocks: pictures of before and after, marks where they belong, and every reason of a refusal."""

from __future__ import annotations

import numpy as np
import pytest

from calibration.flat_field import fit_flat_field
from calibration.registration import calibrate_registration
from pipeline.calibration_report.light import flat_field_blocks
from pipeline.calibration_report.page import calibration_page
from pipeline.calibration_report.position import registration_blocks
from pipeline.report.blocks import Block, Facts, Gallery, Notice, Section, Table
from pipeline.report.page import render
from pipeline.simulator.part_scene import Look
from tests.station_pictures import HEIGHT_PX, SCENE, WIDTH_PX, vignetted_sensor
from vision.preprocess import FrameFormat
from vision.recipe import Region
from vision.registration import TemplateRegion
from vision.types import PixelFormat

FORMAT = FrameFormat(WIDTH_PX, HEIGHT_PX, PixelFormat.MONO8)
TEMPLATE = TemplateRegion(x_px=120, y_px=90, width_px=128, height_px=120)
REGION = Region(name="<b>label</b>", x_px=130, y_px=100, width_px=60, height_px=60)


def gallery(blocks: list[Block]) -> Gallery:
    (found,) = (block for block in blocks if isinstance(block, Gallery))
    return found


def html(blocks: list[Block]) -> str:
    return render(calibration_page("Even light", "camera cam0", [], [Section("Even light", blocks)]))


@pytest.mark.parametrize("pixel_format", [PixelFormat.MONO8, PixelFormat.RGB8])
def test_a_flat_field_is_shown_before_and_after_with_its_pixels_marked(pixel_format: PixelFormat) -> None:
    sensor = vignetted_sensor(channels=pixel_format.channel_count)
    bright = sensor.frames(190.0, 24)
    blocks = flat_field_blocks(fit_flat_field(sensor.frames(0.0, 12), bright), bright, pixel_format)
    before, after, gains = gallery(blocks).pictures
    assert before.src != after.src
    assert [box.label for box in gains.boxes] == ["dead", "hot"]
    for box, (x_px, y_px) in zip(gains.boxes, ((50, 40), (200, 100)), strict=True):
        x1, y1, x2, y2 = box.box_px
        assert x1 < x_px < x2
        assert y1 < y_px < y2
    facts = next(block for block in blocks if isinstance(block, Facts))
    assert [fact.value for fact in facts.facts[2:]] == ["1", "1"]
    assert html(blocks).count("<img") == 3


def test_a_refused_flat_field_says_why_and_shows_a_picture() -> None:
    sensor = vignetted_sensor()
    bright = sensor.frames(190.0, 2)
    found = fit_flat_field(sensor.frames(0.0, 3), bright)
    blocks = flat_field_blocks(found, bright, PixelFormat.MONO8)
    notice = next(block for block in blocks if isinstance(block, Notice))
    assert notice.mood == "bad"
    assert [line.split(":")[0] for line in notice.lines] == ["too few dark frames", "too few bright frames"]
    assert len(gallery(blocks).pictures) == 1


@pytest.mark.parametrize("mm_per_px", [None, (0.25, 0.5)])
def test_a_registration_is_shown_with_its_template_and_the_parts_that_lie_farthest_off(
    mm_per_px: tuple[float, float] | None,
) -> None:
    reference = SCENE.frame(Look(), 0)
    shifts = np.linspace(-6.0, 6.0, 21)
    parts = [SCENE.frame(Look(float(shift), 0.0), 100 + at) for at, shift in enumerate(shifts)]
    names = [f"{at:02d}.png" for at in range(len(parts))]
    repeats = [SCENE.frame(Look(), seed) for seed in range(1, 11)]
    found = calibrate_registration(reference, TEMPLATE, FORMAT, repeats=repeats, parts=parts, regions=[REGION])
    blocks = registration_blocks(found, TEMPLATE, reference, names, parts, [REGION], PixelFormat.MONO8, mm_per_px)
    assert next(block for block in blocks if isinstance(block, Notice)).mood == "good"
    first, *others = gallery(blocks).pictures
    assert [(box.label, box.style) for box in first.boxes] == [("template", "first"), ("<b>label</b>", "second")]
    assert list(first.boxes[0].box_px) == [120.0, 90.0, 248.0, 210.0]
    assert {other.caption for other in others[:2]} == {"00.png", "20.png"}
    table = next(block for block in blocks if isinstance(block, Table))
    spread_mm = table.rows[2][6]
    assert found.parts_x is not None
    assert spread_mm == ("-" if mm_per_px is None else f"{0.25 * found.parts_x.spread_px:.4f}")
    assert "<b>label</b>" not in html(blocks)


def test_a_part_that_was_not_found_is_shown_first() -> None:
    reference = SCENE.frame(Look(), 0)
    parts = [*(SCENE.frame(Look(1.0, 0.0), seed) for seed in range(20)), SCENE.frame(Look(has_part=False), 99)]
    names = [f"{at:02d}.png" for at in range(len(parts))]
    found = calibrate_registration(reference, TEMPLATE, FORMAT, repeats=parts[:10], parts=parts)
    blocks = registration_blocks(found, TEMPLATE, reference, names, parts, [], PixelFormat.MONO8, None)
    assert gallery(blocks).pictures[1].caption == "20.png"
    assert gallery(blocks).pictures[1].lines[0].startswith("NOT FOUND")
    notice = next(block for block in blocks if isinstance(block, Notice))
    assert any(line.startswith("part not found") for line in notice.lines)
