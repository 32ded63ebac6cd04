"""What of ONNX a head may be made of, looked up in the bytes before any library opens them.

A file of ONNX may loop without end, take all memory, or name other files. Heads need none of that:
a graph without branches, of two dozen plain operators, with its numbers inside it. So what is read
here is only that: a field of the format which heads do not have is refused, whatever it says, and
with it external data, subgraphs, functions, sparse tensors and whatever comes to be in later
versions. The numbers of fields are those of onnx.proto3 (ONNX 1.23, IR version 10).
"""

from collections.abc import Mapping
from typing import Any

from services.serving.core.errors import HeadRefusedError

IR_VERSION = 10
OPSET = 20
NODES_MAX = 8_192
"""A model that goes on from a model has the nodes of all that that one went on from."""
INITIALIZERS_MAX = 16_384
FIELDS_MAX = 200_000
"""So reading takes a fraction of a second, whatever a file is made of."""
NAME_BYTES_MAX = 4_096
NODE_INPUTS_MAX = 16
RANK_MAX = 4
WIDTH_MAX = 65_536

FLOAT, INT64 = 1, 7
ITEM_BYTES = {FLOAT: 4, INT64: 8}
INT_ATTRIBUTE = 2

OPERATORS: Mapping[bytes, frozenset[bytes]] = {
    **dict.fromkeys(
        b"Add Clip Div Equal Identity IsNaN MatMul Mul Relu Sigmoid Slice Sqrt Sub Where".split(),
        frozenset[bytes](),
    ),
    b"Cast": frozenset({b"to"}),
    b"Concat": frozenset({b"axis"}),
    b"Gather": frozenset({b"axis"}),
    b"ReduceSum": frozenset({b"keepdims"}),
}
"""What the trainer writes, with their attributes; a whole number each."""

_INT, _BYTES = "int", "bytes"
_MANY = "*"
_MESSAGES: Mapping[str, Mapping[int, tuple[str, str]]] = {
    "model": {
        1: ("ir_version", _INT),
        2: ("producer_name", _BYTES),
        7: ("graph", "graph"),
        8: ("opset_import", "*opset"),
    },
    "opset": {1: ("domain", _BYTES), 2: ("version", _INT)},
    "graph": {
        1: ("node", "*node"),
        2: ("name", _BYTES),
        5: ("initializer", "*tensor"),
        11: ("input", "*value"),
        12: ("output", "*value"),
    },
    "node": {
        1: ("input", "*bytes"),
        2: ("output", "*bytes"),
        3: ("name", _BYTES),
        4: ("op_type", _BYTES),
        5: ("attribute", "*attribute"),
    },
    "attribute": {1: ("name", _BYTES), 3: ("i", _INT), 20: ("type", _INT)},
    "tensor": {
        1: ("dims", "*int"),
        2: ("data_type", _INT),
        8: ("name", _BYTES),
        9: ("raw_data", _BYTES),
    },
    "value": {1: ("name", _BYTES), 2: ("type", "type")},
    "type": {1: ("tensor_type", "tensor_type")},
    "tensor_type": {1: ("elem_type", _INT), 2: ("shape", "shape")},
    "shape": {1: ("dim", "*dim")},
    "dim": {1: ("dim_value", _INT), 2: ("dim_param", _BYTES)},
}
"""By message and number: name and type of the fields that heads have; a star for many."""
_NUMBERS_IN_BYTES = {("tensor", "raw_data")}

Message = dict[str, Any]


def check_graph(content: bytes) -> None:
    """Refuses a part of a head that is more than such a part needs to be.

    Raises:
        HeadRefusedError: says what it has.
    """
    model = _Reader(content).read("model", 0, len(content))
    opsets = [(each.get("domain", b""), each.get("version")) for each in model["opset_import"]]
    if (model.get("ir_version"), opsets) != (IR_VERSION, [(b"", OPSET)]):
        raise HeadRefusedError(f"is not of ONNX's operators {OPSET} alone")
    graph = model.get("graph")
    if graph is None:
        raise HeadRefusedError("has no graph")
    if len(graph["node"]) > NODES_MAX or len(graph["initializer"]) > INITIALIZERS_MAX:
        raise HeadRefusedError(f"has more than {NODES_MAX} nodes or {INITIALIZERS_MAX} tensors")
    for node in graph["node"]:
        _check_node(node)
    for tensor in graph["initializer"]:
        _check_tensor(tensor)
    if not graph["input"] or len(graph["output"]) != 1:
        raise HeadRefusedError("has no input, or not one output")
    for value in (*graph["input"], *graph["output"]):
        _check_value(value)


