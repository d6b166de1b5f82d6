"""MVTec AD: ``train/good``, ``test/good``, ``test/<defect>``, ``ground_truth/<defect>/<image>_mask.png``.

P. Bergmann et al., "The MVTec Anomaly Detection Dataset", International Journal of Computer Vision 129 (2021). The images in
``train`` are those that a model is fitted to: only ``test`` is measured.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.evaluation.data import Sample
from pipeline.evaluation.image_check import read_mask
from pipeline.evaluation.layouts.reading import Reading, folders_in

GOOD = "good"


def is_here(folder: Path) -> bool:
    """A ``test/good``, and a ``train/good`` or masks beside it."""
    test, train, masks = folder / "test" / GOOD, folder / "train" / GOOD, folder / "ground_truth"
    return test.is_dir() and (masks.is_dir() or (train.is_dir() and len(folders_in(folder / "train")) == 1))


def read(folder: Path, reading: Reading) -> list[Sample]:
    """The class is the kind of defect, or ``good``. Each image of a defect has a mask, or none has."""
    reading.split.choose(folder, ["test"])
    masks = folder / "ground_truth"
    samples = []
    for kind in folders_in(folder / "test"):
        for image in reading.images_of_class(kind):
            facts = reading.look(image)
            if facts is None:
                continue
            mask = None
            if kind.name != GOOD and masks.is_dir():
                mask = masks / kind.name / f"{image.stem}_mask.png"
                if not _fits(mask, facts.format.width_px, facts.format.height_px, image, reading):
                    continue
            samples.append(Sample(image, reading.name_of(image), facts, class_name=kind.name, mask=mask))
    return samples


def _fits(mask: Path, width_px: int, height_px: int, image: Path, reading: Reading) -> bool:
    if not mask.is_file():
        reading.faults.add(mask, "", "no such file", f"the mask of {reading.name_of(image)}")
        return False
    facts = reading.look(mask, is_mask=True)
    if facts is None:
        return False
    if (facts.format.width_px, facts.format.height_px) != (width_px, height_px):
        got = f"{facts.format.width_px}x{facts.format.height_px} pixels"
        reading.faults.add(mask, "", got, f"{width_px}x{height_px}, as {reading.name_of(image)} has")
        return False
    if not read_mask(mask, facts.format).any():
        reading.faults.add(mask, "", "a mask that marks no pixel", f"the defect of {reading.name_of(image)}")
        return False
    return True
