"""A head as files: ONNX parts, table of people, golden vectors; proven to be what was trained."""

from collections.abc import Sequence

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from services.trainer.core.ports import HeadFiles, TwinFiles
from services.trainer.learning.export import Shape, export_onnx
from services.trainer.learning.head import CrossPart, Head
from services.trainer.learning.light import EFFECTS, LightModel, PersonModel
from services.trainer.learning.onnx_head import Floats, OnnxHead
from services.trainer.learning.ranker import Ranker
from services.trainer.learning.snapshot import Snapshot, count_outcomes
from services.trainer.learning.strangers import make_counts, make_strangers

GOLDEN_CANDIDATES = 64
PARITY_TOLERANCE = 1e-4
TABLE_WIDTH = 2


class ParityError(Exception):
    """An exported part does not compute what was trained."""


def package_head(
    snapshot: Snapshot,
    rows: Tensor,
    table: Tensor,
    head: Head,
    twins: Sequence[Ranker],
    *,
    knows_people: bool = True,
) -> tuple[HeadFiles, bytes]:
    """Exports a head; `rows` are the outcomes that it knows. Returns its files and golden vectors.

    The twins are what the next head is measured against: of them go the parts that the gate asks.
    With a head that knows no people none travel: its table is empty, its golden vectors are of
    people who are made up.

    Raises:
        ParityError: an exported part gives something else than the module it was exported from.
    """
    head = head.cpu()
    files = HeadFiles(
        **_export(snapshot, head),
        table=save({"table": _array(table if knows_people else table[:0])}),
        encoder=snapshot.encoder,
        dim=snapshot.vectors.shape[1],
        columns=snapshot.fields,
        twins=tuple(_export_twin(snapshot, twin) for twin in twins),
    )
    golden = _known(snapshot, rows, table) if knows_people else _made_up(snapshot)
    golden |= _run_exported(OnnxHead(files), golden)
    _check_parity(_run_trained(head, golden), golden)
    return files, save(golden)


def _known(snapshot: Snapshot, rows: Tensor, table: Tensor) -> dict[str, Floats]:
    """The first candidates and one seeker who is not among them, or everyone if there are fewer."""
    people = torch.arange(min(snapshot.users_count, GOLDEN_CANDIDATES + 1))
    return {
        "columns": _array(snapshot.columns.cpu()[people]),
        "counts": _array(count_outcomes(snapshot, rows).cpu()[people]),
        "vectors": _array(snapshot.vectors.cpu()[people]),
        "table": _array(table.cpu()[people]),
    }


def _made_up(snapshot: Snapshot) -> dict[str, Floats]:
    strangers = make_strangers(snapshot, GOLDEN_CANDIDATES + 1)
    return {
        "columns": _array(strangers.columns),
        "counts": _array(make_counts(strangers.users_count)),
        "vectors": _array(strangers.vectors),
        "table": np.zeros((strangers.users_count, TABLE_WIDTH), np.float32),
    }


def _export_twin(snapshot: Snapshot, twin: Ranker) -> TwinFiles:
    return TwinFiles(
        person=_export_person(snapshot, twin.person.cpu()),
        cross=_export_cross(twin.cross.cpu()),
        outcomes_count=len(twin.rows),
    )


def _export(snapshot: Snapshot, head: Head) -> dict[str, bytes]:
    dim, columns = snapshot.vectors.shape[1], snapshot.columns.shape[1]
    query: dict[str, Shape] = {"columns": [1, columns], "vectors": [1, dim]}
    return {
        "query_map": export_onnx(head.query_map, query, "query", [1, dim]),
        "person": _export_person(snapshot, head.person),
        "light": export_onnx(head.light, _pair(head.light), "logits", ["n", 1]),
        "cross": _export_cross(head.cross),
    }


def _export_person(snapshot: Snapshot, person: PersonModel) -> bytes:
    columns = snapshot.columns.shape[1]
    inputs: dict[str, Shape] = {"columns": ["n", columns], "counts": ["n", 4], "table": ["n", 2]}
    return export_onnx(person, inputs, "states", ["n", person.features.width + EFFECTS])


def _export_cross(cross: CrossPart) -> bytes:
    return export_onnx(cross, _pair(cross.light), "probabilities", ["n", 1])


def _pair(light: LightModel) -> dict[str, Shape]:
    """The inputs of what scores pairs: serving takes no matrix whose width is left open."""
    width = len(light.seeker_weights)
    return {"seeker": ["seekers", width], "candidates": ["n", width], "cosines": ["n", 1]}


def _run_exported(head: OnnxHead, golden: dict[str, Floats]) -> dict[str, Floats]:
    columns, vectors = golden["columns"], golden["vectors"]
    states = head.describe(columns, golden["counts"], golden["table"])
    cosines = vectors[1:] @ vectors[0][:, np.newaxis]
    pair = (states[:1], states[1:], cosines)
    return {
        "query": head.map_query(columns[:1], vectors[:1]),
        "states": states,
        "cosines": cosines,
        "light": head.score_light(*pair),
        "cross": head.score_cross(*pair),
    }


def _run_trained(head: Head, golden: dict[str, Floats]) -> dict[str, Floats]:
    inputs = {name: torch.from_numpy(array) for name, array in golden.items()}
    with torch.no_grad():
        states = head.person(inputs["columns"], inputs["counts"], inputs["table"])
        pair = (states[:1], states[1:], inputs["cosines"])
        outputs = {
            "query": head.query_map(inputs["columns"][:1], inputs["vectors"][:1]),
            "states": states,
            "light": head.light(*pair),
            "cross": head.cross(*pair),
        }
    return {name: tensor.numpy() for name, tensor in outputs.items()}


def _check_parity(trained: dict[str, Floats], exported: dict[str, Floats]) -> None:
    for name, expected in trained.items():
        found = exported[name]
        if found.shape != expected.shape or not np.allclose(
            found, expected, rtol=0, atol=PARITY_TOLERANCE
        ):
            raise ParityError(f"the exported head gives another {name} than the trained one")


def _array(tensor: Tensor) -> Floats:
    return np.ascontiguousarray(tensor.detach().cpu().numpy())
