"""Which files of a folder are pictures of which view, found before any of them is opened.

Pictures directly in the folder: one view. Only sub-folders with pictures: each is a view, called by its name, and pictures of one
name (the suffix aside) in several of them show the same part.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pipeline.camera_config import CAMERA_ID_CHARS, CAMERA_ID_PATTERN
from pipeline.config_places import IMAGE_SUFFIXES
from pipeline.evaluation.image_check import is_image_name
from pipeline.teaching.names import EXPECTED_NAME, oddity
from pipeline.teaching.picture_set import FaultList
from vision.faults import Fault, FaultsError, quote

_LITTER = frozenset(("thumbs.db", "desktop.ini", "__macosx", "@eadir"))
"""What file managers and stores leave behind, beside hidden files."""
_KINDS = ", ".join(IMAGE_SUFFIXES)
_VIEW_NAME_CHARS_MAX = 64
_GOOD_OR_NOT = (
    "good",
    "bad",
    "ok",
    "nok",
    "ng",
    "pass",
    "fail",
    "reject",
    "rejected",
    "defect",
    "defects",
    "defective",
)
_LABELS = frozenset((*_GOOD_OR_NOT, "anomaly", "train", "test", "val"))
"""A folder of folders called so is a labelled set, and would teach the bad ones as another view of the good ones."""


def view_files(folder: Path, faults: FaultList, *, is_one_of_several: bool = False) -> dict[str, list[Path]]:
    """By view, by name, each with one picture at least; an only view is called "", however its folder is, unless it is one of
    several views of the product.

    What is no picture is added to ``faults``. Raises FaultsError where the folder has no such layout.
    """
    files, folders = _listed(folder, what="a folder of pictures")
    if folders and any(map(is_image_name, files)):
        names = ", ".join(quote(each.name) for each in folders[:3])
        got = f"pictures and sub-folders side by side ({names}{' and others' if len(folders) > 3 else ''})"
        expected = "either pictures of one view, or nothing but a sub-folder for each view: move the ones or the others"
        raise FaultsError([Fault(str(folder), "", got, expected)])
    if not folders:
        return {"": _pictures(folder, files, faults)}
    for stranger in files:
        faults.add(
            stranger, "a file beside the views' sub-folders", "it moved elsewhere, or into its view's sub-folder"
        )
    views = {}
    for view_folder in folders:
        if not view_folder.name.isprintable() or len(view_folder.name) > _VIEW_NAME_CHARS_MAX:
            expected = f"a name of at most {_VIEW_NAME_CHARS_MAX} printable characters: rename it"
            faults.add(view_folder, f"the name {quote(view_folder.name)} for a view", expected)
            continue
        if len(folders) > 1 and view_folder.name.lower() in _LABELS:
            expected = "sub-folders that are views of the part, each called as its camera: are its pictures good ones?"
            faults.add(view_folder, f"the name {quote(view_folder.name)} for one of several views", expected)
            continue
        if len(folders) > 1 and not _is_camera_or_region(view_folder.name):
            expected = f"the view's camera_id in the line ({CAMERA_ID_CHARS}), or camera_id.region: rename it"
            faults.add(view_folder, f"the name {quote(view_folder.name)} for one of several views", expected)
            continue
        inner_files, inner_folders = _listed(view_folder, what="a folder of one view's pictures")
        for inner in inner_folders:
            faults.add(inner, "a folder inside a view's folder", f"pictures only: move them into {view_folder.name}")
        if inner_files or not inner_folders:
            views[view_folder.name] = _pictures(view_folder, inner_files, faults)
    if len(folders) == 1 and views and not is_one_of_several:
        ((_, only),) = views.items()
        return {"": only}
    return views


def _is_camera_or_region(name: str) -> bool:
    """Some camera's, or that of a region of it, which may be called anything."""
    return any(re.fullmatch(CAMERA_ID_PATTERN, camera_id) for camera_id in (name, name.partition(".")[0]))


def _pictures(folder: Path, files: list[Path], faults: FaultList) -> list[Path]:
    found: dict[str, Path] = {}
    for file in files:
        if odd := oddity(file.name):
            faults.add(file, f"{odd} in its name", f"{EXPECTED_NAME}: rename it")
        elif not is_image_name(file):
            faults.add(file, "a file that is no picture by its name", f"pictures only ({_KINDS}): move it elsewhere")
        elif (first := found.setdefault(file.stem, file)) is not file:
            expected = "one picture of a part: rename the one of another part, or take the copy out"
            faults.add(file, f"the same name as {first.name}", expected)
    if not found:
        faults.add(folder, "no picture in it", f"pictures of parts ({_KINDS})")
    return list(found.values())


def _listed(folder: Path, *, what: str) -> tuple[list[Path], list[Path]]:
    """Everything that is no folder, and the folders, each by name; litter left aside. Raises FaultsError."""
    files: list[Path] = []
    folders: list[Path] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") or entry.name.lower() in _LITTER:
                    continue
                (folders if _is_folder(entry) else files).append(folder / entry.name)
    except OSError as error:
        raise FaultsError([Fault(str(folder), "", str(error.strerror), what)]) from error
    return sorted(files), sorted(folders)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Links followed; one that leads nowhere is a file, and found out as such."""
    try:
        return entry.is_dir()
    except OSError:
        return False
