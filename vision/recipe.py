"""The recipe: what to look at on a product and when to reject it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from vision.faults import disagreement


class Strict(BaseModel):
    """Base of everything an engineer writes by hand: unknown keys are refused, values are never coerced silently."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Region(Strict):
    """A rectangle of the frame that is judged, in frame pixels. One region is one row of the model's batch."""

    name: str = Field(min_length=1)
    x_px: int = Field(ge=0)
    y_px: int = Field(ge=0)
    width_px: int = Field(gt=0)
    height_px: int = Field(gt=0)


class PartMark(Strict):
    """Where a machine-readable part number is printed in the frame (see ``vision.part_mark``).

    The number read from the very pixels that were judged goes into the result: proof that the verdict belongs to the part.
    """

    x_px: int = Field(ge=0)
    y_px: int = Field(ge=0)
    cell_px: int = Field(default=4, gt=0)


class View(Strict):
    """One camera's look at the part."""

    camera_id: str = Field(min_length=1)
    regions: list[Region] = Field(min_length=1)
    part_mark: PartMark | None = None


class Zone(Strict):
    """A rectangle of the frame. A finding is in it where the middle of its box is, or the peak of an anomaly."""

    x_px: int = Field(ge=0)
    y_px: int = Field(ge=0)
    width_px: int = Field(gt=0)
    height_px: int = Field(gt=0)


class Finding(Strict):
    """Which findings of a view count: of this class, at least so large, seen here."""

    class_name: str = Field(alias="class", min_length=1)
    camera_id: str | None = Field(default=None, min_length=1, description="null: in each view by itself")
    zone: Zone | None = Field(default=None, description="null: everywhere")
    min_width_px: float = Field(default=0.0, ge=0.0, description="of the box, in the frame")
    min_height_px: float = Field(default=0.0, ge=0.0, description="of the box, in the frame")
    min_area_px: float = Field(default=0.0, ge=0.0, description="of the mask where there is one, else of the box")


class Rule(Finding):
    """Reject the part when such findings score at least ``reject_at_score`` in a view: ``reject_at_count`` of them, or so
    many that they cover ``reject_at_total_area_px`` together. One is enough where neither is given.
    """

    reject_at_score: Annotated[float, Field(gt=0.0, le=1.0)]
    is_calibrated: bool = Field(
        default=False,
        description="a camera's threshold calibration takes the place of reject_at_score, which holds as long as there is none",
    )
    reject_at_count: int | None = Field(default=None, ge=1)
    reject_at_total_area_px: float | None = Field(default=None, gt=0.0)


class Required(Finding):
    """Reject the part when a view has fewer than ``count`` such findings that score at least ``found_at_score``."""

    found_at_score: Annotated[float, Field(gt=0.0, le=1.0)]
    count: int = Field(default=1, ge=1)


def _printable(word: str) -> str:
    if not word.isprintable():
        raise disagreement("", repr(word), "printable characters")
    return word


Word = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]


class Traceability(Strict):
    """What the parts of a product belong to, as long as nobody says otherwise."""

    lot: Word | None = None
    order: Word | None = None
    serial: Word | None = None
    shift: Word | None = None


class Recipe(Strict):
    """A product's recipe."""

    recipe_id: str = Field(min_length=1, max_length=64)
    recipe_version: str = Field(min_length=1, max_length=32)
    model: Path = Field(strict=False, description="folder of the model package, relative to this file")
    views: list[View] = Field(min_length=1)
    rules: list[Rule] = Field(default_factory=list, description="what must not be there")
    required: list[Required] = Field(default_factory=list, description="what must be there")
    traceability: Traceability = Field(
        default=Traceability(), description="on record with each part; cmd/set_traceability says otherwise"
    )

    @model_validator(mode="after")
    def _names_are_unique(self) -> Recipe:
        cameras = [view.camera_id for view in self.views]
        if len(set(cameras)) != len(cameras):
            raise disagreement(
                "views", f"two views of one camera among {cameras}", "all regions of a camera in one view"
            )
        if not self.rules and not self.required:
            raise disagreement("rules", "no rule and nothing required", "at least one of either: all parts would pass")
        for key, given in (("rules", self.rules), ("required", self.required)):
            alike: set[str] = set()
            for one in given:
                which = one.model_dump_json(include=set(Finding.model_fields))
                if which in alike:
                    got = f"two for class {one.class_name} that mean the same findings"
                    raise disagreement(key, got, "one, or two that differ in camera_id, zone or size")
                alike.add(which)
        return self

    @property
    def region_count(self) -> int:
        """Of all views."""
        return sum(len(view.regions) for view in self.views)


def with_thresholds(recipe: Recipe, scores: Mapping[str, Mapping[str, float]]) -> Recipe:
    """``scores``: by camera and class, in the place of ``reject_at_score`` in the rules that are to be calibrated.

    A rule for all cameras becomes one for each where they differ.
    """
    rules = [each for rule in recipe.rules for each in _with_threshold(rule, recipe, scores)]
    return recipe.model_copy(update={"rules": rules})


def _with_threshold(rule: Rule, recipe: Recipe, scores: Mapping[str, Mapping[str, float]]) -> Iterator[Rule]:
    cameras = [view.camera_id for view in recipe.views] if rule.camera_id is None else [rule.camera_id]
    found = [scores.get(camera_id, {}).get(rule.class_name, rule.reject_at_score) for camera_id in cameras]
    if not rule.is_calibrated or set(found) == {rule.reject_at_score}:
        yield rule
    elif len(set(found)) == 1:
        yield rule.model_copy(update={"reject_at_score": found[0]})
    else:
        for camera_id, score in zip(cameras, found, strict=True):
            yield rule.model_copy(update={"camera_id": camera_id, "reject_at_score": score})
