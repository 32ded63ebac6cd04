"""Files as the unmodified archetypeai client sees them, and fine-tune jobs, through Envoy."""

import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from archetypeai import ApiError, ArchetypeAI

from tests.support.clients import client_of, new_key
from tests.support.mesh import Json, Mesh, until

BASE = "trine-general"
LINES = b'{"anchor": "a", "positive": "b", "negative": "c"}\n' * 20
JOBS = "/v0.5/fine-tune/jobs"
NEWER = "/v0.6/fine_tuning/jobs"
TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


def client_for(mesh: Mesh, tenant: str, prefix: str = "/api") -> Any:
    """A client that is told an address and a key, and nothing else."""
    return ArchetypeAI(new_key(mesh, tenant), api_endpoint=mesh.told["rest"] + prefix)


def http_for(mesh: Mesh, tenant: str) -> httpx.Client:
    """Plain HTTP, for what the client does not know."""
    headers = {"authorization": f"Bearer {new_key(mesh, tenant)}"}
    return httpx.Client(base_url=mesh.told["rest"], headers=headers, timeout=30)


def send(http: httpx.Client, name: str, content: bytes = LINES) -> None:
    """Sends a file in the dialect."""
    response = http.post("/v0.5/files", files={"any": (name, content, "text/plain")})
    assert response.status_code == 200, response.text


def lines(weeks: range) -> bytes:
    """Triplets: who likes the sea and who likes the hills."""
    things = ("sailing", "diving", "surfing"), ("hiking", "climbing", "skiing")
    made = []
    for index in weeks:
        side, turn = index % 2, index // 2
        seeker, liked = (things[side][(turn + shift) % 3] for shift in (0, 1))
        made.append(
            {
                "anchor": f"I spend each weekend {seeker}, week {index}",
                "positive": f"{liked} is my life {index}",
                "negative": f"{things[1 - side][index % 3]} is all that I do {index}",
            }
        )
    return b"".join(json.dumps(line).encode() + b"\n" for line in made)


def wish(name: str = "first", **changes: Any) -> Json:
    """The body of a job."""
    datasets = [{"name": "mine", "split": "train", "file_ids": ["train.jsonl"]}]
    return {"name": name, "config": {"model": BASE, "datasets": datasets}, **changes}


def told(response: httpx.Response, status: int) -> str:
    """The code of an error in its envelope."""
    assert response.status_code == status, response.text
    (error,) = response.json()["errors"]
    assert error["message"]
    assert re.fullmatch(r"err-[0-9a-f-]{36}", error["error_uid"])
    return str(error["code"])


@pytest.fixture
def idle(mesh: Mesh) -> Iterator[None]:
    """No trainer takes a run: jobs stay where the test puts them."""
    mesh.signal("trainer", signal.SIGSTOP)
    yield
    mesh.signal("trainer", signal.SIGCONT)


