"""Parts taught before and those that are added: which is which, each with a name of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from calibration.teaching.backbone import feature_shape
from pipeline.teaching.good_parts import of_both, of_pictures
from pipeline.teaching.picture_set import Picture, PictureSet, View
from pipeline.teaching.taught_file import KeptPart, KeptPicture, KeptView, Taught
from vision.preprocess import FrameFormat
from vision.types import PixelFormat

FRAME = FrameFormat(64, 48, PixelFormat.MONO8)


def picture_set(names: list[str], views: tuple[str, ...] = ("",)) -> PictureSet:
    def picture(name: str, view: str) -> Picture:
        return Picture(f"{view}/{name}.png", Path(name), view, name, 64, 48, True, False, "", f"{view}{name}")

    pictures = tuple(View(view, FRAME, tuple(picture(name, view) for name in names)) for view in views)
    return PictureSet(Path("good"), pictures, (), (), lambda picture: np.zeros((48, 64), np.uint8))


def taught(names: list[str], views: tuple[str, ...] = ("",)) -> Taught:
    return Taught(
        layout="lineside.taught/1",
        product="plate",
        sha256="0" * 64,
        shape=feature_shape(64, 48, is_grey=True, size_px=96, depth=10),
        false_reject_max=0.01,
        confidence=0.95,
        views=tuple(KeptView(name=view, frame=FRAME, features_sha256="") for view in views),
        parts=tuple(
            KeptPart(name=name, score=0.1, pictures=tuple(KeptPicture(name=name, pixels_sha256="") for _ in views))
            for name in names
        ),
        parts_missing=0,
        auroc=None,
    )


NAMES = st.lists(st.sampled_from(["a", "a (2)", "a (3)", "b", "b (2)", "c"]), min_size=1, max_size=6, unique=True)


@given(NAMES, NAMES)
def test_each_part_has_one_name_and_those_of_before_keep_theirs(before: list[str], added: list[str]) -> None:
    both = of_both(taught(before), [], picture_set(added))
    assert len(set(both.names)) == len(both.names) == len(before) + len(added)
    assert list(both.names[: len(before)]) == before
    for name, given_name in zip(both.names[len(before) :], added, strict=True):
        assert name == given_name or name.startswith(f"{given_name} (")
        assert (name == given_name) == (given_name not in both.names[: both.names.index(name)])


def test_pictures_are_those_of_new_parts() -> None:
    both = of_both(taught(["a", "b"]), [], picture_set(["c", "d"]))
    assert (both.kept_count, both.names) == (2, ("a", "b", "c", "d"))
    assert both.picture(1, 0) is None
    found = both.picture(3, 0)
    assert found is not None
    assert found.part_name == "d"
    anew = of_pictures(picture_set(["c", "d"]))
    assert (anew.kept_count, anew.names) == (0, ("c", "d"))


def test_views_keep_the_order_that_they_were_taught_in() -> None:
    """A folder lists them by name, a recorded window as the line has them."""
    both = of_both(taught(["a"], ("top", "side")), [], picture_set(["b"], ("side", "top")))
    assert list(both.frames) == ["top", "side"]
    assert [picture.view for picture in (*both.of_view(0), *both.of_view(1))] == ["top", "side"]


def test_rejected_parts_of_windows_count_once_and_until_they_are_settled() -> None:
    before = taught(["a"]).model_copy(update={"rejected": ("w-1", "w-2")})
    same_window = replace(picture_set(["b"]), rejected=frozenset({"w-1", "w-2", "w-3"}))
    assert of_pictures(same_window).rejected == {"w-1", "w-2", "w-3"}
    assert of_both(before, [], same_window).rejected == {"w-1", "w-2", "w-3"}
    said = replace(picture_set(["b"]), settled=frozenset({"w-1", "w-2", "w-3"}))
    assert of_both(before, [], said).rejected == set()
    assert of_both(before, [], picture_set(["b"])).rejected == {"w-1", "w-2"}
