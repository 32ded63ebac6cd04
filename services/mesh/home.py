"""Where a mesh on one machine keeps its state, and what it tells about itself."""

import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from services.chassis.certificates import DEVELOPMENT, Certificates, read_certificates
from services.chassis.signatures import make_private_key

TENANT = "demo"
"""The tenant that a fresh mesh comes with."""

SERVICES = ("gateway", "scheduler", "triplets", "trainer", "serving")


def certificates() -> Certificates | None:
    """What the environment names for the mesh's parts to know each other by; none by default."""
    paths = (os.environ.get(f"TRINE_TLS_{name}", "") for name in ("CERT", "KEY", "CA"))
    return read_certificates(*paths)


class Home:
    """A folder ($TRINE_HOME, by default .trine) and the names of what lies in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.lock = self.folder / "mesh.lock"
        self.mesh_file = self.folder / "mesh.json"
        self.secrets_file = self.folder / "secrets.json"
        self.secrets_lock = self.folder / "secrets.lock"
        self.logs = self.folder / "logs"
        self.artifacts = self.folder / "artifacts"
        self.config = self.folder / "config"
        self.postgres = self.folder / "postgres"
        self.nats = self.folder / "nats"
        self.wandb = self.folder / "wandb"

    @classmethod
    def from_environment(cls) -> "Home":
        """The home that the environment names."""
        return cls(Path(os.environ.get("TRINE_HOME", ".trine")))

    def log(self, name: str) -> Path:
        """The log of one process."""
        return self.logs / f"{name}.log"

    def try_lock(self) -> TextIO | None:
        """Takes the home for this process until the file is closed; None if another holds it.

        The kernel gives it back however the process ends.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.lock.open("a")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        return file

    def is_running(self) -> bool:
        """Whether a supervisor holds the home."""
        file = self.try_lock()
        if file is None:
            return True
        file.close()
        return False

    def name_supervisor(self, lock: TextIO) -> None:
        """Writes this process' id into the lock that it holds."""
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()

    def supervisor(self) -> int | None:
        """Process id of the supervisor that holds the home, if one does and has written it."""
        text = self.lock.read_text() if self.is_running() else ""
        return int(text) if text else None

    def read_mesh(self) -> dict[str, Any] | None:
        """What the running mesh tells about itself, if it is up."""
        try:
            content: dict[str, Any] = json.loads(self.mesh_file.read_text())
        except FileNotFoundError:
            return None
        return content

    def write_mesh(self, content: Mapping[str, Any]) -> None:
        """Replaces mesh.json at once; it holds a key, so it is its owner's alone."""
        write_private(self.mesh_file, json.dumps(content, indent=2) + "\n")

    def read_secrets(self) -> "Secrets":
        """The secrets of this mesh, made up when it first starts."""
        kept = json.loads(self.secrets_file.read_text()) if self.secrets_file.exists() else {}
        if "nats_tenant_password" in kept:  # of a home from before others had one
            kept["nats_subscribers"] = {TENANT: kept.pop("nats_tenant_password")}
        known = Secrets(**kept)
        if asdict(known) != kept:  # a new home, or one from before there was this secret
            self.write_secrets(known)
        return known

    def write_secrets(self, values: "Secrets") -> None:
        """Keeps the secrets."""
        write_private(self.secrets_file, json.dumps(asdict(values)))

    @contextmanager
    def changing_secrets(self) -> Iterator["Secrets"]:
        """The secrets, which nobody else changes this way for as long as the block lasts."""
        with self.secrets_lock.open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield self.read_secrets()


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """What lets the parts of one mesh trust each other."""

    mesh_token: str = field(default_factory=lambda: DEVELOPMENT + secrets.token_urlsafe())
    """Opens nothing beyond the loopback."""
    postgres_password: str = field(default_factory=secrets.token_urlsafe)
    gateway_postgres_password: str = field(default_factory=secrets.token_urlsafe)
    scheduler_postgres_password: str = field(default_factory=secrets.token_urlsafe)
    triplets_postgres_password: str = field(default_factory=secrets.token_urlsafe)
    nats_password: str = field(default_factory=secrets.token_urlsafe)
    nats_serving_password: str = field(default_factory=secrets.token_urlsafe)
    nats_subscribers: Mapping[str, str] = field(
        default_factory=lambda: {TENANT: secrets.token_urlsafe()}
    )
    """Passwords of the tenants that may hear of their events."""
    bundle_signing_key: str = field(default_factory=make_private_key)
    api_key: str = ""
    """Key of the tenant that the mesh comes with, once it has one."""


PORTS = (
    "envoy",
    "envoy_admin",
    "nats",
    "nats_monitor",
    "postgres",
    *SERVICES,
    "gateway_http",
    *(f"{service}_metrics" for service in SERVICES),
)


def choose_ports() -> dict[str, int]:
    """Consecutive ports from $TRINE_PORT_BASE, else free ones: meshes can run side by side."""
    base = os.environ.get("TRINE_PORT_BASE")
    if base is not None:
        return {name: int(base) + offset for offset, name in enumerate(PORTS)}
    # All are held open until all are chosen, so that none is chosen twice.
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return dict(zip(PORTS, ports, strict=True))


def write_private(path: Path, text: str) -> None:
    """Replaces a file at once by one that is its owner's alone."""
    unfinished = path.with_suffix(".part")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    unfinished.replace(path)
