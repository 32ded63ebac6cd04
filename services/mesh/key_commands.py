"""The command line's part on API keys: trine keys create, rotate, show, revoke."""

from typing import Annotated

import typer
from google.protobuf import timestamp_pb2

from services.mesh import keys
from services.mesh.console import console, operate
from services.mesh.home import Home

commands = typer.Typer(help="Makes, rotates and revokes API keys.", no_args_is_help=True)
KeyId = Annotated[str, typer.Argument(help="The 12 characters after trine_ in the key's text.")]


@commands.command()
def create(
    tenant: Annotated[str, typer.Argument(help="Whose key it shall be.")],
    scope: Annotated[list[str] | None, typer.Option(help="Each one of its scopes.")] = None,
) -> None:
    """Makes a key and shows its text this once."""
    made = operate(keys.create_key(Home.from_environment(), tenant, scope or []))
    console.print(made.api_key, soft_wrap=True)


@commands.command()
def rotate(
    key_id: KeyId,
    overlap_hours: Annotated[float, typer.Option(help="The old text stays good so long.")] = 24.0,
) -> None:
    """Gives a key a new text and shows it this once."""
    made = operate(keys.rotate_key(Home.from_environment(), key_id, overlap_hours))
    console.print(made.api_key, soft_wrap=True)
    console.print(f"The old one ends {_text(made.old_secret_expire_time)}.")


@commands.command()
def show(key_id: KeyId) -> None:
    """Shows whose a key is, what it may do, and when it was last used."""
    known = operate(keys.show_key(Home.from_environment(), key_id))
    console.print(f"tenant      {known.tenant}\nscopes      {' '.join(known.scopes)}")
    console.print(f"revoked     {'yes' if known.revoked else 'no'}")
    times = {
        field.name: _text(value) for field, value in known.ListFields() if "_time" in field.name
    }
    for name, field in (
        ("expires", "expire_time"),
        ("last used", "last_used_time"),
        ("old ends", "old_secret_expire_time"),
        ("old used", "old_secret_last_used_time"),
    ):
        console.print(f"{name:<11} {times.get(field, '-')}")


@commands.command()
def revoke(key_id: KeyId) -> None:
    """Ends a key: within five seconds nobody accepts it."""
    operate(keys.revoke_key(Home.from_environment(), key_id))
    console.print("It is revoked.")


def _text(time: timestamp_pb2.Timestamp) -> str:
    return time.ToJsonString()
