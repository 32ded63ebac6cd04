"""The tables of errors are complete: every error of a core has a row, every reason is used."""

import inspect
import re
from types import ModuleType

import pytest
from trine.gateway.v1.error_reason_pb2 import ErrorReason as GatewayReason

from services.chassis.errors import ErrorTable, error_reasons
from services.gateway import rpc as gateway
from services.gateway.core import errors as gateway_errors
from services.mesh.programs import DEPLOY
from services.scheduler.core import errors as scheduler_errors
from services.scheduler.rpc import errors as scheduler
from services.serving.core import errors as serving_errors
from services.serving.rpc import errors as serving
from services.triplets.core import errors as triplets_errors
from services.triplets.rpc import errors as triplets

TABLES = {
    "gateway": (gateway_errors, gateway.ERRORS, gateway.REASONS),
    "scheduler": (scheduler_errors, scheduler.ERRORS, scheduler.REASONS),
    "serving": (serving_errors, serving.ERRORS, serving.REASONS),
    "triplets": (triplets_errors, triplets.ERRORS, triplets.REASONS),
}
INSIDE = {serving_errors.HeadRefusedError, serving_errors.JudgeFailedError}
"""Errors that no caller ever causes."""

AT_THE_DOOR = {
    "API_KEY_MISSING",
    "API_KEY_INVALID",
    "SCOPE_MISSING",
    "INTERNAL_RPC",
    "AUTHORITY_UNAVAILABLE",
    "INTERNAL",
    "OVERLOADED",
    "RATE_LIMIT_EXCEEDED",
    "SERVICE_UNAVAILABLE",
    "TOO_MANY_GUESSES",
}
"""Reasons that the interceptor gives in every service; the gateway's enum names them."""

AT_THE_EDGE = set(re.findall(r"\breason: ([A-Z_]+)", (DEPLOY / "envoy" / "envoy.yaml").read_text()))
"""Reasons that Envoy gives; the gateway's enum names them too."""

HTTP = {
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "FAILED_PRECONDITION": 400,
    "INVALID_ARGUMENT": 400,
    "NOT_FOUND": 404,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "UNAUTHENTICATED": 401,
    "UNAVAILABLE": 503,
}
"""What Envoy makes of each code that is used."""


def leaves(module: ModuleType) -> set[type[Exception]]:
    """The errors of a core that are raised: those that nothing derives from."""
    kinds = {
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__
    }
    return {kind for kind in kinds if not kind.__subclasses__()} - INSIDE


@pytest.mark.parametrize("service", TABLES)
def test_every_error_has_a_row(service: str) -> None:
    module, table, _ = TABLES[service]
    assert leaves(module) - set(table) == set()


@pytest.mark.parametrize("service", TABLES)
def test_every_reason_is_used_and_declared(service: str) -> None:
    _, table, reasons = TABLES[service]
    declared = reasons - AT_THE_DOOR - AT_THE_EDGE if service == "gateway" else reasons
    used = {row.reason for row in table.values()}
    assert used - AT_THE_DOOR == declared


def test_the_gateways_enum_declares_what_interceptor_and_edge_say() -> None:
    assert AT_THE_EDGE
    assert error_reasons(GatewayReason.keys()) >= AT_THE_DOOR | AT_THE_EDGE


@pytest.mark.parametrize("service", TABLES)
def test_every_row_has_an_http_status(service: str) -> None:
    table: ErrorTable = TABLES[service][1]
    assert {row.code.name for row in table.values()} <= set(HTTP)


@pytest.mark.parametrize("service", TABLES)
def test_every_error_is_drawn_in_its_modules_docstring(service: str) -> None:
    module = TABLES[service][0]
    assert module.__doc__ is not None
    for kind in leaves(module) | INSIDE & leaves(module):
        assert kind.__name__ in module.__doc__
