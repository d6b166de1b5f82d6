"""Files that Ultralytics wrote: its metadata name task, classes and size.

Layout of the metadata: ``ultralytics/engine/exporter.py`` of 8.0 to 8.4; the older YOLOv5 repository writes ``names`` and
``stride`` alone (``export.py`` of v6 and v7).
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Mapping
from typing import Any

from vision.detector_cells import cells
from vision.identify.draft import Draft
from vision.identify.heads import classes_by_shape, detector_layouts, number, row_shape, shape_text
from vision.identify.image import TO_UNIT, Image, ask_pixels, say_pixels
from vision.identify.outputs import check_classes, one_of_rank, outputs_text, say_activation
from vision.onnx_file import OnnxFile
from vision.onnx_graph import shown

_TASKS = {"detect": "detection", "segment": "segmentation", "classify": "classification", "semantic": "segmentation"}
_DEFAULT = "default of Ultralytics"
_PAD_VALUE = 114
_CARRIES = ("Cast", "Identity", "QuantizeLinear", "DequantizeLinear")
_FIRST_LAYERS = ("Conv", "QLinearConv")
_TRANSFORMER_HEADS = ("RTDETRDecoder",)


def wrote(facts: OnnxFile, sidecar: Mapping[str, Any] | None) -> bool:
    """Whether the metadata are Ultralytics'."""
    del sidecar
    return "names" in facts.metadata and "stride" in facts.metadata


def exporter(facts: OnnxFile, sidecar: Mapping[str, Any] | None) -> str:
    """Who wrote the file."""
    del sidecar
    if _is_yolov5(facts):
        return "YOLOv5's repository, or one made after it"
    return f"Ultralytics {shown(facts.metadata.get('version', ''))}".strip()


def read_pixels(draft: Draft, image: Image, sidecar: Mapping[str, Any] | None) -> None:
    """Pixels are RGB (or grey), 0..1; the size is the shape's, or what the metadata say."""
    del sidecar
    if image.height_px is None or image.width_px is None:
        size = _imgsz(draft.facts)
        if size is not None:
            for key, given, value in zip(
                ("input.height_px", "input.width_px"), (image.height_px, image.width_px), size, strict=True
            ):
                if given is None:
                    draft.say(key, value, "metadata imgsz")
    task = _task(draft)
    if task is None:
        return
    if task == "classification" and _is_yolov5(draft.facts):
        ask_pixels(draft, image, "the metadata do not say how this model was trained to see pixels")
        return
    if task == "classification":
        draft.say("input.fit", "crop", _DEFAULT)
        draft.say("input.crop_fraction", 1.0, _DEFAULT)
    else:
        draft.say("input.fit", "letterbox", _DEFAULT)
        draft.say("input.pad_value", _PAD_VALUE, _DEFAULT)
    if change := _changed(draft, image):
        ask_pixels(draft, image, f"{change}, as no export has it: the metadata tell of the model before that")
        return
    if image.channel_count == 3:
        draft.say("input.colour_order", "RGB", _DEFAULT)
    say_pixels(draft, TO_UNIT, (0.0,), (1.0,), _DEFAULT, image.channel_count)
    ask_pixels(draft, image, "neither the shape nor the metadata say it")  # a free size without imgsz


def _changed(draft: Draft, image: Image) -> str:
    """How somebody changed the input since it was exported; empty where nobody did."""
    if draft.value("input.dtype") == "uint8":
        return f"{image.name} takes uint8"
    first = next((operator for operator, _ in draft.facts.read_by.get(image.name, ()) if operator not in _CARRIES), "")
    return "" if first in _FIRST_LAYERS else f"{image.name} is first read by {first or 'several operators'}"


