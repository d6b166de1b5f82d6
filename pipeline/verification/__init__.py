"""Does a model package give the same verdicts on this box's runtime as on the reference, and is that on file?

* ``file``: ``verification.json`` beside the card, and what it says of a runtime.
* ``measure``: sample images through the reference and through each runtime.
"""
