"""Runs the mesh: python -m services.mesh.supervisor. Everything it starts ends with it.

First PostgreSQL and NATS (unless others are given), then Envoy and the services at once, then the
tenant and key that the mesh comes with. When all is ready, mesh.json says where everything is; it
follows every restart.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from typing import Any

import grpc
from trine.gateway.v1 import access_service_pb2, access_service_pb2_grpc

from services.chassis.channel import open_channel
from services.mesh import fleet, programs
from services.mesh.child import Child, ChildSpec, MeshStartError
from services.mesh.databases import prepare_databases
from services.mesh.home import SERVICES, TENANT, Home, Secrets, certificates, choose_ports
from services.mesh.nats_users import mesh_url, tenant_url, write_nats_config
from services.mesh.programs import LOOPBACK, python_module

READY_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.05
TELL_AGAIN_SECONDS = 1.0
ALREADY_RUNNING = 3
"""Exit status when another supervisor holds the home."""


class Supervisor:
    """Starts, watches and ends the processes of one mesh."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._ports = choose_ports()
        self._secrets: Secrets = home.read_secrets()
        self._children: list[Child] = []
        self._watching: list[asyncio.Task[None]] = []
        self._guard: subprocess.Popen[str] | None = None
        self._told = False

    async def run(self) -> None:
        """Brings everything up and keeps it up until a signal, which may come before it is up."""
        work = asyncio.create_task(self._keep_up())
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, work.cancel)
        loop.add_signal_handler(signal.SIGHUP, self._read_subscribers)
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await work
        finally:
            await self._stop()

    async def _keep_up(self) -> None:
        for folder in (self._home.logs, self._home.config, self._home.artifacts):
            folder.mkdir(exist_ok=True)
        if sys.platform != "linux":
            self._start_guard()
        infrastructure, postgres, nats = self._infrastructure()
        await self._bring_up(infrastructure)
        databases = await prepare_databases(postgres, self._secrets)
        rest = fleet.services(
            self._home, self._ports, self._secrets, databases=databases, nats=nats
        )
        await self._bring_up([*rest, programs.envoy(self._home, self._ports)])
        if not self._secrets.api_key:
            self._secrets = await self._create_tenant()
        self._postgres = postgres
        self._told = True
        self._tell()
        await asyncio.Event().wait()  # for ever

    def _infrastructure(self) -> tuple[list[ChildSpec], str, str]:
        """What to start, and the addresses of PostgreSQL and NATS, started or given."""
        home, ports, secrets = self._home, self._ports, self._secrets
        specs: list[ChildSpec] = []
        postgres = os.environ.get("TRINE_POSTGRES_DSN")
        if postgres is None:
            postgres = programs.postgres_dsn(ports["postgres"], secrets)
            specs.append(programs.postgres(home, ports["postgres"], secrets))
        nats = os.environ.get("TRINE_NATS_URL")
        if nats is None:
            nats = mesh_url(f"{LOOPBACK}:{ports['nats']}", secrets)
            specs.append(programs.nats(home, ports["nats"], ports["nats_monitor"], secrets))
        return specs, postgres, nats

    def _tenant_nats(self) -> str:
        given = os.environ.get("TRINE_NATS_URL")
        return given or tenant_url(f"{LOOPBACK}:{self._ports['nats']}", self._secrets, TENANT)

    def _read_subscribers(self) -> None:
        """Tells NATS whom an operator has let listen or not; what others hear goes on."""
        if not self._told:
            return
        self._secrets = self._home.read_secrets()
        write_nats_config(
            self._home, self._ports["nats"], self._ports["nats_monitor"], self._secrets
        )
        self._tell()
        for child in self._children:
            if child.spec.name == "nats" and child.pid:
                os.kill(child.pid, signal.SIGHUP)

    async def _bring_up(self, specs: list[ChildSpec]) -> None:
        children = [Child(spec, self._tell) for spec in specs]
        self._children += children
        for child in children:
            await child.start()
            self._watching.append(asyncio.create_task(child.supervise()))
            self._watching.append(asyncio.create_task(child.look_after()))
        await asyncio.gather(*(child.until_ready(READY_SECONDS_MAX) for child in children))

    async def _create_tenant(self) -> Secrets:
        """Creates the tenant that the mesh comes with and a key for it."""
        address = f"{LOOPBACK}:{self._ports['gateway']}"
        async with open_channel(address, self._secrets.mesh_token, certificates()) as channel:
            stub = access_service_pb2_grpc.AccessServiceStub(channel)
            try:
                await stub.CreateTenant(access_service_pb2.CreateTenantRequest(tenant=TENANT))
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                    raise
            request = access_service_pb2.CreateApiKeyRequest(tenant=TENANT)
            response = await stub.CreateApiKey(request)
        known = Secrets(**{**vars(self._secrets), "api_key": response.api_key})
        self._home.write_secrets(known)
        return known

    def _tell(self) -> None:
        """Writes mesh.json, and tells the guard whom to end."""
        if self._guard is not None and self._guard.stdin is not None:
            alive = (child for child in self._children if child.pid)
            entries = (f"{child.pid}:{int(child.spec.orphan_signal)}" for child in alive)
            self._guard.stdin.write(" ".join(entries) + "\n")
            self._guard.stdin.flush()
        if not self._told:
            return
        ports = self._ports
        metrics = {s: f"http://{LOOPBACK}:{ports[f'{s}_metrics']}/metrics" for s in SERVICES}
        metrics["envoy"] = f"http://{LOOPBACK}:{ports['envoy_admin']}/stats/prometheus"
        content: dict[str, Any] = {
            "rest": f"http://{LOOPBACK}:{ports['envoy']}",
            "grpc": f"{LOOPBACK}:{ports['envoy']}",
            "postgres": self._postgres,
            "nats": self._tenant_nats(),
            "api_key": self._secrets.api_key,
            "tenant": TENANT,
            "metrics": metrics,
            "services": {s: f"{LOOPBACK}:{ports[s]}" for s in SERVICES},
            "pids": {child.spec.name: child.pid for child in self._children},
            "restarts": {child.spec.name: child.restarts_count for child in self._children},
            "supervisor": os.getpid(),
        }
        try:
            self._home.write_mesh(content)
        except OSError:  # the disk is full, and whoever supervises goes on
            asyncio.get_running_loop().call_later(TELL_AGAIN_SECONDS, self._tell)

    def _start_guard(self) -> None:
        self._guard = subprocess.Popen(
            python_module("services.mesh.guard"),
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    async def _stop(self) -> None:
        self._told = False
        for task in self._watching:
            task.cancel()
        # The edge first, then the services, then what they stand on.
        for group in (("envoy",), SERVICES, ("nats", "postgres")):
            await asyncio.gather(*(c.stop() for c in self._children if c.spec.name in group))
        self._tell()  # the guard: nobody is left
        self._home.mesh_file.unlink(missing_ok=True)


def main(home: Home) -> None:
    """Takes the home and runs its mesh."""
    held = home.try_lock()
    if held is None:  # perhaps someone has only looked whether a mesh is running
        time.sleep(LOOK_SECONDS)
        held = home.try_lock()
    if held is None:
        sys.exit(ALREADY_RUNNING)
    with held:
        home.name_supervisor(held)
        home.mesh_file.unlink(missing_ok=True)  # of a supervisor that was killed
        try:
            asyncio.run(Supervisor(home).run())
        except MeshStartError as error:
            sys.exit(str(error))


if __name__ == "__main__":
    main(Home.from_environment())
