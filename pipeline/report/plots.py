"""Drawings as data URIs of SVG. Told apart by shape, hatch and line as well as by colour; colours after Okabe and Ito."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import numpy.typing as npt
from matplotlib import dates, rc_context, ticker
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from calibration.intervals import intervals
from pipeline.report.blocks import Plot, plain
from pipeline.report.shares import percent

BLUE, ORANGE, GREY, BLACK = "#0072b2", "#d55e00", "#7a8490", "#1c2530"
_HATCHES = ("", "////", "---", "xx", "\\\\\\\\", "|||", "++")
"""Of lines alone: each dot of a dotted one would be a path of its own."""
_FILLS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#0072b2", "#d55e00")
_WIDTH_INCHES = 7.6
_CLASSES_MAX = 15
_PARTS_NAMED_MAX = 60
_LABEL_CHARS = 32
_STYLE = {
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": BLACK,
    "axes.labelsize": 9,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "axes.titleweight": "bold",
    "font.family": "sans-serif",
    "font.size": 9,
    "grid.color": "#e3e7eb",
    "grid.linewidth": 0.6,
    "hatch.color": "#1c2530",
    "hatch.linewidth": 0.5,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "svg.fonttype": "none",  # the reader's own fonts know more letters than the one that comes along
    "svg.hashsalt": "lineside",
    "text.parse_math": False,  # a class may be called $x$
    "xtick.color": BLACK,
    "xtick.labelsize": 8.5,
    "ytick.color": BLACK,
    "ytick.labelsize": 8.5,
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A value with a name, drawn as a line across."""

    value: float
    label: str


@dataclass(frozen=True, slots=True)
class Span:
    """Parts from a moment on. ``begins`` has a time zone."""

    begins: datetime
    passed: int
    rejected: int
    no_decision: int


@dataclass(frozen=True, slots=True)
class RatioCurve:
    """float64 (K,) each, 0..1, in the order in which they are joined. ``is_stepped``: flat up to each next point."""

    name: str
    x: npt.NDArray[np.float64]
    y: npt.NDArray[np.float64]
    is_stepped: bool = False


@dataclass(frozen=True, slots=True)
class Dot:
    """A point with a name."""

    x: float
    y: float
    label: str


def pareto(counts: Sequence[tuple[str, int]], *, of: int, caption: str) -> Plot:
    """Bars, the most frequent class first, and what they make up together. ``of``: parts that could have had each.

    Of more than 15 classes the rest are one bar. ``counts`` is in order, not empty, and holds no 0.
    """
    shown = list(counts[:_CLASSES_MAX])
    if len(counts) > _CLASSES_MAX:
        shown.append((f"{len(counts) - _CLASSES_MAX} more classes", sum(count for _, count in counts[_CLASSES_MAX:])))
    names = [plain(name, _LABEL_CHARS) for name, _ in shown]
    values = np.array([count for _, count in shown], np.int64)
    together = values.cumsum() / values.sum()
    with _figure(1.1 + 0.29 * len(shown)) as figure:
        axes = figure.subplots()
        places = np.arange(len(shown))
        axes.barh(places, values, color=_FILLS[1], edgecolor=BLACK, linewidth=0.5, height=0.72)
        axes.set_yticks(places, names)
        axes.invert_yaxis()
        axes.set_xlim(0, float(values.max()) * 1.25)
        axes.set_xlabel("parts")
        axes.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=8))
        axes.grid(visible=False, axis="y")
        line = axes.twiny()
        line.plot(100 * together, places, color=BLUE, marker="o", markersize=3.5, linewidth=1.3)
        line.set_xlim(0, 125)
        line.set_xticks([0, 20, 40, 60, 80, 100])
        line.set_xlabel("together, % of all (line)", color=BLUE)
        line.spines["top"].set_visible(True)
        line.grid(visible=False)
        for place, value in zip(places, values, strict=True):
            line.annotate(
                f"{value:,}  ({percent(value / of)})",
                (value, place),
                xycoords=axes.transData,
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.8},
                zorder=5,
            )
        told = ", ".join(f"{name} {value}" for name, value in zip(names[:5], values, strict=False))
        return _plot(figure, caption, f"Pareto chart of {len(counts)} classes, the most frequent first: {told}.")


