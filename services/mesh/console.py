"""What the command line says, and how it says what went wrong."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import grpc
import typer
from rich.console import Console

from services.mesh.operator import NoMeshError

NOT_RUNNING = "No mesh is running here. Start one with `make up`."

console = Console(highlight=False)

Answer = TypeVar("Answer")


def operate(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Asks the mesh that runs here, and ends the command if it cannot or will not answer."""
    try:
        return asyncio.run(work)
    except NoMeshError:
        console.print(NOT_RUNNING)
        raise typer.Exit(1) from None
    except grpc.aio.AioRpcError as error:
        console.print(f"[red]{error.details()}[/]")
        raise typer.Exit(1) from error
