"""Writing ONNX: torch's exporter, less everything that is not the function itself."""

import contextlib
import io
import logging
import warnings
from typing import Any

import onnx
import torch
from torch import Tensor, nn

OPSET = 20


def export_onnx(module: nn.Module, example: tuple[Tensor, ...], shapes: dict[str, Any]) -> bytes:
    """Returns the module as one self-contained ONNX file.

    The same module gives the same bytes on any machine: names of files and stack traces, which
    torch's exporter leaves in the file, are taken out.
    """
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module.eval(),
            example,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=shapes,
            external_data=False,
            optimize=True,
        )
    assert program is not None
    model = program.model_proto
    _strip(model)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _strip(model: onnx.ModelProto) -> None:
    model.producer_name = "trine"
    model.producer_version = ""
    model.doc_string = ""
    del model.metadata_props[:]
    graph = model.graph
    graph.name = "head"
    graph.doc_string = ""
    del graph.metadata_props[:]
    for node in graph.node:
        node.doc_string = ""
        del node.metadata_props[:]
    values: list[Any] = [*graph.input, *graph.output, *graph.value_info, *graph.initializer]
    for value in values:
        value.doc_string = ""
        del value.metadata_props[:]
