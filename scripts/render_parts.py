"""Render grey parts with dark scratches and bright blobs, with the truth about each defect.

    python scripts/render_parts.py --layout yolo|mvtec --out DIR [--parts 200] [--seed 0]

What it draws means something to a detector or an anomaly model without any data set: enough to try evaluation, `run`
and the exports of `make_exports.py`.  Needs NumPy and OpenCV alone.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

CLASSES = ("scratch", "blob")
WIDTH_PX, HEIGHT_PX = 320, 240
TRAIN_FRACTION = 0.8


@dataclass(frozen=True)
class RenderedPart:
    """``image``: uint8 (height, width, 3), BGR; ``masks``: bool (N, height, width), one per defect, with its class."""

    image: NDArray[np.uint8]
    class_ids: tuple[int, ...]
    masks: NDArray[np.bool_]

    @property
    def boxes_px(self) -> NDArray[np.float32]:
        """float32 (N, 4): x1 y1 x2 y2, half-open."""
        boxes = np.zeros((len(self.masks), 4), np.float32)
        for box, mask in zip(boxes, self.masks, strict=True):
            rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
        return boxes


def render_part(
    rng: np.random.Generator, defect_count: int, shape: tuple[int, int] = (HEIGHT_PX, WIDTH_PX)
) -> RenderedPart:
    """A rounded metal plate on a dark belt, lit from one side, with camera noise and ``defect_count`` defects."""
    height, width = shape
    belt = rng.normal(45, 3, (height, width))
    plate = np.zeros((height, width), np.uint8)
    margin = np.array([width, height]) * 0.1 + rng.uniform(-4, 4, 2)
    left, top = margin.astype(int)
    cv2.rectangle(plate, (left, top), (width - left, height - top), 1, -1)
    cv2.circle(plate, (width // 2, height // 2), height // 10, 0, -1)
    light = (
        rng.normal(140, 8)
        + np.linspace(-10, 10, width)[None, :]
        + cv2.GaussianBlur(rng.normal(0, 20, shape), (0, 0), 6)
    )
    grey = np.where(plate > 0, light, belt)

    class_ids, masks = [], []
    inside = cv2.erode(plate, np.ones((15, 15), np.uint8))
    rows, columns = np.nonzero(inside)
    for _ in range(defect_count):
        at = rng.integers(len(rows))
        x, y = int(columns[at]), int(rows[at])
        drawn = np.zeros((height, width), np.uint8)
        class_id = int(rng.integers(len(CLASSES)))
        if CLASSES[class_id] == "scratch":
            angle, length = rng.uniform(0, np.pi), rng.uniform(0.1, 0.25) * width
            end = (int(x + length * np.cos(angle)), int(y + length * np.sin(angle)))
            cv2.line(drawn, (x, y), end, 1, int(rng.integers(2, 5)))
            change = -rng.uniform(55, 90)
        else:
            axes = (int(rng.integers(4, 14)), int(rng.integers(4, 14)))
            cv2.ellipse(drawn, (x, y), axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
            change = rng.uniform(50, 90)
        mask = (drawn > 0) & (plate > 0)
        if mask.sum() < 8:
            continue
        grey = grey + change * cv2.GaussianBlur(mask.astype(np.float64), (0, 0), 0.8)
        class_ids.append(class_id)
        masks.append(mask)
    noisy = grey + rng.normal(0, 3, (height, width))
    image = np.repeat(noisy.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)
    # A little colour, so that a mix-up of the channels is seen.
    image = (image * np.array([0.92, 1.0, 0.97])).astype(np.uint8)
    return RenderedPart(image, tuple(class_ids), np.array(masks, bool).reshape(-1, height, width))


def write_yolo(folder: Path, part_count: int, seed: int) -> Path:
    """``images/{train,val}``, ``labels/{train,val}`` and ``data.yaml``; returns the latter's path."""
    rng = np.random.default_rng(seed)
    for number in range(part_count):
        part = render_part(rng, int(rng.choice([0, 1, 2, 3])))
        where = "train" if number < TRAIN_FRACTION * part_count else "val"
        height, width = part.image.shape[:2]
        lines = []
        for class_id, (x1, y1, x2, y2) in zip(part.class_ids, part.boxes_px, strict=True):
            centre_and_size = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            lines.append(" ".join([str(class_id), *(f"{value:.6f}" for value in centre_and_size)]))
        _write_image(folder / "images" / where / f"part-{number:04}.png", part.image)
        label_path = folder / "labels" / where / f"part-{number:04}.txt"
        label_path.parent.mkdir(parents=True, exist_ok=True)
        label_path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    names = "".join(f"  {class_id}: {name}\n" for class_id, name in enumerate(CLASSES))
    data = folder / "data.yaml"
    data.write_text(
        f"path: {folder.resolve()}\ntrain: images/train\nval: images/val\nnames:\n{names}", encoding="utf-8"
    )
    return data


def write_mvtec(folder: Path, part_count: int, seed: int) -> None:
    """MVTec AD's layout: ``train/good``, ``test/good``, ``test/<class>``, ``ground_truth/<class>/NAME_mask.png``."""
    rng = np.random.default_rng(seed)
    train_count = part_count // 2
    for number in range(train_count):
        _write_image(folder / "train/good" / f"{number:03}.png", render_part(rng, 0).image)
    for number in range(part_count - train_count):
        part = render_part(rng, number % 2)
        name = CLASSES[part.class_ids[0]] if part.class_ids else "good"
        _write_image(folder / "test" / name / f"{number:03}.png", part.image)
        if part.class_ids:
            mask = part.masks.any(axis=0).astype(np.uint8) * 255
            _write_image(folder / "ground_truth" / name / f"{number:03}_mask.png", mask)


def _write_image(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), pixels):
        raise OSError(f"{path}: not written")


def main() -> None:
    """Writes one data set of rendered parts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layout", choices=("yolo", "mvtec"), required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--parts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    (write_yolo if arguments.layout == "yolo" else write_mvtec)(arguments.out, arguments.parts, arguments.seed)


if __name__ == "__main__":
    main()
