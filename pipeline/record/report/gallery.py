"""Rejected parts in pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.image_names import pictures_of, read_name
from pipeline.payloads import ResultPayload
from pipeline.record.report.shown import RecordShown, moment
from pipeline.report.blocks import Block, Box, Gallery, Picture, Table, Words, plain
from pipeline.report.pictures import NoPicture, no_picture, picture_of_file

_PICTURES_A_PART = 4


def gallery(shown: RecordShown, results: Sequence[ResultPayload], which: str) -> Iterator[Block]:
    """``which`` says in what order. Reads the pictures."""
    if not results:
        yield Words("No part was rejected.")
        return
    if shown.images is None:
        yield Words(
            "No folder of kept pictures is known: give the line's YAML file in the record's place, or --images FOLDER."
        )
        yield _parts_table(results, which)
        return
    pictures = [picture for result in results for picture in _pictures(shown.images, result)]
    if any(picture.src is not None for picture in pictures):
        yield Gallery(pictures)
    else:
        reasons = dict.fromkeys(picture.alt.partition(": ")[2] for picture in pictures)
        yield Words(f"No pictures of these parts in {plain(str(shown.images), 200)}: {'; '.join(reasons)}.")
    yield _parts_table(results, which)


def _pictures(images: Path, result: ResultPayload) -> list[Picture]:
    caption = f"Part {result.part_id:,}"
    when = f"{moment(result.trigger_utc)} UTC, session {plain(result.session_id, 32)}"
    why = "no picture was kept" if result.image_ref is None else "its picture was dropped, or pruned since"
    try:
        files = pictures_of(images, result.image_ref) if result.image_ref is not None else []
    except OSError as error:
        files, why = [], f"its picture cannot be read: {error.strerror}"
    found = {name.camera_id: file for file in files if (name := read_name(file.name)) is not None}
    if not found:
        return [no_picture(alt=f"{caption}: {why}", caption=caption, lines=[when, *_defect_words(result)])]
    pictures = []
    blamed = {defect.camera_id for defect in result.defects} & found.keys()
    chosen = [(camera_id, file) for camera_id, file in found.items() if camera_id in blamed or not blamed]
    for camera_id, file in chosen[:_PICTURES_A_PART]:
        defects = [defect for defect in result.defects if defect.camera_id == camera_id]
        words = ", ".join(f"{plain(defect.class_name, 24)} {defect.score:.2f}" for defect in defects[:5])
        named = f"{caption}, {plain(camera_id, 32)}"
        try:
            pictures.append(
                picture_of_file(
                    file,
                    alt=f"{named}: {words or 'no defect seen by this camera'}",
                    caption=named,
                    lines=[when, words],
                    boxes=[Box(each.box_px, f"{each.class_name} {each.score:.2f}") for each in defects],
                )
            )
        except NoPicture as error:
            pictures.append(no_picture(alt=f"{named}: {plain(str(error), 200)}", caption=named, lines=[when, words]))
    return pictures


def _parts_table(results: Sequence[ResultPayload], which: str) -> Table:
    return Table(
        f"The same parts, {which}",
        ["part", "session", "triggered, UTC", "reason", "defects"],
        [
            (
                f"{result.part_id}",
                plain(result.session_id, 32),
                moment(result.trigger_utc),
                result.reason,
                "; ".join(_defect_words(result)),
            )
            for result in results
        ],
        frozenset({0}),
    )


def _defect_words(result: ResultPayload) -> list[str]:
    defects = sorted(result.defects, key=lambda defect: defect.score, reverse=True)
    words = [f"{plain(each.class_name, 32)} {each.score:.3f} ({plain(each.camera_id, 32)})" for each in defects[:3]]
    return words + ([f"{len(defects) - 3:,} more"] if len(defects) > 3 else [])
