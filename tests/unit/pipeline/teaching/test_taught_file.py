"""What is kept of a teaching comes back as it was, or is refused."""

from __future__ import annotations

import errno
import fcntl
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from calibration.teaching.backbone import feature_shape
from pipeline.teaching.features import Features
from pipeline.teaching.taught_file import (
    FOLDER,
    KeptPart,
    KeptPicture,
    KeptView,
    PackageHeld,
    Taught,
    features_file,
    features_sha256,
    held,
    read_taught,
    write_taught,
)
from tests.models import write_stub_package
from vision.faults import FaultsError
from vision.package import ModelPackage, load_package
from vision.preprocess import FrameFormat
from vision.types import PixelFormat

PARTS = 5
VIEWS = {"top": FrameFormat(96, 96, PixelFormat.MONO8), "side": FrameFormat(120, 96, PixelFormat.MONO8)}
SHAPE = feature_shape(96, 96, is_grey=True, size_px=96, depth=10)


def with_views(package: ModelPackage, views: list[str]) -> ModelPackage:
    """As if its card said so."""
    model_input = package.card.input.model_copy(update={"views": views})
    return replace(package, card=package.card.model_copy(update={"input": model_input}))


def write(folder: Path) -> tuple[ModelPackage, Taught, list[Features]]:
    """A package, whose model is of no matter here, and what it was taught."""
    package = with_views(
        load_package(write_stub_package(folder, width_px=SHAPE.input_width_px, height_px=SHAPE.input_height_px)),
        list(VIEWS),
    )
    (folder / FOLDER).mkdir()
    features = []
    for index in range(len(VIEWS)):
        made = np.random.default_rng(index).normal(0, 1, (PARTS, SHAPE.channel_count, *SHAPE.grid)).astype(np.float32)
        np.save(features_file(folder, index), made)
        features.append(made)
    taught = Taught(
        layout="lineside.taught/1",
        product="plate",
        sha256=package.sha256,
        shape=SHAPE,
        false_reject_max=0.02,
        confidence=0.9,
        views=tuple(
            KeptView(name=name, frame=frame, features_sha256=features_sha256(folder, index))
            for index, (name, frame) in enumerate(VIEWS.items())
        ),
        parts=tuple(
            KeptPart(
                name=f"pärt {number}",
                score=number / PARTS,
                pictures=tuple(KeptPicture(name=f"{view}/{number}", pixels_sha256=f"{number}{view}") for view in VIEWS),
            )
            for number in range(PARTS)
        ),
        parts_missing=None,
        auroc=None,
    )
    write_taught(folder, taught)
    return package, taught, features


def test_what_was_written_comes_back(tmp_path: Path) -> None:
    package, taught, features = write(tmp_path / "model")
    read, mapped = read_taught(package)
    assert read == taught
    assert read.frames == VIEWS
    assert read.names_by_pixels == {f"{number}{view}": f"{view}/{number}" for number in range(PARTS) for view in VIEWS}
    for one, other in zip(features, mapped, strict=True):
        assert np.array_equal(one, other)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    package, _, _ = write(tmp_path_factory.mktemp("kept") / "model")
    return package


def paths_in(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    return [path, *(each for key, value in inner for each in paths_in(value, (*path, key)))]


STRANGE = st.sampled_from([None, True, -1, 0, 7, 1e300, "", "x", [], {}, [1], {"a": 1}, 2**70, "NaN", float("nan")])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_value_may_be_wrong(kept: ModelPackage, data: st.DataObject) -> None:
    """It is refused in words, or makes no difference to what the features are of."""
    file = kept.folder / FOLDER / "parts.json"
    whole = file.read_text()
    content = json.loads(whole)
    *way, last = data.draw(st.sampled_from([path for path in paths_in(content) if path]))
    place = content
    for key in way:
        place = place[key]
    if data.draw(st.booleans()):
        place[last] = data.draw(STRANGE)
    else:
        del place[last]
    try:
        file.write_text(json.dumps(content))
        taught, features = read_taught(kept)
    except FaultsError as error:
        told = str(error)
        assert str(kept.folder) in told
    else:
        assert len(taught.views) == len(features)
        assert all(len(part.pictures) == len(taught.views) for part in taught.parts)
        assert all(of_view.shape == (len(taught.parts), SHAPE.channel_count, *SHAPE.grid) for of_view in features)
    finally:
        file.write_text(whole)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**9), bit=st.integers(0, 7))
