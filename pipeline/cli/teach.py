"""``lineside teach``: a product learnt from pictures of good parts alone."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from errno import EEXIST, ENOTEMPTY
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.cli.console import at_work, console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, spare_inputs, write_json
from pipeline.cli.progress import progress_bar
from pipeline.cli.report import ReportOption, check_report_folder
from pipeline.new_folder import expect_free
from pipeline.report.folder import CannotReport, write_page
from pipeline.window.format import DESCRIPTION_NAME
from vision.faults import Fault, FaultsError, quote
from vision.package import load_package

if TYPE_CHECKING:  # they need the extra, and a second to load
    from pipeline.teaching.picture_set import PictureSet
    from pipeline.teaching.report import TeachReport
    from pipeline.teaching.teaching import Wanted

_BUDGET_US = 4_000.0
"""Of a line's 5 ms, what is left for the model."""

_FALSE_REJECT_MAX, _CONFIDENCE = 0.01, 0.95

_TABLE_WIDTH = 100

_INTERRUPTED = 130
"""128 and SIGINT, as shells have it."""


def teach(
    out: Annotated[
        Path,
        typer.Option(
            metavar="MODELDIR", help="The package: not there yet, or with --add and --take-out the one to change."
        ),
    ],
    good: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Pictures of good parts, in a sub-folder for each view; or a recorded window of a line."
        ),
    ] = None,
    add: Annotated[
        Path | None, typer.Option(metavar="DIR", help="More good parts for the product in MODELDIR.")
    ] = None,
    take_out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Pictures of parts that MODELDIR was taught with, and that were not good."),
    ] = None,
    defects: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Defective parts: nothing is learnt from them, they test.")
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Of the product; else that of MODELDIR.")] = None,
    size: Annotated[
        int | None,
        typer.Option(metavar="N", min=96, max=512, help="The model sees about N x N pixels; else it is chosen."),
    ] = None,
    budget_us: Annotated[
        float,
        typer.Option(metavar="N", min=100, max=1e6, help="The model's median time for a part, all views, on this box."),
    ] = _BUDGET_US,
    false_reject_max: Annotated[
        float | None,
        typer.Option(
            min=0.0001,
            max=0.5,
            help=f"The share of good parts that may be rejected: {_FALSE_REJECT_MAX:g}, or as taught.",
        ),
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(min=0.5, max=0.9999, help=f"That no more are: {_CONFIDENCE:g}, or as taught.")
    ] = None,
    all_parts: Annotated[
        bool, typer.Option("--all-parts", help="Of a recorded window also the parts that were rejected.")
    ] = False,
    rejects_are_defective: Annotated[
        bool,
        typer.Option(
            "--rejects-are-defective", help="Of a recorded window: somebody has looked at the rejected parts."
        ),
    ] = False,
    without: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A part that is not good after all, as suspects are called; again for more."),
    ] = None,
    suspects_are_good: Annotated[
        bool,
        typer.Option("--suspects-are-good", help="Somebody has looked at those of DIR: they are learnt from, too."),
    ] = False,
    parts_differ: Annotated[
        bool,
        typer.Option("--parts-differ", help="Somebody knows that each picture shows another part, alike as they are."),
    ] = False,
    take_back: Annotated[
        bool,
        typer.Option("--take-back", help="Parts of DIR that were taken out before are good after all; with --add."),
    ] = False,
    json_file: JsonOption = None,
    report: ReportOption = None,
) -> None:
    """Learn how good parts look, on this box, and write a model package that rejects what is unlike them.

    Exit status 2 where the pictures cannot be taught; then nothing is written.
    """
    if importlib.util.find_spec("PIL") is None:
        raise fail("lineside teach needs pillow: pip install 'lineside[teach]'", 2)
    given = good or add or take_out
    options = [key for key, value in (("--good", good), ("--add", add), ("--take-out", take_out)) if value is not None]
    if len(options) != 1:
        got = " and ".join(options) or "none"
        raise fail(f"got {got} of --good, --add and --take-out, expected one of them", 2)
    if good is None and (size is not None or name is not None):
        raise fail(f"{'--size' if size is not None else '--name'}: the product in {out} keeps its own", 2)
    if take_back and add is None:
        raise fail("--take-back: goes with --add", 2)
    if (all_parts or rejects_are_defective) and given is not None and not _is_window(given):
        which = "--all-parts" if all_parts else "--rejects-are-defective"
        raise fail(f"{which}: got {given}, which is no recorded window", 2)
    of_shown_good = {
        "--all-parts": all_parts,
        "--rejects-are-defective": rejects_are_defective,
        "--without": bool(without),
        "--suspects-are-good": suspects_are_good,
        "--parts-differ": parts_differ,
    }
    if take_out is not None and any(of_shown_good.values()):
        which = next(key for key, is_asked in of_shown_good.items() if is_asked)
        raise fail(f"{which}: goes with --good or --add; --take-out takes out what is shown", 2)
    check_json_target(json_file)
    check_report_folder(report)
    spare_inputs({"--json": json_file, "--report": report}, good, add, take_out, defects, out)
    spare_inputs({"--out": out}, good, add, take_out, defects)
    from pipeline.teaching.picture_set import expect_apart
    from pipeline.teaching.taught_file import PackageHeld
    from pipeline.teaching.teaching import TeachingFailed
    from pipeline.teaching.teaching import teach as taught_anew
    from pipeline.teaching.told import to_json, words

    taking = _Taking(all_parts or take_out is not None, rejects_are_defective, tuple(without or ()))
    asked = _Asked(size, budget_us, false_reject_max, confidence, suspects_are_good, parts_differ, take_back)
    out = out.absolute()  # the working directory has a name, too
    console = console_for(json_file, width=_TABLE_WIDTH, highlight=False)
    try:
        if good is not None:
            expect_free(out)
            product = _product_name(name, out)
            pictures = _read(good, taking)
            bad = None if defects is None else _read_defects(defects, pictures)
            if bad is not None:
                expect_apart(bad, pictures.names_by_pixels)
            wanted = asked.wanted(product, _FALSE_REJECT_MAX, _CONFIDENCE)
            found = taught_anew(pictures, bad, out, wanted, _progress)
        else:
            assert given is not None
            found = _changed(out, _Shown(given, take_out is not None, defects, taking), asked)
    except (TeachingFailed, PackageHeld) as error:
        raise fail(str(error)) from None
    except KeyboardInterrupt:
        # It may have come in the moment after.
        left = "the package is whole, as it was or as asked for" if out.exists() else "nothing was written"
        raise fail(f"{out}: interrupted; {left}", _INTERRUPTED) from None
    except OSError as error:
        told = "somebody else has made it meanwhile" if error.errno in (EEXIST, ENOTEMPTY) else error.strerror
        raise fail(f"{out}: {told}. Nothing was written") from None
    show(console, words(found))
    # Before what may still fail: the package is there.
    console.print(f"written to {out}; run `lineside model verify` on it before a line does", soft_wrap=True)
    write_json(json_file, to_json(found))
    if report is not None:
        _write_report(report, found)


