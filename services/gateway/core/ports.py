"""What the gateway's core needs from outside."""

import datetime
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Mapping,
    Sequence,
)
from typing import Protocol

from services.gateway.core.api_key import ApiKey
from services.gateway.core.file import File
from services.gateway.core.permission import Permission
from services.gateway.core.run import Checkpoint, Model, Run, RunEvent, Verb, Wish
from services.gateway.core.tracked_run import TrackedRun
from services.gateway.core.tuning_job import TuningJob
from services.gateway.core.upload import Part, Upload, UploadState
from services.gateway.core.webhook import Attempt, Delivery, Endpoint


class KeyStore(Protocol):
    """Tenants and keys, durable once a method returns."""

    async def add_tenant(self, tenant: str) -> None:
        """Adds a tenant.

        Raises:
            TenantExistsError: it is there already.
        """
        ...

    async def has_tenant(self, tenant: str) -> bool:
        """Says whether there is a tenant."""
        ...

    async def add_key(self, key: ApiKey) -> None:
        """Adds a key.

        Raises:
            TenantNotFoundError: its tenant does not exist.
        """
        ...

    async def find_key(self, key_id: str) -> ApiKey | None:
        """Returns the key of an id."""
        ...

    async def replace_secrets(self, key: ApiKey, rotated: ApiKey) -> bool:
        """Gives a key another's secrets; False if its own have changed or it is revoked."""
        ...

    async def note_use(self, key_id: str, secret_hash: bytes, now: datetime.datetime) -> None:
        """Keeps when the secret of this hash was last used; nothing if the key has none such."""
        ...

    async def revoke_key(self, key_id: str) -> None:
        """Marks a key as revoked; a repeat changes nothing.

        Raises:
            KeyNotFoundError: there is no such key.
        """
        ...


class FileStore(Protocol):
    """Files and uploads, durable once a method returns. Bytes that nothing names fall due."""

    async def add_file(self, file: File) -> None:
        """Adds a file.

        Raises:
            FileNameTakenError: it is to be found by its name, and another file is.
            QuotaExceededError: the tenant has too many.
        """
        ...

    async def find_file(self, tenant: str, file_id: str, now: datetime.datetime) -> File | None:
        """Returns a file that has not expired."""
        ...

    async def find_named_file(
        self, tenant: str, filename: str, now: datetime.datetime
    ) -> File | None:
        """Returns the file that is found by this name."""
        ...

    async def list_files(
        self,
        tenant: str,
        *,
        purpose: str,
        named: bool = False,
        after: str,
        limit: int,
        newest_first: bool,
        now: datetime.datetime,
    ) -> list[File]:
        """Returns files beyond an id that have not expired; no purpose means every one.

        `named`: only those that are found by their names.
        """
        ...

    async def delete_file(self, tenant: str, file_id: str, now: datetime.datetime) -> bool:
        """Removes a file; false if it is not there, or has expired."""
        ...

    async def add_upload(self, upload: Upload) -> None:
        """Adds a pending upload.

        Raises:
            QuotaExceededError: the tenant has too many that are pending.
        """
        ...

    async def find_upload(self, tenant: str, upload_id: str) -> Upload | None:
        """Returns an upload."""
        ...

    async def find_started_upload(
        self, tenant: str, filename: str, now: datetime.datetime
    ) -> Upload | None:
        """Returns the latest pending upload of a file that is to be found by this name."""
        ...

    async def add_part(self, upload: Upload, part: Part, parts_max: int) -> None:
        """Adds a part to a pending upload.

        Raises:
            QuotaExceededError: the upload has too many.
            UploadStateError: it has ended.
        """
        ...

    async def list_parts(self, upload: Upload) -> list[Part]:
        """Returns the parts of an upload."""
        ...

    async def complete_upload(self, upload: Upload, file: File) -> None:
        """Ends a pending upload with its file, and drops its parts.

        A race is lost in silence: the upload then names the other's file.

        Raises:
            FileNameTakenError: it is to be found by its name, and another file is.
            QuotaExceededError: the tenant has too many files.
            UploadStateError: it has ended otherwise.
        """
        ...

    async def end_upload(self, upload: Upload, state: UploadState, now: datetime.datetime) -> None:
        """Ends a pending upload without a file, and drops its parts.

        Raises:
            UploadStateError: it has ended otherwise.
        """
        ...

    async def expire(self, now: datetime.datetime) -> int:
        """Removes files and ends uploads whose time is over; returns how many.

        Uploads whose time is long over are forgotten.
        """
        ...

    async def release(self, digest: str, now: datetime.datetime) -> None:
        """Says that bytes may be named by nothing: they fall due."""
        ...

    async def list_due(self, now: datetime.datetime, limit: int) -> list[str]:
        """Returns digests of bytes that have been due for long enough."""
        ...

    async def settle(self, digest: str, erase: Callable[[str], Awaitable[None]]) -> bool:
        """Erases bytes that are due, unless something names them; nobody can name them meanwhile.

        Returns whether they were erased.
        """
        ...


