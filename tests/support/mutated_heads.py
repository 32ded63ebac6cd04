"""Heads with something changed at random, and what serving makes of them.

Changed bytes under their old digest must be refused. Changed bytes that are digested and signed
anew, as by a trainer gone mad, may be loaded only if the head still says what its golden vectors
say; whatever they are, nothing but a refusal may come of them.
"""

import asyncio
import dataclasses
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from safetensors.numpy import load

from services.serving.artifacts import ArtifactBundles
from services.serving.core.errors import HeadRefusedError
from services.serving.core.ports import DesiredHead, HeadBundle
from services.serving.onnx import GOLDEN_TOLERANCE
from tests.support.heads import HeadShelf, learned_head
from tests.support.probes import PROBE
from tests.support.signatures import SIGNER, VERIFIER

LOAD_SECONDS_MAX = 120.0
PARTS = ("QUERY_MAP", "PERSON", "LIGHT", "CROSS")
ARTIFACTS = ("MANIFEST", *PARTS, "GOLDEN", "TABLE")
OPERATORS = ("Add", "Sub", "Mul", "Div", "MatMul", "Sigmoid", "Relu", "Sqrt", "Identity", "IsNaN")
REASONS = (
    ("digest", ("is corrupt", "does not exist", "smaller than", "larger than", "is not a digest")),
    ("signature", ("is not signed", "signature than", "not allowed", "another spelling")),
    ("golden vectors", ("than its golden", "golden vectors of", " at once")),
    ("trial", ("cannot be opened", "cannot be run", "ends the process", "longer than", "be tried")),
    ("arrays", ("arrays", "table of people", "other columns or vectors")),
    ("manifest", ("manifest", "JSON", "parse", "field", "utf-8", "codec")),
)
"""By what a refusal is told apart, the first that fits; what a graph has is left over."""


@dataclass
class Tally:
    """What came of mutations."""

    refused: Counter[str] = field(default_factory=Counter)
    unchanged: int = 0
    """Loaded, and the head says what it said."""
    wrong: list[str] = field(default_factory=list)
    """Loaded though they must not be, or something else than a refusal."""

    @property
    def count(self) -> int:
        """All of them."""
        return self.refused.total() + self.unchanged + len(self.wrong)