@dataclass(frozen=True, slots=True)
class _Taking:
    """Of a recorded window: the rejected parts as well, or that somebody has looked at them; ``without``: names of parts."""

    all_parts: bool
    rejects_are_defective: bool
    without: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Shown:
    """Parts to add to a package, or to take out of it."""

    pictures: Path
    are_taken_out: bool
    defects: Path | None
    taking: _Taking


@dataclass(frozen=True, slots=True)
class _Asked:
    """As ``Wanted``, None where nothing is asked for."""

    size_px: int | None
    budget_us: float
    false_reject_max: float | None
    confidence: float | None
    are_suspects_good: bool
    do_parts_differ: bool
    are_taken_back: bool

    def wanted(self, product: str, false_reject_max: float, confidence: float) -> Wanted:
        """What is not asked for as it is given here."""
        from pipeline.teaching.teaching import Wanted

        share, certainty = self.false_reject_max or false_reject_max, self.confidence or confidence
        return Wanted(
            product,
            self.size_px,
            self.budget_us,
            share,
            certainty,
            self.are_suspects_good,
            self.do_parts_differ,
            self.are_taken_back,
        )


def _changed(out: Path, shown: _Shown, asked: _Asked) -> TeachReport:
    from pipeline.teaching.names import EXPECTED_NAME, oddity
    from pipeline.teaching.picture_set import expect_apart
    from pipeline.teaching.taught_file import held, read_taught
    from pipeline.teaching.teaching import extend, shrink

    folder = out.resolve()  # where a link leads, so that it is the package that is exchanged
    with held(folder):
        package = load_package(folder)
        if odd := oddity(package.card.name):
            raise FaultsError([Fault(str(package.card_path), "name", odd, EXPECTED_NAME)])
        taught, features = read_taught(package)
        pictures = _read(shown.pictures, shown.taking, frames=taught.frames, needs_all_views=not shown.are_taken_out)
        bad = None if shown.defects is None else _read_defects(shown.defects, pictures)
        if bad is not None:
            known, shown_here = taught.names_by_pixels, pictures.names_by_pixels
            gone = {picture.pixels_sha256 for picture in pictures.not_good} | (
                shown_here.keys() if shown.are_taken_out else set()
            )
            if not asked.are_taken_back:
                gone |= {picture.pixels_sha256 for part in taught.taken_out for picture in part.pictures}
            left = {key: name for key, name in {**known, **shown_here}.items() if key not in gone}
            expect_apart(bad, left)
        wanted = asked.wanted(package.card.name, taught.false_reject_max, taught.confidence)
        change = shrink if shown.are_taken_out else extend
        return change(package, taught, features, pictures, bad, wanted, _progress)


