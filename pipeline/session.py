"""Sessions: each start of the service is one."""

from __future__ import annotations

import secrets
import string
import time

_BASE_36 = string.digits + string.ascii_lowercase


def new_session_id() -> str:
    """Eight characters that sort by time: seconds in base 36, and two at random. Short, as every verdict carries it."""
    seconds, text = int(time.time()), ""
    while seconds:
        seconds, digit = divmod(seconds, 36)
        text = _BASE_36[digit] + text
    return text + "".join(secrets.choice(_BASE_36) for _ in range(2))
