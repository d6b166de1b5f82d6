"""Files without metadata, from torchvision, timm or anybody: the shapes and the graph say what they say, the rest is asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vision.decoders import DECODERS
from vision.decoders.anomaly import CLASSES
from vision.detector_cells import cells
from vision.identify.draft import Draft
from vision.identify.heads import (
    YOLO_KINDS,
    classes_by_shape,
    detector_layouts,
    number,
    row_shape,
    shape_text,
)
from vision.identify.image import Image, ask_pixels, say_what_the_graph_normalises
from vision.identify.outputs import check_classes, check_scores_are_raw, one_of_rank, outputs_text, say_activation
from vision.onnx_file import OnnxFile, TensorFacts

_WHY = "the file does not say how the model was trained to see pixels"


def wrote(facts: OnnxFile, sidecar: Mapping[str, Any] | None) -> bool:
    """Any file."""
    del facts, sidecar
    return True


def exporter(facts: OnnxFile, sidecar: Mapping[str, Any] | None) -> str:
    """Nobody known."""
    del sidecar
    return f"unknown (written by {facts.producer})" if facts.producer else "unknown"


def read_pixels(draft: Draft, image: Image, sidecar: Mapping[str, Any] | None) -> None:
    """What the graph does to the pixels is known, everything else is asked."""
    del sidecar
    say_what_the_graph_normalises(draft, image)
    ask_pixels(draft, image, _WHY)


def read_outputs(draft: Draft, image: Image, sidecar: Mapping[str, Any] | None) -> None:
    """A row of scores is a classifier; what other heads mean is asked, and then read."""
    del sidecar
    kind = draft.given("decoder.kind")
    if kind is None:
        kind = _kind_by_shape(draft, image)
        if kind is None:
            return
    if not isinstance(kind, str) or kind not in DECODERS:
        return  # an unknown kind is the card's fault, and told there
    draft.say("task", DECODERS[kind].TASK, f"decoder {kind}")
    if kind == "classification":
        _read_classifier(draft)
    elif kind in YOLO_KINDS:
        _read_detector(draft, kind, 0)
    elif kind == "instance_segmentation":
        _read_instances(draft)
    elif kind == "semantic_segmentation":
        _read_map(draft)
    elif not draft.roles():
        for role in ("anomaly_map", "pred_score"):
            draft.ask(
                f"outputs.{role}", f"the outputs are {outputs_text(draft)}", [t.name for t in draft.facts.outputs]
            )
    if kind == "anomaly":
        check_scores_are_raw(draft, [draft.roles().get(role, "") for role in ("pred_score", "anomaly_map")])
        draft.say("classes", list(CLASSES), "decoder anomaly")


def _kind_by_shape(draft: Draft, image: Image) -> str | None:
    outputs = draft.facts.outputs
    only = outputs[0]
    if len(outputs) == 1 and _is_a_row_of_scores(only, draft.facts.inputs[0]):
        draft.say("decoder.kind", "classification", "shape: one row of numbers, if these are scores of classes")
        return "classification"
    hint = _hint(outputs, image) if len(outputs) <= 2 else ""
    why = f"the outputs are {outputs_text(draft)}; {hint}the shapes alone do not say what they mean"
    draft.ask("decoder.kind", why, tuple(DECODERS))
    if draft.value("classes") is None:
        draft.ask("classes", "nothing in the file names them")
    return None


def _is_a_row_of_scores(tensor: TensorFacts, image: TensorFacts) -> bool:
    """Whether there is one row for each image: a detector that suppresses by itself may put out a row for each finding."""
    if tensor.shape is None or len(tensor.shape) != 2 or not image.shape:
        return False
    rows, columns = tensor.shape
    return tensor.dtype == "float32" and columns != 1 and rows != "" and rows == image.shape[0]


def _hint(outputs: tuple[TensorFacts, ...], image: Image) -> str:
    """What a box tensor would be for each kind that its shape allows."""
    boxes = [tensor for tensor in outputs if tensor.shape is not None and len(tensor.shape) == 3]
    maps = [tensor for tensor in outputs if tensor.shape is not None and len(tensor.shape) == 4]
    if len(boxes) != 1:
        return ""
    extra_count = number((maps[0].shape or ())[1]) or 0 if maps else 0
    shape = row_shape(boxes[0].shape or ())
    told = []
    for kind in ("yolov5", "yolov8"):
        count = classes_by_shape(kind, shape, extra_count=extra_count)
        counts = cells(image.height_px, image.width_px)
        if count is not None and count > 0:
            fits = detector_layouts(shape, count, extra_count=extra_count, cells_counts=counts)
            if kind in fits:
                told.append(f"as {kind} it would have {count} classes")
    if number(shape[1]) == 6 + extra_count:
        told.append("as end_to_end it would have any number of classes")
    return f"{', '.join(told)}; " if told else ""


def _read_classifier(draft: Draft) -> None:
    tensor = one_of_rank(draft, "scores", 2)
    if tensor is None:
        return
    say_activation(draft, tensor)
    shape = tensor.shape or ()
    _ask_classes(draft, number(shape[1]) if len(shape) == 2 else None, tensor)


def _read_detector(draft: Draft, kind: str, extra_count: int) -> None:
    tensor = one_of_rank(draft, "predictions", 3)
    if tensor is None or tensor.shape is None or len(tensor.shape) != 3:
        return
    _ask_classes(draft, classes_by_shape(kind, row_shape(tensor.shape), extra_count=extra_count), tensor)


def _read_instances(draft: Draft) -> None:
    prototypes = one_of_rank(draft, "prototypes", 4)
    if prototypes is None or prototypes.shape is None or len(prototypes.shape) != 4:
        return
    boxes = draft.given("decoder.boxes")
    if boxes is None:
        draft.ask("decoder.boxes", f"the outputs are {outputs_text(draft)}", YOLO_KINDS)
    _read_detector(draft, boxes or "", number(prototypes.shape[1]) or 0)


def _read_map(draft: Draft) -> None:
    if draft.roles():
        given = draft.roles().get("scores")
        tensor = draft.output(given) if given is not None else None
    elif any(len(tensor.shape or ()) == 4 for tensor in draft.facts.outputs):
        tensor = one_of_rank(draft, "scores", 4)
    else:
        one_of_rank(draft, "labels", 3)
        tensor = None
    if tensor is not None and tensor.shape is not None and len(tensor.shape) == 4:
        say_activation(draft, tensor)
        _ask_classes(draft, number(tensor.shape[1]), tensor)
    else:
        draft.ask("classes", "nothing in the file names them")


def _ask_classes(draft: Draft, count: int | None, tensor: TensorFacts) -> None:
    if draft.value("classes") is None:
        number_text = f"{count} names" if count is not None else "the names"
        draft.ask("classes", f"{number_text}, in the order of {tensor.name} ({shape_text(tensor.shape or ())})")
    else:
        check_classes(draft, count, tensor)
