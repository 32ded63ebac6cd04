"""Parts of heads as somebody would make them who means harm; each takes the linear part's place."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tests.support.heads import learned_head

Change = Callable[[ModelProto], object]


def changed(change: Change) -> bytes:
    """The linear part of a head after a change."""
    model = onnx.load_from_string(learned_head().files.light)
    change(model)
    return bytes(model.SerializeToString())


def _before(*nodes: NodeProto) -> Change:
    """Nodes at the beginning of the graph."""

    def insert(model: ModelProto) -> None:
        kept = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*nodes, *kept])

    return insert


def _node(operation: str, *inputs: str, output: str = "evil", **attributes: Any) -> NodeProto:
    return helper.make_node(operation, list(inputs), [output], **attributes)


def _tensor(name: str, array: np.ndarray) -> Change:
    return lambda m: m.graph.initializer.append(numpy_helper.from_array(array, name))


def _all(*changes: Change) -> Change:
    return lambda m: [change(m) for change in changes]


def _external(location: str) -> Change:
    def change(model: ModelProto) -> None:
        tensor = model.graph.initializer[0]
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)

    return change


def _endless() -> Change:
    """A loop of 10^15 turns."""
    turn = helper.make_graph(
        [_node("Identity", "go", output="on"), _node("Identity", "x", output="y")],
        "turn",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    return _all(
        _tensor("turns", np.array(10**15, np.int64)),
        _tensor("true", np.array(True)),
        _before(_node("Loop", "turns", "true", "cosines", body=turn)),
    )


def _branch() -> Change:
    taken = helper.make_graph([], "taken", [], [])
    return _before(_node("If", "cosines", then_branch=taken, else_branch=taken))


def _functions(model: ModelProto) -> None:
    plus = helper.make_node("Add", ["a", "a"], ["b"])
    opsets = [helper.make_opsetid("", 20)]
    model.functions.append(helper.make_function("local", "Twice", ["a"], ["b"], [plus], opsets))


def _sparse(model: ModelProto) -> None:
    values = numpy_helper.from_array(np.ones(1, np.float32), "values")
    places = numpy_helper.from_array(np.zeros(1, np.int64))
    sparse = helper.make_sparse_tensor(values, places, [10**9])
    model.graph.sparse_initializer.append(sparse)


def _subgraph(model: ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "Concat")
    graph = helper.make_graph([], "inside", [], [])
    node.attribute.append(helper.make_attribute("body", graph))


def _tensor_attribute(model: ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "Concat")
    node.attribute[0].t.CopyFrom(numpy_helper.from_array(np.zeros(9, np.float32)))


def _attribute_of_floats(model: ModelProto) -> None:
    node = next(n for n in model.graph.node if n.op_type == "Concat")
    node.attribute[0].type = AttributeProto.FLOATS


def million_nodes() -> bytes:
    """A graph of 10^6 nodes, each of an operator that heads have."""
    node = _node("Identity", "cosines").SerializeToString()
    nodes = (b"\x0a%c" % len(node) + node) * 10**6
    return b"\x3a" + _varint(len(nodes)) + nodes


def _varint(value: int) -> bytes:
    digits = b""
    while value >= 0x80:
        digits += bytes([value & 0x7F | 0x80])
        value >>= 7
    return digits + bytes([value])


def _many_nodes(count: int) -> Change:
    return lambda m: m.graph.node.extend(
        [_node("Identity", "cosines", output=f"x{n}") for n in range(count)]
    )


def _dims(*dims: int) -> Change:
    def change(model: ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)

    return change


def _outer(width: int, times: int) -> Change:
    """A plain product of two thin matrices, [width, 1] and [1, width], some times over."""
    nodes = [_node("MatMul", "tall", "flat", output="m0")]
    nodes += [_node("MatMul", f"m{n}", "m0", output=f"m{n + 1}") for n in range(times)]
    at_run_time = _node("Mul", "tall_", "seeker_1", output="tall")
    reduced = _node("ReduceSum", "cosines", output="seeker_1", keepdims=1)
    last = _node("ReduceSum", f"m{times}", output="all", keepdims=1)

    return _all(
        _tensor("tall_", np.ones((width, 1), np.float32)),
        _tensor("flat", np.ones((1, width), np.float32)),
        _used(_before(reduced, at_run_time, *nodes, last)),
    )


def _used(insert: Change) -> Change:
    """What is inserted is added to the logits, times 0: it must be done, and changes nothing."""

    def change(model: ModelProto) -> None:
        insert(model)
        end = model.graph.node.pop()
        nothing = _node("Mul", "all", "zero", output="nothing")
        added = _node("Add", str(end.input[0]), "nothing", output="used")
        end.input[0] = "used"
        model.graph.node.extend([nothing, added, end])
        _tensor("zero", np.zeros((1, 1), np.float32))(model)

    return change


GRAPHS: Mapping[str, tuple[Change, str]] = {
    "numbers in the folder above": (_external("../weights"), "the field 1[34] of a tensor"),
    "numbers in a file of the machine": (_external("/etc/passwd"), "the field 1[34] of a tensor"),
    "numbers in a file beside it, perhaps a hard link": (
        _external("weights"),
        "the field 1[34] of a tensor",
    ),
    "an endless loop": (_endless(), "the operator 'Loop'|the field 6 of a attribute"),
    "a loop without a body": (_before(_node("Loop", "cosines")), "the operator 'Loop'"),
    "a branch": (_branch(), "the operator 'If'|the field 6 of a attribute"),
    "a scan": (_before(_node("Scan", "cosines", num_scan_inputs=1)), "the operator 'Scan'"),
    "40,000 x 40,000 out of one number": (
        _all(
            _tensor("wide", np.array([40_000, 40_000], np.int64)),
            _before(_node("Expand", "cosines", "wide")),
        ),
        "the operator 'Expand'",
    ),
    "14 GB of zeros": (
        _all(
            _tensor("wide", np.array([60_000, 60_000], np.int64)),
            _before(_node("ConstantOfShape", "wide")),
        ),
        "the operator 'ConstantOfShape'",
    ),
    "an operator of somebody's own": (
        _before(_node("Evil", "cosines", domain="com.evil")),
        "the field 7 of a node",
    ),
    "operators of somebody's own": (
        lambda m: m.opset_import.append(helper.make_opsetid("com.evil", 1)),
        "ONNX's operators 20 alone",
    ),
    "operators of another version": (
        lambda m: setattr(m.opset_import[0], "version", 21),
        "ONNX's operators 20 alone",
    ),
    "another version of the format": (
        lambda m: setattr(m, "ir_version", 11),
        "ONNX's operators 20 alone",
    ),
    "functions": (_functions, "the field 25 of a model"),
    "notes": (lambda m: m.metadata_props.add(key="a", value="b"), "the field 14 of a model"),
    "training": (lambda m: m.training_info.add(), "the field 20 of a model"),
    "sparse numbers": (_sparse, "the field 15 of a graph"),
    "a graph in a plain operator": (_subgraph, "the field 6 of a attribute"),
    "numbers in a plain operator": (_tensor_attribute, "the field 5 of a attribute"),
    "an attribute of another type": (_attribute_of_floats, "an attribute that is no number"),
    "an attribute too many": (
        lambda m: m.graph.node[0].attribute.append(helper.make_attribute("axis", 1)),
        "other attributes than heads have",
    ),
    "many nodes": (_many_nodes(20_000), "more than 8192 nodes"),
    "a node of a thousand inputs": (
        _before(_node("Concat", *["cosines"] * 1_000, axis=1)),
        "too many inputs",
    ),
    "a shape of 2^40 numbers": (_dims(2**20, 2**20), "do not fill its shape"),
    "a shape that wraps around": (_dims(2**32, 2**32), "do not fill its shape"),
    "a negative shape": (_dims(-1, -12), "do not fill its shape"),
    "texts for numbers": (
        lambda m: m.graph.initializer.add(data_type=TensorProto.STRING, string_data=[b"x"]),
        "the field 6 of a tensor",
    ),
    "numbers of another type": (_tensor("d", np.zeros(3)), "another type or rank"),
    "an open width": (
        lambda m: setattr(m.graph.input[0].type.tensor_type.shape.dim[1], "dim_param", "k"),
        "no fixed width",
    ),
    "three dimensions": (
        lambda m: m.graph.output[0].type.tensor_type.shape.dim.add(dim_value=1),
        "something else than matrices",
    ),
    "whole numbers going in": (
        lambda m: setattr(m.graph.input[0].type.tensor_type, "elem_type", TensorProto.INT64),
        "something else than matrices",
    ),
    "a second result": (
        lambda m: m.graph.output.append(m.graph.output[0]),
        "not one output",
    ),
    "texts out of numbers": (
        _before(_node("Cast", "cosines", to=TensorProto.STRING)),
        "casts to something else",
    ),
    "a name without end": (
        lambda m: setattr(m.graph.node[0], "name", "x" * 10_000),
        "a name of more than",
    ),
}
"""What a graph has, how it comes to have it, and why it is refused before anything opens it."""


def memory_bomb() -> bytes:
    """784 MB out of plain operators: only the limit on the process that tries it stops this."""
    return changed(_outer(14_000, 0))


def endless_work() -> bytes:
    """2 x 10^12 multiplications by plain operators."""
    return changed(_outer(1_500, 300))
