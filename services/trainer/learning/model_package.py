"""A model made from files: its map on top of its base's as one ONNX file, and proof of it."""

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch
from onnx import compose
from safetensors.numpy import save
from torch import Tensor

from services.trainer.core.errors import RunInvalidError
from services.trainer.core.ports import BaseModel
from services.trainer.core.watch import ModelFiles
from services.trainer.learning.export import export_onnx
from services.trainer.learning.file_arrays import FileArrays
from services.trainer.learning.package import PARITY_TOLERANCE, ParityError
from services.trainer.learning.text_map import TextMap

GOLDEN_ITEMS = 16
BASE_INVALID = "BASE_MODEL_INVALID"
_ONNX_BYTES_MAX = 32 * 1024**2
"""A model that goes on from a model goes on from all that that one did."""

Floats = npt.NDArray[np.float32]


class OnnxMap:
    """A query map as a session. What it reads of a person is unknown of a text: NaN."""

    def __init__(self, content: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(
            content, options, providers=["CPUExecutionProvider"]
        )
        widths = {each.name: each.shape[1] for each in self._session.get_inputs()}
        self._rest: dict[str, Floats] = {}
        if "columns" in widths:
            self._rest["columns"] = np.full((1, widths["columns"]), np.nan, np.float32)

    def run(self, vectors_nd: Floats) -> Floats:
        """Maps vectors [n, d], one by one: the map of a head takes one seeker."""
        rows = [
            self._session.run(None, {"vectors": vectors_nd[n : n + 1], **self._rest})[0]
            for n in range(len(vectors_nd))
        ]
        return np.concatenate(rows) if rows else vectors_nd


def map_sources(arrays: FileArrays, anchors: Tensor, base: BaseModel | None) -> Tensor:
    """Items' vectors [U, d], those of anchors as the base maps them.

    Raises:
        RunInvalidError: the base reads other vectors.
    """
    vectors_ud = arrays.vectors
    if base is None:
        return vectors_ud
    if (base.encoder, base.dim) != (arrays.encoder, vectors_ud.shape[1]):
        told = f"reads vectors of {base.encoder}, the files have those of {arrays.encoder}"
        raise RunInvalidError(BASE_INVALID, f"The base model {told}.")
    chosen = anchors.unique()
    mapped = OnnxMap(base.query_map).run(vectors_ud[chosen].cpu().numpy())
    sources = vectors_ud.clone()
    sources[chosen] = torch.from_numpy(mapped).to(vectors_ud.device)
    return sources


def package_model(
    arrays: FileArrays, sources_ud: Tensor, anchors: Tensor, model: TextMap, base: BaseModel | None
) -> ModelFiles:
    """Exports a model as it is now.

    Raises:
        ParityError: what was exported gives something else than what was trained.
        RunInvalidError: the base goes back to too many others.
    """
    dim = arrays.vectors.shape[1]
    shape: dict[str, list[str | int]] = {"vectors" if base is None else "mapped": [1, dim]}
    content = export_onnx(model, shape, "query", [1, dim])
    if base is not None:
        content = _join(base.query_map, content)
    if len(content) > _ONNX_BYTES_MAX:
        raise RunInvalidError(BASE_INVALID, "The base model goes back to too many others.")
    some = anchors.unique()[:GOLDEN_ITEMS]
    vectors = np.ascontiguousarray(arrays.vectors[some].cpu().numpy())
    query = OnnxMap(content).run(vectors)
    with torch.no_grad():
        trained = model(sources_ud[some]).cpu().numpy()
    if not np.allclose(query, trained, rtol=0, atol=PARITY_TOLERANCE):
        raise ParityError("the exported map gives another query than the trained one")
    columns = () if base is None else base.columns
    unknown = np.full((len(vectors), len(columns)), np.nan, np.float32)
    return ModelFiles(
        query_map=content,
        golden=save({"columns": unknown, "vectors": vectors, "query": query}),
        encoder=arrays.encoder,
        dim=dim,
        columns=tuple((column.name, column.type, column.members) for column in columns),
    )


def _join(base: bytes, own: bytes) -> bytes:
    """The base's map, and then the own one on what it gives, as one graph."""
    first = compose.add_prefix(onnx.load_from_string(base), "base/", rename_inputs=False)
    joined = compose.merge_models(
        first, onnx.load_from_string(own), io_map=[("base/query", "mapped")], producer_name="trine"
    )
    onnx.checker.check_model(joined, full_check=True)
    return bytes(joined.SerializeToString(deterministic=True))