@pytest.mark.parametrize("prefix", ["/api", "/v0.5"])
def test_the_client_sends_reads_and_deletes_files(mesh: Mesh, tmp_path: Path, prefix: str) -> None:
    client = client_for(mesh, f"sender{len(prefix)}", prefix)
    path = tmp_path / "lines.jsonl"
    path.write_bytes(LINES)
    sent = client.files.local.upload(str(path))
    assert (sent["is_valid"], sent["file_id"]) == (True, "lines.jsonl")
    assert sent["file_uid"].startswith("file-")
    with pytest.raises(ApiError) as caught:
        client.files.local.upload(str(path))
    assert caught.value.validate_error_code_exists("file_exists")
    found = client.files.get_metadata(file_id="lines.jsonl")
    assert (found["num_bytes"], found["file_type"]) == (len(LINES), "text/plain")
    assert found["file_status"] == "FILE_STATUS_INGESTED"
    back = tmp_path / "back"
    assert client.files.local.download("lines.jsonl", str(back))
    assert back.read_bytes() == LINES
    client.files.local.upload("text.txt", base64_data="TGluZXM=")
    names = [f"f{number}.csv" for number in range(3)]
    for name in names:
        (tmp_path / name).write_text("a,b\n")
        client.files.local.upload(str(tmp_path / name))
    newest = [*names[::-1], "text.txt", "lines.jsonl"]
    assert [file["file_id"] for file in client.files.iter_metadata(limit=2)] == newest
    first = client.files.get_metadata(limit=2)
    second = client.files.get_metadata(limit=2, after=first["next_cursor"])
    assert client.files.get_metadata(limit=2, before=second["prev_cursor"]) == {
        **first,
        "prev_cursor": None,
    }
    listed = client.files.get_metadata()
    listed = listed["data"] if prefix == "/api" else listed
    assert [file["file_id"] for file in listed] == newest
    info = client.files.get_info()
    assert (info["num_files"], info["num_bytes"]) == (5, len(LINES) + 5 + 12)
    for name in newest:
        client.files.local.delete(name)
    with pytest.raises(ApiError) as caught:
        client.files.local.delete("lines.jsonl")
    assert caught.value.validate_error_code_exists("file_not_found")
    assert client.files.get_info()["num_files"] == 0


def test_the_client_sends_a_file_in_parts(mesh: Mesh, tmp_path: Path) -> None:
    client = client_for(mesh, "parter")
    path, back = tmp_path / "big.jsonl", tmp_path / "back"
    path.write_bytes(os.urandom(8 * 1024**2 + 100))
    seen: list[tuple[int, ...]] = []
    sent = client.files.local.upload(
        str(path), use_proxy=False, on_progress=lambda *progress: seen.append(progress)
    )
    assert sent["file_id"] == "big.jsonl"
    assert seen[-1] == (2, 2, path.stat().st_size, path.stat().st_size)
    assert client.files.get_metadata(file_id="big.jsonl")["file_uid"] == sent["file_uid"]
    client.files.local.download("big.jsonl", str(back))
    assert back.read_bytes() == path.read_bytes()


def test_an_upload_goes_on_and_its_addresses_are_good_for_one_part(mesh: Mesh) -> None:
    uploads = "/v0.5/files/uploads"
    with http_for(mesh, "resumer") as http, httpx.Client() as anyone:
        body = {"filename": "a.jsonl", "file_type": "text/plain", "num_bytes": 8 * 1024**2 + 3}
        started = http.post(f"{uploads}/initiate", json=body).json()
        big, small = started["parts"]
        assert (small["offset"], small["length"], started["num_parts"]) == (8 * 1024**2, 3, 2)
        assert told(anyone.put(small["url"].replace("/parts/1", "/parts/0")), 403)
        assert told(anyone.put(small["url"][:-1] + "x", content=b"abc"), 403) == "signature_invalid"
        assert told(anyone.put(small["url"], content=b"ab"), 400)
        token = anyone.put(small["url"], content=b"abc").headers["etag"]
        upload = f"{uploads}/{started['upload_id']}"
        named = {"parts": [{"part_number": 1, "part_token": token}]}
        assert http.post(f"{upload}/parts/checkpoint", json=named).json() == {"num_checkpointed": 1}
        assert told(http.post(f"{upload}/complete", json=named), 400)
        again = http.post(f"{uploads}/initiate", json={**body, "resume_if_started": True}).json()
        assert (again["upload_id"], again["is_resume"]) == (started["upload_id"], True)
        assert [part["part_number"] for part in again["parts"]] == [0]
        fresh = http.post(f"{upload}/parts/urls", json={"part_numbers": [0]}).json()["parts"]
        assert [part["part_number"] for part in fresh] == [0]
        anyone.put(fresh[0]["url"], content=bytes(big["length"]))
        done = http.post(f"{upload}/complete", json={"parts": []})
        assert done.json()["file_uid"] == started["file_uid"]
        assert http.post(f"{upload}/complete", json={}).json() == done.json()
        assert told(http.post(f"{upload}/abort", json={}), 409) == "upload_state_invalid"
        assert told(http.post(f"{uploads}/initiate", json=body), 409) == "file_exists"
        assert http.get("/v0.5/files/download/a.jsonl").content[-4:] == b"\0abc"


