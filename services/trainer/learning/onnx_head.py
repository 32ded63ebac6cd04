"""Running an exported head, for the parity check and to measure the incumbent."""

import dataclasses

import numpy as np
import numpy.typing as npt
import onnxruntime
from safetensors.numpy import load

from services.trainer.core.ports import HeadFiles

Floats = npt.NDArray[np.float32]


def open_twins(files: HeadFiles) -> list["OnnxHead"]:
    """A head's twins, or the head itself if it has none."""
    twins = [dataclasses.replace(files, person=t.person, cross=t.cross) for t in files.twins]
    return [OnnxHead(each) for each in twins or [files]]


class OnnxHead:
    """The parts of a head as sessions."""

    def __init__(self, files: HeadFiles) -> None:
        self.columns = files.columns
        self.knows_people = len(load(files.table)["table"]) > 0
        self._query_map = _open(files.query_map)
        self._person = _open(files.person)
        self._light = _open(files.light)
        self._cross = _open(files.cross)

    def map_query(self, columns_1c: Floats, vectors_1d: Floats) -> Floats:
        """Returns [1, d]."""
        return _run(self._query_map, columns=columns_1c, vectors=vectors_1d)

    def describe(self, columns_nc: Floats, counts_n4: Floats, table_n2: Floats) -> Floats:
        """Returns states [n, k]."""
        return _run(self._person, columns=columns_nc, counts=counts_n4, table=table_n2)

    def score_light(self, seeker_1k: Floats, candidates_nk: Floats, cosines_n1: Floats) -> Floats:
        """Returns logits [n, 1]."""
        return _run(self._light, seeker=seeker_1k, candidates=candidates_nk, cosines=cosines_n1)

    def score_cross(self, seeker_1k: Floats, candidates_nk: Floats, cosines_n1: Floats) -> Floats:
        """Returns probabilities [n, 1]."""
        return _run(self._cross, seeker=seeker_1k, candidates=candidates_nk, cosines=cosines_n1)


def _open(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(session: onnxruntime.InferenceSession, **inputs: Floats) -> Floats:
    (output,) = session.run(None, inputs)
    result: Floats = output
    return result
