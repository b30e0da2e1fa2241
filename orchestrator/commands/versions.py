"""The commands for versions of the rulebook: plan, publish, list, roll back. They talk to a running gateway."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orchestrator.commands.terminal import GATEWAY, PROBLEMS, Data, Json, Key, Url, fail, out, print_json, settings_with

Author = Annotated[str, typer.Option("--author", envvar="USER", help="Who does it, for the record.")]


def _good_rules(path: Path) -> Any:
    """Return the rulebook of a folder; end with its problems when it has errors."""
    from orchestrator.rulebook.folder import existing_folder  # noqa: PLC0415
    from orchestrator.rulebook.load import load_rulebook  # noqa: PLC0415

    existing_folder(path)
    loaded = load_rulebook(path)
    if not loaded.ok:
        fail("\n".join(map(str, loaded.problems)), PROBLEMS)
    return loaded


def plan(  # noqa: PLR0913, PLR0917 - the command's options.
    path: Annotated[Path, typer.Argument(help="Folder of journeys and rules.")] = Path("rules"),
    url: Url = GATEWAY,
    write_key: Key = "",
    events: Annotated[str | None, typer.Option(help="Replay these too: a file, or 'topic' for the log.")] = None,
    data: Data = None,
    kafka: Annotated[bool, typer.Option("--kafka", help="With 'topic': read Kafka, not the embedded log.")] = False,
    json: Json = False,
) -> None:
    """Show what publishing would change: rules, running plays and timers, and with --events whose outcome."""
    from orchestrator.roles import client, plan_text  # noqa: PLC0415
    from orchestrator.roles.backtest import compare_backtests  # noqa: PLC0415
    from orchestrator.rulebook.load import load_rulebook_files  # noqa: PLC0415

    loaded = _good_rules(path)
    found = client.plan(loaded, url, write_key)
    outcomes = None
    if events is not None:
        before = load_rulebook_files(client.version_files(found["against"], url, write_key))
        outcomes = asyncio.run(compare_backtests(settings_with(data=data), before, loaded, events, kafka=kafka))
    if json:
        print_json({**found, "outcomes": outcomes})
        return
    lines = [*plan_text.change_lines(found), *plan_text.impact_lines(found), *plan_text.warm_up_lines(found)]
    for line in lines + ([] if outcomes is None else list(plan_text.outcome_lines(outcomes))):
        out.print(line, markup=False, highlight=False, soft_wrap=True)


def publish(
    path: Annotated[Path, typer.Argument(help="Folder of journeys and rules.")] = Path("rules"),
    url: Url = GATEWAY,
    write_key: Key = "",
    author: Author = "",
    note: Annotated[str, typer.Option(help="What it changes and why.")] = "",
    activate: Annotated[bool, typer.Option(help="Put it into force as well.")] = True,
) -> None:
    """Publish a folder of rules; a rulebook with errors is refused and changes nothing."""
    from orchestrator.roles import client  # noqa: PLC0415

    done = client.publish(_good_rules(path), url, write_key, author=author, note=note, activate=activate)
    state = "in force" if done["active"] else "published, not in force"
    out.print(f"version {done['version']} is {state}", highlight=False)


def versions(url: Url = GATEWAY, write_key: Key = "", json: Json = False) -> None:
    """List the published versions, the one in force first."""
    from orchestrator.roles import client  # noqa: PLC0415

    found = client.versions(url, write_key)
    if json:
        print_json(found)
        return
    table = Table("version", "in force", "published", "author", "note")
    for one in found:
        mark = "yes" if one["active"] else ""
        table.add_row(one["version"], mark, one["published_at"], escape(one["author"]), escape(one["note"]))
    out.print(table)


def rollback(
    version: Annotated[str, typer.Argument(help="A version of `journey versions`.")],
    url: Url = GATEWAY,
    write_key: Key = "",
    author: Author = "",
    data: Annotated[
        Path | None, typer.Option("--data", help="Do it in this folder of an embedded engine that does not run.")
    ] = None,
) -> None:
    """Put an earlier version back into force, at once."""
    if data is not None:
        from orchestrator.roles.embedded import roll_back  # noqa: PLC0415

        asyncio.run(roll_back(settings_with(data=data), version, author))
        out.print(f"version {version} is in force", highlight=False)
        return
    from orchestrator.roles import client  # noqa: PLC0415

    out.print(f"version {client.activate(version, url, write_key, author)['version']} is in force", highlight=False)
