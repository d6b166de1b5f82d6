"""ONNX files that must not be loaded, each small on disk and large, deep or elsewhere once it is followed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET = 17


def model_of(
    nodes: Sequence[onnx.NodeProto],
    *,
    initializers: Sequence[onnx.TensorProto] = (),
    functions: Sequence[onnx.FunctionProto] = (),
    domains: Sequence[str] = (),
    opset: int = _OPSET,
    ir_version: int = 8,
) -> onnx.ModelProto:
    """``image`` (N, 1, 16, 16) -> ``probabilities`` (N, 2)."""
    return helper.make_model(
        helper.make_graph(
            list(nodes),
            "hostile",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 1, 16, 16])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])],
            list(initializers),
        ),
        opset_imports=[helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)],
        ir_version=ir_version,
        functions=list(functions),
    )


def answer_from(scalar: str) -> list[onnx.NodeProto]:
    """Nodes that make (N, 2) of the image's mean and a scalar, so that nothing before them is left out as unused."""
    return [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Mul", ["mean", "nothing"], ["none"]),
        helper.make_node("Mul", [scalar, "nothing"], ["no_scalar"]),
        helper.make_node("Add", ["none", "no_scalar"], ["flat"]),
        helper.make_node("Reshape", ["flat", "column"], ["one"]),
        helper.make_node("Concat", ["one", "one"], ["probabilities"], axis=1),
    ]


def answer_constants() -> list[onnx.TensorProto]:
    return [integers("column", [-1, 1]), numpy_helper.from_array(np.array(0.0, np.float32), "nothing")]


def integers(name: str, values: Sequence[int]) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def huge(operator: str, *inputs: str, sizes: Sequence[int]) -> onnx.ModelProto:
    """An operator whose result has ``sizes``, summed up."""
    nodes = [
        helper.make_node(operator, [*inputs, "sizes"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        *answer_from("sum"),
    ]
    return model_of(nodes, initializers=[integers("sizes", sizes), *answer_constants()])


def resized(operator: str, *inputs: str, scales: Sequence[float], opset: int = _OPSET) -> onnx.ModelProto:
    """An image enlarged by ``scales``, summed up."""
    nodes = [
        helper.make_node(operator, ["image", *inputs], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        *answer_from("sum"),
    ]
    factors = numpy_helper.from_array(np.array(scales, np.float32), "scales")
    return model_of(nodes, initializers=[factors, *answer_constants()], opset=opset)


def declaring(dims: Sequence[int]) -> onnx.ModelProto:
    """A file that says a tensor inside it, called wide, had ``dims``."""
    model = with_weight(lambda weight: None)
    model.graph.value_info.append(helper.make_tensor_value_info("wide", TensorProto.FLOAT, dims))
    return model


def constant_shape(size: int) -> list[onnx.NodeProto]:
    """Nodes with a tensor of ``size`` elements, whose shape another node holds."""
    return [
        helper.make_node("Constant", [], ["sizes"], value=integers("sizes", [size])),
        helper.make_node("ConstantOfShape", ["sizes"], ["huge"]),
    ]


def of_function(nodes: Sequence[onnx.NodeProto], *, default: bool = False) -> onnx.ModelProto:
    """``nodes`` in a function of the file's own; ``default``: with an attribute whose default lies in another file."""
    inner = [*nodes, helper.make_node("Identity", ["image"], ["same"])]
    function = helper.make_function("own", "f", ["image"], ["same"], inner, [helper.make_opsetid("", _OPSET)])
    if default:
        tensor = numpy_helper.from_array(np.zeros(4, np.float32), "weight")
        elsewhere("weights.bin")(tensor)
        function.attribute_proto.append(helper.make_attribute("weight", tensor))
    call = [
        helper.make_node("f", ["image"], ["same"], domain="own"),
        helper.make_node("ReduceSum", ["same"], ["sum"], keepdims=0),
        *answer_from("sum"),
    ]
    return model_of(call, initializers=answer_constants(), functions=[function], domains=["own"])


def many_inputs(*, fed: bool) -> onnx.ModelProto:
    """A thousand inputs and as many initializers, which feed them or bear other names."""
    names = [f"w{index}" for index in range(1000)]
    weights = [numpy_helper.from_array(np.zeros(1, np.float32), name if fed else f"other {name}") for name in names]
    model = model_of(answer_from("nothing"), initializers=[*weights, *answer_constants()])
    model.graph.input.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in names)
    return model


def hidden_gigabytes(count: int) -> onnx.ModelProto:
    """A tensor of ``count`` floats whose size only a run can tell: it is computed from the input's shape."""
    nodes = [
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Gather", ["shape", "first"], ["rows"]),
        helper.make_node("Mul", ["rows", "many"], ["sizes"]),
        helper.make_node("ConstantOfShape", ["sizes"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        *answer_from("sum"),
    ]
    return model_of(nodes, initializers=[integers("first", [0]), integers("many", [count]), *answer_constants()])


def endless_loop() -> onnx.ModelProto:
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Sin", ["value"], ["next"])],
        "body",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("value", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
    )
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["start"], axes=[0, 1, 2, 3], keepdims=0),
        helper.make_node("Loop", ["turns", "yes", "start"], ["end"], body=body),
        *answer_from("end"),
    ]
    constants = [
        numpy_helper.from_array(np.array(1 << 62, np.int64), "turns"),
        numpy_helper.from_array(np.array(True), "yes"),
    ]
    return model_of(nodes, initializers=[*constants, *answer_constants()])


def deep(levels: int) -> onnx.ModelProto:
    """If inside If, ``levels`` graphs under the first."""

    def branch(name: str, nodes: list[onnx.NodeProto]) -> onnx.GraphProto:
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)])

    inner = branch("r0", [helper.make_node("Identity", ["image"], ["r0"])])
    for level in range(1, levels):
        other = branch(f"e{level}", [helper.make_node("Identity", ["image"], [f"e{level}"])])
        node = helper.make_node("If", ["yes"], [f"r{level}"], then_branch=inner, else_branch=other)
        inner = branch(f"r{level}", [node])
    other = branch("e", [helper.make_node("Identity", ["image"], ["e"])])
    nodes = [
        helper.make_node("If", ["yes"], ["same"], then_branch=inner, else_branch=other),
        helper.make_node("ReduceMean", ["same"], ["scalar"], axes=[0, 1, 2, 3], keepdims=0),
        *answer_from("scalar"),
    ]
    return model_of(nodes, initializers=[numpy_helper.from_array(np.array(True), "yes"), *answer_constants()])


