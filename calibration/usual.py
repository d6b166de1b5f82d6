"""Whether parts and picture are such that a baseline of what is usual can be taken from them."""

from __future__ import annotations

from dataclasses import dataclass

from calibration.refusal import Refusal

_SHARE_MAX = 0.05
"""Of parts that are not found, or rejected: more of them are not what is usual when all is well."""
_DARK, _BRIGHT = 15.0, 235.0
"""Mean grey levels: below, a tenth less light is lost among the steps of the grey scale; above, pixels are at its end."""


@dataclass(frozen=True, slots=True)
class Usual:
    """What was seen of ``parts_count`` consecutive parts; ``brightness``: the reference region's mean over all of them."""

    parts_count: int
    unjudged: tuple[str, ...]
    rejected: tuple[str, ...]
    brightness: float


def refusals_of(usual: Usual) -> tuple[Refusal, ...]:
    """Why not; empty where nothing speaks against it."""
    refusals = []
    for names, what, advice in (
        (
            usual.unjudged,
            "not found or not judged",
            "See that parts lie where the registration looks for them; it is calibrated first.",
        ),
        (
            usual.rejected,
            "rejected",
            "Let good parts pass, or calibrate the threshold first: drift is told from what good parts look like.",
        ),
    ):
        if len(names) > _SHARE_MAX * usual.parts_count:
            got = f"{len(names)} of {usual.parts_count} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
            refusals.append(Refusal(f"too many parts {what}", got, f"at most {_SHARE_MAX:.0%}", advice))
    if not _DARK <= usual.brightness <= _BRIGHT:
        is_dark = usual.brightness < _DARK
        refusals.append(
            Refusal(
                f"a reference region too {'dark' if is_dark else 'bright'}",
                f"a mean grey level of {usual.brightness:.0f}",
                f"{_DARK:.0f} to {_BRIGHT:.0f}",
                "Put the region on something brighter, or give more light."
                if is_dark
                else "Put the region on something darker, or expose for a shorter time.",
            )
        )
    return tuple(refusals)