class Mutator:
    """Changes one artifact of a head after another; the same seed, the same changes."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._shelf = HeadShelf()
        self._bundles = ArtifactBundles(self._shelf.artifacts, VERIFIER, PROBE)
        self._whole: DesiredHead | None = None
        self._digests: dict[str, str] = {}
        self.as_they_are, self.signed_anew = Tally(), Tally()

    async def change_bytes(self) -> None:
        """Changes bytes in the store and leaves everything else."""
        desired = await self._desired()
        name = self._dice.choice(ARTIFACTS)
        digest = self._digests[name]
        content = await self._shelf.artifacts.get(digest)
        other = self._mutate_bytes(content)
        await self._shelf.overwrite(digest, other)
        bundle = await self._load(desired, self.as_they_are, name)
        if bundle is not None and other != content:
            self.as_they_are.wrong.append(f"{name} was loaded with other bytes")
        elif bundle is not None:
            self.as_they_are.unchanged += 1
        await self._shelf.overwrite(digest, content)

    async def sign_anew(self) -> None:
        """Changes an artifact, and digests and signs everything so that it fits."""
        desired = await self._desired()
        name = self._dice.choice((*ARTIFACTS, *PARTS, *PARTS))
        content = await self._shelf.artifacts.get(self._digests[name])
        if name == "MANIFEST":
            other = self._mutate_bytes(VERIFIER.open(content))
        elif name in PARTS and self._dice.random() < 0.6:
            other = self._mutate_graph(content)
        else:
            other = self._mutate_bytes(content)
        made = await self._told(desired, name, other)
        bundle = await self._load(made, self.signed_anew, name)
        if bundle is None:
            return
        if (told := _differs(bundle)) is None:
            self.signed_anew.unchanged += 1
        else:
            self.signed_anew.wrong.append(f"{name} was loaded and {told}")

    async def _desired(self) -> DesiredHead:
        """The head before anything was changed."""
        if self._whole is None:
            self._whole = await self._shelf.store()
            self._digests = await self._shelf.digests(self._whole)
        return self._whole

    async def _told(self, desired: DesiredHead, name: str, other: bytes) -> DesiredHead:
        """The head whose manifest names the changed artifact."""
        put = self._shelf.artifacts.put
        if name == "MANIFEST":
            return dataclasses.replace(desired, manifest_digest=await put(SIGNER.sign(other)))
        manifest = await self._shelf.manifest(desired)
        files = [
            *(part["file"] for part in manifest["parts"]),
            manifest["golden"],
            manifest["table"],
        ]
        place = next(each for each in files if each["digest"] == self._digests[name])
        place.update(digest=await put(other), size_bytes=len(other))
        signed = SIGNER.sign(json.dumps(manifest).encode())
        return dataclasses.replace(desired, manifest_digest=await put(signed))

    async def _load(self, desired: DesiredHead, tally: Tally, name: str) -> HeadBundle | None:
        try:
            return await asyncio.wait_for(self._bundles.load(desired), LOAD_SECONDS_MAX)
        except HeadRefusedError as error:
            tally.refused[_reason(str(error))] += 1
        except Exception as error:  # that is what must not be
            tally.wrong.append(f"{name}: {error!r}")
        return None

    def _mutate_bytes(self, content: bytes) -> bytes:
        """One of the ways in which files go bad."""
        dice, changed = self._dice, bytearray(content)
        start = dice.randrange(len(changed))
        end = min(len(changed), start + dice.choice((1, 2, 8, 64, 4_096)))
        ways: list[Callable[[], object]] = [
            lambda: changed.__setitem__(start, changed[start] ^ 1 << dice.randrange(8)),
            lambda: changed.__setitem__(start, dice.randrange(256)),
            lambda: changed.__setitem__(slice(start, end), bytes(end - start)),
            lambda: changed.__setitem__(slice(start, end), dice.randbytes(end - start)),
            lambda: changed.__delitem__(slice(start, None)),
            lambda: changed.__delitem__(slice(start, end)),
            lambda: changed.__setitem__(slice(start, start), dice.randbytes(end - start)),
            lambda: changed.__setitem__(slice(start, start), changed[start:end]),
            lambda: changed.extend(dice.randbytes(end - start)),
        ]
        dice.choice(ways)()
        return bytes(changed)

    def _mutate_graph(self, content: bytes) -> bytes:
        """A graph as heads have it, of which something is wired, set or counted otherwise."""
        dice, model = self._dice, onnx.load_from_string(content)
        graph = model.graph
        node, tensor = dice.choice(graph.node), dice.choice(graph.initializer)
        names = [each.output[0] for each in graph.node] + [each.name for each in graph.initializer]

        def set_numbers() -> None:
            values = dice.choice((0.0, 1e-3, -1.0, 1e30, np.nan, np.inf))
            floats = tensor.data_type == onnx.TensorProto.FLOAT
            array = np.frombuffer(tensor.raw_data, np.float32 if floats else np.int64).copy()
            array[: dice.randrange(1, 1 + max(1, len(array)))] = (
                values if floats else dice.randrange(-3, 10**6)
            )
            tensor.raw_data = array.tobytes()

        def set_attributes() -> None:
            for each in node.attribute:
                each.i = dice.randrange(-4, 5)

        ways: list[Callable[[], object]] = [
            lambda: setattr(node, "op_type", dice.choice(OPERATORS)),
            lambda: node.input.__setitem__(dice.randrange(len(node.input)), dice.choice(names)),
            lambda: node.output.__setitem__(0, dice.choice(names)),
            lambda: graph.node.remove(node),
            lambda: graph.node.append(node),
            set_attributes,
            lambda: graph.initializer.remove(tensor),
            lambda: tensor.dims.reverse() if len(tensor.dims) > 1 else tensor.dims.append(1),
            set_numbers,
        ]
        dice.choice(ways)()
        return bytes(model.SerializeToString())


def _reason(message: str) -> str:
    return next((name for name, marks in REASONS if any(m in message for m in marks)), "graph")


def _differs(bundle: HeadBundle) -> str | None:
    """What a loaded head says otherwise than the one that was learned; None if nothing."""
    golden, scorers = load(learned_head().golden), bundle.scorers
    states = golden["states"]
    pair = (states[0], states[1:], golden["cosines"][:, 0])
    people = (golden["columns"], golden["counts"], golden["table"])
    said = {
        "query": scorers.map_query(golden["columns"][0], golden["vectors"][0]) - golden["query"][0],
        "states": scorers.describe(*people) - states,
        "light": scorers.score_light(*pair) - golden["light"][:, 0],
        "cross": scorers.score_cross(*pair) - golden["cross"][:, 0],
    }
    for name, off in said.items():
        if not (np.abs(off) <= 2 * GOLDEN_TOLERANCE).all():
            return f"gives another {name}, by {np.abs(off).max()}"
    return None
