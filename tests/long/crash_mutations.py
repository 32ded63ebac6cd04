"""Mutations that tests of dying processes must see."""

from tests.long.mutation import Mutation

CRASH_MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        invariant="I1",
        name="a PostgreSQL that may forget what it has committed is taken",
        path="services/chassis/database.py",
        old='DURABLE_SETTINGS = ("fsync", "full_page_writes", "synchronous_commit")',
        new='DURABLE_SETTINGS = ("fsync", "full_page_writes")',
        test="tests/contract/test_database.py -k forget",
    ),
    Mutation(
        invariant="I2",
        name="a repeat is carried out again",
        path="services/chassis/replies.py",
        old="        if reply is not None:\n            return kind.FromString(reply)",
        new="        if reply is None:\n            return await act(unit)",
        test="tests/rpc/test_outcome_reports.py tests/rpc/test_triplet_services.py",
    ),
    Mutation(
        invariant="I7",
        name="an artifact is read without its digest being looked at",
        path="services/chassis/artifacts.py",
        old="        if await _digest_of(content) != digest:",
        new="        if not content:",
        test="tests/rpc/test_deaths.py -k not_gone_on_from",
    ),
    Mutation(
        invariant="I7",
        name="a run begins anew after every death",
        path="services/trainer/core/train_run.py",
        old="checkpoint = await store.read_checkpoint(run.checkpoint_digest)",
        new="checkpoint = None",
        test="tests/rpc/test_deaths.py -k not_learned_again",
    ),
    Mutation(
        invariant="I5",
        name="a triplet store that is away for a moment costs a run its attempts",
        path="services/trainer/clients.py",
        old="if error.code() is not grpc.StatusCode.UNAVAILABLE or",
        new="if error.code() is not grpc.StatusCode.ABORTED or",
        test="tests/adapters/test_trainer_patience.py",
    ),
)
