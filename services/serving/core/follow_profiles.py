"""Keeping candidates in step with the triplet store's stream.

A domain is served from the moment it is complete. When its schema grows, everyone is sent anew: the
new set is filled beside the one that is served and takes its place when it is complete.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from services.serving.core.candidates import Layout, Partition, ProfileRows
from services.serving.core.seen import PairRows
from services.serving.core.swap_heads import DomainKey, Registry


class ProfileFollower:
    """Applies the stream's batches."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._filling: dict[DomainKey, Partition] = {}

    def cursors(self) -> Mapping[DomainKey, int]:
        """Where to resume the stream: the revision of each domain that is complete."""
        served = self._registry.domains.items()
        return {key: domain.partition.revision for key, domain in served}

    def restart(self) -> None:
        """Forgets what is half filled: a new stream sends it from the start."""
        self._filling.clear()

    def apply(
        self,
        key: DomainKey,
        layout: Layout,
        *,
        profiles: ProfileRows | None,
        tallies: tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]] | None,
        pairs: PairRows | None = None,
        removals: npt.NDArray[np.int32] | None = None,
        revision: int,
    ) -> None:
        """Applies one batch; one without content completes the domain up to its revision."""
        partition = self._partition(key, layout)
        if removals is not None:
            partition.apply_removals(removals)
        if profiles is not None:
            partition.apply_profiles(profiles)
        if tallies is not None:
            partition.apply_tallies(*tallies)
        if pairs is not None:
            partition.seen.apply(pairs)
        if all(content is None for content in (removals, profiles, tallies, pairs)):
            partition.revision = revision
            if self._filling.pop(key, None) is not None:
                self._registry.install(key, partition)

    def _partition(self, key: DomainKey, layout: Layout) -> Partition:
        filling = self._filling.get(key)
        if filling is not None and filling.layout == layout:
            return filling
        served = self._registry.domains.get(key)
        if served is not None and served.partition.layout == layout:
            return served.partition
        self._filling[key] = Partition(layout)
        return self._filling[key]
