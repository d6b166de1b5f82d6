"""Pages for people: whole, harmless whatever they are made of, and never in the place of something else."""

from __future__ import annotations

import base64
import re
import sys
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from calibration.intervals import intervals, share_of
from pipeline.latency import LatencyHistogram
from pipeline.report.blocks import (
    Block,
    Box,
    Fact,
    Facts,
    Gallery,
    Notice,
    Page,
    Picture,
    Plot,
    Section,
    Table,
    Words,
    plain,
)
from pipeline.report.folder import CannotReport, check_folder, write_page
from pipeline.report.page import render
from pipeline.report.pictures import NoPicture, no_picture, picture_of, picture_of_file
from pipeline.report.plots import (
    Mark,
    Span,
    heat_bar,
    pareto,
    rates_over_time,
    score_differences,
    score_histogram,
    stage_bars,
    time_histogram,
)
from pipeline.report.shares import percent, told
from tests.browser import browser

HOSTILE = (
    '"><script>alert(1)</script><img src="http://example.org/x" onerror=alert(2)>'
    " {{ 7 * 7 }} $\\frac{1$ &amp; \x00\x1b[31m\u202e"
)
VOID = {"meta", "link", "img", "br"}


class Strict(HTMLParser):
    """Every element is closed where it was opened; collects what is there."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a beginning"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def drawing(plot: Plot) -> str:
    """The SVG, which must be well-formed and fetch nothing."""
    prefix = "data:image/svg+xml;base64,"
    assert plot.src.startswith(prefix)
    text = base64.b64decode(plot.src.removeprefix(prefix)).decode()
    root = ElementTree.fromstring(text)
    names = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert names & {"script", "foreignObject"} == set()
    for element in root.iter():
        for name, value in element.attrib.items():
            if name.rpartition("}")[2] == "href":
                assert value.startswith(("#", "data:image/png;base64,"))
    assert plot.alt
    return text


def pixels(height_px: int = 60, width_px: int = 80) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(0, 255, (height_px, width_px, 3)).astype(np.uint8)


def a_page(text: str = "words") -> Page:
    """Every kind of block, with this text in every place for text."""
    picture = picture_of(pixels(), alt=text, caption=text, lines=[text], boxes=[Box((1, 2, 30, 40), text)])
    blocks: list[Block] = [
        Facts([Fact(text, text, text)]),
        Notice("bad", text, [text]),
        Words(text),
        Table(text, [text, text], [[text, text]], frozenset({1}), text),
        pareto([(text, 3), ("other", 1)], of=4, caption=text),
        Plot("data:image/svg+xml;base64,", text, text),
        picture,
        Gallery([picture, no_picture(alt=text, caption=text, lines=[text])]),
    ]
    return Page(text, text, blocks, [Section(text, blocks)], text)


def test_a_page_is_well_formed_and_fetches_nothing() -> None:
    html = render(a_page())
    page = Strict(html)
    assert html.startswith("<!doctype html>\n<html lang=")
    assert page.all("script") == []
    for attributes in (attributes for _, attributes in page.elements):
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#"))
    assert all(attributes["alt"] for attributes in page.all("img"))
    assert "url(" not in html
    assert "default-src 'none'" in next(
        attributes["content"] or ""
        for attributes in page.all("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert len(page.all("h1")) == 1
    assert len(page.all("caption")) == len(page.all("table")) == 2
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {f"#{name}" for name in ids} >= {attributes["href"] for attributes in page.all("a")}


def test_hostile_text_stays_text() -> None:
    harmless, hostile = Strict(render(a_page())), Strict(render(a_page(HOSTILE)))
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in harmless.elements]
    names, expected = ([set(each) - {"class"} for _, each in page.elements] for page in (hostile, harmless))
    assert names == expected
    assert any("<script>alert(1)</script>" in text for text in hostile.text)
    assert any("{{ 7 * 7 }}" in text for text in hostile.text)


@settings(max_examples=40, deadline=None)
@given(st.text(st.characters(codec=None), max_size=80))
def test_any_text_can_be_shown(text: str) -> None:
    page = Strict(render(Page(text, text, [Table(text, [text], [[text]])], [Section(text, [Words(text)])], text)))
    assert [tag for tag, _ in page.elements].count("table") == 1
    assert all(each.isprintable() for each in plain(text))
    assert len(plain(text, 20)) <= 20


def test_a_row_of_other_length_than_its_table() -> None:
    with pytest.raises(ValueError, match="expected 2 cells in each row"):
        render(Page("", "", [Table("t", ["a", "b"], [["1"]])], [], ""))


def test_a_report_appears_whole_and_replaces_its_like(tmp_path: Path) -> None:
    folder = tmp_path / "report"
    for text in ("first", "second"):
        check_folder(folder)
        page = write_page(folder, render(a_page(text)))
    assert "second" in page.read_text()
    (folder / ".index.html.new").write_text("of a report that was killed")
    check_folder(folder)
    write_page(folder, render(a_page("third")))
    assert [file.name for file in folder.iterdir()] == ["index.html"]


def test_what_is_no_report_stays(tmp_path: Path) -> None:
    def refused(folder: Path, words: str) -> None:
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(CannotReport, match=re.escape(words)):
            check_folder(folder)
        if folder.exists():
            with pytest.raises(CannotReport):
                write_page(folder, render(a_page()))
        assert sorted(tmp_path.rglob("*")) == before

    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    refused(other, "with notes.txt in it, expected a new or empty folder, or one with an earlier report")
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "index.html").write_text("<!doctype html><title>mine</title>")
    refused(strange, "with index.html in it")
    assert (strange / "index.html").read_text() == "<!doctype html><title>mine</title>"
    linked = tmp_path / "linked"
    linked.mkdir()
    ours = tmp_path / "ours.html"
    ours.write_text(render(a_page()))
    (linked / "index.html").symlink_to(ours)
    refused(linked, "with index.html in it")
    (tmp_path / "file").write_text("mine")
    refused(tmp_path / "file", "expected a new or empty folder")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    refused(tmp_path / "dangling", "expected a new or empty folder")
    refused(tmp_path / "no" / "such", "expected a folder that is there, or one to be made in a folder that is")


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CannotReport, match=re.escape("needs matplotlib: pip install 'lineside[report]'")):
        check_folder(tmp_path)


@pytest.mark.parametrize(("count", "total"), [(0, 1), (1, 1), (0, 299), (3, 299), (299, 299), (1_234_567, 9_876_543)])
def test_intervals_are_those_of_clopper_and_pearson(count: int, total: int) -> None:
    share = share_of(count, total)
    assert share is not None
    exact = binomtest(count, total).proportion_ci(0.95, "exact")
    assert (share.low, share.high) == pytest.approx((exact.low, exact.high), abs=1e-9)


def test_many_intervals_at_once() -> None:
    low, high = intervals([0, 5, 10], [10, 10, 10])
    for each in range(3):
        share = share_of(5 * each, 10)
        assert share is not None
        assert (low[each], high[each]) == (share.low, share.high)
    assert share_of(0, 0) is None
    assert told(None) == "-"
    with pytest.raises(ValueError, match="got 2 of 1"):
        share_of(2, 1)
    assert [percent(ratio) for ratio in (None, 0.0, 0.00005, 0.0123, 0.5, 0.9999, 1.0)] == [
        "-",
        "0.00\u00a0%",
        "0.005\u00a0%",
        "1.23\u00a0%",
        "50.0\u00a0%",
        "99.990\u00a0%",
        "100.00\u00a0%",
    ]


def test_plots_of_little_and_of_much() -> None:
    counts = [(f"class {number}", 100 - number) for number in range(40)]
    assert "25 more classes" in drawing(pareto(counts, of=500, caption=""))
    assert "alert" in drawing(pareto([(HOSTILE, 1)], of=1, caption=""))
    noon = datetime(2026, 1, 31, 12, tzinfo=timezone.utc)
    one = rates_over_time([Span(noon, 1, 0, 0)], width_s=60, caption="")
    drawing(one)
    assert "0.00\u00a0% in all" in one.alt
    drawing(rates_over_time([Span(noon, 0, 0, 3)], width_s=60, caption=""))
    spans = [Span(noon + timedelta(hours=hour), 90, hour % 7, hour % 2) for hour in range(100) if hour % 30 < 20]
    drawing(rates_over_time(spans, width_s=3_600, caption=""))
    for times in ([0], [5_000], [1, 70_000_000], list(range(100, 20_000, 7))):
        histogram = LatencyHistogram()
        for time_us in times:
            histogram.add(time_us)
        drawing(time_histogram(*histogram.bins(), marks=[Mark(5_000, "budget")], x_label="us", caption=""))
    stages = {"grab": {"p50": 0, "p99": 1}, HOSTILE: {"p50": 5, "p99": 7}}
    drawing(stage_bars(stages, percentiles=("p50", "p99"), caption=""))
    edges = np.linspace(0, 1, 11)
    drawing(score_histogram(edges, {"PASS": np.zeros(10, np.int64)}, thresholds=[], caption=""))
    drawing(heat_bar(np.zeros((1, 256, 3), np.uint8), [Mark(0.5, HOSTILE)], x_label="heat", caption=""))
    drawing(score_histogram(edges, {"PASS": np.arange(10)}, thresholds=[Mark(0.5, HOSTILE)], caption=""))


def test_score_differences_name_the_largest() -> None:
    before = np.linspace(0, 1, 50)
    after = before.copy()
    same = score_differences(before, after, caption="")
    drawing(same)
    assert "largest difference 0," in same.alt
    after[3] -= 0.25
    changed = score_differences(before, after, thresholds=(0.5, None), names=("old", HOSTILE), caption="")
    drawing(changed)
    assert "largest difference 0.25," in changed.alt
    drawing(score_differences(before[:1], before[:1], caption=""))


def test_the_bins_of_a_histogram_hold_its_values() -> None:
    histogram = LatencyHistogram()
    for value_us in (0, 1_023, 1_024, 1_025, 123_456, 10**15):
        histogram.add(value_us)
    lower_us, upper_us, counts = histogram.bins()
    assert counts.sum() == 6
    for value_us in (0, 1_023, 1_024, 123_456):
        assert ((lower_us <= value_us) & (value_us <= upper_us)).sum() == 1
    assert (lower_us[1:] > upper_us[:-1]).all()


def decoded(picture: Picture) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    assert picture.src is not None
    content = base64.b64decode(picture.src.partition(",")[2])
    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED), np.uint8)


def test_small_pictures_keep_every_pixel() -> None:
    image = pixels(32, 40)
    np.testing.assert_array_equal(decoded(picture_of(image, alt="", caption="")), image)
    np.testing.assert_array_equal(decoded(picture_of(image[..., ::-1], alt="", caption="", is_rgb=True)), image)
    np.testing.assert_array_equal(decoded(picture_of(image[:, ::2, 0], alt="", caption="")), image[:, ::2, 0])


def test_large_pictures_become_small_and_boxes_stay_where_they_are() -> None:
    boxes = [Box((-5, 700, 900, 99_999), HOSTILE), *[Box((1, 1, 2, 2), "x")] * 60]
    picture = picture_of(pixels(960, 1280), alt="", caption="", boxes=boxes)
    assert decoded(picture).shape == (360, 480, 3)
    assert (picture.width_px, picture.height_px) == (1280, 960)
    assert picture.boxes[0].box_px == (0.0, 700.0, 900.0, 960.0)
    assert picture.boxes[0].label == plain(HOSTILE, 32)
    assert list(picture.lines) == ["21 more boxes are not drawn"]


def test_files_that_are_no_pictures(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    cv2.imwrite(str(good), pixels())
    np.testing.assert_array_equal(decoded(picture_of_file(good, alt="", caption="")), pixels())
    (tmp_path / "empty.png").touch()
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:40])
    (tmp_path / "text.png").write_text(HOSTILE)
    (tmp_path / "link.png").symlink_to(good)
    (tmp_path / "folder.png").mkdir()
    for name in ("empty", "cut", "text", "link", "folder", "none"):
        with pytest.raises(NoPicture, match=f"{name}.png"):
            picture_of_file(tmp_path / f"{name}.png", alt="", caption="")


def test_a_browser_shows_it_and_asks_nobody(tmp_path: Path) -> None:
    page = write_page(tmp_path / "report", render(a_page(HOSTILE)))
    with browser(tmp_path / "profile") as seen:
        seen.open(page)
        sizes = seen.value("[...document.images].filter(i => i.alt && i.src.length > 40).map(i => i.naturalWidth)")
        assert len(sizes) == 6
        assert all(size > 0 for size in sizes)
        assert seen.value("document.title").startswith('"><script>')
        shot = cv2.imdecode(np.frombuffer(seen.picture(), np.uint8), cv2.IMREAD_COLOR)
        # Noise, as in the picture that was put in, is nowhere else on the page.
        assert shot is not None
        assert shot.std() > 10
    requests = [told["request"]["url"] for told in seen.told("Network.requestWillBeSent")]
    assert requests[0] == page.as_uri()
    assert all(url.startswith("data:") for url in requests[1:])
    assert seen.told("Log.entryAdded") == []
    assert seen.told("Runtime.consoleAPICalled") == seen.told("Runtime.exceptionThrown") == []
