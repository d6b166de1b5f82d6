"""``lineside calibrate repeatability``: the same parts again and again; how far scores, sizes and verdicts differ."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from importlib import metadata
from math import isfinite, isnan
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from calibration.intervals import Share
from calibration.refusal import Refusal
from calibration.repeatability import (
    AttributeAgreement,
    GaugeStudy,
    TooFewRepeats,
    attribute_agreement,
    figures_of,
    gauge_study,
)
from pipeline.calibration_file import RepeatabilitySection, made_now
from pipeline.cli.calibrate.labels import read_labels
from pipeline.cli.calibrate.options import CameraOption, LineArgument, Station, WhoOption, station_of
from pipeline.cli.calibrate.parts import PartPicture, PartPictures, open_station
from pipeline.cli.console import console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, spare_inputs, words, write_json
from pipeline.cli.progress import progress_bar
from pipeline.cli.report import ReportOption, check_report_folder
from pipeline.repeatability_shown import RepeatabilityShown, Showing, size_of, verdict_on
from pipeline.report.folder import CannotReport, write_page
from vision.faults import Fault, FaultsError
from vision.inspector import Inspector
from vision.package import ModelCard
from vision.preprocess import WrongFrame
from vision.runtime import InferenceError
from vision.types import Frame, Inspection, Reason, Verdict

_BAD_FRAME = Inspection(Verdict.NO_DECISION, Reason.BAD_FRAME, float("nan"), ())
_SHOWN_MAX = 20


def repeatability(
    line_file: LineArgument,
    images: Annotated[
        Path,
        typer.Option(
            "--images",
            metavar="DIR",
            help="A folder for each part, with a picture of each time it was put before the camera anew.",
        ),
    ],
    who: WhoOption,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV", help="What the operator says of each part: columns part and label, good or defective."
        ),
    ] = None,
    camera_id: CameraOption = None,
    json_file: JsonOption = None,
    report: ReportOption = None,
) -> None:
    """Find how far the scores, sizes and verdicts of the same part differ when it is shown again.

    Status 0 where the figures are kept now, 1 where the pictures say nothing of it: nothing is changed then.
    """
    check_json_target(json_file)
    check_report_folder(report)
    spare_inputs({"--json": json_file, "--report": report}, images, labels)
    station = station_of(line_file, camera_id, who)
    folders = _part_folders(images)
    is_defective = None if labels is None else read_labels(labels, [folder.name for folder in folders])
    package, inspector = open_station(station)
    pictures = PartPictures(station)
    showings: dict[str, list[Showing]] = {}
    digests: list[bytes] = []
    try:
        with progress_bar("judging", None) as advance:
            for folder in folders:
                its = showings.setdefault(folder.name, [])
                for picture in pictures.fresh(folder):
                    its.append(_judged(picture, inspector, package.card, station))
                    digests.append(picture.digest)
                    advance()
    except InferenceError as error:
        raise fail(str(error)) from None
    refusals = pictures.shared_refusals()
    score: GaugeStudy | None = None
    try:
        score = gauge_study(_values(showings, "score"))
    except TooFewRepeats as error:
        refusals.append(error.refusal)
    seen = {part: its for part, its in showings.items() if its}
    agreement = attribute_agreement(
        {part: [each.inspection.verdict for each in its] for part, its in seen.items()}, is_defective
    )
    size = _size_study(seen)
    unit: Literal["px", "mm"] = "px" if station.before.geometry is None else "mm"
    kept = None
    if score is not None and not refusals:
        section = RepeatabilitySection(
            made=made_now(who, digests),
            figures=figures_of(score, agreement, size=size, size_unit=unit),
            model_sha256=package.sha256,
        )
        kept = station.keep(repeatability=section)
    recipe = station.line.recipe
    shown = RepeatabilityShown(
        showings=seen,
        score=score,
        size=size,
        size_unit=unit,
        agreement=agreement,
        is_defective=is_defective,
        copies=pictures.copies,
        refusals=refusals,
        of=[
            ("product", recipe.recipe_id),
            ("recipe version", recipe.recipe_version),
            ("camera", station.camera_id),
            ("model", f"{package.card.name} {package.card.version}"),
            ("model, SHA-256", package.sha256),
            ("pictures", str(images)),
            ("labels", "none" if labels is None else str(labels)),
            ("studied by", who),
        ],
        rejects_at=sorted(
            {rule.reject_at_score for rule in recipe.rules if rule.camera_id in (None, station.camera_id)}
        ),
        calibration_id=None if kept is None else kept.calibration_id,
        pixel_format=station.frame_format.pixel_format,
    )
    show(console_for(json_file, width=120, highlight=False), _told(shown))
    write_json(json_file, _result(shown))
    if report is not None:
        _write_report(report, shown)
    if kept is None:
        raise fail(f"nothing kept: {'; '.join(refusal.reason for refusal in refusals)}")
    print(f"kept      {station.path}, calibration_id {kept.calibration_id}", file=words(json_file))


def _part_folders(images: Path) -> list[Path]:
    try:
        folders = sorted(each for each in images.iterdir() if each.is_dir() and not each.name.startswith("."))
    except OSError as error:
        raise FaultsError(
            [Fault(str(images), "", str(error.strerror), "a folder with a folder for each part")]
        ) from error
    if not folders:
        expected = "a folder for each part, with a picture of each time it was shown"
        raise FaultsError([Fault(str(images), "", "no folder in it", expected)])
    return folders


def _judged(picture: PartPicture, inspector: Inspector, card: ModelCard, station: Station) -> Showing:
    camera_id = station.camera_id
    inspector.begin()
    try:
        inspector.load(Frame(camera_id, 0, station.frame_format.pixel_format, picture.pixels))
    except WrongFrame as error:
        return Showing(picture.name, picture.file, _BAD_FRAME, float("nan"), f"BAD_FRAME: {error}")
    inspector.infer()
    inspection = inspector.judge(camera_id)
    told = "FAULT: what the model found cannot be judged" if inspection.verdict is Verdict.NO_DECISION else ""
    return Showing(picture.name, picture.file, inspection, size_of(inspection, card), told)


def _values(showings: Mapping[str, Sequence[Showing]], what: str) -> dict[str, list[float]]:
    return {
        part: [each.inspection.score if what == "score" else each.size for each in its]
        for part, its in showings.items()
    }


def _size_study(showings: Mapping[str, Sequence[Showing]]) -> GaugeStudy | None:
    """Of the parts with a defect that has a size; None where none was measured twice."""
    sizes = {part: values for part, values in _values(showings, "size").items() if any(map(isfinite, values))}
    try:
        return gauge_study(sizes) if sizes else None
    except TooFewRepeats:
        return None


def _told(shown: RepeatabilityShown) -> Iterator[Table | str]:
    agreement = shown.agreement
    yield f"parts     {agreement.parts_count}, shown {agreement.shown_count} times together"
    for name, first in shown.copies[:_SHOWN_MAX]:
        yield f"copy      {name} is {first}: NOT COUNTED"
    if (more := len(shown.copies) - _SHOWN_MAX) > 0:
        yield f"copy      and {more} more"
    lost = [each for its in shown.showings.values() for each in its if each.told]
    for each in lost[:_SHOWN_MAX]:
        yield f"unjudged  {each.name}: {each.told}"
    if (more := len(lost) - _SHOWN_MAX) > 0:
        yield f"unjudged  and {more} more"
    if shown.score is not None:
        yield f"score     {_gauge_words(shown.score, '')}"
        yield from (f"          {note}" for note in shown.score.notes)
    if shown.size is not None:
        yield f"size      {_gauge_words(shown.size, f' {shown.size_unit}')} (longer side of the largest defect)"
    elif shown.score is not None:
        yield "size      no part has a defect that was measured twice"
    yield f"verdicts  the same every time: {_share_words(agreement.steady)}"
    if agreement.mixed_parts:
        yield f"          not the same: {', '.join(agreement.mixed_parts[:_SHOWN_MAX])}"
    if shown.is_defective is not None:
        yield f"labels    right every time: {_share_words(agreement.right)}"
        yield f"          defective parts passed at least once: {_share_words(agreement.missed)}"
        yield f"          good parts taken out at least once: {_share_words(agreement.false_alarms)}"
        yield f"          {_kappa_words(agreement)}"
    yield from (f"refused   {refusal}" for refusal in shown.refusals)


def _gauge_words(study: GaugeStudy, unit: str) -> str:
    spread = f"{study.repeatability:.3g}{unit} ({study.repeatability_low:.3g} to {study.repeatability_high:.3g})"
    told = f"one part shown again differs by a standard deviation of {spread}"
    if study.share is None or study.share_low is None or study.share_high is None:
        return told
    share = f"{study.share:.1%} ({study.share_low:.1%} to {study.share_high:.1%}) of the total spread"
    return f"{told}, {share}: {verdict_on(study.share, study.share_high)}"


def _share_words(share: Share | None) -> str:
    return "none" if share is None else f"{share.count} of {share.total} ({share.low:.0%} to {share.high:.0%})"


def _kappa_words(agreement: AttributeAgreement) -> str:
    kappa = agreement.kappa
    if kappa is None:
        return "kappa: none, as all parts are of one kind"
    return f"kappa {kappa.value:.2f} ({kappa.low:.2f} to {kappa.high:.2f}): agreement beyond chance, 1 at best"


def _result(shown: RepeatabilityShown) -> dict[str, Any]:
    agreement = shown.agreement
    kappa = agreement.kappa
    return {
        "calibration_id": shown.calibration_id,
        "of": dict(shown.of),
        "parts": agreement.parts_count,
        "shown": agreement.shown_count,
        "unjudged": agreement.unjudged_count,
        "score": _study(shown.score),
        "size": _study(shown.size),
        "size_unit": shown.size_unit,
        "steady": _share(agreement.steady),
        "mixed_parts": list(agreement.mixed_parts),
        "right": _share(agreement.right),
        "missed": _share(agreement.missed),
        "false_alarms": _share(agreement.false_alarms),
        "kappa": None if kappa is None else dataclasses.asdict(kappa),
        "refusals": [_refusal(refusal) for refusal in shown.refusals],
        "copies": [{"picture": name, "copy_of": first} for name, first in shown.copies],
        "showings": [
            {
                "picture": each.name,
                "part": part,
                "verdict": each.inspection.verdict.value,
                "score": _number(each.inspection.score),
                "size": _number(each.size),
            }
            for part, its in shown.showings.items()
            for each in its
        ],
    }


def _study(study: GaugeStudy | None) -> dict[str, Any] | None:
    if study is None:
        return None
    told = dataclasses.asdict(study)
    return {**told, "distinct_categories": _number(told["distinct_categories"]), "notes": list(study.notes)}


def _refusal(refusal: Refusal) -> dict[str, str]:
    return dataclasses.asdict(refusal)


def _share(share: Share | None) -> dict[str, float] | None:
    return None if share is None else dataclasses.asdict(share)


def _number(value: float | None) -> float | None:
    """JSON has neither NaN nor infinity."""
    return None if value is None or isnan(value) or not isfinite(value) else value


def _write_report(folder: Path, shown: RepeatabilityShown) -> None:
    # They bring plotting along, which takes a second to load.
    from pipeline.repeatability_page import repeatability_page
    from pipeline.report.page import render

    made_utc = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}"
    try:
        file = write_page(
            folder, render(repeatability_page(shown, made_utc=made_utc, version=metadata.version("lineside")))
        )
    except CannotReport as error:
        raise fail(str(error), 2) from None
    except OSError as error:
        raise fail(f"--report {folder}: {error.strerror}") from None
    typer.echo(f"report in {file}", err=True)
