"""Regions in rows of the batch: in the recipe's order, or each view in the row that the model has for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.seeing_models import write_views_package
from vision.batch_rows import batch_rows, row_faults, rows_by_camera
from vision.inspector import Inspector, RecipeError
from vision.model_input import ModelInput
from vision.package import ModelPackage, PackageError, load_package
from vision.preprocess import FrameFormat
from vision.recipe import Recipe
from vision.runtime import Session, open_session
from vision.types import Frame, PixelFormat, Verdict

GREYS = {"left": 0.3, "right": 0.7}
LEVELS = {name: round(255 * grey) for name, grey in GREYS.items()}
FORMAT = FrameFormat(64, 64, PixelFormat.MONO8)


def recipe_of(**regions: list[str]) -> Recipe:
    """By camera the names of its regions."""
    size = {"x_px": 0, "y_px": 0, "width_px": 64, "height_px": 64}
    views = [
        {"camera_id": camera_id, "regions": [{"name": name, **size} for name in names]}
        for camera_id, names in regions.items()
    ]
    rules = [{"class": "anomaly", "reject_at_score": 0.5}]
    return Recipe.model_validate(
        {"recipe_id": "a", "recipe_version": "1", "model": "m", "views": views, "rules": rules}
    )


def input_of(*views: str) -> ModelInput:
    size: dict[str, Any] = {"name": "image", "width_px": 64, "height_px": 64, "colour_order": "GRAY", "fit": "stretch"}
    return ModelInput.model_validate({**size, "scale": 1.0, "mean": [0.0], "std": [1.0], "views": list(views)})


@pytest.fixture
def package(tmp_path: Path) -> ModelPackage:
    return load_package(write_views_package(tmp_path / "model", GREYS))


def session_of(package: ModelPackage) -> Session:
    return open_session(
        package, provider="cpu", batch_rows=1, intra_op_threads=1, engine_cache=None, allow_fallback=False
    )


def inspector_of(package: ModelPackage, recipe: Recipe) -> Inspector:
    inspector = Inspector(recipe, package, session_of(package), {view.camera_id: FORMAT for view in recipe.views})
    inspector.warm_up()
    return inspector


def verdicts(inspector: Inspector, **levels: int) -> dict[str, Verdict]:
    inspector.begin()
    for camera_id, level in levels.items():
        inspector.load(Frame(camera_id, 1, PixelFormat.MONO8, np.full((64, 64), level, np.uint8)))
    inspector.infer()
    return {camera_id: inspector.judge(camera_id).verdict for camera_id in levels}


@pytest.mark.parametrize("cameras", [["left", "right"], ["right", "left"]])
def test_each_view_is_judged_by_its_own_row_whatever_the_recipes_order(
    package: ModelPackage, cameras: list[str]
) -> None:
    inspector = inspector_of(package, recipe_of(**{camera_id: ["part"] for camera_id in cameras}))
    assert set(verdicts(inspector, **LEVELS).values()) == {Verdict.PASS}
    # What is good on the one side is not on the other.
    swapped = {"left": LEVELS["right"], "right": LEVELS["left"]}
    assert set(verdicts(inspector, **swapped).values()) == {Verdict.REJECT}
    assert verdicts(inspector, right=LEVELS["right"]) == {"right": Verdict.PASS}
    assert verdicts(inspector, left=LEVELS["right"]) == {"left": Verdict.REJECT}


def test_a_line_may_look_at_fewer_views_than_the_model_knows(package: ModelPackage) -> None:
    inspector = inspector_of(package, recipe_of(right=["part"]))
    assert inspector.rows("right") == (1,)
    assert verdicts(inspector, right=LEVELS["right"]) == {"right": Verdict.PASS}
    assert verdicts(inspector, right=LEVELS["left"]) == {"right": Verdict.REJECT}


def test_views_that_the_model_does_not_know_are_refused(package: ModelPackage) -> None:
    with pytest.raises(RecipeError, match=r"views\.1\.regions\.0: got 'top'.*left, right"):
        inspector_of(package, recipe_of(left=["part"], top=["part"]))
    with pytest.raises(RecipeError, match=r"views\.0\.regions\.1: got 'left\.b'"):
        inspector_of(package, recipe_of(left=["a", "b"]))


@pytest.mark.parametrize("views", [["left"], ["left", "right", "top"]])
def test_a_card_that_names_other_views_than_the_model_has_rows_is_refused(tmp_path: Path, views: list[str]) -> None:
    folder = write_views_package(tmp_path / "model", GREYS)
    card = (folder / "model.yaml").read_text()
    (folder / "model.yaml").write_text(
        card.replace("- left\n  - right\n", "".join(f"- {view}\n  " for view in views)[:-2])
    )
    with pytest.raises(PackageError, match=r"input\.views: got \d views \(left"):
        session_of(load_package(folder))


def test_regions_are_called_by_their_camera_and_name() -> None:
    known = input_of("side", "top.left", "top.right")
    recipe = recipe_of(top=["right", "left"], side=["any"])
    assert list(row_faults(recipe, known, "r.yaml")) == []
    assert rows_by_camera(recipe, known) == {"top": (2, 1), "side": (0,)}
    # Also where the camera has no other region here, to try one alone.
    assert rows_by_camera(recipe_of(top=["left"]), known) == {"top": (1,)}
    (twice,) = row_faults(recipe_of(top=["left", "left"]), known, "r.yaml")
    assert twice.key == "views.0.regions.1"
    assert twice.got == "'top.left' once more"


@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_rows_of_a_model_that_names_no_views_are_taken_in_order(counts: list[int]) -> None:
    recipe = recipe_of(**{f"c{index}": [f"r{each}" for each in range(count)] for index, count in enumerate(counts)})
    rows = rows_by_camera(recipe, input_of())
    assert [row for view in recipe.views for row in rows[view.camera_id]] == list(range(sum(counts)))
    assert batch_rows(recipe, input_of()) == sum(counts)
    assert list(row_faults(recipe, input_of(), "r.yaml")) == []
