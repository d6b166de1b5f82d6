"""Parts that were added while a product had learnt others, and passed, are judged once more when those are taken out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from calibration.teaching.fitting import PARTS_MIN
from calibration.teaching.graph import score_of
from calibration.teaching.near_copies import near_copies
from pipeline.teaching.features import Features, write_features
from pipeline.teaching.fit import fit, threshold_of
from pipeline.teaching.good_parts import GoodParts
from pipeline.teaching.package_writer import THRESHOLD
from pipeline.teaching.picture_set import Picture, Pixels
from pipeline.teaching.taught_file import KeptPart, Taught


def judged_again(source: GoodParts, folder: Path) -> GoodParts:
    """As if what is taken out had never been taught: of the lots that came after it, parts of which nobody said that they are good
    are held as suspects where a product of the others rejects them; all of them, where the others are too few for a product.

    ``folder``: an empty one. Raises OSError, and FaultsError as ``write_features`` does.
    """
    taught = source.before
    if taught is None:
        return source
    kept = set(source.kept_rows)
    learnt = [part.lot for row, part in enumerate(taught.parts) if row not in kept and not _is_held(part)]
    if not learnt:
        return source
    base = [row for row in source.kept_rows if taught.parts[row].lot <= min(learnt) or taught.parts[row].is_said_good]
    later = [
        row
        for row in source.kept_rows
        if taught.parts[row].lot > min(learnt)
        and not taught.parts[row].is_said_good
        and not _is_held(taught.parts[row])
    ]
    if not later:
        return source
    can_judge = len(base) >= PARTS_MIN
    rejected = _rejected(taught, source.features_before, base, later, folder) if can_judge else later
    return replace(source, rejected_again=frozenset(rejected), judged_again_count=len(later))


def _is_held(part: KeptPart) -> bool:
    return part.was_rejected and not part.is_said_good


def _rejected(
    taught: Taught, features: Sequence[Features], base: Sequence[int], later: Sequence[int], folder: Path
) -> list[int]:
    """Which of ``later`` a product of ``base`` rejects, rows of ``taught`` all."""
    layers = taught.shape.layers
    of_base = [
        write_features(folder / f"{index}.npy", taught.shape, of_view, base, (), _no_picture, lambda: None)
        for index, of_view in enumerate(features)
    ]
    parts = [taught.parts[row] for row in base]
    is_said_good = np.array([part.is_said_good for part in parts])
    is_held = np.array([_is_held(part) for part in parts])
    fitted = fit(of_base, layers, near_copies(of_base, layers).part, is_said_good, is_held)
    at = threshold_of(fitted, taught.false_reject_max, taught.confidence, len(taught.rejected))
    rejected = []
    for row in later:
        excess = max(
            float(view.excess(np.asarray(of_view[row])[None])[0])
            for view, of_view in zip(fitted.views, features, strict=True)
        )
        if float(score_of(np.array([excess]), at)[0]) >= THRESHOLD:
            rejected.append(row)
    return rejected


def _no_picture(picture: Picture) -> Pixels:
    raise AssertionError(f"no picture is read here, got {picture}")
