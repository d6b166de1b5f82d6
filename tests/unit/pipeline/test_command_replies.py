"""Answers that wait for the broker."""

from __future__ import annotations

from pipeline.command_replies import REPLIES_KEPT, CommandReplies
from pipeline.messages import CommandReply


def test_in_order_and_the_oldest_goes_where_there_are_too_many() -> None:
    replies, out = CommandReplies("s"), list[str | None]()

    def send(reply: CommandReply, payload: bytes) -> bool:
        assert f'"request_id":"{reply.request_id}"'.encode() in payload
        out.append(reply.request_id)
        return True

    for number in range(REPLIES_KEPT + 2):
        replies.add(CommandReply("halt", str(number), True, "", "reply", None))
    replies.tell(lambda _reply, _payload: False)
    replies.tell(send)
    assert out == [str(number) for number in range(2, REPLIES_KEPT + 2)]
    assert replies.unanswered_count == 2
    replies.tell(send)
    assert len(out) == REPLIES_KEPT