def test_any_bit_of_the_features_may_be_wrong(kept: ModelPackage, at: int, bit: int) -> None:
    file = features_file(kept.folder, 1)
    whole = file.read_bytes()
    content = bytearray(whole)
    content[at % len(content)] ^= 1 << bit
    try:
        file.write_bytes(content)
        with pytest.raises(FaultsError, match=r"features_1\.npy"):
            read_taught(kept)
    finally:
        file.write_bytes(whole)


def test_a_folder_that_is_not_there(tmp_path: Path, kept: ModelPackage) -> None:
    shutil.copytree(kept.folder, tmp_path / "model", ignore=shutil.ignore_patterns(FOLDER))
    with pytest.raises(FaultsError, match="a package made by `lineside teach`"):
        read_taught(load_package(tmp_path / "model"))


def test_what_is_of_another_model(tmp_path: Path) -> None:
    package, taught, _ = write(tmp_path / "model")
    write_taught(package.folder, taught.model_copy(update={"sha256": "0" * 64}))
    with pytest.raises(FaultsError, match=r"parts\.json: sha256: got of the model 0000"):
        read_taught(package)


def test_what_is_of_another_input(tmp_path: Path) -> None:
    package, taught, _ = write(tmp_path / "model")
    other = feature_shape(200, 96, is_grey=True, size_px=96, depth=10)
    write_taught(package.folder, taught.model_copy(update={"shape": other}))
    with pytest.raises(FaultsError, match=r"parts\.json: shape"):
        read_taught(package)


def test_views_that_are_called_otherwise_since(kept: ModelPackage) -> None:
    for views in (["left", "right"], ["side", "top"], ["top"], []):
        with pytest.raises(FaultsError, match=r"model\.yaml: input\.views: got .*, expected 'top', 'side'"):
            read_taught(with_views(kept, views))


@pytest.mark.parametrize("name", ["a\0b", "a\x1b[2Jb", "a\nb"])
@pytest.mark.parametrize(
    "way", [("product",), ("views", 0, "name"), ("parts", 1, "name"), ("parts", 1, "pictures", 0, "name")]
)
def test_a_name_with_control_characters(kept: ModelPackage, way: tuple[Any, ...], name: str) -> None:
    file = kept.folder / FOLDER / "parts.json"
    whole = file.read_text()
    content = json.loads(whole)
    place = content
    for key in way[:-1]:
        place = place[key]
    place[way[-1]] = name
    file.write_text(json.dumps(content))
    try:
        with pytest.raises(FaultsError) as caught:
            read_taught(kept)
    finally:
        file.write_text(whole)
    where = ".".join(map(str, way))
    assert str(caught.value).startswith(f"{file}: {where}: got ")
    assert str(caught.value).endswith("expected a name without control characters, in UTF-8")
    assert str(caught.value).isprintable()


def test_one_at_a_time(kept: ModelPackage) -> None:
    with held(kept.folder):
        before = sorted(kept.folder.rglob("*"))
        with pytest.raises(PackageHeld, match="another `lineside teach` is at work on it"), held(kept.folder):
            pass
        assert sorted(kept.folder.rglob("*")) == before
    with held(kept.folder):
        pass


def test_what_was_exchanged_between_two_looks_is_not_taken_for_held(
    tmp_path: Path, kept: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else ends between the opening of the folder and its lock: the lock would be on what is about to be removed."""
    folder = shutil.copytree(kept.folder, tmp_path / "model")
    lock = fcntl.flock

    def late(descriptor: int, operation: int) -> None:
        (folder / FOLDER).rename(tmp_path / "before")
        (folder / FOLDER).mkdir()
        lock(descriptor, operation)

    monkeypatch.setattr("pipeline.teaching.taught_file.fcntl.flock", late)
    with pytest.raises(PackageHeld, match="changed by somebody else just now"), held(folder):
        pass


def test_where_there_are_no_locks_nobody_is_held_up(kept: ModelPackage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("pipeline.teaching.taught_file.fcntl.flock", refused)
    with held(kept.folder), held(kept.folder):
        pass


def test_what_is_not_there_is_not_held(tmp_path: Path) -> None:
    with held(tmp_path / "nothing"):
        pass
