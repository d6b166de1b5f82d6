"""Opening the record, as often as it has to be: a damaged one is set aside and another begun."""

from __future__ import annotations

from pipeline.clock import utc_text
from pipeline.payloads import TraceabilityKeys
from pipeline.record.faults import RecordDamaged, RecordFault
from pipeline.record.files import set_aside, set_aside_by
from pipeline.record.lock import RecordInUse, lock_record
from pipeline.record.store import RecordStore
from pipeline.tally import Tally
from pipeline.traceability import KeyChange, KeySchedule, RecipeKeys
from pipeline.worker import Supervised


class RecordOpening:
    """Remembers what outlives the record's file. Raises the alarm ``record-damaged``.

    Attributes:
        tally: the session's totals, while its file is gone and until another one is begun; None where none was open yet.
    """

    def __init__(self, supervised: Supervised) -> None:
        self._supervised = supervised
        self._config = supervised.line.config
        self._recipe = supervised.line.recipe
        self._session_id = supervised.configure.session_id
        self._lock: int | None = None
        """Held to the end of this process where the supervisor could not get it."""
        self._schedule: KeySchedule | None = None
        """Lot, order, serial and shift, as ``tally``."""
        self._told_set_aside = ""
        self._checked: tuple[int, int] | None = None
        """The file whose pages were looked at: once, as it is opened anew as often as the disk fails."""
        self.tally: Tally | None = None

    def open(self) -> RecordStore:
        """The record, with the totals and keys that this process knows. Raises RecordFault."""
        self._tell_set_aside("")
        is_new = False
        try:
            store = self._opened()
        except RecordDamaged as error:
            self.set_aside(str(error))
            store, is_new = self._opened(), True
        self._begin_keys(store, is_new)
        if self.tally is not None:
            store.tally = self.tally
        return store

    def lose(self, store: RecordStore) -> None:
        """Its file is gone, or damaged: close it, and remember what it knew."""
        self.tally, self._schedule = store.tally, store.schedule
        store.close()

    def set_aside(self, why: str) -> None:
        """A damaged record, which is not open. Raises RecordFault."""
        set_aside(self._config.records.path, self._session_id)
        self._tell_set_aside(f"; {why}")

    def _opened(self) -> RecordStore:
        timing = self._config.timing
        path = self._config.records.path
        if self._lock is None and not self._supervised.configure.has_lock:
            try:
                self._lock = lock_record(path)
            except RecordInUse as error:
                raise RecordFault(str(error)) from None
            except OSError as error:
                raise RecordFault(
                    f"record {path}: its lock cannot be had: {error.filename}: {error.strerror}"
                ) from error
        store = RecordStore(path, self._session_id, budget_us=timing.budget_us, deadline_us=timing.deadline_us)
        if store.identity != self._checked:
            try:
                store.check_pages()
            except RecordFault:
                store.close()
                raise
            self._checked = store.identity
        return store

    def _tell_set_aside(self, why: str) -> None:
        """An alarm for the rest of the session: what was recorded before is in another file."""
        path = self._config.records.path
        aside = ", ".join(str(found) for found in sorted(set_aside_by(path, self._session_id)))
        if aside != self._told_set_aside:
            self._told_set_aside = aside
            text = f"record {path} was damaged and is kept as {aside}; the record goes on in a new file{why}"
            self._supervised.alarm("record-damaged", "error", text)

    def _begin_keys(self, store: RecordStore, is_new: bool) -> None:
        """Lot, order, serial and shift go on as this process knows them, or as the record does; of one that was damaged nothing is
        known, and what an older segment says may be long past.
        """
        if self._schedule is not None:
            store.begin_keys(self._schedule.changes, forgets=True)
        elif is_new:
            store.begin_keys((), forgets=True)
        recipe = RecipeKeys(
            self._recipe.recipe_id, TraceabilityKeys(**self._recipe.traceability.model_dump(exclude_none=True))
        )
        keys = store.schedule.at_start(recipe)
        if keys is not None:
            schedule, started_ns = store.schedule, self._supervised.configure.session_started_ns
            last_ns = max(
                (change.from_ns for change in schedule.changes if change.boot_id == schedule.boot_id), default=0
            )
            who = f"recipe {recipe.recipe_id} {self._recipe.recipe_version}"
            from_ns = max(started_ns, last_ns)
            change = KeyChange(from_ns, schedule.boot_id, utc_text(from_ns), who, "", keys, recipe)
            store.begin_keys([change])
