"""Regions that follow the part: the line, an evaluation and a replay come to the same of the same frame."""

from __future__ import annotations

import re
import select
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import yaml

from pipeline.channel import Link, link_pair
from pipeline.clock import NS_PER_S, now_ns
from pipeline.config import load_line
from pipeline.config_sections import RuntimeConfig
from pipeline.drift_signals import DriftSignals
from pipeline.evaluation.figures import figures_of, result_of
from pipeline.evaluation.labels import are_defective
from pipeline.evaluation.layouts import read_data_set
from pipeline.evaluation.runner import Judged, Runner
from pipeline.inspection import InspectionWorker
from pipeline.line_inspector import open_inspector
from pipeline.messages import Configure, Connect, FrameTicket, Halt, RingOffer, Stop, ViewInspected
from pipeline.replay_part import PartReplayer
from pipeline.ring import Ring, SlotHeader
from pipeline.simulator.part_scene import Look, PartScene
from pipeline.window.reader import WindowReader
from pipeline.worker import Supervised
from tests.labelled import write_folders
from tests.models import write_stub_package
from tests.seeing_models import write_blob_package, write_heat_package
from tests.service import write_line
from tests.windows import CAMERAS, HEIGHT_PX, WIDTH_PX, WindowLine, recipe_of, write_window_line
from vision.package import load_package
from vision.preprocess import FrameFormat, WrongFrame
from vision.recipe import Recipe
from vision.registration import Registration, RegistrationSection
from vision.types import Frame, PixelFormat, Reason, Verdict
from vision.view_calibration import ViewCalibration

Pixels = npt.NDArray[np.uint8]
RUNTIME = RuntimeConfig(provider="cpu", warm_up_runs=1)
FORMAT = FrameFormat(360, 300, PixelFormat.MONO8)
SCENE = PartScene(360, 300)
REFERENCE = SCENE.frame(Look(), seed=0)


def registration_of(
    reference: Pixels, x_px: int, y_px: int, width_px: int, height_px: int, search_px: int
) -> Registration:
    section = {
        "template": {"x_px": x_px, "y_px": y_px, "width_px": width_px, "height_px": height_px},
        "template_sha256": "0" * 64,
        "search_x_px": search_px,
        "search_y_px": search_px,
        "tolerance_x_px": search_px / 2,
        "tolerance_y_px": search_px / 2,
        "min_score": 0.4,
        "min_contrast": 4.0,
        "levels": 1,
    }
    template = reference[y_px : y_px + height_px, x_px : x_px + width_px].copy()
    return Registration(RegistrationSection.model_validate(section), template)


REGISTRATION = registration_of(REFERENCE, 120, 90, 128, 120, 40)


def recipe(**rule: Any) -> Recipe:
    region = {"name": "print", "x_px": 110, "y_px": 95, "width_px": 128, "height_px": 64}
    return Recipe.model_validate(
        {
            "recipe_id": "plates",
            "recipe_version": "1",
            "model": "model",
            "views": [{"camera_id": "c", "regions": [region]}],
            "rules": [{"reject_at_score": 0.5} | rule],
        }
    )


FRAMES = {
    "a_in_place.png": REFERENCE,
    "b_right.png": np.roll(REFERENCE, (-7, 13), (0, 1)),
    "c_left.png": SCENE.frame(Look(-17.2, 9.1), seed=2),
    "d_too_far.png": SCENE.frame(Look(25.0, 0.0), seed=3),
    "e_empty.png": SCENE.frame(Look(has_part=False), seed=4),
}


def evaluated(
    folder: Path, model: Path, wanted: Recipe, registration: Registration | None
) -> tuple[Runner, list[Judged]]:
    write_folders(folder, {"good": FRAMES})
    data_set = read_data_set(folder)
    runner = Runner(
        load_package(model),
        wanted,
        RUNTIME,
        calibration=ViewCalibration(registration=registration),
        wants_candidates=True,
    )
    runner.warm_up(data_set)
    return runner, list(runner.run(data_set))


