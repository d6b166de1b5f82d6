"""Files that Anomalib wrote: outputs by name (2.x), or one output and ``metadata.json`` beside the file (1.x).

Layout: ``anomalib/models/components/base/export_mixin.py`` of 1.1 to 2.2, ``anomalib/post_processing/post_processor.py`` of 2.x,
``anomalib/deploy/export.py`` of 1.0, ``anomalib/deploy/inferencers/openvino_inferencer.py`` of 1.x.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vision.decoders.anomaly import CLASSES
from vision.identify.draft import Draft
from vision.identify.image import Image, ask_pixels, say_pixels, say_what_the_graph_normalises
from vision.identify.outputs import check_scores_are_raw
from vision.onnx_file import OnnxFile, TensorFacts
from vision.onnx_graph import shown

ROLES = ("pred_score", "pred_label", "anomaly_map", "pred_mask")

_DEFAULT = "default of Anomalib"
_THRESHOLDS = ("image_threshold", "pixel_threshold")
_SIDECAR = "metadata.json"
_OUTPUT_OF_ONE = "output"


def wrote(facts: OnnxFile, sidecar: Mapping[str, Any] | None) -> bool:
    """Whether outputs have Anomalib's names, or are those of 1.x and its thresholds lie beside the file."""
    return bool(_named(facts)) or _is_one(facts, sidecar)


def exporter(facts: OnnxFile, sidecar: Mapping[str, Any] | None) -> str:
    """Who wrote the file."""
    if _is_one(facts, sidecar):
        return "Anomalib 1"
    return "Anomalib 2" if _is_two(facts) else "unknown (an output is named as Anomalib's are)"


def read_pixels(draft: Draft, image: Image, sidecar: Mapping[str, Any] | None) -> None:
    """Pixels are RGB, 0..1, stretched; the normalisation is in the graph, or (1.0) in ``metadata.json``."""
    for operator, numbers in draft.facts.read_by.get(image.name, ()):
        if operator == "Resize" and numbers is not None and len(numbers) in (2, 4) and min(numbers) >= 1:
            height, width = (int(size) for size in numbers[-2:])
            if image.height_px is None and image.width_px is None:
                draft.say("input.height_px", height, "graph: resizes to it")
                draft.say("input.width_px", width, "graph: resizes to it")
    known = say_what_the_graph_normalises(draft, image)
    # That of a model that was given bytes since is in its graph.
    has_transform = _is_one(draft.facts, sidecar) and draft.value("input.dtype") != "uint8"
    transform = _transform(sidecar) if has_transform else None
    if not known and transform is not None:
        scale, mean, std = transform
        say_pixels(draft, scale, mean, std, f"{_SIDECAR} transform", image.channel_count)
        known = True
    if known:
        draft.say("input.colour_order", "RGB", _DEFAULT)
        draft.say("input.fit", "stretch", _DEFAULT)
    # Anomalib reads images as RGB 0..1, but whoever took its pre-processor out does something else before the file.
    ask_pixels(draft, image, "the graph does not begin with Anomalib's own normalisation")


def read_outputs(draft: Draft, image: Image, sidecar: Mapping[str, Any] | None) -> None:
    """Task, classes, decoder, the roles of the outputs, and how raw scores become 0..1."""
    del image
    named = _named(draft.facts)
    source = "names of the outputs" if named else _SIDECAR
    draft.say("task", "anomaly", source)
    draft.say("decoder.kind", "anomaly", source)
    draft.say("classes", list(CLASSES), "decoder anomaly")
    if not draft.roles():
        for role, name in (named or _roles_of_one(draft.facts)).items():
            draft.say(f"outputs.{role}", name, "name" if named else "shape")
    _say_normalisation(draft, sidecar)


