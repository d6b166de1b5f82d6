"""The suppression kernel against its readable reference."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tests import naive_decoders as naive
from vision.kernels.suppression import suppress

EDGES = st.one_of(st.sampled_from([0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0]), st.floats(0.0, 8.0, width=32))


@given(
    corners=st.integers(0, 200).flatmap(lambda count: hnp.arrays(np.float32, (4, count), elements=EDGES, fill=EDGES)),
    classes=st.sampled_from([1, 2, 5]),
    iou_max=st.sampled_from([0.0, 0.3, 0.5, 0.7]),
    most=st.sampled_from([1, 3, 300]),
    seed=st.integers(0, 1000),
)
def test_it_is_its_reference(
    corners: npt.NDArray[np.float32], classes: int, iou_max: float, most: int, seed: int
) -> None:
    """The boxes in any order of their edges: of those without area some, of those turned inside out none."""
    count = corners.shape[1]
    corners = np.vstack([np.sort(corners[::2], axis=0), np.sort(corners[1::2], axis=0)])[[0, 2, 1, 3]]
    generator = np.random.default_rng(seed)
    order = generator.permutation(count)
    class_ids = generator.integers(0, classes, count, np.int32)
    keys = np.sort((np.arange(count, dtype=np.uint64) << np.uint64(32)) | order.astype(np.uint64))
    kept = np.zeros(most, np.int32)
    # The keys say the order; the reference knows it by the scores.
    boxes = [
        naive.Box(int(place), int(class_ids[place]), np.float32(-rank), tuple(corners[:, place]))
        for rank, place in enumerate(order)
    ]
    limit = np.float32(iou_max)
    limit = np.nextafter(limit, np.float32(-1)) if float(limit) > iou_max else limit
    stretches, stayed = np.zeros((2, classes), np.int64), np.zeros((5, count), np.float32)
    found, dropped = suppress(keys, np.ascontiguousarray(corners), class_ids, limit, stretches, stayed, kept)
    assert found <= most
    every = naive.suppressed(boxes, iou_max, class_agnostic=classes == 1, most=count)
    assert kept[:found].tolist() == [box.source for box in every[:most]]
    assert dropped == (every[most].source if len(every) > most else -1)


def test_one_class_of_scratch_suppresses_all_classes() -> None:
    corners = np.array([[0, 0], [0, 0], [4, 4], [4, 4]], np.float32)
    keys, class_ids = np.arange(2, dtype=np.uint64), np.array([0, 1], np.int32)
    stayed, kept = np.zeros((5, 2), np.float32), np.zeros(2, np.int32)
    assert suppress(keys, corners, class_ids, np.float32(0.5), np.zeros((2, 1), np.int64), stayed, kept) == (1, -1)
    assert suppress(keys, corners, class_ids, np.float32(0.5), np.zeros((2, 2), np.int64), stayed, kept) == (2, -1)
