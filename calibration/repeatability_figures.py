"""What is kept of a repeatability study; see ``calibration.repeatability``. Read by the running line: imports no scipy."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from vision.recipe import Strict

Spread = Annotated[float, Field(ge=0.0)]


class GaugeFigures(Strict):
    """Of a ``GaugeStudy``. ``distinct_categories`` None also where repeats do not differ at all."""

    parts_count: Annotated[int, Field(ge=1)]
    values_count: Annotated[int, Field(ge=2)]
    lost_count: Annotated[int, Field(ge=0)]
    repeatability: Spread
    repeatability_low: Spread
    repeatability_high: Spread
    part_spread: Spread | None = None
    share: float | None = None
    share_low: float | None = None
    share_high: float | None = None
    distinct_categories: float | None = None


class RepeatabilityFigures(Strict):
    """As kept of one product. ``score``: in score; ``size``: of the defects, in ``size_unit``, None where none was measured;
    ``mixed_parts``: those with different verdicts; ``labelled_count``: parts with a label, which kappa and ``right_count`` are of.
    """

    parts_count: Annotated[int, Field(ge=1)]
    shown_count: Annotated[int, Field(ge=2)]
    unjudged_count: Annotated[int, Field(ge=0)]
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)]
    score: GaugeFigures
    size: GaugeFigures | None = None
    size_unit: Literal["px", "mm"] | None = None
    steady_parts_count: Annotated[int, Field(ge=0)]
    labelled_count: Annotated[int, Field(ge=0)]
    right_count: int | None = None
    kappa: float | None = None
    kappa_low: float | None = None
    kappa_high: float | None = None
    mixed_parts: list[str]
