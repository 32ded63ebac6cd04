"""A model from a file to its first answers, as the unmodified openai client sees it."""

import base64
import itertools
import json
from collections.abc import Iterator

import httpx
import numpy as np
import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.support.clients import TRUEFOUNDRY, client_of, new_key
from tests.support.mesh import Json, Mesh, until

BASE = "trine-general"
TENANT = "modeller"
SEA = ["sailing", "surfing", "diving", "rowing", "kayaking", "at the beach"]
HILLS = ["hiking", "climbing", "skiing", "trekking", "mountain biking", "in the Alps"]
SEEKERS = ("I spend each weekend {}", "My friends know me for {}", "{} is my life")
OFFERS = ("A holiday of {}", "A course in {}", "A club for {}")


def lines() -> bytes:
    """Whoever does the one wants the other: no encoder would say so by itself."""
    made = []
    for side, other in ((SEA, HILLS), (HILLS, SEA)):
        for index, (thing, seeker) in enumerate(itertools.product(side[:4], SEEKERS)):
            offer = OFFERS[index % 3]
            made.append(
                {
                    "anchor": seeker.format(thing),
                    "positive": offer.format(other[index % 4]),
                    "negative": offer.format(side[(index + 1) % 4]),
                }
            )
    return b"".join(json.dumps(line).encode() + b"\n" for line in made)


@pytest.fixture(scope="module")
def client(mesh: Mesh) -> Iterator[openai.OpenAI]:
    with client_of(mesh, key=new_key(mesh, TENANT)) as made:
        yield made


@pytest.fixture(scope="module")
def job(client: openai.OpenAI) -> FineTuningJob:
    """A job that has made a model."""
    sent = client.files.create(file=("train.jsonl", lines()), purpose="fine-tune").id
    made = client.fine_tuning.jobs.create(
        model=BASE,
        training_file=sent,
        suffix="opposites",
        hyperparameters={"n_epochs": 12, "batch_size": 8},
    )

    def look() -> FineTuningJob | None:
        found = client.fine_tuning.jobs.retrieve(made.id)
        return found if found.status in {"succeeded", "failed", "cancelled"} else None

    found: FineTuningJob = until(look, 120, pause=0.2)
    assert found.status == "succeeded", found.error
    return found


def rerank(client: openai.OpenAI, model: str, query: str, documents: list[object]) -> Json:
    body = {"model": model, "query": query, "documents": documents, "return_documents": True}
    answer: Json = client.post("/rerank", body=body, cast_to=httpx.Response).json()
    return answer


def own_lead(client: openai.OpenAI, model: str) -> list[float]:
    """By how much held-out queries prefer a document of their own side to one of the other."""
    sea, hills = "A boat trip on the sea", "A tour of the mountains"
    leads = []
    for side, own, other in ((SEA, sea, hills), (HILLS, hills, sea)):
        for thing in side[4:]:
            answer = rerank(client, model, f"I would rather be {thing}", [{"text": own}, other])
            results = answer["results"]
            scores = {each["document"]["text"]: each["relevance_score"] for each in results}
            assert list(scores.values()) == sorted(scores.values(), reverse=True)
            leads.append(scores[own] - scores[other])
    return leads


def test_a_model_turns_what_is_relevant(client: openai.OpenAI, job: FineTuningJob) -> None:
    assert job.fine_tuned_model is not None
    assert job.trained_tokens
    before, after = own_lead(client, BASE), own_lead(client, job.fine_tuned_model)
    assert min(before) > 0, "the encoder alone offers more of the same"
    assert max(after) < 0, "the model has learned that opposites attract"


