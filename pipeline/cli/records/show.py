"""``lineside records show``: all that is on record of one part."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import to_builtins

from pipeline.cli.console import console_for
from pipeline.cli.output import JsonOption, check_json_target, fail, write_json
from pipeline.cli.records.options import LotOption, OrderOption, RecordArgument, SessionOption, ShiftOption
from pipeline.cli.records.places import images_folder, line_of, record_file
from pipeline.clock import NS_PER_US
from pipeline.image_names import pictures_of
from pipeline.payloads import COUNT_MAX, DefectResult, TraceabilityKeys
from pipeline.record.commands import keys_text
from pipeline.record.reader import (
    LateWord,
    NotReadable,
    RecordedRow,
    Wanted,
    read_context,
    read_late_words,
    read_reviews,
    read_rows,
)
from pipeline.record.reviews import Review, agreement
from pipeline.report.blocks import plain

_LINE_CHARS = 2_000


def show(
    record: RecordArgument,
    part: Annotated[int, typer.Argument(metavar="PART", min=1, max=COUNT_MAX, help="The part_id.")],
    session: SessionOption = None,
    lot: LotOption = None,
    order: OrderOption = None,
    shift: ShiftOption = None,
    images: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where its pictures are looked for, instead of the line's images.path."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """All that is on record of one part: verdict, why, by what, what people said, where the time went, its pictures' files."""
    check_json_target(json_file)
    configured = line_of(record)
    file = record_file(record, configured)
    folder = images if images is not None else images_folder(configured)
    try:
        wanted = Wanted(session_id=session, part_id=part, lot=lot, order=order, shift=shift)
        found = list(read_rows(file, wanted))
        if not found:
            asked = {"session": session, "lot": lot, "order": order, "shift": shift}
            within = "".join(f" of {name} {value}" for name, value in asked.items() if value is not None)
            raise fail(f"record {file}: no part {part}{within}")
        shown = found[-1]
        late = read_late_words(file, shown.result.session_id, part)
        reviews = [
            review
            for review in read_reviews(file)
            if (review.session_id, review.part_id) == (shown.result.session_id, part)
        ]
        context = read_context(shown)
    except NotReadable as error:
        raise fail(str(error), 2) from None
    ref = shown.result.image_ref
    try:
        pictures = pictures_of(folder, ref) if folder is not None and ref is not None else []
    except OSError as error:
        raise fail(f"pictures in {folder}: {error.strerror}") from None
    console = console_for(json_file, highlight=False)
    others = [each.result.session_id for each in found[:-1]]
    lines = itertools.chain(
        _part_lines(shown, late),
        _picture_lines(ref, folder, pictures),
        _review_lines(reviews),
        _context_lines(shown, context),
        _place_lines(shown, others),
    )
    for line in lines:
        console.print(plain(line, _LINE_CHARS), soft_wrap=True)
    result = {
        "row": shown.row,
        "file": str(shown.file),
        "result": to_builtins(shown.result),
        "late_inspections": [asdict(each) for each in late],
        "reviews": [to_builtins(each) for each in reviews],
        "context": context,
        "pictures": [str(each) for each in pictures],
    }
    write_json(json_file, result)


def _part_lines(shown: RecordedRow, late: list[LateWord]) -> Iterator[str]:
    result = shown.result
    key = "" if result.part_key is None else f", part key {result.part_key}"
    yield f"part      {result.part_id} of session {result.session_id}, seq {result.seq}, encoder count {result.encoder_count}{key}"
    yield f"verdict   {result.verdict} ({result.reason})"
    yield f"trigger   {result.trigger_utc}"
    yield f"recipe    {result.recipe_id} {result.recipe_version}, model {result.model_sha256}, calibration {result.calibration_id}"
    for view in result.views:
        yield f"view      {view.camera_id}: frame {view.frame_id}, score {view.score}"
    for defect in result.defects:
        yield f"defect    {defect.class_name} on {defect.camera_id}: score {defect.score}, box {defect.box_px} px{_in_mm(defect)}"
    keys = result.traceability
    if keys != TraceabilityKeys():
        yield f"belongs   {keys_text(keys)}"
    if result.stages_us:
        yield f"time, us  {', '.join(f'{stage} {stage_us}' for stage, stage_us in result.stages_us.items())}"
    decided_us = (result.decided_ns - result.trigger_ns) // NS_PER_US
    sent = (
        "not sent" if result.sent_ns is None else f"sent {result.age_us} us, {result.valid_us} us before the deadline"
    )
    yield f"          decided {decided_us} us after the trigger, {sent}"
    for word in late:
        after_us = (word.arrived_ns - result.trigger_ns) // NS_PER_US
        yield f"late      {word.camera_id} said {word.verdict} ({word.reason}), score {word.score}, {after_us} us after the trigger"


def _picture_lines(ref: str | None, folder: Path | None, pictures: list[Path]) -> Iterator[str]:
    if ref is None:
        yield "pictures  none were kept"
    elif folder is None:
        yield f"pictures  {ref}* in the line's folder for them: give the line's YAML file as RECORD, or --images"
    elif not pictures:
        yield f"pictures  missing: {folder / ref}* was dropped before it was written, or pruned since"
    for each in pictures:
        yield f"picture   {each}"


def _review_lines(reviews: list[Review]) -> Iterator[str]:
    for review in reviews:
        note = f": {review.note}" if review.note else ""
        yield f"review    {review.who} said {review.said} on {review.utc} ({agreement(review)}){note}"


def _context_lines(shown: RecordedRow, context: dict[str, Any] | None) -> Iterator[str]:
    if context is None:
        yield "context   not known: decided before the model was, or its session was killed whole"
        return
    yield f"context   {shown.result.context_sha256}"
    yield f"          Lineside {context['version']}, line {context['line_sha256']}"
    yield f"          recipe {context['recipe_sha256']}: {json.dumps(context['recipe'], ensure_ascii=False)}"
    yield f"          runtime {context['fingerprint_sha256']}"
    for name, value in context["fingerprint"].items():
        yield f"            {name}: {value}"


def _place_lines(shown: RecordedRow, others: list[str]) -> Iterator[str]:
    result = shown.result
    yield f"record    row {shown.row} of {shown.file}, hash {result.row_hash}"
    if others:
        yield f"also      part {result.part_id} of earlier sessions: {', '.join(others)} (--session)"


def _in_mm(defect: DefectResult) -> str:
    if defect.box_mm is None or defect.area_mm2 is None:
        return ""
    return f", {tuple(round(each, 3) for each in defect.box_mm)} mm, {defect.area_mm2:.3f} mm2"
