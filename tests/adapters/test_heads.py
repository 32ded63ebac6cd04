"""Heads between trainer and serving: what was learned is what ranks, and nothing else ever does."""

import dataclasses
import datetime
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from services.chassis.clock import ManualClock
from services.serving.artifacts import ArtifactBundles
from services.serving.core.candidates import ProfileRows
from services.serving.core.find_matches import MatchRequest, MatchResult, find_matches
from services.serving.core.follow_profiles import ProfileFollower
from services.serving.core.loaded_head import ServedDomain
from services.serving.core.ports import DesiredHead
from services.serving.core.seen import POSITIVE, PairRows
from services.serving.core.shadow import TrialJournal
from services.serving.core.stages import read_stages
from services.serving.core.swap_heads import HeadSwapper, Registry
from services.serving.index import FaissIndexBuilder
from services.trainer.core.ports import LearnedHead
from services.trainer.core.watch import Watch
from services.trainer.learning.learner import TorchLearner
from tests.support.catalogues import ITEMS, TASTES, catalogue
from tests.support.heads import (
    LAYOUT,
    PEOPLE,
    HeadShelf,
    golden,
    known_people,
    known_tallies,
    learned_head,
)
from tests.support.probes import PROBE
from tests.support.signatures import SIGNER, VERIFIER

KEY = ("acme", "dating")
ARTIFACTS = ("MANIFEST", "QUERY_MAP", "PERSON", "LIGHT", "CROSS", "GOLDEN", "TABLE")
Change = Callable[[dict[str, Any]], object]


class Serving:
    """Serving with the people of the snapshot and a scheduler that says what `desired` holds."""

    def __init__(self, shelf: HeadShelf) -> None:
        clock = ManualClock(datetime.datetime(2026, 5, 17, tzinfo=datetime.UTC))
        self.desired: list[DesiredHead] = []
        self.registry = Registry(clock)
        self.swapper = HeadSwapper(
            self.registry,
            self,
            ArtifactBundles(shelf.artifacts, VERIFIER, PROBE),
            FaissIndexBuilder(),
            clock,
            observe=lambda *_: None,
            journal=TrialJournal(lambda *_: None),
        )
        self.fill("dating")

    def fill(self, domain: str) -> None:
        """Brings everyone into a domain."""
        follower, key = ProfileFollower(self.registry), ("acme", domain)
        tallies = known_tallies()
        follower.apply(key, LAYOUT, profiles=known_people(), tallies=tallies, revision=0)
        follower.apply(key, LAYOUT, profiles=None, tallies=None, revision=1)

    async def list(self) -> list[DesiredHead]:
        """As the scheduler."""
        return self.desired

    async def swap(self, *desired: DesiredHead) -> ServedDomain:
        """Follows the scheduler's word and returns what is served then."""
        self.desired = list(desired)
        await self.swapper.sync()
        return self.registry.domains[KEY]

    async def refuses(self, desired: DesiredHead) -> str:
        """Tries a head that must be refused while another is in use; returns why it was."""
        before = self.registry.domains[KEY]
        assert before.head.tier == "tenant"
        assert await self.swap(desired) is before
        failed = self.registry.failed[*KEY, "tenant"]
        assert failed.desired == desired
        return failed.message


@pytest.fixture
def shelf() -> HeadShelf:
    return HeadShelf()


@pytest.fixture
async def serving(shelf: HeadShelf) -> Serving:
    """Serving with a head in use."""
    made = Serving(shelf)
    await made.swap(await shelf.store())
    return made


def match_everyone(served: ServedDomain) -> MatchResult:
    """Ranks everyone for the first person."""
    wish = MatchRequest(user_id="u0", conditions=[], stages=read_stages({}), limit=1_000)
    return find_matches(served, wish)


