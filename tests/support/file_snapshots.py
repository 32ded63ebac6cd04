"""Snapshots of made-up files, as the triplet store makes them, with a taste that can be learned."""

import json

import numpy as np

from services.chassis.artifacts import memory_artifacts
from services.triplets.artifacts import SafetensorsSnapshots
from services.triplets.core.file_dataset import Gatherer, LineReader

DIM = 16


async def file_snapshot(
    anchors: int = 120,
    held_out: int = 40,
    form: str = "triplet",
    *,
    seed: int = 0,
    dim: int = DIM,
    heavy: int = 0,
) -> bytes:
    """A snapshot of one line an anchor, the last `held_out` of which are held out.

    An anchor prefers what lies where a rotation, the same for all, takes it; the encoder alone
    prefers the other one. The first `heavy` lines weigh five times as much as others.
    """
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(anchors, dim))
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(DIM, dim)))[0]
    gatherer, told, tokens = Gatherer(), {}, []
    lines = [_line(number, form, 5.0 if number < heavy else 1.0) for number in range(anchors)]
    for number, parsed in LineReader(dim, "").read("\n".join([*lines, ""]).encode()):
        gatherer.add(parsed, held_out=number > anchors - held_out)
        noise = 0.2 * random.normal(size=(2, dim))
        told[f"anchor {number}"] = vectors[number - 1]
        told[f"wants {number}"] = rotation @ vectors[number - 1] + noise[0]
        told[f"spurns {number}"] = vectors[number - 1] + noise[1]
    found = []
    for item in gatherer.take_new():
        assert isinstance(item, str)
        vector = told[item]
        found.append(vector / np.linalg.norm(vector))
        tokens.append(len(item.split()))
    stacked = np.array(found).astype(np.float16)
    method = {"triplet": "triplet", "preference": "dpo", "chat": "supervised"}[form]
    artifacts = memory_artifacts()
    arrays = gatherer.arrays("test", method, stacked, tokens)
    return await artifacts.get(await SafetensorsSnapshots(artifacts).write_files(arrays))


def _line(index: int, form: str, weight: float) -> str:
    number = index + 1
    anchor, positive, negative = f"anchor {number}", f"wants {number}", f"spurns {number}"
    if form == "triplet":
        content: dict[str, object] = {
            "anchor": anchor,
            "positive": positive,
            "negative": negative,
            "weight": weight,
        }
    elif form == "preference":
        content = {
            "input": anchor,
            "preferred_output": positive,
            "non_preferred_output": negative,
        }
    else:
        said = [{"role": "user", "content": anchor}, {"role": "assistant", "content": positive}]
        content = {"messages": said}
    return json.dumps(content)
