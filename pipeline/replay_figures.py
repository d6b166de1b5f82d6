"""What a replay comes to: counted part by part, told as figures."""

from __future__ import annotations

from array import array
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.replay_part import PartOutcome, ViewOutcome

_FLIPS = ("pass_to_reject", "reject_to_pass", "pass_to_no_decision", "reject_to_no_decision")
_PERCENTILES = (50, 90, 99)
_NAMED_MAX = 1_000
"""So many parts are named in the figures; all are counted."""


class ReplayFigures:
    """Counts outcomes in any order; ``figures`` tells them. Keeps the scores, and of parts only those that came out different."""

    def __init__(self) -> None:
        self.parts = 0
        self.compared = 0
        self.identical = 0
        self.frames = 0
        self.flips: Counter[str] = Counter(dict.fromkeys(_FLIPS, 0))
        self.flipped: list[PartOutcome] = []
        self.differing: list[PartOutcome] = []
        """Parts with any difference; those that came from the record among them, where a view on record differs."""
        self.from_record: Counter[str] = Counter()
        self.model_says: dict[str, Counter[str]] = {}
        """Of parts whose verdict is the record's, by why it is: what their frames come to."""
        self.late_compared = 0
        self.late_identical = 0
        self.missing_frames = 0
        self.parts_incomplete = 0
        self.damaged: list[str] = []
        self._before = array("d")
        self._after = array("d")
        self._unscored = 0

    def add(self, outcome: PartOutcome) -> None:
        self.parts += 1
        self.frames += len(outcome.views)
        self.missing_frames += len(outcome.missing)
        self.damaged += outcome.damaged
        self.parts_incomplete += bool(outcome.missing or outcome.damaged)
        for view in outcome.views:
            self._add_view(view)
        if outcome.differences:
            self.differing.append(outcome)
        if outcome.from_record is not None:
            self.from_record[outcome.from_record] += 1
            if outcome.verdict is not None:
                self.model_says.setdefault(outcome.from_record, Counter())[outcome.verdict] += 1
        elif outcome.is_compared:
            self.compared += 1
            self.identical += not outcome.differences
            if outcome.is_flipped:
                self.flips[f"{outcome.recorded_verdict}_to_{outcome.verdict}".lower()] += 1
                self.flipped.append(outcome)

    def scores(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """On record, and now: float64 (N,) each, one a view that has a score on both sides."""
        return np.frombuffer(self._before, np.float64), np.frombuffer(self._after, np.float64)

    def figures(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "parts": self.parts,
            "frames": self.frames,
            "compared": self.compared,
            "identical": self.identical,
            "flips": dict(self.flips),
            "flipped_parts": [_named(outcome) for outcome in self.flipped[:_NAMED_MAX]],
            "differing": len(self.differing),
            "differing_parts": [
                {"part_id": outcome.part_id, "differences": list(outcome.differences)}
                for outcome in self.differing[:_NAMED_MAX]
            ],
            "score_difference": self._score_difference(),
            "from_record": dict(self.from_record.most_common()),
            "from_record_model_says": {reason: dict(says) for reason, says in self.model_says.items()},
            "late_inspections": {"compared": self.late_compared, "identical": self.late_identical},
            "missing_frames": self.missing_frames,
            "damaged_frames": len(self.damaged),
            "damaged": self.damaged[:_NAMED_MAX],
            "parts_incomplete": self.parts_incomplete,
        }

    def _add_view(self, view: ViewOutcome) -> None:
        before, after = view.recorded, view.replayed
        if before is None:
            return
        if view.is_late:
            self.late_compared += 1
            self.late_identical += before == after
        if before.score is None or after.score is None:
            self._unscored += 1
        else:
            self._before.append(before.score)
            self._after.append(after.score)

    def _score_difference(self) -> dict[str, Any]:
        """Absolute, over the views with a score on both sides."""
        before, after = self.scores()
        difference = np.abs(after - before)
        told: dict[str, Any] = {"views": len(difference), "unscored": self._unscored}
        if not len(difference):
            return {**told, "largest": None, "mean": None, "changed": 0, **{f"p{each}": None for each in _PERCENTILES}}
        return {
            **told,
            "largest": float(difference.max()),
            "mean": float(difference.mean()),
            "changed": int(np.count_nonzero(difference)),
            **{
                f"p{each}": float(value)
                for each, value in zip(_PERCENTILES, np.percentile(difference, _PERCENTILES), strict=True)
            },
        }


def _named(outcome: PartOutcome) -> dict[str, Any]:
    return {
        "part_id": outcome.part_id,
        "recorded": outcome.recorded_verdict,
        "replayed": outcome.verdict,
        "reason": outcome.reason,
        "views": [
            {
                "camera_id": view.frame.camera_id,
                "frame_id": view.frame_id,
                "recorded_score": None if view.recorded is None else view.recorded.score,
                "score": view.replayed.score,
            }
            for view in outcome.views
        ],
    }
