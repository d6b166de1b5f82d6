"""What a model is: the values of its card, each with where it comes from, and what nobody but its maker can say.

Nothing is guessed. A value comes from the card, from the file's metadata, from its shapes, from what its graph does, or from what
the exporter that wrote the file is documented to do; everything else is a question that names the card's key.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vision.identify import anomalib, other, ultralytics
from vision.identify.draft import Draft, Identification, Known, Question
from vision.identify.image import read_input
from vision.onnx_file import OnnxFile
from vision.onnx_graph import shown

__all__ = ["Identification", "Known", "Question", "identify"]


def identify(
    facts: OnnxFile,
    *,
    name: str,
    model_file: str,
    card_file: str,
    card: Mapping[str, Any] | None = None,
    sidecar: Mapping[str, Any] | None = None,
) -> Identification:
    """The card of the model in ``facts``, as far as it can be known.

    ``name`` is what the file or its folder is called; ``model_file`` and ``card_file`` name the files in faults. ``card``: what
    its maker wrote, whole or in part (whatever stands there holds); ``sidecar``: Anomalib's ``metadata.json`` beside the file.
    """
    draft = Draft(facts, card or {}, model_file, card_file)
    draft.say("name", name, "name of the file")
    draft.say("version", f"sha256-{facts.sha256[:12]}", "sha256 of the file")
    draft.say("sha256", facts.sha256, "the file")
    licence = shown(facts.metadata.get("license", ""))
    draft.say("licence", licence or "not stated", "metadata license" if licence else "nothing in the file")
    family = next((family for family in (ultralytics, anomalib) if family.wrote(facts, sidecar)), other)
    draft.exporter = family.exporter(facts, sidecar)
    if image := read_input(draft):
        family.read_pixels(draft, image, sidecar)
        family.read_outputs(draft, image, sidecar)
    return draft.finished()
