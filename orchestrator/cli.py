"""The ``journey`` command. Exit code 0: good; 1: problems found; 2: wrong use. ``--json`` is for machines."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from orchestrator import __version__
from orchestrator.commands import versions
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
    err,
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


def main() -> None:
    """Run the command line; every error of ours ends in one clear message."""
    # What our errors say in a sentence, this library would say before them, to standard error.
    logging.getLogger("aiokafka").addHandler(logging.NullHandler())
    try:
        app()
    except ConfigurationError as error:
        fail(str(error), WRONG_USE)
    except JourneyError as error:
        fail(str(error), PROBLEMS)


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


def _run(settings: Settings, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a role that ends by itself when it is asked to stop."""
    from orchestrator.roles.logs import configure_logs  # noqa: PLC0415 - commands load what they need.

    configure_logs(settings.log_format)
    asyncio.run(work())
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

    settings = settings_with(rules=rules, data=data, host=host, port=port, receiver_port=receiver_port)

    def ready(gateway: str, receiver: str) -> None:
        out.print(
            f"\n[bold green]ready[/]  gateway   {gateway}\n       receiver  {receiver}   (shows what was delivered)\n"
        )

    _serve(settings, lambda: run_embedded(settings, demo=demo, on_ready=ready))


@app.command()
def gateway(rules: Rules = None, host: Host = None, port: Port = None) -> None:
    """Take events over HTTP into Kafka, and answer look-ups."""
    from orchestrator.roles.gateway import run_gateway  # noqa: PLC0415

    settings = settings_with(rules=rules, host=host, port=port)
    _serve(settings, lambda: run_gateway(settings, on_ready=_announce("gateway")))


@app.command()
def worker(rules: Rules = None) -> None:
    """Decide: a member of the worker group, over Kafka and Redis."""
    from orchestrator.roles.worker import run_worker_role  # noqa: PLC0415

    settings = settings_with(rules=rules)
    _run(settings, lambda: run_worker_role(settings, on_ready=_announce("worker")))


@app.command()
def dispatcher(rules: Rules = None) -> None:
    """Deliver actions to connectors, over Kafka and Redis."""
    from orchestrator.roles.dispatcher import run_dispatcher  # noqa: PLC0415

    settings = settings_with(rules=rules)
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


