from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.exported import BOOL, INT64, SOFTMAX_OF_IMAGES, UINT8, exported, output, ultralytics, yolov5
from vision.decoders import DECODERS
from vision.identify import Identification, identify
from vision.onnx_file import RefusedModel, read_onnx

IMAGENET = [0.485, 0.456, 0.406]
UNIT = 1.0 / 255.0


def identified(
    content: bytes, card: Mapping[str, Any] | None = None, sidecar: Mapping[str, Any] | None = None
) -> Identification:
    facts = read_onnx(content, "model.onnx")
    return identify(facts, name="m", model_file="model.onnx", card_file="model.yaml", card=card, sidecar=sidecar)


def values(identification: Identification) -> dict[str, Any]:
    return {known.key: known.value for known in identification.known}


def sources(identification: Identification) -> dict[str, str]:
    return {known.key: known.source for known in identification.known}


def asked(identification: Identification) -> set[str]:
    return {question.key for question in identification.questions}


PIXELS = {"input.colour_order", "input.scale", "input.mean", "input.std", "input.fit"}
LETTERBOX = {
    "input.colour_order": "RGB",
    "input.scale": UNIT,
    "input.mean": [0.0, 0.0, 0.0],
    "input.std": [1.0, 1.0, 1.0],
    "input.fit": "letterbox",
    "input.pad_value": 114,
}


@pytest.mark.parametrize(
    ("content", "kind", "classes"),
    [
        (exported(output("output0", (1, 84, 8400)), metadata=ultralytics()), "yolov8", 80),
        (exported(output("output0", (1, 5, 8400)), metadata=ultralytics(classes=1)), "yolov8", 1),
        (exported(output("output0", (1, 6, 8400)), metadata=ultralytics(classes=2)), "yolov8", 2),
        (exported(output("output0", (1, 84, 33600)), image=(1, 3, 1280, 1280), metadata=ultralytics()), "yolov8", 80),
        (exported(output("output0", (1, 84, 34000)), image=(1, 3, 1280, 1280), metadata=ultralytics()), "yolov8", 80),
        (exported(output("output0", ("batch", 84, "anchors")), metadata=ultralytics()), "yolov8", 80),
        (exported(output("output0", (1, 300, 6)), metadata=ultralytics(end2end="True")), "end_to_end", 80),
        (exported(output("output0", (1, 300, 6)), metadata=ultralytics()), "end_to_end", 80),  # v10 of 8.2 and 8.3
        (exported(output("output0", (1, 300, 6)), metadata=ultralytics(args="{'nms': True}")), "end_to_end", 80),
        (exported(output("output0", (1, 300, 6)), metadata=ultralytics(classes=2, end2end="True")), "end_to_end", 2),
        (
            exported(output("output0", (1, 300, 6)), metadata=ultralytics(classes=1, args="{'nms': True}")),
            "end_to_end",
            1,
        ),
        (exported(output("output0", (1, 25200, 85)), metadata=yolov5()), "yolov5", 80),
        (exported(output("output0", (1, 25200, 6)), metadata=yolov5(1)), "yolov5", 1),
        (exported(output("output0", (1, 84, 8400)), metadata=yolov5()), "yolov8", 80),  # YOLOv9's own repository
    ],
)
def test_detectors_of_ultralytics_say_everything(content: bytes, kind: str, classes: int) -> None:
    found = identified(content)
    assert (asked(found), found.faults) == (set(), ())
    known = values(found)
    assert {key: known[key] for key in LETTERBOX} == LETTERBOX
    assert (known["task"], known["decoder.kind"], known["outputs.predictions"]) == ("detection", kind, "output0")
    assert known["classes"] == [f"class {index}" for index in range(classes)]
    assert sources(found)["classes"] == "metadata names"
    assert sources(found)["input.scale"] == "default of Ultralytics"
    assert sources(found)["input.width_px"] == "shape"


def test_a_free_size_is_the_one_of_the_metadata() -> None:
    shape = ("batch", 3, "height", "width")
    found = identified(
        exported(output("output0", ("batch", 84, "anchors")), image=shape, metadata=ultralytics(imgsz="[320, 640]"))
    )
    assert found.is_complete
    assert (values(found)["input.height_px"], values(found)["input.width_px"]) == (320, 640)
    assert sources(found)["input.width_px"] == "metadata imgsz"
    without = identified(exported(output("output0", ("batch", "anchors", 85)), image=shape, metadata=yolov5()))
    assert asked(without) == {"input.height_px", "input.width_px"}


