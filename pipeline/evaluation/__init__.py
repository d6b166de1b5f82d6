"""A model measured on labelled images, through the very code that the line judges with (extra ``evaluate``).

* ``data``: what a labelled data set is once it has been read: plain samples, whatever its layout was.
* ``layouts``: one file per layout; ``find_layout`` says which one a folder has.
* ``image_check``: what an image file is, from its header, before hours of work depend on it.
* ``labels``: do the labels fit the model, and which images must be rejected.
* ``runner``: images -> verdicts, scores and candidates, one after the other.
* ``metrics``: pure functions from those to figures.
* ``figures``: all of it as the result that ``--json`` writes; ``page``: as a page for people.
"""