def _check_node(node: Message) -> None:
    operator = node.get("op_type", b"")
    known = OPERATORS.get(operator)
    if known is None:
        raise HeadRefusedError(f"has the operator {_told(operator)}")
    if len(node["input"]) > NODE_INPUTS_MAX or len(node["output"]) != 1:
        raise HeadRefusedError(f"has {_told(operator)} with too many inputs or outputs")
    names = [attribute.get("name", b"") for attribute in node["attribute"]]
    if set(names) - known or len(set(names)) != len(names):
        raise HeadRefusedError(f"has {_told(operator)} with other attributes than heads have")
    for attribute in node["attribute"]:
        if attribute.get("type") != INT_ATTRIBUTE:
            raise HeadRefusedError(f"has {_told(operator)} with an attribute that is no number")
        if operator == b"Cast" and attribute.get("i") != FLOAT:
            raise HeadRefusedError("casts to something else than float")


def _check_tensor(tensor: Message) -> None:
    size, dims = ITEM_BYTES.get(tensor.get("data_type", 0)), tensor["dims"]
    if size is None or len(dims) > RANK_MAX:
        raise HeadRefusedError("has a tensor of another type or rank than heads have")
    for dim in dims:  # one that is negative reads as at least 2^63
        size *= dim
    if size != tensor.get("raw_data", 0):
        raise HeadRefusedError("has a tensor whose bytes do not fill its shape")


def _check_value(value: Message) -> None:
    tensor = value.get("type", {}).get("tensor_type", {})
    dims = tensor.get("shape", {"dim": []})["dim"]
    if tensor.get("elem_type") != FLOAT or len(dims) != 2:
        raise HeadRefusedError("reads or gives something else than matrices of floats")
    if dims[1].get("dim_value", WIDTH_MAX + 1) > WIDTH_MAX or "dim_param" in dims[1]:
        raise HeadRefusedError("reads or gives a matrix of no fixed width")


def _told(name: bytes) -> str:
    return repr(name[:64].decode("ascii", "replace"))


class _Reader:
    """Walks the wire format of Protocol Buffers; only what `_MESSAGES` has may come."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._place = 0
        self._fields_count = 0

    def read(self, kind: str, start: int, end: int) -> Message:
        """The fields of a message from `start` to `end`, lists for those that may be many.

        Of a tensor's numbers only how many bytes they are.
        """
        fields = _MESSAGES[kind]
        found: Message = {name: [] for name, type_ in fields.values() if type_[0] == _MANY}
        self._place = start
        while self._place < end:
            self._fields_count += 1
            if self._fields_count > FIELDS_MAX:
                raise HeadRefusedError(f"has more than {FIELDS_MAX} fields")
            key = self._varint(end)
            if key >> 3 not in fields:
                raise HeadRefusedError(f"has the field {key >> 3} of a {kind}, which no head has")
            name, type_ = fields[key >> 3]
            if key & 7 != (0 if type_.endswith(_INT) else 2):
                raise HeadRefusedError(f"has a {kind} with {name} of another type")
            value = self._varint(end)
            if key & 7 == 2:
                value = self._inside(kind, name, type_.removeprefix(_MANY), value, end)
            if type_[0] == _MANY:
                found[name].append(value)
            elif name in found:
                # Readers differ in what they make of a field that comes twice.
                raise HeadRefusedError(f"has a {kind} with {name} twice")
            else:
                found[name] = value
        return found

    def _inside(self, kind: str, name: str, type_: str, length: int, end: int) -> Any:
        """What stands in the next `length` bytes."""
        start, stop = self._place, self._place + length
        if stop > end:
            raise HeadRefusedError("is cut off")
        value: Any = length
        if type_ != _BYTES:
            value = self.read(type_, start, stop)
        elif (kind, name) not in _NUMBERS_IN_BYTES:
            if length > NAME_BYTES_MAX:
                raise HeadRefusedError(f"has a name of more than {NAME_BYTES_MAX} bytes")
            value = self._content[start:stop]
        self._place = stop
        return value

    def _varint(self, end: int) -> int:
        """A number of up to 64 bits."""
        value = 0
        for shift in range(0, 70, 7):
            if self._place >= end:
                raise HeadRefusedError("is cut off")
            byte = self._content[self._place]
            self._place += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if value >= 2**64:
                    break
                return value
        raise HeadRefusedError("has a number of more than 64 bits")