def test_a_grey_detector_is_known_by_its_shape() -> None:
    found = identified(
        exported(output("output0", (1, 84, 8400)), image=(1, 1, 640, 640), metadata=ultralytics(channels="1"))
    )
    assert found.is_complete
    assert values(found)["input.colour_order"] == "GRAY"
    assert values(found)["input.mean"] == [0.0]


@pytest.mark.parametrize(
    ("shape", "boxes", "metadata"),
    [
        ((1, 116, 8400), "yolov8", ultralytics("segment")),
        ((1, 25200, 117), "yolov5", yolov5()),
        ((1, 300, 38), "end_to_end", ultralytics("segment", end2end="True")),
    ],
)
def test_instance_segmentation_of_ultralytics(shape: tuple[int, ...], boxes: str, metadata: dict[str, str]) -> None:
    found = identified(exported(output("output0", shape), output("output1", (1, 32, 160, 160)), metadata=metadata))
    assert found.is_complete
    known = values(found)
    assert (known["task"], known["decoder.kind"], known["decoder.boxes"]) == (
        "segmentation",
        "instance_segmentation",
        boxes,
    )
    assert (known["outputs.predictions"], known["outputs.prototypes"]) == ("output0", "output1")


def test_classifier_of_ultralytics() -> None:
    content = exported(
        output("output0", (1, 10), "Softmax"),
        image=(1, 3, 224, 224),
        metadata=ultralytics("classify", 10, imgsz="[224, 224]"),
    )
    found = identified(content)
    assert found.is_complete
    known = values(found)
    assert (known["task"], known["decoder.kind"], known["decoder.activation"]) == (
        "classification",
        "classification",
        "none",
    )
    assert (known["input.fit"], known["input.crop_fraction"], known["outputs.scores"]) == ("crop", 1.0, "output0")
    assert sources(found)["decoder.activation"] == "graph: output0 is made by Softmax"


def test_a_classifier_of_yolov5_was_normalised_otherwise_and_is_asked() -> None:
    found = identified(exported(output("output0", (1, 10), "Gemm"), image=(1, 3, 224, 224), metadata=yolov5(10)))
    assert asked(found) == PIXELS | {"decoder.activation"}


def test_semantic_segmentation_of_ultralytics() -> None:
    found = identified(exported(output("output0", (1, 640, 640), "Cast", UINT8), metadata=ultralytics("semantic", 3)))
    assert found.is_complete
    assert values(found)["decoder.kind"] == "semantic_segmentation"
    assert values(found)["outputs.labels"] == "output0"


@pytest.mark.parametrize("task", ["pose", "obb", "depth", "track"])
def test_heads_without_a_decoder_are_refused(task: str) -> None:
    found = identified(exported(output("output0", (1, 56, 8400)), metadata=ultralytics(task, 1)))
    (fault,) = found.faults
    assert (fault.key, fault.got) == ("metadata task", repr(task))
    assert not found.questions


def test_rt_detr_is_not_taken_for_a_detector_of_yolos_layouts() -> None:
    named = ultralytics(head="RTDETRDecoder", description="Ultralytics rtdetr-l model")
    assert identified(exported(output("output0", (1, 300, 84)), metadata=named)).faults
    # Older versions do not name the head, newer ones give it rows of six too.
    for classes in (2, 80):
        unnamed = ultralytics(classes=classes, description="Ultralytics custom model")
        assert asked(identified(exported(output("output0", (1, 300, 6)), metadata=unnamed))) == {"decoder.kind"}
    assert identified(exported(output("output0", (1, 300, 84)), metadata=ultralytics(description="custom"))).faults


@pytest.mark.parametrize(
    "names", ["{0: 'a', 2: 'b'}", "{0: 'a', 1: 'a'}", "{0: '', 1: 'b'}", "[", "{0: 1}", "", "(" * 5000, "'\\d'"]
)
def test_names_that_are_none_are_asked(names: str) -> None:
    found = identified(exported(output("output0", (1, 6, 8400)), metadata=ultralytics(names=names)))
    assert "classes" in asked(found)