def _say_normalisation(draft: Draft, sidecar: Mapping[str, Any] | None) -> None:
    facts, named = draft.facts, _named(draft.facts)
    scored = [name for role, name in (named or _roles_of_one(facts)).items() if role in ("pred_score", "anomaly_map")]
    cut = [name for name in scored if facts.cut_to.get(name) == (0.0, 1.0)]
    check_scores_are_raw(draft, scored)
    if _has_thresholds(sidecar) and (named or cut):
        # 2.x writes no such file, and its scores would be brought to 0..1 twice: another model's file lies here.
        got = f"the graph cuts {shown(cut[0])} to 0..1" if cut else "the outputs have the names of Anomalib 2"
        why = f"{_SIDECAR} beside the file is for raw scores of Anomalib 1, but {got}"
    elif _has_thresholds(sidecar):
        assert sidecar is not None
        settings = _thresholds(sidecar)
        if "image_threshold" in settings:
            draft.say("decoder.normalisation", settings, _SIDECAR)
            return
        why = f"{_SIDECAR} has no threshold and range for the image's score"
    elif scored and len(cut) == len(scored):
        return  # Anomalib's post-processor is in the graph: it ends by cutting scores to 0..1
    elif scored:
        why = "the graph does not end in Anomalib's own normalisation to 0..1"
    else:
        return  # labels and masks alone
    if draft.given("decoder.kind") is not None and not draft.is_left_open("decoder.normalisation"):
        return  # the decoder's own default holds, as it does in a whole card
    choices = (
        "{image_threshold: T, image_min: LOWEST, image_max: HIGHEST} (raw scores, as the training found them; pixel_ likewise)",
        "no such line (the scores are 0..1 already)",
    )
    draft.ask("decoder.normalisation", why, choices)


def _thresholds(sidecar: Mapping[str, Any]) -> dict[str, Any]:
    """The decoder's settings; 1.0 and later write a range for each kind of score, older ones one for both."""
    settings: dict[str, Any] = {}
    for kind, prefix in (("image", "pred_scores."), ("pixel", "anomaly_maps.")):
        threshold = sidecar.get(f"{kind}_threshold")
        low, high = (sidecar.get(f"{prefix}{end}", sidecar.get(end)) for end in ("min", "max"))
        if all(_is_number(value) for value in (threshold, low, high)):
            settings |= {f"{kind}_threshold": threshold, f"{kind}_min": low, f"{kind}_max": high}
    return settings


def _named(facts: OnnxFile) -> dict[str, str]:
    """Role -> output, of those that have Anomalib's names."""
    return {tensor.name: tensor.name for tensor in facts.outputs if tensor.name in ROLES}


def _is_two(facts: OnnxFile) -> bool:
    """One name alone is anybody's; a label, or two of them, is Anomalib's export."""
    named = _named(facts)
    return len(named) >= 2


def _is_one(facts: OnnxFile, sidecar: Mapping[str, Any] | None) -> bool:
    """Whether thresholds lie beside the file and its outputs are those of 1.x: only then are they this model's."""
    return _has_thresholds(sidecar) and bool(_roles_of_one(facts))


def _roles_of_one(facts: OnnxFile) -> dict[str, str]:
    """Role -> output of 1.x, whose first one is called ``output``: a score, a map, or one of each; empty for any others."""
    if facts.outputs[0].name != _OUTPUT_OF_ONE:
        return {}
    roles = {role: tensor.name for tensor in facts.outputs if (role := _role_of(tensor)) is not None}
    return roles if len(roles) == len(facts.outputs) else {}


def _role_of(tensor: TensorFacts) -> str | None:
    """Of 1.x's outputs: a number for each image is the score, a map of one channel is the map."""
    if tensor.shape is None or tensor.dtype != "float32":
        return None
    sizes = tensor.shape[1:]
    if all(size == 1 for size in sizes):
        return "pred_score"
    if len(sizes) == 3 and isinstance(sizes[0], int) and sizes[0] != 1:
        return None
    return "anomaly_map" if len(sizes) in (2, 3) else None


def _has_thresholds(sidecar: Mapping[str, Any] | None) -> bool:
    return sidecar is not None and any(_is_number(sidecar.get(key)) for key in _THRESHOLDS)


def _transform(sidecar: Mapping[str, Any] | None) -> tuple[float, tuple[float, ...], tuple[float, ...]] | None:
    """(scale, mean, std) of the Normalize among albumentations' transforms, as 1.0 wrote them; None without one."""
    waiting: list[Any] = [(sidecar or {}).get("transform")]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list):
            waiting += each
        elif isinstance(each, dict):
            name = str(each.get("__class_fullname__", ""))
            mean, std, top = each.get("mean"), each.get("std"), each.get("max_pixel_value", 255.0)
            if name.rpartition(".")[2] == "Normalize" and _is_number(top) and top > 0:
                means, stds = _numbers(mean), _numbers(std)
                return (1.0 / top, means, stds) if means and stds and min(stds) > 0 else None
            waiting += [each.get("transform"), each.get("transforms")]
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers(values: Any) -> tuple[float, ...]:
    """Of one channel or three; empty for anything else."""
    if isinstance(values, list) and len(values) in (1, 3) and all(_is_number(value) for value in values):
        return tuple(values)
    return ()