def read_outputs(draft: Draft, image: Image, sidecar: Mapping[str, Any] | None) -> None:
    """Task, classes, decoder and the roles of the outputs."""
    del sidecar
    task = _task(draft)
    if task is None:
        return
    draft.say("task", task, "metadata task" if "task" in draft.facts.metadata else "shape of the outputs")
    _say_classes(draft)
    if task == "classification":
        _read_classifier(draft)
    elif draft.facts.metadata.get("task") == "semantic":
        _read_labels(draft)
    else:
        _read_detector(draft, image)


def _task(draft: Draft) -> str | None:
    """The card's word for the task; None where there is no decoder for it, which is said."""
    told = draft.facts.metadata.get("task")
    if told is not None:
        if told not in _TASKS:
            expected = f"{', '.join(_TASKS)}: no decoder reads other heads"
            draft.refuse("metadata task", repr(shown(told)), expected)
            return None
        return _TASKS[told]
    ranks = sorted(len(tensor.shape) for tensor in draft.facts.outputs if tensor.shape is not None)
    if ranks == [2]:
        return "classification"
    return "segmentation" if 4 in ranks and 3 in ranks else "detection"


def _say_classes(draft: Draft) -> None:
    names = _names(draft.facts)
    if names is None:
        draft.ask("classes", "the metadata's names are not a list of names numbered from 0")
    elif len(set(names)) != len(names) or not all(name and name.isprintable() for name in names):
        draft.ask("classes", f"the metadata's names repeat or are no words: {shown(str(names))}; name each class once")
    else:
        draft.say("classes", names, "metadata names")
        _check_order(draft, names)


def _check_order(draft: Draft, names: list[str]) -> None:
    """The card may call classes otherwise, but not one by the name of another."""
    given = draft.given("classes")
    if not isinstance(given, list):
        return
    for index, name in enumerate(given):
        if name in names and names.index(name) != index:
            got = f"{name!r} as class {index}"
            expected = f"class {names.index(name)}, as the file's metadata have it: {shown(str(names))}"
            draft.refuse("classes", got, expected, of_card=True)
            return


def _read_classifier(draft: Draft) -> None:
    tensor = one_of_rank(draft, "scores", 2)
    if tensor is None:
        return
    draft.say("decoder.kind", "classification", "metadata task" if "task" in draft.facts.metadata else "shape")
    say_activation(draft, tensor)
    check_classes(draft, number(row_shape(tensor.shape or ())[0]), tensor)


def _read_labels(draft: Draft) -> None:
    roles = draft.roles()
    ranked = [
        tensor
        for tensor in draft.facts.outputs
        if tensor.shape is not None and (not roles or tensor.name in roles.values())
    ]
    if len(ranked) == 1 and len(ranked[0].shape or ()) in (3, 4):
        tensor = ranked[0]
        draft.say("decoder.kind", "semantic_segmentation", "metadata task")
        if len(tensor.shape or ()) == 3:
            draft.say("outputs.labels", tensor.name, "shape")
        else:
            draft.say("outputs.scores", tensor.name, "shape")
            say_activation(draft, tensor)
            check_classes(draft, number((tensor.shape or ())[1]), tensor)
        return
    draft.refuse("outputs", outputs_text(draft), "one map of classes")


