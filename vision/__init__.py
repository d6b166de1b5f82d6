"""Computes: arrays in, values out. No clocks, threads or sockets; the one thing it reads is a model package."""

import os

# From 1.29 on, onnxruntime keeps a database of what it ran (names and hashes of models among it) and sends it to its makers,
# unless this is set before it is imported. Nothing leaves the box.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