def rates_over_time(spans: Sequence[Span], *, width_s: float, caption: str) -> Plot:
    """Above: the share of rejected among judged parts and of undecided among all, with 95 % bands; below: parts a span.

    ``spans`` all hold parts and are in order; between two that are not neighbours no line is drawn.
    """
    moments = [span.begins for span in spans]
    judged = [span.passed + span.rejected for span in spans]
    totals = [span.passed + span.rejected + span.no_decision for span in spans]
    with _figure(4.2) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
        breaks = _breaks(moments, width_s)
        _rate(
            above,
            moments,
            [span.rejected for span in spans],
            judged,
            breaks,
            ORANGE,
            "-",
            "o",
            "rejected, of the judged",
        )
        _rate(
            above, moments, [span.no_decision for span in spans], totals, breaks, BLUE, "--", "s", "not judged, of all"
        )
        above.set_ylabel("% of parts")
        above.set_ylim(bottom=0)
        above.legend(loc="upper left", bbox_to_anchor=(0, 1.16), ncols=2, borderaxespad=0)
        numbers = dates.date2num(moments)
        width_days = width_s / 86_400
        base = np.zeros(len(spans))
        for name, fill, hatch in (
            ("passed", "#cfe3f1", ""),
            ("rejected", ORANGE, "////"),
            ("no_decision", BLUE, "xxx"),
        ):
            values = np.array([getattr(span, name) for span in spans], np.float64)
            label = name.replace("no_decision", "not judged")
            below.bar(
                numbers, values, width_days, base, align="edge", color=fill, hatch=hatch, linewidth=0, label=label
            )
            base += values
        below.set_ylabel("parts")
        below.yaxis.set_major_locator(ticker.MaxNLocator(integer=True, nbins=4))
        below.legend(loc="upper left", bbox_to_anchor=(0, 1.32), ncols=3, borderaxespad=0)
        locator = dates.AutoDateLocator(minticks=3)
        below.xaxis.set_major_locator(locator)
        below.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        below.set_xlabel("time, UTC")
        rejected, judged_sum = sum(span.rejected for span in spans), sum(judged)
        worst = max(spans, key=lambda span: span.rejected / max(1, span.passed + span.rejected))
        worst_ratio = worst.rejected / max(1, worst.passed + worst.rejected)
        alt = (
            f"Reject rate over time in {len(spans)} spans: {percent(rejected / judged_sum) if judged_sum else 'none judged'}"
            f" in all, the highest {percent(worst_ratio)} in the span from {worst.begins:%Y-%m-%d %H:%M} UTC."
        )
        return _plot(figure, caption, alt)


def time_histogram(
    lower_us: npt.NDArray[np.float64],
    upper_us: npt.NDArray[np.float64],
    counts: npt.NDArray[np.int64],
    *,
    marks: Sequence[Mark],
    x_label: str,
    caption: str,
) -> Plot:
    """Times on a logarithmic scale, with limits and percentiles drawn across. Bins are merged for drawing; some count is not 0."""
    used = np.flatnonzero(counts)
    ends = [
        max(1.0, float(lower_us[used[0]])),
        float(upper_us[used[-1]]) + 1,
        *(mark.value for mark in marks if mark.value > 0),
    ]
    edges = np.geomspace(min(ends) * 0.95, max(ends) * 1.1, 71)
    drawn = np.zeros(len(edges) - 1)
    for index in used:
        # A bin of the histogram may lie across several of the drawing.
        low, high = max(float(lower_us[index]), edges[0]), max(float(upper_us[index]) + 1, edges[0] * 1.0001)
        covered = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None)
        if covered.sum() > 0:
            drawn += counts[index] * covered / covered.sum()
    with _figure(2.7) as figure:
        axes = figure.subplots()
        axes.stairs(drawn, edges, fill=True, color="#8fbfe0", edgecolor=BLUE, linewidth=0.8)
        axes.set_xscale("log")
        axes.set_xlim(edges[0], edges[-1])
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(_count_label))
        axes.xaxis.set_minor_formatter(ticker.FuncFormatter(_minor_label))
        axes.set_xlabel(x_label)
        axes.set_ylabel("parts")
        axes.set_ylim(0, drawn.max() * 1.05)
        _draw_marks(axes, marks)
        told = ", ".join(f"{mark.label} {mark.value:,.0f} us" for mark in marks)
        return _plot(figure, caption, f"Histogram of times of {int(counts.sum())} parts. {told}.")


