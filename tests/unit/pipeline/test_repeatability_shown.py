"""Which of the found defects is measured, and in what."""

from __future__ import annotations

from math import isnan, nan
from pathlib import Path

import pytest

from pipeline.repeatability_shown import size_of, verdict_on
from tests.models import write_stub_package
from tests.seeing_models import write_blob_package, write_heat_package
from vision.package import ModelCard, load_package
from vision.types import Defect, Inspection, Reason, Verdict


def inspection(*defects: Defect) -> Inspection:
    return Inspection(Verdict.REJECT, Reason.DEFECT, 0.9, defects)


@pytest.fixture(scope="module")
def cards(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ModelCard]:
    folder: Path = tmp_path_factory.mktemp("models")
    writers = {"stub": write_stub_package, "blob": write_blob_package, "heat": write_heat_package}
    return {name: load_package(write(folder / name)).card for name, write in writers.items()}


def test_the_longer_side_of_the_largest_defect_is_its_size(cards: dict[str, ModelCard]) -> None:
    small = Defect("bright", 0.99, (0.0, 0.0, 30.0, 2.0), 20.0)
    large = Defect("bright", 0.6, (10.0, 10.0, 14.0, 22.0), 48.0)
    assert size_of(inspection(small, large), cards["blob"]) == 12.0
    in_mm = Defect("bright", 0.6, (10.0, 10.0, 14.0, 22.0), 48.0, (1.0, 1.0, 1.5, 2.5), 0.75)
    assert size_of(inspection(in_mm), cards["blob"]) == 1.5


def test_what_has_no_size_of_its_own_is_not_measured(cards: dict[str, ModelCard]) -> None:
    whole = (0.0, 0.0, 64.0, 64.0)
    assert isnan(size_of(inspection(), cards["blob"]))
    assert isnan(size_of(Inspection(Verdict.NO_DECISION, Reason.BAD_FRAME, nan, ()), cards["blob"]))
    assert isnan(size_of(inspection(Defect("missing bright", 1.0, whole, 4096.0)), cards["blob"]))
    assert isnan(size_of(inspection(Defect("defective", 0.9, whole, 4096.0)), cards["stub"]))
    anomaly, hot = Defect("anomaly", 0.9, whole, 4096.0), Defect("hot_region", 0.8, (1.0, 1.0, 4.0, 9.0), 24.0)
    assert isnan(size_of(inspection(anomaly), cards["heat"]))
    assert size_of(inspection(anomaly, hot), cards["heat"]) == 8.0


@pytest.mark.parametrize(
    ("share", "high", "word"),
    [
        (0.05, 0.09, "good"),
        (0.05, 0.16, "below 10 %, which so few parts do not prove"),
        (0.2, 0.4, "may do"),
        (0.31, 0.5, "NOT good enough"),
    ],
)
def test_a_gauge_is_good_or_it_is_not(share: float, high: float, word: str) -> None:
    assert verdict_on(share, high).startswith(word)
