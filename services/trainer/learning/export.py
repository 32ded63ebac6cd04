"""Writing the parts of a head as ONNX.

The parts use two dozen operators, so their graphs are traced with torch.fx and written operator by
operator: in milliseconds, and the same module gives the same bytes on any machine. torch's own
exporter takes over ten seconds for them and leaves file names and stack traces in the file. What is
written is compared with what was traced at every export.
"""

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import fx, nn

OPSET = 20
IR_VERSION = 10
TRACED = "_tensor_constant"

Shape = list[str | int]
Handler = Callable[["_Writer", fx.Node], str]


class UnsupportedOperatorError(Exception):
    """A part uses an operator that has no translation here."""


def export_onnx(module: nn.Module, inputs: dict[str, Shape], output: str, shape: Shape) -> bytes:
    """Returns a module as one self-contained ONNX file.

    Args:
        module: takes the inputs in their order; float32 all.
        inputs: names and shapes; a name in a shape is a free dimension.
        output: the output's name.
        shape: the output's shape.

    Raises:
        UnsupportedOperatorError: names the operator.
    """
    writer = _Writer(fx.symbolic_trace(module.eval()), list(inputs))
    result = writer.write()
    graph = helper.make_graph(
        [*writer.nodes, helper.make_node("Identity", [result], [output])],
        "head",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)],
        writer.initializers,
    )
    model = helper.make_model(
        graph,
        producer_name="trine",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


class _Writer:
    """Walks a traced graph and writes its nodes."""

    def __init__(self, traced: fx.GraphModule, inputs: list[str]) -> None:
        self._traced = traced
        self._inputs = iter(inputs)
        self._names: dict[fx.Node, str] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def write(self) -> str:
        """Writes everything and returns the name of the result."""
        for node in self._traced.graph.nodes:
            if node.op == "output":
                return self.name(node.args[0])
            self._names[node] = self._write(node)
        raise AssertionError("a traced graph has an output")

    def _write(self, node: fx.Node) -> str:
        if node.op == "placeholder":
            return next(self._inputs)
        if node.op == "get_attr":
            path = str(node.target)
            value = _attribute(self._traced, path)
            # Tracing counts on where it finds constants of its own from before.
            return self.constant(value, "" if path.startswith(TRACED) else path)
        handler = HANDLERS.get(node.target)
        if handler is None:
            raise UnsupportedOperatorError(f"{node.target} has no translation to ONNX")
        return handler(self, node)

    def name(self, value: Any) -> str:
        """The name of a node's result, or of a number as a constant."""
        if isinstance(value, fx.Node):
            return self._names[value]
        if isinstance(value, torch.Tensor):
            return self.constant(value)
        return self.constant(torch.tensor(value, dtype=torch.float32))

    def constant(self, value: torch.Tensor, path: str = "") -> str:
        """Adds an initializer; what the module holds stands there once, under its path."""
        name = path or f"c{len(self.initializers)}"
        if all(name != known.name for known in self.initializers):
            array = np.ascontiguousarray(value.detach().cpu().numpy())
            self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def integers(self, *values: int) -> str:
        """Adds an initializer of indices."""
        return self.constant(torch.tensor(values, dtype=torch.int64))

    def add(self, operation: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node and returns the name of its result."""
        name = f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operation, list(inputs), [name], **attributes))
        return name


def _plain(operation: str) -> Handler:
    """An operator whose arguments are all tensors or numbers."""
    return lambda writer, node: writer.add(operation, *(writer.name(a) for a in node.args))


def _clamp(writer: _Writer, node: fx.Node) -> str:
    value, low, high = node.args
    return writer.add("Clip", writer.name(value), writer.name(low), writer.name(high))


def _cat(writer: _Writer, node: fx.Node) -> str:
    parts, axis = node.args
    assert isinstance(parts, list | tuple)
    return writer.add("Concat", *(writer.name(part) for part in parts), axis=axis)


def _index_select(writer: _Writer, node: fx.Node) -> str:
    value, axis, indices = node.args
    return writer.add("Gather", writer.name(value), writer.name(indices), axis=axis)


def _narrow(writer: _Writer, node: fx.Node) -> str:
    value, axis, start, length = node.args
    assert isinstance(axis, int)
    assert isinstance(start, int)
    assert isinstance(length, int)
    bounds = (writer.integers(start), writer.integers(start + length), writer.integers(axis))
    return writer.add("Slice", writer.name(value), *bounds)


def _sum(writer: _Writer, node: fx.Node) -> str:
    value, axis = node.args
    assert node.kwargs == {"keepdim": True}
    assert isinstance(axis, int)
    return writer.add("ReduceSum", writer.name(value), writer.integers(axis), keepdims=1)


def _float(writer: _Writer, node: fx.Node) -> str:
    return writer.add("Cast", writer.name(node.args[0]), to=TensorProto.FLOAT)


HANDLERS: dict[Any, Handler] = {
    operator.add: _plain("Add"),
    operator.sub: _plain("Sub"),
    operator.mul: _plain("Mul"),
    operator.truediv: _plain("Div"),
    torch.matmul: _plain("MatMul"),
    torch.sigmoid: _plain("Sigmoid"),
    torch.relu: _plain("Relu"),
    torch.sqrt: _plain("Sqrt"),
    torch.isnan: _plain("IsNaN"),
    torch.where: _plain("Where"),
    torch.eq: _plain("Equal"),
    torch.clamp: _clamp,
    torch.cat: _cat,
    torch.index_select: _index_select,
    torch.narrow: _narrow,
    torch.sum: _sum,
    "float": _float,
    # A constant on the left of an operator reaches the trace as a method of a tensor.
    "add": _plain("Add"),
    "mul": _plain("Mul"),
    "sub": _plain("Sub"),
}


def _attribute(module: nn.Module, path: str) -> torch.Tensor:
    *parents, name = path.split(".")
    owner = module.get_submodule(".".join(parents))
    value = getattr(owner, name)
    assert isinstance(value, torch.Tensor)
    return value