def stage_bars(stages: Mapping[str, Mapping[str, int]], *, percentiles: Sequence[str], caption: str) -> Plot:
    """One bar for each percentile, of the stages one after the other: {stage: {percentile: us}}, in order."""
    with _figure(1.15 + 0.38 * len(percentiles)) as figure:
        axes = figure.subplots()
        places = np.arange(len(percentiles))
        base = np.zeros(len(percentiles))
        for number, (stage, told) in enumerate(stages.items()):
            values = np.array([told[name] for name in percentiles], np.float64)
            fill, hatch = _FILLS[number % len(_FILLS)], _HATCHES[number % len(_HATCHES)]
            axes.barh(
                places,
                values,
                0.66,
                base,
                color=fill,
                hatch=hatch,
                edgecolor=BLACK,
                linewidth=0.5,
                label=plain(stage, 16),
            )
            base += values
        axes.set_yticks(places, list(percentiles))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        axes.xaxis.set_major_formatter(ticker.FuncFormatter(_count_label))
        axes.set_xlabel("us, each stage's own percentile, one after the other")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(stages), columnspacing=1.0, handlelength=1.6)
        told_first = ", ".join(f"{stage} {told[percentiles[0]]:,}" for stage, told in stages.items())
        return _plot(figure, caption, f"Stages of a part's way in us, {percentiles[0]}: {told_first}.")


def score_histogram(
    edges: npt.NDArray[np.float64],
    counts: Mapping[str, npt.NDArray[np.int64]],
    *,
    thresholds: Sequence[Mark],
    caption: str,
) -> Plot:
    """Scores by group (its name: counts between the edges), on a logarithmic scale of counts, with thresholds."""
    with _figure(2.8) as figure:
        axes = figure.subplots()
        looks = (("#56b4e9", "", "-"), (ORANGE, "////", "--"), (GREY, "xx", ":"))
        for number, (name, values) in enumerate(counts.items()):
            fill, hatch, line = looks[number % len(looks)]
            axes.stairs(
                values,
                edges,
                fill=True,
                facecolor=(fill, 0.55),
                edgecolor=fill if fill != "#56b4e9" else BLUE,
                hatch=hatch,
                linestyle=line,
                linewidth=1.2,
                label=f"{plain(name)} ({int(values.sum()):,})",
            )
        axes.set_yscale("symlog", linthresh=1)
        axes.yaxis.set_major_formatter(ticker.FuncFormatter(_count_label))
        axes.set_ylim(bottom=0)
        axes.set_xlim(edges[0], edges[-1])
        axes.set_xlabel("score")
        axes.set_ylabel("count (logarithmic)")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.12 if thresholds else 1.0), ncols=3, borderaxespad=0)
        _draw_marks(axes, thresholds)
        told = ", ".join(f"{name} {int(values.sum())}" for name, values in counts.items())
        lines = "".join(f"; {plain(mark.label)} at {mark.value:.4g}" for mark in thresholds)
        return _plot(figure, caption, f"Histogram of scores by group: {told}{lines}.")


def values_by_part(values: Mapping[str, Sequence[float]], *, marks: Sequence[Mark], y_label: str, caption: str) -> Plot:
    """The same parts' values again and again: a column a part, in the order of their means; limits drawn across.

    ``values`` of each part are finite, and one at least. Of more than 60 parts names are left out.
    """
    ordered = sorted(values.items(), key=lambda each: sum(each[1]) / len(each[1]))
    with _figure(3.0) as figure:
        axes = figure.subplots()
        for place, (_, its) in enumerate(ordered):
            axes.plot([place, place], [min(its), max(its)], color=GREY, linewidth=1.0)
            axes.plot([place] * len(its), its, color=BLUE, marker="o", markersize=3.5, linestyle="")
        for number, mark in enumerate(marks):
            axes.axhline(
                mark.value, color=ORANGE, linestyle=("-", "--", ":", "-.")[number % 4], label=plain(mark.label)
            )
        if marks:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, borderaxespad=0)
        if len(ordered) <= _PARTS_NAMED_MAX:
            names = [plain(name, 16) for name, _ in ordered]
            axes.set_xticks(range(len(ordered)), names, rotation=90 if len(ordered) > 8 else 0)
        axes.set_xlabel("part")
        axes.set_ylabel(y_label)
        axes.grid(visible=False, axis="x")
        widest = max(ordered, key=lambda each: max(each[1]) - min(each[1]))
        alt = (
            f"{y_label} of {len(ordered)} parts, shown again and again: the widest spread is that of {plain(widest[0])}, "
            f"{min(widest[1]):.4g} to {max(widest[1]):.4g}."
        )
        return _plot(figure, caption, alt)


