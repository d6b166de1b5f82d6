"""Parts that were added later are judged by those that can be trusted, and once more when others are taken out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from calibration.teaching.fitting import PARTS_MIN, ViewFit
from calibration.teaching.graph import score_of
from calibration.teaching.near_copies import near_copies
from pipeline.teaching.features import FeatureReader, Features, write_features
from pipeline.teaching.fit import fit, threshold_of
from pipeline.teaching.good_parts import GoodParts
from pipeline.teaching.package_writer import THRESHOLD
from pipeline.teaching.picture_set import Picture, Pixels
from pipeline.teaching.taught_file import KeptPart, Taught


def judged_again(source: GoodParts, folder: Path) -> GoodParts:
    """As if what is taken out had never been taught: of the lots that came after it, parts of which nobody said that they are good
    when they had been rejected, are held as suspects where a product of the others rejects them; all of them, where the others are
    too few for a product. What was said of a whole lot, most of which had passed for what is gone now, is not said any more.

    ``folder``: an empty one. Raises OSError, and FaultsError as ``write_features`` does.
    """
    taught = source.before
    if taught is None:
        return source
    kept = set(source.kept_rows)
    learnt = [part.lot for row, part in enumerate(taught.parts) if row not in kept and not _is_held(part)]
    if not learnt:
        return source
    base = {row for row in kept if taught.parts[row].lot <= min(learnt) or _is_known(taught.parts[row])}
    if len(base) < PARTS_MIN:  # then those count of which somebody spoke who may have looked at others
        base |= {row for row in kept if taught.parts[row].is_said_good}
    later = [row for row in source.kept_rows if row not in base and not _is_held(taught.parts[row])]
    if not later:
        return source
    rejected = later
    if len(base) >= PARTS_MIN:
        product = _product_of(taught, source.features_before, sorted(base), folder)
        rejected = [row for row in later if product.rejects([of_view[row] for of_view in source.features_before])]
    return replace(source, rejected_again=frozenset(rejected), judged_again_count=len(later))


def judged_by_first(source: GoodParts, folder: Path) -> GoodParts:
    """New parts are held as suspects that a product of those which it was taught with first, and of those that were rejected and
    that somebody said are good, rejects: a defect that creeps from lot to lot passes the product each time, since it has learnt the
    lot before.

    ``folder`` and errors as above; FaultsError where a picture is not what it was.
    """
    taught, new = source.before, source.pictures.views[0].pictures
    if taught is None or not new:
        return source
    trusted = [row for row in source.kept_rows if taught.parts[row].lot == 0 or _is_known(taught.parts[row])]
    learnt = {row for row in source.kept_rows if not _is_held(taught.parts[row])}
    if learnt <= set(trusted):  # the product itself has judged them
        return source
    names = {picture.part_name for picture in new}
    if len(trusted) >= PARTS_MIN:
        product, reader = _product_of(taught, source.features_before, trusted, folder), FeatureReader(taught.shape)
        names = {
            shown[0].part_name
            for shown in zip(*(view.pictures for view in source.pictures.views), strict=True)
            if product.rejects([reader.features(source.pictures.read(picture)) for picture in shown])
        }
    return replace(source, unlike_first=frozenset(names))


@dataclass(frozen=True, slots=True)
class _Product:
    """``threshold``: in excess."""

    views: Sequence[ViewFit]
    threshold: float

    def rejects(self, of_part: Sequence[Features]) -> bool:
        """``of_part``: features of each view, (channels, rows, columns)."""
        excess = max(
            float(view.excess(np.asarray(of_view)[None])[0]) for view, of_view in zip(self.views, of_part, strict=True)
        )
        return bool(score_of(excess, self.threshold) >= THRESHOLD)


def _is_held(part: KeptPart) -> bool:
    return part.was_rejected and not part.is_said_good


def _is_known(part: KeptPart) -> bool:
    """Somebody was shown that it had been rejected, and said that it is good."""
    return part.was_rejected and part.is_said_good


def _product_of(taught: Taught, features: Sequence[Features], base: Sequence[int], folder: Path) -> _Product:
    """Of these rows of ``taught``."""
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
    return _Product(fitted.views, at)


def _no_picture(picture: Picture) -> Pixels:
    raise AssertionError(f"no picture is read here, got {picture}")
