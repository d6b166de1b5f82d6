"""Scores against the thresholds that judged them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pipeline.record.report.shown import RecordShown
from pipeline.record.survey import SCORE_BINS
from pipeline.report.blocks import Block, Words, plain
from pipeline.report.plots import Mark, score_histogram

_THRESHOLDS_TOLD = 4


def scores(shown: RecordShown) -> Iterator[Block]:
    """One histogram, a colour for each verdict."""
    by_verdict = shown.survey.scores
    if not by_verdict:
        yield Words("No part has a score.")
        return
    judged_by = {
        (name, score) for context, _ in shown.survey.contexts.values() for name, score in _thresholds(context or {})
    }
    thresholds = sorted(judged_by or shown.reject_at.items())[:_THRESHOLDS_TOLD]
    marks = [Mark(score, f"{plain(name, 20)}: reject at {score:g}") for name, score in thresholds]
    caption = "Parts by the highest score of their views."
    if judged_by:
        caption += " Lines: thresholds of the recipes that judged them."
    elif marks:
        caption += " Lines: the recipe as it is now, which may not be the one that judged."
    order = ("PASS", "REJECT", "NO_DECISION")
    ordered = {verdict: by_verdict[verdict] for verdict in sorted(by_verdict, key=order.index)}
    yield score_histogram(np.linspace(0, 1, SCORE_BINS + 1), ordered, thresholds=marks, caption=caption)


def _thresholds(context: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Of the recipe in a context, as far as it is one."""
    recipe = context.get("recipe")
    rules = recipe.get("rules") if isinstance(recipe, dict) else None
    for rule in rules if isinstance(rules, list) else []:
        score = rule.get("reject_at_score") if isinstance(rule, dict) else None
        if isinstance(score, int | float) and 0 <= score <= 1:
            yield str(rule.get("class")), float(score)