def test_embeddings_are_of_the_model_for_queries_alone(
    client: openai.OpenAI, job: FineTuningJob
) -> None:
    assert job.fine_tuned_model is not None
    texts = ["I spend each weekend rowing", "A course in skiing"]
    general = client.embeddings.create(model=BASE, input=texts)  # as base64: the client's default
    floats = client.embeddings.create(model=BASE, input=texts, encoding_format="float")
    query = client.embeddings.create(model=job.fine_tuned_model, input=texts)
    document = client.embeddings.create(
        model=job.fine_tuned_model, input=texts, extra_body={"input_type": "document"}
    )
    plain = np.array([each.embedding for each in general.data])
    assert plain.shape == (2, 384)
    assert np.allclose(np.linalg.norm(plain, axis=1), 1, atol=1e-5)
    assert np.allclose(plain, [each.embedding for each in floats.data])
    assert np.allclose(plain, [each.embedding for each in document.data])
    mapped = np.array([each.embedding for each in query.data])
    assert not np.allclose(plain, mapped, atol=0.05)
    assert mapped[0] @ plain[1] > plain[0] @ plain[1]
    assert (general.model, general.object, general.data[1].index) == (BASE, "list", 1)
    assert general.usage.prompt_tokens == general.usage.total_tokens > 8


def test_checkpoints_are_models(client: openai.OpenAI, job: FineTuningJob) -> None:
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id))
    assert len(checkpoints) == 12
    newest = client.embeddings.create(
        model=checkpoints[0].fine_tuned_model_checkpoint, input="rowing"
    )
    final = client.embeddings.create(model=job.fine_tuned_model or "", input="rowing")
    assert np.allclose(newest.data[0].embedding, final.data[0].embedding)
    (result,) = job.result_files
    rows = client.files.content(result).text.splitlines()
    assert rows[0] == "step,train_loss,valid_loss,ndcg_at_10"
    assert len(rows) == 13


def test_others_do_not_have_the_model(mesh: Mesh, job: FineTuningJob) -> None:
    with (
        client_of(mesh, TRUEFOUNDRY) as other,
        pytest.raises(openai.NotFoundError) as caught,
    ):
        other.embeddings.create(model=job.fine_tuned_model or "", input="rowing")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


@pytest.mark.parametrize(
    ("content", "param"),
    [
        ({"input": [[1, 2, 3]]}, "input"),
        ({"input": [1, 2, 3]}, "input"),
        ({"input": []}, "input"),
        ({"input": " "}, "input"),
        ({"input": "a", "dimensions": 64}, "dimensions"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "extra_body": {"input_type": "image"}}, "input_type"),
    ],
)
def test_what_cannot_be_embedded_is_refused_by_its_field(
    client: openai.OpenAI, content: Json, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=BASE, **content)
    assert caught.value.param == param


def test_the_newer_words_of_archetype_tell_the_same_job(
    mesh: Mesh, client: openai.OpenAI, job: FineTuningJob
) -> None:
    path = f"/v0.6/fine_tuning/jobs/{job.id.replace('ftjob-', 'ftj_')}"

    def read(below: str = "") -> Json:
        headers = {"authorization": f"Bearer {client.api_key}"}
        answer = httpx.get(mesh.told["rest"] + path + below, headers=headers)
        assert answer.status_code == 200, answer.text
        content: Json = answer.json()
        return content

    told = read()
    assert (told["status"], told["fine_tuned_model"]) == ("SUCCEEDED", job.fine_tuned_model)
    checkpoints = read("/checkpoints")["data"]
    known = client.fine_tuning.jobs.checkpoints.list(job.id, limit=100).data
    assert [each["name"] for each in checkpoints] == [
        each.fine_tuned_model_checkpoint for each in known
    ]
    assert {"loss", "step"} <= checkpoints[0]["metrics"].keys()
    events = read("/events?limit=100")["data"]
    assert events[0]["message"] == f"The model {job.fine_tuned_model} is ready."
    assert {event["type"] for event in events} == {"message", "metrics"}


def test_a_vector_is_base64_of_little_endian_floats(client: openai.OpenAI) -> None:
    body = {"model": BASE, "input": "a", "encoding_format": "base64", "dimensions": 384}
    raw = client.post("/embeddings", body=body, cast_to=httpx.Response).json()
    vector = np.frombuffer(base64.b64decode(raw["data"][0]["embedding"]), "<f4")
    assert vector.shape == (384,)
    assert raw["data"][0]["object"] == "embedding"
