"""google.protobuf.Struct as plain Python values.

json_format would refuse numbers that are not finite: JSON cannot say them, but gRPC can. Here they
pass, for whoever knows the field to refuse them by its name.
"""

from google.protobuf import struct_pb2


def read_struct(struct: struct_pb2.Struct) -> dict[str, object]:
    """Returns a struct's values, sorted by name: the wire keeps no order."""
    return {name: read_value(struct.fields[name]) for name in sorted(struct.fields)}


def read_value(value: struct_pb2.Value) -> object:
    """Returns None, a bool, a float, a str, or a list or dict of such."""
    match value.WhichOneof("kind"):
        case "bool_value":
            return value.bool_value
        case "number_value":
            return value.number_value
        case "string_value":
            return value.string_value
        case "list_value":
            return [read_value(item) for item in value.list_value.values]
        case "struct_value":
            return read_struct(value.struct_value)
        case _:
            return None