def score_differences(
    before: npt.NDArray[np.float64],
    after: npt.NDArray[np.float64],
    *,
    thresholds: tuple[float | None, float | None] = (None, None),
    names: tuple[str, str] = ("recorded", "replayed"),
    caption: str,
) -> Plot:
    """The same parts' scores twice: left one against the other, right how much they differ.

    ``before`` and ``after`` are alike in length, not empty and finite. ``thresholds`` are those of the two, where there are such.
    """
    first, second = (plain(name, 24) for name in names)
    difference = after - before
    with _figure(3.5) as figure:
        left, right = figure.subplots(1, 2)
        low, high = float(min(before.min(), after.min(), 0)), float(max(before.max(), after.max(), 1))
        grid, x_edges, y_edges = np.histogram2d(before, after, bins=80, range=((low, high), (low, high)))
        mesh = left.pcolormesh(
            x_edges,
            y_edges,
            np.ma.masked_equal(grid.T, 0),
            norm=LogNorm(1, max(2.0, float(grid.max()))),
            cmap="cividis_r",
            rasterized=True,
        )
        bar = figure.colorbar(mesh, ax=left, label="parts", fraction=0.05)
        bar.ax.yaxis.set_major_formatter(ticker.FuncFormatter(_count_label))
        bar.ax.yaxis.set_minor_formatter(ticker.NullFormatter())
        left.plot([low, high], [low, high], color=GREY, linewidth=0.8, linestyle=":")
        if thresholds[0] is not None:
            left.axvline(thresholds[0], color=ORANGE, linestyle="--", linewidth=1.1)
        if thresholds[1] is not None:
            left.axhline(thresholds[1], color=ORANGE, linestyle="-.", linewidth=1.1)
        left.set_xlabel(f"score, {first}")
        left.set_ylabel(f"score, {second}")
        left.set_aspect("equal")
        reach = max(float(np.abs(difference).max()), 1e-6)
        counts, edges = np.histogram(difference, bins=61, range=(-reach * 1.02, reach * 1.02))
        right.stairs(counts, edges, fill=True, color="#8fbfe0", edgecolor=BLUE, linewidth=0.8)
        right.axvline(0, color=GREY, linewidth=0.8, linestyle=":")
        right.set_yscale("symlog", linthresh=1)
        right.yaxis.set_major_formatter(ticker.FuncFormatter(_count_label))
        right.set_ylim(bottom=0)
        right.set_xlabel(f"{second} less {first}")
        right.set_ylabel("parts (logarithmic)")
        right.xaxis.set_major_locator(ticker.MaxNLocator(4))
        right.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:.3g}"))
        alt = (
            f"Scores of {len(before)} parts, {second} against {first}: largest difference {np.abs(difference).max():.4g},"
            f" median difference {np.median(difference):.4g}."
        )
        return _plot(figure, caption, alt)


def ratio_curves(
    curves: Sequence[RatioCurve], *, x_label: str, y_label: str, dots: Sequence[Dot] = (), caption: str
) -> Plot:
    """Curves in the unit square (a ROC, precision over recall), with points on or beside them. At most 15 are drawn."""
    with _figure(3.6) as figure:
        axes = figure.subplots()
        for number, curve in enumerate(curves[:_CLASSES_MAX]):
            axes.plot(
                curve.x,
                curve.y,
                color=(BLUE, ORANGE, *_FILLS)[number % (2 + len(_FILLS))],
                linestyle=("-", "--", "-.", ":")[number % 4],
                drawstyle="steps-post" if curve.is_stepped else "default",
                linewidth=1.5,
                label=plain(curve.name, _LABEL_CHARS),
            )
        for dot in dots:
            axes.plot(dot.x, dot.y, color=BLACK, marker="o", markersize=6, linestyle="", label=plain(dot.label, 60))
        axes.set_xlim(-0.01, 1.01)
        axes.set_ylim(-0.01, 1.01)
        axes.set_aspect("equal")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.0), borderaxespad=0)
        names = ", ".join(plain(curve.name, _LABEL_CHARS) for curve in curves[:5])
        told = "".join(f"; {plain(dot.label, 60)} at {dot.x:.4g}, {dot.y:.4g}" for dot in dots)
        return _plot(figure, caption, f"{y_label} over {x_label}: {names}{told}.")


