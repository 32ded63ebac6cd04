"""Making what is in use equal to what the scheduler wants to be in use.

The wanted state is a full list, asked for at start, on a timer and on every hint. A head is loaded,
checked and warmed before it takes its predecessor's place by one assignment; whatever goes wrong
leaves the predecessor in use. Requests that still hold the old head finish with it; its memory goes
when the last of them does.

The most specific head that fits serves: a tenant's own; else that of the shared domain, held once
for all tenants; else the encoder alone.
"""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from services.serving.core.candidates import Layout, Partition
from services.serving.core.errors import HeadRefusedError
from services.serving.core.loaded_head import (
    CHALLENGER,
    DOMAIN_TIER,
    INCUMBENT,
    TENANT_TIER,
    Arm,
    LoadedHead,
    ServedDomain,
    Trial,
    factor_queries,
    fit_head,
    general_head,
    own_queries,
    sample_rows,
)
from services.serving.core.ports import (
    CANARY,
    BundleSource,
    Clock,
    DesiredChallenger,
    DesiredHead,
    HeadBundle,
    IndexBuilder,
    Promotions,
)
from services.serving.core.shadow import TrialJournal

DomainKey = tuple[str, str]

INDEX_ROWS_MIN = 20_000
"""Smaller domains are scanned exactly."""
TAIL_SHARE_MAX = 0.1
"""Rows newer than the index are scanned; beyond this share of it the index is built anew."""
RETRY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class FailedHead:
    """A head that should be in use and is not."""

    desired: DesiredHead
    message: str
    failed_at: float
    """By the monotonic clock."""


