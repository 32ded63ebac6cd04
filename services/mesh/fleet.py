"""The five services as processes: what each is told, and how it says that it is ready."""

import os
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.signatures import public_key_of
from services.mesh.child import ChildSpec
from services.mesh.home import SERVICES, Home, Secrets, certificates
from services.mesh.nats_users import serving_url
from services.mesh.programs import LOOPBACK, python_module

HEALTH_NAMES = {"gateway": "trine.gateway.v1.AccessService"}
"""What to ask a service for; the gateway's empty name stands for the whole mesh."""

PASSED_ON = (
    "TRINE_TRIPLETS_BUDGET",
    "TRINE_COOL_DOWN_SECONDS",
    "TRINE_LEASE_SECONDS",
    "TRINE_ENCODER_THREADS",
    "TRINE_MATCH_THREADS",
    "TRINE_JUDGE_URL",
    "TRINE_JUDGE_MODEL",
    "TRINE_JUDGE_KEY",
    "TRINE_JUDGE_SECONDS",
    "TRINE_READER_URL",
    "TRINE_READER_MODEL",
    "TRINE_READER_KEY",
    "TRINE_READER_SECONDS",
    "TRINE_WEBHOOK_NETWORKS",
    "TRINE_UPLOAD_BYTES_MAX",
    "TRINE_RATES",
    "TRINE_CALLS_AT_ONCE",
    "TRINE_TLS_CERT",
    "TRINE_TLS_KEY",
    "TRINE_TLS_CA",
)
"""Settings that whoever starts the mesh may make."""


def encoder_path() -> Path:
    """Where `make install` puts the encoder."""
    return Path(sysconfig.get_path("data")) / "share" / "trine" / "all-minilm-l6-v2"


def services(
    home: Home,
    ports: Mapping[str, int],
    secrets: Secrets,
    *,
    databases: Mapping[str, str],
    nats: str,
) -> list[ChildSpec]:
    """The services, told where everything is; of PostgreSQL each knows its own role alone."""
    shared = {
        "TRINE_MESH_TOKEN": secrets.mesh_token,
        "TRINE_BUNDLE_PUBLIC_KEY": _public_keys(secrets),
        "TRINE_NATS_URL": nats,
        "TRINE_NATS_MONITOR_URL": _nats_monitor(ports),
        "TRINE_ARTIFACTS_URL": os.environ.get("TRINE_ARTIFACTS_URL", str(home.artifacts)),
        "TRINE_ENCODER_PATH": os.environ.get("TRINE_ENCODER_PATH", str(encoder_path())),
        "TRINE_WANDB_DIR": os.environ.get("TRINE_WANDB_DIR", str(home.wandb)),
        "TRINE_HTTP_ADDRESS": f"{LOOPBACK}:{ports['gateway_http']}",
        **{f"TRINE_{name.upper()}_ADDRESS": f"{LOOPBACK}:{ports[name]}" for name in SERVICES},
        **{name: os.environ[name] for name in PASSED_ON if name in os.environ},
        # Threads of numerical libraries beyond those asked for only take cores from requests.
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    own = {name: {"TRINE_POSTGRES_DSN": dsn} for name, dsn in databases.items()}
    if "TRINE_NATS_URL" not in os.environ:
        own["serving"] = {"TRINE_NATS_URL": serving_url(f"{LOOPBACK}:{ports['nats']}", secrets)}
    own["trainer"] = {"TRINE_BUNDLE_SIGNING_KEY": secrets.bundle_signing_key}
    return [_service(home, name, ports, {**shared, **own.get(name, {})}) for name in SERVICES]


def _nats_monitor(ports: Mapping[str, int]) -> str:
    """Where the mesh's own NATS says how it runs; whoever brings another says where, or nowhere."""
    given = os.environ.get("TRINE_NATS_MONITOR_URL", "")
    return given if "TRINE_NATS_URL" in os.environ else f"http://{LOOPBACK}:{ports['nats_monitor']}"


def _public_keys(secrets: Secrets) -> str:
    """The key that signs now, and those that whoever starts the mesh allows beside it."""
    more = os.environ.get("TRINE_BUNDLE_PUBLIC_KEY")
    return ",".join(filter(None, (public_key_of(secrets.bundle_signing_key), more)))


def _service(home: Home, name: str, ports: Mapping[str, int], told: Mapping[str, str]) -> ChildSpec:
    address = f"{LOOPBACK}:{ports[name]}"
    return ChildSpec(
        name=name,
        command=python_module(f"services.{name}"),
        is_ready=lambda: is_serving(address, HEALTH_NAMES.get(name, "")),
        log=home.log(name),
        environment={
            **told,
            "TRINE_GRPC_ADDRESS": address,
            "TRINE_METRICS_ADDRESS": f"{LOOPBACK}:{ports[f'{name}_metrics']}",
            **_crash(name),
        },
    )


def _crash(name: str) -> dict[str, str]:
    """The file of a service in TRINE_CRASH, a folder, where that is set: see chassis/crashpoint."""
    folder = os.environ.get("TRINE_CRASH")
    return {} if folder is None else {"TRINE_CRASH": str(Path(folder) / name)}


async def is_serving(address: str, name: str) -> bool:
    """Whether a gRPC server says that it serves."""
    async with open_channel(address, "", certificates()) as channel:
        request = health_pb2.HealthCheckRequest(service=name)
        try:
            response = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=1)
        except grpc.aio.AioRpcError:
            return False
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)
