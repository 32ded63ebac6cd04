"""The OpenAPI document against the running mesh: whatever it allows is answered as it says."""

import json
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from services.mesh.generate import OPENAPI
from tests.support.clients import new_key
from tests.support.mesh import Mesh

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
OPERATIONS = [
    (verb, path)
    for path, operations in json.loads(OPENAPI.read_text())["paths"].items()
    for verb in operations
]


@pytest.fixture(scope="module")
def document(mesh: Mesh) -> Any:
    """The document as the mesh serves it, to anyone."""
    return schemathesis.openapi.from_url(f"{mesh.told['rest']}/openapi.json")


@pytest.fixture(scope="module")
def headers(mesh: Mesh) -> dict[str, str]:
    """A tenant of their own for calls that may do anything: the domains are not other tests'."""
    return {"Authorization": f"Bearer {new_key(mesh, 'fuzzer')}"}


@pytest.mark.parametrize(("verb", "path"), OPERATIONS)
def test_whatever_the_document_allows_is_answered_as_it_says(
    verb: str, path: str, document: Any, headers: dict[str, str]
) -> None:

    @given(case=document[path][verb].as_strategy())
    @settings(
        max_examples=12, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
    )
    def call(case: Any) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    call()


@pytest.mark.parametrize(("verb", "path"), OPERATIONS)
def test_nobody_is_let_in_without_a_key(verb: str, path: str, mesh: Mesh) -> None:
    plain = path.replace("{", "").replace("}", "")
    answer = httpx.request(verb, mesh.told["rest"] + plain, json={} if verb != "get" else None)
    assert (answer.status_code, answer.json()["code"]) == (401, 16)
