"""The ``journey`` command. Exit code 0: good; 1: problems found; 2: wrong use. ``--json`` is for machines."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from orchestrator import __version__
from orchestrator.commands import customers, keys, rules, versions
from orchestrator.commands.interruption import Interrupted, end_at_once, stop_when_asked
from orchestrator.commands.render import render
from orchestrator.commands.sending import send
from orchestrator.commands.terminal import (
    GATEWAY,
    PROBLEMS,
    WRONG_USE,
    Data,
    Host,
    Json,
    Key,
    Port,
    Rules,
    Url,
    fail,
    out,
    print_json,
    settings_with,
)
from orchestrator.errors import ConfigurationError, JourneyError
from orchestrator.settings import Settings

app = typer.Typer(
    name="journey",
    help="Real-time customer-journey orchestration: events in, next best actions out, nothing lost.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
topics_app = typer.Typer(help="Topics of Kafka.", no_args_is_help=True)
dead_letters_app = typer.Typer(help="Events and actions that were refused or given up.", no_args_is_help=True)
app.add_typer(topics_app, name="topics")
app.add_typer(dead_letters_app, name="dead-letters")
app.add_typer(keys.keys_app, name="keys")


def main() -> None:
    """Run the command line; every error of ours, and being stopped, ends in one clear message."""
    stop_when_asked()
    # What our errors say in a sentence, this library would say before them, to standard error.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    try:
        app()
    except Interrupted as interrupted:
        end_at_once(interrupted)
    except ConfigurationError as error:
        fail(str(error), WRONG_USE)
    except JourneyError as error:
        fail(str(error), PROBLEMS)
    except OSError as error:
        if error.filename is None:
            raise  # It is about no file that anybody named.
        fail(f"{error.filename} cannot be used ({error.strerror}). Mend it, or name another.", WRONG_USE)


def _version(asked: bool) -> None:
    if asked:
        out.print(f"journey {__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Real-time customer-journey orchestration: events in, next best actions out, nothing lost."""


# ------------------------------------------------------------------------------------------------- roles


def _role_settings(**options: Any) -> Settings:
    """Return the settings of a role; a folder of rules that was named must be there, even if it is not needed."""
    from orchestrator.rulebook.folder import existing_folder  # noqa: PLC0415

    settings = settings_with(**options)
    if "rules" in settings.model_fields_set:
        existing_folder(settings.rules)
    return settings


