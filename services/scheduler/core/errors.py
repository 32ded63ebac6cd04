"""What may go wrong in the scheduler.

SchedulerError
├── ArtifactsUnavailableError
├── BudgetNotReachedError
├── DomainNotFoundError
├── FieldInvalidError
├── FileRunsExhaustedError
├── HeadNotFoundError
├── LeaseLostError
├── ModelExistsError
├── ModelNotFoundError
├── NoTripletsError
├── RolloutEndedError
├── RolloutNotFoundError
├── RolloutWaitingError
├── RunActiveError
├── RunEndedError
├── RunNotFoundError
├── RunStateError
├── TenantsTooFewError
├── TripletsUnavailableError
├── UserNotFoundError
└── WatchersExhaustedError
"""


class SchedulerError(Exception):
    """Base of all: a public message, and its changing parts by name."""

    def __init__(self, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.metadata = metadata


class ArtifactsUnavailableError(SchedulerError):
    """A head's manifest cannot be read."""

    def __init__(self, head: str) -> None:
        super().__init__(f"The manifest of {head} cannot be read. Try again.", head=head)


class BudgetNotReachedError(SchedulerError):
    """Fewer triplets are pending than the budget asks for."""

    def __init__(self, domain: str, pending: int, budget: int) -> None:
        super().__init__(
            f"{pending} triplets are pending in {domain!r}, the budget asks for {budget}. "
            'Send "force": true to train all the same.',
            domain=domain,
            triplets_pending=str(pending),
            triplets_budget=str(budget),
        )


class DomainNotFoundError(SchedulerError):
    """The tenant has no such domain."""

    def __init__(self, domain: str) -> None:
        super().__init__(
            f"There is no domain {domain!r}. Declare its schema with PUT /v1/schema.", domain=domain
        )


class FieldInvalidError(SchedulerError):
    """A field breaks a rule."""

    def __init__(self, field: str, rule: str) -> None:
        super().__init__(f"{field}: {rule}.", field=field, rule=rule)


class FileRunsExhaustedError(SchedulerError):
    """No further run from files may begin."""

    def __init__(self, file_runs_max: int) -> None:
        super().__init__(
            f"{file_runs_max} runs from files have not ended, and there may be no more. Wait for "
            "one, or cancel one.",
            file_runs_max=str(file_runs_max),
        )


class HeadNotFoundError(SchedulerError):
    """There is no such head, or none to return to."""

    def __init__(self, domain: str, head: str) -> None:
        if not domain:
            message = f"There is no head {head!r}."
        elif head:
            message = f"The domain {domain!r} has no head {head!r} to put in use."
        else:
            message = f"The domain {domain!r} has no earlier head to return to."
        super().__init__(message, head=head, **({"domain": domain} if domain else {}))


class LeaseLostError(SchedulerError):
    """The caller does not hold the run's lease any more."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"The lease of {run_id} is lost. Nothing was kept; stop.", run_id=run_id)


class ModelExistsError(SchedulerError):
    """Another run makes a model of this name."""

    def __init__(self, model: str, run_id: str) -> None:
        super().__init__(
            f"The run {run_id} makes a model {model!r} already.", model=model, run_id=run_id
        )


class ModelNotFoundError(SchedulerError):
    """The tenant has no such model."""

    def __init__(self, model: str) -> None:
        super().__init__(f"There is no model {model!r}.", model=model)


class NoTripletsError(SchedulerError):
    """The domain has no triplets, and too few positive outcomes to do without."""

    def __init__(self, domain: str, positives_min: int) -> None:
        super().__init__(
            f"The domain {domain!r} has no triplets: no seeker has both a stronger and a weaker "
            f"outcome. Report some with POST /v1/feedback; {positives_min} positive outcomes will "
            "do as well.",
            domain=domain,
        )


class RolloutEndedError(SchedulerError):
    """The rollout has ended otherwise."""

    def __init__(self, rollout_id: str, status: str) -> None:
        super().__init__(
            f"The rollout {rollout_id} has been {status} already.",
            rollout_id=rollout_id,
            status=status,
        )


class RolloutNotFoundError(SchedulerError):
    """There is no such rollout."""

    def __init__(self, rollout_id: str) -> None:
        super().__init__(f"There is no rollout {rollout_id!r}.", rollout_id=rollout_id)


class RolloutWaitingError(SchedulerError):
    """The rollout waits for another's end."""

    def __init__(self, rollout_id: str) -> None:
        super().__init__(
            f"The rollout {rollout_id} waits for the one that is under way in its domain. Abort "
            "that one first.",
            rollout_id=rollout_id,
        )


class RunActiveError(SchedulerError):
    """A run of the domain is active."""

    def __init__(self, domain: str, run_id: str, status: str) -> None:
        way_out = "Resume it or cancel it." if status == "paused" else "Wait for it or cancel it."
        super().__init__(
            f"The run {run_id} of the domain {domain!r} is {status}. {way_out}",
            domain=domain,
            run_id=run_id,
            status=status,
        )


class RunEndedError(SchedulerError):
    """The run has ended."""

    def __init__(self, run_id: str, status: str) -> None:
        super().__init__(
            f"The run {run_id} has ended already: {status}.", run_id=run_id, status=status
        )


class RunNotFoundError(SchedulerError):
    """There is no such run."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"There is no run {run_id!r}.", run_id=run_id)


class RunStateError(SchedulerError):
    """The run's state does not allow what is asked for."""

    def __init__(self, run_id: str, status: str, rule: str) -> None:
        super().__init__(f"The run {run_id} is {status}: {rule}.", run_id=run_id, status=status)


class TenantsTooFewError(SchedulerError):
    """Too few tenants share a domain."""

    def __init__(self, domain: str) -> None:
        super().__init__(
            f"Too few tenants share the domain {domain!r} for a head to be learned from them.",
            domain=domain,
        )


class TripletsUnavailableError(SchedulerError):
    """The triplet store cannot be reached."""

    def __init__(self) -> None:
        super().__init__("The triplet store cannot be reached. Nothing was changed; try again.")


class UserNotFoundError(SchedulerError):
    """There is and was no such user."""

    def __init__(self, user_id: str) -> None:
        super().__init__(
            f"user_id: there is no user {user_id!r}.", field="user_id", user_id=user_id
        )


class WatchersExhaustedError(SchedulerError):
    """Nobody more can watch."""

    def __init__(self, watchers_max: int) -> None:
        super().__init__(
            f"There are {watchers_max} watchers already, and no more may watch. End some, or ask "
            "for the run instead.",
            watchers_max=str(watchers_max),
        )
