"""Fine-tuning jobs as the unmodified openai client sees them, through Envoy."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from openai.types.fine_tuning import FineTuningJob

from tests.support.clients import OPENAI, TRUEFOUNDRY, client_of, new_key
from tests.support.mesh import Json, Mesh, until

BASE = "trine-general"
ENDS = {"succeeded", "failed", "cancelled"}
ROOT = Path(__file__).parents[2]


def lines(count: int = 60) -> bytes:
    """Triplets: who likes the sea and who likes the hills."""
    things = ("sailing", "diving", "surfing"), ("hiking", "climbing", "skiing")
    made: list[Json] = []
    for index in range(count):
        side = index % 2
        seeker, liked = (things[side][(index // 2 + shift) % 3] for shift in (0, 1))
        other = things[1 - side][index % 3]
        made.append(
            {
                "anchor": f"I spend each weekend {seeker}, week {index}",
                "positive": f"{liked} is my life {index}",
                "negative": f"{other} is all that I do {index}",
            }
        )
    return b"".join(json.dumps(line).encode() + b"\n" for line in made)


def send(client: openai.OpenAI, content: bytes = b"") -> str:
    """Sends a training file and returns its id."""
    content = content or lines()
    return client.files.create(file=("train.jsonl", content), purpose="fine-tune").id


def ended(client: openai.OpenAI, job: FineTuningJob, seconds_max: float = 90) -> FineTuningJob:
    """Waits for the end of a job."""

    def look() -> FineTuningJob | None:
        found = client.fine_tuning.jobs.retrieve(job.id)
        return found if found.status in ENDS else None

    found: FineTuningJob = until(look, seconds_max, pause=0.2)
    return found


@pytest.fixture
def idle(mesh: Mesh) -> Iterator[None]:
    """No trainer takes a run: jobs stay where the test puts them."""
    mesh.signal("trainer", signal.SIGSTOP)
    yield
    mesh.signal("trainer", signal.SIGCONT)


@pytest.fixture(scope="module")
def client(mesh: Mesh) -> Iterator[openai.OpenAI]:
    with client_of(mesh) as made:
        yield made


def test_the_readmes_client_works_as_printed(
    mesh: Mesh, client: openai.OpenAI, tmp_path: Path
) -> None:
    readme = (ROOT / "README.md").read_text()
    (program,) = re.findall(r"```python\n([^`]*?fine_tuning[^`]*?)```", readme)
    (tmp_path / "client.py").write_text(program)
    (tmp_path / "lines.jsonl").write_bytes(lines())
    (tmp_path / ".trine").symlink_to(mesh.home.folder)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "client.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    told, *vectors = done.stdout.splitlines()
    status, model = told.split()
    assert status == "succeeded"
    assert all(len(json.loads(vector)) == 3 for vector in vectors)
    check_what_a_job_has_made(client, model)


def check_what_a_job_has_made(client: openai.OpenAI, model: str) -> None:
    """The job, its events, checkpoints and result file tell one story; its model can go."""
    (job,) = (job for job in client.fine_tuning.jobs.list() if job.fine_tuned_model == model)
    assert model == f"ft:{BASE}:demo::{job.id.removeprefix('ftjob-')}"
    assert job.finished_at is not None
    assert job.finished_at >= job.created_at
    assert job.trained_tokens
    assert isinstance(job.hyperparameters.n_epochs, int)  # what "auto" came to
    checkpoints = list(client.fine_tuning.jobs.checkpoints.list(job.id, limit=1))
    steps = [checkpoint.step_number for checkpoint in checkpoints]
    assert steps == sorted(steps, reverse=True) != []
    events = list(client.fine_tuning.jobs.list_events(job.id, limit=3))
    assert events[0].message == f"The model {model} is ready."
    measured = {
        event.to_dict()["data"]["step"]: event.to_dict()["data"]  # type: ignore[index]
        for event in events
        if event.type == "metrics"
    }
    for checkpoint in checkpoints:
        assert checkpoint.fine_tuned_model_checkpoint == (
            f"{model}:ckpt-step-{checkpoint.step_number}"
        )
        assert checkpoint.metrics.to_dict() == measured[checkpoint.step_number]
    (result,) = job.result_files
    assert client.files.retrieve(result).purpose == "fine-tune-results"
    rows = list(csv.DictReader(client.files.content(result).text.splitlines()))
    assert {int(row["step"]) for row in rows} >= set(steps)
    found = client.models.retrieve(model)
    assert (found.id, found.owned_by) == (model, "demo")
    assert model in {each.id for each in client.models.list()}
    checkpoint_model = checkpoints[0].fine_tuned_model_checkpoint
    assert client.models.retrieve(checkpoint_model).id == checkpoint_model
    assert client.models.delete(model).deleted
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(model)


def test_a_file_that_cannot_be_used_fails_the_job_and_names_the_lines(
    client: openai.OpenAI,
) -> None:
    file = send(client, lines(2) + b'{"anchor": "a", "positive": "b"}\n')
    job = ended(client, client.fine_tuning.jobs.create(model=BASE, training_file=file))
    assert job.status == "failed"
    assert job.error is not None
    assert (job.error.code, job.error.param) == ("invalid_training_file", "training_file")
    assert "line 3: negative is missing" in job.error.message
    assert (job.fine_tuned_model, job.result_files) == (None, [])
    (event, *_) = client.fine_tuning.jobs.list_events(job.id)
    assert (event.level, event.message) == ("error", job.error.message)


@pytest.mark.usefixtures("idle")
def test_a_job_says_what_was_asked_for(mesh: Mesh) -> None:
    with client_of(mesh, key=new_key(mesh, "asker")) as client:
        train, valid = send(client), send(client, lines(4))
        before = int(time.time())
        job = client.fine_tuning.jobs.create(
            model=BASE,
            training_file=train,
            validation_file=valid,
            method={"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 2, "beta": 0.5}}},
            suffix="week-1",
            seed=7,
            metadata={"team": "blue"},
        )
        assert job.id.startswith("ftjob-")
        assert (job.object, job.model, job.organization_id) == ("fine_tuning.job", BASE, "asker")
        assert before <= job.created_at <= time.time()
        assert isinstance(job.created_at, int)
        assert job.status in {"validating_files", "queued"}
        assert (job.training_file, job.validation_file, job.seed) == (train, valid, 7)
        assert job.metadata == {"team": "blue"}
        assert job.hyperparameters.to_dict() == {
            "batch_size": "auto",
            "learning_rate_multiplier": "auto",
            "n_epochs": 2,
        }
        assert job.method is not None
        assert job.method.dpo is not None
        assert job.method.dpo.hyperparameters is not None
        assert job.method.dpo.hyperparameters.beta == 0.5
        raw = json.loads(client.fine_tuning.jobs.with_raw_response.retrieve(job.id).content)
        for name in ("error", "fine_tuned_model", "finished_at", "integrations", "trained_tokens"):
            assert raw[name] is None
        assert raw["result_files"] == []
        cancelled = client.fine_tuning.jobs.cancel(job.id)
        assert cancelled.status == "cancelled"
        assert cancelled.finished_at is not None
        assert cancelled.fine_tuned_model is None
        assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
        with pytest.raises(openai.ConflictError) as caught:
            client.fine_tuning.jobs.pause(job.id)
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert caught.value.code == "run_ended"


@pytest.mark.usefixtures("idle")
def test_a_job_pauses_and_goes_on(mesh: Mesh) -> None:
    with client_of(mesh, key=new_key(mesh, "pauser")) as client:
        job = client.fine_tuning.jobs.create(model=BASE, training_file=send(client))
        job = client.fine_tuning.jobs.pause(job.id)

        def paused() -> bool | None:
            # "paused" stands in OpenAI's examples, not in the client's types.
            return client.fine_tuning.jobs.retrieve(job.id).to_dict()["status"] == "paused" or None

        until(paused, 30, pause=0.1)
        with client_of(mesh, TRUEFOUNDRY, new_key(mesh, "pauser")) as other:
            assert other.fine_tuning.jobs.retrieve(job.id).status == "queued"
        assert client.fine_tuning.jobs.resume(job.id).status in {"validating_files", "queued"}
        events = list(client.fine_tuning.jobs.list_events(job.id, limit=2))
        assert events[-1].message == "The run was created."
        assert len({event.id for event in events}) == len(events) >= 3
        assert [event.id for event in client.fine_tuning.jobs.list_events(job.id)][-3:] == [
            event.id for event in events
        ][-3:]
        client.fine_tuning.jobs.cancel(job.id)


@pytest.mark.parametrize("prefix", [OPENAI, TRUEFOUNDRY])
@pytest.mark.usefixtures("idle")
def test_a_repeat_answers_the_first_job(mesh: Mesh, prefix: str) -> None:
    with client_of(mesh, prefix, new_key(mesh, f"repeater{len(prefix)}")) as client:
        jobs, file = client.fine_tuning.jobs, send(client)
        first = jobs.create(model=BASE, training_file=file)
        assert jobs.create(model=BASE, training_file=file).id == first.id
        other = jobs.create(model=BASE, training_file=file, suffix="other")
        assert other.id != first.id
        jobs.cancel(first.id)
        again = jobs.create(model=BASE, training_file=file)
        assert again.id != first.id  # called off and wished for anew
        key = {"Idempotency-Key": "mine"}
        named = jobs.create(model=BASE, training_file=file, extra_headers=key)
        assert named.id not in {first.id, other.id, again.id}
        assert jobs.create(model=BASE, training_file=file, extra_headers=key).id == named.id
        with pytest.raises(openai.ConflictError) as caught:
            jobs.create(model=BASE, training_file=file, seed=1, extra_headers=key)
        assert caught.value.code == "request_id_reused"
        for job in (other, again, named):
            jobs.cancel(job.id)


@pytest.mark.usefixtures("idle")
def test_jobs_are_listed_page_by_page_and_by_metadata(mesh: Mesh) -> None:
    with client_of(mesh, key=new_key(mesh, "pager")) as client:
        jobs, file = client.fine_tuning.jobs, send(client)
        metadata: list[dict[str, str] | None] = [
            {"team": "blue", "size": "s"},
            {"team": "blue"},
            {"team": "red"},
            None,
            {},
        ]
        made = [
            jobs.create(model=BASE, training_file=file, suffix=f"s{index}", metadata=each).id
            for index, each in enumerate(metadata)
        ]
        newest = made[::-1]
        pages = list(jobs.list(limit=2).iter_pages())
        assert [[job.id for job in page.data] for page in pages] == [
            newest[0:2],
            newest[2:4],
            newest[4:5],
        ]
        assert [page.has_more for page in pages] == [True, True, False]
        assert [job.id for job in jobs.list(metadata={"team": "blue"})] == [made[1], made[0]]
        assert [job.id for job in jobs.list(metadata={"team": "blue", "size": "s"})] == [made[0]]
        bare = jobs.list(extra_query={"metadata": "null"})
        assert [job.id for job in bare] == [made[4], made[3]]
        for job in made:
            jobs.cancel(job)


@pytest.mark.usefixtures("idle")
def test_a_tenant_has_eight_jobs_at_once(mesh: Mesh) -> None:
    with client_of(mesh, key=new_key(mesh, "busy")) as client:
        jobs, file = client.with_options(max_retries=0).fine_tuning.jobs, send(client)
        made = [
            jobs.create(model=BASE, training_file=file, suffix=f"s{index}") for index in range(8)
        ]
        for job in made:
            jobs.pause(job.id)
        with pytest.raises(openai.RateLimitError) as caught:
            jobs.create(model=BASE, training_file=file, suffix="s8")
        assert caught.value.response.headers["retry-after"] == "1"
        assert len(jobs.list().data) == 8  # the one that was refused was never asked for
        for job in made:
            jobs.cancel(job.id)


def test_models_and_permissions(client: openai.OpenAI) -> None:
    general = client.models.retrieve(BASE)
    assert (general.object, general.owned_by) == ("model", "trine")
    assert BASE in {model.id for model in client.models.list()}
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("ft:x:y::z")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError):
        client.models.delete(BASE)
    permissions = client.fine_tuning.checkpoints.permissions
    made = permissions.create(BASE, project_ids=["proj_a", "proj_b", "proj_c"])
    assert [each.project_id for each in made] == ["proj_a", "proj_b", "proj_c"]
    assert {each.id for each in permissions.create(BASE, project_ids=["proj_a"])} <= {
        each.id for each in made
    }
    pages = list(permissions.list(BASE, limit=1, order="ascending").iter_pages())
    assert sorted(page.data[0].id for page in pages) == [page.data[0].id for page in pages]
    assert len(pages) == 3
    (only,) = permissions.list(BASE, project_id="proj_b")
    assert only.object == "checkpoint.permission"
    gone = permissions.delete(only.id, fine_tuned_model_checkpoint=BASE)
    assert (gone.id, gone.deleted) == (only.id, True)
    with pytest.raises(openai.NotFoundError):
        permissions.delete(only.id, fine_tuned_model_checkpoint=BASE)
    with pytest.raises(openai.NotFoundError):
        permissions.list("ft:nothing")


@pytest.mark.usefixtures("idle")
def test_anothers_jobs_are_not_there(mesh: Mesh, client: openai.OpenAI) -> None:
    job = client.fine_tuning.jobs.create(model=BASE, training_file=send(client))
    with client_of(mesh, key=new_key(mesh, "nosy")) as nosy:
        jobs = nosy.fine_tuning.jobs
        for act in (jobs.retrieve, jobs.cancel, jobs.pause, jobs.resume):
            with pytest.raises(openai.NotFoundError) as caught:
                act(job.id)
            assert caught.value.code == "job_not_found"
        for look in (jobs.list_events, jobs.checkpoints.list):
            with pytest.raises(openai.NotFoundError):
                look(job.id)
        assert jobs.list().data == []
        with pytest.raises(openai.NotFoundError) as caught:
            jobs.create(model=BASE, training_file=job.training_file)
        assert (caught.value.param, caught.value.code) == ("training_file", "file_not_found")
    client.fine_tuning.jobs.cancel(job.id)


@pytest.mark.usefixtures("idle")
def test_truefoundrys_headers(mesh: Mesh) -> None:
    with client_of(mesh, TRUEFOUNDRY, new_key(mesh, "truefoundry")) as client:
        headers = {
            "x-tfy-metadata": '{"team": "blue", "env": "test"}',
            "x-tfy-provider-name": "trine",
        }
        made = client.fine_tuning.jobs.with_raw_response.create(
            model=BASE, training_file=send(client), metadata={"env": "mine"}, extra_headers=headers
        )
        assert made.headers["x-tfy-resolved-model"] == BASE
        assert "server-timing" in made.headers
        job = made.parse()
        assert job.metadata == {"team": "blue", "env": "mine"}
        assert job.status == "queued"
        client.fine_tuning.jobs.cancel(job.id)
        with pytest.raises(openai.BadRequestError) as caught:
            client.fine_tuning.jobs.create(
                model=BASE, training_file="x", extra_headers={"x-tfy-metadata": '{"a": 1}'}
            )
        assert caught.value.param == "x-tfy-metadata"
        with pytest.raises(openai.BadRequestError):
            client.fine_tuning.jobs.list(limit=101)


WISH: Json = {"model": BASE, "training_file": "file-0"}
TRACKED = [{"type": "wandb", "wandb": {"project": "p"}}]  # by a package that tests do not install


def of(**content: object) -> Json:
    """A wish with something wrong."""
    return {**WISH, **content}


def dpo(**chosen: object) -> Json:
    """A wish to learn by preferences."""
    return of(method={"type": "dpo", "dpo": {"hyperparameters": chosen}})


REFUSALS: list[tuple[str, str, Json | None, int, str | None]] = [
    ("POST", "/fine_tuning/jobs", {"training_file": "x"}, 400, "model"),
    ("POST", "/fine_tuning/jobs", {"model": BASE}, 400, "training_file"),
    ("POST", "/fine_tuning/jobs", WISH, 404, "training_file"),
    ("POST", "/fine_tuning/jobs", of(training_file=7), 400, "training_file"),
    ("POST", "/fine_tuning/jobs", of(n_epochs=3), 400, "n_epochs"),
    ("POST", "/fine_tuning/jobs", of(seed=-1), 404, "training_file"),
    ("POST", "/fine_tuning/jobs", of(seed="1"), 400, "seed"),
    ("POST", "/fine_tuning/jobs", of(suffix="a b"), 400, "suffix"),
    ("POST", "/fine_tuning/jobs", of(suffix="x" * 65), 400, "suffix"),
    ("POST", "/fine_tuning/jobs", of(metadata={"k": 1}), 400, "metadata[k]"),
    ("POST", "/fine_tuning/jobs", of(metadata={str(n): "" for n in range(17)}), 400, "metadata"),
    ("POST", "/fine_tuning/jobs", of(metadata=[]), 400, "metadata"),
    (
        "POST",
        "/fine_tuning/jobs",
        of(hyperparameters={"n_epochs": 51}),
        400,
        "hyperparameters.n_epochs",
    ),
    ("POST", "/fine_tuning/jobs", of(hyperparameters={"beta": 1}), 400, "hyperparameters.beta"),
    ("POST", "/fine_tuning/jobs", dpo(beta=3), 400, "method.dpo.hyperparameters.beta"),
    (
        "POST",
        "/fine_tuning/jobs",
        dpo(batch_size=True),
        400,
        "method.dpo.hyperparameters.batch_size",
    ),
    ("POST", "/fine_tuning/jobs", of(method={"type": "reinforcement"}), 400, "method.type"),
    ("POST", "/fine_tuning/jobs", of(method={"type": "dpo", "x": 1}), 400, "method.x"),
    ("POST", "/fine_tuning/jobs", of(integrations=[{"type": "x"}]), 400, "integrations[0].type"),
    ("GET", "/fine_tuning/jobs?limit=0", None, 400, "limit"),
    ("POST", "/fine_tuning/jobs", of(integrations=TRACKED), 400, "integrations"),
    ("GET", "/fine_tuning/jobs?after=ftjob-x", None, 400, "after"),
    ("GET", "/fine_tuning/jobs?metadata=x", None, 400, "metadata"),
    ("GET", "/fine_tuning/jobs/ftjob-0", None, 404, None),
    ("GET", "/fine_tuning/jobs/ftjob-0/events", None, 404, None),
    ("GET", "/fine_tuning/nothing", None, 404, None),
    ("POST", "/fine_tuning/alpha/graders/run", {}, 404, None),
    ("GET", "/evals", None, 404, None),
    ("POST", "/chat/completions", {}, 404, None),
]


@pytest.mark.parametrize("refusal", REFUSALS, ids=[f"{r[0]} {r[1]} {r[4]}" for r in REFUSALS])
def test_a_wish_that_cannot_be_is_refused(
    mesh: Mesh, refusal: tuple[str, str, Json | None, int, str | None]
) -> None:
    method, path, body, status, param = refusal
    response = mesh.http.request(method, OPENAI + path, json=body)
    assert response.status_code == status, response.text
    assert response.json()["error"]["param"] == param


def test_a_body_that_is_no_object_is_refused(mesh: Mesh) -> None:
    for text in ("{", "[]", "7", '{"model": NaN}', r'{"model": "\ud800"}', "[" * 100_000):
        response = mesh.http.post("/v1/fine_tuning/jobs", content=text)
        assert (response.status_code, response.json()["error"]["param"]) == (400, "body")


def test_without_the_scope_no_job(mesh: Mesh) -> None:
    key = new_key(mesh, "asker", "runs:read")
    with client_of(mesh, key=key) as reader, pytest.raises(openai.PermissionDeniedError) as caught:
        reader.fine_tuning.jobs.create(**WISH)
    assert "runs:write" in caught.value.message
    assert httpx.get(mesh.told["rest"] + "/api/llm/fine_tuning/jobs").status_code == 401
