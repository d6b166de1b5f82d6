"""Answers to commands that wait for the broker. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pipeline.commands import reply_payload
from pipeline.messages import CommandReply

REPLIES_KEPT = 64
"""Beyond these a command goes unanswered, and is counted."""


class CommandReplies:
    """In order. Where there are too many the oldest goes.

    Attributes:
        unanswered_count: commands whose answer was given up.
    """

    def __init__(self, session_id: str) -> None:
        self._session_id = session_id
        self._waiting: deque[CommandReply] = deque()
        self.unanswered_count = 0

    def add(self, reply: CommandReply) -> None:
        """The next one."""
        if len(self._waiting) == REPLIES_KEPT:
            self._waiting.popleft()
            self.unanswered_count += 1
        self._waiting.append(reply)

    def tell(self, send: Callable[[CommandReply, bytes], bool]) -> None:
        """``send`` hands an answer's payload over, or says that it could not: then later."""
        while self._waiting and send(self._waiting[0], reply_payload(self._waiting[0], self._session_id)):
            self._waiting.popleft()
