"""ONNX Runtime's refusals in the words of a fault."""

from __future__ import annotations

import re

from vision.faults import Fault

_OPSET = re.compile(
    r"Opset (\d+) is under development.*official support for domain (\S+) is till opset (\d+)", re.DOTALL
)
_IR = re.compile(r"Unsupported model IR version: (\d+), max supported IR version: (\d+)")
_NOISE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : |Load model from .*? failed:|\S+\.(?:cc|h):\d+ (?:.*?\) )?"
    r"|status\.IsOK\(\) was false\. ",
    re.DOTALL,
)
"""Codes, and places in its source."""
_LONGEST = 300
_READ_MAX_COUNT = 2000
"""Characters that are looked at: a model's own names are in it, and looking takes time by the square."""


def refusal(model_file: str, error: Exception) -> Fault:
    """Why ONNX Runtime does not take a model: its own sentence, without the places in its source."""
    text = str(error)[:_READ_MAX_COUNT]
    if found := _OPSET.search(text):
        got, domain, newest = found.groups()
        expected = f"at most {newest}, the newest that this onnxruntime runs: export with an older opset, or update onnxruntime"
        return Fault(model_file, f"opset of {domain}", got, expected)
    if found := _IR.search(text):
        got, newest = found.groups()
        return Fault(
            model_file,
            "ir_version",
            got,
            f"at most {newest}: export with an older version of onnx, or update onnxruntime",
        )
    text = " ".join(_NOISE.sub("", text).split())
    told = text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."
    expected = "a self-contained ONNX model of standard operators"
    return Fault(model_file, "", f"a file that ONNX Runtime refuses ({told})", expected)
