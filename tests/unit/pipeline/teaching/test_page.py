"""What is told of a teaching: on the terminal, in JSON and on its page, whatever the names in it."""

from __future__ import annotations

import dataclasses
import json
from html.parser import HTMLParser

import numpy as np
import pytest

from pipeline.report.blocks import Gallery, Page, Plot, Table
from pipeline.report.page import render
from pipeline.teaching.overlay import shown_picture
from pipeline.teaching.page import teach_page
from pipeline.teaching.picture_set import Copy
from pipeline.teaching.report import (
    Moved,
    ScoredPart,
    Suspect,
    TeachReport,
    least_strange,
    most_moved,
    strangest,
)
from pipeline.teaching.told import auroc_words, changed_lines, to_json, words
from tests.taught import example

HOSTILE = "<i>&\N{RIGHT-TO-LEFT OVERRIDE}\x1b[2J\n"


@pytest.fixture(scope="module")
def report() -> TeachReport:
    return example(has_changed=True)


def blocks(page: Page, kind: type[Plot] | type[Gallery] | type[Table]) -> list[Plot | Gallery | Table]:
    every = [*page.blocks, *(block for section in page.sections for block in section.blocks)]
    return [block for block in every if isinstance(block, kind)]


def captions(page: Page) -> list[str]:
    return [
        picture.caption
        for gallery in blocks(page, Gallery)
        if isinstance(gallery, Gallery)
        for picture in gallery.pictures
    ]


def cells(page: Page, caption: str) -> list[list[str]]:
    (table,) = [each for each in blocks(page, Table) if isinstance(each, Table) and caption in each.caption]
    assert isinstance(table, Table)
    return [list(row) for row in table.rows]


# Choosing.


def test_the_strangest_and_the_least_strange() -> None:
    parts = [ScoredPart("b", 0.5), ScoredPart("a", 0.5), ScoredPart("c", 0.9), ScoredPart("d", 0.1)]
    assert [part.name for part in strangest(parts, 3)] == ["c", "a", "b"]
    assert [part.name for part in least_strange(parts, 3)] == ["d", "a", "b"]


def test_those_that_moved_most_are_of_both_times() -> None:
    before = [ScoredPart("a", 0.5), ScoredPart("b", 0.2), ScoredPart("gone", 0.9), ScoredPart("c", 0.4)]
    after = [ScoredPart("a", 0.4), ScoredPart("b", 0.5), ScoredPart("new", 0.1), ScoredPart("c", 0.41)]
    assert most_moved(before, after, 2) == (Moved("b", 0.2, 0.5), Moved("a", 0.5, 0.4))


def test_missed_and_rejected_by_what_the_package_rejects_from(report: TeachReport) -> None:
    parts = tuple(ScoredPart(f"{score}", score) for score in (0.7, 0.1, 0.5, 0.3))
    of = dataclasses.replace(report, good=parts, defective=parts, reject_at_score=0.5)
    assert [part.score for part in of.missed] == [0.1, 0.3]
    assert [part.score for part in of.rejected_good] == [0.7, 0.5]
    assert of.false_accept is not None
    assert (of.false_accept.count, of.false_accept.total) == (2, 4)


# The page.


def test_everything_has_its_place_on_the_page(report: TeachReport) -> None:
    page = teach_page(report)
    assert [section.title for section in page.sections] == [
        "What changed",
        "Suspects among the good",
        "Scores",
        "What it finds strange, and where",
        "Size and time",
        "What it rests on",
    ]
    # The scale of heat in front of each group of maps, histogram, ROC.
    assert len(blocks(page, Plot)) == 4
    shown = captions(page)
    groups = (report.strangest_good, report.least_strange_defective, report.strangest_defective)
    assert shown[:6:2] == shown[1:6:2] == [each.name for each in report.suspects]
    assert shown[6:] == [each.name for group in groups for each in group]
    assert cells(page, "Sizes")[1] == ["224 x 168 px", "to stage 4", "2,610", "3,350", "yes", "yes"]
    assert cells(page, "Sizes")[2][4] == "NO, 31 % over"
    assert cells(page, "100 good parts were added")[0] == ["good parts", "300", "400"]
    assert cells(page, "Copies") == [["good/0007 (copy).png", "good/0007.png"]]
    html = render(page)
    assert "At most 1 % of good parts are rejected, with 95 % confidence." in html
    assert "The mean of the features moved by 12 % of a usual good part" in html
    assert report.assumptions[1][:40] in html