class JobStore(Protocol):
    """Jobs and permissions, durable once a method returns."""

    async def add_job(self, job: TuningJob) -> TuningJob:
        """Adds a job, unless it is a repeat; returns the job that stands.

        With a key, a repeat is what came with the same key in the last `KEY_LIFE`, whatever its
        fingerprint; without one, what has the same name, whatever its fingerprint and age, or had
        the same fingerprint in the last `REPEAT`.
        """
        ...

    async def drop_job(self, job: TuningJob) -> None:
        """Removes a job that has no run."""
        ...

    async def find_job(self, tenant: str, job_id: str) -> TuningJob | None:
        """Returns a job."""
        ...

    async def find_named_job(self, tenant: str, name: str) -> TuningJob | None:
        """Returns the job that is found by a name."""
        ...

    async def list_jobs(
        self,
        tenant: str,
        *,
        after: str,
        limit: int,
        metadata: Mapping[str, str] | None,
        bare: bool,
        named: bool = False,
    ) -> list[TuningJob]:
        """Returns jobs older than an id, newest first: those with a name, or those without.

        Only those with all of `metadata`, if there is any; `bare`: only those without metadata.
        """
        ...

    async def list_without_run(self, limit: int) -> list[TuningJob]:
        """Returns jobs of all tenants that have no run yet, oldest first."""
        ...

    async def list_unannounced(self, *, after: str, limit: int) -> list[TuningJob]:
        """Returns jobs newer than an id, oldest first, whose end has not been told."""
        ...

    async def set_announced(self, job: TuningJob) -> None:
        """Notes that the end of a job has been told."""
        ...

    async def list_untracked(self, *, after: str, limit: int) -> list[TuningJob]:
        """Returns jobs newer than an id, oldest first: told of, with integrations, not tracked."""
        ...

    async def set_tracked(self, job: TuningJob) -> None:
        """Notes that nothing more is to be tracked of a job."""
        ...

    async def set_run(self, job: TuningJob, run_id: str) -> None:
        """Notes the run of a job."""
        ...

    async def set_result(self, job: TuningJob, file: File) -> str:
        """Keeps the file that a run has made, unless the job has one; returns the file's id."""
        ...

    async def release_wish(self, job: TuningJob) -> None:
        """Takes the same request for a new wish from now on."""
        ...

    async def add_permissions(self, permissions: Sequence[Permission]) -> list[Permission]:
        """Adds permissions of one checkpoint; returns those that stand, once for each project.

        Raises:
            QuotaExceededError: the checkpoint has too many.
        """
        ...

    async def list_permissions(
        self,
        tenant: str,
        checkpoint: str,
        *,
        after: str,
        limit: int,
        newest_first: bool,
        project: str,
    ) -> list[Permission]:
        """Returns permissions of a checkpoint beyond an id; no project means every one."""
        ...

    async def delete_permission(self, tenant: str, checkpoint: str, permission_id: str) -> bool:
        """Removes a permission; false if it is not there."""
        ...


class Runs(Protocol):
    """The scheduler's runs from files, and what they made.

    Every method raises SchedulerUnavailableError when the scheduler cannot be reached, and lets
    what it refuses with pass.
    """

    async def create(self, tenant: str, wish: Wish) -> Run:
        """Makes a run; the same wish returns the run that it has made."""
        ...

    async def get(self, tenant: str, run_id: str) -> Run:
        """Returns a run."""
        ...

    async def get_all(self, tenant: str, run_ids: Collection[str]) -> dict[str, Run]:
        """Returns runs by their ids: at most 100, and all of them are there."""
        ...

    async def steer(self, tenant: str, run_id: str, verb: Verb) -> Run:
        """Does something to a run."""
        ...

    async def list_events(
        self, tenant: str, run_id: str, after: str, limit: int
    ) -> tuple[list[RunEvent], bool]:
        """Returns events older than an id, newest first, and whether there are others."""
        ...

    async def list_checkpoints(self, tenant: str, run_id: str) -> list[Checkpoint]:
        """Returns all checkpoints of a run, newest first."""
        ...

    async def get_model(self, tenant: str, model: str) -> Model:
        """Returns a model or a checkpoint."""
        ...

    async def list_models(self, tenant: str) -> list[Model]:
        """Returns what the tenant may name."""
        ...

    async def delete_model(self, tenant: str, model: str) -> None:
        """Deletes a model that a run from files has made."""
        ...