def _product_name(name: str | None, out: Path) -> str:
    """Raises FaultsError."""
    from pipeline.teaching.names import EXPECTED_NAME, oddity

    product = name or out.name
    if odd := oddity(product):
        where, expected = (
            ("--name", EXPECTED_NAME) if name else ("--out", f"{EXPECTED_NAME}, or --name for the product")
        )
        raise FaultsError([Fault(where, "", f"{odd} in {quote(product)}", expected)])
    return product


def _read(folder: Path, taking: _Taking, *, frames: Any = None, needs_all_views: bool = True) -> PictureSet:
    from pipeline.teaching.picture_set import without_parts
    from pipeline.teaching.pictures import read_folder
    from pipeline.teaching.window_pictures import Taking as WindowTaking
    from pipeline.teaching.window_pictures import read_window

    if taking.all_parts and taking.rejects_are_defective:
        raise fail(
            "got --all-parts and --rejects-are-defective, expected one of them: the rejected parts are good or not", 2
        )
    with progress_bar("checking", None) as advance:
        if not _is_window(folder):
            found = read_folder(folder, frames=frames, needs_all_views=needs_all_views, looked=advance)
            return without_parts(found, taking.without)
        pictures = read_window(folder, WindowTaking(taking.all_parts, taking.rejects_are_defective), looked=advance)
    pictures = without_parts(pictures, taking.without)
    if taking.all_parts:
        not_good = {picture.part_name for picture in pictures.not_good}
        pictures = replace(pictures, said_defective=pictures.settled & not_good)
    if frames is not None and pictures.frames != frames:
        got = ", ".join(f"{view}: {frame.width_px}x{frame.height_px}" for view, frame in pictures.frames.items())
        expected = ", ".join(
            f"{view or 'one view'}: {frame.width_px}x{frame.height_px}" for view, frame in frames.items()
        )
        raise FaultsError(
            [
                Fault(
                    str(folder),
                    "",
                    f"views {got}",
                    f"those that were taught: {expected}; with other views or sizes teach anew, --good",
                )
            ]
        )
    return pictures


def _is_window(folder: Path) -> bool:
    return (folder / DESCRIPTION_NAME).is_file()


def _read_defects(folder: Path, good: PictureSet) -> PictureSet:
    from pipeline.teaching.pictures import read_folder

    with progress_bar("checking defects", None) as advance:
        return read_folder(folder, frames=good.frames, needs_all_views=False, looked=advance)


@contextmanager
def _progress(what: str, total: int | None) -> Iterator[Any]:
    if total is None:
        with at_work(what):
            yield lambda: None
        return
    with progress_bar(what, total) as advance:
        yield advance


def _write_report(folder: Path, found: TeachReport) -> None:
    # They bring plotting along, which takes a second to load.
    from pipeline.report.page import render
    from pipeline.teaching.page import teach_page

    try:
        page = write_page(folder, render(teach_page(found)))
    except CannotReport as error:
        raise fail(str(error), 2) from None
    except OSError as error:
        raise fail(f"--report {folder}: {error.strerror}") from None
    typer.echo(f"report in {page}", err=True)