async def test_a_learned_head_ranks_as_its_trainer_saw_it(shelf: HeadShelf) -> None:
    desired = await shelf.store()
    served = await Serving(shelf).swap(desired)
    assert (served.head.head, served.head.tier) == (desired.head, "tenant")
    result, expected = match_everyone(served), golden()
    assert len(result.numbers) == PEOPLE - 1
    others = result.numbers - 1  # the first person is the seeker
    light = 1 / (1 + np.exp(-expected["light"][:, 0]))
    cosines = expected["vectors"][1:] @ expected["query"][0]
    for name, scores in (
        ("light_ml", light),
        ("embedding", (cosines + 1) / 2),
        ("cross_encoder", expected["cross"][:, 0]),
    ):
        assert result.stage_scores[name] == pytest.approx(scores[others], abs=1e-4), name


async def test_a_head_says_the_same_in_the_next_process(shelf: HeadShelf) -> None:
    desired = await shelf.store()
    first, second = [match_everyone(await Serving(shelf).swap(desired)) for _ in range(2)]
    assert first.numbers.tolist() == second.numbers.tolist()


@pytest.mark.parametrize("name", ARTIFACTS)
async def test_a_head_with_a_corrupt_artifact_is_refused(
    shelf: HeadShelf, serving: Serving, name: str
) -> None:
    desired = await shelf.store(2, another_head())
    digest = (await shelf.digests(desired))[name]
    await shelf.spoil(digest)
    assert f"{digest} is corrupt" in await serving.refuses(desired)


@pytest.mark.parametrize("name", ARTIFACTS)
async def test_a_head_with_a_missing_artifact_is_refused(
    shelf: HeadShelf, serving: Serving, name: str
) -> None:
    desired = await shelf.store(2, another_head())
    digest = (await shelf.digests(desired))[name]
    await shelf.lose(digest)
    assert f"{digest} does not exist" in await serving.refuses(desired)


def another_head(**files: bytes) -> LearnedHead:
    """The head with other files: by default with one more person in its table."""
    head = learned_head()
    changes: dict[str, Any] = dict(files)
    if not files:
        changes["table"] = save({"table": np.zeros((PEOPLE + 1, 2), np.float32)})
    return dataclasses.replace(head, files=dataclasses.replace(head.files, **changes))


def with_golden(**arrays: np.ndarray) -> LearnedHead:
    """The head with other golden vectors."""
    return dataclasses.replace(learned_head(), golden=save({**golden(), **arrays}))


@pytest.mark.parametrize("name", ["query", "states", "light", "cross"])
async def test_a_head_that_gives_other_outputs_than_its_trainer_saw_is_refused(
    shelf: HeadShelf, serving: Serving, name: str
) -> None:
    shifted = golden()[name].copy()
    shifted.flat[-1] += 1e-3
    desired = await shelf.store(2, with_golden(**{name: shifted}))
    assert f"gives another {name}" in await serving.refuses(desired)


async def test_what_another_processor_would_round_otherwise_is_let_through(
    shelf: HeadShelf, serving: Serving
) -> None:
    desired = await shelf.store(2, with_golden(cross=golden()["cross"] + np.float32(1e-5)))
    assert (await serving.swap(desired)).head.head == desired.head


async def test_a_head_without_all_golden_vectors_is_refused(
    shelf: HeadShelf, serving: Serving
) -> None:
    arrays = golden()
    del arrays["cross"]
    head = dataclasses.replace(learned_head(), golden=save(arrays))
    assert "cannot be run: 'cross'" in await serving.refuses(await shelf.store(2, head))