@pytest.mark.parametrize("kind", ["blobs", "stub"])
def test_an_evaluation_says_of_each_image_what_the_line_says_of_the_frame(tmp_path: Path, kind: str) -> None:
    model = (write_blob_package if kind == "blobs" else write_stub_package)(tmp_path / "model")
    wanted = recipe(**{"class": "bright" if kind == "blobs" else "defective"})
    _, judged = evaluated(tmp_path / "data", model, wanted, REGISTRATION)
    inspector, _ = open_inspector(
        wanted,
        load_package(model),
        RUNTIME,
        {"c": FORMAT},
        calibrations={"c": ViewCalibration(registration=REGISTRATION)},
    )
    assert [each.inspection.reason is Reason.BAD_FRAME for each in judged] == [False, False, False, True, True]
    for each, pixels in zip(judged, FRAMES.values(), strict=True):
        frame = Frame("c", 0, PixelFormat.MONO8, pixels)
        inspector.begin()
        if each.inspection.reason is Reason.BAD_FRAME:
            assert each.inspection.verdict is Verdict.NO_DECISION
            with pytest.raises(WrongFrame, match=re.escape(each.fault)):
                inspector.load(frame)
        else:
            inspector.load(frame)
            inspector.infer()
            assert each.inspection == inspector.judge("c")
            assert not each.fault


def test_what_an_evaluation_finds_lies_where_the_part_does(tmp_path: Path) -> None:
    runner, judged = evaluated(
        tmp_path / "data", write_blob_package(tmp_path / "model"), recipe(**{"class": "bright"}), REGISTRATION
    )
    in_place, right = judged[0], judged[1]
    assert in_place.inspection.defects
    for before, after in zip(in_place.inspection.defects, right.inspection.defects, strict=True):
        assert np.array(after.box_px) - np.array(before.box_px) == pytest.approx([13, -7, 13, -7])
    assert in_place.candidates is not None
    assert right.candidates is not None
    corners = [each.boxes_px.min(axis=0) for each in (in_place.candidates, right.candidates)]
    assert corners[1] - corners[0] == pytest.approx([13, -7, 13, -7])
    assert runner.judged(right.sample).inspection == right.inspection


def test_an_anomaly_map_is_placed_where_the_part_lies(tmp_path: Path) -> None:
    wanted = recipe(**{"class": "anomaly"})
    runner, judged = evaluated(tmp_path / "data", write_heat_package(tmp_path / "model"), wanted, REGISTRATION)
    corners = []
    for each in judged[:2]:
        runner.judged(each.sample)
        seen = np.argwhere(np.isfinite(runner.anomaly_map(each.sample)))
        corners.append((*seen.min(axis=0), *(seen.max(axis=0) + 1)))
    assert corners == [(95, 110, 159, 238), (88, 123, 152, 251)]


def test_parts_out_of_their_place_count_as_not_judged(tmp_path: Path) -> None:
    model, wanted = write_stub_package(tmp_path / "model"), recipe(**{"class": "defective"})
    runner, judged = evaluated(tmp_path / "data", model, wanted, REGISTRATION)
    data_set = read_data_set(tmp_path / "data")
    is_defective = are_defective(data_set, runner.package.card, runner.judge_of)
    told = result_of(figures_of(judged, is_defective, runner.package.card, wanted, iou_min=0.5, pixels=None))
    assert told["images"]["no_decision"] == 2
    assert [each["reason"] for each in told["per_image"]][3:] == ["BAD_FRAME", "BAD_FRAME"]
    assert "no part found" in told["per_image"][4]["fault"]