@pytest.mark.usefixtures("idle")
def test_a_job_is_registered_found_and_called_off(mesh: Mesh) -> None:
    with http_for(mesh, "tuner") as http:
        send(http, "train.jsonl")
        made = http.post(JOBS, json=wish("My run"))
        assert made.status_code == 200, made.text
        job = made.json()
        assert re.fullmatch("ft-job-My-run-[0-9a-f]{8}", job["id"])
        assert re.fullmatch("job_[0-9a-z]{26}", job["uuid"])
        assert re.fullmatch("org_[0-9a-z]{26}", job["org_uuid"])
        assert re.fullmatch(TIME, job["created_at"])
        assert re.fullmatch(TIME, job["updated_at"])
        assert {name: job[name] for name in ("name", "status", "inference_config_path")} == {
            "name": "My run",
            "status": "REGISTERED",
            "inference_config_path": None,
        }
        assert job["config"] == wish()["config"]
        assert http.post(JOBS, json=wish("My run")).json()["id"] == job["id"]
        assert http.get(f"{JOBS}/{job['id']}").json() == job
        metrics = http.get(f"{JOBS}/{job['id']}/metrics").json()
        assert metrics == {"last_checkpoint_step": None, "metrics": []}
        # Nothing is learned yet that a stop could keep.
        assert told(http.put(f"{JOBS}/{job['id']}/stop"), 409) == "run_state_invalid"
        cancelled = http.put(f"{JOBS}/{job['id']}/cancel").json()
        assert cancelled["status"] == "CANCELLED"
        assert cancelled["updated_at"] > job["updated_at"]
        assert told(http.put(f"{JOBS}/{job['id']}/stop"), 409) == "run_ended"
        assert http.post(JOBS, json=wish("My run")).json()["id"] != job["id"]
    with http_for(mesh, "stranger2") as stranger:
        assert told(stranger.get(f"{JOBS}/{job['id']}"), 404) == "job_not_found"
        assert stranger.get(JOBS).json() == []


def test_a_job_completes_with_a_model_and_metrics(mesh: Mesh) -> None:
    with http_for(mesh, "learner2") as http:
        send(http, "train.jsonl", lines(range(60)))
        send(http, "eval.jsonl", lines(range(60, 80)))
        splits = (("train", "train.jsonl"), ("eval", "eval.jsonl"))
        datasets = [{"name": split, "split": split, "file_ids": [file]} for split, file in splits]
        config = {"model": BASE, "datasets": datasets}
        job = http.post(JOBS, json={"name": "whole", "config": config}).json()

        def ended() -> Json | None:
            found: Json = http.get(f"{JOBS}/{job['id']}").json()
            return found if found["status"] in {"COMPLETED", "FAILED"} else None

        done = until(ended, 90, pause=0.2)
        assert done["status"] == "COMPLETED", done
        assert done["config"]["datasets"] == datasets
        assert done["updated_at"] > done["created_at"]
        assert http.get(done["inference_config_path"]).json()["owned_by"] == "learner2"
        told_metrics = http.get(f"{JOBS}/{job['id']}/metrics").json()
        steps = [metrics["step"] for metrics in told_metrics["metrics"]]
        assert steps == sorted(steps)
        assert steps[-1] == told_metrics["last_checkpoint_step"]
        assert {"step", "loss", "eval_loss", "wall_time_sec"} <= told_metrics["metrics"][0].keys()
        one = http.get(f"{JOBS}/{job['id']}/metrics?limit=1&offset=0").json()["metrics"]
        assert one == told_metrics["metrics"][:1]
        assert told(http.put(f"{JOBS}/{job['id']}/cancel"), 409) == "run_ended"