def _run(settings: Settings, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a role that ends by itself when it is asked to stop."""
    from orchestrator.roles.collection import keep_tidy, spare_collector  # noqa: PLC0415 - commands load what they need.
    from orchestrator.roles.logs import configure_logs  # noqa: PLC0415

    async def tidied() -> None:
        tidying = asyncio.create_task(keep_tidy(), name="tidy")
        try:
            await work()
        finally:
            tidying.cancel()

    configure_logs(settings.log_format)
    spare_collector()
    asyncio.run(tidied())
    logging.getLogger("orchestrator").info("stopped; nothing was left half done")


def _serve(settings: Settings, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a role until it ends or is asked to stop (SIGINT, SIGTERM)."""
    from orchestrator.roles.stopping import until_signalled  # noqa: PLC0415

    _run(settings, lambda: until_signalled(work()))


@app.command()
def dev(
    rules: Rules = None,
    data: Data = None,
    host: Host = None,
    port: Port = None,
    receiver_port: Annotated[int | None, typer.Option(help="Port of the local receiver; 0 takes a free one.")] = None,
    demo: Annotated[bool, typer.Option("--demo", help="Play a stream of believable customers.")] = False,
) -> None:
    """Run everything in this process: gateway, worker, dispatcher and a local receiver over SQLite."""
    from orchestrator.roles.embedded import run_embedded  # noqa: PLC0415

    settings = _role_settings(rules=rules, data=data, host=host, port=port, receiver_port=receiver_port)

    def ready(gateway: str, receiver: str) -> None:
        out.print(
            f"\n[bold green]ready[/]  gateway   {gateway}\n       receiver  {receiver}   (shows what was delivered)\n"
        )

    _serve(settings, lambda: run_embedded(settings, demo=demo, on_ready=ready))


@app.command()
def gateway(rules: Rules = None, host: Host = None, port: Port = None) -> None:
    """Take events over HTTP into Kafka, and answer look-ups."""
    from orchestrator.roles.gateway import run_gateway  # noqa: PLC0415

    settings = _role_settings(rules=rules, host=host, port=port)
    _serve(settings, lambda: run_gateway(settings, on_ready=_announce("gateway")))


@app.command()
def worker(rules: Rules = None) -> None:
    """Decide: a member of the worker group, over Kafka and Redis."""
    from orchestrator.roles.worker import run_worker_role  # noqa: PLC0415

    settings = _role_settings(rules=rules)
    _run(settings, lambda: run_worker_role(settings, on_ready=_announce("worker")))


@app.command()
def dispatcher(rules: Rules = None) -> None:
    """Deliver actions to connectors, over Kafka and Redis."""
    from orchestrator.roles.dispatcher import run_dispatcher  # noqa: PLC0415

    settings = _role_settings(rules=rules)
    _serve(settings, lambda: run_dispatcher(settings, on_ready=_announce("dispatcher")))


@app.command()
def receiver(
    host: Host = None,
    port: Port = None,
    record: Annotated[Path | None, typer.Option(help="File that every first arrival is appended to.")] = None,
) -> None:
    """Run the local receiver: it takes calls and webhooks and shows what it got."""
    from orchestrator.roles.receiver import run_receiver  # noqa: PLC0415

    settings = settings_with(host=host, receiver_port=port)
    _serve(settings, lambda: run_receiver(settings, record, on_ready=_announce("receiver")))


def _announce(role: str) -> Callable[[str], None]:
    def ready(where: str) -> None:
        out.print(f"[bold green]ready[/]  {role}  {where}")

    return ready


# ------------------------------------------------------------------------------------------------- rules

_OF_RULES: tuple[Callable[..., None], ...] = (
    *(rules.lint, rules.test, rules.schema, rules.fmt, rules.backtest, render),
    *(versions.plan, versions.publish, versions.versions, versions.rollback),
)
for command in _OF_RULES:
    app.command()(command)
app.command(hidden=True)(rules.reference)


# ----------------------------------------------------------------------------------- a running gateway


app.command()(send)


# ---------------------------------------------------------------------------------------------- a customer

_OF_A_CUSTOMER: tuple[Callable[..., None], ...] = (
    customers.timeline,
    customers.explain,
    customers.export,
    customers.forget,
)
for command in _OF_A_CUSTOMER:
    app.command()(command)


@dead_letters_app.command("list")
def dead_letters_list(
    url: Url = GATEWAY,
    write_key: Key = "",
    limit: Annotated[int, typer.Option(help="How many to show at most.")] = 20,
    json: Json = False,
) -> None:
    """Show the latest dead letters."""
    from orchestrator.roles.client import dead_letters  # noqa: PLC0415

    letters = dead_letters(url, write_key, limit)
    if json:
        print_json(letters)
        return
    columns = ("id", "origin", "producer", "code", "field", "message", "remedy")
    table = Table(*columns)
    for one in letters:
        table.add_row(*(str(one.get(name, "")) for name in columns))
    out.print(table if letters else "no dead letters", markup=False)


@dead_letters_app.command("redrive")
def dead_letters_redrive(
    ids: Annotated[list[str] | None, typer.Argument(help="Which; all when left out.")] = None,
    url: Url = GATEWAY,
    write_key: Key = "",
) -> None:
    """Send dead letters again: events to their topic, actions to their connector, under the same ids."""
    from orchestrator.roles.client import redrive  # noqa: PLC0415

    out.print(f"{redrive(url, write_key, ids)} sent again", highlight=False)


@topics_app.command("create")
def topics_create() -> None:
    """Create the topics that are missing in Kafka and check the others."""
    from orchestrator.adapters.kafka_client import Brokers  # noqa: PLC0415
    from orchestrator.adapters.kafka_topics import KafkaTopics  # noqa: PLC0415

    settings = settings_with()
    topics = KafkaTopics(Brokers.of(settings), partitions=settings.partitions, replication=settings.kafka_replication)
    created = asyncio.run(topics.ensure())
    out.print(f"created: {', '.join(created)}" if created else "every topic is there", highlight=False)


@app.command()
def doctor(
    distributed: Annotated[bool, typer.Option("--distributed", help="Look at Kafka and Redis as well.")] = False,
    json: Json = False,
) -> None:
    """Check every dependency and say the remedy for what is wrong."""
    from orchestrator.roles.doctor import examine  # noqa: PLC0415

    findings = asyncio.run(examine(settings_with(), distributed=distributed))
    good = all(finding.remedy is None for finding in findings)
    if json:
        print_json({"ok": good, "findings": findings})
    else:
        for finding in findings:
            _print_finding(finding)
    raise SystemExit(0 if good else PROBLEMS)


def _print_finding(finding: Any) -> None:
    mark = "[green]good[/]" if finding.remedy is None else "[red]bad [/]"
    out.print(f"{mark}  {escape(f'{finding.what}: {finding.found}')}", highlight=False, soft_wrap=True)
    if finding.remedy is not None:
        out.print(f"      {finding.remedy}", markup=False, highlight=False, soft_wrap=True)
