"""``lineside model info``: what is this file?"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from pipeline.cli.console import console_for, show
from pipeline.cli.model.card import card_with_questions
from pipeline.cli.output import JsonOption, check_json_target, fail, write_json, write_new
from pipeline.model_probe import TIME_MAX_S, Probed, RefusedByProbe, probe_model
from vision.faults import one_line
from vision.onnx_file import TensorFacts
from vision.onnx_graph import shown
from vision.package import CARD_NAME, MODEL_NAME, Look, judged, look_at

_OPERATORS_SHOWN = 8
_WIDTH = 160
_TIME_MAX_MAX_S = 3600.0


def info(
    model: Annotated[Path, typer.Argument(metavar="FILE.onnx|DIR", help="An ONNX file, or the folder of a package.")],
    json_file: JsonOption = None,
    card_file: Annotated[
        Path | None,
        typer.Option("--card", metavar="FILE", help="Write the card to start from; never over another file."),
    ] = None,
    run: Annotated[bool, typer.Option(help="Open the model and run it, in a process of its own.")] = True,
    time_max_s: Annotated[
        float,
        typer.Option(
            "--time-max",
            min=1.0,
            max=_TIME_MAX_MAX_S,
            metavar="S",
            help="What opening and running it may take, in seconds.",
        ),
    ] = TIME_MAX_S,
) -> None:
    """Say what a model is, where each thing is known from, and what its card must still say.

    Status 0 where everything is known and the model runs, 2 where a key of the card is to be set or the file cannot be used.
    """
    if math.isnan(time_max_s):  # which is within any bounds
        raise fail(f"--time-max: got nan, expected a number of seconds from 1 to {_TIME_MAX_MAX_S:g}", 2)
    check_json_target(json_file)
    if card_file is not None and (os.path.lexists(card_file) or not card_file.parent.is_dir()):
        raise fail(f"--card: got {card_file}, expected a new file in an existing folder", 2)
    look = look_at(model)
    identification = look.identification
    probed: Probed | None = None
    _, faults = judged(look)
    if run and not identification.questions and not faults:
        try:
            probed = probe_model(model, time_max_s=time_max_s)
        except RefusedByProbe as error:
            faults += error.faults
    console = console_for(json_file, width=_WIDTH, highlight=False)
    show(console, _told(look))
    if identification.questions:
        show(console, _asked(look))
    for fault in faults:
        show(console, [f"fault     {fault}"])
    if probed is not None:
        shapes = ", ".join(f"{role} {shape}" for role, shape in probed.outputs.items())
        show(
            console,
            [f"runs      {probed.run_us / 1000:.1f} ms a row on one thread of this CPU; a row puts out {shapes}"],
        )
        if probed.unread is not None:
            show(console, [f"warning   the decoder cannot read what the model {probed.unread}"])
    if card_file is not None:
        try:
            write_new(card_file, card_with_questions(identification))
        except OSError as error:
            raise fail(f"{card_file}: {error.strerror}") from None
        place = (
            "" if look.files.is_package else f": it counts in a folder, as {CARD_NAME} beside the model as {MODEL_NAME}"
        )
        show(console, [f"card      {card_file}{place}"])
    write_json(json_file, _result(look, probed, faults_of=[str(fault) for fault in faults]))
    if identification.questions or faults:
        raise typer.Exit(2)


def _told(look: Look) -> Iterator[Table | str]:
    facts, identification = look.facts, look.identification
    yield f"model     {look.files.model_path}: {facts.size_bytes:,} bytes, sha256 {facts.sha256}"
    yield f"exporter  {identification.exporter}"
    opsets = ", ".join(f"{shown(domain)} {version}" for domain, version in facts.opsets.items())
    yield f"written   {facts.producer or 'by nobody named'}; opset {opsets}; IR {facts.ir_version}"
    counts = [f"{count} {operator}" for operator, count in facts.operators.items()]
    more = f", {len(counts) - _OPERATORS_SHOWN} kinds more" if len(counts) > _OPERATORS_SHOWN else ""
    yield f"nodes     {sum(facts.operators.values())}: {', '.join(counts[:_OPERATORS_SHOWN])}{more}"
    for what, tensors in (("input", facts.inputs), ("output", facts.outputs)):
        for tensor in tensors:
            yield f"{what:9} {_tensor(tensor)}"
    card = look.files.card_path if look.written is not None else "none"
    yield f"card      {card}"
    table = Table("card's key", "value", "known from", box=None, pad_edge=False)
    for known in identification.known:
        table.add_row(one_line(known.key), _value(known.value), one_line(known.source))
    yield table


def _asked(look: Look) -> Iterator[Table | str]:
    count = len(look.identification.questions)
    place = "" if look.files.is_package else f" ({CARD_NAME}, in a folder with this file as {MODEL_NAME})"
    yield f"{count} {'key' if count == 1 else 'keys'} to set in the card{place}:"
    for question in look.identification.questions:
        yield f"  {question.key}: {question.why}"
        for choice in question.choices:
            yield f"      {choice}"


def _result(look: Look, probed: Probed | None, faults_of: list[str]) -> dict[str, Any]:
    facts, identification = look.facts, look.identification
    return {
        "model": str(look.files.model_path),
        "size_bytes": facts.size_bytes,
        "sha256": facts.sha256,
        "exporter": identification.exporter,
        "producer": facts.producer,
        "ir_version": facts.ir_version,
        "opsets": dict(facts.opsets),
        "inputs": [_shape(tensor) for tensor in facts.inputs],
        "outputs": [_shape(tensor) for tensor in facts.outputs],
        "operators": dict(facts.operators),
        "known": {known.key: {"value": known.value, "from": known.source} for known in identification.known},
        "questions": [
            {"key": question.key, "why": question.why, "choices": list(question.choices)}
            for question in identification.questions
        ],
        "faults": faults_of,
        "run": None
        if probed is None
        else {
            "row_us": probed.run_us,
            "peak_bytes": probed.peak_bytes,
            "row_shapes": probed.outputs,
            "unread": probed.unread,
        },
    }


def _shape(tensor: TensorFacts) -> dict[str, Any]:
    shape = None if tensor.shape is None else list(tensor.shape)
    return {"name": tensor.name, "dtype": tensor.dtype, "shape": shape}


def _tensor(tensor: TensorFacts) -> str:
    sizes = (
        "of no stated shape" if tensor.shape is None else " x ".join(shown(str(size)) or "?" for size in tensor.shape)
    )
    return f"{shown(tensor.name)} {tensor.dtype or 'no tensor'} {sizes}"


def _value(value: object) -> str:
    if isinstance(value, list):
        value = f"{', '.join(map(str, value[:20]))}{f' and {len(value) - 20} more' if len(value) > 20 else ''}"
    return one_line(str(value))
