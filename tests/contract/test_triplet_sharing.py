"""Shared domains in every triplet store: consent, counts, and what a snapshot joins."""

import dataclasses
import json
from collections.abc import Mapping

import numpy as np
import pytest
from safetensors.numpy import load

from services.chassis.artifacts import ObjectArtifacts, memory_artifacts
from services.chassis.tensors import read_metadata
from services.triplets.artifacts import SafetensorsSnapshots
from services.triplets.core.create_snapshot import Snapshot, create_snapshot
from services.triplets.core.erase_user import erase_user
from services.triplets.core.errors import FieldInvalidError, TenantsTooFewError
from services.triplets.core.outcome import LEVELS, Pair
from services.triplets.core.ports import DomainArrays, TripletStore
from services.triplets.core.report_outcomes import OutcomeDraft, check_drafts, report_outcomes
from services.triplets.core.schema import CALLER, Field, Schema
from services.triplets.core.sharing import SHARED, check_participants, share_domain
from services.triplets.core.triplet import Triplets
from tests.support.domains import AGE, CITY, DOMAIN, MOMENT, SMOKES, add_users

TENANTS = ("acme", "bolt", "cube")
PEOPLE = ("ada", "bob", "cleo")
GOAL = Field(name="goal", kind="hard", type="enum", members=("fun", "love"))
SCHEMA = Schema(domain=DOMAIN, number=1, fields=(SMOKES, CITY, GOAL, AGE), encoder="test", dim=4)


async def fill(store: TripletStore, tenant: str, schema: Schema = SCHEMA) -> None:
    """A tenant's domain with three people and one triplet."""
    await store.create_domain(tenant, schema)
    await add_users(store, PEOPLE, tenant=tenant)
    words = {Pair(0, 1): "accepted", Pair(0, 2): "rejected"}
    drafts = [
        OutcomeDraft(
            seeker_id=PEOPLE[pair.seeker],
            candidate_id=PEOPLE[pair.candidate],
            label=label,
            weight=None,
            occurred_at=MOMENT,
        )
        for pair, label in words.items()
    ]
    async with store.open_domain(tenant, DOMAIN) as unit:
        await report_outcomes(unit, drafts, check_drafts(drafts, MOMENT))


async def share(store: TripletStore, *tenants: str, enabled: bool = True) -> None:
    """Tenants say that they share, or not any more."""
    for tenant in tenants:
        async with store.open_domain(tenant, DOMAIN) as unit:
            await share_domain(unit, enabled=enabled)


async def tenants_in(store: TripletStore) -> list[str]:
    """Who takes part."""
    parts = check_participants(await store.list_shared(DOMAIN), DOMAIN)
    return [part.counts.tenant for part in parts]


async def freeze(
    store: TripletStore, artifacts: ObjectArtifacts
) -> tuple[Snapshot, Mapping[str, np.ndarray], list[dict[str, object]]]:
    """A snapshot of the shared domain, its arrays and its columns."""
    snapshot = await create_snapshot(store, SafetensorsSnapshots(artifacts), SHARED, DOMAIN, 0)
    content = await artifacts.get(snapshot.digest)
    layout = json.loads(read_metadata(content)["layout"])
    return snapshot, load(content), layout["columns"]


@pytest.fixture
async def store(triplet_store: TripletStore) -> TripletStore:
    """A store in which three tenants have the same domain."""
    for tenant in TENANTS:
        await fill(triplet_store, tenant)
    return triplet_store


async def test_nobody_shares_unless_they_say_so(store: TripletStore) -> None:
    assert await store.read_shared("acme", DOMAIN) is False
    assert await store.read_shared("acme", "hiring") is None
    assert await store.list_shared("") == []
    await share(store, "acme")
    assert await store.read_shared("acme", DOMAIN) is True
    with pytest.raises(TenantsTooFewError):
        await tenants_in(store)
    await share(store, "cube")
    assert await tenants_in(store) == ["acme", "cube"]
    assert await store.list_shared("hiring") == []


async def test_who_has_no_triplets_or_another_encoder_takes_no_part(store: TripletStore) -> None:
    await store.create_domain("dart", SCHEMA)
    await fill(store, "echo", dataclasses.replace(SCHEMA, encoder="newer"))
    await share(store, *TENANTS, "dart", "echo")
    assert await tenants_in(store) == list(TENANTS)


