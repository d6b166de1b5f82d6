"""Pictures of any size, and what somebody may ask of a model that looks at them."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from calibration.teaching.backbone import CHANNELS_BY_DEPTH, FeatureShape, feature_shape

DEPTHS = sorted(CHANNELS_BY_DEPTH)


@dataclass(frozen=True, slots=True)
class Asked:
    """The arguments of ``feature_shape``."""

    width_px: int
    height_px: int
    is_grey: bool
    size_px: int
    depth: int

    @property
    def shape(self) -> FeatureShape:
        return feature_shape(
            self.width_px, self.height_px, is_grey=self.is_grey, size_px=self.size_px, depth=self.depth
        )


ASKED = st.builds(
    Asked, st.integers(8, 6000), st.integers(8, 6000), st.booleans(), st.integers(32, 700), st.sampled_from(DEPTHS)
)
