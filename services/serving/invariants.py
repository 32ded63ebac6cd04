"""What must always hold of what ranks matches, as rules over what serving has in memory."""

from collections.abc import Sequence

import grpc

from services.chassis.invariants import Rule, UncheckableError
from services.serving.core.loaded_head import DOMAIN_TIER, GENERAL, TENANT_TIER, ServedDomain
from services.serving.core.ports import Gate, HeadName
from services.serving.core.swap_heads import DomainKey, Registry


def serving_rules(registry: Registry, gate: Gate) -> list[Rule]:
    """The rules; the scheduler knows what has passed the gate."""

    async def unearned() -> Sequence[str]:
        served = {name for one in registry.domains.values() if (name := _name(one)) is not None}
        try:
            found = await gate.unearned(sorted(served))
        except grpc.aio.AioRpcError as error:
            raise UncheckableError("the scheduler does not answer") from error
        return [f"{name.tenant} {name.head}" for name in found]

    async def mixed() -> Sequence[str]:
        return [
            f"{tenant}/{domain} {served.head.head}"
            for (tenant, domain), served in registry.domains.items()
            if not _is_whole((tenant, domain), served)
        ]

    return [
        Rule("I9", "Every head that ranks matches has passed the gate.", unearned),
        Rule("I10", "A domain is ranked by one bundle, made for it and fitted to it.", mixed),
    ]


def _name(served: ServedDomain) -> HeadName | None:
    bundle = served.head.bundle
    return None if bundle is None else HeadName(bundle.tenant, bundle.head)


def _is_whole(key: DomainKey, served: ServedDomain) -> bool:
    head, bundle = served.head, served.head.bundle
    if bundle is None:
        return head.tier == GENERAL and head.scorers is None
    tier_fits = {TENANT_TIER: bundle.tenant == key[0], DOMAIN_TIER: bundle.tenant != key[0]}
    return (
        (bundle.domain, bundle.head, bundle.tier) == (key[1], head.head, head.tier)
        and tier_fits[head.tier]
        and head.scorers is bundle.scorers
        and len(head.columns) == len(bundle.columns)
    )