async def test_a_head_with_two_parts_in_each_others_place_is_refused(
    shelf: HeadShelf, serving: Serving
) -> None:
    files = learned_head().files
    head = another_head(light=files.cross, cross=files.light)
    assert "gives another light" in await serving.refuses(await shelf.store(2, head))


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"cross": b"no ONNX"}, "the field 13 of a model, which no head has"),
        ({"light": b""}, "not of ONNX's operators"),
        ({"table": save({"table": np.full((3, 2), np.nan, np.float32)})}, "what is no number"),
        ({"table": (2**40).to_bytes(8, "little") + b"{}"}, "a header of more than"),
        ({"table": b"no arrays"}, "a header of more than"),
        ({"table": b"\x02" + bytes(7) + b"{"}, "cut off"),
        ({"table": b"\x02" + bytes(7) + b"[]"}, "arrays cannot be read"),
        ({"table": save({"tables": np.zeros((3, 2), np.float32)})}, "table of people"),
        ({"table": save({"table": np.zeros((3, 3), np.float32)})}, "table of people"),
        ({"table": save({"table": np.zeros(3, np.float32)})}, "table of people"),
        ({"table": save({"table": np.zeros((3, 2), np.float64)})}, "table of people"),
    ],
)
async def test_a_head_whose_files_are_something_else_is_refused(
    shelf: HeadShelf, serving: Serving, files: dict[str, bytes], message: str
) -> None:
    desired = await shelf.store(2, another_head(**files))
    assert message in await serving.refuses(desired)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(tenant="other"), "of other"),
        (lambda m: m.update(domain="hiring"), "its manifest is that of"),
        (lambda m: m.update(head="u_acme.dating.2026-05-17.009"), "2026-05-17.009"),
        (lambda m: m.update(tier="general"), "its manifest is that of"),
        (
            lambda m: m.update(encoder="another"),
            "reads 16 numbers of another, the domain has 16 of test",
        ),
        (lambda m: m.update(dim=8), "other columns or vectors"),
        (lambda m: m["parts"].pop(), "each part once"),
        (lambda m: m["parts"].append(m["parts"][0]), "each part once"),
        (lambda m: m["parts"][0].update(role="ROLE_PERSON"), "each part once"),
        (lambda m: m["parts"][0]["file"].update(size_bytes=9), "larger than 9 bytes"),
        (lambda m: m["table"].update(size_bytes=10**6), "smaller than its manifest says"),
        (lambda m: m["golden"].update(digest="../secrets"), "is not a digest"),
        (lambda m: m.pop("table"), "is not a digest"),
        (lambda m: m.update(columns="all"), "columns"),
        (lambda m: m["columns"][0].update(name="height"), "the column height"),
        (lambda m: m["columns"][0].update(type="number"), "age as another number"),
        (lambda m: m["columns"][3].update(members=["love", "fun"]), "goal as another enum"),
        (lambda m: m["columns"].pop(), "other columns"),
        (lambda m: m["columns"].append(m["columns"][0]), "other columns"),
    ],
)
async def test_a_head_whose_manifest_says_something_else_is_refused(
    shelf: HeadShelf, serving: Serving, change: Change, message: str
) -> None:
    desired = await shelf.rewrite(await shelf.store(2), change)
    assert message in await serving.refuses(desired)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b"\x08\x0a" * 40])
async def test_what_is_no_manifest_is_refused(
    shelf: HeadShelf, serving: Serving, content: bytes
) -> None:
    desired = await shelf.store(2)
    digest = await shelf.artifacts.put(SIGNER.sign(content))
    await serving.refuses(dataclasses.replace(desired, manifest_digest=digest))


async def test_a_manifest_of_a_later_release_is_still_read(
    shelf: HeadShelf, serving: Serving
) -> None:
    desired = await shelf.rewrite(await shelf.store(2), lambda m: m.update(later="field"))
    assert (await serving.swap(desired)).head.head == desired.head


async def test_a_refused_head_holds_up_no_other_domain(shelf: HeadShelf, serving: Serving) -> None:
    serving.fill("hiring")
    broken = await shelf.rewrite(await shelf.store(2), lambda m: m["columns"].pop())
    good = await shelf.rewrite(await shelf.store(3), lambda m: m.update(domain="hiring"))
    await serving.refuses(broken)
    await serving.swap(broken, dataclasses.replace(good, domain="hiring"))
    assert serving.registry.domains["acme", "hiring"].head.head == good.head


SEEKERS = 60


