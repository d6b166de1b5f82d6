"""The tables beside the parts that say what the parts were judged with and what they belong to."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

from pipeline.payloads import TraceabilityKeys
from pipeline.record.context import Context
from pipeline.traceability import CHANGES_KEPT, KeyChange, RecipeKeys

_CHANGE = "from_ns, boot_id, utc, who, request, keys, recipe"
_encode = msgspec.json.Encoder().encode
_decode_keys = msgspec.json.Decoder(TraceabilityKeys).decode
_decode_recipe = msgspec.json.Decoder(RecipeKeys).decode


def kept_contexts(database: sqlite3.Connection) -> set[str]:
    """The hashes of the contexts in this file. Raises sqlite3.Error."""
    return {sha256 for (sha256,) in database.execute("SELECT sha256 FROM context")}


def keep_context(database: sqlite3.Connection, context: Context) -> None:
    """Raises sqlite3.Error."""
    database.execute("INSERT OR IGNORE INTO context (sha256, body) VALUES (?, ?)", (context.sha256, context.body))


def read_key_changes(database: sqlite3.Connection) -> list[KeyChange]:
    """The newest that are kept, in order. Raises sqlite3.Error; ValueError where one holds none."""
    ask = f"SELECT {_CHANGE} FROM traceability ORDER BY id DESC LIMIT {CHANGES_KEPT}"
    try:
        changes = [
            KeyChange(from_ns, boot_id, utc, who, request, _decode_keys(keys), _decode_recipe(recipe))
            for from_ns, boot_id, utc, who, request, keys, recipe in database.execute(ask)
        ]
    except (msgspec.DecodeError, TypeError) as error:
        raise ValueError(f"what is kept of lot, order, serial and shift cannot be read: {error}") from error
    return changes[::-1]


def keep_key_changes(database: sqlite3.Connection, changes: Sequence[KeyChange]) -> None:
    """The next ones; those too old to matter go. Raises sqlite3.Error."""
    if not changes:
        return
    database.executemany(
        f"INSERT INTO traceability ({_CHANGE}) VALUES (?,?,?,?,?,?,?)",
        [
            (
                change.from_ns,
                change.boot_id,
                change.utc,
                change.who,
                change.request,
                _encode(change.keys).decode(),
                _encode(change.recipe).decode(),
            )
            for change in changes
        ],
    )
    database.execute(f"DELETE FROM traceability WHERE id <= (SELECT max(id) FROM traceability) - {CHANGES_KEPT}")


def forget_key_changes(database: sqlite3.Connection) -> None:
    """Raises sqlite3.Error."""
    database.execute("DELETE FROM traceability")
