"""Whether a file's tables are still the ones that the service made: a chain of rows says nothing of how they are stored.

With another index, another type or a table without its keys the same rows read otherwise: a part is not found, or another one
in its place.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache

from pipeline.record.segment import create_tables

_FAULTS_MAX = 10
"""Of each table and of the file in all: more of them say no more."""
_TYPES = {"TEXT": "text", "INTEGER": "integer"}


@dataclass(frozen=True, slots=True)
class StructureFault:
    """``row``: its number where it is one of the parts' table, else None."""

    row: int | None
    text: str


def structure_faults(database: sqlite3.Connection) -> Iterator[StructureFault]:
    """Of one file, which is read through in one transaction. Raises sqlite3.Error."""
    expected, found = _schema(), _read_schema(database)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            yield StructureFault(None, f"{name} is not there")
        elif name not in expected:
            yield StructureFault(None, f"{name} is none of the record's own tables and indexes: {found[name][1]}")
        elif found[name] != expected[name]:
            yield StructureFault(None, f"{name} was made as {found[name][1]}, expected {expected[name][1]}")
    if found != expected:
        return
    for (text,) in database.execute(f"PRAGMA integrity_check({_FAULTS_MAX})"):
        if _text(text) != "ok":
            yield StructureFault(None, f"SQLite's integrity_check: {_text(text)}")
    for table, columns in _columns().items():
        yield from _type_faults(database, table, columns)


def _type_faults(database: sqlite3.Connection, table: str, columns: dict[str, str]) -> Iterator[StructureFault]:
    """SQLite keeps what it is given, and compares neither blobs with text nor text with numbers."""
    named = ", ".join(f"typeof({name})" for name in columns)
    wrong = " OR ".join(f"typeof({name}) NOT IN ('{type_}', 'null')" for name, type_ in columns.items())
    key = next(iter(columns))
    ask = f"SELECT {key}, {named} FROM {table} WHERE {wrong} LIMIT {_FAULTS_MAX}"
    for number, *types in database.execute(ask):
        for (name, type_), held in zip(columns.items(), types, strict=True):
            if _text(held) not in (type_, "null"):
                row = number if table == "part" else None
                yield StructureFault(
                    row, f"table {table}, {_text(number)}: {name} is a {_text(held)}, expected {type_}"
                )


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


_Schema = dict[str, tuple[str, str]]
"""By name: table and statement."""


def _read_schema(database: sqlite3.Connection) -> _Schema:
    rows = database.execute("SELECT name, type, tbl_name, sql FROM sqlite_master")
    return {_text(name): (f"{_text(type_)} of {_text(table)}", _text(sql)) for name, type_, table, sql in rows}


@cache
def _schema() -> _Schema:
    with _made() as database:
        return _read_schema(database)


@cache
def _columns() -> dict[str, dict[str, str]]:
    """By table, the type of each column."""
    with _made() as database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        ask = "SELECT name, type FROM pragma_table_info(?)"
        return {table: {name: _TYPES[type_] for name, type_ in database.execute(ask, (table,))} for table in tables}


def _made() -> closing[sqlite3.Connection]:
    """A record's tables as this version makes them."""
    database = sqlite3.connect(":memory:")
    create_tables(database, [])
    return closing(database)
