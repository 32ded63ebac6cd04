"""The command line: trine up, down, status, demo, import, verify, and what operators ask for."""

import asyncio
import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import grpc
import typer
from rich.markup import escape
from rich.table import Table

from services.mesh import fleet
from services.mesh.bulk import import_file
from services.mesh.child import MeshStartError
from services.mesh.client import ApiError
from services.mesh.console import NOT_RUNNING, console, operate
from services.mesh.demo import run_demo
from services.mesh.home import SERVICES, Home
from services.mesh.imports import open_importer
from services.mesh.key_commands import commands as key_commands
from services.mesh.launch import bring_down, bring_up
from services.mesh.rows import FileFormatError
from services.mesh.shared_domains import roll_back_shared_head, train_shared_domain
from services.mesh.streams import rebuild_stream
from services.mesh.subscriber_commands import commands as subscriber_commands
from services.mesh.verify import Checked, verify_mesh

app = typer.Typer(help="The Trine mesh on one machine.", no_args_is_help=True, add_completion=False)
imports = typer.Typer(help="Brings files of people or outcomes in.", no_args_is_help=True)
app.add_typer(imports, name="import")
app.add_typer(key_commands, name="keys")
app.add_typer(subscriber_commands, name="subscribers")

FileArgument = Annotated[Path, typer.Argument(help="CSV with a header, or JSONL.", exists=True)]
DomainOption = Annotated[str, typer.Option(help="The domain.")]
UrlOption = Annotated[str, typer.Option(help="A running mesh; by default the one here.")]
KeyOption = Annotated[str, typer.Option(help="An API key of it.")]


@app.command()
def up() -> None:
    """Starts the mesh and returns when every service is healthy."""
    mesh = start(Home.from_environment())
    console.print(f"key   {mesh['api_key']}\nfile  {Home.from_environment().mesh_file}")


@app.command()
def down() -> None:
    """Stops the mesh; what it has stored stays."""
    stopped = bring_down(Home.from_environment())
    console.print("The mesh is down." if stopped else "No mesh is running here.")


@app.command()
def status() -> None:
    """Shows the processes of the mesh and whether they are healthy."""
    home = Home.from_environment()
    mesh = home.read_mesh()
    if mesh is None or not home.is_running():
        console.print(NOT_RUNNING)
        raise typer.Exit(1)
    healthy = asyncio.run(_health(mesh))
    table = Table("process", "pid", "restarts", "healthy", box=None, pad_edge=False)
    for name, pid in mesh["pids"].items():
        state = {True: "yes", False: "no", None: "-"}[healthy.get(name)]
        table.add_row(name, str(pid or "-"), str(mesh["restarts"][name]), state)
    console.print(f"Trine is running at {mesh['rest']}")
    console.print(table)
    if not all(healthy.values()) or not all(mesh["pids"].values()):
        raise typer.Exit(1)


@app.command()
def demo(
    url: Annotated[str, typer.Option(help="A running mesh; by default one is started.")] = "",
    key: Annotated[str, typer.Option(help="An API key of it.")] = "",
) -> None:
    """Shows the whole loop on real data and leaves the mesh running."""
    mesh = {"rest": url, "api_key": key} if url else start(Home.from_environment())
    try:
        domain = asyncio.run(run_demo(mesh["rest"], mesh["api_key"], console))
    except ApiError as error:
        console.print(f"[red]{error}[/]")
        raise typer.Exit(1) from error
    _print_next_steps(mesh, domain)


def _print_next_steps(mesh: dict[str, Any], domain: str) -> None:
    rest, key = mesh["rest"], mesh["api_key"]
    console.rule("The mesh goes on running")
    for name in ("rest", "grpc", "nats", "api_key"):
        if name in mesh:
            console.print(f"{name:<8} {mesh[name]}", soft_wrap=True)
    match = json.dumps({"user_id": "p460", "domain": domain, "limit": 3})
    train = json.dumps({"domain": domain, "force": True})
    for arguments in (
        f"{rest}/v1/match -H 'Authorization: Bearer {key}' -d '{match}'",
        f"{rest}/v1/train -H 'Authorization: Bearer {key}' -d '{train}'",
        f"'{rest}/v1/runs?domain={domain}' -H 'Authorization: Bearer {key}'",
    ):
        console.print(f"curl -s {arguments}", soft_wrap=True, markup=False)
    if "supervisor" in mesh:
        console.print("Stop it with `make down`; `make status` shows its processes.")


@imports.command()
def users(
    file: FileArgument, domain: DomainOption, url: UrlOption = "", key: KeyOption = ""
) -> None:
    """People: user_id, context, vector, and the domain's fields by name."""
    _import(file, domain, url, key, "users")