def test_a_page_fetches_nothing(report: TeachReport) -> None:
    class Links(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            assert tag != "script"
            for name, value in attrs:
                if name in ("src", "href"):
                    assert value is not None
                    assert value.startswith(("data:", "#"))

    Links().feed(render(teach_page(report)))


def test_names_are_text(report: TeachReport) -> None:
    shown = shown_picture(HOSTILE, 0.9, np.zeros((20, 20), np.uint8), np.zeros((2, 2), np.float32), (HOSTILE,))
    hostile = dataclasses.replace(
        report,
        product=HOSTILE,
        sources=((HOSTILE, HOSTILE),),
        copies=(Copy(HOSTILE, HOSTILE),),
        left_out=(HOSTILE,),
        fit=((HOSTILE, HOSTILE),),
        model=((HOSTILE, HOSTILE),),
        why_chosen=HOSTILE,
        suspects=(Suspect(HOSTILE, HOSTILE, HOSTILE, 0.9, 1e-9, HOSTILE, shown),),
        suspects_words=HOSTILE,
        good=(*report.good, ScoredPart(HOSTILE, 0.9)),
        strangest_good=(shown,),
        views=tuple(dataclasses.replace(view, name=HOSTILE) for view in report.views),
        tried=tuple(dataclasses.replace(size, depth=HOSTILE) for size in report.tried),
    )
    html = render(teach_page(hostile))
    assert "<i>" not in html
    assert "\x1b" not in html
    assert "&lt;i&gt;&amp;" in html
    assert all(line.isprintable() for line in words(hostile))
    assert json.loads(json.dumps(to_json(hostile), allow_nan=False))["product"] == HOSTILE


def test_without_defects_nothing_is_said_of_them() -> None:
    report = example(defective_count=0, suspects_count=0)
    page = teach_page(report)
    assert report.auroc is None
    assert report.false_accept is None
    assert page.sections[0].title == "Scores"
    assert len(blocks(page, Plot)) == 2
    assert "how many of them pass is not known" in render(page)
    assert not any(line.startswith(("defects", "missed", "suspect", "changed")) for line in words(report))
    assert to_json(report)["auroc"] is None


def test_where_nothing_is_promised_it_is_said_first() -> None:
    report = example(good_count=200)
    page = teach_page(report)
    html = render(page)
    assert "Nothing is promised yet about good parts that are rejected." in html
    assert "Add 99 good parts" in html
    lines = words(report)
    assert any(line.startswith("refused   too few good parts: got 200 good parts") for line in lines)
    assert any(line.startswith("missing   99 good parts") for line in lines)
    # What passes at what the package rejects from is known all the same.
    told = to_json(report)["threshold"]
    assert told["is_promised"] is False
    assert told["expected_false_reject"] is None
    assert told["false_accept"]["total"] == 60


def test_pictures_in_colour_stand_beside_their_maps() -> None:
    report = example(is_grey=False, suspects_count=0)
    shown = captions(teach_page(report))
    assert shown[::2] == shown[1::2]
    assert len(shown) == 2 * 30


def test_verdicts_that_changed_are_told(report: TeachReport) -> None:
    assert report.changed is not None
    moved = (Moved("a", 0.9, 0.1), Moved("b", 0.1, 0.9), Moved("c", 0.9, 0.8), Moved("d", 0.1, 0.2))
    changed = dataclasses.replace(report, changed=dataclasses.replace(report.changed, moved=moved))
    verdicts = [row[-1] for row in cells(teach_page(changed), "moved most")]
    assert verdicts == [
        "PASSED, before rejected",
        "REJECTED, before passed",
        "rejected, as before",
        "passed, as before",
    ]


def test_what_was_measured_before_and_is_not_now_is_told(report: TeachReport) -> None:
    """Of a product that was taught with defects, and extended without."""
    assert report.changed is not None
    assert report.changed.auroc_before is not None
    before = auroc_words(report.changed.auroc_before)
    lines = changed_lines(report.changed, dataclasses.replace(report, auroc=None, defective=()))
    assert ("AUROC", before, "not measured again (no --defects)") in lines
    assert ("good parts rejected", "5 of 300", f"{len(report.rejected_good)} of 400") in lines
    never = dataclasses.replace(report.changed, auroc_before=None)
    assert changed_lines(never, report)[-1][:2] == ("AUROC", "not measured")
    assert all(what != "AUROC" for what, _, _ in changed_lines(never, dataclasses.replace(report, auroc=None)))


def test_what_became_of_the_package_is_told_last(report: TeachReport) -> None:
    assert report.changed is not None
    card = ("thresholds: kept as edited", "verification.json: REMOVED")
    extended = dataclasses.replace(report, changed=dataclasses.replace(report.changed, card=card))
    assert words(extended)[-2:] == [f"package   {each}" for each in card]
    assert [row[0] for row in cells(teach_page(extended), "card and other files")] == list(card)
    assert to_json(extended)["changed"]["card"] == card


def test_a_page_full_of_large_pictures_stays_below_5_mb(report: TeachReport) -> None:
    """Nothing is harder to pack than noise; more suspects than are shown."""
    noise = np.random.default_rng(0).integers(0, 256, (2_200, 2_200, 3), np.uint8)
    heat = np.random.default_rng(1).random((60, 80), np.float32)
    shown = shown_picture("noise.png", 0.5, noise, heat)
    ten = (shown,) * 10
    full = dataclasses.replace(
        report,
        suspects=tuple(Suspect(f"{number}", "x", "x", 0.5, 1e-3, "odd", shown) for number in range(100)),
        strangest_good=ten,
        strangest_defective=ten,
        least_strange_defective=ten,
    )
    assert len(render(teach_page(full)).encode()) < 5_000_000


# The terminal and JSON.


def test_lines_on_the_terminal(report: TeachReport) -> None:
    lines = words(report)
    for expected in (
        "pictures  400 of good parts, 60 of defects; 640 x 480 px (most of them: 2 sizes), grey",
        "copy      good/0007 (copy).png is good/0007.png: NOT COUNTED",
        "chosen    224 x 168 px, to stage 4: p50 2.61 ms, p99 3.35 ms",
        "suspect   good/0235.png of plates: score 0.539, p 3e-07: far from all others in what the middle of the picture shows",
        "changed   good parts: 400, before 300",
        "missed    and 9 more",
    ):
        assert expected in lines
    assert any(line.startswith("promised  Threshold 0.538") for line in lines)
    assert any(line.startswith("defects   AUROC 0.98") and line.endswith("; 19 of 60 would pass") for line in lines)


def test_json_holds_every_score(report: TeachReport) -> None:
    told = json.loads(json.dumps(to_json(report), allow_nan=False))
    assert len(told["good"]) == 400
    assert len(told["defective"]) == 60
    assert told["good"][0] == {"name": report.good[0].name, "score": report.good[0].score}
    assert told["suspects"][0]["p_value"] == report.suspects[0].p_value
    assert told["threshold"]["is_promised"] is True
    assert told["changed"]["moved"][0]["name"]
    assert told["sizes"]["tried"][1]["is_chosen"] is True
