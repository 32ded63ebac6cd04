"""Asking every service whether what must always hold does hold."""

import asyncio
from dataclasses import dataclass

import grpc
from trine.chassis.v1 import invariant_service_pb2 as pb
from trine.chassis.v1 import invariant_service_pb2_grpc

from services.mesh.home import Home
from services.mesh.operator import channel_to

ASKED = ("gateway", "scheduler", "triplets", "serving")
"""Services that hold something."""
SECONDS_MAX = 120.0
_RESULTS = {
    pb.CheckedRule.RESULT_HELD: "ok",
    pb.CheckedRule.RESULT_VIOLATED: "violated",
}


@dataclass(frozen=True, slots=True)
class Checked:
    """What a service says of one rule."""

    invariant: str
    service: str
    rule: str
    result: str
    """ok, violated or unchecked."""
    offenders: tuple[str, ...] = ()
    reason: str = ""


async def verify_mesh(home: Home) -> list[Checked]:
    """Has every service check its rules, and returns them in the order of the invariants.

    A service that does not answer is one unchecked rule.

    Raises:
        NoMeshError: no mesh runs here.
    """
    answers = await asyncio.gather(*(_ask(home, service) for service in ASKED))
    checked = [one for answer in answers for one in answer]
    return sorted(checked, key=lambda one: int(one.invariant.removeprefix("I") or 0))


async def _ask(home: Home, service: str) -> list[Checked]:
    async with channel_to(home, service) as channel:
        stub = invariant_service_pb2_grpc.InvariantServiceStub(channel)
        try:
            answer = await stub.VerifyInvariants(pb.VerifyInvariantsRequest(), timeout=SECONDS_MAX)
        except grpc.aio.AioRpcError as error:
            reason = f"{error.code().name}: {error.details()}"
            return [Checked("", service, "The service answers.", "unchecked", reason=reason)]
    return [
        Checked(
            invariant=rule.invariant,
            service=service,
            rule=rule.rule,
            result=_RESULTS.get(rule.result, "unchecked"),
            offenders=tuple(rule.offenders),
            reason=rule.reason,
        )
        for rule in answer.rules
    ]