def heat_bar(colours: npt.NDArray[np.uint8], marks: Sequence[Mark], *, x_label: str, caption: str) -> Plot:
    """What the colours of a map mean: uint8 (1, K, 3) in RGB order, from 0 on the left to 1 on the right."""
    with _figure(0.95) as figure:
        axes = figure.subplots()
        axes.imshow(colours, aspect="auto", extent=(0.0, 1.0, 0.0, 1.0))
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.set_xlabel(x_label)
        _draw_marks(axes, marks)
        told = "".join(f"; {plain(mark.label, _LABEL_CHARS)} at {mark.value:.4g}" for mark in marks)
        return _plot(figure, caption, f"Colours of {x_label}, from 0 to 1{told}.")


@contextmanager
def _figure(height_inches: float) -> Iterator[Figure]:
    with rc_context(_STYLE), warnings.catch_warnings():
        # Only the widths of such letters are guessed; the reader's own font draws them.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        yield Figure(figsize=(_WIDTH_INCHES, height_inches), layout="constrained")


def _plot(figure: Figure, caption: str, alt: str) -> Plot:
    text = io.StringIO()
    FigureCanvasSVG(figure).print_svg(text, metadata={"Date": None, "Creator": None})
    encoded = base64.b64encode(text.getvalue().encode("utf-8", "replace")).decode()
    return Plot(f"data:image/svg+xml;base64,{encoded}", alt, caption)


def _rate(
    axes: Axes,
    moments: Sequence[datetime],
    counts: Sequence[int],
    totals: Sequence[int],
    breaks: npt.NDArray[np.int64],
    color: str,
    line: str,
    marker: str,
    label: str,
) -> None:
    known = np.asarray(totals) > 0
    total = np.where(known, totals, 1)
    low, high = intervals(np.where(known, counts, 0).tolist(), total.tolist())
    rate = np.where(known, 100 * np.asarray(counts) / total, np.nan)
    low, high = np.where(known, 100 * low, np.nan), np.where(known, 100 * high, np.nan)
    numbers = np.asarray(dates.date2num(moments), np.float64)
    numbers, rate, low, high = (
        np.insert(values, breaks, np.nan if values is not numbers else numbers[breaks - 1])
        for values in (numbers, rate, low, high)
    )
    size = 3.0 if len(numbers) <= 60 else 0.0
    axes.plot(numbers, rate, color=color, linestyle=line, marker=marker, markersize=size, linewidth=1.3, label=label)
    axes.fill_between(numbers, low, high, color=color, alpha=0.16, linewidth=0)
    # One part in a span says next to nothing: its band must not squeeze all the rest.
    top = float(np.nanmax(rate)) if np.any(known) else 0.0
    axes.set_ylim(top=min(102.0, max(axes.get_ylim()[1] if axes.lines[1:] else 0.0, 1.6 * top, 0.5)))


def _breaks(moments: Sequence[datetime], width_s: float) -> npt.NDArray[np.int64]:
    """Before which span a line has to end."""
    seconds = np.array([moment.timestamp() for moment in moments])
    return np.flatnonzero(np.diff(seconds) > 1.5 * width_s) + 1


def _draw_marks(axes: Axes, marks: Sequence[Mark]) -> None:
    """Lines across with their names above the drawing, at two heights so that neighbours do not overlap."""
    styles = ((ORANGE, "-"), (BLACK, "--"), (BLUE, ":"), ("#009e73", "-."))
    for number, mark in enumerate(sorted(marks, key=lambda mark: mark.value)):
        color, line = styles[number % len(styles)]
        axes.axvline(mark.value, color=color, linestyle=line, linewidth=1.2)
        axes.annotate(
            plain(mark.label, _LABEL_CHARS),
            (mark.value, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2 + 10 * (number % 2)),
            textcoords="offset points",
            ha="center",
            fontsize=8,
        )


def _count_label(value: float, _: int | None) -> str:
    return f"{value:,.0f}"


def _minor_label(value: float, _: int | None) -> str:
    """Between powers of ten, 2 and 5 are enough."""
    leading = value / 10 ** np.floor(np.log10(value))
    return f"{value:,.0f}" if round(float(leading), 6) in (2.0, 5.0) else ""
