"""Names on their way from records to images."""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterator

import msgspec
import pytest

from pipeline.channel import Link, link_pair
from pipeline.messages import FrameKey, PartMade
from pipeline.naming import WAITING_BYTES_MAX, Naming
from pipeline.payloads import DefectResult, encode
from tests.unit.pipeline.test_payloads import RESULT


@pytest.fixture
def naming() -> Iterator[Naming]:
    made = Naming()
    yield made
    made.close()


@contextlib.contextmanager
def images_of(naming: Naming) -> Iterator[Link]:
    """The other end."""
    one, other = link_pair()
    naming.connect(Link(one))
    images = Link(other)
    yield images
    images.close()


def made(number: int, **changes: object) -> PartMade:
    result = msgspec.structs.replace(RESULT, part_id=number, **changes)
    return PartMade((FrameKey("cam0", 1, number),), encode(result))


def drained(images: Link) -> list[PartMade]:
    return [message for message in images.drain() if isinstance(message, PartMade)]


def test_a_burst_that_fills_the_link_arrives_whole_and_in_order(naming: Naming) -> None:
    with images_of(naming) as images:
        told = [made(number) for number in range(8_000)]
        for message in told:
            naming.say(message)
            naming.turn()
        assert naming.waiting_count > 0, "more than a link holds"
        heard = drained(images)
        while naming.write_descriptors():
            assert select.select([], naming.write_descriptors(), [], 30)[1], "the link took no more"
            naming.turn()
            heard += drained(images)
    assert heard == told
    assert naming.lost_count == 0


def test_names_wait_within_bounds_and_the_oldest_are_lost_and_counted(naming: Naming) -> None:
    with images_of(naming) as images:
        one = made(1)
        fitting = WAITING_BYTES_MAX // len(one.result_json)
        for number in range(10_000_000, 10_000_000 + fitting):
            naming.say(PartMade((FrameKey("cam0", 1, number),), one.result_json))
        assert (naming.waiting_count, naming.lost_count) == (fitting, 0)
        naming.say(one)
        assert (naming.waiting_count, naming.lost_count) == (fitting, 1)
        naming.turn()
        first = drained(images)[0]
        assert (first.frames[0].trigger_counter, first.unnamed_count) == (10_000_001, 1)
    with images_of(naming) as successor:
        naming.say(one)
        naming.turn()
        assert drained(successor) == [one], "it has lost nothing yet"


def test_what_is_too_long_goes_without_its_defects(naming: Naming) -> None:
    defect = DefectResult(
        class_name='"' * 200, score=0.5, camera_id="cam0", box_px=(0.0, 0.0, 1.0, 1.0), box_mm=None, area_mm2=None
    )
    with images_of(naming) as images:
        naming.say(made(1, defects=[defect] * 300))
        naming.turn()
        assert drained(images) == [made(1, defects=[])]


def test_nothing_waits_for_an_images_that_is_gone(naming: Naming) -> None:
    naming.say(made(1))
    assert naming.waiting_count == 0
    with images_of(naming):
        pass
    naming.say(made(2))
    naming.turn()
    assert (naming.is_connected, naming.waiting_count, naming.write_descriptors()) == (False, 0, [])
    with images_of(naming) as images:
        naming.say(made(3))
        naming.turn()
        assert drained(images) == [made(3)]