class Shop:
    """Serving with a catalogue's people, whose seekers have chosen what the snapshot says."""

    def __init__(self, *, texts: bool = False) -> None:
        content = catalogue(seekers=SEEKERS, texts=texts)
        head = TorchLearner("cpu").learn(content, None, None, 0, Watch("", ""))
        self.head, self.arrays = head, load(content)
        self.shelf = HeadShelf()
        self.serving = Serving(self.shelf)
        follower, registry = ProfileFollower(self.serving.registry), self.serving.registry
        people = len(self.arrays["vectors"])
        layout = dataclasses.replace(LAYOUT, fields=(), dim=self.arrays["vectors"].shape[1])
        rows = ProfileRows(
            user_ids=[f"u{number}" for number in range(people)],
            numbers=np.arange(people, dtype=np.int32),
            vectors=self.arrays["vectors"],
            columns=np.zeros((people, 0)),
            strings={},
        )
        numbers = np.stack([self.arrays["seekers"], self.arrays["candidates"]], 1)
        pairs = PairRows(numbers, np.full(len(numbers), POSITIVE, np.uint8), self.arrays["times"])
        follower.apply(KEY, layout, profiles=rows, tallies=None, pairs=pairs, revision=0)
        follower.apply(KEY, layout, profiles=None, tallies=None, revision=1)
        self.follower, self.layout, self.registry = follower, layout, registry

    async def load(self) -> ServedDomain:
        """Puts the head in use."""
        return await self.serving.swap(await self.shelf.store(head=self.head))

    def match(self, user_id: str, limit: int = 10) -> MatchResult:
        """Asks for what the seeker has not had."""
        wish = MatchRequest(
            user_id=user_id, conditions=[], stages=read_stages({}), limit=limit, exclude_seen=True
        )
        return find_matches(self.serving.registry.domains[KEY], wish)


async def test_a_catalogue_is_ranked_by_what_seekers_chose_and_a_choice_counts_at_once() -> None:
    shop = Shop()
    await shop.load()
    liked = [shop.match(f"u{ITEMS + s}", 3).numbers % TASTES == s % TASTES for s in range(SEEKERS)]
    assert np.mean(liked) > 0.9
    assert ITEMS + SEEKERS - 1 in shop.registry.domains[KEY].partition.view.numbers
    people = shop.match("u0").numbers  # an item has chosen nobody: it is offered what most choose
    assert (people[:3] < ITEMS).all()
    other = np.array([[ITEMS, item] for item in (1, 5, 9, 13, 17, 21)], np.int32)
    late = np.full(len(other), 10**12, np.int64)
    choices = PairRows(other, np.full(len(other), POSITIVE, np.uint8), late)
    shop.follower.apply(KEY, shop.layout, profiles=None, tallies=None, pairs=choices, revision=2)
    assert (shop.match(f"u{ITEMS}", 3).numbers % TASTES == 1).any()


async def test_what_came_later_is_ranked_by_its_text_among_what_was_learned() -> None:
    shop = Shop(texts=True)
    await shop.load()
    vectors = shop.arrays["vectors"]
    new = ProfileRows(
        user_ids=["fresh"],
        numbers=np.array([len(vectors)], np.int32),
        vectors=vectors[:1],
        columns=np.zeros((1, 0)),
        strings={},
    )
    shop.follower.apply(KEY, shop.layout, profiles=new, tallies=None, revision=2)
    ranks = [
        shop.match(f"u{ITEMS + s}", 200).numbers.tolist().index(len(vectors)) for s in range(8)
    ]
    alike = [rank for seeker, rank in enumerate(ranks) if seeker % TASTES == 0]
    assert max(alike) < min(rank for s, rank in enumerate(ranks) if s % TASTES)


async def test_vectors_of_candidates_that_are_not_what_was_learned_are_refused() -> None:
    shop = Shop()
    desired = await shop.shelf.store(head=shop.head)
    await shop.serving.swap(desired)
    arrays = load(shop.head.files.factors)
    for name, message in (
        ("candidates", "other affinities than its golden vectors"),
        ("history", "other affinities than its golden vectors"),
        ("people", "do not name each once"),
        ("recency", "cannot be read"),
    ):
        spoiled = {n: np.zeros_like(a) if n == name else a for n, a in arrays.items()}
        if name == "recency":
            del spoiled[name]
        size = len(save(spoiled))
        digest = await shop.shelf.artifacts.put(save(spoiled))

        def point(manifest: dict[str, Any], digest: str = digest, size: int = size) -> None:
            manifest["factors"]["digest"] = digest
            manifest["factors"]["size_bytes"] = size

        other = await shop.shelf.store(number=2, head=shop.head)
        assert message in await shop.serving.refuses(await shop.shelf.rewrite(other, point))
