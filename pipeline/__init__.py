"""Acts: everything with a side effect."""

import vision  # noqa: F401 - before anything here imports onnxruntime: vision turns its telemetry off
