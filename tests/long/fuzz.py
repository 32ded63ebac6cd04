"""Malformed messages for every RPC, in their ten thousands, and hostile bodies at every dialect."""

import tempfile
import time
from pathlib import Path

from services.mesh.home import SERVICES
from tests.long.record import Record
from tests.support.hostile_bodies import TAKING, complaint, hostile_bodies
from tests.support.mesh import Mesh, run_async, running_mesh
from tests.support.storm import describe, storm

ROUNDS = 20
CALLS_PER_ROUND = 5_000


def measure_fuzz(record: Record) -> bool:
    """Holds if nothing breaks, nothing tells of the insides, and every process lives."""
    with (
        tempfile.TemporaryDirectory(prefix="trine-fuzz-") as folder,
        running_mesh(Path(folder), TRINE_RATES="*=1000000") as mesh,
    ):
        mesh.fill("people", 10)
        mesh.report("people", range(5), 10)
        before = mesh.pids()
        calls, findings = _storms(mesh, record.seed)
        bodies, complaints = _bodies(mesh)
        for cause in _causes(mesh) if findings or complaints else ():
            print(cause, flush=True)
        died = sorted(name for name, pid in mesh.pids().items() if pid != before[name])
    record.table(
        ("what", "sent", "findings"),
        [
            ("protobuf messages, a quarter damaged on the wire", f"{calls:,}", len(findings)),
            ("bodies at the dialects", f"{bodies:,}", len(complaints)),
            ("processes that died", "", len(died)),
        ],
    )
    for line in (*findings, *complaints, *died):
        record.say(f"- {line}")
    return not (findings or complaints or died)


def _causes(mesh: Mesh) -> list[str]:
    """What the services have written of what broke inside."""
    lines = [line for name in SERVICES for line in mesh.home.log(name).read_text().splitlines()]
    return [line for line in lines if '_failed"' in line]


def _storms(mesh: Mesh, seed: int) -> tuple[int, list[str]]:
    calls, findings = 0, []
    for number in range(ROUNDS):
        began = time.monotonic()
        round_seed = seed * ROUNDS + number
        heard = run_async(storm(mesh, mesh.told["api_key"], CALLS_PER_ROUND, round_seed))
        calls += heard.calls
        findings += [f"round {round_seed}: {line}" for line in describe(heard)]
        rate = heard.calls / (time.monotonic() - began)
        print(f"{calls:,} calls, {rate:,.0f}/s, {len(findings)} findings", flush=True)
    return calls, findings


def _bodies(mesh: Mesh) -> tuple[int, list[str]]:
    sent, complaints = 0, []
    for body in hostile_bodies():
        for path in TAKING:
            sent += 1
            if said := complaint(mesh, path, body):
                complaints.append(f"{body.name} at {path}: {said}")
    return sent, complaints
