"""How many bodies a tenant may send at once."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from services.gateway.core.errors import TransfersExhaustedError

TRANSFERS_MAX = 16


class Transfers:
    """Counts what is being received."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()

    @contextmanager
    def slot(self, tenant: str) -> Iterator[None]:
        """Holds one of the tenant's places for the length of a block.

        Raises:
            TransfersExhaustedError: all are taken.
        """
        if self._running[tenant] >= TRANSFERS_MAX:
            raise TransfersExhaustedError(TRANSFERS_MAX)
        self._running[tenant] += 1
        try:
            yield
        finally:
            self._running[tenant] -= 1
            if not self._running[tenant]:
                del self._running[tenant]
