"""The page of an evaluation: what stands on it, whatever the names in it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pipeline.config_sections import RuntimeConfig
from pipeline.evaluation.figures import figures_of, result_of
from pipeline.evaluation.labels import are_defective
from pipeline.evaluation.layouts import read_data_set
from pipeline.evaluation.page import EvaluationShown, evaluation_page
from pipeline.evaluation.runner import Runner
from pipeline.report.blocks import Gallery, Page, Plot
from pipeline.report.page import render
from tests.labelled import write_folders
from tests.models import write_nan_package, write_stub_package
from vision.package import load_package

HOSTILE = "<i>&\N{RIGHT-TO-LEFT OVERRIDE}"


def shown(model: Path, data: Path) -> EvaluationShown:
    package, data_set = load_package(model), read_data_set(data)
    runner = Runner(package, None, RuntimeConfig(provider="cpu", warm_up_runs=1))
    is_defective = are_defective(data_set, package.card, runner.judge_of)
    judged = list(runner.run(data_set))
    recipe = runner.recipe_for(data_set.samples[0])
    figures = figures_of(judged, is_defective, package.card, recipe, iou_min=0.5, pixels=None)
    facts = {
        "model": {
            "name": HOSTILE,
            "version": "1",
            "task": package.card.task,
            "decoder": package.card.decoder.kind,
            "sha256": package.sha256,
        },
        "recipe": {"recipe_id": HOSTILE, "recipe_version": HOSTILE},
        "data": {"folder": str(data), "layout": "folders", "split": None, "images": len(judged), "sha256": "0"},
        "runtime": dict(runner.session.fingerprint),
        "rules": [{"class": HOSTILE, "reject_at_score": 0.5}],
        "version": "0",
        "made_utc": "2026-01-01T00:00:00Z",
    }
    return EvaluationShown(figures, {**facts, **result_of(figures)}, runner)


def blocks_of(page: Page, kind: type[Plot] | type[Gallery]) -> list[Plot | Gallery]:
    return [block for section in page.sections for block in section.blocks if isinstance(block, kind)]


def test_names_are_text_and_mistakes_are_pictures(tmp_path: Path) -> None:
    card = {"classes": ["fine", HOSTILE], "thresholds": {HOSTILE: 0.5}}
    model = write_stub_package(tmp_path / "model", card=card)
    levels = {"fine": (10, 250, 90), HOSTILE: (20, 130)}
    images = {
        name: {f"{HOSTILE}{level}.png": np.full((32, 32), level, np.uint8) for level in told}
        for name, told in levels.items()
    }
    page = evaluation_page(shown(model, write_folders(tmp_path / "data", images)))
    html = render(page)
    assert "<i>" not in html
    assert "\N{RIGHT-TO-LEFT OVERRIDE}" not in html
    assert "&lt;i&gt;&amp;" in html
    galleries = blocks_of(page, Gallery)
    captions = [
        picture.caption for gallery in galleries if isinstance(gallery, Gallery) for picture in gallery.pictures
    ]
    assert [re.sub(r"\D", "", caption) for caption in captions] == ["20", "250"]
    # Histogram, ROC, precision over recall, times.
    assert len(blocks_of(page, Plot)) == 4


@pytest.mark.parametrize("level", [10, 250])
def test_a_set_of_one_kind_has_a_page(tmp_path: Path, level: int) -> None:
    model = write_stub_package(tmp_path / "model")
    data = write_folders(tmp_path / "data", {"functional": {"a.png": np.full((32, 32), level, np.uint8)}})
    html = render(evaluation_page(shown(model, data)))
    assert "No image is defective by its labels" in html
    assert "Curves need good and defective images." in html


def test_images_without_a_verdict_are_on_the_page(tmp_path: Path) -> None:
    model = write_nan_package(tmp_path / "model", only_when_bright=True)
    images = {"functional": {"a.png": np.full((16, 16), 250, np.uint8)}}
    html = render(evaluation_page(shown(model, write_folders(tmp_path / "data", images))))
    assert "1 images got no verdict" in html
    assert "expected probabilities" in html
