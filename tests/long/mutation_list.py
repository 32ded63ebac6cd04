"""The mutations: for each invariant a way to break it, and the test that must see it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One replacement in one file.

    Attributes:
        invariant: The number of the invariant that it breaks (tests/RELIABILITY.md).
        name: What is broken, in words.
        path: The file, from the project's root.
        old: Text that stands exactly once in the file.
        new: What takes its place.
        test: Tests that must fail then, as pytest's arguments.
    """

    invariant: str
    name: str
    path: str
    old: str
    new: str
    test: str


MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        invariant="I6",
        name="an old token holds a run as a new one does",
        path="services/scheduler/core/lease_run.py",
        old="if run.token != token or run.state is State.QUEUED:",
        new="if run.state is State.QUEUED:",
        test="tests/contract/test_scheduler_leases.py",
    ),
    Mutation(
        invariant="I8",
        name="any signature passes",
        path="services/chassis/signatures.py",
        old="self._keys[words[1]].verify(signature, _signed(content))",
        new="pass",
        test="tests/unit/chassis/test_signatures.py",
    ),
    Mutation(
        invariant="I8",
        name="a run is completed with another run's head",
        path="services/scheduler/core/manifest.py",
        old="if found != (run.job.tenant, run.job.domain, head, run.run_id):",
        new="if False:",
        test="tests/rpc/test_scheduler_services.py -k something_else_completes_nothing",
    ),
    Mutation(
        invariant="I8",
        name="another tenant's head is loaded",
        path="services/serving/artifacts.py",
        old="if found != (desired.tenant, desired.domain, desired.head, desired.tier):",
        new="if False:",
        test="tests/adapters/test_heads.py -k says_something_else",
    ),
)
