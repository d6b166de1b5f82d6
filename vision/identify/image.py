"""The model's input: which tensor, its layout, type and size. What its pixels mean is the exporter's to say."""

from __future__ import annotations

import math
from dataclasses import dataclass

from vision.identify.draft import Draft
from vision.onnx_graph import Numbers

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Red, green, blue of pixels 0..1, as torchvision and timm state it."""

IMAGENET_STD = (0.229, 0.224, 0.225)

TO_UNIT = 1.0 / 255.0
"""Scale that makes pixels 0..255 be 0..1."""

_DTYPES = ("float32", "uint8")
_CHANNELS = (1, 3)


@dataclass(frozen=True, slots=True)
class Image:
    """The input as far as its shape says. A size is None where it is free."""

    name: str
    channel_count: int | None
    height_px: int | None
    width_px: int | None


def read_input(draft: Draft) -> Image | None:
    """Says name, layout, type and size of the input, or why it cannot be fed with images: then None."""
    inputs = draft.facts.inputs
    if len(inputs) != 1:
        names = ", ".join(tensor.name for tensor in inputs)
        draft.refuse("inputs", f"{len(inputs)} ({names})" if inputs else "none", "one, which takes the image")
        return None
    tensor = inputs[0]
    draft.say("input.name", tensor.name, "the file")
    where = f"input {tensor.name}"
    if tensor.dtype in _DTYPES:
        draft.say("input.dtype", tensor.dtype, "type")
    elif tensor.dtype == "float16":
        advice = (
            "export the model in float32 and shrink it with `lineside model quantize` (its inputs and outputs stay float32), "
            "or convert it with onnxruntime.transformers.float16 and keep_io_types=True"
        )
        draft.refuse(where, "type float16", f"{' or '.join(_DTYPES)}: {advice}")
        return None
    else:
        draft.refuse(where, f"type {tensor.dtype or 'that is no tensor'}", " or ".join(_DTYPES))
        return None
    if tensor.shape is None or len(tensor.shape) != 4:
        got = "no shape" if tensor.shape is None else f"shape {list(tensor.shape)}"
        draft.refuse(where, got, "4 dimensions: batch, channels, height, width")
        return None
    sizes = [size if isinstance(size, int) and size > 0 else None for size in tensor.shape]
    layout = draft.given("input.layout") or _layout(sizes)
    if draft.given("input.layout") not in (None, "NCHW"):
        return None  # told where the card is checked
    if layout is None:
        why = f"{tensor.name} is {list(tensor.shape)}, which does not say where the channels are"
        draft.ask("input.layout", why, ("NCHW",))
        return None
    if layout != "NCHW":
        advice = "export the model channels first (tf2onnx: --inputs-as-nchw), or put a Transpose before it"
        draft.refuse(where, f"shape {list(tensor.shape)}, channels last", f"NCHW: {advice}")
        return None
    draft.say("input.layout", layout, "shape")
    _, channels, height, width = sizes
    if channels not in (None, *_CHANNELS):
        draft.refuse(where, f"{channels} channels", "1 (grey) or 3 (colour)")
        return None
    for key, size in (("input.height_px", height), ("input.width_px", width)):
        given = draft.given(key)
        if size is not None and given not in (None, size):
            draft.refuse(key, str(given), f"{size}: {tensor.name} is {list(tensor.shape)}", of_card=True)
        elif size is not None:
            draft.say(key, size, "shape")
    order = draft.given("input.colour_order")
    if channels is not None and order is not None and (order == "GRAY") != (channels == 1):
        expected = "GRAY" if channels == 1 else "RGB or BGR"
        draft.refuse(
            "input.colour_order", str(order), f"{expected}: {tensor.name} has {channels} channels", of_card=True
        )
    elif channels == 1:
        draft.say("input.colour_order", "GRAY", "shape")
    if tensor.dtype == "uint8":
        say_pixels(draft, 1.0, (0.0,), (1.0,), "type uint8: pixels as they are", channels)
    return Image(tensor.name, channels, height, width)


def say_pixels(
    draft: Draft, scale: float, mean: tuple[float, ...], std: tuple[float, ...], source: str, channels: int | None
) -> None:
    """Normalisation of the pixels; a single number of ``mean`` or ``std`` is meant for every channel."""
    if channels is None:
        channels = 1 if draft.value("input.colour_order") == "GRAY" else 3
    draft.say("input.scale", scale, source)
    draft.say("input.mean", list(mean if len(mean) > 1 else mean * channels), source)
    draft.say("input.std", list(std if len(std) > 1 else std * channels), source)


def say_what_the_graph_normalises(draft: Draft, image: Image) -> bool:
    """Whether the graph begins by subtracting ImageNet's means: then it is known what it is to be fed, and in which order."""
    for operator, numbers in draft.facts.read_by.get(image.name, ()):
        if operator == "Sub" and numbers is not None and len(numbers) == 3:
            for scale, factor in ((TO_UNIT, 1.0), (1.0, 255.0)):
                for order, mean in (("RGB", IMAGENET_MEAN), ("BGR", IMAGENET_MEAN[::-1])):
                    if _is_near(numbers, tuple(factor * value for value in mean)):
                        source = f"graph: subtracts ImageNet's means of {order} from pixels 0..{factor:g}"
                        _check_normalised_once(draft, order, scale, source)
                        draft.say("input.colour_order", order, source)
                        say_pixels(draft, scale, (0.0,), (1.0,), source, image.channel_count)
                        return True
        if operator not in ("Cast", "Identity", "Reshape", "Resize"):
            return False
    return False


