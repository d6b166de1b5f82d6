"""What an operator would have photographed at a station: even targets, parts in their place, the empty belt; with known truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from pipeline.simulator.part_scene import Look, PartScene
from tests.service import write_line

Frames = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

WIDTH_PX, HEIGHT_PX = 360, 300
SCENE = PartScene(WIDTH_PX, HEIGHT_PX)
NOISE_LEVELS = 2.0


def save_pictures(folder: Path, pictures: Iterable[Frames]) -> Path:
    """00.png and so on, BGR; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(pictures):
        assert cv2.imwrite(str(folder / f"{number:02d}.png"), picture)
    return folder


def parts_line(folder: Path, *, pixel_format: str = "Mono8") -> Path:
    """A line whose camera sees ``SCENE``, with one region in the plate; its calibrations are in ``calibrations``."""
    line = write_line(folder, 1, calibrations="calibrations")
    written = yaml.safe_load(line.read_text())
    written["cameras"][0] |= {"width_px": WIDTH_PX, "height_px": HEIGHT_PX, "pixel_format": pixel_format}
    line.write_text(yaml.safe_dump(written))
    recipe_file = folder / "recipe.yaml"
    recipe = yaml.safe_load(recipe_file.read_text())
    x_px, y_px, width_px, height_px = SCENE.plate_px
    region = {"x_px": x_px + 30, "y_px": y_px + 30, "width_px": width_px - 60, "height_px": height_px - 60}
    recipe["views"][0]["regions"][0] |= region
    recipe_file.write_text(yaml.safe_dump(recipe))
    return line


@dataclass(frozen=True)
class Sensor:
    """``share``: of the light, that each pixel makes levels of; ``dark``: levels without light."""

    share: Floats
    dark: Floats
    generator: np.random.Generator

    def frames(self, light: float, count: int) -> Frames:
        """uint8 (count, height, width) or (count, height, width, 3)."""
        exact = self.dark + self.share * light
        noisy = exact + self.generator.normal(0.0, NOISE_LEVELS, (count, *exact.shape))
        return np.rint(noisy).clip(0, 255).astype(np.uint8)


def vignetted_sensor(*, channels: int = 1, corner_light: float = 0.55, seed: int = 1) -> Sensor:
    """Each pixel with a gain of its own, each channel brightest elsewhere; a dead pixel at x 50, y 40 and a hot one at
    x 200, y 100.
    """
    generator = np.random.default_rng(seed)
    y, x = (axis[:, :, None] for axis in np.mgrid[:HEIGHT_PX, :WIDTH_PX])
    middles = np.array([190, 160, 130])[:channels]
    radius = ((x - middles) ** 2 + (y - 140) ** 2) / (190**2 + 160**2)
    share = (1 - (1 - corner_light) * radius) * np.array([1.0, 0.8, 0.9])[:channels]
    share = share * generator.normal(1.0, 0.01, share.shape)
    dark = 4 + generator.gamma(2.0, 0.5, share.shape)
    share[40, 50] *= 0.1
    dark[100, 200] += 80.0
    return Sensor(share.squeeze(), dark.squeeze(), generator)


def flat_field_pictures(
    folder: Path, sensor: Sensor, *, light: float = 190.0, dark_count: int = 12, bright_count: int = 24
) -> Path:
    """``dark`` and ``bright`` in it."""
    save_pictures(folder / "dark", sensor.frames(0.0, dark_count))
    save_pictures(folder / "bright", sensor.frames(light, bright_count))
    return folder


def registration_pictures(folder: Path, *, still_count: int = 11, part_count: int = 20, empty_count: int = 2) -> Path:
    """``still``, ``parts`` and ``empty`` in it."""
    places = np.random.default_rng(7).normal((1.5, 0.0), (3.0, 1.5), (part_count, 2))
    save_pictures(folder / "still", [SCENE.frame(Look(), seed) for seed in range(still_count)])
    parts = [SCENE.frame(Look(float(dx), float(dy)), seed) for seed, (dx, dy) in enumerate(places, 100)]
    save_pictures(folder / "parts", parts)
    save_pictures(folder / "empty", [SCENE.frame(Look(has_part=False), 1_000 + seed) for seed in range(empty_count)])
    return folder


def resting_pictures(folder: Path, *, count: int = 8, gain: float = 1.0, blur_px: float = 0.0) -> Path:
    """One part and the belt beneath it, neither moved."""
    generator = np.random.default_rng(3)
    picture = SCENE.frame(Look(gain=gain, blur_px=blur_px, noise_levels=0.0), seed=1).astype(np.float64)
    noisy = picture + generator.normal(0.0, NOISE_LEVELS, (count, *picture.shape))
    return save_pictures(folder, np.rint(noisy).clip(0, 255).astype(np.uint8))
