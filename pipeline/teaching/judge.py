"""A package as the line would run it, on pictures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from pipeline.teaching.budget import opened
from pipeline.teaching.features import InputFiller
from pipeline.teaching.overlay import shown_picture
from pipeline.teaching.picture_set import Picture, PictureSet
from pipeline.teaching.report import ScoredPart, ShownPicture
from vision.package import ModelPackage


class Judge:
    """The package as the line would run it."""

    def __init__(self, package: ModelPackage) -> None:
        self.package = package
        self._session = opened(package)
        self._filler = InputFiller(package.card.input)

    def judged(self, pictures: PictureSet, picture: Picture) -> tuple[float, npt.NDArray[np.float32]]:
        """Score and map, (h, w), of this picture in its view's row, the other views' being blank."""
        views = self.package.card.input.views
        number = views.index(picture.view) if views else 0
        self._session.input[...] = 0
        self._session.input[number] = self._filler.fill(pictures.read(picture))[0]
        self._session.run()
        row = self._session.rows[number]
        return float(row["pred_score"].item()), np.array(row["anomaly_map"][0])

    def parts(
        self, pictures: PictureSet | None, advance: Callable[[], object]
    ) -> tuple[tuple[ScoredPart, ...], dict[str, Picture]]:
        """Each part's highest score, and by its name the picture that has it."""
        scores: dict[str, float] = {}
        worst: dict[str, Picture] = {}
        for picture in [] if pictures is None else pictures.all():
            assert pictures is not None
            score, _ = self.judged(pictures, picture)
            if score > scores.get(picture.part_name, -1.0):
                scores[picture.part_name], worst[picture.part_name] = score, picture
            advance()
        return tuple(ScoredPart(name, score) for name, score in scores.items()), worst

    def shown(self, pictures: PictureSet, picture: Picture, score: float, *lines: str) -> ShownPicture:
        """``score`` may be another than that of the model, which has seen the good parts."""
        _, heat = self.judged(pictures, picture)
        return shown_picture(picture.name, score, pictures.read(picture), heat, lines)
