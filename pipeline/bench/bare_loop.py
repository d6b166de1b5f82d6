"""The model alone, as a script would run it: what the service is measured against."""

from __future__ import annotations

import time

import numpy as np
import onnxruntime

from pipeline.clock import NS_PER_S, NS_PER_US, now_ns
from vision.package import ModelPackage


class BareLoop:
    """One row at a time, one thread that does not spin."""

    def __init__(self, package: ModelPackage) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            str(package.model_path), options, providers=["CPUExecutionProvider"]
        )
        shape = (1, *package.card.input.row_shape)
        pixels = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        self._feed = {package.card.input.name: pixels}
        self.back_to_back_us(50)

    def paced_us(self, period_s: float, duration_s: float) -> list[float]:
        times_us = []
        due_ns = now_ns()
        end_ns = due_ns + int(duration_s * NS_PER_S)
        while due_ns < end_ns:
            time.sleep(max(0.0, (due_ns - now_ns()) / NS_PER_S))
            times_us.append(self._run_us())
            due_ns += int(period_s * NS_PER_S)
        return times_us

    def back_to_back_us(self, runs: int) -> list[float]:
        return [self._run_us() for _ in range(runs)]

    def _run_us(self) -> float:
        start_ns = now_ns()
        self._session.run(None, self._feed)
        return (now_ns() - start_ns) / NS_PER_US