class RunTracker(Protocol):
    """Where runs that have ended are kept for their owners to look at."""

    @property
    def installed(self) -> bool:
        """Whether it can keep any."""
        ...

    async def write(self, tracked: TrackedRun) -> bool:
        """Keeps a run, once however often it is told; false if that went wrong."""
        ...


class Contents(Protocol):
    """The bytes of files, under their digests."""

    async def put_stream(self, chunks: AsyncIterable[bytes]) -> tuple[str, int]:
        """Keeps a stream; returns its digest and bytes. The stream's own errors come out."""
        ...

    def stream(self, digest: str) -> AsyncIterator[bytes]:
        """Yields bytes."""
        ...

    async def exists(self, digest: str) -> bool:
        """Whether they are there."""
        ...

    async def erase(self, digest: str) -> None:
        """Removes bytes."""
        ...


class Clock(Protocol):
    """The wall clock."""

    def now(self) -> datetime.datetime:
        """Now, in UTC."""
        ...


class WebhookStore(Protocol):
    """Endpoints of webhooks and what is on its way to them, durable once a method returns."""

    async def add_endpoint(self, endpoint: Endpoint) -> None:
        """Adds an endpoint.

        Raises:
            QuotaExceededError: the tenant has too many.
        """
        ...

    async def find_endpoint(self, tenant: str, endpoint_id: str) -> Endpoint | None:
        """Returns an endpoint."""
        ...

    async def list_endpoints(self, tenant: str, *, after: str, limit: int) -> list[Endpoint]:
        """Returns endpoints made before one, newest first."""
        ...

    async def update_endpoint(self, endpoint: Endpoint) -> bool:
        """Writes an endpoint; false if it is not there."""
        ...

    async def delete_endpoint(self, tenant: str, endpoint_id: str) -> bool:
        """Removes an endpoint and what is on its way to it; false if it is not there."""
        ...

    async def add_deliveries(
        self, tenant: str, event_id: str, event_type: str, body: str, now: datetime.datetime
    ) -> None:
        """Puts an event on its way to each endpoint that wants it and does not have it yet."""
        ...

    async def hold_due(
        self, now: datetime.datetime, limit: int, held: datetime.timedelta
    ) -> list[tuple[Delivery, Endpoint]]:
        """Takes deliveries that are due: until their next_time, which moves, nobody else does.

        Tenants take turns: who has many endpoints that do not answer holds up no other.
        """
        ...

    async def settle_delivery(
        self, delivery: Delivery, held_until: datetime.datetime | None, *, disable: bool
    ) -> None:
        """Writes what became of a delivery, unless it is no longer held until that time."""
        ...

    async def list_deliveries(
        self, endpoint: Endpoint, *, state: str, after: str, limit: int
    ) -> list[Delivery]:
        """Returns an endpoint's deliveries made before one, newest first; no state means every one.

        Raises:
            DeliveryNotFoundError: the endpoint has none of the id `after`.
        """
        ...

    async def replay_delivery(
        self, endpoint: Endpoint, event_id: str, now: datetime.datetime
    ) -> Delivery | None:
        """Puts a delivery on its way again, as if for the first time."""
        ...

    async def forget_deliveries(self, before: datetime.datetime) -> None:
        """Removes deliveries that have ended and were made before a time."""
        ...


class WebhookSender(Protocol):
    """Sends signed events to addresses that strangers have named."""

    def check_url(self, url: str) -> None:
        """Refuses what will never be sent to.

        Raises:
            FieldInvalidError: names the rule.
        """
        ...

    async def send(
        self,
        url: str,
        secrets: Sequence[str],
        *,
        message_id: str,
        body: str,
        now: datetime.datetime,
    ) -> Attempt:
        """Sends once; whatever goes wrong is in the attempt."""
        ...
