"""A page of calibrations."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from importlib import metadata

from calibration.refusal import Refusal
from pipeline.report.blocks import Block, Notice, Page, Section, plain


def calibration_page(title: str, subtitle: str, blocks: Sequence[Block], sections: Sequence[Section]) -> Page:
    """``blocks`` stand before the first section."""
    now = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M:%S} UTC"
    made_by = f"Made by lineside {metadata.version('lineside')} on {now}."
    return Page(plain(title), plain(subtitle, 200), blocks, sections, made_by)


def outcome(refusals: Sequence[Refusal], found: str) -> Notice:
    """``found``: what is so, in a sentence, where nothing is refused."""
    if not refusals:
        return Notice("good", found)
    lines = [f"{each.reason}: got {each.got}, expected {each.expected}. {each.advice}" for each in refusals]
    return Notice("bad", "Not calibrated, and nothing changed.", lines)