def test_the_wrong_number_of_classes_is_refused() -> None:
    content = exported(output("output0", (1, 84, 8400)), metadata=ultralytics())
    (fault,) = identified(content, card={"classes": ["a", "b"]}).faults
    assert (fault.file, fault.key, fault.got) == ("model.yaml", "classes", "2 classes")
    (fault,) = identified(exported(output("output0", (1, 84, 8400)), metadata=ultralytics(classes=3))).faults
    assert (fault.file, fault.key, fault.got) == ("model.onnx", "output output0", "84 x 8400")


def test_the_cards_classes_are_not_the_files_in_another_order() -> None:
    """Every finding would have the wrong name, and every threshold hold for the wrong class."""
    content = exported(
        output("output0", (1, 7, 8400)), metadata=ultralytics(names="{0: 'scratch', 1: 'blob', 2: 'stain'}")
    )
    (fault,) = identified(content, card={"classes": ["stain", "blob", "scratch"]}).faults
    assert (fault.file, fault.key, fault.got) == ("model.yaml", "classes", "'stain' as class 0")
    assert fault.expected.startswith("class 2, as the file's metadata have it")
    assert not identified(content, card={"classes": ["Kratzer", "blob", "Fleck"]}).faults


def test_a_layout_that_the_file_contradicts_is_told_as_one() -> None:
    content = exported(
        output("output0", (1, 7, 8400)), metadata=ultralytics(names="{0: 'scratch', 1: 'blob', 2: 'stain'}")
    )
    (fault,) = identified(content, card={"decoder": "yolov5"}).faults
    assert (fault.file, fault.key, fault.got) == ("model.yaml", "decoder.kind", "'yolov5'")
    assert fault.expected.startswith("yolov8: output0 is 1 x 7 x 8400")


def test_an_exporters_defaults_do_not_hold_for_a_model_that_takes_bytes_since() -> None:
    """Its own input is float32: whoever changed that may have changed the order of the channels too."""
    content = exported(output("output0", (1, 84, 8400)), metadata=ultralytics(), dtype=UINT8)
    found = identified(content)
    assert asked(found) == {"input.colour_order"}
    assert (values(found)["input.dtype"], values(found)["input.scale"]) == ("uint8", 1.0)
    assert identified(content, card={"input": {"colour_order": "BGR"}}).is_complete


def test_an_export_whose_input_was_changed_is_asked_what_its_pixels_are() -> None:
    content = exported(output("output0", (1, 84, 8400)), metadata=ultralytics(), subtracts=[0.5, 0.5, 0.5])
    found = identified(content)
    assert asked(found) == {"input.colour_order", "input.scale", "input.mean", "input.std"}
    assert "first read by Sub" in found.questions[0].why


@pytest.mark.parametrize(("image", "rows", "known"), [(640, 300, True), (640, 8400, False), (64, 84, False)])
def test_a_row_for_each_cell_may_be_another_layout_turned(image: int, rows: int, known: bool) -> None:
    """With two classes yolov8 has six numbers a candidate; older versions of Ultralytics do not name the head."""
    metadata = ultralytics(names="{0: 'scratch', 1: 'blob'}")
    del metadata["end2end"]
    found = identified(exported(output("output0", (1, rows, 6)), image=(1, 3, image, image), metadata=metadata))
    assert (values(found).get("decoder.kind"), asked(found)) == (
        ("end_to_end", set()) if known else (None, {"decoder.kind"})
    )


def test_scores_are_not_normalised_twice() -> None:
    """Of a score that is 0..1 already, the ranges of raw ones would make 0."""
    outputs = (output("pred_score", (1, 1), "Clip"), output("anomaly_map", (1, 1, 64, 64), "Clip"))
    raw = {"image_threshold": 40.0, "image_min": 10.0, "image_max": 90.0}
    card = {"decoder": {"kind": "anomaly", "normalisation": raw}}
    (fault,) = identified(exported(*outputs), card=card).faults
    assert (fault.file, fault.key) == ("model.yaml", "decoder.normalisation")
    renamed = (output("score", (1, 1), "Clip"),)
    (fault,) = identified(exported(*renamed), card=card | {"outputs": {"pred_score": "score"}}).faults
    assert fault.key == "decoder.normalisation"
    assert not identified(exported(output("score", (1, 1))), card=card | {"outputs": {"pred_score": "score"}}).faults


