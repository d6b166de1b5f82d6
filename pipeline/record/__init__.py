"""The record: what was decided of every part, in a chain of rows that shows whether anybody touched it.

* ``chain``, ``segment``, ``roots``, ``files``: what a record is on disk: sealed segments, one file each, and the open one.
* ``store``: the one writer. ``begin``, ``opening``, ``sealing``: a segment's life. ``faults``: what may befall it.
* ``rows``: the rows themselves. ``context``, ``beside``, ``reviews``, ``totals``, ``runs``, ``delivered``: what is kept beside.
* ``heads``, ``readback``, ``repeats``, ``reviewing``: what the writer asks of all segments; ``sealed``: asking one of them.
* ``reader``, ``verify``, ``structure``, ``anchor``: reading it and proving it, while it is written or years later. Never writes.
* ``told_anchor``: the service's own look at what it anchored last.
* ``survey``, ``stats``, ``export``, ``report``: what a reader makes of it.
* ``commands``: traceability keys and reviews that come over the wire. ``lock``: one service on a record.
"""
