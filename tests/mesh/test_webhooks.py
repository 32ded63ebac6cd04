"""Webhook endpoints as the unmodified openai client sees them, through Envoy."""

from collections.abc import Iterator
from typing import Final

import httpx
import openai
import pytest
from openai.types.webhooks import FineTuningJobFailedWebhookEvent

from tests.support.clients import client_of, new_key
from tests.support.mesh import Mesh, until
from tests.support.receiver import Receiver, receiving

FAILED: Final = "fine_tuning.job.failed"
SUCCEEDED: Final = "fine_tuning.job.succeeded"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """An HTTP server beside the mesh."""
    with receiving() as made:
        yield made


@pytest.fixture
def client(mesh: Mesh) -> Iterator[openai.OpenAI]:
    with client_of(mesh, key=new_key(mesh, "hooked")) as made:
        yield made


def test_an_endpoint_is_made_changed_and_deleted(client: openai.OpenAI) -> None:
    made = client.webhooks.create(
        name="jobs", url="https://hooks.example.com/trine", event_types=[SUCCEEDED, FAILED]
    )
    assert made.id.startswith("we_")
    assert made.signing_secret.startswith("whsec_")
    assert made.signing_secret_hint == f"whsec_…{made.signing_secret[-4:]}"
    known = client.webhooks.retrieve(made.id)
    assert (known.name, known.event_types) == ("jobs", [SUCCEEDED, FAILED])
    assert "signing_secret" not in known.to_dict()

    changed = client.webhooks.update(made.id, name="all", event_types=[FAILED])
    assert (changed.name, changed.url, changed.event_types) == ("all", made.url, [FAILED])
    rotated = client.webhooks.rotate_secret(made.id, keep_old_secret_active_for_24_hours=True)
    assert rotated.signing_secret != made.signing_secret
    deleted = client.webhooks.delete(made.id)
    assert (deleted.id, deleted.object, deleted.deleted) == (
        made.id,
        "webhook_endpoint.deleted",
        True,
    )
    with pytest.raises(openai.NotFoundError):
        client.webhooks.retrieve(made.id)


def test_endpoints_are_listed_over_three_pages_and_each_tenant_sees_its_own(
    mesh: Mesh, client: openai.OpenAI
) -> None:
    made = [
        client.webhooks.create(name=str(n), url="https://hooks.example.com/", event_types=[FAILED])
        for n in range(5)
    ]
    first = client.webhooks.list(limit=2)
    pages = list(first.iter_pages())
    assert [len(page.data) for page in pages] == [2, 2, 1]
    assert [page.has_more for page in pages] == [True, True, False]
    listed = [each.id for page in pages for each in page.data]
    assert listed == [each.id for each in made][::-1]
    with client_of(mesh, key=new_key(mesh, "stranger")) as stranger:
        assert stranger.webhooks.list().data == []
        with pytest.raises(openai.NotFoundError):
            stranger.webhooks.delete(made[0].id)
    for each in made:
        client.webhooks.delete(each.id)


def test_a_test_event_arrives_signed(client: openai.OpenAI, receiver: Receiver) -> None:
    endpoint = client.webhooks.create(name="t", url=receiver.url, event_types=[FAILED])
    result = client.webhooks.test(endpoint.id, event_type=FAILED)
    assert (result.status_code, result.success, result.event_type) == (204, True, FAILED)
    ((content, headers),) = receiver.heard
    event = client.webhooks.unwrap(content, headers, secret=endpoint.signing_secret)
    assert isinstance(event, FineTuningJobFailedWebhookEvent)
    client.webhooks.delete(endpoint.id)


def test_the_end_of_a_job_is_heard_of(client: openai.OpenAI, receiver: Receiver) -> None:
    endpoint = client.webhooks.create(name="jobs", url=receiver.url, event_types=[FAILED])
    file = client.files.create(file=("bad.jsonl", b'{"anchor": "a"}\n'), purpose="fine-tune")
    job = client.fine_tuning.jobs.create(model="trine-general", training_file=file.id)

    until(lambda: receiver.heard or None, seconds_max=30)
    ((content, headers),) = receiver.heard
    event = client.webhooks.unwrap(content, headers, secret=endpoint.signing_secret)
    assert isinstance(event, FineTuningJobFailedWebhookEvent)
    assert event.data.id == job.id
    assert client.fine_tuning.jobs.retrieve(job.id).status == "failed"
    path = f"/webhook_endpoints/{endpoint.id}/deliveries"

    def settled() -> bool | None:
        (delivery,) = client.get(path, cast_to=httpx.Response).json()["data"]
        assert delivery["id"] == event.id
        return True if (delivery["attempts"], delivery["status"]) == (1, "delivered") else None

    until(settled)

    client.post(f"{path}/{event.id}/replay", cast_to=httpx.Response)
    until(lambda: len(receiver.heard) == 2 or None)
    rest = client.get(f"{path}?after={event.id}", cast_to=httpx.Response).json()
    assert (rest["data"], rest["has_more"]) == ([], False)
    client.webhooks.delete(endpoint.id)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"url": "http://hooks.example.com/"}, "url"),
        ({"url": "https://10.0.0.1/"}, "url"),
        ({"event_types": ["response.completed"]}, "event_types"),
        ({"event_types": []}, "event_types"),
        ({"name": "x" * 129}, "name"),
    ],
)
def test_what_breaks_a_rule_is_refused_by_name(
    client: openai.OpenAI, given: dict[str, object], field: str
) -> None:
    good = {"name": "n", "url": "https://hooks.example.com/", "event_types": [FAILED]}
    with pytest.raises(openai.BadRequestError) as caught:
        client.post("/webhook_endpoints", body={**good, **given}, cast_to=object)
    assert caught.value.param == field


def test_the_kinds_of_events_are_told(client: openai.OpenAI) -> None:
    assert {SUCCEEDED, FAILED} <= set(client.webhooks.event_types.list().data)