def test_a_job_that_is_stopped_keeps_what_it_has_learned(mesh: Mesh) -> None:
    with http_for(mesh, "stopper") as http:
        send(http, "train.jsonl", lines(range(1_000)))
        job = f"{JOBS}/{http.post(JOBS, json=wish()).json()['id']}"

        def status(*wanted: str) -> str | None:
            found: str = http.get(job).json()["status"]
            return found if found in wanted else None

        until(lambda: status("RUNNING"), 60, pause=0.05)
        assert http.put(f"{job}/stop").json()["status"] in {"STOPPING", "STOPPED"}
        until(lambda: status("STOPPED"), 60, pause=0.1)
        stopped = http.put(f"{job}/stop").json()
        assert stopped["status"] == "STOPPED"
        assert http.get(stopped["inference_config_path"]).status_code == 200
        assert told(http.put(f"{job}/cancel"), 409) == "run_ended"


@pytest.mark.usefixtures("idle")
def test_jobs_are_listed_and_found_by_ids_of_the_callers(mesh: Mesh) -> None:
    with http_for(mesh, "lister") as http:
        send(http, "train.jsonl")
        ids = [f"job.{number}" for number in range(5)]
        for number, chosen in enumerate(ids):
            body = wish(f"n{number}", id=chosen)
            assert http.post(JOBS, json=body).json()["id"] == chosen
            assert http.post(JOBS, json=body).json()["id"] == chosen
        assert told(http.post(JOBS, json=wish("other", id=ids[0])), 409) == "job_exists"
        newest = ids[::-1]

        def listed(query: str) -> list[str]:
            return [job["id"] for job in http.get(JOBS + query).json()]

        assert listed("") == listed("?limit=-1") == newest
        pages = [listed(f"?limit=2&offset={offset}") for offset in (0, 2, 4)]
        assert pages == [newest[0:2], newest[2:4], newest[4:5]]
        http.put(f"{JOBS}/{ids[1]}/cancel")
        assert listed("?statuses=CANCELLED") == [ids[1]]
        assert listed("?statuses=CANCELLED&statuses=REGISTERED&limit=1&offset=3") == [ids[1]]
        with client_of(mesh, key=new_key(mesh, "lister")) as other:
            assert other.fine_tuning.jobs.list().data == []  # each dialect lists its own
        for chosen in ids:
            http.put(f"{JOBS}/{chosen}/cancel")


@pytest.mark.usefixtures("idle")
def test_the_newer_words_make_jobs_that_openais_know_too(mesh: Mesh) -> None:
    with http_for(mesh, "newer") as http, client_of(mesh, key=new_key(mesh, "newer")) as other:
        send(http, "train.jsonl")
        body = {
            "name": "mine",
            "seed": 7,
            "model": BASE,
            "method": {"type": "triplet", "triplet": {"hyperparameters": {"n_epochs": 2}}},
            "training_files": [{"file_id": "train.jsonl", "format": "jsonl"}],
        }
        refused = http.post(NEWER, json=body | {"method": {"type": "head"}})
        assert told(refused, 400) == "invalid_parameter"
        (error,) = refused.json()["errors"]
        assert error["message"] == "method.type: one of supervised, triplet, dpo."
        made = http.post(NEWER, json=body)
        assert made.status_code == 200, made.text
        job = made.json()
        assert re.fullmatch("ftj_[0-9a-f]+", job["id"])
        for key in ("name", "seed", "model", "method"):
            assert job[key] == body[key]
        assert (job["status"], job["fine_tuned_model"], job["error"]) == ("QUEUED", None, None)
        assert re.fullmatch(TIME, job["created_at"])
        assert http.post(NEWER, json=body).json()["id"] == job["id"]
        (listed,) = other.fine_tuning.jobs.list().data
        assert listed.id == job["id"].replace("ftj_", "ftjob-")
        assert [file["file_id"] for file in job["training_files"]] == [listed.training_file]
        other.fine_tuning.jobs.cancel(listed.id)
        assert http.get(f"{NEWER}/{job['id']}").json()["status"] == "CANCELLED"
        events = http.get(f"{NEWER}/{job['id']}/events?limit=1").json()["data"]
        assert [event["level"] for event in events] == ["info"]
        assert http.get(f"{NEWER}/{job['id']}/checkpoints").json() == {"data": []}


