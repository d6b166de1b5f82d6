"""A folder of pictures, each of which is looked at once before anything is taught: see ``layout`` for how it is laid out.

Every picture is decoded as the line's folder camera decodes it (``pipeline.image_reading``), one at a time, so that memory is that
of one picture however many there are; what is read later is the same bytes, or a fault.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.evaluation.data import Faults
from pipeline.evaluation.image_check import check_image
from pipeline.image_reading import decode_seen
from pipeline.teaching.layout import view_files
from pipeline.teaching.picture_set import Copy, FaultList, Picture, PictureSet, Pixels, View, majority_frame
from pipeline.teaching.pixel_facts import is_flat, is_grey, pixels_sha256
from vision.faults import Fault, FaultsError, one_line
from vision.preprocess import FrameFormat
from vision.types import PixelFormat

_SIZE_TOLERANCE = 0.03
_SIZE_TOLERANCE_MIN_PX = 2
_PAIRED_SHARE_MIN = 0.5


def size_tolerance_px(side_px: int) -> int:
    """By how much the side of a picture may differ from the most frequent one: 3 %, as cut by hand; at least 2 px.

    Pictures are stretched to the model's input, and a part that is wider by more than that would not look the same.
    """
    return max(_SIZE_TOLERANCE_MIN_PX, round(_SIZE_TOLERANCE * side_px))


def read_folder(
    folder: Path,
    *,
    frames: Mapping[str, FrameFormat] | None = None,
    needs_all_views: bool = True,
    looked: Callable[[], None] = lambda: None,
) -> PictureSet:
    """Looks at every picture of a folder; ``looked`` is called after each.

    ``frames``: by view, what the pictures must be like, where something was taught already or good parts were read
    (``PictureSet.frames``); None: what most of them are like. ``needs_all_views``: parts without a picture in every view are left
    out, as the line would not judge them; of a defect one view may be enough.

    Raises FaultsError: all that is wrong with the pictures, or the first 20 faults and how many more there are.
    """
    faults = FaultList(folder)
    files = view_files(folder, faults, is_one_of_several=frames is not None and len(frames) > 1)
    if frames is not None:
        _expect_views(folder, files, frames, needs_all_views=needs_all_views)
    seen: dict[str, list[_Seen]] = {name: [] for name in files}
    for name, of_view in files.items():
        for file in of_view:
            if (one := _look(file, folder, name, faults)) is not None:
                seen[name].append(one)
            looked()
    faults.settle()
    chosen = {}
    for name, of_view_seen in seen.items():
        is_grey = _is_grey_view(of_view_seen, None if frames is None else frames[name], faults)
        sizes_px = Counter((one.picture.width_px, one.picture.height_px) for one in of_view_seen)
        chosen[name] = majority_frame(sizes_px, is_grey=is_grey) if frames is None else frames[name]
        _check_sizes(of_view_seen, chosen[name], faults)
    faults.settle()
    pictures = {name: [one.picture for one in of_view_seen] for name, of_view_seen in seen.items()}
    copies = _copies(folder, pictures.values())
    left_out = _unpaired(folder, pictures) if needs_all_views else {}
    dropped = {part for part, _ in copies} | left_out.keys()
    views = tuple(
        View(name, chosen[name], tuple(each for each in of_view if each.part_name not in dropped))
        for name, of_view in pictures.items()
    )
    return PictureSet(
        path=folder,
        views=views,
        copies=tuple(copy for _, copy in copies),
        left_out=tuple(left_out.values()),
        read=lambda picture: _read(picture, chosen[picture.view].pixel_format),
    )


@dataclass(frozen=True, slots=True)
class _Seen:
    """``is_grey_file``: it holds nothing else than grey levels, whatever ``picture.is_grey`` says of those of a file in colour."""

    picture: Picture
    is_grey_file: bool


def _look(file: Path, folder: Path, view: str, faults: FaultList) -> _Seen | None:
    its_own = Faults()
    facts = check_image(file, its_own)
    try:
        its_own.settle()
        assert facts is not None
        pixels = _decoded(file, facts.sha256, facts.format.pixel_format)
    except FaultsError as error:
        for fault in error.faults:
            faults.take(fault)
        return None
    height_px, width_px = pixels.shape[:2]
    picture = Picture(
        name=one_line(str(file.relative_to(folder))),
        path=file,
        view=view,
        part_name=file.stem,
        width_px=width_px,
        height_px=height_px,
        is_grey=is_grey(pixels),
        is_flat=is_flat(pixels),
        sha256=facts.sha256,
        pixels_sha256=pixels_sha256(pixels),
    )
    return _Seen(picture, facts.format.pixel_format.channel_count == 1)


def _read(picture: Picture, pixel_format: PixelFormat) -> Pixels:
    return _decoded(picture.path, picture.sha256, pixel_format)


def _decoded(file: Path, sha256: str, pixel_format: PixelFormat) -> Pixels:
    """Raises FaultsError where the file has not this content (any more), or cannot be decoded."""
    try:
        content = np.fromfile(file, np.uint8)
    except OSError as error:
        expected = "the picture that was there when the folder was looked at: leave it alone meanwhile"
        raise FaultsError([Fault(str(file), "", str(error.strerror), expected)]) from error
    if hashlib.sha256(content.data).hexdigest() != sha256:
        expected = "what it held when the folder was looked at: leave it alone meanwhile, and ask again"
        raise FaultsError([Fault(str(file), "", "another content than before", expected)])
    # Of a grey file it may be 16 bit, as pictures of 10 and 12 bit are kept.
    as_read = PixelFormat.MONO12 if pixel_format is PixelFormat.MONO8 else pixel_format
    pixels = decode_seen(content, as_read)
    if pixels is None:
        raise FaultsError([Fault(str(file), "", "a picture that cannot be decoded", "a whole one of 8 bit a channel")])
    return pixels


def _expect_views(
    folder: Path, files: Mapping[str, object], frames: Mapping[str, FrameFormat], *, needs_all_views: bool
) -> None:
    """The views of what was read before; where one is enough, some of them. Raises FaultsError."""
    if set(files) == set(frames) or (not needs_all_views and set(files) < set(frames)):
        return
    named = sorted(filter(None, frames))
    expected = (
        f"a sub-folder for each view, called as those of the good parts: {', '.join(named)}"
        if named
        else "pictures directly in it, as the good parts of one view are"
    )
    names = sorted(filter(None, files))
    got = f"the sub-folders {', '.join(names)}" if names else "pictures directly in it"
    raise FaultsError([Fault(str(folder), "", got, expected)])


def _is_grey_view(seen: Sequence[_Seen], frame: FrameFormat | None, faults: FaultList) -> bool:
    """Whether all are to be read as grey. A file in colour whose channels are alike is grey to the model either way."""
    if frame is not None:
        is_grey_wanted = frame.pixel_format is PixelFormat.MONO8
        for one in seen:
            if is_grey_wanted and not one.picture.is_grey:
                faults.add(one.picture.path, "a picture in colour", "a grey one, as the good parts of this view are")
            elif not is_grey_wanted and one.is_grey_file:
                faults.add(one.picture.path, "a grey picture", "one in colour, as the good parts of this view are")
        return is_grey_wanted
    grey_files = [one for one in seen if one.is_grey_file]
    coloured = [one for one in seen if not one.picture.is_grey]
    if grey_files and coloured:
        few, many, got = (
            (grey_files, coloured, "a grey picture")
            if len(grey_files) < len(coloured)
            else (coloured, grey_files, "a picture in colour")
        )
        others = f"{len(many):,} others of this view are {'in colour' if few is grey_files else 'grey'}"
        for one in few:
            faults.add(one.picture.path, got, f"pictures of one kind ({others}): take them all with the same camera")
    return not coloured


def _check_sizes(seen: Sequence[_Seen], frame: FrameFormat, faults: FaultList) -> None:
    wide_px, high_px = size_tolerance_px(frame.width_px), size_tolerance_px(frame.height_px)
    for one in seen:
        width_px, height_px = one.picture.width_px, one.picture.height_px
        if abs(width_px - frame.width_px) > wide_px or abs(height_px - frame.height_px) > high_px:
            usual = f"{frame.width_px}x{frame.height_px}, as most are, within {wide_px} and {high_px} px"
            expected = f"{usual}: parts must be taken from the same place and cut out alike"
            faults.add(one.picture.path, f"{width_px}x{height_px} pixels", expected)


def _copies(folder: Path, views: Iterable[Sequence[Picture]]) -> list[tuple[str, Copy]]:
    """With the part's name. Raises FaultsError where a view shows nothing but copies."""
    copies = []
    for of_view in views:
        first: dict[str, Picture] = {}
        for picture in of_view:
            original = first.setdefault(picture.pixels_sha256, picture)
            if original is not picture:
                copies.append((picture.part_name, Copy(picture.name, original.name)))
        if len(first) == 1 and len(of_view) > 1:
            name = of_view[0].view
            got = (
                f"{len(of_view):,} pictures{f' of view {name}' if name else ''} that are all the same, pixel for pixel"
            )
            raise FaultsError([Fault(str(folder), "", got, "a picture of each of many parts: is the camera stuck?")])
    return copies


def _unpaired(folder: Path, pictures: Mapping[str, Sequence[Picture]]) -> dict[str, str]:
    """By part that lacks a picture in a view: what is left out. Raises FaultsError where that is most of them."""
    views_of: dict[str, list[str]] = {}
    for name, of_view in pictures.items():
        for picture in of_view:
            views_of.setdefault(picture.part_name, []).append(name)
    unpaired = {part: views for part, views in views_of.items() if len(views) < len(pictures)}
    if len(unpaired) > _PAIRED_SHARE_MIN * len(views_of):
        part, views = next(iter(unpaired.items()))
        got = f"{len(unpaired):,} of {len(views_of):,} parts without a picture in every view (part {part} is in {', '.join(views)})"
        expected = f"pictures of one part under one name in each of {', '.join(pictures)}"
        raise FaultsError([Fault(str(folder), "", got, expected)])
    return {
        part: one_line(f"part {part}: no picture in {', '.join(name for name in pictures if name not in views)}")
        for part, views in unpaired.items()
    }
