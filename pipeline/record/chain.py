"""The record's hash chain: each row commits to the one before it, and so to all."""

from __future__ import annotations

import hashlib

NO_HASH = "0" * 64
"""What the first row commits to."""


def link(previous: str, body: bytes) -> str:
    """A row's hash, in hexadecimal: SHA-256 of the previous row's hash, as its 64 characters, and the row's body."""
    return hashlib.sha256(previous.encode() + body).hexdigest()
