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
        invariant="I12",
        name="a domain's head is a model of those who do not have the domain",
        path="services/scheduler/core/find_model.py",
        old="if shared is not None and await _has_domain(triplets, tenant, shared.domain):",
        new="if shared is not None:",
        test="tests/rpc/test_tiers.py",
    ),
    Mutation(
        invariant="I12",
        name="the list of a tenant's runs may name another tenant's",
        path="services/scheduler/queries.sql",
        old="where r.tenant = $1 and r.run_id = any($2::text[]);",
        new="where $1 <> '' and r.run_id = any($2::text[]);",
        test="tests/contract/test_scheduler_files.py",
    ),
    Mutation(
        invariant="I12",
        name="another tenant's model is loaded by its name",
        path="services/serving/artifacts.py",
        old="if (manifest.tenant, manifest.head) != (desired.owner, desired.head):",
        new="if manifest.head != desired.head:",
        test="tests/adapters/test_models.py",
    ),
    Mutation(
        invariant="I12",
        name="the process that writes runs for a tracker knows the mesh's secrets",
        path="services/gateway/wandb.py",
        old="            env=_environment(home),\n",
        new="            env={**os.environ, **_environment(home)},\n",
        test="tests/adapters/test_wandb.py",
    ),
    Mutation(
        invariant="I18",
        name="an upload may be as large as it likes",
        path="services/gateway/core/build_upload.py",
        old="if not 1 <= bytes_count <= bytes_max:",
        new="if bytes_count < 1:",
        test="tests/contract/test_file_store.py",
    ),
    Mutation(
        invariant="I6",
        name="an old token holds a run as a new one does",
        path="services/scheduler/core/lease_run.py",
        old="if run.token != token or run.state is State.QUEUED:",
        new="if run.state is State.QUEUED:",
        test="tests/contract/test_scheduler_leases.py",
    ),
    Mutation(
        invariant="I12",
        name="a transaction is about everyone, whomever it names",
        path="services/chassis/database.py",
        old='await connection.execute(_SAY_WHOSE, ",".join(tenants))',
        new="await connection.execute(_SAY_WHOSE, EVERYONE)",
        test="tests/contract/test_tenants_apart.py",
    ),
    Mutation(
        invariant="I12",
        name="rows that name their domain are seen by all",
        path="services/triplets/migrations/0012_tenants_apart.sql",
        old="        execute format('alter table %I enable row level security', name);\n",
        new="",
        test="tests/contract/test_tenants_apart.py",
    ),
    Mutation(
        invariant="I12",
        name="rollouts are looked through as their owner",
        path="services/scheduler/migrations/0011_tenants_apart.sql",
        old="security_invoker = true",
        new="security_invoker = false",
        test="tests/contract/test_tenants_apart.py",
    ),
    Mutation(
        invariant="I12",
        name="a service may connect as the owner",
        path="services/chassis/database.py",
        old="            await _refuse_unbound(connection, schema)\n",
        new="",
        test="tests/contract/test_database.py",
    ),
    Mutation(
        invariant="I12",
        name="internal RPCs need no token",
        path="services/chassis/auth.py",
        old="if hmac.compare_digest(token.encode(), self._mesh_token):",
        new="if token is not None:",
        test="tests/unit/chassis/test_auth.py",
    ),
    Mutation(
        invariant="I12",
        name="a tenant hears what others fetch",
        path="deploy/nats/nats.conf",
        old="_INBOX_$TENANT.>",
        new="_INBOX*.>",
        test="tests/contract/test_nats_users.py",
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
    Mutation(
        invariant="I8",
        name="bytes that do not give their digest are returned",
        path="services/chassis/artifacts.py",
        old="if hashlib.sha256(content).hexdigest() != digest:",
        new="if False:",
        test="tests/adapters/test_hostile_heads.py -k something_changed",
    ),
    Mutation(
        invariant="I8",
        name="heads may loop",
        path="services/serving/graph.py",
        old='b"Add Clip Div',
        new='b"Loop Add Clip Div',
        test="tests/adapters/test_hostile_heads.py -k unopened",
    ),
    Mutation(
        invariant="I8",
        name="golden vectors are not compared",
        path="services/serving/onnx.py",
        old='raise HeadRefusedError(f"gives another {name} than its golden vectors say")',
        new="pass",
        test="tests/adapters/test_heads.py -k other_outputs",
    ),
    Mutation(
        invariant="I8",
        name="a head is tried without limits",
        path="services/serving/probe_process.py",
        old="        _limit(MEMORY_BYTES + MEMORY_FACTOR * sum(map(len, asked)), cpu_seconds)\n",
        new="",
        test="tests/adapters/test_hostile_heads.py -k too_much_memory",
    ),
    Mutation(
        invariant="I8",
        name="a head is opened without being tried",
        path="services/serving/artifacts.py",
        old="self._probe.try_head(files, golden)",
        new="pass",
        test="tests/adapters/test_hostile_heads.py -k opened_by_serving",
    ),
    Mutation(
        invariant="I6",
        name="any token holds a run",
        path="services/scheduler/core/lease_run.py",
        old=(
            "    if run.token != token or run.state is State.QUEUED:\n        raise LeaseLostError"
        ),
        new="    if run.state is State.QUEUED:\n        raise LeaseLostError",
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I5",
        name="an expired run of a trainer is left where it is",
        path="services/scheduler/core/lease_run.py",
        old="for run in await unit.lock_expired_runs()]",
        new="for run in await unit.lock_expired_runs() if run.token < 0]",
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I5",
        name="a run that is pausing never comes back from a silent trainer",
        path="services/scheduler/core/run.py",
        old="State.PAUSING: frozenset({State.PAUSED, ",
        new="State.PAUSING: frozenset({",
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I15",
        name="a run that lost its trainer stays in its attempt",
        path="services/scheduler/core/run.py",
        old="    return run.attempt + (run.state in LEASED and state is State.QUEUED)",
        new="    return run.attempt",
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I15",
        name="a cancelled run may be cancelled by its own repeat",
        path="services/scheduler/core/cancel_run.py",
        old="    if run.state is State.CANCELLED:\n        return run\n",
        new="",
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I9",
        name="a head that failed the gate is put in use",
        path="services/scheduler/core/complete_run.py",
        old="    if verdict.promoted:\n",
        new="    if verdict.rules:\n",
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I9",
        name="a head is promoted over one that it was not measured against",
        path="services/scheduler/core/complete_run.py",
        old="    if run.incumbent != previous:\n",
        new="    if run.incumbent is None:\n",
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I9",
        name="a promotion moves a pinned pointer",
        path="services/scheduler/core/complete_run.py",
        old="    if await unit.is_pinned(run.job.tenant, run.job.domain):\n",
        new="    if not in_use and await unit.is_pinned(run.job.tenant, run.job.domain):\n",
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I13",
        name="the relay marks an event before it is published",
        path="services/chassis/outbox.py",
        old="        published: list[int] = []\n        for row in rows:\n",
        new=(
            "        published: list[int] = []\n"
            "        for row in rows:\n"
            '            published.append(row["id"])\n'
        ),
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I13",
        name="the relay goes on behind an event that was refused",
        path="services/chassis/outbox.py",
        old="                break  # in order: the rest waits for this one",
        new="                continue",
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I13",
        name="a run that a silent trainer leaves failed is told to nobody",
        path="services/scheduler/core/lease_run.py",
        old=(
            "    failed = await unit.move_run(run, State.FAILED, failure=failure)\n"
            '    await unit.emit_run("failed", failed)\n'
        ),
        new="    failed = await unit.move_run(run, State.FAILED, failure=failure)\n",
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I10",
        name="a swap keeps the probes of the head before",
        path="services/serving/core/swap_heads.py",
        old="        probes_count=probes_count,\n        recall=recall,\n        factor_index",
        new="        recall=recall,\n        factor_index",
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I10",
        name="an index that was built meanwhile brings back a head out of use",
        path="services/serving/core/swap_heads.py",
        old="is served:  # else a head out of use would be back",
        new="is not None:",
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I9",
        name="a refused head is never tried again",
        path="services/serving/core/swap_heads.py",
        old="            and self._clock.monotonic() - failed.failed_at < RETRY_SECONDS\n",
        new="",
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I9",
        name="serving keeps a head that was rolled back to none",
        path="services/serving/core/swap_heads.py",
        old="            if wanted is None or not wanted.head:\n",
        new="            if wanted is not None and not wanted.head:\n",
        test="tests/unit/simulation",
    ),
    Mutation(
        invariant="I1",
        name="a NATS that may forget is taken",
        path="services/chassis/bus.py",
        old="    if monitor_url and not await syncs_always(monitor_url):\n",
        new="    if monitor_url and not monitor_url:\n",
        test="tests/contract/test_stream.py::test_a_server_that_may_forget_is_refused",
    ),
    Mutation(
        invariant="I2",
        name="a corrected outcome counts twice",
        path="services/triplets/core/tally.py",
        old="        moved[before] -= 1\n",
        new="        moved[before] -= 0\n",
        test="tests/contract/test_triplet_invariants.py",
    ),
    Mutation(
        invariant="I3",
        name="an erasure leaves its triplets in the count",
        path="services/triplets/core/erase_user.py",
        old="    await unit.save_tallies(changed, added, positives)\n",
        new="    await unit.save_tallies(changed, 0, positives)\n",
        test="tests/contract/test_triplet_invariants.py",
    ),
    Mutation(
        invariant="I4",
        name="the index that settles races forgets queued runs",
        path="services/scheduler/migrations/0006_files.sql",
        old="where domain <> '' and state in (\n    'queued', ",
        new="where domain <> '' and state in (\n    ",
        test="tests/contract/test_scheduler_invariants.py",
    ),
    Mutation(
        invariant="I9",
        name="serving is told that any head that exists has passed",
        path="services/scheduler/rpc/heads.py",
        old="                if head is None or not head.verdict.passed\n",
        new="                if head is None\n",
        test="tests/rpc/test_invariants.py",
    ),
    Mutation(
        invariant="I13",
        name="events of a run bear the same number",
        path="services/chassis/outbox.py",
        old="set last = outbox_sequences.last + 1 returning last",
        new="set last = outbox_sequences.last returning last",
        test="tests/contract/test_scheduler_invariants.py",
    ),
    Mutation(
        invariant="I14",
        name="a stream made anew gets ids that it has had",
        path="services/chassis/stream.py",
        old="    update outbox set publish_time = null, epoch = epoch + 1\n",
        new="    update outbox set publish_time = null\n",
        test="tests/contract/test_stream.py",
    ),
    Mutation(
        invariant="I14",
        name="a stream that is gone stays so",
        path="services/chassis/bus.py",
        old="                await self.declare_stream()\n",
        new="",
        test="tests/contract/test_stream.py",
    ),
    Mutation(
        invariant="I15",
        name="a move is not written into the run's history",
        path="services/scheduler/postgres.py",
        old="        await self._add_transition(moved)\n",
        new="",
        test="tests/contract/test_scheduler_invariants.py",
    ),
    Mutation(
        invariant="I20",
        name="what was said of an erased person stays",
        path="services/triplets/queries.sql",
        old="delete from outcomes where domain_id = $1 and candidate = $2;\n",
        new="delete from outcomes where domain_id = $1 and candidate = $2 and level < 0;\n",
        test="tests/contract/test_triplet_invariants.py",
    ),
    Mutation(
        invariant="I22",
        name="whoever asks another service is forgotten",
        path="services/chassis/auth.py",
        old="    set_current_author(caller.author)\n",
        new="",
        test="tests/unit/chassis/test_auth.py",
    ),
    Mutation(
        invariant="I22",
        name="a promotion is kept without its author",
        path="services/scheduler/postgres.py",
        old="tenant, domain, head, previous, reason, *current_author()\n",
        new='tenant, domain, head, previous, reason, "", ""\n',
        test="tests/contract/test_scheduler_transitions.py::test_each_move_is_kept_with_its_author",
    ),
    Mutation(
        invariant="all",
        name="a violation is not counted",
        path="services/chassis/invariants.py",
        old="            VIOLATIONS.labels(rule.invariant).inc()\n",
        new="",
        test="tests/contract/test_invariants.py",
    ),
    Mutation(
        invariant="all",
        name="what cannot be checked looks as if it held",
        path="services/chassis/invariants.py",
        old="        result=checked.RESULT_UNCHECKED if finding.unchecked else result,\n",
        new="        result=result,\n",
        test="tests/rpc/test_invariants.py",
    ),
)
