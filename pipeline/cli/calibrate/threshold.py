"""``lineside calibrate threshold``: the scores that reject, from good parts, with a promise that they support."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from importlib import metadata
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from calibration.intervals import CONFIDENCE, Share
from calibration.threshold import ASSUMPTIONS, ThresholdReport, find_thresholds
from pipeline.calibrated_line import judged_by
from pipeline.calibration_file import KeptShare, ThresholdSection, made_now
from pipeline.cli.calibrate.fitted_on import FittedOn, fitted_refusals
from pipeline.cli.calibrate.options import CameraOption, LineArgument, Station, WhoOption, station_of, told_in_force
from pipeline.cli.calibrate.parts import PartPicture, PartPictures, open_station
from pipeline.cli.console import console_for, show
from pipeline.cli.output import JsonOption, check_json_target, fail, spare_inputs, write_json
from pipeline.cli.progress import progress_bar
from pipeline.cli.report import ReportOption, check_report_folder
from pipeline.part_scores import Outcome, PartScorer
from pipeline.report.folder import CannotReport, write_page
from pipeline.threshold_shown import ScoredPart, ThresholdShown
from vision.package import ModelPackage
from vision.recipe import Rule
from vision.runtime import InferenceError

_LOST_SHOWN_MAX = 20


def threshold(
    line_file: LineArgument,
    good: Annotated[
        Path,
        typer.Option(
            "--good", metavar="DIR", help="A picture of each good part; none that the model was fitted or chosen on."
        ),
    ],
    who: WhoOption,
    defective: Annotated[
        Path | None, typer.Option("--defective", metavar="DIR", help="A picture of each known-defective part.")
    ] = None,
    false_reject_max: Annotated[
        float, typer.Option(help="At most this share of good parts is to be rejected: 0.01 for 1 %.")
    ] = 0.01,
    confidence: Annotated[float, typer.Option(help="How sure that is to be.")] = CONFIDENCE,
    camera_id: CameraOption = None,
    json_file: JsonOption = None,
    report: ReportOption = None,
) -> None:
    """Find the scores that reject at most so many good parts; for the rules that have `is_calibrated: true`.

    Status 0 where the thresholds are in force now, 1 where the parts do not support the promise: nothing is changed then.
    """
    check_json_target(json_file)
    check_report_folder(report)
    spare_inputs({"--json": json_file, "--report": report}, good, defective)
    station = station_of(line_file, camera_id, who)
    line = station.line
    package, inspector = open_station(station, is_calibrating=True)
    scorer = PartScorer(
        line.recipe, package.card, inspector, station.camera_id, station.frame_format, recipe_file=str(line.recipe_file)
    )
    pictures = PartPictures(station)
    fitted, fitted_names = FittedOn(package, station), []

    def look(picture: PartPicture) -> None:
        if fitted.has(picture):
            fitted_names.append(picture.name)

    good_parts, good_digests = _scored(good, "good", pictures, scorer, look)
    defective_parts, defective_digests = (
        ([], []) if defective is None else _scored(defective, "defective", pictures, scorer)
    )
    found = find_thresholds(
        _by_class(good_parts, scorer),
        _by_class(defective_parts, scorer),
        false_reject_max=false_reject_max,
        confidence=confidence,
        score_floors=scorer.score_floors,
        good_rejected_count=_count(good_parts, Outcome.REJECTED),
        defective_rejected_count=_count(defective_parts, Outcome.REJECTED),
    )
    if refusals := [*pictures.shared_refusals(), *fitted_refusals(fitted_names)]:
        found = dataclasses.replace(found, thresholds={}, false_accept=None, refusals=(*refusals, *found.refusals))
    kept = None
    if found.thresholds:
        section = _section(found, who, [*good_digests, *defective_digests], package, station)
        kept = station.keep(threshold=section)
    shown = ThresholdShown(
        report=found,
        classes=scorer.classes,
        good=good_parts,
        defective=defective_parts,
        copies=pictures.copies,
        assumptions=_assumptions(station, training_count=fitted.count),
        of=_of(station, package, who, good, defective),
        calibration_id=None if kept is None else kept.calibration_id,
        pixel_format=station.frame_format.pixel_format,
        has_places=package.card.task != "classification" and station.before.geometry is None,
    )
    show(console_for(json_file, width=120, highlight=False), _told(shown, scorer.rules))
    if kept is not None:
        show(console_for(json_file), told_in_force(station, kept))
    write_json(json_file, _result(shown))
    if report is not None:
        _write_report(report, shown)
    if kept is None:
        raise fail(f"not calibrated: {'; '.join(refusal.reason for refusal in found.refusals)}")


def _scored(
    folder: Path,
    kind: str,
    pictures: PartPictures,
    scorer: PartScorer,
    look: Callable[[PartPicture], None] = lambda picture: None,
) -> tuple[list[ScoredPart], list[bytes]]:
    parts, digests = [], []
    try:
        with progress_bar(f"judging {kind} parts", None) as advance:
            for picture in pictures.fresh(folder):
                parts.append(ScoredPart(picture.name, picture.file, scorer.score(picture.pixels)))
                digests.append(picture.digest)
                look(picture)
                advance()
    except InferenceError as error:
        raise fail(str(error)) from None
    return parts, digests


def _by_class(parts: Sequence[ScoredPart], scorer: PartScorer) -> dict[str, list[float]]:
    """Those that are rejected at every threshold are counted beside them; those without a judgement are NaN."""
    counted = [part for part in parts if part.scores.outcome is not Outcome.REJECTED]
    return {name: [part.scores.score(name) for part in counted] for name in scorer.classes}


def _count(parts: Sequence[ScoredPart], outcome: Outcome) -> int:
    return sum(part.scores.outcome is outcome for part in parts)


def _section(
    found: ThresholdReport, who: str, digests: list[bytes], package: ModelPackage, station: Station
) -> ThresholdSection:
    accept = found.false_accept
    return ThresholdSection(
        made=made_now(who, digests),
        reject_at_score=found.thresholds,
        false_reject_max=found.false_reject_max,
        confidence=found.confidence,
        good_count=found.good_count,
        unjudged_count=found.good_unjudged_count,
        rejected_count=found.rejected_count,
        rank=found.rank,
        defective_count=found.defective_count,
        false_accept=None
        if accept is None
        else KeptShare(count=accept.count, total=accept.total, low=accept.low, high=accept.high),
        model_sha256=package.sha256,
        recipe_version=station.line.recipe.recipe_version,
        judged_by=judged_by(station.line, station.camera_id),
    )


def _assumptions(station: Station, *, training_count: int) -> list[str]:
    fitting = (
        f"None of the pictures is among the {training_count:,} that the model's package names as its training pictures; other "
        "pictures of the same parts would not be noticed."
        if training_count
        else "The model's package does not name its training pictures: that no part was among them was not checked."
    )
    cameras = len(station.line.config.cameras)
    alone = f"The promise is of camera {station.camera_id} alone: what the line's {cameras} cameras reject adds up."
    return [*ASSUMPTIONS, fitting, *([alone] if cameras > 1 else [])]


def _of(station: Station, package: ModelPackage, who: str, good: Path, defective: Path | None) -> list[tuple[str, str]]:
    recipe = station.line.recipe
    return [
        ("product", recipe.recipe_id),
        ("recipe version", recipe.recipe_version),
        ("camera", station.camera_id),
        ("model", f"{package.card.name} {package.card.version}"),
        ("model, SHA-256", package.sha256),
        ("good parts", str(good)),
        ("known-defective parts", "none" if defective is None else str(defective)),
        ("calibrated by", who),
    ]


def _told(shown: ThresholdShown, rules: Sequence[Rule]) -> Iterator[Table | str]:
    for kind, parts in (("good", shown.good), ("defective", shown.defective)):
        if parts:
            yield f"{kind:<9} {len(parts)} parts"
    for name, first in shown.copies[:_LOST_SHOWN_MAX]:
        yield f"copy      {name} is {first}: NOT COUNTED"
    if (more := len(shown.copies) - _LOST_SHOWN_MAX) > 0:
        yield f"copy      and {more} more"
    lost = [part for part in (*shown.good, *shown.defective) if part.scores.outcome is not Outcome.SCORED]
    for part in lost[:_LOST_SHOWN_MAX]:
        yield f"{part.scores.outcome.value:<9} {part.name}: {part.scores.told}"
    if (more := len(lost) - _LOST_SHOWN_MAX) > 0:
        yield f"          and {more} more, taken out at every threshold"
    table = Table("class", "rules", "reject at, until now", "found")
    for name in shown.classes:
        its = [rule for rule in rules if rule.class_name == name]
        until_now = ", ".join(f"{at:.6g}" for at in sorted({rule.reject_at_score for rule in its}))
        at = shown.report.thresholds.get(name)
        table.add_row(name, str(len(its)), until_now, "-" if at is None else f"{at:.9g}")
    yield table
    report = shown.report
    if report.thresholds:
        yield from (
            f"promised  {line}" if number == 0 else f"          {line}" for number, line in enumerate(report.words())
        )
    else:
        yield from (f"refused   {refusal}" for refusal in report.refusals)
        yield from (f"note      {note}" for note in report.notes)
    yield from (f"assumes   {each}" for each in shown.assumptions)


def _result(shown: ThresholdShown) -> dict[str, Any]:
    report = shown.report
    return {
        "calibration_id": shown.calibration_id,
        "of": dict(shown.of),
        "thresholds": report.thresholds,
        # JSON has no NaN, which was refused.
        "false_reject_max": report.false_reject_max if isfinite(report.false_reject_max) else None,
        "confidence": report.confidence if isfinite(report.confidence) else None,
        "good": {
            "count": report.good_count,
            "unjudged": report.good_unjudged_count,
            "rejected_by_what_is_not_calibrated": report.good_rejected_count,
            "rejected": report.rejected_count,
            "rank": report.rank,
        },
        "defective": {
            "count": report.defective_count,
            "unjudged": report.defective_unjudged_count,
            "false_accept": _share(report.false_accept),
        },
        "expected_false_reject": report.expected_false_reject if report.thresholds else None,
        "expected_false_reject_95": [report.false_reject_low, report.false_reject_high] if report.thresholds else None,
        "supported_false_reject": report.supported_false_reject,
        "supported_confidence": report.supported_confidence,
        "parts_missing": report.parts_missing,
        "refusals": [dataclasses.asdict(refusal) for refusal in report.refusals],
        "notes": list(report.notes),
        "assumptions": list(shown.assumptions),
        "copies": [{"picture": name, "copy_of": first} for name, first in shown.copies],
        "parts": [
            {
                "picture": part.name,
                "known": kind,
                "outcome": part.scores.outcome.value,
                "scores": part.scores.scores,
                "told": part.scores.told,
            }
            for kind, parts in (("good", shown.good), ("defective", shown.defective))
            for part in parts
        ],
    }


def _share(share: Share | None) -> dict[str, float] | None:
    return None if share is None else {"count": share.count, "total": share.total, "low": share.low, "high": share.high}


def _write_report(folder: Path, shown: ThresholdShown) -> None:
    # They bring plotting along, which takes a second to load.
    from pipeline.report.page import render
    from pipeline.threshold_page import threshold_page

    page = threshold_page(
        shown,
        made_utc=f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%SZ}",
        version=metadata.version("lineside"),
    )
    try:
        file = write_page(folder, render(page))
    except CannotReport as error:
        raise fail(str(error), 2) from None
    except OSError as error:
        raise fail(f"--report {folder}: {error.strerror}") from None
    typer.echo(f"report in {file}", err=True)