class Registry:
    """What is served, per domain. Read on every match; written on the event loop alone."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.domains: dict[DomainKey, ServedDomain] = {}
        self.shared: dict[str, HeadBundle] = {}
        """Heads of shared domains, by domain."""
        self.failed: dict[tuple[str, str, str], FailedHead] = {}
        """By tenant, domain and tier."""
        self.explorations: dict[DomainKey, float] = {}
        """Share of the matches to be explored, of the domains that explore."""

    def install(self, key: DomainKey, partition: Partition) -> None:
        """Serves a domain from a new set of candidates, by the head in use if it still fits."""
        served = self.domains.get(key)
        bundle = None if served is None else served.head.bundle
        try:
            if bundle is None or bundle.tier == DOMAIN_TIER:
                head = self.head_above(key, partition.layout)
            else:
                head = fit_head(bundle, partition.layout)
        except HeadRefusedError:
            head = self.head_above(key, partition.layout)
        fresh = ServedDomain(partition=partition, head=head, load_time=self._clock.now())
        trial = None if served is None else served.trial
        self.put(key, fresh if trial is None else self._refit(fresh, trial))

    def _refit(self, fresh: ServedDomain, trial: Trial) -> ServedDomain:
        """Keeps a challenger beside a head in use if it still fits: a seeker keeps their arm."""
        bundle = trial.challenger.head.bundle
        try:
            assert bundle is not None
            head = fit_head(bundle, fresh.partition.layout)
        except HeadRefusedError:
            return fresh
        return on_trial(fresh, Trial(trial.desired, dataclasses.replace(fresh, head=head)))

    def head_above(self, key: DomainKey, layout: Layout) -> LoadedHead:
        """What serves without a head of the tenant's own; notes why it is not the domain's."""
        self.failed.pop((*key, DOMAIN_TIER), None)
        bundle = self.shared.get(key[1])
        if bundle is None:
            return general_head(layout)
        try:
            return fit_head(bundle, layout)
        except HeadRefusedError as error:
            refused = DesiredHead(*key, bundle.head, DOMAIN_TIER, "")
            self.failed[*key, DOMAIN_TIER] = FailedHead(
                refused, str(error), self._clock.monotonic()
            )
            return general_head(layout)

    def put(self, key: DomainKey, served: ServedDomain) -> None:
        """The swap: one assignment."""
        self.domains[key] = served


SwapObserver = Callable[[str, float], None]
"""Told the result ("loaded", "removed" or "refused") and the seconds of each swap."""


class HeadSwapper:
    """Follows the scheduler's word. One `sync` at a time."""

    def __init__(
        self,
        registry: Registry,
        promotions: Promotions,
        source: BundleSource,
        builder: IndexBuilder,
        clock: Clock,
        *,
        observe: SwapObserver,
        journal: TrialJournal,
    ) -> None:
        self._registry = registry
        self._promotions = promotions
        self._source = source
        self._builder = builder
        self._clock = clock
        self._observe = observe
        self._journal = journal
        self._unfit: set[tuple[str, str]] = set()
        """Rollouts of refused challengers: the scheduler has been told, and will end them."""

    async def sync(self) -> None:
        """Asks what shall be in use and makes it so.

        Raises:
            ExceptionGroup: what went wrong in some domains, once all have had their turn.
        """
        desired = {(head.tenant, head.domain): head for head in await self._promotions.list()}
        errors: list[Exception] = []
        shared = [head for head in desired.values() if head.tier == DOMAIN_TIER]
        await self._load_shared(shared, errors)
        explorations = {key: head.exploration for key, head in desired.items()}
        self._registry.explorations = {key: share for key, share in explorations.items() if share}
        for key, served in list(self._registry.domains.items()):
            with _kept(errors):
                await self._sync_head(key, served, desired.get(key))
        for key in list(self._registry.domains):  # no challenger holds up a head
            with _kept(errors):
                await self._sync_trial(key, desired.get(key))
        on_trial_now = {
            (key[0], head.challenger.rollout_id) for key, head in desired.items() if head.challenger
        }
        self._journal.keep(on_trial_now)
        self._unfit &= on_trial_now
        if errors:
            raise ExceptionGroup("some domains are not as they shall be", errors)

    async def _sync_head(
        self, key: DomainKey, served: ServedDomain, wanted: DesiredHead | None
    ) -> None:
        """Puts the wanted head in use, or what serves without one."""
        if wanted is None or not wanted.head:
            self._registry.failed.pop((*key, TENANT_TIER), None)
            await self._step_back(key, served)
        elif wanted.head != served.head.head:
            loaded = await self._load(key, served, wanted)
            if not loaded and served.head.tier != TENANT_TIER:
                await self._step_back(key, served)

    async def _load_shared(self, wanted: Sequence[DesiredHead], errors: list[Exception]) -> None:
        """Holds the heads of shared domains; one that is refused leaves its predecessor there."""
        held, failed = self._registry.shared, self._registry.failed
        owners = {*self._registry.domains, *((head.tenant, head.domain) for head in wanted)}
        for place in [p for p in failed if p[2] == DOMAIN_TIER and p[:2] not in owners]:
            del failed[place]
        for domain in set(held) - {head.domain for head in wanted}:
            del held[domain]
        for head in wanted:
            if head.domain not in held or held[head.domain].head != head.head:
                with _kept(errors):
                    bundle = await self._fetch(head)
                    if bundle is not None:
                        held[head.domain] = bundle

    async def _step_back(self, key: DomainKey, served: ServedDomain) -> None:
        """Puts in use what serves without a head of the tenant's own."""
        started, place = time.perf_counter(), (*key, DOMAIN_TIER)
        before = self._registry.failed.get(place)
        head = self._registry.head_above(key, served.partition.layout)
        after = self._registry.failed.get(place)
        if after is not None and (before is None or before.desired != after.desired):
            self._observe("refused", 0.0)
        if head.head != served.head.head:
            plain = dataclasses.replace(served, trial=None, arm=Arm())
            await self._swap(key, plain, head)
            result = "removed" if head.bundle is None else "loaded"
            self._observe(result, time.perf_counter() - started)

    async def refresh_indexes(self) -> None:
        """Builds the index of each domain that has outgrown its own.

        If anything was swapped meanwhile, nothing is done: the next pass sees it.
        """
        for key, served in list(self._registry.domains.items()):
            if _needs_index(served):
                view = served.partition.view
                index = await asyncio.to_thread(self._builder.build, view)
                indexed = dataclasses.replace(served, index=index)
                prepared = await asyncio.to_thread(_prepare, indexed, served.head, self._builder)
                if self._registry.domains[key] is served:  # else a head out of use would be back
                    self._registry.put(key, prepared)

    async def _sync_trial(self, key: DomainKey, wanted: DesiredHead | None) -> None:
        """Puts the wanted challenger beside the head in use, or takes away what is not wanted."""
        served = self._registry.domains[key]
        desired = None if wanted is None else wanted.challenger
        if wanted is not None and wanted.head != _own_head(served):
            desired = None  # it is to be measured against another head than this process has in use
        trial = served.trial
        if desired is None:
            if trial is not None:
                self._registry.put(key, dataclasses.replace(served, trial=None, arm=Arm()))
        elif trial is None or trial.desired.rollout_id != desired.rollout_id:
            if (key[0], desired.rollout_id) not in self._unfit:
                await self._load_challenger(key, served, desired)
        elif trial.desired != desired:
            self._registry.put(key, on_trial(served, Trial(desired, trial.challenger)))

    async def _load_challenger(
        self, key: DomainKey, served: ServedDomain, desired: DesiredChallenger
    ) -> None:
        tenant, domain = key
        wanted = DesiredHead(tenant, domain, desired.head, desired.tier, desired.manifest_digest)
        try:
            bundle = await self._source.load(wanted)
            head = fit_head(bundle, served.partition.layout)
        except HeadRefusedError as error:
            self._unfit.add((tenant, desired.rollout_id))
            self._journal.failed((tenant, desired.rollout_id), str(error))
            return
        plain = dataclasses.replace(served, trial=None, arm=Arm())
        challenger = await asyncio.to_thread(_prepare, plain, head, self._builder)
        if self._registry.domains[key] is served:  # otherwise the next pass sees what is new
            self._registry.put(key, on_trial(served, Trial(desired, challenger)))

    def _refused_just_now(self, wanted: DesiredHead) -> bool:
        failed = self._registry.failed.get((wanted.tenant, wanted.domain, wanted.tier))
        return (
            failed is not None
            and failed.desired == wanted
            and self._clock.monotonic() - failed.failed_at < RETRY_SECONDS
        )

    async def _load(self, key: DomainKey, served: ServedDomain, wanted: DesiredHead) -> bool:
        """Puts a tenant's own head in use; says whether that has gone well."""
        started = time.perf_counter()
        trial = served.trial
        if trial is not None and trial.desired.head == wanted.head:  # it is here already
            bundle = trial.challenger.head.bundle
        else:
            bundle = await self._fetch(wanted)
        if bundle is None:
            return False
        try:
            head = fit_head(bundle, served.partition.layout)
        except HeadRefusedError as error:
            self._refuse(wanted, error, started)
            return False
        await self._swap(key, dataclasses.replace(served, trial=None, arm=Arm()), head)
        self._registry.failed.pop((*key, DOMAIN_TIER), None)
        self._observe("loaded", time.perf_counter() - started)
        return True

    async def _fetch(self, wanted: DesiredHead) -> HeadBundle | None:
        """A head from the artifact store; None if it is, or was just now, refused."""
        if self._refused_just_now(wanted):
            return None
        started = time.perf_counter()
        try:
            bundle = await self._source.load(wanted)
        except HeadRefusedError as error:
            self._refuse(wanted, error, started)
            return None
        self._registry.failed.pop((wanted.tenant, wanted.domain, wanted.tier), None)
        return bundle

    def _refuse(self, wanted: DesiredHead, error: HeadRefusedError, started: float) -> None:
        place = (wanted.tenant, wanted.domain, wanted.tier)
        self._registry.failed[place] = FailedHead(wanted, str(error), self._clock.monotonic())
        self._observe("refused", time.perf_counter() - started)

    async def _swap(self, key: DomainKey, served: ServedDomain, head: LoadedHead) -> None:
        """Warms and calibrates a head off the loop, then puts it in use.

        If the domain's candidates were replaced meanwhile, nothing is done: the next pass sees it.
        """
        now = self._clock.now()
        prepared = await asyncio.to_thread(_prepare, served, head, self._builder)
        if self._registry.domains[key].partition is served.partition:
            self._registry.put(key, dataclasses.replace(prepared, load_time=now))


