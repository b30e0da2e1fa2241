"""The ``journey`` command. Exit code 0: good; 1: problems found; 2: wrong use. ``--json`` is for machines."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
from pydantic import ValidationError
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from orchestrator import __version__
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

out = Console()
err = Console(stderr=True)

PROBLEMS = 1
WRONG_USE = 2

Rules = Annotated[Path | None, typer.Option("--rules", help="Folder of journeys and rules.")]
Data = Annotated[Path | None, typer.Option("--data", help="Folder of the embedded store.")]
Host = Annotated[str | None, typer.Option("--host", help="Address to bind to.")]
Port = Annotated[int | None, typer.Option("--port", help="Port to serve on; 0 takes a free one.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Url = Annotated[str, typer.Option("--url", envvar="JOURNEY_URL", help="The gateway to talk to.")]
Key = Annotated[str, typer.Option("--write-key", envvar="JOURNEY_WRITE_KEY", help="Key for the gateway.")]

GATEWAY = "http://127.0.0.1:8080"


def main() -> None:
    """Run the command line; every error of ours ends in one clear message."""
    try:
        app()
    except ConfigurationError as error:
        _fail(str(error), WRONG_USE)
    except JourneyError as error:
        _fail(str(error), PROBLEMS)


def _fail(message: str, code: int) -> NoReturn:
    err.print(message, style="red", markup=False, highlight=False, soft_wrap=True)
    raise SystemExit(code)


def settings_with(**overrides: Any) -> Settings:
    """Return the settings of the environment, with command-line options on top."""
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = [f"JOURNEY_{'_'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors()]
        raise ConfigurationError("Settings are wrong.\n" + "\n".join(lines)) from None


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
        out.print(f"{path}: {verdict}; version {loaded.version}", highlight=False)
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
        _fail(f"{path} has no cases: write some in a file that ends in .cases.yaml.", PROBLEMS)
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

    write_schemas(path)
    out.print(f"wrote the schemas to {path}", highlight=False)


@app.command()
def backtest(
    events: Annotated[str, typer.Option(help="A JSONL or CSV file, or 'topic' for the log itself.")],
    rules: Rules = None,
    data: Data = None,
    kafka: Annotated[bool, typer.Option("--kafka", help="With 'topic': read Kafka, not the embedded log.")] = False,
    until: Annotated[str | None, typer.Option(help="Fire timers up to this moment (RFC 3339).")] = None,
    json: Json = False,
) -> None:
    """Replay events through the rules on a virtual clock, with every limit, and show what they would have done."""
    from orchestrator.roles.backtest import run_backtest  # noqa: PLC0415

    settings = settings_with(rules=rules, data=data)
    found = asyncio.run(run_backtest(settings, events, kafka=kafka, until=until))
    if json:
        print_json(found.as_json())
    else:
        for table in found.tables():
            out.print(table, markup=False)
        for line in found.refused:
            out.print(
                f"line {line.number} refused: {line.refused} {line.refused.remedy}", markup=False, highlight=False
            )
    raise SystemExit(PROBLEMS if found.refused else 0)


# ----------------------------------------------------------------------------------- a running gateway


@app.command()
def send(
    file: Annotated[Path, typer.Argument(help="JSONL or CSV of events.")],
    url: Url = GATEWAY,
    write_key: Key = "",
) -> None:
    """Send the events of a file to a gateway."""
    from orchestrator.roles.client import send_file  # noqa: PLC0415

    with Progress(console=err, transient=True) as progress:
        task = progress.add_task("sending", total=None)
        sent = send_file(file, url, write_key, lambda done, total: progress.update(task, completed=done, total=total))
    out.print(f"{sent} events accepted by {url}", highlight=False)


@dead_letters_app.command("list")
def dead_letters_list(url: Url = GATEWAY, write_key: Key = "", limit: int = 20, json: Json = False) -> None:
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
) -> None:
    """Check every dependency and say the remedy for what is wrong."""
    from orchestrator.roles.doctor import examine  # noqa: PLC0415

    findings = asyncio.run(examine(settings_with(), distributed=distributed))
    for finding in findings:
        mark = "[green]good[/]" if finding.remedy is None else "[red]bad [/]"
        out.print(f"{mark}  {finding.what}: {finding.found}", highlight=False)
        if finding.remedy is not None:
            out.print(f"      {finding.remedy}", markup=False, highlight=False)
    raise SystemExit(PROBLEMS if any(finding.remedy for finding in findings) else 0)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