def _check_normalised_once(draft: Draft, order: str, scale: float, source: str) -> None:
    """What the card says of pixels that the graph normalises itself."""
    if draft.given("input.colour_order") not in (None, order):
        draft.refuse("input.colour_order", str(draft.given("input.colour_order")), f"{order} ({source})", of_card=True)
    for key, wanted in (("scale", scale), ("mean", 0.0), ("std", 1.0)):
        given = draft.given(f"input.{key}")
        numbers = given if isinstance(given, list) else [given]
        if all(isinstance(each, (int, float)) for each in numbers) and not all(
            math.isclose(each, wanted, rel_tol=2e-3, abs_tol=1e-9) for each in numbers
        ):
            draft.refuse(f"input.{key}", str(given), f"{wanted:g} ({source})", of_card=True)


def ask_pixels(draft: Draft, image: Image, why: str) -> None:
    """Everything that the file does not say of its pixels."""
    if image.channel_count is None:
        draft.ask("input.colour_order", "the number of channels is free in the file", ("GRAY", "RGB", "BGR"))
    elif image.channel_count == 3:
        draft.ask("input.colour_order", why, ("RGB", "BGR"))
    for key, size in (("input.height_px", image.height_px), ("input.width_px", image.width_px)):
        if size is None:
            draft.ask(key, f"{image.name} has no fixed size in the file: the size it was trained at, in pixels")
    count = "one number" if image.channel_count == 1 else "one number a channel"
    form = "x = (pixel * scale - mean) / std, pixel 0..255"
    draft.ask("input.scale", f"{why}; {form}", (f"{TO_UNIT!r} (pixels become 0..1)", "1.0 (they stay 0..255)"))
    draft.ask(
        "input.mean",
        f"{why}; {count}",
        ("0 (no normalisation)", f"{list(IMAGENET_MEAN)} (ImageNet's, with scale 1/255)"),
    )
    draft.ask(
        "input.std", f"{why}; {count}", ("1 (no normalisation)", f"{list(IMAGENET_STD)} (ImageNet's, with scale 1/255)")
    )
    draft.ask("input.fit", f"{why}: how a region was brought to the input's size", ("stretch", "letterbox", "crop"))


def _layout(sizes: list[int | None]) -> str | None:
    first, last = sizes[1] in _CHANNELS, sizes[3] in _CHANNELS
    if first != last:
        return "NCHW" if first else "NHWC"
    if not first and sizes[1] is not None and sizes[3] is not None:
        # Neither is a number of channels: the smaller one is meant as such.
        return "NCHW" if sizes[1] <= sizes[3] else "NHWC"
    return None


def _is_near(numbers: Numbers, others: Numbers) -> bool:
    return all(math.isclose(one, other, rel_tol=2e-3) for one, other in zip(numbers, others, strict=True))