@contextmanager
def _kept(errors: list[Exception]) -> Iterator[None]:
    """Keeps an error for later: what goes wrong in one domain keeps no other from its head."""
    try:
        yield
    except Exception as error:
        errors.append(error)


def _own_head(served: ServedDomain) -> str:
    """The head of the tenant's own that is in use; empty for none."""
    return served.head.head if served.head.tier == TENANT_TIER else ""


def on_trial(served: ServedDomain, trial: Trial) -> ServedDomain:
    """A domain with a challenger beside its head; in a canary each knows its arm."""
    arms = [Arm(), Arm()]
    if trial.desired.step == CANARY:
        rollout_id = trial.desired.rollout_id
        arms = [Arm(rollout_id, CHALLENGER), Arm(rollout_id, INCUMBENT)]
    challenger = dataclasses.replace(trial.challenger, arm=arms[0])
    return dataclasses.replace(served, trial=Trial(trial.desired, challenger), arm=arms[1])


def _prepare(served: ServedDomain, head: LoadedHead, builder: IndexBuilder) -> ServedDomain:
    partition, rows, trial = served.partition, sample_rows(served.partition), served.trial
    if trial is not None:  # the same candidates under the same index
        plain = dataclasses.replace(served, trial=None, arm=Arm())
        prepared = _prepare(plain, trial.challenger.head, builder)
        served = on_trial(served, Trial(trial.desired, prepared))
    if head.scorers is not None and len(rows):
        view = partition.view
        states = head.describe(view, rows, partition.counts[view.numbers[rows]])
        cosines = np.zeros(len(rows), np.float32)
        head.scorers.score_light(states[0], states, cosines)
        head.scorers.score_cross(states[0], states, cosines)
    if served.index is None or not len(rows):  # of nobody there is no query to calibrate with
        return dataclasses.replace(served, head=head, factor_index=None)
    probes_count, recall = served.index.calibrate(own_queries(head, partition))
    own, own_probes_count = None, 0
    if head.factors is not None and served.index.generation == partition.view.generation:
        spread = head.factors.spread(partition.view)
        view = dataclasses.replace(partition.view, size=served.index.rows, vectors=spread)
        own = builder.build(view)
        own_probes_count, _ = own.calibrate(factor_queries(head.factors, partition))
    return dataclasses.replace(
        served,
        head=head,
        probes_count=probes_count,
        recall=recall,
        factor_index=own,
        factor_probes_count=own_probes_count,
    )


def _needs_index(served: ServedDomain) -> bool:
    view, index = served.partition.view, served.index
    if view.alive_count < INDEX_ROWS_MIN:
        return False
    if index is None or index.generation != view.generation:
        return True
    return view.size - index.rows > TAIL_SHARE_MAX * index.rows