def calls(depth: int, width: int, *, endless: bool = False) -> onnx.ModelProto:
    """Functions that call one another, ``width`` ** ``depth`` nodes once written out."""
    functions = []
    for level in range(depth):
        called = level - 1 if level else (depth - 1 if endless else None)
        chain = [f"v{step}" for step in range(width)]
        nodes = [
            helper.make_node(
                "Neg" if called is None else f"f{called}", [value], [after], domain="" if called is None else "own"
            )
            for value, after in zip(["a", *chain], [*chain[:-1], "b"], strict=False)
        ]
        opsets = [helper.make_opsetid("", _OPSET), helper.make_opsetid("own", 1)]
        functions.append(helper.make_function("own", f"f{level}", ["a"], ["b"], nodes, opsets))
    nodes = [
        helper.make_node(f"f{depth - 1}", ["image"], ["same"], domain="own"),
        helper.make_node("ReduceMean", ["same"], ["scalar"], axes=[0, 1, 2, 3], keepdims=0),
        *answer_from("scalar"),
    ]
    return model_of(nodes, initializers=answer_constants(), functions=functions, domains=["own"])


def chain(count: int) -> onnx.ModelProto:
    names = ["image", *(f"t{step}" for step in range(count))]
    nodes = [helper.make_node("Neg", [value], [after]) for value, after in pairwise(names)]
    nodes.append(helper.make_node("ReduceMean", [names[-1]], ["scalar"], axes=[0, 1, 2, 3], keepdims=0))
    return model_of([*nodes, *answer_from("scalar")], initializers=answer_constants())


def with_weight(change: Callable[[onnx.TensorProto], None]) -> onnx.ModelProto:
    """A scalar weight of four floats, changed."""
    weight = numpy_helper.from_array(np.zeros(4, np.float32), "weight")
    change(weight)
    nodes = [helper.make_node("ReduceSum", ["weight"], ["scalar"], keepdims=0), *answer_from("scalar")]
    return model_of(nodes, initializers=[weight, *answer_constants()])


def elsewhere(location: str, **entries: str) -> Callable[[onnx.TensorProto], None]:
    """The weight's data in another file."""

    def change(weight: onnx.TensorProto) -> None:
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
        for key, value in {"location": location, "offset": "0", "length": "16", **entries}.items():
            entry = weight.external_data.add()
            entry.key, entry.value = key, value

    return change


def empty_nodes(count: int) -> bytes:
    """A file of ``count`` nodes of two bytes each: each takes a hundred bytes once it is parsed."""
    nodes = b"\x0a\x00" * count
    size, length = len(nodes), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return b"\x08\x08" + b"\x3a" + length + bytes([size]) + nodes + b"\x42\x02\x10\x11"
