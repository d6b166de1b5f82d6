"""Features in a file: as they were written, and never all of them in memory."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from calibration.teaching.backbone import feature_shape
from pipeline.teaching.features import FeatureReader, mapped, write_features
from pipeline.teaching.picture_set import Picture

SHAPE = feature_shape(96, 96, is_grey=True, size_px=96, depth=10)


def pixels(number: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (96, 96), np.uint8)


def picture(number: int) -> Picture:
    return Picture(f"{number}.png", Path(f"{number}.png"), "", str(number), 96, 96, True, False, "", "")


def read(of: Picture) -> npt.NDArray[np.uint8]:
    return pixels(int(of.part_name))


def test_known_features_come_first_and_the_others_as_the_backbone_makes_them(tmp_path: Path) -> None:
    looked: list[None] = []

    def write(
        name: str, known: npt.NDArray[np.float32] | None, rows: Sequence[int], numbers: range
    ) -> npt.NDArray[np.float32]:
        shown = [picture(number) for number in numbers]
        return write_features(tmp_path / name, SHAPE, known, rows, shown, read, lambda: looked.append(None))

    first = write("first.npy", None, (), range(5))
    both = write("both.npy", first, range(5), range(5, 8))
    assert both.shape == (8, SHAPE.channel_count, *SHAPE.grid)
    assert both.dtype == np.float32
    assert len(looked) == 8
    assert np.array_equal(both[:5], first[:5])
    reader = FeatureReader(SHAPE)
    for number in range(8):
        assert np.array_equal(both[number], reader.features(pixels(number)))
    assert np.array_equal(np.load(tmp_path / "both.npy"), both[:])
    some = write("some.npy", both, [1, 6], range(0))
    assert np.array_equal(some[:], both[[1, 6]])


@pytest.mark.parametrize("index", [3, slice(2, 5), np.array([4, 0, 4]), np.arange(6) % 2 == 0, (slice(None), 0), ...])
def test_what_is_mapped_reads_as_what_was_written(tmp_path: Path, index: Any) -> None:
    made = np.random.default_rng(0).normal(0, 1, (6, 3, 4, 5)).astype(np.float32)
    np.save(tmp_path / "features.npy", made)
    opened = mapped(tmp_path / "features.npy")
    assert opened.shape == made.shape
    assert len(opened) == 6
    assert np.array_equal(opened[index], made[index])
    assert np.array_equal(np.asarray(opened), made)
    for one, other in zip(opened, made, strict=True):
        assert np.array_equal(one, other)


def in_memory_kb(file: Path) -> int:
    """Of this file's pages, those that this process has."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.endswith(str(file)))
    return next(int(line.split()[1]) for line in lines[at:] if line.startswith("Rss:"))


def test_of_a_large_file_no_more_is_in_memory_than_is_looked_at(tmp_path: Path) -> None:
    file = tmp_path / "features.npy"
    np.save(file, np.ones((512, 8, 64, 64), np.float32))  # 64 MiB
    opened = mapped(file)
    for first in range(0, 512, 8):  # a MiB each
        assert opened[first : first + 8].sum() == 8 * 8 * 64 * 64
        assert in_memory_kb(file) < 16 << 10


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """And does not end the process, as writing by way of a map would."""
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("needs /dev/full")
    with pytest.raises(OSError, match="No space left") as caught:
        write_features(full, SHAPE, None, (), [picture(0)], read, lambda: None)
    assert caught.value.errno == errno.ENOSPC
