"""What operators see: RPCs, runs, heads and matches at /metrics of every service."""

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.mesh import Mesh, until

SERVICES = ("gateway", "scheduler", "triplets", "trainer", "serving")


def scrape(mesh: Mesh, service: str) -> dict[str, float]:
    """Every sample, by name and labels, as the text format writes them."""
    text = httpx.get(mesh.told["metrics"][service]).text
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples: dict[str, float], name: str, *parts: str) -> float:
    """The sum of the samples of a name whose labels hold all parts."""
    return sum(
        value
        for key, value in samples.items()
        if key.startswith(f"{name}[") and all(part in key for part in parts)
    )


@pytest.mark.parametrize("service", SERVICES)
def test_every_service_is_scraped(mesh: Mesh, service: str) -> None:
    assert total(scrape(mesh, service), "process_start_time_seconds") > 0


def test_calls_of_the_dialects_are_counted_by_route_and_status(mesh: Mesh) -> None:
    mesh.http.get("/v1/files/file-0")
    mesh.http.get("/api/llm/files/file-0")
    samples = scrape(mesh, "gateway")
    for dialect, prefix in (("openai", "/v1"), ("truefoundry", "/api/llm")):
        labels = (f"'{dialect}'", f"'{prefix}/files/{{file_id}}'", "'404'", "'GET'")
        assert total(samples, "trine_http_requests_total", *labels) >= 1


def test_rpcs_are_counted_by_method_and_code(mesh: Mesh) -> None:
    mesh.fill("counted", 3)
    mesh.refused("GET", "/v1/users/nobody", domain="counted")
    samples = scrape(mesh, "triplets")
    upserts = ("'UpsertUser'", "'trine.triplets.v1.UserService'", "'unary'")
    assert total(samples, "grpc_server_started_total", *upserts) >= 3
    assert total(samples, "grpc_server_handled_total", *upserts, "'OK'") >= 3
    assert total(samples, "grpc_server_handling_seconds_count", *upserts) >= 3
    assert total(samples, "grpc_server_handled_total", "'GetUser'", "'NotFound'") >= 1


def test_runs_heads_and_stages_are_told(mesh: Mesh) -> None:
    mesh.fill("gauged")
    mesh.report("gauged", range(30))
    mesh.train("gauged")
    mesh.match("u1", "gauged")
    scheduler = scrape(mesh, "scheduler")
    assert total(scheduler, "trine_gate_total", "'promoted'") >= 1
    assert total(scheduler, "trine_run_duration_seconds_count", "'succeeded'") >= 1
    assert total(scheduler, "trine_head_promoted_timestamp_seconds", "'gauged'") > 1e9
    assert "trine_runs[('state', 'queued')]" in scheduler
    assert total(scheduler, "trine_outbox_oldest_seconds") < 60
    # The gauge follows once a second.
    until(lambda: total(scrape(mesh, "serving"), "trine_heads_loaded") or None)
    serving = scrape(mesh, "serving")
    assert total(serving, "trine_head_swaps_total", "'loaded'") >= 1
    for stage in ("sql_filter", "embedding", "total"):
        assert total(serving, "trine_match_stage_seconds_count", f"'{stage}'") >= 1
    assert total(scrape(mesh, "trainer"), "trine_trainer_attempts_total", "'promoted'") >= 1


def test_envoy_is_scraped_too(mesh: Mesh) -> None:
    assert "envoy_cluster_upstream_rq" in httpx.get(mesh.told["metrics"]["envoy"]).text