def _read_detector(draft: Draft, image: Image) -> None:
    facts = draft.facts
    tensor = one_of_rank(draft, "predictions", 3)
    if tensor is None:
        return
    extra_count = 0
    segments = draft.value("task") == "segmentation"
    if segments:
        prototypes = one_of_rank(draft, "prototypes", 4)
        if prototypes is None:
            return
        extra_count = number((prototypes.shape or ())[1]) or 0
    key = "decoder.boxes" if segments else "decoder.kind"
    if segments:
        draft.say("decoder.kind", "instance_segmentation", "metadata task" if "task" in facts.metadata else "shape")
    shape = row_shape(tensor.shape or ())
    names = _names(facts)
    classes = draft.value("classes")
    count = len(names) if names is not None else len(classes) if isinstance(classes, list) else None
    head = facts.metadata.get("head", "")
    if head in _TRANSFORMER_HEADS or "rtdetr" in facts.metadata.get("description", "").lower().replace("-", ""):
        draft.refuse(
            "metadata head", shown(head) or "RT-DETR", "a detector of YOLO's layouts: no decoder reads RT-DETR"
        )
        return
    why = f"{tensor.name} is {shape_text(tensor.shape or ())}"
    if count is None:
        draft.ask(key, f"{why}, and how many classes there are is not known", ("yolov5", "yolov8", "end_to_end"))
        return
    fits = _layouts(draft, shape, count, extra_count, image)
    given = draft.given(key)
    if given is not None and fits and given not in fits:
        expected = f"{' or '.join(fits)}: {why}, and the metadata name {count} classes"
        draft.refuse(key, repr(given), expected, of_card=True)
    elif given is not None:
        by_shape = classes_by_shape(given, shape, extra_count=extra_count)
        check_classes(draft, by_shape, tensor)
    elif len(fits) == 1:
        draft.say(key, fits[0], f"metadata names ({count} classes) and shape ({shape_text(shape)})")
        check_classes(draft, count, tensor)
    elif fits:
        draft.ask(key, f"{why}, which can be either for {count} classes", fits)
    elif not any(map(number, shape)):
        draft.ask(key, f"{why}: its sizes are free", ("yolov5", "yolov8"))
    else:
        expected = (
            f"{4 + count + extra_count} x N, N x {5 + count + extra_count} or N x {6 + extra_count} for {count} classes"
        )
        draft.refuse(f"output {tensor.name}", shape_text(shape), f"{expected}: no decoder reads another layout")


def _layouts(draft: Draft, shape: tuple[int | str, ...], count: int, extra_count: int, image: Image) -> list[str]:
    facts = draft.facts
    height, width = image.height_px, image.width_px
    fits = detector_layouts(shape, count, extra_count=extra_count, cells_counts=cells(height, width))
    if "end_to_end" in fits:
        flagged = facts.metadata.get("end2end") == "True" or _argument(facts, "nms") is True
        if flagged:
            return ["end_to_end"]
        if "head" in facts.metadata and facts.metadata.get("end2end") == "False" and not _argument(facts, "nms"):
            fits.remove("end_to_end")
        elif _is_yolov5(facts):
            fits.remove("end_to_end")  # that repository has no such head
        elif number(shape[0]) in cells(height, width):
            # A row for each cell: what yolov8 puts out, turned, has six columns where there are two classes.
            return [*fits, "none: its rows may be those of yolov8, turned, which no decoder reads"]
        elif fits == ["end_to_end"] and "yolo" not in facts.metadata.get("description", "").lower():
            # Older versions do not name the head, and RT-DETR's rows can be as long.
            return ["end_to_end", "none: RT-DETR, which no decoder reads"]
    return fits


def _is_yolov5(facts: OnnxFile) -> bool:
    return "task" not in facts.metadata


def _names(facts: OnnxFile) -> list[str] | None:
    """Names in the order of the classes; None where the metadata hold something else."""
    names = _literal(facts.metadata.get("names", ""))
    if isinstance(names, dict):
        names = [names.get(index) for index in range(len(names))]
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        return None
    return names


def _imgsz(facts: OnnxFile) -> tuple[int, int] | None:
    """Height and width."""
    size = _literal(facts.metadata.get("imgsz", ""))
    if isinstance(size, int):
        size = [size, size]
    if isinstance(size, (list, tuple)) and len(size) == 2 and all(type(each) is int and each > 0 for each in size):
        return size[0], size[1]
    return None


def _argument(facts: OnnxFile, name: str) -> Any:
    arguments = _literal(facts.metadata.get("args", ""))
    return arguments.get(name) if isinstance(arguments, dict) else None


def _literal(text: str) -> Any:
    """A Python literal, as ``str()`` wrote it; None where it is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of escapes that are none, on standard error
            return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
