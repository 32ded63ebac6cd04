"""The command line's part on who hears of events: trine subscribers add, remove."""

from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

import typer
from rich.markup import escape

from services.mesh.console import console, operate
from services.mesh.home import Home
from services.mesh.subscribers import SubscriberError, add_subscriber, remove_subscriber

commands = typer.Typer(
    help="Lets tenants hear of their events on NATS, or no more.", no_args_is_help=True
)

Answer = TypeVar("Answer")
Tenant = Annotated[str, typer.Argument(help="Whose events they are.")]


@commands.command()
def add(tenant: Tenant) -> None:
    """Gives a tenant its user of NATS, or a new password, and shows the address this once."""
    console.print(_ask(add_subscriber(Home.from_environment(), tenant)), soft_wrap=True)


@commands.command()
def remove(tenant: Tenant) -> None:
    """Takes a tenant's user of NATS away; who listens with it hears no more."""
    _ask(remove_subscriber(Home.from_environment(), tenant))
    console.print("It is removed.")


def _ask(work: Coroutine[Any, Any, Answer]) -> Answer:
    try:
        return operate(work)
    except SubscriberError as error:
        console.print(f"[red]{escape(str(error))}[/]", soft_wrap=True)
        raise typer.Exit(1) from error