def test_pixels_are_not_normalised_twice() -> None:
    content = exported(output("logits", (1, 5), "Gemm"), image=(1, 3, 224, 224), subtracts=[0.485, 0.456, 0.406])
    imagenet = {"colour_order": "BGR", "scale": UNIT, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    assert [fault.key for fault in identified(content, card={"input": imagenet}).faults] == [
        "input.colour_order",
        "input.mean",
        "input.std",
    ]
    right = {"colour_order": "RGB", "scale": UNIT, "mean": [0, 0, 0], "std": [1, 1, 1]}
    assert not identified(content, card={"input": right}).faults


def test_a_softmax_over_the_images_of_a_batch_makes_no_probabilities_of_a_row() -> None:
    content = exported(output("scores", (1, 5), SOFTMAX_OF_IMAGES), image=(1, 3, 224, 224))
    assert "decoder.activation" in asked(identified(content))
    assert "decoder.activation" not in asked(identified(exported(output("scores", (1, 5), "Softmax"))))


def test_what_a_card_with_gaps_leaves_out_is_asked() -> None:
    content = exported(output("logits", (1, 5), "Gemm"), image=(1, 3, 224, 224))
    pixels = {"colour_order": "RGB", "scale": UNIT, "mean": [0.0] * 3, "std": [1.0] * 3}
    found = identified(content, card={"classes": list("abcde"), "decoder": "classification", "input": pixels})
    assert asked(found) == {"decoder.activation", "input.fit"}


def test_what_the_card_says_holds() -> None:
    card = {"input": {"colour_order": "BGR", "fit": "stretch"}, "classes": [f"c{index}" for index in range(80)]}
    found = identified(exported(output("output0", (1, 84, 8400)), metadata=ultralytics()), card=card)
    assert found.is_complete
    assert (values(found)["input.colour_order"], values(found)["input.fit"]) == ("BGR", "stretch")
    assert sources(found)["input.colour_order"] == sources(found)["classes"] == "card"
    assert found.card()["classes"][0] == "c0"


def test_a_stripped_detector_is_asked_and_never_guessed() -> None:
    found = identified(exported(output("y0", (1, 84, 8400)), producer=""))
    assert asked(found) == PIXELS | {"decoder.kind", "classes"}
    (kind,) = (question for question in found.questions if question.key == "decoder.kind")
    assert "as yolov8 it would have 80 classes" in kind.why
    assert set(kind.choices) == set(DECODERS)


@pytest.mark.parametrize(
    "shape", [(1, 300, 6), (1, 8400, 85), (1, 25200, 85), (1, 3, 640, 640), (1, 1, 640, 640), (1, 1), (1,)]
)
def test_other_stripped_heads_are_asked(shape: tuple[int, ...]) -> None:
    found = identified(exported(output("y0", shape)))
    assert "decoder.kind" in asked(found)
    assert "task" not in values(found)


def test_what_the_card_answers_completes_a_stripped_detector() -> None:
    card = {
        "classes": [f"c{index}" for index in range(80)],
        "decoder": "yolov8",
        "input": {"colour_order": "RGB", "scale": UNIT, "mean": [0.0] * 3, "std": [1.0] * 3, "fit": "letterbox"},
    }
    found = identified(exported(output("y0", (1, 84, 8400))), card=card)
    assert found.is_complete
    assert (values(found)["task"], values(found)["outputs.predictions"]) == ("detection", "y0")
    (fault,) = identified(exported(output("y0", (1, 85, 8400))), card=card).faults
    assert (fault.key, fault.got) == ("classes", "80 classes")


@pytest.mark.parametrize(
    ("maker", "activation"), [("Softmax", "none"), ("Sigmoid", "none"), ("Gemm", None), ("Add", None)]
)
def test_classifiers_without_metadata_are_asked_what_shapes_do_not_say(maker: str, activation: str | None) -> None:
    found = identified(exported(output("logits", (1, 1000), maker), image=(1, 3, 224, 224), name="input"))
    assert asked(found) == PIXELS | {"classes"} | ({"decoder.activation"} if activation is None else set())
    known = values(found)
    assert (known["task"], known["decoder.kind"]) == ("classification", "classification")
    assert (known["input.width_px"], known["input.name"], known.get("decoder.activation")) == (224, "input", activation)
    (classes,) = (question for question in found.questions if question.key == "classes")
    assert "1000 names" in classes.why


@pytest.mark.parametrize("maker", ["Softmax", "Sigmoid"])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_probabilities_are_not_made_probabilities_once_more(maker: str, activation: str) -> None:
    def card_with(each: str) -> dict[str, Any]:
        return {"classes": list("abcde"), "decoder": {"kind": "classification", "activation": each}}

    for metadata in ({}, ultralytics("classify", 5)):
        content = exported(output("scores", (1, 5), maker), image=(1, 3, 224, 224), metadata=metadata)
        (fault,) = identified(content, card=card_with(activation)).faults
        assert (fault.file, fault.key, fault.got) == ("model.yaml", "decoder.activation", activation)
        assert not identified(content, card=card_with("none")).faults


@pytest.mark.parametrize(
    ("batch", "rows", "known"),
    [(1, 1, True), ("N", "N", True), (1, "Concat_dim", False), ("N", "M", False), ("", "", False), (1, 100, False)],
)
def test_rows_are_scores_only_where_there_is_one_for_each_image(batch: int | str, rows: int | str, known: bool) -> None:
    found = identified(exported(output("output", (rows, 7), "Gemm"), image=(batch, 3, 640, 640)))
    assert ("decoder.kind" in values(found), "decoder.kind" in asked(found)) == (known, not known)


def test_a_map_of_classes_beside_other_outputs_is_told_by_the_card() -> None:
    maps = (output("labels", (1, 640, 640), "Cast", UINT8), output("features", (1, 8, 80, 80)))
    content = exported(*maps, metadata=ultralytics("semantic", 3))
    assert identified(content).faults
    assert identified(content, card={"outputs": {"labels": "labels"}}).is_complete


@pytest.mark.parametrize(
    ("subtracts", "order", "scale"),
    [
        (IMAGENET, "RGB", UNIT),
        (IMAGENET[::-1], "BGR", UNIT),
        ([123.675, 116.28, 103.53], "RGB", 1.0),
        ([103.53, 116.28, 123.675], "BGR", 1.0),
    ],
)
def test_a_graph_that_normalises_itself_says_what_it_is_fed(subtracts: list[float], order: str, scale: float) -> None:
    found = identified(exported(output("scores", (1, 5), "Softmax"), image=(1, 3, 224, 224), subtracts=subtracts))
    assert asked(found) == {"classes", "input.fit"}
    known = values(found)
    assert (known["input.colour_order"], known["input.scale"]) == (order, scale)
    assert (known["input.mean"], known["input.std"]) == ([0.0] * 3, [1.0] * 3)


def test_a_graph_that_subtracts_something_else_says_nothing() -> None:
    found = identified(exported(output("scores", (1, 5), "Softmax"), image=(1, 3, 224, 224), subtracts=[0.5, 0.5, 0.5]))
    assert asked(found) >= PIXELS


def test_raw_pixels_need_no_normalisation() -> None:
    found = identified(exported(output("scores", (1, 5), "Softmax"), image=(1, 3, 224, 224), dtype=UINT8))
    assert asked(found) == {"classes", "input.fit", "input.colour_order"}
    assert (values(found)["input.dtype"], values(found)["input.scale"]) == ("uint8", 1.0)


@pytest.mark.parametrize(
    ("image", "dtype", "text"),
    [
        ((1, 224, 224, 3), 1, "shape [1, 224, 224, 3], channels last, expected NCHW"),
        (("N", "H", "W", 3), 1, "channels last"),
        ((1, 3, 224, 224), 10, "type float16, expected float32 or uint8: export the model in float32"),
        ((1, 3, 224, 224), 7, "type int64, expected float32 or uint8"),
        ((1, 4, 224, 224), 1, "4 channels, expected 1 (grey) or 3 (colour)"),
        ((1, 10), 1, "shape [1, 10], expected 4 dimensions"),
    ],
)
def test_inputs_that_cannot_be_fed_are_refused(image: tuple[int | str, ...], dtype: int, text: str) -> None:
    found = identified(exported(output("scores", (1, 5)), image=image, dtype=dtype))
    (fault,) = found.faults
    assert text in str(fault)
    assert not found.is_complete


@pytest.mark.parametrize("image", [("N", "C", "H", "W"), (1, 3, 3, 3), (1, 3, 224, 1)])
def test_a_layout_that_can_be_either_is_asked(image: tuple[int | str, ...]) -> None:
    found = identified(exported(output("scores", (1, 5)), image=image))
    assert "input.layout" in asked(found)
    answered = identified(exported(output("scores", (1, 5)), image=image), card={"input": {"layout": "NCHW"}})
    assert "input.layout" not in asked(answered)


FOUR = (
    output("pred_score", (1, 1), "Clip"),
    output("pred_label", (1, 1), "Greater", BOOL),
    output("anomaly_map", (1, 1, 256, 256), "Clip"),
    output("pred_mask", (1, 1, 256, 256), "Greater", BOOL),
)


RAW = (output("pred_score", (1,), "ReduceMax"), output("anomaly_map", (1, 1, 256, 256), "Conv"))


@pytest.mark.parametrize("some", [FOUR, FOUR[::-1], FOUR[:2], FOUR[2:], FOUR[::2]])
def test_anomalib_two_is_known_by_the_names_of_its_outputs(some: tuple[Any, ...]) -> None:
    found = identified(exported(*some, image=("batch_size", 3, 256, 256), name="input", subtracts=IMAGENET))
    assert found.is_complete
    known = values(found)
    assert (known["task"], known["decoder.kind"], known["classes"]) == ("anomaly", "anomaly", ["anomaly", "hot_region"])
    assert {key.removeprefix("outputs.") for key in known if key.startswith("outputs.")} == {each[0] for each in some}
    assert (known["input.colour_order"], known["input.scale"], known["input.fit"]) == ("RGB", UNIT, "stretch")
    assert "decoder.normalisation" not in known


def test_raw_scores_of_anomalib_two_are_asked() -> None:
    found = identified(exported(*RAW, name="input", subtracts=IMAGENET))
    assert asked(found) == {"decoder.normalisation"}
    assert identified(
        exported(*RAW, name="input", subtracts=IMAGENET), card={"decoder": {"kind": "anomaly"}}
    ).is_complete


def test_anomalib_two_without_its_pre_processor_is_asked_what_stands_before_it() -> None:
    assert asked(identified(exported(*FOUR, name="input"))) == PIXELS


def test_one_output_of_that_name_is_anybodys() -> None:
    found = identified(exported(output("anomaly_map", (1, 1, 256, 256), "Conv"), name="input"))
    assert asked(found) == PIXELS | {"decoder.normalisation"}


@pytest.mark.parametrize(
    ("shape", "role"), [((1, 1, 256, 256), "anomaly_map"), ((1, 256, 256), "anomaly_map"), ((1,), "pred_score")]
)
def test_anomalib_one_brings_its_thresholds_beside(shape: tuple[int, ...], role: str) -> None:
    sidecar = {"task": "segmentation", "image_threshold": 12.5, "pixel_threshold": 13.5, "min": 0.5, "max": 40.0}
    content = exported(output("output", shape, "Add"), image=(1, 3, 256, 256), name="input", subtracts=IMAGENET)
    found = identified(content, sidecar=sidecar)
    assert found.is_complete
    known = values(found)
    assert known[f"outputs.{role}"] == "output"
    image = {"image_threshold": 12.5, "image_min": 0.5, "image_max": 40.0}
    assert known["decoder.normalisation"] == image | {"pixel_threshold": 13.5, "pixel_min": 0.5, "pixel_max": 40.0}
    assert sources(found)["decoder.normalisation"] == "metadata.json"


def test_anomalib_one_point_zero_has_its_normalisation_beside_the_file() -> None:
    transforms = [
        {"__class_fullname__": "Resize", "height": 256, "width": 256},
        {"__class_fullname__": "Normalize", "mean": IMAGENET, "std": [0.229, 0.224, 0.225], "max_pixel_value": 255.0},
        {"__class_fullname__": "albumentations.pytorch.transforms.ToTensorV2"},
    ]
    sidecar = {
        "transform": {"transform": {"__class_fullname__": "Compose", "transforms": transforms}},
        "image_threshold": 12.5,
        "pixel_threshold": 13.5,
        "pred_scores.min": 0.5,
        "pred_scores.max": 40.0,
    }
    found = identified(exported(output("output", (1, 1, 256, 256), "Add"), name="input"), sidecar=sidecar)
    assert found.is_complete
    assert (values(found)["input.mean"], values(found)["input.scale"]) == (IMAGENET, UNIT)
    assert values(found)["decoder.normalisation"] == {"image_threshold": 12.5, "image_min": 0.5, "image_max": 40.0}
    without = identified(
        exported(output("output", (1, 1, 256, 256), "Add"), name="input"),
        sidecar={"image_threshold": 1.0, "min": 0, "max": 2},
    )
    assert asked(without) == PIXELS


SIDECAR = {"image_threshold": 2.5, "pixel_threshold": 2.4, "min": 0.5, "max": 4.0}


@pytest.mark.parametrize("outputs", [FOUR, FOUR[:2], RAW, (output("output", (1, 1, 256, 256), "Clip"),)])
def test_thresholds_beside_a_model_that_needs_none_are_asked(outputs: tuple[Any, ...]) -> None:
    content = exported(*outputs, name="input", subtracts=IMAGENET)
    found = identified(content, sidecar=SIDECAR)
    assert asked(found) == {"decoder.normalisation"}
    (question,) = found.questions
    assert question.why.startswith("metadata.json beside the file is for raw scores of Anomalib 1, but the ")
    assert found.exporter == ("Anomalib 2" if len(outputs) > 1 else "Anomalib 1")
    answered = identified(content, sidecar=SIDECAR, card={"decoder": "anomaly"})
    assert answered.is_complete
    assert "decoder.normalisation" not in values(answered)


@pytest.mark.parametrize(
    "outputs",
    [
        (output("logits", (1, 1, 160, 160), "Resize"),),
        (output("output", (1, 2, 160, 160), "Resize"),),
        (output("output", (1, 160, 160), "ArgMax", INT64),),
        (output("output", (1, 1, 160, 160)), output("289", (1, 1, 160, 160))),
    ],
)
def test_thresholds_beside_outputs_that_anomalib_one_never_had_say_nothing(outputs: tuple[Any, ...]) -> None:
    found = identified(exported(*outputs, name="input", subtracts=IMAGENET), sidecar=SIDECAR)
    assert {"decoder.kind", "classes"} <= asked(found)
    assert not found.exporter.startswith("Anomalib")


def test_a_fault_is_one_line_that_cannot_rule_a_terminal() -> None:
    (fault,) = identified(exported(output("scores", (1, 5)), name="x\x1b[31m\nruns 5 ms\r", dtype=INT64)).faults
    assert "\x1b" in fault.key
    assert str(fault).isprintable()
    assert "input x?[31m runs 5 ms" in str(fault)


def test_foreign_heads_are_asked() -> None:
    found = identified(
        exported(
            output("boxes", ("n", 4)), output("labels", ("n",), "Gather", INT64), output("scores", ("n",)), name="image"
        )
    )
    assert "decoder.kind" in asked(found)


def test_a_model_of_several_inputs_is_refused() -> None:
    import onnx
    from onnx import helper

    model = onnx.load_model_from_string(exported(output("scores", (1, 5))))
    model.graph.input.append(helper.make_tensor_value_info("im_shape", 1, [1, 2]))
    (fault,) = identified(model.SerializeToString()).faults
    assert (fault.key, fault.got) == ("inputs", "2 (images, im_shape)")


SIZES = st.integers(0, 9000) | st.sampled_from(["N", "", 3, 6, 84, 85, 8400, 25200])


@given(
    image=st.lists(SIZES, max_size=5),
    shapes=st.lists(st.lists(SIZES, max_size=5), min_size=1, max_size=4),
    metadata=st.sampled_from([{}, ultralytics(), ultralytics("segment", 2), ultralytics("classify", 6), yolov5(1)]),
    names=st.permutations(["output0", "output1", "anomaly_map", "pred_score", "boxes"]),
)
def test_any_file_is_known_or_asked_or_refused(
    image: list[int | str], shapes: list[list[int | str]], metadata: dict[str, str], names: list[str]
) -> None:
    outputs = [output(name, shape) for name, shape in zip(names, shapes, strict=False)]
    try:
        found = identified(exported(*outputs, image=image, metadata=metadata))
    except RefusedModel:  # of too many elements
        return
    if found.is_complete:
        assert {"task", "decoder.kind", "classes", "input.scale", "input.width_px"} <= set(values(found))
    assert not asked(found) & set(values(found))