@app.command()
def lint(
    path: Annotated[Path, typer.Argument(help="Folder of journeys and rules.")] = Path("rules"), json: Json = False
) -> None:
    """Check rules: every problem at once, with file, line, journey and rule."""
    from orchestrator.rulebook.load import load_rulebook  # noqa: PLC0415

    loaded = load_rulebook(path)
    if json:
        print_json({"ok": loaded.ok, "version": loaded.version, "problems": loaded.problems})
    else:
        for problem in loaded.problems:
            out.print(str(problem), markup=False, highlight=False, soft_wrap=True)
        rules = sum(len(journey.rules) for journey in loaded.journeys)
        verdict = f"{rules} rules in {len(loaded.journeys)} journeys are good" if loaded.ok else "not good"
        out.print(f"{path}: {verdict}; version {loaded.version}", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(0 if loaded.ok else PROBLEMS)


@app.command("test")
def test_(
    path: Annotated[Path, typer.Argument(help="Folder of journeys and rules.")] = Path("rules"), json: Json = False
) -> None:
    """Run the cases beside the rules on a virtual clock, and say what no case reaches."""
    from orchestrator.runtime.casebook import coverage_of, run_cases  # noqa: PLC0415
    from orchestrator.runtime.rulebooks import FolderRulebooks  # noqa: PLC0415

    book = FolderRulebooks(path, "default")
    results = list(run_cases(book.current, book.loaded.plan, book.loaded.cases))
    coverage = coverage_of(book.current, results)
    failed = [result for result in results if not result.passed]
    if json:
        cases = [
            {"case": one.case.name, "file": one.case.file, "line": one.case.line, "differences": one.differences}
            for one in results
        ]
        print_json({"ok": bool(results) and not failed, "cases": cases, "coverage": coverage})
    else:
        for result in failed:
            _print_differences(result)
        for name in coverage.unreached:
            out.print(f"no case reaches {name}", style="yellow", markup=False, highlight=False)
        out.print(
            f"{len(results) - len(failed)} of {len(results)} cases pass; they reach {coverage.rules_reached} of "
            f"{coverage.rules} rules and {coverage.branches_reached} of {coverage.branches} branches",
            highlight=False,
        )
    if not results:
        fail(f"{path} has no cases: write some in a file that ends in .cases.yaml.", PROBLEMS)
    raise SystemExit(PROBLEMS if failed else 0)


def _print_differences(result: Any) -> None:
    case = result.case
    table = Table(title=f"{case.file}:{case.line}  case “{case.name}”", title_justify="left", show_lines=True)
    for column in ("line", "expected", "got"):
        table.add_column(column, overflow="fold")
    for difference in result.differences:
        table.add_row(str(difference.line), difference.expected, difference.got)
    out.print(table, markup=False)


@app.command()
def schema(path: Annotated[Path, typer.Argument(help="Folder to write to.")] = Path("rules/schema")) -> None:
    """Write the JSON Schemas that editors check rule files with."""
    from orchestrator.rulebook.schema import write_schemas  # noqa: PLC0415

    try:
        write_schemas(path)
    except OSError as error:
        raise ConfigurationError(f"Cannot write to {path}: {error}. Name another folder.") from error
    out.print(f"wrote the schemas to {path}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def fmt(
    path: Annotated[Path, typer.Argument(help="Folder of journeys and rules, or one file.")] = Path("rules"),
    check: Annotated[bool, typer.Option("--check", help="Change nothing; list what is not in canonical form.")] = False,
) -> None:
    """Write rule files in their one canonical form; comments stay, and what they mean does not change."""
    from orchestrator.rulebook.fmt import format_files  # noqa: PLC0415

    if not path.exists():
        fail(f"there is no {path}: name a folder of rules or one rule file.", WRONG_USE)
    files = list(format_files(path))
    for file in files:
        if file.fault:
            err.print(file.fault, style="red", markup=False, highlight=False, soft_wrap=True)
        elif file.changed:
            out.print(str(file.path), markup=False, highlight=False, soft_wrap=True)
            if not check:
                file.path.write_bytes(file.after)
    changed = sum(file.changed for file in files)
    verdict = "not in canonical form" if check else "written anew"
    out.print(f"{changed} of {len(files)} files {verdict}", highlight=False)
    raise SystemExit(PROBLEMS if any(file.fault for file in files) or (check and changed) else 0)


@app.command(hidden=True)
def reference(
    readme: Annotated[Path, typer.Argument(help="README that holds the markers.")] = Path("rules/README.md"),
) -> None:
    """Write the reference of the rule language into the README of the rules, between its markers."""
    from orchestrator.rulebook.reference import with_reference  # noqa: PLC0415

    try:
        text = with_reference(readme.read_text(encoding="utf-8"), readme.parent)
        readme.write_text(text, encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"Cannot write the reference to {readme}: {error}.") from error
    out.print(f"wrote the reference to {readme}", markup=False, highlight=False, soft_wrap=True)


@app.command()
def backtest(  # noqa: PLR0913, PLR0917 - each is an option of the command.
    events: Annotated[str, typer.Option(help="A JSONL or CSV file, or 'topic' for the log itself.")],
    rules: Rules = None,
    data: Data = None,
    kafka: Annotated[bool, typer.Option("--kafka", help="With 'topic': read Kafka, not the embedded log.")] = False,
    until: Annotated[str | None, typer.Option(help="Fire timers up to this moment (RFC 3339).")] = None,
    against: Annotated[
        Path | None, typer.Option(help="Other rules: show whose outcome differs from what these would have done.")
    ] = None,
    json: Json = False,
) -> None:
    """Replay events through the rules on a virtual clock, with every limit, and show what they would have done."""
    from orchestrator.roles import backtest as replays  # noqa: PLC0415
    from orchestrator.roles.backtest_text import backtest_tables, comparison_table  # noqa: PLC0415

    settings = settings_with(rules=rules, data=data)
    found = asyncio.run(replays.run_backtest(settings, events, kafka=kafka, until=until))
    changes = None
    if against is not None:
        changes = asyncio.run(replays.run_comparison(settings, against, events, kafka=kafka, until=until))
    if json:
        print_json(found.as_json() | ({} if changes is None else {"changes": changes}))
    else:
        for table in (*backtest_tables(found), *([] if changes is None else [comparison_table(changes)])):
            out.print(table, markup=False)
        for line in found.refused:
            text = f"line {line.number} refused: {line.refused} {line.refused.remedy}"
            out.print(text, markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(PROBLEMS if found.refused else 0)


for command in (versions.plan, versions.publish, versions.versions, versions.rollback):
    app.command()(command)


# ----------------------------------------------------------------------------------- a running gateway


@app.command()
def send(
    file: Annotated[Path, typer.Argument(help="JSONL or CSV of events.")],
    url: Url = GATEWAY,
    write_key: Key = "",
) -> None:
    """Send the events of a file to a gateway."""
    from orchestrator.roles.client import send_file  # noqa: PLC0415

    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("sending", total=None)
        sent = send_file(file, url, write_key, lambda done, total: progress.update(task, completed=done, total=total))
    out.print(f"{sent} events accepted by {url}", highlight=False)


# ---------------------------------------------------------------------------------------------- a customer

Customer = Annotated[str, typer.Argument(metavar="CUSTOMER", help="Id of the customer.")]


@app.command()
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


@app.command()
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


@app.command()
def export(customer: Customer, url: Url = GATEWAY, write_key: Key = "") -> None:
    """Print everything that is known about a customer, as one JSON document."""
    from orchestrator.roles import client  # noqa: PLC0415

    print_json(client.customer(customer, "export", url, write_key))


@app.command()
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
    table = Table("id", "origin", "code", "field", "message", "remedy")
    for one in letters:
        table.add_row(*(str(one[name]) for name in ("id", "origin", "code", "field", "message", "remedy")))
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
    from orchestrator.adapters.kafka_topics import KafkaTopics  # noqa: PLC0415

    settings = settings_with()
    topics = KafkaTopics(
        settings.kafka_bootstrap, partitions=settings.partitions, replication=settings.kafka_replication
    )
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
