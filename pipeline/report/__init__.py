"""Pages for people: one self-contained HTML file that works from a USB stick and prints on A4 (extra ``report``).

Building blocks, for whatever has something to show (the record, a replay, an evaluation):

* ``blocks``: what a page is made of, as plain data: ``Page``, ``Section``, ``Facts``, ``Notice``, ``Words``, ``Table``,
  ``Plot``, ``Picture`` with its ``Box`` es, ``Gallery``. Needs nothing installed, so figures can be turned into blocks anywhere.
* ``plots``: ``pareto``, ``rates_over_time``, ``time_histogram``, ``stage_bars``, ``score_histogram``,
  ``score_differences``, ``ratio_curves``, ``values_by_part``; each makes a ``Plot`` with its alternative text.
* ``pictures``: ``picture_of`` (an array), ``picture_of_file``, ``no_picture``: a ``Picture`` as a data URI, with boxes
  drawn over it.
* ``shares``: ``percent`` and ``told``: shares (``calibration.intervals``) in words.
* ``page``: ``render``: a ``Page`` as HTML.
* ``folder``: ``check_folder`` before the work, ``write_page`` after it: never overwrites what is not a report.

``plots``, ``shares`` and ``page`` need the extra; ``folder.check_folder`` says so where it is missing, so call that first and
import those after it::

    check_folder(folder)                      # CannotReport: exit status 2
    from pipeline.report.page import render
    write_page(folder, render(Page(...)))     # OSError: exit status 1

Every text may be hostile (a class name out of a record): ``page`` escapes all of it, ``blocks.plain`` makes it printable and short.
"""
