"""A station to try the calibration with, without a camera: its line, recipe and model, and the pictures that its operator would
have taken, rendered.

The board's pictures are those of a set-up with known truth (``board_setups``), the parts are plates (``simulator.part_scene``),
darkened towards the corners as a lens does it.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

from pipeline.bench.board_setups import random_setup
from pipeline.simulator.part_scene import Look, PartScene

Pixels = npt.NDArray[np.uint8]

SETUP_SEED = 1
"""Of 800 x 600 px, with a ChArUco board."""
WIDTH_PX, HEIGHT_PX = 800, 600
GOOD_COUNT, DEFECTIVE_COUNT = 160, 30
"""For a threshold that rejects at most 2 % of good parts, 95 % sure, 149 good ones are needed."""
_DARK_LEVEL = 4.0
_BRIGHT_LEVEL = 190.0
_FALL_OFF = 0.3
"""Of the light at the corners."""
_NOISE_LEVELS = 2.0
DRIFT_COUNT, REPEATED_COUNT = 250, 5
_RULE_PX = (40, 500, 128, 72)
"""x, y, width and height of a pattern that is fixed beside the belt: what light and sharpness are read from."""
_RULE_LEVELS, _RULE_STEP_PX = (40.0, 225.0), 12
_LENS_PX = 0.7
_INPUT_PX = 16
_OPSET, _IR_VERSION = 17, 8


def write_example_station(folder: Path) -> Path:
    """Writes ``line.yaml``, ``recipe.yaml``, ``model/``, ``pictures/``, and ``parts/`` that the camera plays; returns the line.

    Raises OSError, FileExistsError where the folder is there.
    """
    folder.mkdir(parents=True)
    _write_model(folder / "model")
    for name, picture in example_pictures():
        file = folder / "pictures" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        _write_picture(file, picture)
    for number, picture in enumerate(parts(DEFECTIVE_COUNT, seed=9, defective_each=10), 1):
        file = folder / "parts" / f"{number:04d}.png"
        file.parent.mkdir(exist_ok=True)
        _write_picture(file, picture)
    _write_yaml(folder / "pictures" / "answers.yaml", _answers())
    _write_yaml(folder / "recipe.yaml", _recipe())
    _write_yaml(folder / "line.yaml", _line())
    return folder / "line.yaml"


def example_pictures() -> Iterator[tuple[str, Pixels]]:
    """Name, as ``step/what/0001.png``, and Mono8 (HEIGHT_PX, WIDTH_PX) of each that the steps need."""
    for name, is_on_belt, picture in random_setup(SETUP_SEED).pictures():
        yield f"geometry/{'belt' if is_on_belt else 'hand'}/{name}.png", picture
    rng = np.random.default_rng(11)
    black = np.zeros((HEIGHT_PX, WIDTH_PX))
    for number in range(1, 13):
        yield f"flat-field/dark/{number:04d}.png", _seen(black, rng)
    for number in range(1, 25):
        yield f"flat-field/bright/{number:04d}.png", _seen(black + _BRIGHT_LEVEL, rng)
    scene = PartScene(WIDTH_PX, HEIGHT_PX)
    for number in range(1, 9):
        yield f"light/{number:04d}.png", _plate(scene, Look(), 10, rng)
    for number in range(1, 16):
        yield f"registration/still/{number:04d}.png", _plate(scene, Look(), 20, rng)
    for number, picture in enumerate(parts(30, seed=12), 1):
        yield f"registration/parts/{number:04d}.png", picture
    for number in range(1, 4):
        yield f"registration/empty/{number:04d}.png", _plate(scene, Look(has_part=False), 100 + number, rng)
    for number, picture in enumerate(parts(GOOD_COUNT, seed=13), 1):
        yield f"threshold/good/{number:04d}.png", picture
    for number, picture in enumerate(parts(DEFECTIVE_COUNT, seed=14, defective_each=1), 1):
        yield f"threshold/defective/{number:04d}.png", picture
    for part in range(1, REPEATED_COUNT + 1):
        # One part's own look, and its place each time.
        gain = 1.0 + 0.015 * (part - (REPEATED_COUNT + 1) / 2)
        for number, shift_px in enumerate((0.0, 2.0, -2.0, 1.0, -1.0), 1):
            look = Look(shift_x_px=shift_px, shift_y_px=-shift_px / 2, gain=gain)
            yield f"repeatability/part-{part}/{number:04d}.png", _plate(scene, look, 1000 + part, rng)
    for number, picture in enumerate(parts(DRIFT_COUNT, seed=15), 1):
        yield f"drift/{number:04d}.png", picture


def parts(count: int, *, seed: int, defective_each: int = 0) -> Iterator[Pixels]:
    """Plates as they come along the belt; every ``defective_each``-th has something bright on it."""
    rng = np.random.default_rng(seed)
    scene = PartScene(WIDTH_PX, HEIGHT_PX)
    for number in range(1, count + 1):
        shift_x_px, shift_y_px = rng.normal(0.0, (2.5, 1.5))
        look = Look(
            shift_x_px=float(np.clip(shift_x_px, -6.0, 6.0)),
            shift_y_px=float(np.clip(shift_y_px, -4.0, 4.0)),
            angle_deg=rng.uniform(-0.3, 0.3),
            gain=rng.normal(1.0, 0.01),
            covered=0.3 if defective_each and number % defective_each == 0 else 0.0,
        )
        yield _plate(scene, look, int(rng.integers(1 << 31)), rng)


def _plate(scene: PartScene, look: Look, seed: int, rng: np.random.Generator) -> Pixels:
    frame = scene.frame(look, seed)
    x_px, y_px, wide_px, high_px = _RULE_PX
    rows, columns = np.mgrid[0:high_px, 0:wide_px] // _RULE_STEP_PX
    rule = np.where((rows + columns) % 2, *_RULE_LEVELS).astype(np.float32)
    frame[y_px : y_px + high_px, x_px : x_px + wide_px] = cv2.GaussianBlur(rule, (0, 0), _LENS_PX)
    return _seen(frame, rng)


def _seen(light: npt.NDArray[np.floating[Any] | np.uint8], rng: np.random.Generator) -> Pixels:
    """What the camera makes of so much light."""
    levels = light.astype(np.float32) * _shade() + np.float32(_DARK_LEVEL)
    levels += np.float32(_NOISE_LEVELS) * rng.standard_normal(levels.shape, np.float32)
    return np.asarray(np.clip(np.rint(levels), 0.0, 255.0), np.uint8)


@functools.cache
def _shade() -> npt.NDArray[np.float32]:
    """Of the light, what the lens lets through to each pixel."""
    y, x = np.mgrid[-1.0 : 1.0 : HEIGHT_PX * 1j, -1.0 : 1.0 : WIDTH_PX * 1j]
    return np.asarray(1.0 - _FALL_OFF * (x * x + y * y) / 2.0, np.float32)


def _answers() -> dict[str, Any]:
    setup = random_setup(SETUP_SEED)
    board, measured = setup.board, setup.measured
    x_px, y_px, wide_px, high_px = _RULE_PX
    return {
        "board": {
            "squares": f"{board.squares_x}x{board.squares_y}",
            "square_mm": board.square_mm,
            "a3": True,
            "marker_mm": board.marker_mm,
        },
        "geometry": {
            "across_mm": round(measured.square_x_mm * board.squares_x, 3),
            "down_mm": round(measured.square_y_mm * board.squares_y, 3),
            "reading_mm": 0.1,
            "thickness_mm": round(measured.thickness_mm, 3),
            "part_height_mm": round(setup.part.height_mm, 3),
            "part_tolerance_mm": round(setup.part.uncertainty_mm, 3),
        },
        "light": {"exposure_us": 400.0},
        "registration": {"search_px": 40},
        "threshold": {"false_reject_max": 0.02, "confidence": 0.95},
        "repeatability": {"parts": REPEATED_COUNT, "times": 5},
        # Inside the pattern: at its edge a blur looks like a shadow.
        "drift": {"region": f"{x_px + 8},{y_px + 8},{wide_px - 16},{high_px - 16}", "shift_parts": 1000},
    }


def _recipe() -> dict[str, Any]:
    x_px, y_px, width_px, height_px = PartScene(WIDTH_PX, HEIGHT_PX).plate_px
    region = {"name": "plate", "x_px": x_px, "y_px": y_px, "width_px": width_px, "height_px": height_px}
    return {
        "recipe_id": "plate",
        "recipe_version": "1",
        "model": "model",
        "views": [{"camera_id": "cam0", "regions": [region]}],
        "rules": [{"class": "defective", "reject_at_score": 0.9, "is_calibrated": True}],
    }


def _line() -> dict[str, Any]:
    return {
        "topic_root": "example/line1/station1",
        "recipe": "recipe.yaml",
        "cameras": [
            {
                "camera_id": "cam0",
                "kind": "folder",
                "folder": "parts",
                "width_px": WIDTH_PX,
                "height_px": HEIGHT_PX,
                "pixel_format": "Mono8",
                "parts_per_min": 120,
            }
        ],
        "timing": {"deadline_us": 200_000},
        "records": {"path": "records/line.db"},
        "runtime": {"on_unverified": "warn"},
        "calibrations": "calibrations",
        "is_simulated": True,
    }


def _write_model(folder: Path) -> None:
    """A model whose P(defective) is the mean grey level of the region."""
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
                helper.make_node("Reshape", ["mean", "column"], ["defective"]),
                helper.make_node("Sub", ["one", "defective"], ["functional"]),
                helper.make_node("Concat", ["functional", "defective"], ["probabilities"], axis=1),
            ],
            "mean_level",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, _INPUT_PX, _INPUT_PX])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])],
            [
                numpy_helper.from_array(np.array([-1, 1], np.int64), "column"),
                numpy_helper.from_array(np.array([1.0], np.float32), "one"),
            ],
        ),
        opset_imports=[helper.make_opsetid("", _OPSET)],
        ir_version=_IR_VERSION,
    )
    onnx.checker.check_model(model)
    content = model.SerializeToString()
    folder.mkdir()
    (folder / "model.onnx").write_bytes(content)
    card = {
        "name": "mean-level",
        "version": "1.0.0",
        "task": "classification",
        "input": {
            "name": "image",
            "width_px": _INPUT_PX,
            "height_px": _INPUT_PX,
            "colour_order": "GRAY",
            "layout": "NCHW",
            "scale": 1.0 / 255.0,
            "mean": [0.0],
            "std": [1.0],
            "fit": "stretch",
        },
        "outputs": {"scores": "probabilities"},
        "classes": ["functional", "defective"],
        "decoder": {"kind": "classification", "activation": "none"},
        "thresholds": {"defective": 0.9},
        "licence": "Apache-2.0",
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    _write_yaml(folder / "model.yaml", card)


def _write_picture(file: Path, picture: Pixels) -> None:
    is_made, content = cv2.imencode(".png", picture, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    assert is_made
    file.write_bytes(content.tobytes())


def _write_yaml(file: Path, content: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
