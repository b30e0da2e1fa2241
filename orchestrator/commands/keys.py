"""The commands for keys of the gateway: make one, list them, revoke one. They work on the key file alone."""

from __future__ import annotations

import sys
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orchestrator.commands.terminal import PROBLEMS, Json, err, fail, out, print_json
from orchestrator.errors import ConfigurationError

keys_app = typer.Typer(help="Keys of the gateway and what they may do.", no_args_is_help=True)

File = Annotated[Path, typer.Option("--file", envvar="JOURNEY_KEYS_FILE", help="The key file.")]
DEFAULT = Path("keys.yaml")


@keys_app.command("create")
def create(  # noqa: PLR0913, PLR0917 - each is an option of the command.
    role: Annotated[
        list[str], typer.Option("--role", help="write, viewer, author, publisher or operator; repeatable.")
    ],
    name: Annotated[str, typer.Option("--name", help="Who gets it; stands in logs.")],
    file: File = DEFAULT,
    workspace: Annotated[str | None, typer.Option(help="The only workspace it opens.")] = None,
    events_per_s: Annotated[float | None, typer.Option(help="Events a second, per gateway process.")] = None,
    burst: Annotated[float | None, typer.Option(help="Events at once; twice --events-per-s when left out.")] = None,
    expires_at: Annotated[str | None, typer.Option(help="When it ends (RFC 3339).")] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option("--origin", help="Page that may send events with it: https://shop.example; repeatable."),
    ] = None,
) -> None:
    """Make a key, print it once, and keep its hash in the key file; a running gateway takes it within a second."""
    from orchestrator.gateway.keys import KeyFile, hash_of, new_key, read_keys, write_keys  # noqa: PLC0415

    known = read_keys(file).keys if file.exists() else ()
    if any(entry.name == name for entry in known):
        fail(f'{file} has a key "{name}" already: revoke it first, or choose another --name.', PROBLEMS)
    key = new_key()
    entry = _entry(
        name=name,
        roles=role,
        hash=hash_of(key.encode()),
        workspace=workspace,
        rate=_rate(events_per_s, burst),
        expires_at=_moment(expires_at),
        origins=origin or (),
    )
    write_keys(file, KeyFile(keys=(*known, entry)))
    err.print(f'The key "{name}" is in {file}, as a hash. It is shown this once:', markup=False, highlight=False)
    sys.stdout.write(f"{key}\n")


@keys_app.command("list")
def list_(file: File = DEFAULT, json: Json = False) -> None:
    """List the keys of the file: names, roles and limits."""
    from orchestrator.gateway.keys import read_keys  # noqa: PLC0415

    entries = [entry.model_dump(mode="json", exclude={"hash"}) for entry in read_keys(file).keys]
    if json:
        print_json(entries)
        return
    table = Table("name", "roles", "workspace", "events/s", "burst", "expires", "origins")
    for one in entries:
        rate = one["rate"] or {"events_per_s": "", "burst": ""}
        cells = (one["name"], ", ".join(one["roles"]), one["workspace"] or "any", rate["events_per_s"], rate["burst"])
        ends, pages = one["expires_at"] or "never", " ".join(one["origins"]) or "none"
        table.add_row(*(escape(str(cell)) for cell in (*cells, ends, pages)))
    out.print(table)


@keys_app.command("revoke")
def revoke(name: Annotated[str, typer.Argument(help="A name of `journey keys list`.")], file: File = DEFAULT) -> None:
    """Take a key out of the file; a running gateway refuses it within a second."""
    from orchestrator.gateway.keys import KeyFile, read_keys, write_keys  # noqa: PLC0415

    known = read_keys(file).keys
    left = tuple(entry for entry in known if entry.name != name)
    if len(left) == len(known):
        fail(f'{file} has no key "{name}"; `journey keys list` shows those it has.', PROBLEMS)
    write_keys(file, KeyFile(keys=left))
    out.print(f'the key "{name}" is revoked', markup=False, highlight=False)


def _entry(**fields: Any) -> Any:
    from pydantic import ValidationError  # noqa: PLC0415

    from orchestrator.gateway.keys import KeyEntry  # noqa: PLC0415

    try:
        return KeyEntry.model_validate(fields)
    except ValidationError as error:
        faults = {str(one["loc"][0]).rstrip("s"): one["msg"] for one in reversed(error.errors())}
        lines = [f"--{name}: {message}" for name, message in faults.items()]
        raise ConfigurationError("The key cannot be made.\n" + "\n".join(lines)) from None


def _rate(events_per_s: float | None, burst: float | None) -> dict[str, float] | None:
    if events_per_s is None:
        if burst is not None:
            raise ConfigurationError("--burst needs --events-per-s: how fast the burst comes back.")
        return None
    return {"events_per_s": events_per_s, "burst": burst if burst is not None else max(1.0, 2 * events_per_s)}


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ConfigurationError(f'--expires-at: "{text}" is no moment; write 2027-01-31T00:00:00Z, with its offset.')
    return moment
