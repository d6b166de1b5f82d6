"""Which output has which role, and what the outputs say of the classes."""

from __future__ import annotations

from collections.abc import Iterable

from vision.identify.draft import Draft
from vision.identify.heads import shape_text
from vision.onnx_file import TensorFacts
from vision.onnx_graph import shown


def one_of_rank(draft: Draft, role: str, rank: int) -> TensorFacts | None:
    """The output with this role: the card's, or the only one of this rank."""
    given = draft.roles().get(role)
    if given is not None:
        return draft.output(given)  # one that is not there is told where the session is opened
    ranked = [tensor for tensor in draft.facts.outputs if tensor.shape is not None and len(tensor.shape) == rank]
    if len(ranked) == 1:
        draft.say(f"outputs.{role}", ranked[0].name, "shape")
        return ranked[0]
    if not ranked:
        draft.refuse("outputs", outputs_text(draft), f"one of {rank} dimensions for {role}")
    else:
        draft.ask(f"outputs.{role}", f"several outputs have {rank} dimensions", [tensor.name for tensor in ranked])
    return None


def say_activation(draft: Draft, tensor: TensorFacts) -> None:
    """Whether a classifier's scores are probabilities: the graph's last operator tells, or nobody."""
    maker = draft.facts.made_by.get(tensor.name, "")
    if maker in ("Softmax", "Sigmoid"):
        given = draft.given("decoder.activation")
        if given not in (None, "none"):
            expected = f"none: {tensor.name} is made by {maker}, and is probabilities already"
            draft.refuse("decoder.activation", str(given), expected, of_card=True)
        draft.say("decoder.activation", "none", f"graph: {tensor.name} is made by {maker}")
        return
    if draft.given("decoder.kind") == "semantic_segmentation" and not draft.is_left_open("decoder.activation"):
        return  # the decoder's own default holds, as it does in a whole card
    why = f"{tensor.name} is made by {maker or 'no operator'}: nothing says what makes probabilities of it"
    choices = ("softmax (one class of several)", "sigmoid (each for itself)", "none (they are probabilities)")
    draft.ask("decoder.activation", why, choices)


def check_scores_are_raw(draft: Draft, outputs: Iterable[str]) -> None:
    """A card's ``normalisation`` is for raw scores: scores that the graph cuts to 0..1 would be brought there twice, to nothing."""
    cut = [name for name in outputs if draft.facts.cut_to.get(name) == (0.0, 1.0)]
    if cut and draft.given("decoder.normalisation") is not None:
        got = "thresholds and ranges of raw scores"
        expected = f"none: the graph cuts {shown(cut[0])} to 0..1, so it has normalised it already"
        draft.refuse("decoder.normalisation", got, expected, of_card=True)


def check_classes(draft: Draft, expected_count: int | None, tensor: TensorFacts) -> None:
    """Whether there is a name for each class of the tensor."""
    classes = draft.value("classes")
    if not isinstance(classes, list) or expected_count is None or len(classes) == expected_count:
        return
    expected = f"{expected_count}, as {tensor.name} is {shape_text(tensor.shape or ())}"
    draft.refuse("classes", f"{len(classes)} classes", expected, of_card=draft.given("classes") is not None)


def outputs_text(draft: Draft) -> str:
    """The outputs for people."""
    return "; ".join(
        f"{shown(tensor.name)} {shape_text(tensor.shape) if tensor.shape is not None else 'of no stated shape'}"
        for tensor in draft.facts.outputs
    )
