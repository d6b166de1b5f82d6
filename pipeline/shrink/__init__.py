"""A model made smaller, and a gate that it must pass (extras ``quantize`` and ``evaluate``).

* ``graph``: ONNX graph in, ONNX graph out: float16, int8, normalisation folded in.
* ``calibration``: which images calibrate and which judge, and what the model is shown of the former.
* ``gate``: how many new mistakes the images can rule out, and whether that is enough. Pure.
* ``comparison``: original and shrunk model on the same images, taking turns.
* ``writing``: the new package, whole or not at all.
"""