async def test_vectors_of_a_space_of_their_own_are_not_shared(store: TripletStore) -> None:
    await store.create_domain("fox", dataclasses.replace(SCHEMA, encoder=CALLER))
    with pytest.raises(FieldInvalidError):
        await share(store, "fox")


async def test_a_withdrawal_makes_what_others_share_pending_again(store: TripletStore) -> None:
    await share(store, *TENANTS)
    await store.save_shared_trained(DOMAIN, 2)
    await store.save_shared_trained(DOMAIN, 3)
    assert await store.read_shared_trained() == {DOMAIN: 3}
    await share(store, "bolt", enabled=False)
    assert await store.read_shared_trained() == {}
    assert await tenants_in(store) == ["acme", "cube"]


async def test_a_snapshot_joins_who_shares(store: TripletStore) -> None:
    await share(store, "acme", "cube")
    artifacts = memory_artifacts()
    snapshot, arrays, columns = await freeze(store, artifacts)
    assert (snapshot.users_count, snapshot.outcomes_count, snapshot.triplets_count) == (6, 4, 2)
    assert [column["name"] for column in columns] == ["age", "goal", "smokes"]
    assert arrays["columns"][:, 0].tolist() == [30.0] * 6
    pairs = zip(arrays["seekers"].tolist(), arrays["candidates"].tolist(), strict=True)
    assert list(pairs) == [(0, 1), (0, 2), (3, 4), (3, 5)]
    assert arrays["levels"].tolist() == [LEVELS["accepted"], LEVELS["rejected"]] * 2
    assert arrays["triplets"].tolist() == [[0, 0, 1], [3, 2, 3]]
    assert len(set(arrays["user_hashes"].tolist())) == 6, "people of one id in two tenants differ"
    again, _, _ = await freeze(store, artifacts)
    assert again == snapshot


async def test_a_snapshot_is_without_who_withdrew(store: TripletStore) -> None:
    await share(store, *TENANTS)
    artifacts = memory_artifacts()
    before, _, _ = await freeze(store, artifacts)
    await share(store, "acme", enabled=False)
    after, _, _ = await freeze(store, artifacts)
    assert (before.users_count, after.users_count) == (9, 6)
    await share(store, "bolt", enabled=False)
    with pytest.raises(TenantsTooFewError):
        await freeze(store, artifacts)


async def test_an_erasure_names_the_shared_snapshots_too(store: TripletStore) -> None:
    await share(store, "acme", "cube")
    artifacts = memory_artifacts()
    snapshot, _, _ = await freeze(store, artifacts)
    async with store.open_domain("cube", DOMAIN) as unit:
        assert (await erase_user(unit, "bob")).snapshot_digests == [snapshot.digest]
    async with store.open_domain("bolt", DOMAIN) as unit:
        assert (await erase_user(unit, "bob")).snapshot_digests == []
    await fill(store, "dart")
    await share(store, "dart")
    smaller, arrays, _ = await freeze(store, artifacts)
    # Cube has no triplet left without bob: it takes no part any more.
    assert smaller.users_count == 6
    assert len(arrays["user_hashes"]) == 6


async def test_who_withdraws_while_a_snapshot_is_made_is_not_in_it(store: TripletStore) -> None:
    await share(store, *TENANTS)

    class Slow:
        """Is told of a withdrawal in the middle of the first snapshot."""

        def __init__(self) -> None:
            self.sizes: list[int] = []

        async def write(self, arrays: DomainArrays, triplets: Triplets) -> str:
            self.sizes.append(len(arrays.user_ids))
            await share(store, "cube", enabled=False)
            return f"{len(self.sizes)}" * 64

        async def erase(self, digest: str) -> None:
            raise NotImplementedError

    writer = Slow()
    snapshot = await create_snapshot(store, writer, SHARED, DOMAIN, 0)
    assert writer.sizes == [9, 6]
    assert (snapshot.digest, snapshot.users_count) == ("2" * 64, 6)
    for tenant in TENANTS:  # the first is stored: its file goes with whoever is in it
        async with store.open_domain(tenant, DOMAIN) as unit:
            assert "1" * 64 in await unit.snapshots_with(0)
