"""The commands for one customer: what happened, why, everything that is known, and forgetting it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from orchestrator.commands.terminal import GATEWAY, Json, Key, Url, out, print_json

Customer = Annotated[str, typer.Argument(metavar="CUSTOMER", help="Id of the customer.")]


def timeline(
    customer: Customer,
    url: Url = GATEWAY,
    write_key: Key = "",
    limit: Annotated[int, typer.Option(min=1, max=400, help="How many entries, newest first.")] = 50,
    json: Json = False,
) -> None:
    """Show a customer's recent events and decisions."""
    from orchestrator.roles import client, past_text  # noqa: PLC0415

    found = client.customer(customer, "timeline", url, write_key, limit=limit)
    if json:
        print_json(found)
    else:
        out.print(past_text.timeline_table(found))


def explain(
    customer: Customer,
    rule: Annotated[
        list[str] | None, typer.Option("--rule", help="Id of a rule, repeatable; every one without.")
    ] = None,
    at: Annotated[str | None, typer.Option("--at", help="At or before this moment (RFC 3339); else now.")] = None,
    url: Url = GATEWAY,
    write_key: Key = "",
    json: Json = False,
) -> None:
    """Say why rules did or did not act for a customer, condition by condition."""
    from orchestrator.roles import client, past_text  # noqa: PLC0415

    found = client.customer(customer, "explain", url, write_key, rule=rule or None, at=at)
    if json:
        print_json(found)
    else:
        for line in past_text.explained_lines(found):
            out.print(line, soft_wrap=True)


def export(customer: Customer, url: Url = GATEWAY, write_key: Key = "") -> None:
    """Print everything that is known about a customer, as one JSON document."""
    from orchestrator.roles import client  # noqa: PLC0415

    print_json(client.customer(customer, "export", url, write_key))


def forget(
    customer: Customer,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask, at a terminal either.")] = False,
    url: Url = GATEWAY,
    write_key: Key = "",
    json: Json = False,
) -> None:
    """Erase a customer: profile, state, timers, queued actions, timeline and ledger. Nothing brings them back."""
    from orchestrator.roles import client  # noqa: PLC0415

    if not yes and sys.stdin.isatty():
        typer.confirm(f"Erase everything that is known about {customer}?", abort=True)
    found = client.forget(customer, url, write_key)
    if json:
        print_json(found)
    else:
        out.print(f"{customer} is being forgotten (event {found['event_id']})", markup=False, highlight=False)
