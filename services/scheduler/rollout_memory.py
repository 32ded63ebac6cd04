"""Rollouts in dictionaries: the part of the scheduler's store and unit that keeps them."""

import dataclasses
from dataclasses import dataclass, field
from typing import TypeVar

from services.scheduler.core.head import Challenger, Head, PromotedHead
from services.scheduler.core.rollout import ACTIVE, OPEN, Rollout, ShadowFigures, total
from services.scheduler.core.rollout_policy import AT_ONCE, RolloutPolicy

Item = TypeVar("Item")
Key = tuple[str, str]
"""Tenant, and a domain, head or rollout id."""


@dataclass
class RolloutState:
    """What is kept; what was reported stands apart, because nobody else writes it."""

    policies: dict[Key, RolloutPolicy] = field(default_factory=dict)
    rollouts: dict[Key, Rollout] = field(default_factory=dict)
    """In the order of their creation."""
    figures: dict[Key, dict[str, ShadowFigures]] = field(default_factory=dict)

    def find(self, key: Key) -> Rollout | None:
        """A rollout with what was reported of it."""
        rollout = self.rollouts.get(key)
        if rollout is None:
            return None
        return dataclasses.replace(rollout, figures=total(self.figures.get(key, {}).values()))

    def every(self) -> list[Rollout]:
        """All rollouts, oldest first."""
        return [found for key in self.rollouts if (found := self.find(key)) is not None]

    def open(self, tenant: str, domain: str) -> list[Rollout]:
        """A domain's rollouts that have not ended, oldest first."""
        of_domain = [r for r in self.every() if (r.tenant, r.domain) == (tenant, domain)]
        return [rollout for rollout in of_domain if rollout.step in OPEN]

    def challenger(self, tenant: str, domain: str, heads: dict[Key, Head]) -> Challenger | None:
        """The head that challenges the one in use."""
        for rollout in self.open(tenant, domain):
            if rollout.step in ACTIVE:
                head = heads[tenant, rollout.head]
                return Challenger(
                    rollout_id=rollout.rollout_id,
                    step=rollout.step,
                    share=rollout.share,
                    head=rollout.head,
                    tier=head.tier,
                    manifest_digest=head.manifest_digest,
                )
        return None


class MemoryRollouts:
    """What the store reads."""

    @property
    def _rollouts(self) -> RolloutState:
        raise NotImplementedError

    async def read_rollout_policy(self, tenant: str, domain: str) -> RolloutPolicy:
        """Returns how heads of a domain come into use."""
        return self._rollouts.policies.get((tenant, domain), AT_ONCE)

    async def read_rollout(self, tenant: str, rollout_id: str) -> Rollout | None:
        """Returns a rollout."""
        return self._rollouts.find((tenant, rollout_id))

    async def list_rollouts(
        self, tenant: str, domain: str, before: str, limit: int
    ) -> list[Rollout]:
        """Returns rollouts, newest first."""
        found = [r for r in reversed(self._rollouts.every()) if r.tenant == tenant]
        names = [rollout.rollout_id for rollout in found]
        older = after_name(found, names, before)
        return [r for r in older if domain in ("", r.domain)][:limit]

    async def active_rollouts(self) -> list[Rollout]:
        """Returns all rollouts in shadow or canary."""
        return [rollout for rollout in self._rollouts.every() if rollout.step in ACTIVE]


class MemoryRolloutUnit:
    """What a unit reads and writes."""

    def __init__(self, state: RolloutState, events: list[tuple[str, object]]) -> None:
        super().__init__()
        self._rollouts = state
        self._events = events

    async def read_rollout_policy(self, tenant: str, domain: str) -> RolloutPolicy:
        """Returns how heads of a domain come into use."""
        return self._rollouts.policies.get((tenant, domain), AT_ONCE)

    async def save_rollout_policy(self, tenant: str, domain: str, policy: RolloutPolicy) -> None:
        """Keeps how heads of a domain come into use."""
        self._rollouts.policies[tenant, domain] = policy

    async def find_rollout(self, tenant: str, rollout_id: str) -> Rollout | None:
        """Returns a rollout."""
        return self._rollouts.find((tenant, rollout_id))

    async def open_rollouts(self, tenant: str, domain: str) -> list[Rollout]:
        """Returns a domain's rollouts that have not ended."""
        return self._rollouts.open(tenant, domain)

    async def save_rollout(self, rollout: Rollout) -> None:
        """Keeps a rollout as it is now."""
        self._rollouts.rollouts[rollout.tenant, rollout.rollout_id] = rollout

    async def save_figures(
        self, tenant: str, rollout_id: str, server: str, figures: ShadowFigures
    ) -> None:
        """Keeps what a serving process reports of a rollout."""
        if (tenant, rollout_id) in self._rollouts.rollouts:
            self._rollouts.figures.setdefault((tenant, rollout_id), {})[server] = figures

    async def emit_rollout(self, rollout: Rollout) -> None:
        """Keeps an event about a rollout."""
        self._events.append((f"rollout.{rollout.step}", rollout))


def promoted(
    key: Key, head: Head | None, exploration: float, challenger: Challenger | None
) -> PromotedHead:
    """What is in use in a domain, and what challenges it."""
    return PromotedHead(
        tenant=key[0],
        domain=key[1],
        head=head.head if head else "",
        tier=head.tier if head else "",
        manifest_digest=head.manifest_digest if head else "",
        exploration=exploration,
        challenger=challenger,
    )


def after_name(items: list[Item], names: list[str], before: str) -> list[Item]:
    """Those that come after the one with a name; all of them for an empty one."""
    if not before:
        return items
    return items[names.index(before) + 1 :] if before in names else []