def with_config(**changes: Any) -> Json:
    """A wish with something wrong in its config."""
    return wish(config={**wish()["config"], **changes})


def sensor_wish(kind: str) -> Json:
    """What the vendor's own example asks of /v0.6: to label windows of sensor data."""
    reader = {"window_size": 128, "step_size": 4, "data_columns": ["FIT101"]}
    file = {"type": "n_shot", "file_id": "train.csv", "label": "normal", "format": "csv"}
    return {
        "name": "swat-omega-fine-tune",
        "seed": 7,
        "model": "omega",
        "method": {"type": kind, kind: {"hyperparameters": {"batch_size": 32}, "reader": reader}},
        "training_files": [file],
        "validation_files": [file],
    }


TOO_MUCH = {"filename": "a", "file_type": "text/plain", "num_bytes": 8 * 1024**3 + 1}
REFUSED: list[tuple[str, str, Json | None, int, str]] = [
    ("POST", JOBS, {"config": {}}, 400, "invalid_parameter"),
    ("POST", JOBS, wish(id="a b"), 400, "invalid_parameter"),
    ("POST", JOBS, wish(id="x" * 65), 400, "invalid_parameter"),
    ("POST", JOBS, wish(hyperparameters={}), 400, "invalid_parameter"),
    ("POST", JOBS, with_config(datasets=[]), 400, "invalid_parameter"),
    ("POST", JOBS, with_config(model=7), 400, "invalid_model_parameter"),
    ("POST", JOBS, wish(), 404, "file_not_found"),
    ("GET", f"{JOBS}?limit=-2", None, 400, "invalid_parameter"),
    ("GET", f"{JOBS}?statuses=DONE", None, 400, "invalid_parameter"),
    ("GET", f"{JOBS}/none", None, 404, "job_not_found"),
    ("PUT", f"{JOBS}/none/cancel", None, 404, "job_not_found"),
    ("POST", "/v0.5/files/uploads/none/complete", {}, 404, "upload_not_found"),
    ("POST", "/v0.5/files/uploads/initiate", TOO_MUCH, 400, "invalid_file_size"),
    ("GET", "/v0.5/nothing", None, 404, "method_not_found"),
    ("POST", NEWER, {}, 400, "invalid_parameter"),
    ("POST", NEWER, sensor_wish("head"), 400, "invalid_parameter"),
    ("POST", NEWER, sensor_wish("knn"), 400, "invalid_parameter"),
    ("GET", f"{NEWER}/ftj_0", None, 404, "job_not_found"),
    ("GET", f"{NEWER}/ftjob-0/events", None, 404, "job_not_found"),
    ("GET", "/v0.5/files/metadata/a%2Fb", None, 400, "request_malformed"),
    ("GET", "/api/files/metadata?after=x", None, 400, "invalid_parameter"),
]


@pytest.mark.parametrize("refused", REFUSED, ids=[f"{r[0]} {r[1]} {r[4]}" for r in REFUSED])
def test_what_cannot_be_is_refused(
    mesh: Mesh, refused: tuple[str, str, Json | None, int, str]
) -> None:
    method, path, body, status, code = refused
    assert told(mesh.http.request(method, path, json=body), status) == code


def test_files_of_other_types_and_callers_without_a_key_are_refused(mesh: Mesh) -> None:
    form = {"file": ("a.jsonl", LINES, "application/x-ndjson")}
    assert told(mesh.http.post("/v0.5/files", files=form), 400) == "invalid_file_type"
    for path in (JOBS, "/api/files/info"):
        assert told(httpx.get(mesh.told["rest"] + path), 401) == "api_key_missing"
