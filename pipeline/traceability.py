"""Which lot, order, serial number and shift a part belongs to: what was said last before its trigger. Pure.

Records takes the moment at which a change counts while it carries it out, and puts it on record before it answers: whatever
was recorded until then had its trigger before that moment, so no part gets a key that was set after its trigger, in
whatever order messages arrive.
"""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgspec

from pipeline.payloads import TraceabilityKeys

CHANGES_KEPT = 1_000
"""The newest so many are known; parts triggered before them get no keys rather than wrong ones."""


class RecipeKeys(msgspec.Struct, frozen=True):
    """What a recipe says."""

    recipe_id: str
    keys: TraceabilityKeys


@dataclass(frozen=True, slots=True)
class KeyChange:
    """From one moment on parts get these keys.

    Attributes:
        boot_id: of the kernel whose monotonic clock ``from_ns`` is.
        recipe: the last one that a session began with, and what it says.
        request: session and request_id of the command; empty where a recipe brought the change.
    """

    from_ns: int
    boot_id: str
    utc: str
    who: str
    request: str
    keys: TraceabilityKeys
    recipe: RecipeKeys


class KeySchedule:
    """The changes so far, in order."""

    def __init__(self, boot_id: str, changes: Iterable[KeyChange] = ()) -> None:
        self.boot_id = boot_id
        self._changes = list(changes)
        self._index()

    def _index(self) -> None:
        """Moments of another boot's clock compare with none of this one's: they lie before them all."""
        del self._changes[:-CHANGES_KEPT]
        here = [change for change in self._changes if change.boot_id == self.boot_id]
        before = self._changes[: len(self._changes) - len(here)]
        self._from_ns = [change.from_ns for change in here]
        self._keys = [change.keys for change in here]
        self._before = before[-1].keys if before else TraceabilityKeys()

    @property
    def changes(self) -> Sequence[KeyChange]:
        return self._changes

    @property
    def now(self) -> TraceabilityKeys:
        """What parts triggered now get."""
        return self._keys[-1] if self._keys else self._before

    @property
    def recipe(self) -> RecipeKeys | None:
        """The last one."""
        return self._changes[-1].recipe if self._changes else None

    def at(self, trigger_ns: int) -> TraceabilityKeys:
        """What a part gets that was triggered in this boot at this moment."""
        place = bisect.bisect_left(self._from_ns, trigger_ns)
        return self._keys[place - 1] if place else self._before

    def add(self, change: KeyChange) -> None:
        """The next one; it is on record already."""
        self._changes.append(change)
        self._index()

    def has(self, request: str) -> bool:
        """Whether this command was carried out."""
        return any(change.request == request for change in self._changes)

    def at_start(self, recipe: RecipeKeys) -> TraceabilityKeys | None:
        """What a session with this recipe begins with; None where that is what there is already.

        Another recipe's own keys take the place of whatever there was, and those of the recipe before go with it; what an
        operator has set beside them stays.
        """
        last = self.recipe
        if last == recipe:
            return None
        before = msgspec.structs.asdict(self.now)
        went = msgspec.structs.asdict(last.keys) if last is not None else {}
        came = msgspec.structs.asdict(recipe.keys)
        keys = {
            key: came[key] if came[key] is not None else (None if went.get(key) == value else value)
            for key, value in before.items()
        }
        return TraceabilityKeys(**keys)