def test_a_replay_says_of_each_frame_what_the_line_said(tmp_path: Path) -> None:
    line_file = write_window_line(tmp_path / "line")
    written = recipe_of(0.5)
    regions = [
        {"name": "left", "x_px": 20, "y_px": 20, "width_px": 50, "height_px": 30},
        {"name": "right", "x_px": 80, "y_px": 30, "width_px": 60, "height_px": 40},
    ]
    written["views"][0]["regions"] = regions
    (tmp_path / "line" / "recipe.yaml").write_text(yaml.safe_dump(written))
    scene = PartScene(WIDTH_PX, HEIGHT_PX)
    registration = registration_of(scene.frame(Look(), seed=0), 40, 25, 80, 50, 16)
    calibrations = {"top": ViewCalibration(registration=registration)}
    line = WindowLine(line_file, tmp_path / "window", calibrations=calibrations)
    side = np.full((HEIGHT_PX, WIDTH_PX, 3), 90, np.uint8)
    rng = np.random.default_rng(5)
    for seed, (dx, dy) in enumerate(rng.uniform(-7.0, 7.0, (8, 2)).tolist()):
        line.run({"top": scene.frame(Look(dx, dy), seed), "side": side})
    window = line.close()
    reader = WindowReader(window.folder)

    def differences(again: dict[str, ViewCalibration] | None) -> list[str]:
        package = load_package(line.line.recipe.model)
        formats = {
            each.camera_id: FrameFormat(each.width_px, each.height_px, each.pixel_format)
            for each in line.line.config.cameras
        }
        inspector, _ = open_inspector(line.line.recipe, package, RUNTIME, formats, calibrations=again)
        replayer = PartReplayer(reader, inspector, CAMERAS)
        return [difference for part_id in reader.part_ids for difference in replayer.replay(part_id).differences]

    assert len(reader.part_ids) == 8
    assert differences(calibrations) == []
    assert differences(None), "without the registration other pixels would have been judged"


def test_a_part_out_of_its_place_goes_to_signalling_as_a_bad_frame(tmp_path: Path) -> None:
    line = load_line(write_line(tmp_path, 1))
    package, wanted = load_package(line.recipe.model), recipe(**{"class": "defective"})
    wanted = wanted.model_copy(update={"views": [wanted.views[0].model_copy(update={"camera_id": "cam0"})]})
    inspector, _ = open_inspector(
        wanted, package, RUNTIME, {"cam0": FORMAT}, calibrations={"cam0": ViewCalibration(registration=REGISTRATION)}
    )
    ours, theirs = (Link(end) for end in link_pair())
    camera_end, camera_other = link_pair()
    signalling_end, signalling_other = link_pair()
    camera, signalling = Link(camera_end), Link(signalling_end)
    configured = Configure("inspection", 1, "s", "", None, 0, Halt(), True)
    worker = InspectionWorker(Supervised(theirs, configured, line), inspector, DriftSignals(line.config, {}))
    thread = threading.Thread(target=worker.run)
    thread.start()
    ring = Ring("cam0", len(FRAMES), FORMAT.width_px * FORMAT.height_px)
    with camera_other, signalling_other:
        assert ours.send(Connect("signalling", 1, None), (signalling_other.fileno(),))
        assert ours.send(Connect("acquisition", 1, "cam0"), (camera_other.fileno(),))
    assert camera.send(RingOffer("cam0", 1, len(FRAMES), ring.slot_bytes), (ring.descriptor,))
    later_ns = now_ns() + 3_600 * NS_PER_S
    for counter, pixels in enumerate(FRAMES.values()):
        slot = ring.loan()
        assert slot is not None
        slot.pixels[: pixels.size] = pixels.reshape(-1)
        header = SlotHeader(counter, None, 0, 0, FORMAT.width_px, FORMAT.height_px, FORMAT.width_px, PixelFormat.MONO8)
        ring.publish(slot, header, reader=1)
        ticket = FrameTicket("cam0", 1, slot.index, slot.generation, counter, None, later_ns + counter * NS_PER_S, 0)
        assert camera.send(ticket)
    told: list[ViewInspected] = []
    while len(told) < len(FRAMES):
        ready, _, _ = select.select([signalling], [], [], 30)
        assert ready, f"only {len(told)} inspections came"
        for message in signalling.drain():
            assert isinstance(message, ViewInspected)
            told.append(message)
    assert ours.send(Stop())
    thread.join()
    ring.close()
    for link in (ours, theirs, camera, signalling, *(held.link for held in worker._cameras.values())):
        link.close()
    if worker._signalling is not None:
        worker._signalling.close()
    said = [(view.verdict, view.reason) for view in sorted(told, key=lambda view: view.trigger_counter)]
    assert all(reason in ("OK", "DEFECT") for _, reason in said[:3])
    assert said[3:] == [("NO_DECISION", "BAD_FRAME")] * 2
