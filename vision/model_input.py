"""What a model wants to see: part of its card."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field, ValidationInfo, field_validator, model_validator

from vision.faults import disagreement
from vision.recipe import Strict

Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(allow_inf_nan=False, gt=0.0)]

SIZE_MAX_PX = 16_384
"""Of the input's width, and of its height."""


class ModelInput(Strict):
    """``x = (pixel * scale - mean) / std`` per channel, pixel 0..255; a ``uint8`` input takes the pixels as they are."""

    name: str = Field(min_length=1)
    width_px: int = Field(gt=0, le=SIZE_MAX_PX)
    height_px: int = Field(gt=0, le=SIZE_MAX_PX)
    colour_order: Literal["GRAY", "RGB", "BGR"]
    layout: Literal["NCHW"] = "NCHW"
    dtype: Literal["float32", "uint8"] = "float32"
    scale: Positive
    mean: list[Finite]
    std: list[Positive]
    fit: Literal["stretch", "letterbox", "crop"]
    pad_value: int = Field(default=114, ge=0, le=255, description="grey level around a letterboxed region")
    crop_fraction: float = Field(
        default=1.0, gt=0.0, le=1.0, description="fit crop: how much of the region's shorter side is shown"
    )
    views: list[Annotated[str, Field(min_length=1)]] = Field(
        default_factory=list,
        description="what each row of the model's fixed batch must show, where it judges each view by itself: "
        "a camera's name, or camera.region; empty: rows are alike",
    )

    @field_validator("views")
    @classmethod
    def _each_once(cls, views: list[str]) -> list[str]:
        if len(set(views)) != len(views):
            raise ValueError("each view once")
        return views

    @field_validator("mean", "std")
    @classmethod
    def _one_per_channel(cls, values: list[float], info: ValidationInfo) -> list[float]:
        order = info.data.get("colour_order")
        if order is not None and len(values) != _channel_count(order):
            raise ValueError(f"{_channel_count(order)} numbers, one per channel of {order}")
        return values

    @model_validator(mode="after")
    def _raw_pixels_are_raw(self) -> ModelInput:
        if self.dtype == "uint8":
            for key, values, neutral in (
                ("scale", [self.scale], 1.0),
                ("mean", self.mean, 0.0),
                ("std", self.std, 1.0),
            ):
                if any(value != neutral for value in values):
                    raise disagreement(key, repr(values), f"{neutral:g}: a uint8 input takes the pixels as they are")
        return self

    @property
    def channel_count(self) -> int:
        return _channel_count(self.colour_order)

    @property
    def row_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of one row of the batch."""
        return (self.channel_count, self.height_px, self.width_px)

    @property
    def numpy_dtype(self) -> npt.DTypeLike:
        return np.uint8 if self.dtype == "uint8" else np.float32


def _channel_count(colour_order: str) -> int:
    return 1 if colour_order == "GRAY" else 3
