"""A product taught from pictures of good parts alone.

* ``picture_set``: pictures that were looked at, as plain data, with the one way to read their pixels.
* ``layout``, ``pictures``: a folder's pictures; ``window_pictures``: those of a recorded window.
* ``report``: what a teaching came to, as plain data; ``overlay``: a picture under its anomaly map.
* ``told``: the report in words and as JSON; ``page``: as a page for people (extra ``report``).
"""