@imports.command()
def outcomes(
    file: FileArgument, domain: DomainOption, url: UrlOption = "", key: KeyOption = ""
) -> None:
    """Outcomes: seeker_id, candidate_id, outcome, weight, occurred_at, match_id."""
    _import(file, domain, url, key, "outcomes")


def _import(file: Path, domain: str, url: str, key: str, what: str) -> None:
    """Imports a file; one that was broken off goes on where it was."""
    mesh = {"rest": url, "api_key": key} if url else Home.from_environment().read_mesh()
    if mesh is None:
        console.print(NOT_RUNNING)
        raise typer.Exit(1)

    async def work() -> None:
        async with open_importer(mesh["rest"], mesh["api_key"], domain) as importer:
            cells, send = {
                "users": (importer.user_cells(), importer.send_users),
                "outcomes": (importer.outcome_cells(), importer.send_outcomes),
            }[what]
            count = await import_file(file, f"{domain}/{what}", cells, send, console)
        console.print(f"{count.rows - count.rejected:,} of {count.rows:,} rows taken")
        if count.rejected:
            console.print(f"The others stand in {file.name}.rejected.jsonl, each with its error.")
            raise typer.Exit(1)

    try:
        asyncio.run(work())
    except (FileFormatError, grpc.aio.AioRpcError) as error:
        text = error.details() if isinstance(error, grpc.aio.AioRpcError) else str(error)
        console.print(f"[red]{text}[/]")
        raise typer.Exit(1) from error


@app.command()
def train_domain(
    domain: Annotated[str, typer.Argument(help="A domain that tenants share.")],
    force: Annotated[bool, typer.Option(help="Whatever the triplet budget says.")] = False,
) -> None:
    """Learns a domain head from all tenants that share a domain, and says what the gate said."""
    run = operate(train_shared_domain(Home.from_environment(), domain, force=force))
    told = run.verdict.result if run.HasField("verdict") else run.failure.message
    console.print(f"{run.run_id}  {run.status}  {run.head}  {told}")
    for reason in run.verdict.reasons:
        console.print(reason, soft_wrap=True)


@app.command()
def roll_back_domain(
    domain: Annotated[str, typer.Argument(help="A domain that tenants share.")],
    head: Annotated[str, typer.Option(help="By default the one before.")] = "",
) -> None:
    """Puts an earlier domain head back in use, for all tenants at once."""
    now, before = operate(roll_back_shared_head(Home.from_environment(), domain, head))
    console.print(f"{before} → {now}")


@app.command()
def verify(
    output: Annotated[str, typer.Option("--output", "-o", help="text or json.")] = "text",
) -> None:
    """Checks what must always hold in every service, and fails if something does not."""
    if output not in ("text", "json"):
        raise typer.BadParameter("must be text or json", param_hint="--output")
    checked = operate(verify_mesh(Home.from_environment()))
    if output == "json":
        typer.echo(json.dumps([dataclasses.asdict(one) for one in checked], indent=1))
    else:
        _print_checked(checked)
    if any(one.result == "violated" or not one.invariant for one in checked):
        raise typer.Exit(1)


def _print_checked(checked: Sequence[Checked]) -> None:
    colours = {"ok": "green", "violated": "red", "unchecked": "yellow"}
    for one in checked:
        said = f"[{colours[one.result]}]{one.result:<9}[/]"
        line = f"{one.invariant or '-':<4}{said} {one.service:<10}{escape(one.rule)}"
        console.print(line, soft_wrap=True)
        for word in (*one.offenders, *([one.reason] if one.reason else [])):
            console.print(f"{'':<14}{escape(word)}", soft_wrap=True)


@app.command(name="rebuild-stream")
def rebuild() -> None:
    """Publishes all events of the last 14 days again, once NATS has lost them."""
    count = operate(rebuild_stream(Home.from_environment()))
    console.print(f"{count:,} events are published again.")


def start(home: Home) -> dict[str, Any]:
    """Starts the mesh, or finds it running, and says so."""
    began = time.monotonic()
    try:
        mesh, running_before = bring_up(home)
    except MeshStartError as error:
        console.print(f"[red]{error}[/]")
        raise typer.Exit(1) from error
    seconds = time.monotonic() - began
    how = "is already running" if running_before else f"is up after {seconds:.1f} s"
    console.print(f"Trine {how} at {mesh['rest']}")
    return mesh


async def _health(mesh: dict[str, Any]) -> dict[str, bool]:
    names = {name: fleet.HEALTH_NAMES.get(name, "") for name in SERVICES}
    asked = [fleet.is_serving(mesh["services"][name], names[name]) for name in SERVICES]
    return dict(zip(SERVICES, await asyncio.gather(*asked), strict=True))


def main() -> None:
    """Runs the command line."""
    app()


if __name__ == "__main__":
    main()
